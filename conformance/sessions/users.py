"""Users of a web application: they follow cookies, and notice what their sessions lost.

Every application that is examined (Tomcat, PHP, Django, Flask, Rails) answers the same small set of
requests, each with one JSON object that tells `id` (the session's, without what a load balancer
adds), `fresh` (whether this request found no session), `n` (the session's counter) and `worker`
(who answered):

| request | what happens to the session |
|---|---|
| `/count` | n grows by one; made where there was none |
| `/count?wait_ms=100` | the same, with a pause between reading and writing |
| `/read` | nothing; n is 0 and nothing is made where there was none |
| `/put?bytes=5000` | holds that much more data; n as it was |
| `/rotate` | gets another id, as after a login |
| `/logout` | ends; n is 0 |

A `User` has one session and makes one request at a time. What was answered with 200 is
acknowledged, so the next count must be one higher; after a request that failed nobody knows, and
either is right. An application that answers although it could not store the session says so in a
header, `X-Stored: no`: that is not acknowledged either. (`X-Locked: no` says that it went on though
it could not lock the session.) A `Crowd` is many users, each in a thread of its own, while things
happen to the servers.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

from conformance.clock import now_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from email.message import Message

REQUEST_TIMEOUT_S = 30.0


class RequestError(Exception):
    """The application did not answer with 200; nobody knows what became of the request."""


class Answer(NamedTuple):
    id: str
    fresh: bool
    n: int
    worker: str
    #: Whether what the request changed has reached the store, as far as the application knows.
    stored: bool = True
    #: Whether the session was locked for it, as far as the application locks.
    locked: bool = True


class Timing(NamedTuple):
    """One request: when it began, how long it took, whether it was answered with 200."""

    at_s: float
    taken_s: float
    path: str
    error: str
    #: Whether what it changed has reached the store, where it was answered.
    stored: bool = True


@dataclass(slots=True)
class User:
    """Somebody with a browser.

    Args:
        urls: of the application's servers, `http://host:port`.
        home: the server that he is always sent to (sticky); None: any, at random.
    """

    urls: Sequence[str]
    home: int | None = None
    name: str = ""
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    cookies: dict[str, str] = field(default_factory=dict)
    #: The session's, as the last answer had it.
    id: str = ""
    #: What the session must hold at least, and how many more counts there may have been.
    acknowledged: int = 0
    unknown: int = 0
    #: Cookies of sessions that were ended: they must not come back.
    ended: list[dict[str, str]] = field(default_factory=list)
    counts: int = 0
    timings: list[Timing] = field(default_factory=list)
    #: What was lost, came back or was not there, each as a line for a person.
    lost: list[str] = field(default_factory=list)

    def ask(self, path: str, cookies: dict[str, str] | None = None) -> Answer:
        """Make a request; with cookies of one's own it leaves no trace on this user.

        Raises:
            RequestError: no answer, or another status than 200.
        """
        at = self.home if self.home is not None else self.rng.randrange(len(self.urls))
        address = urlsplit(self.urls[at])
        jar = self.cookies if cookies is None else cookies
        started_s = now_s()
        error = ""
        stored = True
        try:
            status, headers, body = _fetch(address.hostname, address.port, path, jar)
            if status != 200:
                error = f"status {status}: {body[:300].decode(errors='replace')}"
            stored = headers.get("X-Stored") != "no"
        except (OSError, http.client.HTTPException) as problem:
            error = f"{type(problem).__name__}: {problem}"
        self.timings.append(Timing(started_s, now_s() - started_s, path, error, stored))
        if error:
            raise RequestError(f"{path} at {self.urls[at]}: {error}")
        if cookies is None:
            self._keep(headers)
        try:
            told: dict[str, Any] = json.loads(body)
            answer = Answer(
                str(told["id"]),
                bool(told["fresh"]),
                int(told["n"]),
                str(told["worker"]),
                stored,
                headers.get("X-Locked") != "no",
            )
        except (ValueError, KeyError, TypeError) as problem:
            raise RequestError(f"{path}: not an answer: {body[:300]!r}") from problem
        if cookies is None:
            self.id = answer.id
        return answer

    def _keep(self, headers: Message) -> None:
        for header in headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(header).items():
                if morsel["max-age"] == "0" or "1970" in morsel["expires"] or not morsel.value:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value

    # -- what must hold ------------------------------------------------------------------------

    def count(self, path: str = "/count") -> Answer | None:
        """Count one up and look whether everything before is there; None: no answer."""
        try:
            answer = self.ask(path)
        except RequestError:
            self.unknown += 1
            return None
        self._look(path, answer, answer.n - 1)
        self.counts += 1
        if answer.stored:
            self.acknowledged, self.unknown = answer.n, 0
        else:
            self.unknown = answer.n - self.acknowledged
        return answer

    def read(self) -> Answer | None:
        """Look whether everything is there; None: no answer."""
        try:
            answer = self.ask("/read")
        except RequestError:
            return None
        self._look("/read", answer, answer.n)
        return answer

    def _look(self, path: str, answer: Answer, found: int) -> None:
        least, most = self.acknowledged, self.acknowledged + self.unknown
        if not least <= found <= most:
            what = "session gone" if answer.fresh or found == 0 else f"found {found}"
            self.lost.append(f"{self.name} {path}: {what}, not {least}..{most}, at {answer.worker}")
            self.acknowledged, self.unknown = found, 0

    def rotate(self) -> None:
        """Have the session's id changed. Without an answer this user begins anew."""
        before = self.id
        try:
            answer = self.ask("/rotate")
        except RequestError:
            self.begin_anew()
            return
        if answer.id == before:
            self.lost.append(f"{self.name}: the id stayed {before}")
        self._look("/rotate", answer, answer.n)
        if not answer.stored:
            self.acknowledged, self.unknown = 0, answer.n

    def logout(self) -> None:
        """End the session and begin anew; an ended one is looked at by `look_back`."""
        before = dict(self.cookies)
        try:
            answer = self.ask("/logout")
        except RequestError:
            pass  # nobody knows whether it ended
        else:
            if answer.stored:
                self.ended.append(before)
        self.begin_anew()

    def begin_anew(self) -> None:
        self.cookies = {}
        self.acknowledged = self.unknown = 0

    def look_back(self) -> None:
        """Look whether a session that was ended is there again."""
        for cookies in self.ended:
            try:
                answer = self.ask("/read", cookies)
            except RequestError:
                continue
            if answer.n:
                self.lost.append(f"{self.name}: an ended session is back with {answer.n}")

    @property
    def errors(self) -> list[Timing]:
        return [each for each in self.timings if each.error]

    @property
    def unstored(self) -> list[Timing]:
        """The requests that were answered though what they changed was not stored."""
        return [each for each in self.timings if not each.stored and not each.error]

    def longest_outage_s(self) -> float:
        """Return how long it took at most from a request to the first one answered after it."""
        longest, since_s = 0.0, None
        for each in self.timings:
            since_s = each.at_s if since_s is None else since_s
            if not each.error:
                longest = max(longest, each.at_s + each.taken_s - since_s)
                since_s = None
        return longest


