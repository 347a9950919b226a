"""The login of the text protocol (`-Y`): a `set` of any key whose value is `user password`.

A runner of its own, as nothing of the text protocol's framing holds before the login: every line
that is no `set` gets the same answer, blanks and noreply mean nothing, and the value is waited for
whatever the rest of the line says. Success makes `run_text` the runner.
# protocol.txt, "Authentication"; memcached: try_read_command_asciiauth
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .. import limits
from .framing import run_text
from .tokens import TOO_LARGE, decode_u32, split_line

if TYPE_CHECKING:
    from .connection import Connection

#: What is shorter is not looked at, even if it is a line.
_LINE_MIN_BYTES: Final = 2


def run_login(connection: Connection, budget: int, /) -> bool:
    """Answer lines until one logs in. True: the budget ended first."""
    while budget:
        buffer = connection.buffer
        if len(buffer) - connection.position < _LINE_MIN_BYTES:
            return False
        end = buffer.find(b"\n", connection.position)
        if end < 0:
            if len(buffer) - connection.position > limits.LINE_MAX_BYTES:
                connection.close("error")
            return False
        line = buffer[connection.position : end]
        tokens = split_line(line)
        length = login_bytes(tokens)
        budget -= 1
        if length is None:
            connection.position = end + 1
            connection.reply(b"CLIENT_ERROR unauthenticated\r\n")
            continue
        if length > limits.LOGIN_MAX_BYTES:
            # Nobody's password: the original would wait for it, without a bound.
            connection.reply(TOO_LARGE)
            connection.close("error")
            return False
        stop = end + 1 + length
        if len(buffer) < stop + 2:
            return False
        connection.position = stop + 2
        _log_in(connection, buffer[end + 1 : stop], buffer[stop : stop + 2])
        if connection.delayed:
            return False
        if connection.stranger_since is None:
            connection.runner = run_text
        # A look at a hashed password takes milliseconds: others have their turn.
        break
    left = len(connection.buffer) - connection.position
    return left >= _LINE_MIN_BYTES or (left > 0 and connection.stranger_since is None)


def login_bytes(tokens: list[bytes]) -> int | None:
    """Return how long the value behind a line is; None: it is no `set`, and nothing follows."""
    return decode_u32(tokens[4]) if len(tokens) > 4 and tokens[0] == b"set" else None


def _log_in(connection: Connection, value: bytes, terminator: bytes) -> None:
    if terminator != b"\r\n":
        connection.reply(b"CLIENT_ERROR bad command line termination\r\n")
        return
    words = split_line(value)
    if len(words) < 2:
        connection.reply(b"CLIENT_ERROR bad authentication token format\r\n")
        return
    authenticator = connection.service.host.authenticator
    assert authenticator is not None
    counters = connection.service.counters
    counters.auth_cmds += 1
    if authenticator.check(words[0], words[1]):
        connection.become_member()
        connection.reply(b"STORED\r\n")
    else:
        counters.auth_errors += 1
        connection.refuse_login(b"CLIENT_ERROR authentication failure\r\n")
