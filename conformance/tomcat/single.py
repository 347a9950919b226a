"""Tomcats on servers that stand alone: memcached, then pymcd, the same trials."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any

from conformance.clients.setups import PASSWORD, USER, Files
from conformance.servers import Server
from conformance.sessions.trials import servers
from conformance.sessions.users import Crowd, make_users
from conformance.trial import until

from .managers import non_sticky, sticky
from .people import busy, keep_on
from .process import KRYO, started, two_tomcats
from .together import count_together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from conformance.sessions.users import User
    from conformance.trial import Run

    from .process import Tomcat

USERS = 12
PATIENT = {"sessionBackupTimeout": 10_000}
#: A time to live that passes while one waits, and what must have passed then.
SHORT_S = 3
PASSED_S = SHORT_S + 2.0


# -- what is looked at everywhere ------------------------------------------------------------------


def everyday(run: Run, name: str, tomcats: Sequence[Tomcat]) -> None:
    """Users at work; then one Tomcat dies, and the other has all sessions."""
    is_sticky = bool(tomcats[0].manager["sticky"])
    users = make_users([each.url for each in tomcats], USERS, sticky=is_sticky, seed=run.seed)
    crowd = Crowd(users, pause_s=0.0, each=busy)
    with crowd:
        until("users at work", lambda: crowd.counts >= run.count(240))
    for user in users:
        user.count()
        user.ask("/put?bytes=60000")
        user.count()
    replaced = [dict(user.cookies) for user in users[::3]]
    for user in users[::3]:
        user.rotate()
    failures = _counted(tomcats, "NumBackupFailures")
    backups = _counted(tomcats, "BackupCount")
    tomcats[0].kill()
    kept = keep_on(users, 1)
    for user in users:
        user.look_back()
    lost = crowd.lost + [
        f"{user.name}: its former id leads to a session"
        for user, cookies in zip(users[::3], replaced, strict=True)
        if user.ask("/read", cookies).n
    ]
    of = f"{crowd.requests:,}"
    run.figure(f"{name}: requests that failed", crowd.errors.total(), 0, of=of)
    # The manager leaves out a backup now and then, and counts no failure: 1 of 406 on memcached.
    few = max(1, crowd.requests // 100)
    run.figure(f"{name}: requests that were not stored", crowd.unstored, few, of=of)
    run.problem(*(f"{name}: {count} times {text}" for text, count in crowd.errors.items()))
    run.problem(*(f"{name}: not stored: {each.path}" for user in users for each in user.unstored))
    run.figure(f"{name}: backups that failed", failures, 0, of=f"{int(backups):,}")
    run.figure(f"{name}: lost, stale, back after the end", len(lost), 0, of=of)
    run.problem(*(f"{name}: {line}" for line in lost))
    what = f"{name}: users who keep their session when a Tomcat dies"
    run.figure(what, kept, USERS, at_least=True, of=f"{USERS}")


@contextlib.contextmanager
def on(
    command: Sequence[str],
    manager: Mapping[str, object],
    switches: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    *,
    stores: bool = True,
) -> Iterator[tuple[Server, tuple[Tomcat, Tomcat]]]:
    """Run two Tomcats on a server, whose address stands for {} in memcachedNodes."""
    with Server(command, switches, dict(environment or {})) as server:
        nodes = str(manager["memcachedNodes"]).replace("{}", server.address)
        # How quickly they answer is not looked at here: what is late is stored all the same.
        tomcats = two_tomcats({**manager, "memcachedNodes": nodes, **PATIENT})
        with started(*tomcats, stores=stores):
            yield server, tomcats


# -- trials ----------------------------------------------------------------------------------------


def _everyday_on_each(run: Run, manager: Mapping[str, object]) -> None:
    for name, command in servers():
        with on(command, manager) as (_, tomcats):
            everyday(run, name, tomcats)


def sticky_text(run: Run) -> None:
    """Sticky sessions, text protocol, kryo."""
    _everyday_on_each(run, sticky("n1:{}", transcoderFactoryClass=KRYO))


def sticky_binary(run: Run) -> None:
    """Sticky sessions, binary protocol, java's own serialization."""
    _everyday_on_each(run, sticky("n1:{}", memcachedProtocol="binary"))