def _fetch(
    host: str | None, port: int | None, path: str, cookies: dict[str, str]
) -> tuple[int, Message, bytes]:
    assert host is not None
    connection = http.client.HTTPConnection(host, port, timeout=REQUEST_TIMEOUT_S)
    try:
        headers = {"Connection": "close"}
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


class Crowd:
    """Users at work, each in a thread, from entry to exit.

    Args:
        pause_s: what one waits between two requests.
        reads, rotations, logouts: of 100 requests; the others count.
        each: what a user does again and again, instead of all that.
    """

    def __init__(
        self,
        users: Sequence[User],
        *,
        pause_s: float = 0.02,
        reads: int = 20,
        rotations: int = 2,
        logouts: int = 3,
        each: Callable[[User], object] | None = None,
    ) -> None:
        self.users = users
        self._pause_s = pause_s
        self._shares = (reads, reads + rotations, reads + rotations + logouts)
        self._each = each or self._act
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, args=(user,), name=user.name) for user in users
        ]
        self._broken: list[BaseException] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        if self._broken and exc[0] is None:
            raise self._broken[0]

    def stop(self) -> None:
        """Let everybody finish what he is at."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _live(self, user: User) -> None:
        try:
            while not self._stopping.is_set():
                self._each(user)
                time.sleep(self._pause_s)
        except BaseException as error:
            self._broken.append(error)

    def _act(self, user: User) -> None:
        reads, rotations, logouts = self._shares
        dice = user.rng.randrange(100)
        if dice < reads:
            user.read()
        elif dice < rotations and user.acknowledged:
            user.rotate()
        elif dice < logouts and user.acknowledged:
            user.logout()
        else:
            user.count()

    # -- what came of it -----------------------------------------------------------------------

    def settle(self) -> None:
        """After the end: everybody looks once more at his session, and at those that ended."""
        for user in self.users:
            user.read()
            user.look_back()

    @property
    def counts(self) -> int:
        return sum(user.counts for user in self.users)

    @property
    def requests(self) -> int:
        return sum(len(user.timings) for user in self.users)

    @property
    def unstored(self) -> int:
        return sum(len(user.unstored) for user in self.users)

    @property
    def lost(self) -> list[str]:
        return [line for user in self.users for line in user.lost]

    @property
    def errors(self) -> Counter[str]:
        return Counter(each.error for user in self.users for each in user.errors)

    def longest_outage_s(self) -> float:
        return max((user.longest_outage_s() for user in self.users), default=0.0)

    def taken_s(self) -> list[float]:
        return [each.taken_s for user in self.users for each in user.timings]


def make_users(
    urls: Sequence[str], count: int, *, sticky: bool = False, seed: int = 1
) -> list[User]:
    """Return users with a home in turn (sticky), or none."""
    return [
        User(
            urls,
            number % len(urls) if sticky else None,
            f"user{number}",
            random.Random(f"{seed}/{number}"),
        )
        for number in range(count)
    ]
