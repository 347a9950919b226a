"""The trials of sessions, shortened: what is right must hold here as well."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from conformance.front import haproxy
from conformance.trial import Run, TrialError, check

from . import clients, copied, php
from .__main__ import APPLICATIONS
from .app import App, Kind
from .trials import TRIALS, run_all

if TYPE_CHECKING:
    from .app import Setting

KINDS = {
    kind.name: kind
    for module in APPLICATIONS.values()
    for kind in importlib.import_module(module).KINDS
}
#: Kind, trial, how often, the part of it that is done.
QUICK = [
    ("django pymemcache repeating", "kills", 2, 0.2),
    ("flask pylibmc repeating", "kills", 2, 0.2),
    ("django pylibmc repeating", "alone", 1, 0.3),
    ("php", "alone", 1, 0.3),
    ("php", "kills", 2, 0.2),
    ("rack", "kills", 2, 0.2),
]

#: Whatever is meant to lose nothing.
SLOW = [
    (name, trial)
    for name, kind in KINDS.items()
    if kind.recommended
    for trial in TRIALS
    if trial != "lone"
]


def _try(kind: Kind, name: str, trials: int, scale: float) -> None:
    if reason := kind.why_not():
        pytest.skip(reason)
    if name not in {"alone", "lone"} and not kind.two_addresses and (reason := haproxy.why_not()):
        pytest.skip(reason)
    check(lambda run: TRIALS[name](run, kind), trials, scale)


@pytest.mark.parametrize(("name", "trial", "trials", "scale"), QUICK)
def test_trial(name: str, trial: str, trials: int, scale: float) -> None:
    if name not in KINDS:
        pytest.skip(f"no application of {name}")
    _try(KINDS[name], trial, trials, scale)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "trial"), SLOW)
def test_long_trial(name: str, trial: str) -> None:
    _try(KINDS[name], trial, 4, 0.5)


def test_loss_would_be_noticed() -> None:
    # One server that comes back empty: the same users must miss their sessions.
    _try(KINDS["flask pymemcache repeating"], "lone", 1, 0.3)


def test_missing_lock_would_be_noticed() -> None:
    kind = replace(KINDS["php-unlocked"], locking=True)
    if reason := kind.why_not():
        pytest.skip(reason)
    run = Run(scale=0.1)
    TRIALS["alone"](run, kind)
    short = {figure.what for figure in run.figures if not figure.passes}
    assert f"{kind.name}: pymcd: counts at once that are missing" in short


@pytest.mark.slow
def test_what_is_not_waited_for_is_lost() -> None:
    # A client that does not wait for the answer to a `set`: no server can keep that promise.
    kind = replace(KINDS["flask pymemcache noreply"], recommended=True, silent=False)
    if reason := kind.why_not() or haproxy.why_not():
        pytest.skip(reason)
    run = Run(trials=2, scale=0.5)
    TRIALS["kills"](run, kind)
    assert [figure.what for figure in run.figures if not figure.passes] == [
        f"{kind.name}: kill -9: lost"
    ]


# -- what the trials are made of -----------------------------------------------------------------


def _nothing(setting: Setting) -> list[str]:
    return [sys.executable, "-c", f"print('sorry, not at {setting.port}'); raise SystemExit(3)"]


def test_worker_that_ends_is_told() -> None:
    kind = Kind("broken", _nothing, str)
    with (
        pytest.raises(TrialError, match=re.escape("broken: a worker ended")) as error,
        App(kind, []),
    ):
        pytest.fail("it started")
    assert "sorry, not at" in str(error.value)


def test_application_that_is_missing_is_told() -> None:
    kinds = [Kind("one", _nothing, lambda: "no one (pip install one)")]
    with pytest.raises(TrialError, match=re.escape("no one (pip install one)")):
        run_all(Run(), kinds, list(TRIALS))


def test_the_page_configures_as_the_trials_do() -> None:
    options = copied.executed("Django", "settings.py", [copied.ADDRESS])["CACHES"]["default"]
    assert options["OPTIONS"] == clients.PYMEMCACHE_ONE
    lines = re.findall(
        r"^(memcached\.\S+) = (\S+)$",
        copied.text("PHP", "/etc/php/8.2/mods-available/sessions.ini"),
        re.MULTILINE,
    )
    tried = {**php.COMMON, **php.BINARY}
    assert dict(lines).items() <= tried.items()
    assert len(lines) == 6
