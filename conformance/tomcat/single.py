"""Tomcats on servers that stand alone: memcached and pymcd, one after the other, the same trials."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from conformance.clients.setups import PASSWORD, USER, Files
from conformance.servers import Server
from conformance.sessions.trials import servers
from conformance.sessions.users import Crowd, make_users
from conformance.trial import until

from .process import KRYO, Tomcat, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from conformance.sessions.users import User
    from conformance.trial import Run

USERS = 12

#: Sessions are stored before the answer goes out: only then somebody knows that they are.
SYNCHRONOUS = {"sessionBackupAsync": False, "sessionBackupTimeout": 100}


def sticky(nodes: str, **more: object) -> dict[str, object]:
    """Return the attributes of a manager for users who stay at their Tomcat."""
    return {"memcachedNodes": nodes, "sticky": True, **SYNCHRONOUS, **more}


def non_sticky(nodes: str, locking: str, **more: object) -> dict[str, object]:
    """Return the attributes of a manager for users who may go to any Tomcat."""
    return {
        "memcachedNodes": nodes,
        "sticky": False,
        "lockingMode": locking,
        **SYNCHRONOUS,
        **more,
    }


def two_tomcats(manager: Mapping[str, object], **more: object) -> tuple[Tomcat, Tomcat]:
    """Return two alike, with routes where sessions are sticky; `more` is of their Contexts."""
    routes = ("t1", "t2") if manager["sticky"] else ("", "")
    return Tomcat(manager, routes[0], more), Tomcat(manager, routes[1], more)


# -- what is looked at everywhere ------------------------------------------------------------------


def everyday(run: Run, name: str, tomcats: Sequence[Tomcat]) -> None:
    """Users at work; then one Tomcat dies, and the other has all sessions."""
    is_sticky = bool(tomcats[0].manager["sticky"])
    users = make_users([each.url for each in tomcats], USERS, sticky=is_sticky, seed=run.seed)
    crowd = Crowd(users, pause_s=0.0, rotations=8, logouts=8)
    with crowd:
        until("users at work", lambda: crowd.counts >= run.count(240))
    for user in users:
        user.count()
        user.ask("/put?bytes=60000")
        user.count()
    backups = sum(each.statistics().counters["BackupCount"] for each in tomcats)
    failures = sum(each.statistics().counters["NumBackupFailures"] for each in tomcats)
    tomcats[0].kill()
    kept = keep_on(users, 1)
    for user in users:
        user.look_back()
    failed = crowd.errors.total() + crowd.unstored
    run.figure(f"{name}: requests that failed or were not stored", failed, 0)
    run.problem(*(f"{name}: {count} times {text}" for text, count in crowd.errors.items()))
    run.figure(f"{name}: backups that failed", failures, 0, of=f"{int(backups):,}")
    run.figure(f"{name}: lost, stale, back after the end", len(crowd.lost), 0)
    run.problem(*(f"{name}: {line}" for line in crowd.lost))
    what = f"{name}: users who keep their session when a Tomcat dies"
    run.figure(what, kept, USERS, at_least=True, of=f"{USERS}")


def keep_on(users: Sequence[User], home: int) -> int:
    """Lead all users to one Tomcat; return how many find all of their session there."""
    kept = 0
    for user in users:
        user.home = home
        before = len(user.lost)
        answer = user.read()
        kept += answer is not None and not answer.fresh and len(user.lost) == before
    return kept


@contextlib.contextmanager
def _on(
    command: Sequence[str], manager: Mapping[str, object], **context: object
) -> Iterator[tuple[Server, tuple[Tomcat, Tomcat]]]:
    """Two Tomcats on a server, whose address stands for {} in memcachedNodes."""
    with Server(command) as server:
        nodes = str(manager["memcachedNodes"]).replace("{}", server.address)
        with started(*two_tomcats({**manager, "memcachedNodes": nodes}, **context)) as tomcats:
            yield server, (tomcats[0], tomcats[1])


# -- trials ----------------------------------------------------------------------------------------


def sticky_text(run: Run) -> None:
    """Sticky sessions, text protocol, kryo."""
    for name, command in servers():
        with _on(command, sticky("n1:{}", transcoderFactoryClass=KRYO)) as (_, tomcats):
            everyday(run, name, tomcats)


def sticky_binary(run: Run) -> None:
    """Sticky sessions, binary protocol, java's own serialization."""
    for name, command in servers():
        with _on(command, sticky("n1:{}", memcachedProtocol="binary")) as (_, tomcats):
            everyday(run, name, tomcats)


TRIALS = {
    "text": sticky_text,
    "binary": sticky_binary,
}
