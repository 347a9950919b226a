"""The log: whole lines to stderr or a file, as text or as JSON objects.

What `-v` asks for is written in memcached's own words by whoever has them to say; this module
only knows how a line gets out. It uses neither `logging` nor a buffer: a line is one `write`, so
that lines of a server and of its children never mix and none is lost at a crash. A log that can
not be written (a closed pipe, a full disk) never stops the server.
"""

from __future__ import annotations

import datetime as dt
import os
import traceback
from typing import TYPE_CHECKING, Final

from ..config import EXIT_OS_ERROR, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import LogFormat

STDERR: Final = 2


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
        self._fd = STDERR if self._path is None else _open(self._path)

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

    def reopen(self) -> None:
        """Open the file by its name again, after a rotation; keep the old one if that fails."""
        if self._path is None:
            return
        try:
            fd = _open(self._path)
        except ConfigError as error:
            self.warning(error.message)
            return
        os.close(self._fd)
        self._fd = fd

    def close(self) -> None:
        """Close the file; what is written after that goes to stderr."""
        if self._fd != STDERR:
            os.close(self._fd)
            self._fd = STDERR

    def _write(self, level: str, message: str, details: str = "") -> None:
        line = f"{message}\n{details}" if details else message
        if self._dumps is not None:
            moment = dt.datetime.fromtimestamp(self._realtime(), dt.UTC)
            time = moment.isoformat(timespec="milliseconds")
            entry = {"time": time, "level": level, "message": message}
            line = self._dumps({**entry, "traceback": details} if details else entry)
        try:
            os.write(self._fd, (line + "\n").encode("utf-8", "backslashreplace"))
        except OSError:
            pass


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f'Failed to open "{path}": {error.strerror}', EXIT_OS_ERROR) from None
