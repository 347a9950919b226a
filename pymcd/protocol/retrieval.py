"""A get of more keys than one run answers: what is left of it.

A line of keys may have megabytes, and so may the value of each key. So a run looks up
`RUN_KEYS_MAX` keys at most, and no more once it has `RUN_REPLY_BYTES` to send; the driver calls
for the next ones when that is sent. Nor is a long line cut into words at once: its rest stays in
the connection's buffer and is cut a window at a time. Between two runs others may change items: a
get of several keys never promised to be one moment.

To the tables of commands each part is a command of its own, `get` with fewer keys. The handler
leaves the mark of the end to the last part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .. import limits
from .tokens import BAD_KEY

if TYPE_CHECKING:
    from .connection import Connection

#: A get whose line is longer is not cut into words at once.
LONG_LINE_BYTES: Final = 4 << 10
_WINDOW_BYTES: Final = 8 << 10
_LONG_VERBS: Final = (b"get ", b"gets ")


class Retrieval:
    """What is left of one command."""

    __slots__ = ("begun", "keys", "line_bytes", "skip_bytes", "unchecked_bytes", "words")

    def __init__(self, words: list[bytes], keys: list[bytes], *, begun: bool) -> None:
        self.words = words  #: in front of the keys
        self.keys = keys  #: cut out of the line, not looked up yet
        self.line_bytes = 0  #: of the line behind them, from the connection's position on
        self.skip_bytes = 0  #: behind those, up to the next command
        self.unchecked_bytes = 0  #: the last of `line_bytes`: there may be a key that is too long
        #: Some keys were looked up: what has been answered lacks its end.
        self.begun = begun

    def _window(self, buffer: bytes, begin: int, end: int) -> list[bytes]:
        """Return the words of the next part of a line, with empty ones between blanks."""
        if end - begin > _WINDOW_BYTES:
            end = begin + _WINDOW_BYTES
            end = buffer.rfind(b" ", begin, end) + 1 or end
        return buffer[begin:end].split(b" ")


def begin_long(connection: Connection, position: int, stop: int, end: int) -> bool:
    """Begin with a line from `position` to `stop` if it is a get; the next command is at `end`."""
    buffer = connection.buffer
    if not buffer.startswith(_LONG_VERBS, position):
        return False
    begin = buffer.index(b" ", position)
    if buffer[stop - 1] == 32:
        stop = begin + len(buffer[begin:stop].rstrip(b" "))
    connection.retrieval = retrieval = Retrieval([buffer[position:begin]], [], begun=False)
    retrieval.line_bytes = retrieval.unchecked_bytes = stop - begin
    retrieval.skip_bytes = end - stop
    connection.position = begin
    return True


def are_short(words: list[bytes]) -> bool:
    """Return whether none is too long for a key."""
    return max(map(len, words)) <= limits.KEY_MAX_BYTES


def shorten(connection: Connection, tokens: list[bytes], first: int) -> None:
    """Leave as many words of a command as one run looks up; `first` is that of the first key."""
    rest = tokens[first + limits.RUN_KEYS_MAX :]
    if rest and are_short(tokens):  # else it is refused
        postpone(connection, tokens, first, rest)


def postpone(connection: Connection, tokens: list[bytes], first: int, keys: list[bytes]) -> None:
    """Leave the last keys of a command, which begin at word `first`, to the next run."""
    del tokens[len(tokens) - len(keys) :]
    retrieval = connection.retrieval
    if retrieval is None:
        connection.retrieval = Retrieval(tokens[:first], keys, begun=True)
    else:
        retrieval.keys[:0] = keys
    connection.fill_run()


def give_up(connection: Connection) -> None:
    """Look up no more: what is left of the command was answered, with an error."""
    retrieval, connection.retrieval = connection.retrieval, None
    if retrieval is not None:
        connection.position += retrieval.line_bytes + retrieval.skip_bytes


def go_on(connection: Connection) -> bool:
    """Look up the next keys, or see whether they are keys; True: there is more to do."""
    retrieval = connection.retrieval
    assert retrieval is not None
    connection.fill_run()
    if retrieval.unchecked_bytes:
        _check(connection, retrieval)
        return True
    keys = _take(connection, retrieval)
    if not retrieval.keys and not retrieval.line_bytes:
        connection.retrieval = None
        connection.position += retrieval.skip_bytes
    elif not keys:
        return True  # nothing but blanks so far
    retrieval.begun = True
    words = retrieval.words
    if connection.cache.listener is not None:
        connection.service.recorder.begin(connection, words[0])
    handler = connection.verbs[words[0]].handler
    assert handler is not None
    handler(connection, [*words, *keys])
    return connection.has_more


def _check(connection: Connection, retrieval: Retrieval) -> None:
    """Refuse a line with a key that is too long, before anything of it is answered."""
    buffer = connection.buffer
    end = connection.position + retrieval.line_bytes
    words = retrieval._window(buffer, end - retrieval.unchecked_bytes, end)
    retrieval.unchecked_bytes -= sum(map(len, words)) + len(words) - 1
    if max(map(len, words)) > limits.KEY_MAX_BYTES:
        connection.retrieval = None
        connection.position = end + retrieval.skip_bytes
        connection.reply(BAD_KEY)


def _take(connection: Connection, retrieval: Retrieval) -> list[bytes]:
    """Return the next keys, as many as one run looks up."""
    if not retrieval.keys and retrieval.line_bytes:
        begin = connection.position
        words = retrieval._window(connection.buffer, begin, begin + retrieval.line_bytes)
        length = sum(map(len, words)) + len(words) - 1
        connection.position += length
        retrieval.line_bytes -= length
        retrieval.keys = [word for word in words if word]
    keys = retrieval.keys[: limits.RUN_KEYS_MAX]
    del retrieval.keys[: limits.RUN_KEYS_MAX]
    return keys
