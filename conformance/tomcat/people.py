"""What users of Tomcats do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.sessions.users import User

MOMENT_S = 0.2


def busy(user: User) -> None:
    """One thing after the other, as a user does.

    Who ends a session, or changes its id, does so a moment after the request before. When one has
    only read, the manager looks behind its answer whether the session is still there, and stores it
    again if not: on any server, a session that ends in these milliseconds at another Tomcat comes
    back.
    """
    dice = user.rng.randrange(100)
    if dice < 20:
        user.read()
        return
    answer = user.count()
    if answer is None or not answer.stored:
        return
    if dice < 27:
        time.sleep(MOMENT_S)
    if dice < 23:
        former = dict(user.cookies)
        user.rotate()
        if user.acknowledged:
            user.ended.append(former)
    elif dice < 27:
        user.logout()


def keep_on(users: Sequence[User], home: int) -> int:
    """Lead all users to one Tomcat; return how many find all of their session there."""
    kept = 0
    for user in users:
        user.home = home
        before = len(user.lost)
        answer = user.read()
        kept += answer is not None and not answer.fresh and len(user.lost) == before
    return kept
