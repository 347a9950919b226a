"""What the fixtures of `pymcd.testing` cost a suite of tests: `python -m bench.fixtures [options]`.

CPU seconds, of the user and the system, per test that asks for `memcached_server`, over one that
asks for a fixture that does nothing; and how long the first server of a process takes with all that
it imports. Medians, of runs that alternate.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from .contenders import CHECKOUT

SUITE = """
import pytest

@pytest.fixture
def nothing():
    yield

@pytest.mark.parametrize("number", range({tests}))
def test_one({fixture}, number):
    pass
"""
FIRST_START = """
import time
begin = time.perf_counter(), time.process_time()
from pymcd.testing import MemcachedServer
server = MemcachedServer().start()
print(time.perf_counter() - begin[0], time.process_time() - begin[1])
server.stop()
"""
#: As in a process that has tests: pytest and what it imports is there before.
WITH_PYTEST = "import pytest\n"


def cpu_of_suite(python: str, fixture: str, tests: int) -> float:
    """Return the CPU seconds of a whole run of pytest."""
    with TemporaryDirectory() as folder:
        Path(folder, "test_suite.py").write_text(SUITE.format(fixture=fixture, tests=tests))
        words = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:trio"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        child = subprocess.Popen(
            [*words, "-p", "pymcd.testing.plugin"],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"bench.fixtures: the tests failed: {' '.join(words)}")
    return usage.ru_utime + usage.ru_stime


def first_start(python: str) -> tuple[float, float]:
    """Return seconds by the clock, and of CPU."""
    done = subprocess.run(
        [python, "-c", WITH_PYTEST + FIRST_START],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=True,
    )
    elapsed_s, cpu_s = map(float, done.stdout.split())
    return elapsed_s, cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fixtures", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="one that has pytest and trio")
    parser.add_argument("--tests", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    python, tests = options.python, options.tests
    costs = []
    starts = []
    for _ in range(options.rounds):
        empty = cpu_of_suite(python, "nothing", tests)
        costs.append((cpu_of_suite(python, "memcached_server", tests) - empty) / tests)
        starts.append(first_start(python))
    said = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout
    print(f"{said.strip()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {time.ctime()}")
    print(f"a test with memcached_server   {statistics.median(costs) * 1000:8.2f} ms of CPU")
    print(f"                    the least  {min(costs) * 1000:8.2f} ms")
    elapsed, cpu = (statistics.median(each) * 1000 for each in zip(*starts, strict=True))
    print(f"import and the first start     {elapsed:8.0f} ms, {cpu:.0f} ms of CPU")


if __name__ == "__main__":
    main()
