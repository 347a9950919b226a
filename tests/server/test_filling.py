"""`--fill-from`: a server takes over what another one has, and serves meanwhile."""

from __future__ import annotations

import socket
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pymcd.protocol import reports
from pymcd.server import filling
from pymcd.store import StoreMode

from ..clocks import ManualClock
from .authority import HOST, shared_authority
from .helpers import Running, TrioClock, ask, one_loopback, serving
from .test_pair import LARGE, pair, role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .helpers import Loopback

NUMBER = 200


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    with one_loopback() as it:
        yield it


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition()` holds, on a clock that jumps."""
    while not condition():  # noqa: ASYNC110 - of what is looked at nobody tells
        await trio.sleep(0.01)


def put(server: Running, number: int = NUMBER, value: bytes = b"old") -> None:
    cache = server.service.cache
    for each in range(number):
        cache.store(
            StoreMode.SET, b"%d" % each, value, each % 3, cache.now + 1000 if each % 2 else 0
        )


def photograph(server: Running) -> dict[bytes, tuple[bytes, int, int]]:
    cache = server.service.cache
    return {
        item.key: (item.value, item.client_flags, item.expires_at and item.expires_at - cache.now)
        for item in cache.items()
    }


def told(server: Running) -> list[str]:
    return [line.split(": ", 1)[1] for line in server.memory.lines if line.startswith("fill from")]


def is_done(server: Running) -> bool:
    return any(line.startswith(("done", "stopped", "left")) for line in told(server))


async def test_all_comes_over(autojump_clock):
    async with serving(clock=TrioClock()) as source:
        put(source)
        async with serving(clock=TrioClock(), fill_from=f"127.0.0.1:{source.port}") as server:
            await until(lambda: is_done(server))
            assert photograph(server) == photograph(source)
            assert told(server)[0] == f"begins with {NUMBER} items"
            assert told(server)[1].startswith(f"done: {NUMBER} of {NUMBER} items filled, after ")
            assert told(server)[1].endswith(" s")
            assert server.readiness().reason == "there are no peers"
            assert server.service.cache.on_gone is None
            server.service.cache.check()


def rows(server: Running) -> dict[str, str]:
    """Return what a client is told of the fill."""
    return {name: str(value) for name, value in reports.fill(server.service)}


async def test_how_far_it_is_can_be_asked(autojump_clock, nursery):
    faulty = Faulty(nursery, all_of_it, halt_at=2)
    source = await faulty.start()
    async with serving(clock=TrioClock(), fill_from=source) as server:
        assert rows(server) == {
            "state": "listing",
            "source": source,
            "reason": "-",
            "seconds": "0.000",
            "listed": "0",
            "filled": "0",
            "there": "0",
            "gone": "0",
            "over": "0",
            "too_large": "0",
            "no_room": "0",
            "not_found": "0",
        }
        await until(lambda: faulty.halted)
        found = rows(server)
        assert (found["state"], found["listed"]) == ("filling", "99")
        assert int(found["filled"]) == filling.BATCH_ITEMS
        assert float(found["seconds"]) > 0
        faulty.go_on.set()
        await until(lambda: is_done(server))
        found = rows(server)
        assert (found["state"], found["reason"], found["filled"]) == ("done", "-", "99")
        await trio.sleep(100)
        assert rows(server) == found
    nursery.cancel_scope.cancel()


async def test_a_server_that_fills_nothing(autojump_clock):
    async with serving(clock=TrioClock()) as server:
        assert rows(server) == {"state": "off"}


async def test_clients_come_first(autojump_clock):
    async with serving(clock=TrioClock()) as source:
        put(source)
        async with serving(clock=TrioClock(), fill_from=f"127.0.0.1:{source.port}") as server:
            stream = await server.connect()
            # It has not begun: clients are let in at once.
            assert told(server) == []
            assert await ask(stream, b"set 1 0 0 3\r\nnew\r\n") == b"STORED\r\n"
            assert await ask(stream, b"delete 2\r\n") == b"NOT_FOUND\r\n"
            await until(lambda: is_done(server))
            assert await ask(stream, b"get 1 2\r\n") == b"VALUE 1 0 3\r\nnew\r\nEND\r\n"
            assert told(server)[-1].startswith(
                f"done: {NUMBER - 2} of {NUMBER} items filled, 1 stored by clients,"
                " 1 deleted by clients, after "
            )


async def test_a_flush_ends_it(autojump_clock, nursery):
    faulty = Faulty(nursery, all_of_it, halt_at=2)
    async with serving(clock=TrioClock(), fill_from=await faulty.start()) as server:
        stream = await server.connect()
        await until(lambda: faulty.halted)
        assert await ask(stream, b"get 98\r\n") == b"VALUE 98 0 3\r\nold\r\nEND\r\n"
        assert await ask(stream, b"flush_all\r\n") == b"OK\r\n"
        faulty.go_on.set()
        await until(lambda: is_done(server))
        assert told(server)[-1].startswith("stopped, as clients flushed everything: ")
        found = rows(server)
        assert (found["state"], found["reason"]) == ("stopped", "clients_flushed_everything")
        assert await ask(stream, b"get 98\r\n", end=b"END\r\n") == b"END\r\n"
        assert server.service.cache.item_count == 0
    nursery.cancel_scope.cancel()


async def test_a_source_that_does_not_answer_is_given_up(autojump_clock):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with serving(clock=TrioClock(), fill_from=f"127.0.0.1:{port}") as server:
        await trio.sleep(filling.PATIENCE_S / 2)
        (line,) = told(server)
        assert line.startswith("it does not answer (")
        assert line.endswith("); it is asked again for 30 s")
        stream = await server.connect()
        assert await ask(stream, b"get a\r\n") == b"END\r\n"
        await trio.sleep(filling.PATIENCE_S)
        _, line = told(server)
        assert line.startswith("stopped, as it does not answer (")
        assert "0 of 0 items filled, after 3" in line
        assert line.endswith(" s; pymcd dump and pymcd load bring the rest")
        found = rows(server)
        assert found["state"] == "short"
        assert found["reason"].startswith("it_does_not_answer_(")
        assert found["seconds"].startswith("3")
        assert server.readiness() == (
            True,
            "single",
            f"there are no peers; the fill from 127.0.0.1:{port} did not come to its end",
        )


class Faulty:
    """A source that answers as it is told, by question."""

    def __init__(
        self,
        nursery: trio.Nursery,
        answer: Callable[[bytes], bytes | None],
        *,
        halt_at: int | None = None,
    ) -> None:
        """The question of that number, from 0, is not answered before `go_on` is set."""
        self._answer = answer
        self._nursery = nursery
        self._halt_at = halt_at
        self._questions = 0
        self.halted = False
        self.go_on = trio.Event()
        self.connections = 0

    async def start(self) -> str:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self._nursery.start_soon(trio.serve_listeners, self._serve, listeners)
        return f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        async with stream:
            async for data in stream:
                if self._questions == self._halt_at:
                    self.halted = True
                    await self.go_on.wait()
                self._questions += not data.startswith(b"version")
                if data.startswith(b"version"):
                    said: bytes | None = b"VERSION 1.6.45\r\n"
                else:
                    said = self._answer(bytes(data))
                if said is None:
                    return
                await stream.send_all(said)


LISTING = b"".join(
    b"key=%d exp=-1 la=%d cas=1 fetch=no cls=1 size=70\n" % (n, n) for n in range(99)
)


def all_of_it(question: bytes) -> bytes:
    if question.startswith(b"lru_crawler"):
        return LISTING + b"END\r\n"
    return b"VA 3 f0 t-1\r\nold\r\n" * question.count(b"\n")


async def test_it_goes_on_where_the_connection_broke(autojump_clock, nursery):
    left = 2

    def answer(question: bytes) -> bytes | None:
        nonlocal left
        if question.startswith(b"lru_crawler"):
            return LISTING + b"END\r\n"
        left -= 1
        if left == 0:
            return None
        return b"VA 3 f0 t-1\r\nold\r\n" * question.count(b"\n")

    source = await Faulty(nursery, answer).start()
    async with serving(clock=TrioClock(), fill_from=source) as server:
        await until(lambda: is_done(server))
        assert told(server)[-1].startswith("done: 99 of 99 items filled, after ")
        slab_class = next(each for each in server.service.cache.slabs if each.item_count)
        order = [int(item.key) for item in slab_class.cold]
        assert order == sorted(order, reverse=True), "those used last come first"
    nursery.cancel_scope.cancel()


async def test_a_source_that_is_busy_is_asked_again(autojump_clock, nursery):
    answers = [b"BUSY currently processing crawler request\r\n", LISTING + b"END\r\n"]

    def answer(question: bytes) -> bytes | None:
        if question.startswith(b"lru_crawler"):
            return answers.pop(0)
        return b"EN\r\n" * question.count(b"\n")

    source = await Faulty(nursery, answer).start()
    async with serving(clock=TrioClock(), fill_from=source) as server:
        await until(lambda: is_done(server))
        assert told(server)[-1].startswith("done: 0 of 99 items filled, 99 not found any more,")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"ERROR metadump not allowed\r\n", "it does not list its keys (it runs with -X or"),
        (b"HTTP/1.1 400 Bad Request\r\n", "it refuses: HTTP/1.1 400 Bad Request"),
        (None, "it does not answer (the connection was closed)"),
    ],
)
async def test_a_source_that_refuses(autojump_clock, nursery, said, why):
    source = await Faulty(nursery, lambda question: said).start()
    async with serving(clock=TrioClock(), fill_from=source) as server:
        await until(lambda: is_done(server))
        assert told(server)[-1].startswith(f"stopped, as {why}")
        assert server.service.cache.on_gone is None
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("tls", "why"),
    [
        (
            False,
            "the connection was closed at once: it may want TLS (--fill-from-tls), or speak the"
            " binary protocol alone",
        ),
        (True, "the connection was closed in the TLS handshake"),
    ],
)
async def test_a_source_that_closes_at_once(autojump_clock, nursery, tls, why):
    async def close(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, close, listeners)
    port = listeners[0].socket.getsockname()[1]
    source = f"127.0.0.1:{port}"
    async with serving(clock=TrioClock(), fill_from=source, fill_from_tls=tls) as server:
        await until(lambda: is_done(server))
        stopped = f"stopped, as it does not answer ({why}): 0 of 0 items filled"
        assert told(server)[-1].startswith(stopped)
    nursery.cancel_scope.cancel()


async def test_a_source_that_is_silent(autojump_clock, nursery):
    source = await Faulty(nursery, lambda question: b"").start()
    async with serving(clock=TrioClock(), fill_from=source) as server:
        await trio.sleep(filling.PATIENCE_S + 2 * filling.SILENCE_S)
        assert told(server)[-1].startswith("stopped, as it does not answer: 0 of 0 items filled,")
    nursery.cancel_scope.cancel()


async def test_how_far_it_is_is_told_now_and_then(autojump_clock, nursery, monkeypatch):
    monkeypatch.setattr(filling, "PAUSE_MIN_S", 4.0)

    source = await Faulty(nursery, all_of_it).start()
    async with serving(clock=TrioClock(), fill_from=source) as server:
        await until(lambda: is_done(server))
        numbers = [int(line.removesuffix(" of 99 items filled")) for line in told(server)[1:-1]]
        assert len(numbers) >= 4, "three pauses of 4 s are 10 s and more"
        assert all(
            0 < after - before <= 4 * filling.BATCH_ITEMS for before, after in pairwise(numbers)
        )
    nursery.cancel_scope.cancel()


async def test_a_server_that_stops_stops_filling(autojump_clock, nursery):
    source = await Faulty(nursery, lambda question: LISTING).start()
    async with serving(clock=TrioClock(), fill_from=source) as server:
        await trio.sleep(1)
        server.stop()
        await server.finished.wait()
        assert server.service.cache.on_gone is None
    nursery.cancel_scope.cancel()


async def client_of(server: Running) -> socket.socket:
    """Return a client that can send without giving way, once it was let in."""
    client = socket.create_connection(("127.0.0.1", server.port))
    await until(lambda: server.service.connections)
    return client


async def test_clients_are_served_between_two_items(autojump_clock, nursery, monkeypatch, loopback):
    """Who asks in the midst of a step waits for one item, and not for the step."""

    source = await Faulty(nursery, all_of_it).start()
    async with serving(clock=TrioClock(), fill_from=source) as server:
        cache = server.service.cache
        client = await client_of(server)
        usual = cache.store
        seen: list[int | bool] = []

        def store(*what, **more):
            # The client's requests come while an item is stored.
            client.send(b"get none\r\nmn\r\n")
            loopback.settle()
            answered = server.service.counters.bytes_written
            if seen:
                seen[-1] = answered > seen[-1]
            seen.append(answered)
            return usual(*what, **more)

        monkeypatch.setattr(cache, "store", store)
        await until(lambda: is_done(server))
        assert len(seen) == 99
        assert all(each is True for each in seen[:-1])
        client.close()
    nursery.cancel_scope.cancel()


async def test_a_flush_between_two_items_ends_it(autojump_clock, nursery, monkeypatch, loopback):
    source = await Faulty(nursery, all_of_it).start()
    async with serving(clock=TrioClock(), fill_from=source) as server:
        cache = server.service.cache
        client = await client_of(server)
        usual = cache.store

        def store(*what, **more):
            client.send(b"flush_all\r\n")
            loopback.settle()
            return usual(*what, **more)

        monkeypatch.setattr(cache, "store", store)
        await until(lambda: is_done(server))
        assert "stopped, as clients flushed everything: 1 of 99 items filled" in told(server)[-1]
        assert server.service.cache.item_count == 0
        client.close()
    nursery.cancel_scope.cancel()


class Processor:
    """What a thread has had of the processor, by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


async def test_a_pace_rests_by_what_a_step_took(autojump_clock):
    processor = Processor()
    pace = filling.Pace(processor)
    assert not pace.spent
    processor.s += 0.01

    def serve() -> bool:
        processor.s += 5
        return True

    async def wait() -> None:
        processor.s += 7
        await trio.sleep(1)

    assert pace.spent
    assert pace.aside(serve)
    await pace.wait(wait)
    processor.s += 0.01
    began = trio.current_time()
    await pace.rest()
    assert trio.current_time() - began == pytest.approx(0.02 * filling.PAUSE_FACTOR)
    assert not pace.spent
    began = trio.current_time()
    await pace.rest()
    assert trio.current_time() - began == pytest.approx(filling.PAUSE_MIN_S)


async def test_a_step_stores_as_much_as_it_may(autojump_clock, nursery, monkeypatch):
    """Where an item takes long, each one is a step."""
    monkeypatch.setattr(filling, "STEP_S", 0.0)
    monkeypatch.setattr(filling, "PAUSE_MIN_S", 1.0)

    source = await Faulty(nursery, all_of_it).start()
    async with serving(clock=TrioClock(), fill_from=source) as server:
        await until(lambda: is_done(server))
        assert float(told(server)[-1].rsplit("after ", 1)[1].split()[0]) >= 99
    nursery.cancel_scope.cancel()


# -- a pair ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ack", ["semi", "async", "strict"])
async def test_what_is_filled_is_replicated(ack, autojump_clock):
    async with serving(clock=ManualClock()) as source:
        put(source)
        source.service.cache.store(StoreMode.SET, b"large", LARGE, 7)
        async with pair(fill_from=f"127.0.0.1:{source.port}", replication_ack=ack) as (a, b):
            await until(lambda: {role(a), role(b)} == {"coordinator", "follower"})
            await until(lambda: is_done(a) and is_done(b))
            leader, follower = (a, b) if role(a) == "coordinator" else (b, a)
            assert told(leader)[-1].startswith(f"done: {NUMBER + 1} of {NUMBER + 1} items filled")
            expected = photograph(source)
            assert photograph(leader) == expected
            await until(lambda: follower.service.cache.item_count == NUMBER + 1)
            assert photograph(follower) == expected
            for each in (leader, follower):
                assert each.peering is not None
                each.peering.node.check()


async def test_who_follows_leaves_it_to_the_one_that_coordinates(autojump_clock, monkeypatch):
    monkeypatch.setattr(filling, "PAUSE_MIN_S", 0.5)
    async with serving(clock=ManualClock()) as source:
        put(source)
        async with pair(fill_from=f"127.0.0.1:{source.port}") as (a, b):
            await until(lambda: {role(a), role(b)} == {"coordinator", "follower"})
            leader, follower = (a, b) if role(a) == "coordinator" else (b, a)
            await until(lambda: 0 < follower.service.cache.item_count < NUMBER)
            assert follower.service.cache.on_gone is None
            stream = await follower.connect()
            key = next(
                b"%d" % number
                for number in range(NUMBER)
                if leader.service.cache.linked(b"%d" % number) is None
            )
            # What a client of the other node deletes does not come either.
            assert await ask(stream, b"delete %b\r\n" % key) == b"NOT_FOUND\r\n"
            monkeypatch.setattr(filling, "PAUSE_MIN_S", 0.0)
            await until(lambda: is_done(leader))
            assert (
                f"{NUMBER - 1} of {NUMBER} items filled, 1 deleted by clients" in told(leader)[-1]
            )
            for server in (leader, follower):
                assert server.service.cache.inspect(key) is None


async def test_who_decides_no_longer_stops(autojump_clock, monkeypatch):
    monkeypatch.setattr(filling, "PAUSE_MIN_S", 0.5)
    async with serving(clock=ManualClock()) as source:
        put(source)
        async with pair(fill_from=f"127.0.0.1:{source.port}") as (a, b):
            await until(lambda: {role(a), role(b)} == {"coordinator", "follower"})
            leader, follower = (a, b) if role(a) == "coordinator" else (b, a)
            await until(lambda: 0 < leader.service.cache.item_count < NUMBER)
            leader.stop()
            await leader.finished.wait()
            assert leader.service.cache.on_gone is None
            assert not any(line.startswith("done") for line in told(leader) + told(follower))
            assert told(leader)[-1].startswith("stopped, as this server stops: ")
            await until(lambda: len(told(follower)) > 1)
            assert told(follower) == [
                "left to the node that coordinates",
                "the node that filled is gone; if its log does not say that the fill was done,"
                " pymcd dump and pymcd load bring the rest",
            ]
            found = rows(follower)
            assert (found["state"], found["reason"]) == ("short", "the_node_that_filled_is_gone")
            assert rows(leader)["state"] == "stopped"
            assert follower.readiness().ready
            assert follower.readiness().reason.endswith(
                f"; the node that filled from 127.0.0.1:{source.port} is gone, perhaps too early"
            )
            filled = follower.service.cache.item_count
            await trio.sleep(10)
            assert follower.service.cache.item_count == filled


def source_settings(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    """Return the settings of a source that wants TLS, and a login by text."""
    users = tmp_path / "users"
    users.write_bytes(b"alice:pa:ss word\n")
    others = {"auth_file": str(users), "protocol": "ascii", **settings}
    return shared_authority().settings(**others)


def fill_settings(source: Running, **settings: Any) -> dict[str, Any]:
    return {
        "clock": TrioClock(),
        "fill_from": f"{HOST}:{source.port}",
        "fill_from_ca_file": shared_authority().ca_file,
        "fill_login": b"alice pa:ss word",
        **settings,
    }


async def test_a_source_that_wants_tls_and_a_login(autojump_clock, tmp_path):
    async with serving(clock=TrioClock(), **source_settings(tmp_path)) as source:
        put(source)
        source.service.cache.store(StoreMode.SET, b"large", LARGE, 0, 0)
        async with serving(**fill_settings(source)) as server:
            await until(lambda: is_done(server))
            assert f"done: {NUMBER + 1} of {NUMBER + 1} items filled" in told(server)[-1]
            assert photograph(server) == photograph(source)


async def test_a_source_that_wants_to_see_a_certificate(autojump_clock, tmp_path):
    authority = shared_authority()
    wants = source_settings(tmp_path, ssl_verify_mode=2, ssl_ca_cert=authority.ca_file)
    async with serving(clock=TrioClock(), **wants) as source:
        put(source)
        own = authority.settings(enable_ssl=False)
        async with serving(**fill_settings(source, **own)) as server:
            await until(lambda: is_done(server))
            assert told(server)[-1].startswith(f"done: {NUMBER} of {NUMBER} items filled")
        async with serving(**fill_settings(source)) as server:
            await until(lambda: is_done(server))
            assert told(server)[-1].startswith(
                "stopped, as it cannot be talked to by TLS (tlsv13 alert certificate required): 0"
            )


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"fill_login": b""}, "it wants a login (--fill-from-login-file)"),
        ({"fill_login": b"alice pa"}, "it refuses the login"),
        ({"fill_from_ca_file": None, "fill_from_tls": True}, "it cannot be talked to by TLS ("),
        ({"fill_from_ca_file": None}, "it does not answer (the connection was closed at once: it"),
    ],
)
async def test_a_source_that_lets_nobody_in_so(autojump_clock, tmp_path, changed, why):
    async with serving(clock=TrioClock(), **source_settings(tmp_path)) as source:
        put(source)
        async with serving(**fill_settings(source, **changed)) as server:
            await until(lambda: is_done(server))
            assert told(server)[-1].startswith(f"stopped, as {why}")
            assert server.service.cache.item_count == 0


async def test_a_source_is_to_be_who_it_is_called(autojump_clock, tmp_path):
    async with serving(clock=TrioClock(), **source_settings(tmp_path)) as source:
        address = f"127.0.0.1:{source.port}"
        async with serving(**fill_settings(source, fill_from=address)) as server:
            await until(lambda: is_done(server))
            assert told(server)[-1].startswith(
                "stopped, as it cannot be talked to by TLS (certificate verify failed: IP address"
                " mismatch, certificate is not valid for '127.0.0.1'): 0 of 0 items filled"
            )


async def test_a_source_without_tls(autojump_clock):
    async with serving(clock=TrioClock()) as source, serving(**fill_settings(source)) as server:
        await until(lambda: is_done(server))
        assert told(server)[-1].startswith("stopped, as it cannot be talked to by TLS (")


async def test_a_login_that_nobody_wants_is_no_item(autojump_clock):
    async with serving(clock=TrioClock()) as source:
        put(source)
        login = {"fill_from_ca_file": None}
        async with serving(**fill_settings(source, **login)) as server:
            await until(lambda: is_done(server))
            assert told(server)[-1].startswith(f"done: {NUMBER} of {NUMBER} items filled")
            assert source.service.cache.item_count == NUMBER
