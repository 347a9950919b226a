"""A client of one of several servers: it notices nothing, but that an answer may take a while.

What a client hears must be what it would hear from a single server, through whichever node,
driven by the hub or by the driver for any stream, and however its requests are cut into pieces.
Cas uniques are other numbers here than there: the same ones must be equal.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.clock import ManualClock
from pymcd.replication.changes import Changes
from tests.protocol import binary_client as binary
from tests.protocol.helpers import Client, make_service
from tests.protocol.requests import BINARY, COMMANDS, CUTS, SMALL_ITEMS, cut
from tests.replication.helpers import Group, Guest, make_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pymcd.protocol import Service

DRIVERS = [pytest.param(True, id="hub"), pytest.param(False, id="stream")]
NODES = [pytest.param("a", id="coordinator"), pytest.param("b", id="follower")]

#: Numbers that can only be cas uniques; in text, and in the binary protocol.
_find_cas_uniques = re.compile(rb"(?<!\d)\d{19}(?!\d)")
_CAS_UNIQUE_MIN = 10**17


def quiet(service: Service) -> Service:
    """Keep what would go to the log for oneself."""
    service.log_line = lambda line: None
    return service


class Single:
    """The same conversation with a server that stands alone."""

    def __init__(self, **settings: Any) -> None:
        clock = ManualClock()
        service = quiet(make_service(clock, **settings))
        # So that it has the same idea of cas uniques, and of flushes in the future.
        Changes(service.cache, clock, tag=1, backlog_bytes=1 << 20)
        self.client = Client(service)

    def ask(self, pieces: Iterable[bytes]) -> bytes:
        answer = b""
        for piece in pieces:
            if piece and not self.client.connection.closing:
                answer += self.client.send(piece)
        return answer

    def items(self) -> dict[bytes, tuple[bytes, int, int]]:
        return items_of(self.client.service)


def items_of(service: Service) -> dict[bytes, tuple[bytes, int, int]]:
    cache = service.cache
    return {
        item.key: (item.value, item.client_flags, item.expires_at)
        for item in cache.items()
        if not cache.is_dead(item)
    }


def alike(answer: bytes) -> bytes:
    """Return text replies with cas uniques numbered in the order in which they appear."""
    known: dict[bytes, bytes] = {}
    return _find_cas_uniques.sub(
        lambda found: known.setdefault(found.group(), b"<cas %d>" % len(known)), answer
    )


def alike_binary(answer: bytes) -> list[tuple[Any, ...]]:
    """The same of binary replies."""
    known: dict[int, str] = {}
    replies: list[tuple[Any, ...]] = []
    while answer:
        *head, cas = struct.unpack(">BBHBBHIIQ", answer[:24])
        name = known.setdefault(cas, f"cas {len(known)}") if cas > _CAS_UNIQUE_MIN else cas
        replies.append((*head, name, answer[24 : 24 + head[6]]))
        answer = answer[24 + head[6] :]
    return replies


def quiet_group(**settings: Any) -> Group:
    group = make_group(**settings)
    for host in group.hosts.values():
        quiet(host.service)
    return group


def compare(
    node: str,
    pieces: list[bytes],
    *,
    fast: bool,
    normal: Callable[[bytes], Any] = alike,
    **settings: Any,
) -> None:
    """Hold a conversation with a pair and with a single server; the answers must agree."""
    group = quiet_group(**settings)
    single = Single(**settings)
    guest = Guest(group[node], fast=fast)
    pieces = [piece for piece in pieces if piece]
    got = guest.ask(*pieces)
    wanted = single.ask(pieces)
    assert normal(got) == normal(wanted)
    assert guest.connection.closing == single.client.connection.closing
    assert not guest.connection.waiting
    assert not guest.connection.tail
    assert not guest.connection.batch
    group.check_equal()
    for host in group.hosts.values():
        assert items_of(host.service) == single.items()
    again = b"get a b c\r\n" if normal is alike else binary.request(binary.NOOP)
    assert normal(guest.ask(again)) == normal(single.ask([again]))


# -- the same answers --------------------------------------------------------------------------

BIG = b"x" * 2000

CONVERSATIONS = [
    ("nothing", b""),
    ("one set", b"set a 5 0 1\r\n1\r\n"),
    ("one get", b"get a\r\n"),
    ("write and read", b"set a 5 0 1\r\n1\r\nget a\r\ngets a b\r\n"),
    ("every classic write", b"add n 0 0 1\r\n5\r\nreplace n 0 0 1\r\n6\r\nappend n 0 0 1\r\n7\r\n"
     b"prepend n 0 0 1\r\n1\r\nincr n 3\r\ndecr n 1\r\ntouch n 50\r\ngat 60 n\r\ngats 70 n\r\n"
     b"cas n 0 0 1 1\r\nx\r\ndelete n\r\nflush_all\r\n"),
    ("every meta command", b"ms m 2 c T90 F5\r\nhi\r\nmg m v t f c k s\r\nmg m\r\nmg q v k\r\n"
     b"mg n N30 v c\r\nmg n v\r\nma n J5 N0 v c\r\nma n D3 MI v\r\nmd m I T30\r\nmg m v c\r\n"
     b"mg m v\r\nmd m q\r\nme m\r\nmn\r\n"),
    ("cas uniques of one's own", b"ms e 1 E77 c\r\nx\r\nmg e c\r\ncas e 0 0 1 77\r\ny\r\n"
     b"ms e 1 C77 c\r\nz\r\ngets e\r\nmd e E99 I\r\nmg e c v\r\n"),
    ("noreply", b"set a 0 0 1 noreply\r\n1\r\nincr a 1 noreply\r\ndelete b noreply\r\nget a\r\n"),
    ("only noreply", b"set a 0 0 1 noreply\r\n1\r\nset b 0 0 1 noreply\r\n2\r\n"),
    ("quiet meta", b"ms a 1 q\r\n1\r\nmg b q v\r\nmd b q\r\nmn\r\n"),
    ("no command", b"set a 0 0 1\r\n1\r\nnonsense\r\nget a\r\n"),
    ("no command, first", b"nonsense\r\nset a 0 0 1\r\n1\r\n"),
    ("a bad block", b"set b 0 0 1\r\n1\r\nset a 0 0 1\r\n1xxxget b\r\nget a\r\n"),
    ("only a bad block", b"set a 0 0 1\r\n1xxxget a\r\n"),
    ("a wrong line", b"set a 0 0 1\r\n1\r\nset b 0 0\r\nget\r\nincr a x\r\nincr a\r\nget a\r\n"),
    ("a key too long", b"set a 0 0 1\r\n1\r\nget " + b"k" * 251 + b"\r\nget a\r\n"),
    ("too large", b"set a 0 0 1\r\n1\r\nset b 0 0 2000\r\n" + BIG + b"\r\nget a b\r\n"),
    ("too large, first", b"set b 0 0 2000\r\n" + BIG + b"\r\nset a 0 0 1\r\n1\r\nget a b\r\n"),
    ("too large, deletes", b"set b 0 0 1\r\n1\r\nget b\r\nset b 0 0 2000\r\n" + BIG + b"\r\n"
     b"get b\r\n"),
    ("too large, quiet", b"set a 0 0 1\r\n1\r\nset b 0 0 2000 noreply\r\n" + BIG + b"\r\n"
     b"ms b 2000 q\r\n" + BIG + b"\r\nget a\r\n"),
    ("local commands", b"set a 0 0 1\r\n1\r\nversion\r\nget a\r\nverbosity 0\r\nset b 0 0 1\r\n2"
     b"\r\nstats reset\r\nlru mode segmented\r\nversion\r\nversion\r\nget b\r\n"),
    ("quit", b"set a 0 0 1\r\n1\r\nget a\r\nquit\r\nset b 0 0 1\r\n1\r\n"),
    ("a browser", b"set a 0 0 1\r\n1\r\nGET / HTTP/1.1\r\nget a\r\n"),
    ("an endless line", b"set a 0 0 1\r\n1\r\n" + b"x" * 5000),
    ("base64 keys", b"ms " + b"a2V5IA== 1 b\r\n1\r\nmg a2V5IA== b v k\r\nmg a2V5IA b v\r\n"
     b"md a2V5IA== b\r\n"),
    ("a flush to come", b"set a 0 0 1\r\n1\r\nflush_all 100\r\nget a\r\n"),
    ("dead at once", b"set a 0 -1 1\r\n1\r\nget a\r\nset a 0 0 1\r\n2\r\ntouch a -1\r\nget a\r\n"),
    ("many", b"".join(b"set k%d 0 0 3\r\n%03d\r\nget k%d\r\n" % (n, n, n) for n in range(60))),
]  # fmt: skip


@pytest.mark.parametrize("fast", DRIVERS)
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    "stream", [stream for _, stream in CONVERSATIONS], ids=[name for name, _ in CONVERSATIONS]
)
class TestConversations:
    def test_whole(self, stream, node, fast):
        compare(node, [stream], fast=fast, **SMALL_ITEMS)

    def test_line_by_line(self, stream, node, fast):
        compare(node, stream.splitlines(keepends=True), fast=fast, **SMALL_ITEMS)

    def test_byte_by_byte(self, stream, node, fast):
        pieces = [stream[at : at + 1] for at in range(len(stream))]
        compare(node, pieces, fast=fast, **SMALL_ITEMS)

    def test_a_few_commands_in_a_turn(self, stream, node, fast):
        compare(node, [stream], fast=fast, reqs_per_event=2, **SMALL_ITEMS)


#: Of what a meta get can tell, how an item was used is known to each node alone.
_find_usage_flags = re.compile(rb"(?<= )[hl](?=[ \r\n])")
MORE = st.sampled_from(
    [b"ms a 2 E77 c\r\nhi\r\n", b"ms a 2 C77 c\r\nho\r\n", b"cas a 0 0 2 77\r\nhu\r\n",
     b"md a I T30\r\n", b"md a x\r\n", b"mg a c v\r\n", b"mg a N30 v c\r\n", b"mg b R40 t v\r\n",
     b"ma b N0 J5 v\r\n", b"ma b D2 c\r\n", b"gets a b\r\n", b"gats 100 a\r\n", b"delete a\r\n",
     b"set a 0 0 1\r\n7\r\n", b"get a\r\n", b"get a b\r\n"]
)  # fmt: skip
TEXT = st.lists(st.one_of(COMMANDS, MORE, MORE), max_size=12).map(
    lambda commands: _find_usage_flags.sub(b"v", b"".join(commands))
)


class TestAnyConversation:
    @given(TEXT, CUTS, st.sampled_from("ab"), st.booleans())
    def test_text(self, stream, cuts, node, fast):
        compare(node, cut(stream, cuts), fast=fast, **SMALL_ITEMS)

    @given(BINARY, CUTS, st.sampled_from("ab"), st.booleans())
    def test_binary(self, requests, cuts, node, fast):
        compare(node, cut(b"".join(requests), cuts), fast=fast, normal=alike_binary, **SMALL_ITEMS)

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.one_of(COMMANDS, MORE)), max_size=12))
    def test_clients_of_both_nodes_in_turn(self, commands):
        """As long as each waits for its answer, it is one server."""
        group, single = quiet_group(**SMALL_ITEMS), Single(**SMALL_ITEMS)
        guests = {name: Guest(group[name]) for name in "ab"}
        # Each client of the single server is another one, too.
        singles = {"a": single.client, "b": Client(single.client.service)}
        answers: tuple[bytes, bytes] = b"", b""
        for name, command in commands:
            data = _find_usage_flags.sub(b"v", command)
            if guests[name].connection.closing:
                continue
            answers = (
                answers[0] + guests[name].ask(data),
                answers[1] + singles[name].send(data),
            )
        assert alike(answers[0]) == alike(answers[1])
        group.check_equal()


BINARY_CONVERSATIONS = [
    ("write and read", [binary.store(binary.SET, b"a", b"1"), binary.request(binary.GET, b"a"),
                        binary.request(binary.GETK, b"a"), binary.request(binary.GET, b"q")]),
    ("quiet", [binary.store(binary.SETQ, b"a", b"1"), binary.request(binary.GETQ, b"a"),
               binary.request(binary.GETQ, b"q"), binary.request(binary.DELETEQ, b"q"),
               binary.request(binary.NOOP)]),
    ("count and touch", [binary.count(binary.INCREMENT, b"n", 2, 5),
                         binary.count(binary.INCREMENT, b"n", 2, 5),
                         binary.count(binary.DECREMENTQ, b"n", 1),
                         binary.touch(binary.TOUCH, b"n", 50), binary.touch(binary.GAT, b"n", 60)]),
    ("local commands", [binary.store(binary.SET, b"a", b"1"), binary.request(binary.VERSION),
                        binary.request(binary.GET, b"a"), binary.request(binary.VERSION),
                        binary.request(binary.NOOP)]),
    ("too large", [binary.store(binary.SET, b"a", b"1"), binary.store(binary.SETQ, b"b", BIG),
                   binary.request(binary.GET, b"a"), binary.store(binary.SET, b"a", BIG),
                   binary.request(binary.GET, b"a")]),
    ("too large, first", [binary.store(binary.SET, b"b", BIG), binary.store(binary.ADD, b"a", b"1"),
                          binary.request(binary.NOOP)]),
    ("no command", [binary.store(binary.SET, b"a", b"1"), binary.request(0xFE),
                    binary.request(binary.GET, b"a")]),
    ("not whole", [binary.store(binary.SET, b"a", b"1"), binary.request(binary.SET, b"a")]),
    ("quit", [binary.store(binary.SET, b"a", b"1"), binary.request(binary.QUIT),
              binary.request(binary.GET, b"a")]),
    ("text in between", [binary.store(binary.SET, b"a", b"1"), b"get a\r\n" * 4]),
]  # fmt: skip


@pytest.mark.parametrize("fast", DRIVERS)
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    "requests",
    [requests for _, requests in BINARY_CONVERSATIONS],
    ids=[name for name, _ in BINARY_CONVERSATIONS],
)
class TestBinaryConversations:
    def test_whole(self, requests, node, fast):
        compare(node, [b"".join(requests)], fast=fast, normal=alike_binary, **SMALL_ITEMS)

    def test_one_by_one(self, requests, node, fast):
        compare(node, requests, fast=fast, normal=alike_binary, **SMALL_ITEMS)

    def test_byte_by_byte(self, requests, node, fast):
        stream = b"".join(requests)
        pieces = [stream[at : at + 1] for at in range(len(stream))]
        compare(node, pieces, fast=fast, normal=alike_binary, **SMALL_ITEMS)


# -- what only some of the nodes hold ----------------------------------------------------------


def evict(group: Group, node: str, key: bytes) -> None:
    """Have a node make room."""
    cache = group[node].cache
    item = cache.linked(key)
    assert item is not None
    cache.unlink(item)


@pytest.mark.parametrize("evicting", NODES)
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"delete k\r\n", {b"DELETED\r\n", b"NOT_FOUND\r\n"}),
        (b"md k\r\n", {b"HD\r\n", b"NF\r\n"}),
        (b"set k 0 0 2000\r\n" + BIG + b"\r\n", {b"SERVER_ERROR object too large for cache\r\n"}),
        (b"ms k 2000\r\n" + BIG + b"\r\n", {b"SERVER_ERROR object too large for cache\r\n"}),
    ],
)
def test_what_one_node_evicted_can_be_deleted_on_all(evicting, node, command, reply):
    """Else the other one would serve for ever what a client believes to be gone."""
    group = make_group(**SMALL_ITEMS)
    guest = Guest(group[node])
    guest.ask(b"set k 0 0 1\r\n1\r\n")
    evict(group, evicting, b"k")
    assert guest.ask(command) in reply
    for name in "ab":
        assert Guest(group[name]).ask(b"get k\r\n") == b"END\r\n"
    group.check_equal()