def sticky_bare(run: Run) -> None:
    """Sticky sessions at an address without a node id."""
    _everyday_on_each(run, sticky("{}", transcoderFactoryClass=KRYO))


def failover(run: Run) -> None:
    """Sticky sessions, two servers, failoverNodes: a server dies, then a Tomcat."""
    for name, command in servers():
        with Server(command) as first, Server(command) as second:
            nodes = f"n1:{first.address},n2:{second.address}"
            # Each prefers the server of the other's host.
            managers = [sticky(nodes, failoverNodes=own) for own in ("n1", "n2")]
            tomcats = two_tomcats(*managers)
            with started(*tomcats):
                _fail_over(run, name, tomcats, second)


def _fail_over(run: Run, name: str, tomcats: Sequence[Tomcat], preferred: Server) -> None:
    users = make_users([each.url for each in tomcats], USERS, sticky=True, seed=run.seed)
    crowd = Crowd(users)
    with crowd:
        until("users at work", lambda: crowd.counts >= run.count(60))
        preferred.stop()
        reached = crowd.counts + run.count(120)
        until("users go on", lambda: crowd.counts >= reached)
    for user in users:
        user.count()
    relocated = _counted(tomcats, "NumMemcachedFailover")
    tomcats[0].kill()
    kept = keep_on(users, 1)
    taken_over = tomcats[1].statistics().counters["NumTomcatFailover"]
    run.figure(f"{name}: lost or stale", len(crowd.lost), 0, of=f"{crowd.counts:,}")
    run.problem(*(f"{name}: {line}" for line in crowd.lost))
    what = f"{name}: users who keep their session when server and Tomcat die"
    run.figure(what, kept, USERS, at_least=True, of=f"{USERS}")
    # Else nothing was tried.
    run.figure(f"{name}: sessions that moved to the other server", relocated, 1, at_least=True)
    run.figure(f"{name}: sessions that the other Tomcat took over", taken_over, 1, at_least=True)


def locking(run: Run, mode: str, *, exact: bool) -> None:
    """Non-sticky sessions: everyday, and one session at both Tomcats at once."""
    manager = non_sticky("{}", mode, transcoderFactoryClass=KRYO, operationTimeout=5000)
    for name, command in servers():
        with on(command, manager) as (_, tomcats):
            outcome = count_together(tomcats, seconds=2.0)
            what = f"{name}: counts of one session at both Tomcats at once that are missing"
            missing, of = outcome.answered - outcome.grown, f"{outcome.answered:,}"
            if exact:
                run.figure(what, missing, 0, of=of)
                taken = _counted(tomcats, "NonStickyAcquireLockCount")
                run.figure(f"{name}: locks taken", taken, 1, at_least=True)
            else:
                # Or the trial would not see what locks are good for.
                run.figure(what, missing, 1, at_least=True, of=of)
            everyday(run, name, tomcats)


def _counted(tomcats: Sequence[Tomcat], counter: str) -> float:
    return sum(each.statistics().counters[counter] for each in tomcats)


def two_nodes(run: Run) -> None:
    """Non-sticky sessions, two servers named in the manager, of which one dies."""
    for name, command in servers():
        with Server(command) as first, Server(command) as second:
            nodes = f"n1:{first.address},n2:{second.address}"
            tomcats = two_tomcats(non_sticky(nodes, "all"))
            with started(*tomcats):
                users = make_users([each.url for each in tomcats], USERS, seed=run.seed)
                for user in users:
                    user.count()
                    user.count()
                # Copies to the second server are made behind the answer.
                time.sleep(1.0)
                first.stop()
                kept = keep_on(users, 0)
                counters = tomcats[0].statistics().counters
            what = f"{name}: users who keep their session when a server dies"
            run.figure(what, kept, USERS, at_least=True, of=f"{USERS}")
            moved = counters["NumMemcachedFailover"]
            run.figure(f"{name}: sessions found by their copy", moved, 1, at_least=True)


