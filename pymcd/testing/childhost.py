"""A fake in a process of its own, for test processes where gevent has replaced threads.

The parent writes a pickled call (the name of a method, its arguments) to the child's standard
input and reads the pickled outcome from its standard output, one at a time. What runs there is in
`child`.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .controls import check_parent

if TYPE_CHECKING:
    from .calls import Call
    from .plan import CommonPlan
    from .wanted import Wanted

#: What runs there.
_CHILD: Final = f"{__package__}.child"
#: A call that waits is asked in slices: others, in other greenlets, have their turn between them.
WAIT_SLICE_S: Final = 0.02
_PATIENCE_S: Final = 30.0


class ChildHost:
    """Runs one server in a child process, or both of a pair in one."""

    def __init__(self, plan: CommonPlan) -> None:
        """Start; return when a client would be answered."""
        plan.check_process()
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._child = subprocess.Popen(
            [sys.executable, "-m", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            self.port: Any = self.ask("begin", plan)  #: of a pair: of "a" and of "b"
        except BaseException:
            self.stop()
            raise

    def ask(self, name: str, *arguments: Any) -> Any:
        """Have the child's engine execute a method; return what that returns."""
        check_parent(self._process)
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        with self._lock:
            try:
                data = pickle.dumps((name, arguments))
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise ValueError(
                    "with process=True functions given to faults, or for keys, must be such that"
                    f" another process can import them: {error}"
                ) from None
            try:
                stdin.write(data)
                stdin.flush()
                outcome, value = pickle.load(stdout)
            except (BrokenPipeError, EOFError, ValueError, pickle.UnpicklingError):
                raise RuntimeError("the server's process has ended; start() it again") from None
            except BaseException:  # a time-out of the test, say
                self._child.kill()  # what it says next would be taken for another answer
                raise
        if outcome == "raise":
            raise value
        return value

    def wait(self, wanted: Wanted, count: int, timeout_s: float) -> list[Call] | None:
        """Return the matching calls when there are `count`; None: that takes longer."""
        calls: list[Call] | None = self.ask("wait", wanted, count, min(timeout_s, WAIT_SLICE_S))
        return calls

    def stop(self, last: str | None = None) -> Any:
        """End the process, after a last call; return when it is gone what that has returned."""
        if os.getpid() != self._process:
            return None
        value = None
        if last is not None:
            with suppress(RuntimeError):  # it has ended already
                value = self.ask(last)
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        # Said, and not only closed: other children may have a copy of the pipe.
        with suppress(OSError, ValueError), stdin:  # it has ended already
            stdin.write(pickle.dumps(("end", ())))
        try:
            self._child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        stdout.close()
        return value


class ChildOfPair:
    """One server of a pair whose process is a child's."""

    def __init__(self, child: ChildHost, which: str) -> None:
        self._child = child
        self._which = which

    def ask(self, name: str, *arguments: Any) -> Any:
        """Have its engine execute a method; return what that returns."""
        return self._child.ask(f"{self._which}:{name}", *arguments)

    def wait(self, wanted: Wanted, count: int, timeout_s: float) -> list[Call] | None:
        """Return the matching calls when there are `count`; None: that takes longer."""
        calls: list[Call] | None = self.ask("wait", wanted, count, min(timeout_s, WAIT_SLICE_S))
        return calls

    def stop(self, last: str) -> Any:
        """Kill it, after a last call; return what that has returned."""
        value = None
        with suppress(RuntimeError):  # it has ended already
            value = self.ask(last)
            self._child.ask("pair:kill", self._which)
        return value
