"""The log: whole lines to stderr or a file, as text or as JSON objects.

What `-v` asks for is written in memcached's own words by whoever has them to say; this module
only knows how a line gets out. It uses neither `logging` nor a buffer: a line is one `write`, so
that lines of a server and of its children never mix and none is lost at a crash.

Nobody waits for the log. What cannot be written at once, as nobody reads the pipe or the disk is
full, is kept up to `KEPT_MAX_BYTES` and written when that is possible again: with the next line, or
when `flush` is called. Lines beyond that are dropped, and the log says how many when it can.

A descriptor that is ours alone does not block (see `startup`). Standard error may be shared with
those who rely on its blocking; there we ask first, and write no more than a pipe then takes.
Rejected: a thread that writes (a line costs a hand-over, and a crash the last ones).
"""

from __future__ import annotations

import datetime as dt
import os
import select
import socket
import stat
import sys
import time
import traceback
from typing import TYPE_CHECKING, Final

from ..exits import EXIT_OS_ERROR, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import LogFormat

STDERR: Final = 2
_NOWHERE: Final = -1
#: What waits for somebody who reads, but slowly: some thousand lines.
KEPT_MAX_BYTES: Final = 1 << 20
#: What a pipe that has room at all takes without blocking.
_PIECE_BYTES: Final = select.PIPE_BUF
#: How long a log that is closed waits for a reader who is merely slow.
CLOSE_PATIENCE_S: Final = 0.5


class Log:
    """Where lines go. Created before privileges are dropped, so that any path may be opened."""

    def __init__(
        self,
        *,
        path: str | None = None,
        line_format: LogFormat = "text",
        realtime: Callable[[], float],
    ) -> None:
        """Open `path`, or take stderr; raise `ConfigError` if it cannot be opened."""
        # A daemon changes its directory.
        self._path = None if path is None else os.path.abspath(path)
        self._realtime = realtime
        self._dumps: Callable[[object], str] | None = None
        if line_format == "json":
            import json  # 5 ms that most servers need not spend

            self._dumps = json.dumps
        #: Called when something is kept that `flush` is to write.
        self.on_kept: Callable[[], None] = lambda: None
        self._kept = bytearray()
        self._dropped = 0  #: lines, since the log last said so
        self._out = _stderr() if self._path is None else _open(self._path)

    @property
    def is_terminal(self) -> bool:
        """Whether a person sees what is written."""
        return self._out.is_terminal

    def line(self, message: str) -> None:
        """Write what `-v` asks for."""
        self._write("info", message)

    def warning(self, message: str) -> None:
        """Write what whoever runs the server should know, whatever the verbosity."""
        self._write("warning", message)

    def failure(self, message: str, error: BaseException) -> None:
        """Write a fault of ours, with its traceback."""
        details = "".join(traceback.format_exception(error)).rstrip()
        self._write("error", message, details)

    def flush(self) -> bool:
        """Write what was kept, as far as possible; return whether all of it is written."""
        kept = self._kept
        while kept or self._dropped:
            if not kept:
                what = "line" if self._dropped == 1 else "lines"
                words = f"{self._dropped} {what} of this log were dropped: it could not be written"
                self._dropped = 0
                kept += self._encode("warning", words, "")
            taken = self._out.take(kept)
            if not taken:
                return False
            del kept[:taken]
        return True

    def give_to(self, user_id: int, group_id: int) -> None:
        """Let a user who takes over from root open the file again, if it is new."""
        self._out.give_to(user_id, group_id)

    def reopen(self) -> None:
        """Open the file by its name again, after a rotation; keep the old one if that fails."""
        if self._path is None:
            return
        try:
            out = _open(self._path)
        except ConfigError as error:
            self.warning(error.message)
            return
        self._out.close()
        self._out = out

    def follow_stderr(self) -> None:
        """Take notice that standard error leads somewhere else now."""
        if self._path is None:
            self._out.close()
            self._out = _stderr()

    def close(self) -> None:
        """Close the file; what is written after that goes to stderr."""
        end = time.monotonic() + CLOSE_PATIENCE_S
        while not self.flush():
            left_s = end - time.monotonic()
            if left_s <= 0 or not self._out.wait(left_s):
                break
        self._kept.clear()
        self._dropped = 0
        self._out.close()
        self._path = None
        self._out = _stderr()

    def _write(self, level: str, message: str, details: str = "") -> None:
        data = self._encode(level, message, details)
        if self._kept and not self.flush():
            if len(self._kept) + len(data) > KEPT_MAX_BYTES:
                self._dropped += 1
            else:
                self._kept += data
            return
        taken = self._out.take(data)
        if taken < len(data):
            self._kept += data[taken:]
            if not self.flush():
                self.on_kept()

    def _encode(self, level: str, message: str, details: str) -> bytes:
        line = f"{message}\n{details}" if details else message
        if self._dumps is not None:
            entry = {"time": self._now(), "level": level, "message": message}
            line = self._dumps({**entry, "traceback": details} if details else entry)
        elif self._path is not None:
            line = f"{self._now()} {line}"
        return (line + "\n").encode("utf-8", "backslashreplace")

    def _now(self) -> str:
        moment = dt.datetime.fromtimestamp(self._realtime(), dt.UTC)
        return moment.isoformat(timespec="milliseconds")