def sasl(run: Run) -> None:
    """Username and password, right and wrong; binary protocol."""
    with Files() as files:
        for name, command in servers():
            if name == "memcached" and not files.has_sasl_users:
                run.say("no saslpasswd2 (Debian: sasl2-bin): memcached knows no users")
                continue
            manager = sticky("n1:{}", memcachedProtocol="binary", username=USER, password=PASSWORD)
            start = functools.partial(
                on,
                command,
                switches=files.switches("sasl"),
                environment=files.server_environment("sasl"),
            )
            with start(manager=manager) as (_, tomcats):
                everyday(run, name, tomcats)
            with start(manager={**manager, "password": "wrong"}, stores=False) as (_, tomcats):
                (user,) = make_users([tomcats[0].url], 1)
                user.count()
                run.figure(f"{name}: stored with a wrong password", 1 - len(user.unstored), 0)


def prefix(run: Run) -> None:
    """storageKeyPrefix: sessions are where it says, and nowhere else."""
    for name, command in servers():
        for manager in (
            sticky("n1:{}", storageKeyPrefix="static:abc,host"),
            non_sticky("{}", "all", storageKeyPrefix="static:abc,host", operationTimeout=5000),
        ):
            with on(command, manager) as (server, tomcats):
                kind = "sticky" if manager["sticky"] else "non-sticky"
                (user,) = make_users([tomcats[0].url], 1)
                answer = user.count()
                assert answer is not None
                found = [_holds(server, f"{each}{answer.id}") for each in ("abc:localhost_", "")]
                run.figure(f"{name}, {kind}: found where it should be", found[0], 1, at_least=True)
                run.figure(f"{name}, {kind}: found elsewhere", found[1], 0)
                everyday(run, f"{name}, {kind}", tomcats)


def _holds(server: Server, key: str) -> bool:
    with server.connect() as stream:
        stream.sendall(b"get %b\r\nquit\r\n" % key.encode())
        answer = b""
        while data := stream.recv(65536):
            answer += data
    return answer.startswith(b"VALUE ")


def expiry(run: Run) -> None:
    """Sessions that nobody uses end, in the servers as well; others stay."""
    # A sticky one is stored for 6 s less: see what the reference says of the Context's delay.
    lives: list[tuple[str, dict[str, Any], int]] = [
        ("sticky", sticky("n1:{}"), SHORT_S + 6),
        ("non-sticky", non_sticky("{}", "all", operationTimeout=5000), SHORT_S),
    ]
    for name, command in servers():
        for kind, manager, seconds in lives:
            with on(command, manager) as (_, tomcats):
                urls = [each.url for each in tomcats]
                users = make_users(urls, 2 * USERS, sticky=True, seed=run.seed)
                short, long = users[:USERS], users[USERS:]
                for user in short:
                    user.count(f"/count?seconds={seconds}")
                for user in long:
                    user.count()
                there = sum(user.ask("/read").n for user in short)
                tomcats[0].kill()
                time.sleep(PASSED_S)
                # Those at the other Tomcat are in its memory, where sticky sessions live longer.
                gone = sum(not _moved(user).n for user in short[::2])
                kept = keep_on(long, 1)
            what = f"{name}, {kind}: sessions"
            half = USERS // 2
            run.figure(f"{what} there before their end", there, USERS, at_least=True)
            run.figure(f"{what} gone after it", gone, half, at_least=True, of=f"{half}")
            run.figure(f"{what} that stay", kept, USERS, at_least=True, of=f"{USERS}")


def _moved(user: User) -> Any:
    user.home = 1
    return user.ask("/read")


def _lock_trial(mode: str, text: str, *, exact: bool) -> Callable[[Run], None]:
    trial = functools.partial(locking, mode=mode, exact=exact)
    trial.__doc__ = text
    return trial


TRIALS = {
    "text": sticky_text,
    "binary": sticky_binary,
    "bare": sticky_bare,
    "failover": failover,
    "none": _lock_trial("none", "Non-sticky sessions that nobody locks.", exact=False),
    "all": _lock_trial("all", "Non-sticky, lockingMode=all.", exact=True),
    "auto": _lock_trial("auto", "Non-sticky, lockingMode=auto.", exact=True),
    "uri": _lock_trial(
        "uriPattern:.*/(count|put|rotate|logout).*", "Non-sticky, locked by URI.", exact=True
    ),
    "nodes": two_nodes,
    "sasl": sasl,
    "prefix": prefix,
    "expiry": expiry,
}
