"""The service by itself: what it makes of its settings, whom it knows, what it asks of its host."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from pymcd.config import Settings
from pymcd.service import Host, Service

from .clocks import ManualClock
from .hosts import lend, make_host
from .protocol.helpers import Client, make_service

if TYPE_CHECKING:
    from pymcd.replication.gate import Gate

VERSION = b"VERSION 1.6.45\r\n"


def stats(client: Client, *words: bytes) -> dict[str, str]:
    lines = client.send(b" ".join((b"stats", *words)) + b"\r\n").decode().splitlines()
    return dict(line.split(" ")[1:3] for line in lines if line.startswith("STAT"))


# -- the host --------------------------------------------------------------------------------------


def test_a_host_leaves_nothing_out() -> None:
    whole = {field.name: getattr(make_host(), field.name) for field in fields(Host)}
    assert Host(**whole)
    for name in whole:
        less = {other: value for other, value in whole.items() if other != name}
        with pytest.raises(TypeError, match=name):
            Host(**less)


def test_a_host_does_not_change() -> None:
    host = make_host()
    with pytest.raises(FrozenInstanceError):
        host.log_line = print  # type: ignore[misc]


def test_the_log_is_the_hosts() -> None:
    lines: list[str] = []
    client = Client(verbose=1)
    lend(client.service, log_line=lines.append)
    client.send(b"cache_memlimit 100\r\n")
    assert lines == ["maxbytes adjusted to 100m"]


@pytest.mark.parametrize(
    "command",
    [
        b"lru_crawler crawl all\r\n",
        b"cache_memlimit 100\r\n",
        b"slabs automove 1\r\n",
        b"flush_all\r\n",
    ],
)
def test_commands_that_leave_work_wake_the_maintainer(command: bytes) -> None:
    woken: list[bool] = []
    service = Service(
        Settings(), ManualClock(), make_host(wake_maintainer=lambda: woken.append(True))
    )
    client = Client(service)
    client.send(b"set a 0 -1 1\r\n1\r\n")
    woken.clear()
    client.send(command)
    assert woken


def test_counters_of_the_host_are_zeroed_and_what_it_tells_stays() -> None:
    client = Client(idle_timeout_s=5)
    reception = client.service.host.reception
    reception.listening[3] = "tcp:127.0.0.1:11211"
    reception.accepting = False
    counters = client.service.counters
    counters.rejected_connections = 1
    counters.listen_disabled = 2
    counters.listen_disabled_us = 3
    counters.idle_kicks = 4
    names = [
        "rejected_connections",
        "listen_disabled_num",
        "time_in_listen_disabled_us",
        "idle_kicks",
    ]
    values = stats(client)
    assert [values[name] for name in names] == ["1", "2", "3", "4"]
    assert client.send(b"stats reset\r\n") == b"RESET\r\n"
    values = stats(client)
    assert [values[name] for name in names] == ["0"] * 4
    assert values["accepting_conns"] == "0"
    assert stats(client, b"conns")["3:addr"] == "tcp:127.0.0.1:11211"


# -- settings --------------------------------------------------------------------------------------


def test_what_may_change_begins_as_a_setting() -> None:
    client = Client(verbose=1, reqs_per_event=7, slab_automove=0, lru_crawler_sleep_us=5)
    values = stats(client, b"settings")
    names = ["verbosity", "reqs_per_event", "slab_automove", "lru_crawler_sleep"]
    assert [values[name] for name in names] == ["1", "7", "0", "5"]
    client.send(b"verbosity 0\r\nslabs automove 1\r\nlru_crawler sleep 9\r\n")
    values = stats(client, b"settings")
    assert [values[name] for name in names] == ["0", "7", "1", "9"]
    assert client.service.settings.verbose == 1, "as it was asked for"


def test_detail_may_be_on_from_the_start() -> None:
    client = Client(detail_enabled=True)
    client.send(b"get a:1\r\n")
    assert client.send(b"stats detail dump\r\n") == b"PREFIX a get 1 hit 0 set 0 del 0\r\nEND\r\n"


# -- clients ---------------------------------------------------------------------------------------


def test_clients_are_counted() -> None:
    service = make_service()
    clients = [Client(service) for _ in range(3)]
    service.disconnected(clients[2].connection)
    service.disconnected(clients[1].connection)
    values = stats(clients[0])
    names = ["curr_connections", "total_connections", "connection_structures"]
    assert [values[name] for name in names] == ["1", "3", "3"]
    clients[0].send(b"stats reset\r\n")
    values = stats(clients[0])
    assert [values[name] for name in names] == ["1", "0", "3"]


def test_whoever_is_gone_watches_no_more() -> None:
    service = make_service()
    watcher, other = Client(service), Client(service)
    watcher.send(b"watch fetchers connevents\r\n")
    other.send(b"get a\r\n")
    assert b"type=item_get" in watcher.receive()
    service.tick()
    assert not service.plain
    service.disconnected(watcher.connection)
    service.tick()
    assert service.plain
    other.send(b"get a\r\n")
    assert watcher.receive() == b""


def test_watchers_hear_of_those_who_come_and_go() -> None:
    service = make_service()
    watcher = Client(service)
    watcher.send(b"watch connevents\r\n")
    guest = Client(service)
    guest.connection.close("idle_timeout")
    service.disconnected(guest.connection)
    came, went = watcher.receive().splitlines()
    assert b"type=conn_new rip=127.0.0.1 rport=40011 transport=tcp" in came
    assert b"type=conn_close" in went
    assert b"reason=idle_timeout" in went


def test_however_a_watcher_goes_that_is_an_error() -> None:
    service = make_service()
    watcher, other = Client(service), Client(service)
    watcher.send(b"watch connevents\r\n")
    other.send(b"watch fetchers\r\n")
    service.disconnected(other.connection)
    assert b"reason=error" in watcher.receive()


# -- turns -----------------------------------------------------------------------------------------


def respond(client: Client, data: bytes) -> bytes | None:
    return client.connection.respond(data)


def test_a_turn_has_one_time() -> None:
    clock = ManualClock()
    service = make_service(clock)
    client = Client(service)
    service.tick()
    assert respond(client, b"set a 0 10 1\r\nx\r\n") == b"STORED\r\n"
    clock.advance(11)
    assert respond(client, b"get a\r\n") == b"VALUE a 0 1\r\nx\r\nEND\r\n", "the same turn"
    service.tick()
    assert respond(client, b"get a\r\n") == b"END\r\n"


def test_a_watcher_misses_nothing_of_the_turn_in_which_it_comes() -> None:
    service = make_service()
    watcher, other = Client(service), Client(service)
    assert respond(other, b"version\r\n") == VERSION
    service.tick()
    assert service.plain
    watcher.send(b"watch fetchers\r\n")
    assert respond(other, b"get a\r\n") == b"END\r\n"
    assert b"key=a" in watcher.receive()


def test_at_vv_no_command_is_answered_unseen() -> None:
    client = Client()
    service = client.service
    for level, plain in ((1, True), (2, False), (0, True)):
        client.send(b"verbosity %d\r\n" % level)
        service.tick()
        assert service.plain is plain


def test_a_gate_hears_of_each_turn() -> None:
    service = make_service()
    ticks: list[bool] = []
    service.gate = cast("Gate", SimpleNamespace(tick=lambda: ticks.append(True)))
    service.tick()
    service.tick()
    assert ticks == [True, True]


def test_evictions_reach_watchers_and_the_automover() -> None:
    service = make_service(memory_limit_bytes=2 << 20, item_size_max_bytes=1 << 20)
    watcher, client = Client(service), Client(service)
    watcher.send(b"watch evictions\r\n")
    for number in range(20):
        request = b"set k%d 0 0 200000\r\n%b\r\n" % (number, bytes(200_000))
        assert client.send(request) == b"STORED\r\n"
    told = watcher.receive().splitlines()
    evictions = int(stats(client)["evictions"])
    assert evictions > 0
    assert len(told) == evictions
    assert b"type=eviction key=k0 " in told[0]


def test_every_counter_is_reset() -> None:
    """`stats reset` zeroes what was counted, wherever it is kept."""
    client = Client(memory_limit_bytes=8 << 20)
    client.send(b"set a 0 -1 1\r\nx\r\nget a\r\nlru_crawler crawl all\r\n")
    while client.service.crawler.running:
        client.service.maintainer.step()
    names = ["cmd_get", "lru_crawler_starts", "lru_maintainer_juggles", "total_connections"]
    assert all(int(stats(client)[name]) for name in names)
    client.send(b"stats reset\r\n")
    assert [stats(client)[name] for name in names] == ["0"] * len(names)
