"""The trials with Tomcats, some of them shortened; how long anything took is not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from conformance.clock import now_s
from conformance.front import haproxy
from conformance.sessions import copied
from conformance.sessions.users import make_users
from conformance.trial import check

from .__main__ import TRIALS
from .install import TOMCAT
from .managers import sticky
from .pair import NON_STICKY, STICKY, Stage
from .process import Event, Statistics, Tomcat, context_xml
from .together import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

needs_tomcat = pytest.mark.skipif(
    bool(TOMCAT.why_not()), reason=TOMCAT.why_not() or "Tomcat is there"
)
needs_haproxy = pytest.mark.skipif(
    bool(haproxy.why_not()), reason=haproxy.why_not() or "HAProxy is there"
)

SLOW_ALONE = ["binary", "bare", "failover", "none", "auto", "uri", "nodes", "sasl", "prefix"]
SLOW_KILLS = ["kills-sticky", "kills-auto", "kills-binary", "both-sticky", "both", "host"]
SLOW_PAIR = [*SLOW_KILLS, "freeze-sticky", "freeze", "counter", "advice"]


def _try(name: str, trials: int = 0, scale: float = 1.0) -> None:
    check(TRIALS[name], trials, scale)


@needs_tomcat
@pytest.mark.parametrize("name", ["text", "all"])
def test_alone(name: str) -> None:
    _try(name, scale=0.3)


@needs_tomcat
@needs_haproxy
def test_kills() -> None:
    _try("kills", trials=1, scale=0.3)


@needs_tomcat
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [*SLOW_ALONE, "expiry", "lone"])
def test_alone_at_length(name: str) -> None:
    _try(name)


@needs_tomcat
@needs_haproxy
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SLOW_PAIR)
def test_pair_at_length(name: str) -> None:
    _try(name)


@needs_tomcat
def test_what_was_not_stored_is_not_acknowledged() -> None:
    # Nobody listens there: Tomcat answers all the same, and says so.
    with Tomcat(sticky("n1:127.0.0.1:1"), "t1") as tomcat:
        (user,) = make_users([tomcat.url], 1)
        answers = [user.count(), user.count()]
        assert [answer and (answer.n, answer.stored) for answer in answers] == [
            (1, False),
            (2, False),
        ]
        assert user.acknowledged == 0
        user.logout()
        assert user.ended == []
        assert user.lost == []


# -- what the trials are made of -----------------------------------------------------------------


def test_context_xml_is_as_users_write_it() -> None:
    assert context_xml({"sticky": False, "memcachedNodes": 'a"<b'}, {}) == (
        "<Context>\n"
        '  <Manager\n    className="de.javakaffee.web.msm.MemcachedBackupSessionManager"\n'
        '    sticky="false"\n'
        "    memcachedNodes='a\"&lt;b' />\n"
        "</Context>\n"
    )


@pytest.mark.parametrize(("section", "manager"), [("Sticky", STICKY), ("Non-sticky", NON_STICKY)])
def test_the_page_configures_as_the_trials_do(
    section: str, manager: Callable[[str], dict[str, object]]
) -> None:
    told, tried = (
        ET.fromstring(text)[0].attrib
        for text in (
            copied.text(section, "conf/context.xml"),
            context_xml(manager(copied.ADDRESS), {}),
        )
    )
    assert told == tried


@pytest.mark.parametrize(
    ("outcome", "lines"),
    [
        (Outcome([1, 2, 3], grown=3), 0),
        (Outcome([1, 2, 3], grown=2), 1),
        (Outcome([1, 2, 2], grown=3), 1),
        (Outcome([1, 2], unstored=1, unlocked=[3], failed=1, grown=5), 0),
        (Outcome([1, 2], unstored=1, unlocked=[3], failed=1, grown=6), 1),
    ],
)
def test_a_counter_that_is_wrong_is_noticed(outcome: Outcome, lines: int) -> None:
    assert len(outcome.wrong()) == lines


class _Told(Tomcat):
    def statistics(self) -> Statistics:
        return Statistics(
            {},
            [
                Event(9.0, "MEMCACHED_UPDATE", 0.2),
                Event(11.0, "MEMCACHED_UPDATE", 0.05),
                Event(12.0, "LOAD_FROM_MEMCACHED", 3.0),
                Event(13.0, "NON_STICKY_AFTER_BACKUP", 0.2),
                Event(14.5, "NOT_STORED", 0.0),
                Event(14.75, "NOT_STORED", 0.0),
                Event(15.25, "NOT_STORED", 0.0),
                Event(20.5, "NOT_STORED", 0.0),
                Event(21.0, "MEMCACHED_UPDATE", 0.3),
            ],
        )


def test_late_backups_are_those_at_quiet_times() -> None:
    on = Stage(None, None, [_Told({})], quiet=[(10.0, 20.0)])  # type: ignore[arg-type]
    late, total = on.late(on.quiet)
    assert (len(late), total) == (1, 2)
    assert late[0].startswith("NON_STICKY_AFTER_BACKUP took 0.200 s")
    assert on.unstored_s() == 0.75


def test_a_quiet_time_ends_before_now() -> None:
    on = Stage(None, None, [])  # type: ignore[arg-type]
    with on.nobody_waits():
        now_s()
    ((since_s, until_s),) = on.quiet
    assert since_s <= until_s
