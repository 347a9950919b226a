"""What a test runs in: which system, whether threads are threads, and in which event loop, if any.

The event loops are asked only where somebody has imported them.
"""

from __future__ import annotations

import os
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def check_system() -> None:
    """Raise `RuntimeError` where no server runs at all."""
    if sys.platform == "win32":
        raise RuntimeError(
            "pymcd has no server for Windows: run the tests under WSL or in a container, or give"
            " them a memcached that runs elsewhere, by pytest --memcached-server=HOST:PORT"
        )
    if not isinstance(os, ModuleType):
        raise RuntimeError(
            "pyfakefs has replaced the functions by which a server reads and writes: start it"
            " before, in a process of its own, as by @pytest.mark.memcached(process=True) and"
            " `def test(memcached_server, fs)`"
        )


def why_no_thread() -> str | None:
    """Return why a server cannot run in a thread of this process, as a clause, if it cannot.

    Where a library has taken away threads and sockets a thread is none, and trio's event loop finds
    no way to wait. A subinterpreter has no thread that is ended with it.
    """
    for library, module, question in (
        ("gevent", "gevent.monkey", "is_module_patched"),
        ("eventlet", "eventlet.patcher", "is_monkey_patched"),
    ):
        patcher = sys.modules.get(module)
        if patcher is not None:
            is_patched = getattr(patcher, question)
            if any(is_patched(name) for name in ("select", "socket", "thread", "threading")):
                return f"{library} has replaced threads and sockets in the process of the tests"
    try:
        threading.Thread(name="pymcd.testing", daemon=True)
    except RuntimeError as error:  # where Python has subinterpreters
        return str(error)
    return None


def event_loop() -> str | None:
    """Return the name of the library whose event loop the caller would block."""
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return "trio"
    return None if _asyncio_loop() is None else "asyncio"


def _asyncio_loop() -> Any:
    asyncio: Any = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.get_running_loop()
    except RuntimeError:
        return None


async def in_thread(work: Callable[[Callable[[], bool]], Result]) -> Result:
    """Run what blocks in a thread of its own, and return what it returns.

    It is handed a function, which says whether the result is still wanted.
    """
    abandoned = threading.Event()
    try:
        if event_loop() == "trio":
            import trio

            return await trio.to_thread.run_sync(
                work,
                lambda: not abandoned.is_set(),
                abandon_on_cancel=True,
                limiter=trio.CapacityLimiter(1),
            )
        from concurrent.futures import ThreadPoolExecutor

        executor = ThreadPoolExecutor(1)
        try:
            awaited: Result = await _asyncio_loop().run_in_executor(
                executor, work, lambda: not abandoned.is_set()
            )
            return awaited
        finally:
            executor.shutdown(wait=False)
    finally:
        abandoned.set()
