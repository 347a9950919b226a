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

from pymcd import limits
from pymcd.auth import Authenticator, Users
from pymcd.protocol import Connection, Executor, PairedConnection
from pymcd.protocol.binary import UNKNOWN_COMMAND
from pymcd.protocol.paired import NOT_REPLICATED
from pymcd.protocol.verbs import LOCAL
from pymcd.replication.changes import Changes
from pymcd.replication.waiting import bytes_of
from tests.protocol import binary_client as binary
from tests.protocol.helpers import Client, make_service
from tests.protocol.refused import REFUSED_ITEM_MAX, SOME_REFUSED
from tests.protocol.requests import BINARY, COMMANDS, CUTS, SMALL_ITEMS, cut
from tests.replication.helpers import Group, Guest, Host, make_group

from ..clocks import ManualClock
from ..hosts import lend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pymcd.replication.waiting import Reply
    from pymcd.service import Service

DRIVERS = [pytest.param(True, id="hub"), pytest.param(False, id="stream")]
NODES = [pytest.param("a", id="coordinator"), pytest.param("b", id="follower")]

#: Numbers that can only be cas uniques; in text, and in the binary protocol.
_find_cas_uniques = re.compile(rb"(?<!\d)\d{19}(?!\d)")
#: In what `me` answers.
_find_use = re.compile(rb" (?:la=\d+|fetch=(?:yes|no))(?= )")
_CAS_UNIQUE_MIN = 10**17


def quiet(service: Service) -> Service:
    """Keep what would go to the log for oneself."""
    lend(service, log_line=lambda line: None)
    return service


def decoded(reply: Reply) -> list[binary.Reply]:
    """Return the binary replies in what an executor returns."""
    return binary.decode(reply if isinstance(reply, bytes) else b"".join(reply))


class Single:
    """The same conversation with a server that stands alone."""

    def __init__(self, **settings: Any) -> None:
        clock = ManualClock()
        service = quiet(make_service(clock, **settings))
        # So that it has the same idea of cas uniques, and of flushes in the future.
        Changes(service.cache, clock, tag=1, backlog_bytes=1 << 20, leads=lambda: True)
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
    """Return text replies with cas uniques numbered in the order in which they appear.

    And without what `me` tells of how an item was used, which is known to each node alone.
    """
    known: dict[bytes, bytes] = {}
    answer = _find_use.sub(b"", answer)
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


def stand(host: Host, **changes: bool) -> None:
    """Have connections behave as if the node's role meant something else."""
    for name, value in changes.items():
        setattr(host.node.view.stance, name, value)


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
    ("many keys", b"set a 0 0 1\r\n1\r\nget" + b" a b" * 90 + b"\r\ngats 100" + b" a" * 66 +
     b"\r\nset b 0 0 1\r\n2\r\ngets b\r\nget" + b" b" * 65 + b"\r\nget b\r\n"),
    ("a key too long among many", b"set a 0 0 1\r\n1\r\nget" + b" a" * 70 + b" " + b"k" * 251 +
     b"\r\nget a\r\n"),
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


@pytest.mark.parametrize("fast", DRIVERS)
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("before", [b"", b"set a 0 0 1\r\n1\r\n"], ids=["first", "behind a set"])
@pytest.mark.parametrize("case", SOME_REFUSED, ids=[each.name for each in SOME_REFUSED])
def test_a_refused_value_is_answered_when_all_of_it_is_there(case, before, node, fast):
    whole = case.head + case.rest
    request, answer = case.behind
    stored = b"STORED\r\n"
    if before and whole[:1] == b"\x80":
        before, stored = binary.store(binary.SET, b"a", b"1"), binary.OPAQUE
    for cut_at in case.cuts:
        group = quiet_group(item_size_max_bytes=REFUSED_ITEM_MAX, slab_chunk_max_bytes=1 << 13)
        guest = Guest(group[node], fast=fast)
        said = guest.ask(before + whole[:cut_at])
        assert said.count(stored) == len(before[:1])
        assert len(said) <= 24
        assert guest.ask(whole[cut_at:] + request) == case.reply + answer
        group.check_equal()


@pytest.mark.parametrize("fast", DRIVERS)
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    "behind", [b"", b"set c 0 0 50000\r\nxy", b"get"], ids=["", "value", "word"]
)
def test_a_large_value_is_counted_until_it_is_answered(node, fast, behind):
    group = quiet_group()
    group.warm()
    under_way = group[node].service.under_way
    guest = Guest(group[node], fast=fast)
    size = 500_000
    guest.feed(b"set b 0 0 %d\r\n" % size + bytes(size - 10))
    assert under_way.held_bytes == size - 10
    guest.feed(bytes(10) + b"\r\n" + behind)
    assert guest.connection.waiting
    assert under_way.held_bytes == (
        2 if b"set" in behind else size + len(b"set b 0 0 500000\r\n\r\n")
    )
    under_way.check()
    guest.connection.give_up()
    group.settle()
    assert guest.take() == b"STORED\r\n"
    assert under_way.held_bytes == 0 or behind
    group[node].service.disconnected(guest.connection)
    assert under_way.held_bytes == 0
    group.check_equal()


