"""The login of the text protocol (`-Y`): a `set` of any key whose value is `user password`.

A runner of its own, as nothing of the text protocol's framing holds before the login: every line
that is no `set` gets the same answer, a line too short to be one ends the connection, noreply means
nothing, and the value is waited for whatever the rest of the line says. The password is all that
follows the first blank. Success makes `run_text` the runner.
# protocol.txt, "Authentication"; memcached: try_read_command_asciiauth
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .. import limits
from .framing import run_text

if TYPE_CHECKING:
    from .connection import Connection

#: What is shorter is not looked at, even if it is a line.
_LOOK_MIN_BYTES: Final = 3
#: A shorter line, its end not counted, has no words. # memcached: mcmc_tokenize
_LINE_MIN_BYTES: Final = 6
_NUMBER_MAX_DIGITS: Final = 11

_UNAUTHENTICATED: Final = b"CLIENT_ERROR unauthenticated\r\n"
_TOO_LONG: Final = b"CLIENT_ERROR auth token too long\r\n"


def run_login(connection: Connection, budget: int, /) -> bool:
    """Answer lines until one logs in. True: the budget ended first."""
    while budget:
        buffer = connection.buffer
        if len(buffer) - connection.position < _LOOK_MIN_BYTES:
            return False
        end = buffer.find(b"\n", connection.position)
        if end < 0:
            if len(buffer) - connection.position > limits.LINE_MAX_BYTES:
                connection.close("error")
            return False
        line = buffer[connection.position : end]
        if len(line) < _LINE_MIN_BYTES:
            connection.close("error")
            return False
        length = login_bytes(line)
        budget -= 1
        if length is None or length > limits.READ_BUFFER_BYTES:
            connection.position = end + 1
            connection.reply(_UNAUTHENTICATED if length is None else _TOO_LONG)
            continue
        stop = end + 1 + length
        if len(buffer) < stop + 2:
            if len(buffer) - (end + 1) >= limits.READ_BUFFER_BYTES:
                connection.close()
            return False
        connection.position = stop + 2
        _log_in(connection, buffer[end + 1 : stop], buffer[stop : stop + 2])
        if connection.delayed:
            return False
        # What is behind it is executed apart: other servers may answer that anew, but not a login.
        break
    left = len(connection.buffer) - connection.position
    return left >= _LOOK_MIN_BYTES or (left > 0 and connection.stranger_since is None)


def login_bytes(line: bytes) -> int | None:
    """Return how long the value behind a line is; None: it is no `set`, and nothing follows.

    The line ends before the line feed; a byte before that belongs to the end, whichever it is.
    """
    tokens = [token for token in line[:-1].removesuffix(b"\r").split(b" ") if token]
    if len(tokens) < 5 or not line.startswith(b"set"):
        return None
    number = tokens[4]
    if not number.isdigit() or len(number) > _NUMBER_MAX_DIGITS:
        return None
    length = int(number)
    return length if length <= limits.UINT32_MAX else None


def _log_in(connection: Connection, value: bytes, terminator: bytes) -> None:
    if terminator != b"\r\n":
        connection.reply(b"CLIENT_ERROR bad command line termination\r\n")
        return
    user, blank, password = value.partition(b" ")
    if not blank:
        connection.reply(b"CLIENT_ERROR bad authentication token format\r\n")
        return
    authenticator = connection.service.host.authenticator
    assert authenticator is not None
    counters = connection.service.counters
    counters.auth_cmds += 1
    exchange = authenticator.begin_check(user, password)

    def done(_: bytes | None) -> None:
        if exchange.succeeded:
            connection.become_member()
            connection.runner = run_text
            connection.reply(b"STORED\r\n")
        else:
            counters.auth_errors += 1
            connection.refuse_login(b"CLIENT_ERROR authentication failure\r\n")

    connection.log_in(exchange, b"", done)
