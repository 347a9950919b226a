"""`python -m pymcd.testing -- COMMAND`: a memcached for the tests of any language.

It is there while the command runs, which finds its address in the environment. Signals are passed
on, and the exit code of the command is that of the whole.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ..exits import EXIT_OS_ERROR, EXIT_USAGE
from ..startup import open_standard_descriptors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .server import MemcachedServer

_NAME: Final = "python -m pymcd.testing"
#: As a shell has them.
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
_KILLED: Final = 128
#: What a command may be told. A terminal tells the first two to all that run in it by itself.
_OF_TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT)
_PASSED_ON: Final = (
    *_OF_TERMINALS,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_NAME,
        usage="%(prog)s [OPTION...] -- COMMAND [ARGUMENT...]",
        description="Run a command, and a memcached for it, empty and on a free port: the command"
        " finds it by MEMCACHED_HOST and MEMCACHED_PORT, or MEMCACHED_ADDRESS, which is both"
        " (127.0.0.1:41234). The exit code is that of the command.",
        epilog=f"For example: {_NAME} -- npm test",
        allow_abbrev=False,
    )
    parser.add_argument("--port", "-p", type=int, default=0, help="default: 0, any free one")
    parser.add_argument(
        "--host", "-l", default="127.0.0.1", metavar="ADDRESS", help="default: %(default)s"
    )
    parser.add_argument(
        "--memory-limit", "-m", type=int, default=64, metavar="MB", help="default: %(default)s"
    )
    parser.add_argument(
        "--max-item-size", "-I", default="1m", metavar="SIZE", help="default: %(default)s"
    )
    return parser


def main(words: Sequence[str]) -> int:
    """Run it; return the exit code."""
    parser = _parser()
    own, command = list(words), []
    if "--" in own:
        begin = own.index("--")
        own, command = own[:begin], own[begin + 1 :]
    arguments, unknown = parser.parse_known_args(own)
    if unknown:
        parser.error(f"what is {unknown[0]!r}? The command to run comes after --")
    if not command:
        parser.error(f"no command to run; write it after --, as in: {_NAME} -- npm test")
    from .server import MemcachedServer

    try:
        server = MemcachedServer(**vars(arguments)).start()
    except (ValueError, TypeError) as error:
        parser.error(_as_typed(str(error)))
    except OSError as error:
        parser.exit(EXIT_OS_ERROR, f"{_NAME}: {_as_typed(error.strerror or str(error))}\n")
    try:
        return _run(command, server)
    finally:
        server.stop()


def _as_typed(message: str) -> str:
    """Return what is said of an argument as it is said of the option."""

    def option(found: re.Match[str]) -> str:
        return f"--{found[0].strip('`').replace('_', '-')}"

    return re.sub(r"\b(?:host|port|memory_limit|max_item_size)(?==)|`port`", option, message)


def _run(command: list[str], server: MemcachedServer) -> int:
    address = {
        "MEMCACHED_HOST": server.host,
        "MEMCACHED_PORT": str(server.port),
        "MEMCACHED_ADDRESS": server.url,
    }
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, frame: Any) -> None:
        if child is None:
            early.append(number)
        elif not (number in _OF_TERMINALS and _in_foreground()):
            child.send_signal(number)

    for number in _PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of `nohup`, for both of us
            signal.signal(number, pass_on)
    try:
        child = subprocess.Popen(command, env={**os.environ, **address})
    except OSError as error:
        reason = "command not found" if isinstance(error, FileNotFoundError) else error.strerror
        sys.stderr.write(f"{_NAME}: {command[0]}: {reason}\n")
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
    for early_one in early:
        child.send_signal(early_one)
    code = child.wait()
    return _KILLED - code if code < 0 else code


def _in_foreground() -> bool:
    """Return whether the terminal tells the command what it tells us."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


if __name__ == "__main__":
    open_standard_descriptors()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback before there is a command
    sys.exit(main(sys.argv[1:]))
