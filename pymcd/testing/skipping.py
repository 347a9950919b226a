"""Whether a test ends that was skipped before it was over: it is not blamed for what is undone.

The plugin for pytest says so, as far as servers are there.
"""

from __future__ import annotations

import weakref

#: Servers started since this test began.
_new: weakref.WeakSet[object] = weakref.WeakSet()
_cut_short = False


def register(server: object) -> None:
    """Take note of a server that starts."""
    _new.add(server)


def begin_test() -> None:
    """Take note that the next test begins."""
    end_test(cut_short=False)
    _new.clear()


def end_test(*, cut_short: bool) -> None:
    """Take note that a test's fixtures end now; it was skipped before it was over, or not."""
    global _cut_short
    _cut_short = cut_short


def is_cut_short(server: object = None) -> bool:
    """Return whether a test ends now that was skipped, and started that server, if one is given."""
    return _cut_short and (server is None or server in _new)
