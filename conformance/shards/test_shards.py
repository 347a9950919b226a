"""The trials, shortened: what is right must hold here as well; how long it took is not judged."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from conformance.front import haproxy
from conformance.trial import Run, TrialError, check

from . import page, twemproxy
from .__main__ import TRIALS
from .clients import Failed, why_no_java
from .load import Load
from .topology import Shards

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a trial needs besides HAProxy.
NEEDS = {
    "spymemcached": (why_no_java,),
    "twemproxy": (twemproxy.why_not,),
    "proxied": (twemproxy.why_not, why_no_java),
    "freeze": (twemproxy.why_not,),
    "commands": (twemproxy.why_not,),
}
NO_HAPROXY_NEEDED = ("commands", "growth")

#: Name, how often, the part of it that is done.
QUICK = [("ketama", 1, 0.2), ("twemproxy", 1, 0.2), ("commands", 1, 1.0)]
SLOW = [
    ("ketama", 3, 1.0),
    ("pymemcache", 3, 1.0),
    ("spymemcached", 3, 1.0),
    ("twemproxy", 3, 1.0),
    ("proxied", 2, 1.0),
    ("freeze", 1, 1.0),
    ("eject", 1, 1.0),
    ("growth", 1, 1.0),
]


def _try(name: str, trials: int, scale: float) -> None:
    needed = NEEDS.get(name, ())
    if name not in NO_HAPROXY_NEEDED:
        needed = (haproxy.why_not, *needed)
    for why_not in needed:
        if reason := why_not():
            pytest.skip(reason)
    check(TRIALS[name], trials, scale)


@pytest.mark.parametrize(("name", "trials", "scale"), QUICK, ids=[row[0] for row in QUICK])
def test_trial(name: str, trials: int, scale: float) -> None:
    _try(name, trials, scale)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "trials", "scale"), SLOW, ids=[row[0] for row in SLOW])
def test_long_trial(name: str, trials: int, scale: float) -> None:
    _try(name, trials, scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ketama", "pymemcache"])
def test_loss_would_be_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A shard that is one server has nothing left when that dies.
    monkeypatch.setattr(Shards, "single", "pymcd")
    run = Run(trials=1, scale=0.2)
    TRIALS[name](run)
    short = [figure.what for figure in run.figures if not figure.passes]
    assert any("acknowledged writes lost" in what for what in short)


# -- what the trials are made of -----------------------------------------------------------------


class _Dict:
    """A client of a store that can be told to fail."""

    def __init__(self) -> None:
        self.items: dict[bytes, bytes] = {}
        self.failing = False

    def _may_fail(self) -> None:
        if self.failing:
            raise Failed("as told")

    def set(self, key: bytes, value: bytes) -> None:
        self._may_fail()
        self.items[key] = value

    def get(self, key: bytes) -> bytes | None:
        self._may_fail()
        return self.items.get(key)

    def delete(self, key: bytes) -> None:
        self._may_fail()
        self.items.pop(key, None)

    def close(self) -> None:
        pass


def _load(store: _Dict) -> Load:
    load = Load(lambda: store, random.Random(1))

    def homes(keys: Sequence[bytes]) -> dict[bytes, int]:
        return {key: number % 2 for number, key in enumerate(keys)}

    load.fill(homes)
    return load


def _act(load: Load, times: int) -> None:
    for _ in range(times):
        for writer in load.writers:
            writer.act()


def test_load_finds_nothing_wrong_where_nothing_is() -> None:
    store = _Dict()
    load = _load(store)
    _act(load, 200)
    store.failing = True
    _act(load, 10)
    store.failing = False
    _act(load, 200)
    assert load.wrong == []
    assert load.false_misses == 0
    assert load.missing(0, store.items) == load.missing(1, store.items) == []
    failed = [each for each in load.timings([0, 1]) if each.error]
    assert len(failed) == 10 * len(load.writers)


def test_load_notices_what_is_gone_and_what_is_old() -> None:
    store = _Dict()
    load = _load(store)
    old = dict(store.items)
    _act(load, 300)
    assert len(load.missing(0, old)) > 100
    assert len(load.missing(0, {})) > 200
    assert len(load.missing(0, {})) + len(load.missing(1, {})) <= len(load.keys)
    store.items = old
    _act(load, 300)
    assert len(load.wrong) > 100


def test_load_tells_a_false_miss_from_a_loss() -> None:
    store = _Dict()
    load = _load(store)
    held, store.items = store.items, {}
    writer = load.writers[0]
    while not writer.timings or writer._missed == set():
        writer.act()
    (key,) = writer._missed
    store.items = held | store.items
    while key in writer._missed:
        writer.act()
    assert writer.false_misses == 1
    assert writer.wrong == []


def test_outage_ends_with_the_first_answer() -> None:
    store = _Dict()
    load = _load(store)
    _act(load, 5)
    before_s = load.outage_s(0)
    store.failing = True
    _act(load, 50)
    assert load.outage_s(0) == before_s
    store.failing = False
    _act(load, 50)
    assert load.outage_s(0) > before_s


@pytest.mark.parametrize("language", ["python", "yaml", "java"])
def test_addresses_of_the_page_are_replaced_or_taken_out(language: str) -> None:
    text = page.addressed(page.block(language), ["here:1", "there:2"])
    assert "here:1" in text
    assert "there:2" in text
    assert "10.0." not in text
    with pytest.raises(TrialError, match="no longer"):
        page.addressed(text, ["here:1"])


def test_setting_that_the_page_no_longer_has() -> None:
    with pytest.raises(TrialError, match="no longer"):
        page.changed(page.block("yaml"), ("nothing of the kind", ""))
