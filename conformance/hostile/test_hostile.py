"""The attacks, shortened: nobody may be closed, memory must stay in its bounds.

How long others were held up is told and not judged: that depends on who else has the CPUs.
"""

from __future__ import annotations

import pytest

from conformance.trial import check

from .__main__ import TRIALS
from .measure import Circumstances, Seen, trials
from .rows import ROWS

QUICK = trials(ROWS, Circumstances(reference=None, pair=False))
QUICK_SCALE = 0.02
SLOW_SCALE = 0.3

#: One of each kind; the others take as long, and are tried with those that are slow.
QUICK_ROWS = [
    "lru-tune-16k",
    "get-2m",
    "unread",
    "unread-tls",
    "overwritten",
    "arriving",
    "arriving-resident",
    "cachedump",
    "incr-digits",
    "sasl-list-1000",
    "refresh-certs",
    "bucket-gets-of-20",
    "bucket-streams",
    "http-headers",
    "http-scrapes",
    "tiny-items",
    "endless-lines",
    "metadump-unread",
    "slow-watchers",
    "large-among-small",
    "come-and-go",
    "half-logins",
    "log-unread",
]


@pytest.mark.parametrize("name", QUICK_ROWS)
def test_quick(name):
    check(QUICK[name], scale=QUICK_SCALE)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TRIALS)
def test_slow(name):
    check(TRIALS[name], scale=SLOW_SCALE)


def test_a_long_answer_counts_as_often_as_it_would_have_been_asked_for():
    seen = Seen(taken_s=[0.0001] * 900 + [0.1], late_s=0.0, long=[], lost=0, realtime=False)
    assert seen.quantile_s(0.5) == 0.0001
    assert seen.quantile_s(0.9) > 0.0001
    assert seen.quantile_s(0.999) == pytest.approx(0.1, abs=0.002)


def test_what_a_server_waited_for_a_cpu_is_no_stall_of_its_own():
    long = [(1.0, 0.050, 0.045), (2.0, 0.030, 0.0)]
    seen = Seen(taken_s=[0.001, 0.050, 0.030], late_s=0.0, long=long, lost=0, realtime=False)
    assert seen.longest_s == 0.050
    assert seen.stall_s == 0.030
