"""A client that asks for no answer gets none, whatever fault its request meets, in each protocol.

What comes behind such a request is answered as ever: an answer that nobody awaits would be taken
for that of the next request.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pymcd.testing import FaultBuilder, MemcachedServer
from pymcd.testing.actions import ok

from .helpers import HEADER, RawClient, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OK, NOT_FOUND, BUSY, NO_MEMORY = 0x00, 0x01, 0x85, 0x82


def binary(opcode: int, key: bytes = b"", extras: bytes = b"", value: bytes = b"") -> bytes:
    body = extras + key + value
    return HEADER.pack(0x80, opcode, len(key), len(extras), 0, len(body), b"mine", 0) + body


def answer(opcode: int, status: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBHBBHI4sQ", 0x81, opcode, 0, 0, 0, status, len(body), b"mine", 0) + body


class Quiet(NamedTuple):
    """A request that wants to hear nothing, or not everything."""

    name: str
    request: bytes
    #: Whether it is executed, as the store tells.
    done: Callable[[MemcachedServer], bool]
    #: To `.reply()`: what is not said to such a client, and what is.
    unsaid: bytes
    said: bytes = b""
    #: What is said of a server that has no memory; of one that fails.
    no_memory: bytes = b""


def is_two(server: MemcachedServer) -> bool:
    item = server.get("a")
    return item is not None and item.value == b"2"


def is_gone(server: MemcachedServer) -> bool:
    return server.get("a") is None


def nothing_shows(server: MemcachedServer) -> bool:
    return True


BUSY_LINE = b"SERVER_ERROR busy\r\n"
STORING = b"SERVER_ERROR out of memory storing object\r\n"
REQUESTS = [
    Quiet("text set", b"set a 0 0 1 noreply\r\n2\r\n", is_two, BUSY_LINE),
    Quiet("text delete", b"delete a noreply\r\n", is_gone, BUSY_LINE),
    Quiet("text incr", b"incr a 1 noreply\r\n", is_two, b"2\r\n"),
    Quiet("text touch", b"touch a 0 noreply\r\n", nothing_shows, b"TOUCHED\r\n"),
    Quiet("text flush", b"flush_all noreply\r\n", is_gone, b"OK\r\n"),
    Quiet("meta set", b"ms a 1 q\r\n2\r\n", is_two, b"HD\r\n", BUSY_LINE, STORING),
    Quiet(
        "meta get", b"mg b v q\r\n", nothing_shows, b"EN\r\n", b"VA 1\r\n2\r\n",
        b"SERVER_ERROR out of memory\r\n",
    ),
    Quiet(
        "meta delete", b"md a q\r\n", is_gone, b"HD\r\n", b"EX\r\n",
        b"SERVER_ERROR out of memory\r\n",
    ),
    Quiet(
        "meta arithmetic", b"ma a q v\r\n", is_two, b"VA 1\r\n2\r\n", b"NF\r\n",
        b"SERVER_ERROR out of memory\r\n",
    ),
    Quiet(
        "binary set", binary(0x11, b"a", bytes(8), b"2"), is_two, answer(0x11, OK),
        answer(0x11, BUSY), answer(0x11, NO_MEMORY, b"Out of memory allocating item"),
    ),
    Quiet(
        "binary get", binary(0x09, b"b"), nothing_shows, answer(0x09, NOT_FOUND),
        answer(0x09, OK, bytes(4) + b"2"), answer(0x09, NO_MEMORY, b"Out of memory"),
    ),
    Quiet(
        "binary delete", binary(0x14, b"a"), is_gone, answer(0x14, OK),
        answer(0x14, NOT_FOUND), answer(0x14, NO_MEMORY, b"Out of memory"),
    ),
]  # fmt: skip
TEXT_NEXT, BINARY_NEXT = b"mn\r\n", binary(0x0A)
TEXT_END, BINARY_END = b"MN\r\n", answer(0x0A, OK)

#: What a fault does to such a request.
EXECUTED, PREVENTED = True, False
AS_EVER: list[tuple[str, Callable[[FaultBuilder], object], bool]] = [
    ("delay", lambda fault: fault.delay(0), EXECUTED),
    ("garbage", lambda fault: fault.garbage(), EXECUTED),
    ("chunks", lambda fault: fault.chunks(1), EXECUTED),
    ("bandwidth", lambda fault: fault.bandwidth(1), EXECUTED),
    ("ok", lambda fault: fault.sequence(ok), EXECUTED),
    ("look", lambda fault: fault.look(lambda call: b"X"), EXECUTED),
    ("let through", lambda fault: fault.reply(lambda call: ok), EXECUTED),
]
CLOSING: list[tuple[str, Callable[[FaultBuilder], object], bool]] = [
    ("drop", lambda fault: fault.drop(), PREVENTED),
    ("drop executed", lambda fault: fault.drop(executed=True), EXECUTED),
    ("reset", lambda fault: fault.reset(), PREVENTED),
    ("reset executed", lambda fault: fault.reset(executed=True), EXECUTED),
    ("truncate", lambda fault: fault.truncate(5), EXECUTED),
]

every_request = pytest.mark.parametrize("quiet", REQUESTS, ids=[each.name for each in REQUESTS])


@pytest.fixture
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer() as running:
        running.put("a", b"1")
        yield running


def is_binary(quiet: Quiet) -> bool:
    return quiet.request[:1] == b"\x80"


def behind(client: RawClient, quiet: Quiet) -> bytes:
    """Return what a client hears of such a request, and of nothing else."""
    following, end = (BINARY_NEXT, BINARY_END) if is_binary(quiet) else (TEXT_NEXT, TEXT_END)
    heard = client.ask(quiet.request + following, end)
    assert heard.endswith(end)
    return heard.removesuffix(end)


def fault_of(server: MemcachedServer, quiet: Quiet) -> FaultBuilder:
    return server.fault(connection=1, times=1)


@every_request
def test_without_a_fault(server: MemcachedServer, quiet: Quiet) -> None:
    with raw(server) as client:
        assert behind(client, quiet) == b""
        (call, _) = server.calls
        assert (call.noreply, call.reply) == (True, b"")
    assert quiet.done(server)


@every_request
@pytest.mark.parametrize(("arm", "executed"), [c[1:] for c in AS_EVER], ids=[c[0] for c in AS_EVER])
def test_nothing_is_said(
    server: MemcachedServer, quiet: Quiet, arm: Callable[[FaultBuilder], object], executed: bool
) -> None:
    arm(fault_of(server, quiet))
    with raw(server) as client:
        assert behind(client, quiet) == b""
    assert quiet.done(server) == executed or quiet.done is nothing_shows


@every_request
@pytest.mark.parametrize(("arm", "executed"), [c[1:] for c in CLOSING], ids=[c[0] for c in CLOSING])
def test_the_connection_ends_without_a_word(
    server: MemcachedServer, quiet: Quiet, arm: Callable[[FaultBuilder], object], executed: bool
) -> None:
    arm(fault_of(server, quiet))
    with raw(server) as client:
        client.send(quiet.request)
        try:
            assert client.read() == b""
        except ConnectionResetError:
            pass
    assert server.calls[0].reply == b""
    assert quiet.done(server) == executed or quiet.done is nothing_shows


@every_request
def test_of_a_reply_only_what_the_protocol_says(server: MemcachedServer, quiet: Quiet) -> None:
    with raw(server) as client:
        for reply, heard in ((quiet.unsaid, b""), (quiet.said, quiet.said)):
            with server.fault(connection=1, times=1).reply(reply):
                assert behind(client, quiet) == heard
            with server.fault(connection=1, times=1).reply(lambda call, said=reply: said):  # type: ignore[misc]
                assert behind(client, quiet) == heard
    assert not quiet.done(server) or quiet.done is nothing_shows


@every_request
def test_no_memory(server: MemcachedServer, quiet: Quiet) -> None:
    with raw(server) as client, server.fault(connection=1, times=1).out_of_memory():
        assert behind(client, quiet) == quiet.no_memory


@every_request
def test_a_server_error(server: MemcachedServer, quiet: Quiet) -> None:
    with raw(server) as client, server.fault(connection=1, times=1).server_error("busy"):
        heard = behind(client, quiet)
    if is_binary(quiet):
        assert heard == answer(quiet.request[1], 0x84, b"busy")
    else:  # behind q errors are told, behind noreply nothing is
        assert heard == (b"" if b"noreply" in quiet.request else BUSY_LINE)
    assert not quiet.done(server) or quiet.done is nothing_shows


#: What is said where there is no item: what the flag q and quiet opcodes leave.
MISSED = {
    "meta arithmetic": b"NF\r\n",
    "meta delete": b"NF\r\n",
    "binary delete": answer(0x14, NOT_FOUND, b"Not found"),
}


@every_request
def test_a_miss(server: MemcachedServer, quiet: Quiet) -> None:
    with raw(server) as client, server.fault(connection=1, times=1).miss():
        assert behind(client, quiet) == MISSED.get(quiet.name, b"")


@every_request
def test_stalled(server: MemcachedServer, quiet: Quiet) -> None:
    with raw(server) as client:
        fault = fault_of(server, quiet).stall()
        client.send(quiet.request)
        server.wait_for()
        assert server.calls[0].reply is None
        assert not quiet.done(server) or quiet.done is nothing_shows
        fault.remove()
        following, end = (BINARY_NEXT, BINARY_END) if is_binary(quiet) else (TEXT_NEXT, TEXT_END)
        assert client.ask(following, end) == end
    assert quiet.done(server)


def test_the_end_of_a_batch_is_no_quiet_request(server: MemcachedServer) -> None:
    with raw(server) as client, server.fault(command="mn").reply(b"SERVER_ERROR busy\r\n"):
        assert client.ask(b"mg b v q\r\nmn\r\n") == b"SERVER_ERROR busy\r\n"
        assert client.ask(b"mn q\r\n") == b"SERVER_ERROR busy\r\n"


def test_a_refused_value_of_a_quiet_request(server: MemcachedServer) -> None:
    with raw(server) as client, server.fault(command="set").reply(b"NO\r\n"):
        client.send(b"set a 0 0 2000000 noreply\r\n" + bytes(2_000_000) + b"\r\n")
        assert client.ask(b"mn\r\n") == b"MN\r\n"


def test_clients_that_ask_for_no_answer_by_default(server: MemcachedServer) -> None:
    pymemcache = pytest.importorskip("pymemcache")
    client = pymemcache.Client(server.address)
    with server.fault(command="set").reply(b"SERVER_ERROR busy\r\n"):
        client.set("a", "2")
        assert client.get("a") == b"1"
    client.close()
