"""One session used by several at once, each at a Tomcat of his own, as by a browser's tabs.

At one Tomcat no more than one of them: what the session manager makes of three requests at once
for the same session at the same Tomcat is its own affair (some counts are lost on any server).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conformance.clock import now_s
from conformance.sessions.users import RequestError, User, make_users

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .process import Tomcat


@dataclass(slots=True)
class Outcome:
    """What came of it.

    A request that was answered, and not stored, may have counted or not; so may one that failed,
    and one for which the session manager went on without the lock.
    """

    #: What the acknowledged ones were told.
    stored: list[int] = field(default_factory=list)
    unstored: int = 0
    unlocked: list[int] = field(default_factory=list)
    failed: int = 0
    #: By how much the session's counter grew.
    grown: int = 0

    @property
    def answered(self) -> int:
        return len(self.stored) + self.unstored + len(self.unlocked)

    def wrong(self) -> list[str]:
        """Tell which acknowledged counts got lost."""
        twice = [n for n, times in Counter(self.stored).items() if times > 1]
        lines = [f"{len(twice)} numbers were given twice: {sorted(twice)[:8]}"] if twice else []
        least, most = len(self.stored), self.answered + self.failed
        if not least <= self.grown <= most:
            lines.append(f"the counter grew by {self.grown}, not {least}..{most}")
        return lines


def count_together(
    tomcats: Sequence[Tomcat],
    *,
    tabs: int = 2,
    seconds: float,
    path: str = "/count?wait_ms=5",
    pause_s: float = 0.005,
    meanwhile: Callable[[], None] = lambda: None,
) -> Outcome:
    """Let tabs count in one session for so long, and at least until `meanwhile` is over."""
    urls = [each.url for each in tomcats]
    (first,) = make_users(urls, 1)
    first.count()
    first.read()
    outcome = Outcome()
    lock = threading.Lock()
    stopping = threading.Event()

    def use(tab: User) -> None:
        while not stopping.is_set():
            try:
                answer = tab.ask(path)
            except RequestError:
                with lock:
                    outcome.failed += 1
            else:
                with lock:
                    if not answer.stored:
                        outcome.unstored += 1
                    elif answer.locked:
                        outcome.stored.append(answer.n)
                    else:
                        outcome.unlocked.append(answer.n)
            time.sleep(pause_s)

    users = make_users(urls, tabs, sticky=True)
    for user in users:
        user.cookies = dict(first.cookies)
    threads = [threading.Thread(target=use, args=(user,)) for user in users]
    started_s = now_s()
    for thread in threads:
        thread.start()
    try:
        meanwhile()
        time.sleep(max(0.0, started_s + seconds - now_s()))
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    outcome.grown = first.ask("/read").n - 1
    return outcome
