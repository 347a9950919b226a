"""What runs in a child process: a `MemcachedServer` or a pair like any other, asked by `childhost`.

It ends when its input does.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from typing import Any

from ..startup import open_standard_descriptors
from .findings import sendable
from .pair import MemcachedPair
from .plan import PairPlan, ServerPlan
from .server import MemcachedServer


def main() -> None:
    """Be the child."""
    open_standard_descriptors()
    # Ctrl-C is for the tests, which may ask this once more while they end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What anything here prints must not come between the messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls = sys.stdin.buffer
    running: MemcachedServer | MemcachedPair | None = None
    while True:
        try:
            name, arguments = pickle.load(calls)
        except EOFError:
            break
        if name == "end":
            break
        try:
            if running is None:
                running, value = begin(*arguments)
            else:
                value = answer(running, name, arguments)
            outcome = ("return", value)
        except (
            BaseException
        ) as error:  # pytest's own, out of a function of a key, are no exceptions
            outcome = ("raise", sendable(error))
        answers.write(pickle.dumps(outcome))
        answers.flush()
    if running is not None:
        running.stop()


def begin(plan: PairPlan | ServerPlan) -> tuple[MemcachedServer | MemcachedPair, Any]:
    """Start what is wanted; return it, and its ports."""
    arguments = {**vars(plan), "process": False}
    if isinstance(plan, PairPlan):
        pair = MemcachedPair(**arguments).start()
        return pair, {"a": pair.a._port_number, "b": pair.b._port_number}
    server = MemcachedServer(**arguments).start()
    return server, server._port_number


def answer(running: MemcachedServer | MemcachedPair, name: str, arguments: tuple[Any, ...]) -> Any:
    """Return what a call returns: of the server, or of a pair, or of one of its servers."""
    if isinstance(running, MemcachedPair):
        which, _, name = name.partition(":")
        if which == "pair":
            return getattr(running, name)(*arguments)
        running = running._server(which)
    if name == "wait":
        return running._running().wait(*arguments)
    if name == "restart":
        return running.restart(keep_items=arguments[0])
    return running._ask(name, *arguments)


if __name__ == "__main__":
    main()
