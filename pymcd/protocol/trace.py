"""What `-vv` shows of a text conversation: `>24 STORED` for what is answered.

The command loop itself writes the lines that clients send (`<24 get a`), which it has at hand.
Replies exist only as pieces of output, so at this verbosity commands run one by one and the new
pieces are read back into memcached's words. That is slow, and costs nothing when it is off.

Not shown, unlike there: the reply that a `noreply` suppressed, and replies of several lines, which
memcached does not show either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .framing import run_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .connection import Connection


def run_traced(connection: Connection, budget: int, /) -> bool:
    """Run as the connection's own runner does, and log each reply behind its command."""
    counters = connection.cache.counters
    yields = counters.conn_yields
    # A budget of nothing still finishes a command whose value has now arrived.
    more = _run_and_log(connection, 0)
    while more and budget:
        budget -= 1
        more = _run_and_log(connection, 1)
    # Stopping between commands was ours, not the client's doing.
    counters.conn_yields = yields + more
    return more


def _run_and_log(connection: Connection, budget: int) -> bool:
    pieces = connection.pieces
    begin = len(pieces)
    more = connection.runner(connection, budget)
    if connection.runner is run_text:
        for line in reply_lines(pieces[begin:]):
            connection.service.log_line(f">{connection.id} {line.decode('latin-1')}")
    return more


def reply_lines(pieces: Sequence[bytes]) -> list[bytes]:
    """Return what memcached logs of one command's reply."""
    lines: list[bytes] = []
    values = iter(pieces)
    for piece in values:
        if piece.startswith(b"VALUE "):
            lines.append(b"sending key " + piece.split(b" ", 2)[1])
            next(values, None)  # the value itself
            continue
        line = piece.strip(b"\r\n")
        if line and b"\n" not in line:
            lines.append(line)
    return lines
