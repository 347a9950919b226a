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
from typing import TYPE_CHECKING, Any, Final

from ..config import EXIT_OS_ERROR, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import LogFormat

STDERR: Final = 2
_OPEN_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


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
        self._encode: Callable[[str, str, str], str] = _encode_text
        if line_format == "json":
            import json  # 5 ms that most servers need not spend

            def encode_json(level: str, message: str, details: str) -> str:
                moment = dt.datetime.fromtimestamp(self._realtime(), dt.UTC)
                entry: dict[str, Any] = {
                    "time": moment.isoformat(timespec="milliseconds"),
                    "level": level,
                    "message": message,
                }
                if details:
                    entry["traceback"] = details
                return json.dumps(entry)

            self._encode = encode_json
        self._fd = STDERR
        if self._path is not None:
            try:
                self._fd = os.open(self._path, _OPEN_FLAGS, 0o644)
            except OSError as error:
                raise ConfigError(
                    f'Failed to open "{self._path}": {error.strerror}', EXIT_OS_ERROR
                ) from None

    def line(self, message: str) -> None:
        """Write what `-v` asks for."""
        self._write(self._encode("info", message, ""))

    def warning(self, message: str) -> None:
        """Write what whoever runs the server should know, whatever the verbosity."""
        self._write(self._encode("warning", message, ""))

    def failure(self, message: str, error: BaseException) -> None:
        """Write a fault of ours, with its traceback."""
        details = "".join(traceback.format_exception(error)).rstrip()
        self._write(self._encode("error", message, details))

    def reopen(self) -> None:
        """Open the file by its name again, after a rotation; keep the old one if that fails."""
        if self._path is None:
            return
        try:
            fd = os.open(self._path, _OPEN_FLAGS, 0o644)
        except OSError as error:
            self.warning(f'Failed to open "{self._path}": {error.strerror}')
            return
        os.close(self._fd)
        self._fd = fd

    def close(self) -> None:
        """Close the file; what is written after that goes to stderr."""
        if self._fd != STDERR:
            os.close(self._fd)
            self._fd = STDERR

    def _write(self, line: str) -> None:
        data = (line + "\n").encode("utf-8", "backslashreplace")
        try:
            os.write(self._fd, data)
        except OSError:
            pass


def _encode_text(level: str, message: str, details: str) -> str:
    return f"{message}\n{details}" if details else message
