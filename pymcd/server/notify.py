"""What a service manager is told of this server: the words of sd_notify(3).

systemd, and others who speak as it does, name a socket in `NOTIFY_SOCKET`. Who is named one hears
when clients may come (`READY=1`), in one line how the server is (`STATUS=`), when it reads its
files again and when it has (`RELOADING=1`, `READY=1`), and that it is about to stop (`STOPPING=1`).
While it has nothing yet, waiting for a peer or copying from one, and while it stops, it asks for
patience again and again (`EXTEND_TIMEOUT_USEC`): these may take longer than any fixed time, and a
node that was killed for it would begin anew. Who wants to know whether the event loop turns
(`WATCHDOG_USEC`) is told so by the event loop itself.

Once ready, always ready: a node that lost its place in the pair and is to catch up is told by
`STATUS=` alone, as to start it anew would help nobody.

Without `NOTIFY_SOCKET` none of this is even imported.
"""

from __future__ import annotations

import os
import socket
import time
from math import inf
from typing import TYPE_CHECKING, Final

from ..readiness import State
from .daemon import NOTIFY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from ..readiness import Readiness

#: How often to look at a server that is on its way from one state to another, and at one of several
#: that is not. What changes in between is told at once, if the server says that it has changed.
CHANGING_S: Final = 1.0
SETTLED_S: Final = 10.0
#: For how long to ask for patience; until then a server that is well has asked again.
PATIENCE_S: Final = 30.0
#: Not more often than this is it told that the event loop turns, however soon that is wanted.
ALIVE_MIN_S: Final = 0.01
#: How often to try again to tell who does not listen just now.
RETRY_S: Final = 0.1

_PASSING: Final = (State.STARTING, State.JOINING, State.DRAINING)
_PATIENCE: Final = f"EXTEND_TIMEOUT_USEC={round(PATIENCE_S * 1e6)}"


class Notifier:
    """Tells a service manager what it wants to know; its owner calls `step` when that is due.

    `send` sends one datagram, or raises `OSError`. `warning` is called once at most: what cannot
    be told must not end a server that is well.
    """

    def __init__(
        self,
        send: Callable[[bytes], object],
        warning: Callable[[str], None],
        *,
        watchdog_s: float = inf,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """`watchdog_s`: after how long without a word this process is held to hang."""
        self._send = send
        #: Ends it; nothing is said any more.
        self.close = close
        self._warning = warning
        self._warned = False
        self._watchdog_s = watchdog_s
        self._unsent: list[str] = []
        self._is_ready = False
        self._is_stopping = False
        self._status = ""

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], warning: Callable[[str], None]
    ) -> Self:
        """Return one for whom `NOTIFY_SOCKET` names."""
        name = environment[NOTIFY_VARIABLE]
        # A name in no file system begins with a zero, which no variable can hold. # sd_notify(3)
        address = "\0" + name[1:] if name.startswith("@") else name
        # Kept: where clients have taken all descriptors, the watchdog is to be told all the same.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)

        def send(words: bytes) -> None:
            # By name each time: whoever listens there may have started anew.
            sock.sendto(words, address)

        watchdog_s = _watchdog_s(environment)
        return cls(send, warning, watchdog_s=watchdog_s, close=sock.close)

    def step(self, readiness: Readiness) -> float:
        """Tell what has changed; return in how many seconds to be called again, at the latest."""
        if not self._flush():
            return RETRY_S
        words = self._what_is_new(readiness)
        if words:
            self._tell(*words)
        look_s = SETTLED_S
        if readiness.state in _PASSING or not self._is_ready:
            look_s = CHANGING_S
        elif readiness.state is State.SINGLE:
            look_s = inf
        # Twice as often as asked for. # sd_watchdog_enabled(3)
        return min(look_s, max(self._watchdog_s / 2, ALIVE_MIN_S)) if not self._unsent else RETRY_S

    def _what_is_new(self, readiness: Readiness) -> list[str]:
        words: list[str] = []
        if readiness.state is State.DRAINING:
            if not self._is_stopping:
                self._is_stopping = True
                words.append("STOPPING=1")
            words.append(_PATIENCE)
        elif not self._is_ready:
            self._is_ready = readiness.ready
            words.append("READY=1" if readiness.ready else _PATIENCE)
        status = f"{readiness.state.replace('_', ' ')}: {readiness.reason}"
        if status != self._status:
            self._status = status
            words.append(f"STATUS={status}")
        if self._watchdog_s < inf:
            words.append("WATCHDOG=1")
        return words

    def reloading(self) -> None:
        """Tell that files are about to be read again."""
        if self._may_reload:
            # Of the clock that it knows. # systemd.service(5), Type=notify-reload
            self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """Tell that they have been read."""
        if self._may_reload:
            self._tell("READY=1")

    @property
    def _may_reload(self) -> bool:
        # `READY=1` would say of a server that starts that it has, and of one that stops that it
        # does not.
        return self._is_ready and not self._is_stopping

    def _tell(self, *words: str) -> None:
        self._unsent.append("\n".join(words))
        self._flush()

    def _flush(self) -> bool:
        """Send what is to be said; return whether all has been."""
        while self._unsent:
            try:
                self._send(self._unsent[0].encode())
            except BlockingIOError:
                return False
            except OSError as error:
                self._warn(f"{NOTIFY_VARIABLE}: nobody can be told: {error.strerror or error}")
            del self._unsent[0]
        return True

    def _warn(self, line: str) -> None:
        if not self._warned:
            self._warned = True
            self._warning(line)


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Return within which time the service manager wants to hear of us. # sd_watchdog_enabled(3)"""
    interval_us = environment.get("WATCHDOG_USEC", "")
    whose = environment.get("WATCHDOG_PID", "")
    if not interval_us.isdecimal() or (whose and whose != str(os.getpid())):
        return inf
    return int(interval_us) / 1e6 or inf
