"""What `-vv` shows of a conversation: `>24 STORED` for what is answered, or a binary header.

The command loop itself writes the lines that clients send (`<24 get a`), which it has at hand.
Replies exist only as pieces of output, so at this verbosity commands run one by one and the new
pieces are read back into memcached's words. That is slow, and costs nothing when it is off: a
connection is given a `Tracer` for its runner by `follow`, or is not.

Not shown, unlike there: the reply that a `noreply` suppressed. Replies of several lines are not
shown there either, nor those of commands which share their code with memcached's proxy, unless
the line itself was wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .. import limits
from . import binary
from .connection import negotiate
from .framing import run_text
from .login import run_login
from .tokens import BAD_CHUNK, BAD_FORMAT, split_line

if TYPE_CHECKING:
    from .connection import Connection, Runner

_BAD_CHUNK: Final = BAD_CHUNK.rstrip()
_BAD_FORMAT: Final = BAD_FORMAT.rstrip()
_STORING: Final = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")
#: What became of a value.
_OUTCOMES: Final = (b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND")
#: Verbs whose replies are logged only if the words make no command.
_SHARED: Final = tuple(b"delete incr decr touch mg ms md ma".split())


def follow(connection: Connection) -> None:
    """Have what a connection replies logged, if the verbosity asks for that.

    Once, and next to the protocol's own runner, whoever else stands before that.
    """
    if connection.service.verbosity > 1:
        before: Any = connection
        while not isinstance(before, Tracer):
            if not hasattr(before.runner, "runner"):
                before.runner = Tracer(before.runner)
            before = before.runner


class Tracer:
    """A runner that does as another, and logs each reply behind its command."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._words: list[bytes] = []  #: of the command whose value may still be on its way

    def __call__(self, connection: Connection, budget: int, /) -> bool:
        """Execute `budget` commands at most; True: there may be more."""
        if connection.service.verbosity < 2:
            connection.runner = self.runner
            return self.runner(connection, budget)
        if self.runner is negotiate and connection.buffer:
            name = "binary" if connection.buffer[0] == binary.REQUEST_MAGIC else "ascii"
            connection.service.host.log_line(f"{connection.id}: Client using the {name} protocol")
        counters = connection.service.counters
        yields = counters.conn_yields
        # A budget of nothing still finishes a command whose value has now arrived.
        more = self._run_and_log(connection, 0)
        full = limits.RUN_REPLY_BYTES
        while more and budget and connection.weight < full and not connection.closing:
            budget -= 1
            more = self._run_and_log(connection, 1)
        # Stopping between commands was ours, not the client's doing.
        counters.conn_yields = yields + (more and not budget)
        return more

    def _run_and_log(self, connection: Connection, budget: int) -> bool:
        pieces = connection.pieces
        begin = len(pieces)
        if budget:
            line, _, _ = connection.buffer[connection.position :].partition(b"\n")
            self._words = split_line(line.removesuffix(b"\r"))
        # Choosing the protocol replaces the runner of the connection: let it, and step in again.
        connection.runner = self.runner
        try:
            more = self.runner(connection, budget)
        finally:
            # A command may have asked for what is here already.
            now = connection.runner
            self.runner = now.runner if isinstance(now, Tracer) else now
            connection.runner = self
        if connection.service.verbosity < 2:  # it was lowered just now
            return more
        if self.runner is run_text or self.runner is run_login:
            for line in reply_lines(b"".join(pieces[begin:]), self._words):
                connection.service.host.log_line(f">{connection.id} {line.decode('latin-1')}")
        elif self.runner is binary.run_binary:
            for shown in binary.reply_lines(b"".join(pieces[begin:])):
                connection.service.host.log_line(f">{connection.id} {shown}")
        return more


def reply_lines(reply: bytes, words: list[bytes]) -> list[bytes]:
    """Return what memcached logs of the reply to a command of these words."""
    keys: list[bytes] = []
    others: list[bytes] = []
    position = 0
    while position < len(reply):
        end = reply.find(b"\r\n", position)
        if end < 0:
            end = len(reply)
        line = reply[position:end]
        position = end + 2
        parts = line.split(b" ")
        if parts[0] == b"VALUE":
            keys.append(b"sending key " + parts[1])
            position += int(parts[3]) + 2
        elif parts[0] == b"VA":
            position += int(parts[1]) + 2
        elif line:
            others.append(line)
    if len(others) == 1 and _is_told(others[0], words):
        keys += others
    return keys


def _is_told(reply: bytes, words: list[bytes]) -> bool:
    """Return whether memcached logs a reply of one line."""
    verb = words[0] if words else b""
    if reply == _BAD_CHUNK:
        return True
    if verb in _STORING:
        return reply in _OUTCOMES or (
            _makes_no_command(reply, words) and not (len(words) > 4 and words[4].isdigit())
        )
    if verb in _SHARED:
        return _makes_no_command(reply, words)
    if verb == b"stats":
        return reply != b"END"
    if verb == b"watch" or words[1:2] in ([b"metadump"], [b"mgdump"]):
        return reply != b"OK"
    return verb != b"refresh_certs" and not reply.startswith(b"ME ")


def _makes_no_command(reply: bytes, words: list[bytes]) -> bool:
    return reply in (_BAD_FORMAT, b"ERROR") and (
        len(words) < 2 or len(words[1]) <= limits.KEY_MAX_BYTES
    )
