"""Pairs whose third vote is in a real etcd: with logins, over TLS, and when it goes wrong there."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from conformance.tls import shared_identity
from conformance.trial import TrialError, free_port, until

from . import etcds
from .nodes import Pair

pytestmark = pytest.mark.skipif(etcds.PROGRAM is None, reason="no `etcd` here (etcd-server)")
KEY = "/pymcd/pymcd"


def free_ports(count: int = 1) -> list[tuple[int, int]]:
    """Return ports of so many members."""
    return [(free_port(), free_port()) for _ in range(count)]


def pair_with(url: str) -> Pair:
    return Pair(("--witness", url), wired=False)


def wait_until_whole(pair: Pair) -> None:
    """Wait until the nodes are in sync, anyone may fail, and nothing is wrong with the etcd."""
    pair.wait_in_sync()

    def is_whole() -> bool:
        return all(
            node.rows().get("may_fail", "").count(",") == 2
            and node.rows().get("witness_error") == "-"
            for node in pair.nodes
        )

    try:
        until("anyone may fail", is_whole)
    except TrialError as error:
        raise TrialError(f"{error}\n{pair.report()}") from None


def wait_for_fault(pair: Pair, words: str) -> None:
    """Wait until both nodes say what is wrong, and see that clients notice nothing of it."""

    def is_said() -> bool:
        return all(
            words.replace(" ", "_") in node.rows().get("witness_error", "")
            and node.rows().get("witness_link") == "down"
            for node in pair.nodes
        )

    try:
        until(words, is_said)
    except TrialError as error:
        raise TrialError(f"{error}\n{pair.report()}") from None
    pair.wait_in_sync()
    for node in pair.nodes:
        assert node.rows()["may_fail"] in ("-", "etcd")
        assert node.ask(b"set served 0 0 1\r\nx\r\n") == b"STORED\r\n"


def text(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


@pytest.mark.parametrize("members", [1, 3])
def test_vote_in_a_real_etcd(members: int) -> None:
    """A node dies, and the etcd's leader with it; the other goes on. Then all come back."""
    ports = free_ports(members)
    at = ",".join(f"127.0.0.1:{port}" for port, _ in ports)
    with (
        etcds.Etcd.on_loopback(ports) as etcd,
        pair_with(f"etcd://{at}/test") as pair,
    ):
        wait_until_whole(pair)
        assert pair.nodes[0].ask(b"add lock 0 0 1\r\nx\r\n") == b"STORED\r\n"
        leader = etcd.leader()
        pair.nodes[0].kill()
        if members > 1:
            leader.kill()
        answer = b""

        def answers() -> bool:
            nonlocal answer
            try:
                answer = pair.nodes[1].ask(b"add other 0 0 1\r\nx\r\n")
            except (OSError, TrialError):
                return False  # it parts from those who have waited long enough
            return not answer.startswith(b"SERVER_ERROR no quorum")

        until("the other goes on", answers)
        assert answer == b"STORED\r\n"
        assert pair.nodes[1].ask(b"add lock 0 0 1\r\ny\r\n") == b"NOT_STORED\r\n"
        if members > 1:
            leader.start()
        pair.restart(0)
        wait_until_whole(pair)
        assert pair.nodes[0].ask(b"add lock 0 0 1\r\ny\r\n") == b"NOT_STORED\r\n"


def test_logins() -> None:
    ((port, _),) = ports = free_ports()
    with etcds.Etcd.on_loopback(ports) as etcd:
        (member,) = etcd.members
        ask_for_logins(member)
        with pair_with(f"etcd://pymcd:secret@127.0.0.1:{port}") as pair:
            wait_until_whole(pair)
            # With its process its tokens are gone.
            member.kill()
            wait_for_fault(pair, "Connection refused")
            member.start()
            wait_until_whole(pair)
        with pair_with(f"etcd://pymcd:wrong@127.0.0.1:{port}") as pair:
            wait_for_fault(pair, "authentication failed")
        with pair_with(f"etcd://127.0.0.1:{port}") as pair:
            wait_for_fault(pair, "user name is empty")
        with pair_with(f"etcd://pymcd:secret@127.0.0.1:{port}/other") as pair:
            wait_for_fault(pair, "permission denied")


def ask_for_logins(member: etcds.Member) -> None:
    """Have an etcd ask for logins, and let one user do what docs/pair.md says."""
    for role in ("root", "pymcd"):
        member.post("/v3/auth/role/add", name=role)
        member.post("/v3/auth/user/add", name=role, password="secret")
        member.post("/v3/auth/user/grant", user=role, role=role)
    permission = {"permType": "READWRITE", "key": text(KEY)}
    member.post("/v3/auth/role/grant", name="pymcd", perm=permission)
    member.post("/v3/auth/enable")


def test_tls() -> None:
    identity = shared_identity()
    ((port, _),) = ports = free_ports()
    files = f"cacert={identity.ca_file}&cert={identity.chain_file}&key={identity.key_file}"
    with etcds.Etcd.on_loopback(ports, tls=identity):
        with pair_with(f"etcds://localhost:{port}?{files}") as pair:
            wait_until_whole(pair)
        with pair_with(f"etcds://localhost:{port}") as pair:
            wait_for_fault(pair, "certificate verify failed")
        with pair_with(f"etcds://localhost:{port}?cacert={identity.ca_file}") as pair:
            wait_for_fault(pair, f"localhost:{port}:")
        with pair_with(f"etcd://localhost:{port}") as pair:
            wait_for_fault(pair, f"localhost:{port}:")


def test_what_becomes_of_its_key() -> None:
    ((port, _),) = ports = free_ports()
    with (
        etcds.Etcd.on_loopback(ports) as etcd,
        pair_with(f"etcd://127.0.0.1:{port}") as pair,
    ):
        (member,) = etcd.members
        wait_until_whole(pair)
        # What has been compacted is not asked for.
        member.post("/v3/kv/compaction", revision=revision_of(member), physical=True)
        wait_until_whole(pair)
        before = value_of(member)
        member.post("/v3/kv/deleterange", key=text(KEY))
        until("another key", lambda: value_of(member) not in ("", before))
        wait_until_whole(pair)
        member.post("/v3/kv/put", key=text(KEY), value=text("nothing of ours"))
        wait_for_fault(pair, "holds what is not ours")
        member.post("/v3/kv/deleterange", key=text(KEY))
        wait_until_whole(pair)
        # Where nothing more can be written there is no vote, though all can be read.
        alarm = {"memberID": member_id_of(member), "alarm": "NOSPACE"}
        member.post("/v3/maintenance/alarm", action="ACTIVATE", **alarm)
        member.post("/v3/kv/deleterange", key=text(KEY))
        wait_for_fault(pair, "database space exceeded")
        member.post("/v3/maintenance/alarm", action="DEACTIVATE", **alarm)
        wait_until_whole(pair)


def value_of(member: etcds.Member) -> str:
    """Return the value of the key, as it stands in JSON; nothing if it is not there."""
    found: list[dict[str, Any]] = member.post("/v3/kv/range", key=text(KEY)).get("kvs", [])
    return str(found[0]["value"]) if found else ""


def revision_of(member: etcds.Member) -> str:
    return str(member.post("/v3/kv/range", key=text(KEY))["header"]["revision"])


def member_id_of(member: etcds.Member) -> str:
    return str(member.post("/v3/maintenance/status")["header"]["member_id"])