class _Output:
    """A descriptor that is written to without waiting."""

    def __init__(self, fd: int, *, is_new: bool = False) -> None:
        self._fd = fd
        self._is_new = is_new  #: a file that was not there before
        self._socket: socket.socket | None = None
        self._asks = False
        #: A file takes all at once, or, on a disk that is full, nothing however long one waits.
        self._waits = False
        try:
            kind = os.fstat(fd).st_mode
        except OSError:
            return  # writing fails, too
        if stat.S_ISSOCK(kind):
            # Of systemd's journal, for one. Only `send` can be told not to wait.
            self._socket = socket.socket(fileno=os.dup(fd))
        self._waits = not stat.S_ISREG(kind)
        self._asks = self._waits and os.get_blocking(fd)

    @property
    def is_terminal(self) -> bool:
        return self._fd >= 0 and os.isatty(self._fd)

    def take(self, data: bytes | bytearray) -> int:
        """Write of `data` what is possible at once; return how much. 0: nothing."""
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            if self._asks:
                if not self.wait(0.0):
                    return 0
                data = data[:_PIECE_BYTES]
            return os.write(self._fd, data)
        except OSError:
            return 0

    def wait(self, timeout_s: float) -> bool:
        """Wait until something can be written; False: not within that time, or never."""
        if not self._waits:
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return [events for _, events in poll.poll(timeout_s * 1000)] == [select.POLLOUT]

    def give_to(self, user_id: int, group_id: int) -> None:
        """Make a file that is new another user's."""
        if self._is_new:
            os.fchown(self._fd, user_id, group_id)

    def close(self) -> None:
        """Close what is ours."""
        if self._socket is not None:
            self._socket.close()
        if self._fd not in (STDERR, _NOWHERE):
            os.close(self._fd)


def _stderr() -> _Output:
    # Of a process that has none that number may be anything.
    return _Output(STDERR if sys.stderr is not None else _NOWHERE)


def _open(path: str) -> _Output:
    # Not waited for: a pipe with no reader.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    if not _may_follow(path):
        flags |= os.O_NOFOLLOW
    try:
        try:
            return _Output(os.open(path, flags | os.O_EXCL, 0o644), is_new=True)
        except FileExistsError:
            return _Output(os.open(path, flags, 0o644))
    except OSError as error:
        raise ConfigError(f'Failed to open "{path}": {error.strerror}', EXIT_OS_ERROR) from None


def _may_follow(path: str) -> bool:
    """Return whether a link that lies there may be followed; a name such as /dev/stderr is one.

    Not by root a link that somebody else has made: where he may write, root should not.
    """
    try:
        return os.geteuid() != 0 or os.lstat(path).st_uid == 0
    except OSError:
        return False
