"""Another pair joins, or one gets another address: how many keys move, by which way of spreading.

Where a key is, is looked up on the servers, which are single ones here: what dies is no matter.
"""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from conformance.pair.load import read
from conformance.pair.nodes import Node
from conformance.servers import PYMCD, Server
from conformance.trial import TrialError, free_port

from . import page
from .clients import (
    through_twemproxy,
    why_no_java,
    with_pylibmc,
    with_pymemcache,
    with_spymemcached,
)
from .twemproxy import documented, why_not

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.trial import Run

    from .clients import Maker

#: Per cent of all keys that move when a third pair joins two. Even shares would mean a third.
FEW, MANY = 50.0, 55.0
#: What one of three shards may have more than another, per cent of all keys.
UNEVEN = 15.0

Places = dict[bytes, int]


def growth(run: Run) -> None:
    """A third pair joins two: the share of keys that move, by ketama and by modula."""
    keys = _keys(run.count(1500))
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(PYMCD)) for _ in range(3)]
        places: dict[str, Places] = {}
        for name, maker, bar, at_least in _ways():
            before = _places(servers[:2], maker, keys)
            after = places[name] = _places(servers, maker, keys)
            share = sum(before[key] != after[key] for key in keys) / len(keys)
            run.figure(f"{name}: keys that move", share * 100, bar, "%", at_least=at_least)
        for name, found in places.items():
            counts = Counter(found.values())
            most, least = (pick(counts[shard] for shard in range(3)) for pick in (max, min))
            bar = None if "fnv1a" in name or "modula" in name else UNEVEN
            uneven = (most - least) / len(keys) * 100
            run.figure(f"{name}: fullest shard less emptiest, of all keys", uneven, bar, "%")
        run.figure(
            "keys that two ways of ketama put in one place, at most", _agreeing(places), unit="%"
        )
        if not why_not():
            _another_address(run, servers, keys)


def _keys(count: int) -> list[bytes]:
    """Keys as applications make them, which differ in their last digits only."""
    return [b"user:%d" % number for number in range(count)]


def _ways() -> list[tuple[str, Maker, float | None, bool]]:
    """Name, maker, bar for the share of keys that move, whether that is the least."""
    ways: list[tuple[str, Maker, float | None, bool]] = [
        ("pylibmc ketama", with_pylibmc(), FEW, False),
        ("pylibmc modula", with_pylibmc(('"ketama": True', '"ketama": False')), MANY, True),
        ("pymemcache rendezvous", with_pymemcache(), FEW, False),
    ]
    if not why_not():
        modula = page.changed(documented(), ("distribution: ketama", "distribution: modula"))
        fnv1a = page.changed(documented(), ("hash: md5", "hash: fnv1a_64"))
        ways += [
            ("twemproxy ketama", through_twemproxy(), FEW, False),
            ("twemproxy modula", through_twemproxy(modula), MANY, True),
            ("twemproxy ketama with fnv1a_64", through_twemproxy(fnv1a), None, False),
        ]
    if not why_no_java():
        ways.append(("spymemcached ketama", with_spymemcached(), FEW, False))
    return ways


def _places(servers: Sequence[Server], maker: Maker, keys: Sequence[bytes]) -> Places:
    """Store all keys through a client; return which server has each."""
    for server in servers:
        server.tell(b"flush_all\r\n")
    with maker([server.address for server in servers]) as make:
        client = make()
        for key in keys:
            client.set(key, b"x")
        client.close()
    places: Places = {}
    for number, server in enumerate(servers):
        found = read(Node(PYMCD, port=server.port), keys)
        places |= dict.fromkeys(found, number)
    if len(places) != len(keys):
        raise TrialError(f"{len(keys) - len(places)} keys are nowhere")
    return places


def _agreeing(places: dict[str, Places]) -> float:
    """Return what two ways agree about at most, per cent: could their clients be mixed?"""
    found = [each for name, each in places.items() if name.endswith("ketama")]
    shares = (
        sum(one[key] == other[key] for key in one) / len(one) * 100
        for one, other in itertools.combinations(found, 2)
    )
    return max(shares, default=0.0)


def _another_address(run: Run, servers: Sequence[Server], keys: Sequence[bytes]) -> None:
    """Give one shard another address: with names nothing moves."""
    text = documented()
    nameless = page.changed(text, *((f" pair-{number}", "") for number in (1, 2, 3)))
    with Server(PYMCD, ("-p", str(free_port()))) as other:
        moved = [other, *servers[1:]]
        for what, configuration, bar in (("names", text, 0.0), ("no names", nameless, None)):
            maker = through_twemproxy(configuration)
            before = _places(servers, maker, keys)
            after = _places(moved, maker, keys)
            share = sum(before[key] != after[key] for key in keys) / len(keys) * 100
            run.figure(
                f"twemproxy, a pair at another address, {what}: keys that move", share, bar, "%"
            )
