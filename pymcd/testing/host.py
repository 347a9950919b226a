"""An engine in a thread of its own, with its own event loop, and how to call it from outside.

Not for processes that gevent or eventlet have patched: there a server runs in a child.

A child that is forked while a server runs has no such thread, but a copy of every socket; it closes
these, or clients would not notice when the server closes theirs.
"""

from __future__ import annotations

import inspect
import os
import threading
import weakref
from contextlib import suppress
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import trio

from .clocks import monotonic
from .controls import check_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .calls import Call
    from .engine import Engine
    from .wanted import Wanted

    #: What becomes of one call: what it returned, or why it did not.
    _Answer = SimpleQueue[tuple[Any, BaseException | None]]

#: For a thread to begin or to end: only one that hangs gets there.
_PATIENCE_S: Final = 30.0

#: Of this process; only for what a forked child must close.
_hosts: weakref.WeakSet[ThreadHost] = weakref.WeakSet()


class _LoopClock(trio.abc.Clock):
    """The clock of an event loop: trio's own goes by a function that freezegun replaces."""

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return monotonic()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - monotonic()


class ThreadHost:
    """Runs one engine in a thread."""

    def __init__(self, engine: Engine) -> None:
        """Start; return when a client would be answered."""
        self.engine = engine
        self._process = os.getpid()
        self._token: trio.lowlevel.TrioToken | None = None
        self._open: set[_Answer] = set()
        self._ending = threading.Lock()
        self._ended = False
        self.failure: BaseException | None = None
        started: _Answer = SimpleQueue()
        try:
            self._thread = threading.Thread(
                target=self._run, args=(started,), name="pymcd.testing", daemon=True
            )
            self._thread.start()
            _wait_for(started)
        except BaseException:
            engine.close()
            raise
        _hosts.add(self)

    def _run(self, started: _Answer) -> None:
        def begin() -> None:
            self._token = trio.lowlevel.current_trio_token()
            started.put((None, None))

        failure: BaseException | None = None
        try:
            trio.run(self.engine.run, begin, clock=_LoopClock())
        except BaseException as error:
            failure = error
        if self._token is None:
            started.put((None, failure or RuntimeError("the server ended before it began")))
        else:
            self.failure = failure
        with self._ending:
            self._ended = True
        for answer in self._open:
            answer.put((None, RuntimeError(_STOPPED_MEANWHILE)))

    def check_process(self) -> None:
        """Raise `RuntimeError` in a forked child, which has no such thread."""
        check_parent(self._process)

    def check_outside(self, name: str) -> None:
        """Raise `RuntimeError` in a function that this server calls for a command."""
        if threading.current_thread() is self._thread and self.engine.script.executing:
            raise RuntimeError(_FROM_INSIDE.format(name))

    def wait(self, wanted: Wanted, count: int, timeout_s: float) -> list[Call] | None:
        """Return the matching calls when there are `count`; None: that took too long."""
        self.check_process()
        return self.engine.script.record.wait(wanted, count, timeout_s)

    def ask(self, name: str, *arguments: Any) -> Any:
        """Have the engine execute a method in its event loop; return what that returns."""
        self.check_process()
        if threading.current_thread() is self._thread:
            method = self._method(name)
            if inspect.iscoroutinefunction(method):
                raise RuntimeError(_FROM_INSIDE.format(name))
            return method(*arguments)
        answer: _Answer = SimpleQueue()
        with self._ending:
            if self._ended:
                raise RuntimeError(_STOPPED_MEANWHILE)
            method = self._method(name)
            self._open.add(answer)
        assert self._token is not None
        with suppress(trio.RunFinishedError):  # `_run` is about to say so
            self._token.run_sync_soon(self._begin_answer, answer, method, arguments)
        return _wait_for(answer, self._held_by)

    def _held_by(self) -> str | None:
        """Return what to say where a function of a test does not return; None: there is none."""
        origin = self.engine.script.faults.asking
        return None if origin is None else _HELD.format(origin, _PATIENCE_S)

    def _method(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = attrgetter(name)(self.engine)
        return method

    def _begin_answer(
        self, answer: _Answer, method: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        try:
            self.engine.take_in()
            if self.engine.has_tasks:
                value = self._when_settled(method, arguments)
            else:
                value = method(*arguments)
        except Exception as error:
            self._end_answer(answer, None, error)
            return
        if not inspect.iscoroutine(value):
            self._end_answer(answer, value)
            return
        try:
            trio.lowlevel.spawn_system_task(self._answer, answer, value)
        except RuntimeError:  # no more tasks, and `_run` is about to say so
            value.close()

    async def _when_settled(self, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        await self.engine.settle()
        value = method(*arguments)
        return await value if inspect.iscoroutine(value) else value

    async def _answer(self, answer: _Answer, awaitable: Coroutine[Any, Any, Any]) -> None:
        try:
            value = await awaitable
        except Exception as error:
            self._end_answer(answer, None, error)
        else:
            self._end_answer(answer, value)

    def _end_answer(self, answer: _Answer, value: Any, error: Exception | None = None) -> None:
        answer.put((value, error))
        with self._ending:
            self._open.discard(answer)

    def stop(self, last: str) -> Any:
        """End the thread; return when it is gone and everything is closed.

        What is returned is that of a last method of the engine; None if it has ended by itself, or
        if this is a forked child.
        """
        if os.getpid() != self._process:
            return None
        value = None
        if self.engine.has_tasks:
            with suppress(RuntimeError):  # it has ended by itself
                self.ask("settle")

        def end() -> None:
            nonlocal value
            try:
                self.engine.take_in()
                value = attrgetter(last)(self.engine)()
            finally:
                self.engine.stop()

        if threading.current_thread() is self._thread:  # where Python collects garbage, say
            end()
            return value
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(end)
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            held = self._held_by() or f"the server did not stop within {_PATIENCE_S:g} s"
            raise RuntimeError(held)
        _hosts.discard(self)
        self.engine.fall_apart()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return value


_FROM_INSIDE: Final = (
    "{}() waits for the server, so it cannot be called inside it (from a function given to a fault)"
)
_STOPPED_MEANWHILE: Final = "the server has stopped; start() it again"


_HELD: Final = (
    "{}: the function has not returned for {:g} s, and until it does the server does nothing else;"
    " if it waits for the test, have it do so with a time-out"
)


def _wait_for(answer: _Answer, held_by: Callable[[], str | None] = lambda: None) -> Any:
    while True:
        try:
            value, error = answer.get(timeout=_PATIENCE_S)
            break
        except Empty:
            if (held := held_by()) is not None:
                raise RuntimeError(held) from None
    if error is not None:
        raise error
    return value


def _close_in_child() -> None:
    for host in list(_hosts):
        host.engine.close_copies()
    _hosts.clear()


os.register_at_fork(after_in_child=_close_in_child)
