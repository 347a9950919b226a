"""A client that asks every millisecond, in a process of its own, and notes how long answers take.

Or one that comes anew for each request, now and then: how long does a newcomer wait?

`python probe.py` reads one line of JSON from its standard input: where to connect, what to say once
and what to ask. It measures until it is told to stop by SIGTERM, and prints what it saw. It imports
nothing of the project, so that it starts at once, and asks for a realtime priority, so that it is
not itself what is late; how late it was all the same is among its figures.

A connection that it loses it makes anew, until it has been refused for too long, and the answer
that it did not get is waited for on.

While it waits for an answer it does not ask again. What it would have asked meanwhile counts among
the quantiles as if it had: an answer after 100 ms stands for 100 answers, after 100, 99, 98 ms.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
from typing import Any

#: Answers that took longer are told one by one.
LONG_S = 0.005
LONG_MAX = 1000
#: Who does not accept a connection for so long is gone.
GONE_S = 30.0
PAUSE_S = 0.01
PRIORITY = 1


class _Stop(Exception):
    """The measurement has been told to end."""


def _stop(number: int, frame: object) -> None:
    raise _Stop


def _whole(answer: bytes, ending: bytes) -> bool:
    """Say whether the answer is there: by its end, or as the binary protocol tells its length."""
    if ending:
        return answer.endswith(ending)
    return len(answer) >= 24 and len(answer) >= 24 + int.from_bytes(answer[8:12])


class Probe:
    """One measurement."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._host, self._port = order["host"], order["port"]
        self._greeting = bytes.fromhex(order["greeting"])
        self._request = bytes.fromhex(order["request"])
        self._ending = bytes.fromhex(order["ending"])
        #: Of the server's thread that answers: since when it runs, and how long it has waited to.
        self._schedule = os.open(order["schedule"], os.O_RDONLY) if order["schedule"] else None
        self._interval_s = order["interval_s"]
        #: Comes anew for each request.
        self._comes = order["comes"]
        self._stream = socket.socket()
        #: Connections that were closed, or could not be made at once.
        self.lost = 0
        self.taken_s: list[float] = []
        self.late_s: list[float] = []
        self.long: list[tuple[float, float, float]] = []

    def _waited_s(self) -> float:
        """Return for how long the server's thread has been ready to run, and did not."""
        if self._schedule is None:
            return 0.0
        try:
            return int(os.pread(self._schedule, 100, 0).split()[1]) / 1e9
        except (OSError, IndexError):
            return 0.0

    def _connect(self) -> None:
        self._stream.close()
        self._stream = socket.create_connection((self._host, self._port), timeout=GONE_S)
        self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream.settimeout(None)
        if self._greeting:
            self._ask(self._greeting)

    def _ask(self, request: bytes) -> None:
        self._stream.sendall(request)
        answer = b""
        while not _whole(answer, self._ending):
            data = self._stream.recv(1 << 16)
            if not data:
                raise ConnectionResetError(f"closed after {answer!r}")
            answer += data

    def _ask_until_answered(self) -> None:
        since_s = time.monotonic()
        while True:
            try:
                if self._comes:
                    self._connect()
                self._ask(self._request)
                return
            except OSError:
                self.lost += 1
            while True:
                try:
                    self._connect()
                    break
                except OSError:
                    if time.monotonic() - since_s > GONE_S:
                        raise
                    time.sleep(PAUSE_S)

    def run(self) -> None:
        now = time.monotonic
        self._connect()
        self._ask(self._request)
        print("ready", flush=True)
        began_s = due_s = asked_s = now()
        waited_s = self._waited_s()
        waiting = False
        try:
            while True:
                asked_s = now()
                if asked_s < due_s:
                    time.sleep(due_s - asked_s)
                    asked_s = now()
                    self.late_s.append(asked_s - due_s)
                waiting = True
                self._ask_until_answered()
                answered_s = now()
                waiting = False
                waited_s = self._note(answered_s - asked_s, asked_s - began_s, waited_s)
                due_s = max(due_s + self._interval_s, answered_s)
        except _Stop:
            if waiting:
                self._note(now() - asked_s, asked_s - began_s, waited_s)

    def _note(self, taken_s: float, when_s: float, waited_s: float) -> float:
        self.taken_s.append(taken_s)
        waited_now_s = self._waited_s()
        if taken_s > LONG_S and len(self.long) < LONG_MAX:
            self.long.append((when_s, taken_s, waited_now_s - waited_s))
        return waited_now_s


def main() -> None:
    order = json.loads(sys.stdin.readline())
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        realtime = True
    except (OSError, AttributeError):
        realtime = False
    gc.disable()
    signal.signal(signal.SIGTERM, _stop)
    probe = Probe(order)
    failed = ""
    try:
        probe.run()
    except OSError as error:
        failed = f"{type(error).__name__}: {error}"
    except _Stop:
        failed = "stopped before it began"
    found = {
        "taken_s": probe.taken_s,
        "late_s": max(probe.late_s, default=0.0),
        "long": probe.long,
        "lost": probe.lost,
        "realtime": realtime,
        "failed": failed,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