# -- values that are refused -------------------------------------------------------------------

_ERROR = b"SERVER_ERROR object too large for cache\r\n"
#: What takes the old value of k away though it is refused, and the answer.
TAKES_AWAY = [
    (b"set k 0 0 2000\r\n" + BIG + b"\r\n", _ERROR),
    (b"set k 0 0 2000 noreply\r\n" + BIG + b"\r\n", b""),
    (b"ms k 2000\r\n" + BIG + b"\r\n", _ERROR),
    (b"ms aw== 2000 b\r\n" + BIG + b"\r\n", _ERROR),
    (b"ms k 2000 q\r\n" + BIG + b"\r\n", _ERROR),
    *((b"ms k 2000 M%s\r\n" % mode + BIG + b"\r\n", _ERROR) for mode in (b"E", b"R", b"A", b"P")),
    (binary.store(binary.SET, b"k", BIG), None),
    (binary.store(binary.SETQ, b"k", BIG), None),
]  # fmt: skip
#: ... and what does not.
LEAVES_ALONE = [
    (b"%s k 0 0 2000\r\n" % verb + BIG + b"\r\n", _ERROR)
    for verb in (b"add", b"replace", b"append", b"prepend")
]


def answers_too_large(answer: bytes, wanted: bytes | None) -> bool:
    if wanted is not None:
        return answer == wanted
    (reply,) = binary.decode(answer)
    return reply.status == 3


@pytest.mark.parametrize("fast", DRIVERS)
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("pieces", [1, 2], ids=["whole", "in pieces"])
@pytest.mark.parametrize(("request_", "wanted"), TAKES_AWAY)
class TestWhatARefusedValueTakesAway:
    def cut(self, request: bytes, pieces: int) -> list[bytes]:
        return [request] if pieces == 1 else [request[:100], request[100:]]

    def test_is_gone_everywhere_when_that_is_said(self, request_, wanted, pieces, node, fast):
        group = warm_group(**SMALL_ITEMS)
        readers = [Guest(group[name], fast=fast) for name in "ab"]
        guest = Guest(group[node], fast=fast)
        readers[0].ask(SET)
        wire = group.wire("a", "b")
        wire.stall()
        guest.feed(*self.cut(request_, pieces))
        group.settle()
        assert guest.take() == b""
        # Where it is not decided it is not gone before; where it is, nobody may see that yet.
        assert group["b"].values() == {b"k": b"1"}
        assert readers[1].ask(b"get k\r\n") == HIT
        readers[0].feed(b"get k\r\n")
        group.settle()
        assert readers[0].take() == (HIT if node == "b" else b"")
        wire.resume()
        group.settle()
        assert answers_too_large(guest.take(), wanted)
        assert readers[0].take() == (b"" if node == "b" else b"END\r\n")
        for reader in readers:
            assert reader.ask(b"get k\r\n") == b"END\r\n"
        assert not guest.connection.waiting
        assert guest.ask(b"mn\r\n" if wanted is not None else binary.request(binary.NOOP))
        group.check_equal()

    def test_is_gone_where_somebody_else_decides_then(self, request_, wanted, pieces, node, fast):
        group = warm_group(**SMALL_ITEMS)
        other = "b" if node == "a" else "a"
        Guest(group["a"]).ask(SET)
        guest = Guest(group[node], fast=fast)
        group.wire("a", "b").stall()
        guest.feed(*self.cut(request_, pieces))
        group.settle()
        group[other].stop()
        group.advance(1)
        assert answers_too_large(guest.take(), wanted)
        assert group[node].values() == {}
        group.check()

    def test_comes_after_what_was_asked_before(self, request_, wanted, pieces, node, fast):
        group = warm_group(**SMALL_ITEMS)
        guest = Guest(group[node], fast=fast)
        if wanted is None:
            before, behind = binary.store(binary.SET, b"k", b"1"), binary.request(binary.GET, b"k")
        else:
            before, behind = SET + b"get k\r\n", b"get k\r\n"
        stream = before + request_ + behind
        answer = guest.ask(*([stream] if pieces == 1 else [stream[:120], stream[120:]]))
        if wanted is None:
            assert [reply.status for reply in binary.decode(answer)] == [0, 3, 1]
        else:
            assert answer == b"STORED\r\n" + HIT + wanted + b"END\r\n"
        group.check_equal()

    def test_stays_where_nothing_may_be_changed(self, request_, wanted, pieces, node, fast):
        group = warm_group(replication_ack="strict", **SMALL_ITEMS)
        Guest(group["a"]).ask(SET)
        guest = Guest(group[node], fast=fast)
        group["b" if node == "a" else "a"].stop()
        group.advance(1)
        answer = guest.ask(*self.cut(request_, pieces))
        if wanted is None:
            assert [reply.status for reply in binary.decode(answer)] == [0x86]
        else:
            assert answer == (NOT_REPLICATED if wanted else b"")
        assert group[node].values() == {b"k": b"1"}
        assert not guest.connection.waiting

    def test_stays_where_that_turns_out_so(self, request_, wanted, pieces, node, fast):
        group = warm_group(replication_ack="strict", **SMALL_ITEMS)
        Guest(group["a"]).ask(SET)
        guest = Guest(group[node], fast=fast)
        group.wire("a", "b").stall()
        guest.feed(*self.cut(request_, pieces))
        group.settle()
        group["b" if node == "a" else "a"].stop()
        group.advance(1)
        answer = guest.take()
        if wanted is None:
            assert [reply.status for reply in binary.decode(answer)] == [0x86]
        else:
            assert answer == (NOT_REPLICATED if wanted else b"")


