"""The edges of every number that an option takes: it is served, or refused in one line.

Taken from the tables of options themselves, so that a new one is tried as soon as it is there. An
option which is no number is tried as well: whatever anybody writes must neither loop nor crash.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from typing import TYPE_CHECKING

import pytest

from pymcd.arguments import ANSWERED, split_arguments
from pymcd.config import Settings
from pymcd.exits import ConfigError
from pymcd.options import EXTENDED, OPTIONS
from pymcd.server.maintenance import IdleKicker, LoginKicker
from pymcd.service import Service
from pymcd.sources import gather

from .clocks import ManualClock
from .hosts import make_host
from .protocol.helpers import Client
from .replication.helpers import Group, Guest

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = [
    *("", " ", "x", "1x", "nan", "inf", "-inf", "1e309", "-1", "-0", "0", "1", "2", "3", "4", "10"),
    *("0.5", "1.5", "1e-300", "1e300", "0x10", "1_000", "\u0663", "1024", "65535", "65536"),
    *(str(power + step) for power in (1 << 31, 1 << 32, 1 << 63, 1 << 64) for step in (-1, 0, 1)),
    *("1k", "1m", "1g", "99999999999999g", "9" * 5000, "-" + "9" * 5000, "9" * 400 + "." + "9"),
    *("1-2", "48-56", "100-200-400", "-".join(map(str, range(48, 4800, 16)))),
]
#: Words that leave the option out, or end with an answer.
ELSEWHERE = {*ANSWERED, "config"}

NAMES = [
    *(f"--{option.name}=" for option in OPTIONS if option.metavar and option.name not in ELSEWHERE),
    *(f"--extended={name}=" for name in EXTENDED),
]
#: memcached's own, of two lines.
TWO_LINES = ("Initial hashtable multiplier of ", "Invalid value for binding protocol")
#: Far more of the processor than any start needs.
CPU_MAX_S = 10.0


@contextlib.contextmanager
def no_endless_loop() -> Iterator[None]:
    """Fail rather than go on for ever."""

    def stop(*_: object) -> None:
        raise AssertionError("this does not end")

    old = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_MAX_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)


def check_refusal(word: str, error: ConfigError) -> None:
    lines = error.message.splitlines()
    assert error.exit_code in (1, 64, 71)
    assert len(lines) == 1 or lines[0].startswith(TWO_LINES), (word, lines)
    assert lines[0], word


def is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, tuple) and any(map(is_text, value)))


def try_words(name: str, *beside: str) -> Iterator[Settings]:
    """Yield the settings of words that are taken; see that others are refused properly.

    Of those that differ only in a text, which is as good as any, the first.
    """
    seen: list[object] = []
    for word in WORDS:
        try:
            settings = gather([split_arguments([*beside, name + word])]).build()
        except ConfigError as error:
            check_refusal(word, error)
            continue
        fields = [getattr(settings, field.name) for field in dataclasses.fields(settings)]
        numbers = [each for each in fields if not is_text(each)]
        if numbers not in seen:
            seen.append(numbers)
            yield settings


#: Values of all sizes that `-I` may allow.
SIZES = (0, 1, 100, 1000, 1024, 5000, 100_000, 600_000, (1 << 20) - 200, 1 << 20)


@pytest.mark.parametrize("name", NAMES)
def test_every_word_is_served_or_refused(name: str) -> None:
    with no_endless_loop():
        for settings in try_words(name):
            live_a_little(settings)


def live_a_little(settings: Settings) -> None:
    """Serve some commands, and let time pass."""
    clock = ManualClock()
    service = Service(settings, clock, make_host())
    kickers = [IdleKicker(service, settings.idle_timeout_s or 1)]
    kickers.append(LoginKicker(service, settings.login_timeout_s or 1))  # type: ignore[arg-type]
    client = Client(service)
    for size in SIZES:
        for exptime in (0, 1):
            client.send(b"set %d %d %d %d\r\n%b\r\n" % (size, size, exptime, size, bytes(size)))
    for step in (0.0, 1.0, 2.0, 100.0):
        clock.advance(step)
        service.tick()
        service.maintainer.step()
        for kicker in kickers:
            assert kicker.chore  # which is asleep or not
            kicker.step()
        client.send(b"get 1\r\nstats settings\r\nstats items\r\nstats slabs\r\nstats\r\n")
        client.send(b"lru_crawler crawl all\r\nslabs reassign 1 2\r\nlru_crawler mgdump all\r\n")
    service.cache.check()


@pytest.mark.parametrize(
    "name", [f"--{option.name}=" for option in OPTIONS if option.own and option.metavar]
)
def test_every_word_is_served_or_refused_in_a_pair(name: str) -> None:
    with no_endless_loop():
        for settings in try_words(name, "--peer=127.0.0.1:1", "--replication-secret-file=x"):
            pair_lives_a_little(settings)


def pair_lives_a_little(settings: Settings) -> None:
    """Have two servers meet, part and meet again while clients write."""
    theirs = ("peers", "replication_listen", "node_id")
    fields = [name for name in Settings.__dataclass_fields__ if name not in theirs]
    group = Group("ab", **{name: getattr(settings, name) for name in fields})
    for moment in range(3):
        group.link_all()
        group.advance(0.5)
        for size in SIZES[:6]:
            Guest(group["a"]).ask(b"set %d 0 0 %d\r\n%b\r\n" % (size, size, bytes(size)))
            Guest(group["b"]).ask(b"delete %d\r\n" % (size + moment))
        group.advance(2.0)
        for wire in list(group.wires):
            wire.cut()
        group.advance(5.0)
    group.check()
