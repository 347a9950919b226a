"""What runs in a child process: a `MemcachedServer` like any other, asked by `childhost`.

It ends when its input does.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

from ..startup import open_standard_descriptors
from .server import MemcachedServer


def main() -> None:
    """Be the child."""
    open_standard_descriptors()
    # What anything here prints must not come between the messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls = sys.stdin.buffer
    server: MemcachedServer | None = None
    while True:
        try:
            name, arguments = pickle.load(calls)
        except EOFError:
            break
        if name == "end":
            break
        try:
            if server is None:
                (plan,) = arguments
                server = MemcachedServer(**{**vars(plan), "process": False})
                server.start()
                value: Any = server._port_number
            elif name == "wait":
                value = server._running().wait(*arguments)
            elif name == "restart":
                server.restart(keep_items=arguments[0])
                value = None
            else:
                value = server._ask(name, *arguments)
            outcome = ("return", value)
        except Exception as error:
            outcome = ("raise", error)
        answers.write(pickle.dumps(outcome))
        answers.flush()
    if server is not None:
        server.stop()


if __name__ == "__main__":
    main()
