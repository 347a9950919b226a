"""Seconds that pass only while the machine runs.

A virtual machine may stand still as a whole for many seconds. Nobody in it, neither node nor
client, can do anything meanwhile, so it counts neither as waiting nor as patience. A thread that
wakes all the time notices when it could not, and what was missed is taken off.
"""

from __future__ import annotations

import threading
import time

BEAT_S = 0.02
STANDSTILL_S = 1.0

_lock = threading.Lock()
_missed_s = 0.0
_beat_s = 0.0
_thread: threading.Thread | None = None


def _beat() -> None:
    global _beat_s, _missed_s
    while True:
        time.sleep(BEAT_S)
        with _lock:
            now_s = time.monotonic()
            if now_s - _beat_s > STANDSTILL_S:
                _missed_s += now_s - _beat_s - BEAT_S
            _beat_s = now_s


def now_s() -> float:
    """Return seconds from any origin, without those in which the machine stood still."""
    global _beat_s, _thread
    if _thread is None:
        _beat_s = time.monotonic()
        _thread = threading.Thread(target=_beat, name="beat", daemon=True)
        _thread.start()
    while True:
        with _lock:
            now = time.monotonic()
            if now - _beat_s <= STANDSTILL_S:
                return now - _missed_s
        time.sleep(BEAT_S)  # it stood still just now: the thread will say for how long


def standstill_s() -> float:
    """Return for how long the machine has stood still since `now_s` was first called."""
    return _missed_s
