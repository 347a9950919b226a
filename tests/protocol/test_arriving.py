"""What arrives in pieces is counted, has a bound, and gives way to others when it stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd import limits
from pymcd.protocol.executor import Executor
from pymcd.protocol.tokens import NO_MEMORY_READING, NO_MEMORY_REQUEST
from pymcd.protocol.underway import STALLED_S
from pymcd.testing.requests import RequestReader
from tests.protocol import binary_client as binary
from tests.protocol.helpers import Client, make_service
from tests.protocol.requests import BINARY, CUTS, TEXT, cut

if TYPE_CHECKING:
    from pymcd.service import Service

MEBIBYTE = 1 << 20
VALUE = bytes(900_000)
HEAD = b"set %b 0 0 1000000\r\n"


def clients_of(service: Service, count: int) -> list[Client]:
    return [Client(service) for _ in range(count)]


def wait(service: Service, seconds: float) -> None:
    service.clock.advance(seconds)  # type: ignore[attr-defined]
    service.tick()


def begin(client: Client, key: bytes = b"k") -> bytes:
    """Send most of a value, in pieces as they are read."""
    return client.send(HEAD % key + VALUE, step=limits.RECEIVE_BYTES)


def end(client: Client) -> bytes:
    return client.send(bytes(100_000) + b"\r\n", step=limits.RECEIVE_BYTES)


def test_a_value_is_counted_while_it_arrives():
    client = Client()
    under_way = client.service.under_way
    begin(client)
    assert under_way.held_bytes == len(VALUE)
    assert end(client) == b"STORED\r\n"
    assert under_way.held_bytes == 0


@pytest.mark.parametrize(
    "request_", [b"set a 0 0 60000\r\n" + bytes(60_000) + b"\r\n", b"get a\r\n"]
)
def test_what_one_read_brings_is_not_counted(request_, monkeypatch):
    client = Client()
    client.send(b"version\r\n")
    monkeypatch.delattr(type(client.service.under_way), "charge")
    assert client.send(request_ * 3)


def test_a_thousand_values_take_no_more_than_their_part_of_memory():
    service = make_service()
    under_way = service.under_way
    clients = clients_of(service, 200)
    said = [begin(client, b"k%d" % number) for number, client in enumerate(clients)]
    under_way.check()
    assert said == [b""] * 200, "whoever is refused hears of it when all has arrived"
    assert under_way.held_bytes <= under_way.limit_bytes == 32 * MEBIBYTE
    held = sum(client.connection.arrived.tell() for client in clients)
    assert held == under_way.held_bytes > 31 * MEBIBYTE
    answers = [end(client) for client in clients]
    assert answers.count(b"STORED\r\n") == 37
    assert set(answers) == {b"STORED\r\n", NO_MEMORY_READING}
    assert under_way.held_bytes == 0
    assert all(client.send(b"version\r\n") for client in clients)
    service.cache.check()


def test_who_stands_still_gives_way():
    service = make_service()
    attackers = clients_of(service, 37)
    for attacker in attackers:
        begin(attacker)
    honest = Client(service)
    begin(honest, b"early")
    assert end(honest) == NO_MEMORY_READING
    wait(service, STALLED_S)
    for number in range(40):
        begin(honest, b"k%d" % number)
        assert end(honest) == b"STORED\r\n"
    assert service.under_way.given_up == 1
    answers = [end(attacker) for attacker in attackers]
    assert answers == [NO_MEMORY_READING] + [b"STORED\r\n"] * 36


@pytest.mark.parametrize("protocol", ["text", "binary"])
def test_a_value_alone_arrives_however_large_it_may_be(protocol):
    size = 32 * MEBIBYTE - 200
    client = Client(item_size_max_bytes=32 * MEBIBYTE)
    if protocol == "text":
        request, stored = b"set k 0 0 %d\r\n%b\r\n" % (size, bytes(size)), b"STORED\r\n"
    else:
        request = binary.store(binary.SETQ, b"k", bytes(size)) + binary.request(binary.NOOP)
        stored = Client().send(binary.request(binary.NOOP))
    assert client.send(request, step=limits.RECEIVE_BYTES) == stored
    assert client.service.cache.peek(b"k") is not None


# Request up to its value, what is said instead of storing it.
NO_ROOM = [
    (b"set k 0 0 %d\r\n", NO_MEMORY_READING),
    (b"set k 0 0 %d noreply\r\n", b""),
    (b"append k 0 0 %d\r\n", NO_MEMORY_READING),
    (b"cas k 0 0 %d 1\r\n", NO_MEMORY_READING),
    (b"ms k %d\r\n", NO_MEMORY_READING),
    (b"ms k %d q\r\n", NO_MEMORY_READING),
]


@pytest.mark.parametrize(("head", "reply"), NO_ROOM)
@pytest.mark.parametrize("sent", [0, 1, 70_000, 99_999, 100_000, 100_001])
def test_a_value_without_room_is_swallowed_and_the_old_one_stays(head, reply, sent):
    """memcached: conn_nread, where there is no memory for the next chunk"""
    client = Client()
    client.send(b"set k 0 0 1\r\nv\r\n")
    block = b"x" * 100_000 + b"\r\n"
    assert client.send(head % 100_000 + block[:sent]) == b""
    client.connection.give_up()
    client.service.under_way.release(client.connection)
    assert client.send(block[sent:] + b"get k\r\n") == reply + b"VALUE k 0 1\r\nv\r\nEND\r\n"


@pytest.mark.parametrize("sent", [1, 70_000, 100_001])
@pytest.mark.parametrize("head", [b"set k 0 0 100000\r\n", b"ms k 100000\r\n"])
def test_a_value_that_finds_no_room_at_first_is_swallowed(head, sent):
    service = make_service()
    fillers = clients_of(service, 32)
    for filler in fillers:
        filler.send(b"set f 0 0 %d\r\n" % (MEBIBYTE - 300) + bytes(MEBIBYTE - 300))
    filler = Client(service)
    filler.send(b"set f 0 0 20000\r\n" + bytes(32 * 300))
    assert service.under_way.held_bytes == service.under_way.limit_bytes
    client = Client(service)
    block = b"x" * 100_000 + b"\r\n"
    assert client.send(head + block[:sent]) == b""
    assert not client.connection.buffer
    assert client.send(block[sent:] + b"version\r\n") == NO_MEMORY_READING + b"VERSION 1.6.45\r\n"


@pytest.mark.parametrize("opcode", [binary.SET, binary.SETQ, binary.APPEND])
@pytest.mark.parametrize("sent", [0, 1, 70_000, 99_999])
def test_a_binary_value_without_room_is_swallowed(opcode, sent):
    client = Client()
    extras = b"" if opcode == binary.APPEND else bytes(8)
    whole = binary.request(opcode, b"k", extras, bytes(100_000))
    head = len(whole) - 100_000
    assert client.send(whole[: head + sent]) == b""
    client.connection.give_up()
    text = b"Out of memory during read"
    replies = client.send(whole[head + sent :] + binary.request(binary.NOOP))
    assert binary.decode(replies) == [
        binary.Reply(opcode, 0x82, value=text),
        binary.Reply(binary.NOOP, 0),
    ]


@pytest.mark.parametrize("accounting", ["memcached", "resident"])
def test_where_memory_is_what_it_really_costs_items_make_room(accounting):
    service = make_service(memory_accounting=accounting)
    cache, under_way = service.cache, service.under_way
    client = Client(service)
    for number in range(9000):
        client.send(b"set i%d 0 0 8000\r\n%b\r\n" % (number, bytes(8000)))
    full_bytes = cache.slabs.malloced_bytes
    assert full_bytes > 60 * MEBIBYTE

    def rest() -> None:
        for _ in range(10_000):
            if not service.rebalancer.busy:
                break
            service.maintainer.step()

    early = Client(service)
    begin(early)
    rest()
    assert cache.slabs.malloced_bytes == full_bytes, "a value now and then moves no pages"
    others = clients_of(service, 60)
    for other in others:
        begin(other)
    rest()
    assert under_way.held_bytes > 31 * MEBIBYTE
    if accounting == "memcached":
        assert under_way.borrowed_bytes == 0
        assert cache.slabs.malloced_bytes == full_bytes
    else:
        assert cache.slabs.malloced_bytes + under_way.borrowed_bytes <= 64 * MEBIBYTE
        assert under_way.borrowed_bytes + 4 * MEBIBYTE >= under_way.held_bytes
    for other in [early, *others]:
        service.disconnected(other.connection)
    assert cache.slabs.lent_bytes == under_way.borrowed_bytes == 0
    assert client.send(b"set big 0 0 900000\r\n" + bytes(900_000) + b"\r\n") == b"STORED\r\n"
    cache.check()


# -- lines -------------------------------------------------------------------------------------

LINE = b"get " + b"k" * 200 + b" key" * 200_000


def test_a_long_line_is_counted():
    client = Client()
    under_way = client.service.under_way
    for start in range(0, len(LINE), limits.RECEIVE_BYTES):
        client.send(LINE[start : start + limits.RECEIVE_BYTES])
        assert under_way.held_bytes == min(start + limits.RECEIVE_BYTES, len(LINE))
    # What is behind it is no longer long.
    assert client.send(b"\r\nget a") == b"END\r\n"
    assert under_way.held_bytes == 0


def test_a_line_without_room_ends_the_conversation():
    """memcached: try_read_network"""
    service = make_service()
    clients = clients_of(service, 60)
    said = [client.send(LINE, step=limits.RECEIVE_BYTES) for client in clients]
    refused = [answer for answer in said if answer]
    assert len(refused) == 60 - 41
    assert set(refused) == {NO_MEMORY_REQUEST}
    assert [client.connection.closing for client in clients] == [bool(answer) for answer in said]
    assert service.under_way.held_bytes <= service.under_way.limit_bytes
    wait(service, STALLED_S)
    begin(Client(service))
    closing = [client for client in clients if client.connection.closing]
    assert len(closing) == len(refused) + 1
    assert clients[0] in closing
    assert not clients[0].connection.buffer


# -- nothing stays -----------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [HEAD % b"k" + VALUE, LINE], ids=["value", "line"])
def test_nothing_is_counted_of_who_is_gone(sent):
    service = make_service()
    for client in clients_of(service, 3):
        client.send(sent, step=limits.RECEIVE_BYTES)
        service.disconnected(client.connection)
    assert service.under_way.held_bytes == 0
    service.under_way.check()


def test_nothing_is_counted_of_commands_of_others():
    service = make_service()
    reader = RequestReader(service)
    client = Client(service)
    reader.read(client.connection.runner, HEAD % b"k" + VALUE, 0)
    Executor(service)("text", HEAD % b"k" + VALUE)
    assert service.under_way.held_bytes == 0
    assert reader._service.under_way.held_bytes == 0


@pytest.mark.slow
@given(st.one_of(TEXT, BINARY).map(b"".join), CUTS)
def test_what_is_counted_is_what_is_there(stream, cuts):
    service = make_service()
    client = Client(service)
    connection = client.connection
    for piece in cut(stream, cuts):
        if connection.closing or not piece:
            break
        client.send(piece)
        service.under_way.check()
        assert service.under_way.held_bytes == connection.arrived.tell()
        assert connection.awaited is not None or not connection.held_bytes
    service.disconnected(connection)
    assert service.under_way.held_bytes == 0
