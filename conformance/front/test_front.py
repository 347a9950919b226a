"""What stands in front of a pair, shortened: what is right must hold; times are not judged."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from conformance.pair import namespaces
from conformance.pair.nodes import Node, Pair
from conformance.pair.ways import WAYS, Address
from conformance.servers import PYMCD, Server
from conformance.trial import TrialError, check, free_port

from . import haproxy, keepalived
from .__main__ import TRIALS
from .addresses import LIBRARIES, addressed
from .haproxy import HAProxy, active_active, by_readyz, checked, documented, led_back
from .watch import History, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Name, how often, the part of it that is done.
QUICK = [("kill", 1, 0.2), ("freeze", 1, 0.2)]
SLOW = [
    ("kill", 3, 1.0),
    ("freeze", 1, 1.0),
    ("both", 1, 1.0),
    ("stay", 2, 0.4),
    ("proxy", 1, 0.3),
    ("vanish", 1, 1.0),
    ("keepalived", 1, 0.5),
    ("addresses", 1, 1.0),
    ("restarts", 1, 1.0),
]
#: Say why a trial cannot be had here. Libraries that are missing are left out.
REASONS: dict[str, Callable[[], str]] = {
    **dict.fromkeys(("kill", "freeze", "both", "stay", "proxy"), haproxy.why_not),
    "vanish": lambda: haproxy.why_not() or namespaces.why_not(),
    "keepalived": keepalived.why_not,
    "addresses": lambda: "",
    "restarts": lambda: "",
}

needs_haproxy = pytest.mark.skipif(bool(haproxy.why_not()), reason=haproxy.why_not())


def _try(name: str, trials: int, scale: float) -> None:
    check(TRIALS[name], trials, scale)


@needs_haproxy
@pytest.mark.parametrize(("name", "trials", "scale"), QUICK, ids=[row[0] for row in QUICK])
def test_trial(name: str, trials: int, scale: float) -> None:
    _try(name, trials, scale)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "trials", "scale"), SLOW, ids=[row[0] for row in SLOW])
def test_long_trial(name: str, trials: int, scale: float) -> None:
    if reason := REASONS[name]():
        pytest.skip(reason)
    _try(name, trials, scale)


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_haproxy
@pytest.mark.parametrize("way", ["login", "sasl", "tls-sasl"])
@pytest.mark.parametrize("name", ["kill", "freeze"])
def test_trial_in_other_ways(monkeypatch: pytest.MonkeyPatch, name: str, way: str) -> None:
    monkeypatch.setattr(Pair, "usual_way", WAYS[way])
    check(TRIALS[name], 1, 0.3)


@pytest.fixture
def strangers() -> Iterator[list[Server]]:
    """Two servers that know nothing of each other: no pair."""
    with Server(PYMCD) as first, Server(PYMCD) as second:
        yield [first, second]


@needs_haproxy
@pytest.mark.parametrize("changed", [str, active_active, led_back])
def test_configurations_are_taken_without_a_warning(changed: Callable[[str], str]) -> None:
    with HAProxy([1, 2], changed(documented())) as proxy:
        assert not [line for line in proxy.log().splitlines() if "config" in line]


@needs_haproxy
@pytest.mark.parametrize("name", ["login", "sasl", "tls-login"])
def test_checks_of_servers_that_want_a_login(name: str) -> None:
    way = WAYS[name]
    with (
        Server(PYMCD, way.switches(), way.environment()) as server,
        HAProxy([server.port] * 2, checked(documented(), way)) as proxy,
    ):
        proxy.wait_up()
    with Server(PYMCD) as server, HAProxy([server.port] * 2, checked(documented(), way)) as proxy:
        assert name == "sasl" or not any(each.up for each in proxy.backends())


@needs_haproxy
def test_who_says_that_it_is_about_to_stop_is_left_before_it_stops() -> None:
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(
                Server(PYMCD, ("--http", f"127.0.0.1:{port}", "--drain-delay", "30"))
            )
            for port in ports
        )
        text = by_readyz(documented(), ports)
        assert "tcp-check" not in text
        proxy = stack.enter_context(HAProxy([first.port, second.port], text))
        proxy.wait_up()
        client = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), 10.0))
        client.sendall(b"version\r\n")
        assert client.recv(100).startswith(b"VERSION")
        os.kill(first.pid, signal.SIGTERM)
        assert client.recv(100) == b""  # HAProxy leads it elsewhere
        assert first.answers()
        assert not proxy.backends()[0].up
        with socket.create_connection(("127.0.0.1", proxy.port), 10.0) as client:
            client.sendall(b"version\r\n")
            assert client.recv(100).startswith(b"VERSION")


@needs_haproxy
def test_refused_configuration_leaves_nothing_behind() -> None:
    proxy = HAProxy([1, 2], documented() + "    nonsense\n")
    with pytest.raises(TrialError, match="unknown keyword 'nonsense'"):
        proxy.start()
    with pytest.raises(AssertionError):
        proxy.log()


@needs_haproxy
def test_loss_would_be_noticed(strangers: list[Server]) -> None:
    first, second = strangers
    fixed = {b"fixed": b"value"}
    first.tell(b"set fixed 0 0 5\r\nvalue\r\n")
    with HAProxy([first.port, second.port]) as proxy:
        watch = Watch([Address(proxy.port)], random.Random(1), fixed=fixed)
        with watch:
            time.sleep(0.5)
            watch.fault()
            first.stop()
            time.sleep(1.5)
    assert watch.connections_lost >= 12
    assert any(line.startswith("crowd") for line in watch.stale)
    watch.compare([Node(PYMCD, port=second.port)])
    assert "fixed at node0: nothing, not write 1 or a later one" in watch.lost


@needs_haproxy
@pytest.mark.parametrize(("text", "used"), [(documented(), 1), (active_active(documented()), 2)])
def test_nodes_are_used_as_documented(strangers: list[Server], text: str, used: int) -> None:
    with (
        HAProxy([server.port for server in strangers], text) as proxy,
        Watch([Address(proxy.port)], random.Random(1)),
    ):
        time.sleep(0.3)
        connections = [each.connections for each in proxy.backends()]
    assert sum(connections) == 12
    assert sum(number > 0 for number in connections) == used


@pytest.mark.parametrize(
    ("found", "since", "wrong"),
    [
        (b"two", 2, ""),
        (b"three", 2, ""),
        (None, 2, "nothing, not write 2 or a later one"),
        (b"one", 2, "write 1, which had been given up, not write 2 or a later one"),
        (b"one", 1, ""),
        (None, 0, ""),
        (b"four", 0, "b'four', which nobody wrote"),
    ],
)
def test_history_knows_what_is_stale(found: bytes | None, since: int, wrong: str) -> None:
    history = History([None, b"one", b"two", b"three"], acknowledged=2, given_up={1})
    assert history.judge(found, since) == wrong


@pytest.mark.parametrize("name", LIBRARIES)
def test_lines_of_every_client_get_other_addresses(name: str) -> None:
    lines = addressed(LIBRARIES[name].lines(), [1, 2])
    assert "10.0.0." not in lines
    assert lines.count("127.0.0.1") == 2


def test_lines_without_an_address_are_refused() -> None:
    with pytest.raises(TrialError, match="no address of node 6"):
        addressed('["10.0.0.5:11211"]', [1, 2])


def test_configuration_without_an_address_is_refused() -> None:
    with pytest.raises(TrialError, match=r"no longer speaks of 10\.0\.0\.4"):
        HAProxy([1, 2], "bind 10.0.0.9:11211").configuration()


def test_moving_address_is_documented() -> None:
    configuration, script = keepalived.documented()
    assert "nopreempt" in configuration
    assert script.startswith("#!/bin/bash")