@pytest.mark.parametrize("fast", DRIVERS)
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(("request_", "wanted"), LEAVES_ALONE)
def test_who_would_not_replace_anything_takes_nothing_away(request_, wanted, node, fast):
    group = warm_group(**SMALL_ITEMS)
    guest = Guest(group[node], fast=fast)
    guest.ask(SET)
    group.wire("a", "b").stall()
    assert guest.ask(request_) == wanted  # and waits for nobody
    assert guest.ask(b"get k\r\n") == HIT


@pytest.mark.parametrize("fast", DRIVERS)
def test_a_key_that_text_has_no_words_for(fast):
    key = bytes(range(250))
    group = warm_group(**SMALL_ITEMS)
    guest = Guest(group["b"], fast=fast)
    guest.ask(binary.store(binary.SET, key, b"1"))
    assert list(group["a"].values()) == [key]
    (reply,) = binary.decode(guest.ask(binary.store(binary.SET, key, BIG)))
    assert reply.status == 3
    assert group["a"].values() == group["b"].values() == {}


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
    ("nothing to throw away", [binary.store(binary.SET, b"a", b"1"),
                               binary.request(binary.SASL_AUTH, b"a"),
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


# -- waiting -----------------------------------------------------------------------------------

SET = b"set k 0 0 1\r\n1\r\n"
HIT = b"VALUE k 0 1\r\n1\r\nEND\r\n"


def warm_group(**settings: Any) -> Group:
    group = quiet_group(**settings)
    group.warm()
    return group


@pytest.mark.parametrize("fast", DRIVERS)
@pytest.mark.parametrize("node", NODES)
class TestWaiting:
    def test_nothing_is_answered_before_it_may_be(self, node, fast):
        group = warm_group()
        guest = Guest(group[node], fast=fast)
        group.wire("a", "b").stall()
        assert guest.ask(SET) == b""
        assert guest.connection.waiting
        assert guest.connection.next_chunk() is None
        assert not guest.connection.run()
        group.wire("a", "b").resume()
        assert guest.ask() == b"STORED\r\n"
        assert not guest.connection.waiting
        assert guest.connection.held_request == b""

    def test_what_follows_waits_its_turn(self, node, fast):
        group = warm_group()
        guest = Guest(group[node], fast=fast)
        group.wire("a", "b").stall()
        guest.ask(SET)
        for _ in range(5):
            assert guest.ask(b"incr k 1\r\n", b"version\r\n") == b""
        assert group["a"].values().get(b"k", b"1") == b"1"
        group.wire("a", "b").resume()
        wanted = b"STORED\r\n" + b"".join(b"%d\r\nVERSION 1.6.45\r\n" % (n + 2) for n in range(5))
        assert guest.ask() == wanted

    def test_meanwhile_little_is_kept_of_it(self, node, fast):
        """The driver stops reading: the rest stays in the client's socket."""
        group = warm_group()
        guest = Guest(group[node], fast=fast)
        group.wire("a", "b").stall()
        guest.ask(SET)
        for _ in range(100):
            guest.feed(b"set k 0 0 100\r\n" + bytes(100) + b"\r\n")
        assert len(guest.connection.buffer) < 1000
        assert len(guest.unread) >= 99
        group.wire("a", "b").resume()
        assert guest.ask() == b"STORED\r\n" * 101

    def test_everybody_else_goes_on(self, node, fast):
        group = warm_group()
        guest, other = Guest(group[node], fast=fast), Guest(group[node], fast=fast)
        other.ask(b"set other 0 0 1\r\n1\r\nversion\r\n")
        group.wire("a", "b").stall()
        guest.ask(SET)
        assert other.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"
        if fast or node == "b":
            assert other.ask(b"get other\r\n") == b"VALUE other 0 1\r\n1\r\nEND\r\n"

    def test_a_client_may_leave_while_it_waits(self, node, fast):
        group = warm_group()
        guest = Guest(group[node], fast=fast)
        group.wire("a", "b").stall()
        guest.ask(SET)
        # As a driver does.
        connection = guest.connection
        connection.closing = True
        connection.suspend, connection.deliver, connection.wake = (lambda: None), None, lambda: None
        group[node].service.disconnected(connection)
        group[node].guests.remove(guest)
        group.wire("a", "b").resume()
        group.settle()
        assert Guest(group["a"]).ask(b"get k\r\n") == HIT
        group.check_equal()

    def test_a_value_may_be_on_its_way_when_the_node_changes_its_part(self, node, fast):
        group = warm_group()
        guest = Guest(group[node], fast=fast)
        guest.ask(b"set first 0 0 1\r\n1\r\nset k 0 0 10\r\n12345")
        guest.take()
        group["a" if node == "b" else "b"].stop()
        group.advance(0.5)
        assert group[node].node.role == "alone"
        assert guest.ask(b"67890\r\nget k\r\n") == (
            b"STORED\r\nVALUE k 0 10\r\n1234567890\r\nEND\r\n"
        )

    def test_who_has_no_lease_waits_for_one_round_trip(self, node, fast):
        group = quiet_group()
        guest = Guest(group[node], fast=fast)
        guest.ask(SET)
        group.advance(2.5)  # between two signs of life
        group.wire("a", "b").stall()
        assert guest.ask(b"get k\r\n") == b""
        assert not guest.connection.batch  # nothing is executed
        group.wire("a", "b").resume()
        assert guest.ask() == HIT

    def test_a_login_and_what_is_about_the_server_is_not_forwarded(self, node, fast):
        group = warm_group()
        guest = Guest(group[node], fast=fast)
        group.wire("a", "b").stall()
        assert guest.ask(b"version\r\nverbosity 0\r\nstats settings\r\n").endswith(b"END\r\n")

    def test_binary_waits_as_well(self, node, fast):
        group = warm_group()
        guest = Guest(group[node], fast=fast)
        group.wire("a", "b").stall()
        stream = binary.store(binary.SET, b"k", b"1") + binary.request(binary.VERSION)
        assert guest.ask(stream) == b""
        assert guest.connection.held_protocol == "binary"
        group.wire("a", "b").resume()
        replies = binary.decode(guest.ask())
        assert [reply.opcode for reply in replies] == [binary.SET, binary.VERSION]


# -- who has logged in -------------------------------------------------------------------------

USERS = Authenticator(lambda: Users([(b"ann", b"secret")]), make_nonce=lambda: "nonce", secret=b"s")
LOGIN_IN_TEXT = b"set x 0 0 10\r\nann secret\r\n"


def sasl(message: bytes, opcode: int = binary.SASL_AUTH) -> bytes:
    return binary.request(opcode, b"PLAIN", b"", message)


RIGHT = b"\0ann\0secret"
SASL: dict[str, Any] = {"enable_sasl": True, "protocol": "binary"}
TEXT_LOGIN: dict[str, Any] = {"auth_file": "users", "protocol": "ascii"}
#: Settings, and what a client says before it is let in.
LOGINS: list[tuple[str, dict[str, Any], list[bytes]]] = [
    ("none", {}, []),
    ("none, ascii", {"protocol": "ascii"}, []),
    ("none, binary", {"protocol": "binary"}, []),
    ("text", TEXT_LOGIN, [LOGIN_IN_TEXT]),
    ("text, at the second try", TEXT_LOGIN, [b"get a\r\nset x 0 0 3\r\na b\r\n", LOGIN_IN_TEXT]),
    ("text, after a delay", {**TEXT_LOGIN, "login_failure_delay_s": 5},
     [b"set x 0 0 3\r\na b\r\n", LOGIN_IN_TEXT]),
    ("SASL", SASL, [sasl(RIGHT)]),
    ("SASL, in two steps", SASL, [sasl(b""), sasl(RIGHT, binary.SASL_STEP)]),
    ("SASL, at the second try", SASL, [sasl(b"wrong"), sasl(RIGHT)]),
    ("SASL, after a delay", {**SASL, "login_failure_delay_s": 5}, [sasl(b"wrong"), sasl(RIGHT)]),
    ("SASL, asked what there is", SASL, [binary.request(binary.SASL_LIST), sasl(RIGHT)]),
]  # fmt: skip
#: By the protocol: a write, how its reply begins, a read, and the reply.
SPOKEN: dict[str, tuple[bytes, bytes, bytes, bytes]] = {
    "text": (SET, b"STORED\r\n", b"get k\r\n", HIT),
    "meta": (b"ms k 1\r\n1\r\n", b"HD\r\n", b"mg k v\r\n", b"VA 1\r\n1\r\n"),
    "binary": (binary.store(binary.SET, b"k", b"1"), b"\x81\x01\0\0\0\0\0\0",
               binary.request(binary.GET, b"k"), b"\x81\0"),
}  # fmt: skip


def speaks(settings: dict[str, Any], protocol: str) -> bool:
    spoken: str = settings.get("protocol", "auto")
    return spoken == "auto" or (spoken == "binary") == (protocol == "binary")


@pytest.mark.parametrize("traced", [False, True], ids=["", "traced"])
@pytest.mark.parametrize("fast", DRIVERS)
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    ("settings", "login", "protocol"),
    [
        pytest.param(settings, login, protocol, id=f"{name}: {protocol}")
        for name, settings, login in LOGINS
        for protocol in SPOKEN
        if speaks(settings, protocol)
    ],
)
class TestLogins:
    """However a client came in, and whatever it speaks: it is one of a pair's."""

    def enter(
        self, settings: dict[str, Any], login: list[bytes], node: str, *, fast: bool, traced: bool
    ) -> tuple[Group, Guest]:
        group = warm_group(verbose=2 * traced, **settings)
        for host in group.hosts.values():
            if login:
                lend(host.service, authenticator=USERS)
        guest = Guest(group[node], fast=fast)
        for message in login:
            assert guest.ask(message)
        assert guest.connection.stranger_since is None
        return group, guest

    def test_what_it_writes_waits_for_the_other_node(
        self, settings, login, protocol, node, fast, traced
    ):
        write, written, read, found = SPOKEN[protocol]
        group, guest = self.enter(settings, login, node, fast=fast, traced=traced)
        for _ in range(2):  # the second one comes to a connection at rest
            group.wire("a", "b").stall()
            assert guest.ask(write) == b""
            assert guest.connection.waiting
            if node == "b":
                # Nothing is executed where nothing is decided.
                assert not group["b"].values()
            group.wire("a", "b").resume()
            assert guest.ask().startswith(written)
            for host in group.hosts.values():
                assert host.values() == {b"k": b"1"}
            group.check_equal()
            assert found in guest.ask(read)
            group["a"].cache.delete(b"k")
            group.settle()

    def test_what_it_reads_waits_until_it_cannot_be_lost(
        self, settings, login, protocol, node, fast, traced
    ):
        write, written, read, found = SPOKEN[protocol]
        group, guest = self.enter(settings, login, node, fast=fast, traced=traced)
        if node == "b":
            stand(group["b"], remote=True)
        writer = Guest(group["a"], fast=fast)
        if login:
            for message in login:
                writer.ask(message)
        group.wire("a", "b").stall()
        assert writer.ask(write) == b""
        assert guest.ask(read) == b""
        assert guest.connection.waiting
        group.wire("a", "b").resume()
        assert writer.ask().startswith(written)
        assert found in guest.take()

    def test_no_other_tables_are_used(self, settings, login, protocol, node, fast, traced):
        _, guest = self.enter(settings, login, node, fast=fast, traced=traced)
        connection = guest.connection
        assert connection.tables is PairedConnection.tables
        assert connection.verbs is connection.tables.verbs
        assert any(connection.commands is each for each in connection.tables[1:])


def test_no_client_passes_the_gate_by():
    service = make_group()["a"].service
    with pytest.raises(AssertionError):
        Connection(service)
    Connection(service, trusted=True)  # for what others forward


class TestParts:
    """A get of many keys is several commands, and still has one answer."""

    KEYS = [b"k%d" % number for number in range(limits.RUN_KEYS_MAX * 3)]

    @pytest.mark.parametrize("fast", DRIVERS)
    @pytest.mark.parametrize("node", NODES)
    @pytest.mark.parametrize("words", [b"gat 0 ", b"gats 0 "])
    def test_it_is_refused_once(self, words, node, fast):
        group = warm_group(replication_ack="strict")
        guest = Guest(group[node], fast=fast)
        guest.ask(*[b"set %b 0 0 1\r\n1\r\n" % key for key in self.KEYS])
        group.wire("a", "b").stall()
        assert guest.ask(words + b" ".join(self.KEYS) + b"\r\nversion\r\n") == b""
        group["a" if node == "b" else "b"].stop()
        group.advance(2.0)
        assert guest.take() == NOT_REPLICATED + b"VERSION 1.6.45\r\n"

    @pytest.mark.parametrize("fast", DRIVERS)
    @pytest.mark.parametrize("node", NODES)
    def test_it_is_refused_once_though_a_part_was_answered(self, node, fast):
        group = warm_group()
        guest = Guest(group[node], fast=fast)
        guest.ask(*[b"set %b 0 0 1\r\n1\r\n" % key for key in self.KEYS])
        group.wire("a", "b").stall()
        assert guest.ask(b"gat 0 " + b" ".join(self.KEYS) + b"\r\nversion\r\n") == b""
        stand(group[node], refusing=True)
        group.wire("a", "b").resume()
        answer = guest.ask()
        assert answer.count(b"VALUE") == limits.RUN_KEYS_MAX
        assert answer.endswith(b"\r\n1\r\n" + NOT_REPLICATED + b"VERSION 1.6.45\r\n")
        assert answer.count(NOT_REPLICATED) == 1

    @pytest.mark.parametrize("fast", DRIVERS)
    @pytest.mark.parametrize("node", NODES)
    @pytest.mark.parametrize(
        "line",
        [
            b"gat x " + b" ".join(KEYS),
            b"get big1 big2 big3 " + b"k" * 251,
            b"gat 0 big1 big2 big3 " + b"k" * 251,
            b"get big1 big2 big3 " + b" ".join(KEYS) + b" " + b"k" * 251,
        ],
        ids=["exptime", "get", "gat", "many"],
    )
    def test_what_is_wrong_with_it_is_all_of_the_answer(self, line, node, fast):
        big = [
            b"set big%d 0 0 50000\r\n" % number + bytes(50_000) + b"\r\n" for number in (1, 2, 3)
        ]
        compare(node, [*big, SET + line + b"\r\nversion\r\n"], fast=fast)


class TestForwarding:
    def test_what_came_together_goes_together(self):
        group = warm_group()
        guest = Guest(group["b"])
        guest.ask(SET + b"incr k 1\r\nget k\r\nincr k 1\r\n")
        assert group["b"].rows["forwards_sent"] == 1

    def test_what_only_reads_stays(self):
        group = warm_group()
        guest = Guest(group["b"])
        guest.ask(SET)
        guest.ask(b"get k\r\ngets k\r\nmg k v\r\nmn\r\nme k\r\n", b"get k\r\n", b"get q\r\n")
        assert group["b"].rows["forwards_sent"] == 1

    @pytest.mark.parametrize("flags", [b"T30 v", b"N30 v", b"R30 v", b"E5 N3"])
    def test_unless_it_changes_something_after_all(self, flags):
        group = warm_group()
        guest = Guest(group["b"])
        guest.ask(b"mg k " + flags + b"\r\n")
        assert group["b"].rows["forwards_sent"] == 1

    @pytest.mark.parametrize("key", [b"k", b"aw== b"])
    def test_or_the_item_is_stale(self, key):
        group = warm_group()
        guest = Guest(group["b"])
        guest.ask(SET)
        guest.ask(b"md k I\r\n")
        name, _, flag = key.partition(b" ")
        assert b" W" in guest.ask(b"mg " + name + b" v " + flag + b"\r\n")
        assert group["b"].rows["forwards_sent"] == 3

    @pytest.mark.parametrize("first", NODES)
    @pytest.mark.parametrize(
        "asked", [b"YQA= b", b"YQ=a b", b"Y!QA= b", b"YQ=a bb", b"YQA=YQ== v b k", b"Y-Q=A v b"]
    )
    def test_one_client_wins_a_stale_item_however_its_key_is_spelt(self, asked, first):
        group = warm_group()
        Guest(group["a"]).ask(b"ms YQA= 1 b T100\r\n1\r\nmd YQA= b I T30\r\n")
        group.wire("a", "b").stall()
        guests = [Guest(group["ab".replace(first, "")]), Guest(group[first])]
        for guest in guests:
            guest.feed(b"mg " + asked + b"\r\n")
        group.wire("a", "b").resume()
        answers = [guest.ask() for guest in guests]
        assert sum(b" W" in answer for answer in answers) == 1
        group.check_equal()

    def test_a_key_that_is_no_base64_is_read_here(self):
        group = warm_group()
        assert Guest(group["b"]).ask(b"mg a v b\r\n").startswith(b"CLIENT_ERROR")
        assert group["b"].rows["forwards_sent"] == 0

    def test_who_joins_forwards_everything(self):
        group = warm_group()
        Guest(group["a"]).ask(SET)
        guest = Guest(group["b"])
        stand(group["b"], remote=True)
        assert guest.ask(b"get k\r\n", b"mg k v\r\n", b"gets q\r\n") == (
            HIT + b"VA 1\r\n1\r\nEND\r\n"
        )
        other = Guest(group["b"])
        (reply,) = binary.decode(other.ask(binary.request(binary.GET, b"k")))
        assert reply.value == b"1"
        assert group["b"].rows["forwards_sent"] >= 4

    @pytest.mark.parametrize("fast", DRIVERS)
    @pytest.mark.parametrize("remote", [False, True])
    @pytest.mark.parametrize(
        "asking",
        [
            b"set k 0 0 1\r\n1\r\nget" + b" big" * 30 + b"\r\n",
            b"gat 0" + b" big" * 30 + b"\r\n",
            b"gat 0 big\r\n" * 30,
            b"set k 0 0 1\r\n1\r\n" + b"mg big v\r\n" * 30,
            b"get" + b" k" * 20_000 + b"\r\n",
        ],
    )
    def test_no_answer_is_large(self, asking, remote, fast, monkeypatch):
        """Whatever is asked, of one or of many values, nothing large comes at once."""
        group = warm_group()
        value = bytes(40_000)
        Guest(group["a"]).ask(b"set big 0 0 40000\r\n%b\r\n" % value)
        guest = Guest(group["b"], fast=fast)
        stand(group["b"], remote=remote)
        single = Single()
        single.ask([b"set big 0 0 40000\r\n%b\r\nset k 0 0 1\r\n1\r\n" % value])
        guest.ask(b"set k 0 0 1\r\n1\r\n")
        largest = 0
        really_answered = PairedConnection.answered

        def answered(connection: PairedConnection, reply: bytes) -> None:
            nonlocal largest
            largest = max(largest, len(reply))
            really_answered(connection, reply)

        monkeypatch.setattr(PairedConnection, "answered", answered)
        assert guest.ask(asking) == single.ask([asking])
        assert largest <= limits.RUN_REPLY_BYTES + len(value)


class TestRefusing:
    """Nothing may be changed, as nobody else would have it."""

    def refusing(self) -> Guest:
        group = warm_group(replication_ack="strict")
        guest = Guest(group["a"])
        guest.ask(SET, b"ms stale 1 T100\r\n1\r\n", b"md stale I\r\n")
        stand(group["a"], refusing=True)
        return guest

    @pytest.mark.parametrize(
        "command",
        [b"delete k noreply\r\n", b"delete noreply\r\n", b"delete k 0 noreply\r\n",
         b"incr k 1 noreply\r\n", b"touch k 0 noreply\r\n", b"flush_all noreply\r\n",
         b"  flush_all 0 0 noreply\r\n", b"flush_all 0 noreply\r\n",
         b"set k 0 0 1 noreply\r\n2\r\n"],
    )  # fmt: skip
    def test_who_wants_no_answer_gets_none(self, command):
        guest = self.refusing()
        assert guest.ask(command + b"mn\r\n") == b"MN\r\n"
        assert guest.ask(b"get k\r\n") == HIT

    @pytest.mark.parametrize(
        "command",
        [b"gat 0 noreply\r\n", b"gats 0 k noreply\r\n",
         b"md noreply\r\n", b"md k noreply\r\n", b"md k q\r\n", b"ms noreply 1 q\r\n2\r\n",
         b"ma noreply\r\n", b"mg noreply T0\r\n", b"mg stale v\r\n"],
    )  # fmt: skip
    def test_all_others_hear_of_it(self, command):
        guest = self.refusing()
        assert guest.ask(command + b"mn\r\n") == NOT_REPLICATED + b"MN\r\n"
        assert guest.host.values() == {b"k": b"1", b"stale": b"1"}

    def test_reading_goes_on(self):
        guest = self.refusing()
        assert guest.ask(b"mg k v\r\nget k\r\nmg q v\r\n") == b"VA 1\r\n1\r\n" + HIT + b"EN\r\n"


class TestExecutor:
    def executor(self) -> tuple[Executor, Service]:
        service = make_service(**SMALL_ITEMS)
        quiet(service)
        return Executor(service), service

    def test_it_executes_and_returns_the_replies(self):
        execute, _ = self.executor()
        assert execute("text", SET + b"get k\r\n") == b"STORED\r\n" + HIT
        (reply,) = decoded(execute("binary", binary.request(binary.GET, b"k")))
        assert reply.value == b"1"

    @given(st.lists(st.tuples(st.sampled_from(["text", "binary"]), st.binary(max_size=60))))
    def test_nothing_that_comes_harms_what_comes_next(self, requests):
        execute, _ = self.executor()
        for protocol, commands in requests:
            execute(protocol, commands)
            assert execute("text", SET) == b"STORED\r\n"
            (reply,) = decoded(execute("binary", binary.request(binary.GET, b"k")))
            assert reply.value == b"1"

    @pytest.mark.parametrize(
        "commands",
        [b"get", b"set k 0 0 5\r\nhe", b"set k 0 0 5000\r\nhe", b"quit\r\n", b"x" * 5000,
         b"set k 0 0 1\r\n1\r\nget k"],
    )  # fmt: skip
    def test_half_a_command_is_forgotten(self, commands):
        execute, _ = self.executor()
        execute("text", commands)
        assert execute("text", b"mn\r\n") == b"MN\r\n"

    @pytest.mark.parametrize("refusing", [False, True])
    def test_nobody_forwards_what_is_about_this_very_server(self, refusing):
        """It might end it, change it, or answer without end."""
        if refusing:
            host = warm_group(replication_ack="strict", enable_shutdown=True)["a"]
            stand(host, refusing=True)
            execute, service = Executor(host.service), host.service
        else:
            execute, service = self.executor()
        stopped: list[bool] = []
        lend(service, shutdown=stopped.append)
        for word, verb in Connection.tables.verbs.items():
            if verb.effect is LOCAL:
                for words in (
                    b"",
                    b" graceful",
                    b" fetchers",
                    b" metadump all",
                    b" 1",
                    b" noreply",
                ):
                    assert execute("text", word + words + b"\r\n") == b"ERROR\r\n", word
                assert execute("text", b"mn\r\n") == b"MN\r\n", word
        for command in Connection.tables.commands:
            if command.effect is LOCAL:
                replies = decoded(execute("binary", binary.request(command.opcode)))
                assert {reply.status for reply in replies} <= {UNKNOWN_COMMAND, 4}, command.name
                assert execute("binary", binary.request(binary.GET, b"k")), command.name
        assert not stopped

    def test_replies_are_bounded(self, monkeypatch):
        monkeypatch.setattr("pymcd.protocol.executor.REPLIES_MAX_BYTES", 10_000)
        service = make_service(item_size_max_bytes=1 << 17, slab_chunk_max_bytes=1 << 16)
        execute = Executor(service)
        assert execute("text", b"set k 0 0 90000\r\n" + bytes(90_000) + b"\r\n") == b"STORED\r\n"
        assert bytes_of(execute("text", b"get k\r\n" * 4)) > 360_000
        assert bytes_of(execute("text", b"get k\r\n" * 1000)) < 700_000
        assert execute("text", b"mn\r\n") == b"MN\r\n"

    def test_long_batches_are_executed_to_the_end(self):
        execute, service = self.executor()
        service.reqs_per_event = 3
        assert execute("text", SET * 50 + b"get k\r\n") == b"STORED\r\n" * 50 + HIT

    @pytest.mark.parametrize("settings", [SASL, TEXT_LOGIN])
    def test_whoever_forwards_has_seen_to_the_login(self, settings):
        service = make_service(**settings)
        lend(service, authenticator=USERS)
        execute = Executor(service)
        assert execute("text", SET) == b"STORED\r\n"
        (reply,) = decoded(execute("binary", binary.store(binary.SET, b"k", b"1")))
        assert reply.status == 0

    @pytest.mark.parametrize("settings", [SASL, TEXT_LOGIN])
    def test_also_where_all_is_refused(self, settings):
        host = warm_group(replication_ack="strict", **settings)["a"]
        lend(host.service, authenticator=USERS)
        stand(host, refusing=True)
        execute = Executor(host.service)
        assert execute("text", SET) == NOT_REPLICATED
        (reply,) = decoded(execute("binary", binary.store(binary.SET, b"k", b"1")))
        assert reply.value == b"Not replicated: no peer"


def test_the_answer_to_a_login_stays_where_what_follows_is_answered_anew():
    """Whether or not the driver has sent it before it has the rest executed."""
    group = warm_group(replication_ack="strict", **SASL)
    lend(group["a"].service, authenticator=USERS)
    guest = Guest(group["a"])
    group.wire("a", "b").stall()
    guest.feed(sasl(RIGHT) + binary.store(binary.SET, b"k", b"1"))
    group.advance(1.0)
    assert group["a"].node.role == "alone"
    login, refusal = binary.decode(guest.take())
    assert login.value == b"Authenticated"
    assert refusal.value == b"Not replicated: no peer"


def test_statistics_tell_of_the_group():
    group = warm_group()
    answer = Guest(group["b"]).ask(b"stats replication\r\n")
    assert b"STAT state in_sync\r\n" in answer
    assert b"STAT role follower\r\n" in answer
    plain = Guest(group["a"]).ask(b"stats\r\n")
    assert plain.endswith(
        b"STAT replication MASTER\r\nSTAT repcached_version 2.3.1\r\n"
        b"STAT repcached_qi_free 65536\r\nEND\r\n"
    )
