"""The fixtures for pytest, as a project that uses them has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pymcd.testing import MemcachedServer
from tests.recipes.running import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

IMPORTS_NOTHING = """
import sys, time
import pytest
before = set(sys.modules)
begin = time.process_time()
import pymcd.testing.plugin
cost = time.process_time() - begin
new = {name.split(".")[0] for name in set(sys.modules) - before}
assert new == {"pymcd"}, new
assert set(sys.modules) - before == {"pymcd", "pymcd.testing", "pymcd.testing.plugin"}
assert cost < 0.010, cost
import pymcd.testing
dir(pymcd.testing)
assert "trio" not in sys.modules
from pymcd.testing import MemcachedServer
with MemcachedServer():
    pass
assert "trio" in sys.modules
assert "click" not in sys.modules
"""

SUITE = """
import socket
import pytest

def ask(server, request):
    with socket.create_connection(server.address) as client:
        client.sendall(request)
        answer = b""
        while not answer.endswith(b"\\r\\n"):
            answer += client.recv(1000)
        return answer

def test_what_every_server_can_do(memcached_server):
    server = memcached_server
    assert server.get("a") is None
    assert ask(server, b"set a 3 100 1\\r\\nx\\r\\n") == b"STORED\\r\\n"
    item = server.get("a")
    assert (item.value, item.flags, item.key) == (b"x", 3, b"a")
    assert item.expires > 1_700_000_000 and item.cas
    server.put("b", b"2", ttl=60)
    server.load({"c": b"3", "d": server.get("a")})
    server.put("far", b"4", ttl=40 * 24 * 3600)
    assert "far" in server and "e" not in server and server.get("d").flags == 3
    assert abs(server.get("d").expires - item.expires) <= 1
    assert ask(server, b"get b\\r\\n").endswith(b"2\\r\\nEND\\r\\n")
    assert server.stats()["curr_items"] == "5"
    assert "item_size_max" in server.stats("settings")
    assert isinstance(server.connections, int)
    assert server.url == "%s:%d" % server.address
    server.reset()
    assert ask(server, b"get a\\r\\n") == b"END\\r\\n"

def test_empty_again(memcached_server):
    assert ask(memcached_server, b"get a\\r\\n") == b"END\\r\\n"

@pytest.mark.parametrize("use", [
    lambda server: server.advance(60),
    lambda server: server.items(),
    lambda server: server.now,
    lambda server: server.evict("a"),
    lambda server: server.fault(command="get").drop(),
    lambda server: server.refuse_connections(),
    lambda server: server.drop_connections(),
    lambda server: server.pause(),
    lambda server: server.restart(),
    lambda server: server.calls,
    lambda server: server.log,
    lambda server: server.restore(server.snapshot()),
    lambda server: len(server),
], ids=str)
def test_what_only_the_fake_can_do(memcached_server, use):
    use(memcached_server)

def test_pair(memcached_pair):
    memcached_pair.a.put("a", b"1")
    memcached_pair.wait_in_sync()
    assert memcached_pair.b.get("a").value == b"1"

@pytest.fixture(scope="session")
def shared(memcached_server_session_factory):
    return memcached_server_session_factory()

def test_factory(shared):
    shared.put("a", b"1")
    assert ask(shared, b"get a\\r\\n").endswith(b"END\\r\\n")

def test_factory_again(shared):
    shared.reset()
    assert shared.get("a") is None

def test_factory_with_arguments(memcached_server_factory):
    server = memcached_server_factory(clock="frozen", memory_limit=8)
    assert server.now == server.now
"""


def run_suite(folder: Path, *words: str, suite: str = SUITE) -> tuple[dict[str, int], str]:
    """Run a project's tests; return how many passed, failed, were skipped, and the output."""
    (folder / "test_suite.py").write_text(suite)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    loaded: Sequence[str] = ()
    if not is_installed():
        loaded = ("-p", "pymcd.testing.plugin")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", *OPTIONS, *loaded, *words],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    counts: dict[str, int] = {}
    last = done.stdout.strip().rpartition("\n")[2]
    for part in last.replace("=", "").partition(" in ")[0].split(","):
        number, _, kind = part.strip().partition(" ")
        if number.isdigit():
            counts[kind] = int(number)
    return counts, done.stdout + done.stderr


def _environment() -> dict[str, str]:
    import os

    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def is_installed() -> bool:
    """Return whether pytest finds the plugin by itself, by the entry point."""
    from importlib.metadata import entry_points

    return any(each.value == "pymcd.testing.plugin" for each in entry_points(group="pytest11"))


def test_the_plugin_costs_nothing_where_it_is_not_used() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_NOTHING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_fixtures(tmp_path: Path) -> None:
    counts, output = run_suite(tmp_path)
    assert counts == {"passed": 19}, output


def test_on_a_server_that_is_there_already(tmp_path: Path) -> None:
    with MemcachedServer() as server:
        counts, output = run_suite(tmp_path, f"--memcached-server={server.url}")
        assert counts == {"passed": 4, "skipped": 15}, output
        assert "advance is beyond a real memcached (--memcached-server)" in output
        assert "clock=, memory_limit= cannot be chosen for the server of" in output
        assert "two servers that replicate are not behind --memcached-server" in output
        # It was used, and left as it was.
        assert server.connections == 0
        assert server.calls.of("set", "a")


@pytest.mark.parametrize("wrong", ["nonsense", "", "127.0.0.1:80000", "127.0.0.1:11211,"])
def test_a_wrong_address_is_told_before_any_test(tmp_path: Path, wrong: str) -> None:
    counts, output = run_suite(tmp_path, f"--memcached-server={wrong}")
    assert counts == {}
    assert output.startswith(f"ERROR: --memcached-server={wrong}: ")
    assert "is no HOST:PORT" in output
    assert output.strip().count("\n") == 0


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with MemcachedServer() as server:
        url = server.url
    _, output = run_suite(tmp_path, f"--memcached-server={url}", "-x")
    assert f"nobody answers at {url}" in output


def test_a_failing_test_fails_alone(tmp_path: Path) -> None:
    counts, output = run_suite(
        tmp_path,
        suite="""
import threading
def test_one(memcached_server):
    memcached_server.fault().stall()
    assert False
def test_two(memcached_server, memcached_pair):
    assert threading.active_count() == 4
def test_three():
    assert threading.active_count() == 1
""",
    )
    assert counts == {"passed": 2, "failed": 1}, output


MARKED = """
import pytest

@pytest.mark.memcached(max_item_size=4096, clock="frozen")
class TestMarked:
    def test_of_the_class(self, memcached_server):
        settings = memcached_server.stats("settings")
        assert settings["item_size_max"] == "4096"
        assert memcached_server.now == memcached_server.now

    @pytest.mark.memcached(max_item_size=2048)
    def test_the_nearest_one_wins_and_they_merge(self, memcached_server):
        settings = memcached_server.stats("settings")
        assert (settings["item_size_max"], settings["maxbytes"]) == ("2048", str(8 << 20))
        assert memcached_server.now == memcached_server.now

    @pytest.mark.memcached(memory_limit=16)
    def test_a_pair(self, memcached_pair):
        for server in (memcached_pair.a, memcached_pair.b):
            settings = server.stats("settings")
            assert (settings["item_size_max"], settings["maxbytes"]) == ("4096", str(16 << 20))

    def test_factory(self, memcached_server_factory):
        first, second = memcached_server_factory(), memcached_server_factory(max_item_size=2048)
        assert first.stats("settings")["item_size_max"] == "4096"
        assert second.stats("settings")["item_size_max"] == "2048"
        assert second.now == second.now

@pytest.mark.memcached(process=True)
def test_in_a_process(memcached_server):
    assert memcached_server.stats()["pid"] != str(__import__("os").getpid())

pytestmark = pytest.mark.memcached(memory_limit=8)
"""


def test_markers(tmp_path: Path) -> None:
    counts, output = run_suite(tmp_path, "--strict-markers", suite=MARKED)
    assert counts == {"passed": 5}, output


WRONG_MARKERS = [
    ("memory_limits=8", "unexpected keyword argument 'memory_limits'; did you mean memory_limit?"),
    ("'2m'", 'takes arguments by name, as in @pytest.mark.memcached(clock="frozen")'),
    ("clock='stopped'", 'clock="frozen" or clock="host"'),
]


@pytest.mark.parametrize(("written", "words"), WRONG_MARKERS)
def test_a_wrong_marker_is_told_in_a_line(tmp_path: Path, written: str, words: str) -> None:
    counts, output = run_suite(
        tmp_path,
        suite=f"""
import pytest
@pytest.mark.memcached({written})
@pytest.mark.parametrize("fixture", ["memcached_server", "memcached_pair"])
def test_it(request, fixture):
    request.getfixturevalue(fixture)
""",
    )
    assert counts == {"failed": 2}, output
    assert output.count(words) >= 2, output
    assert "Traceback" not in output
    assert "During handling" not in output


def test_a_factory_of_a_test_gives_back_all_that_it_took(tmp_path: Path) -> None:
    """A server has four descriptors, and 400 of them do not fit into 256."""
    counts, output = run_suite(
        tmp_path,
        suite="""
import pytest, resource, threading

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

@pytest.mark.parametrize("number", range(400))
def test_one(memcached_server_factory, number):
    assert threading.active_count() == 1
    one, other = memcached_server_factory(), memcached_server_factory(max_item_size=2048)
    one.put("a", b"1")
    assert one.port != other.port
""",
    )
    assert counts == {"passed": 400}, output


@pytest.mark.parametrize(
    "fixture", ["memcached_server_factory", "memcached_server_session_factory"]
)
def test_a_factory_takes_its_arguments_by_name(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(
        TypeError, match=r"factory\(\) takes its arguments by name, .* not 'frozen'"
    ):
        request.getfixturevalue(fixture)("frozen")


TWO_SERVERS = """
import pytest

@pytest.fixture(scope="session")
def shared(memcached_server_session_factory):
    return memcached_server_session_factory()

def test_one(memcached_server):
    memcached_server.put("a", b"1")

def test_two(memcached_server, memcached_server_factory):
    other = memcached_server_factory()
    memcached_server.put("a", b"1")
    assert other.get("a") is None

def test_three(shared):
    shared.put("a", b"1")

def test_four(shared, memcached_server):
    assert shared.get("a").value == b"1"
"""


def test_two_servers_are_not_one(tmp_path: Path) -> None:
    with MemcachedServer() as one, MemcachedServer() as two:
        counts, output = run_suite(tmp_path, f"--memcached-server={one.url}", suite=TWO_SERVERS)
        assert counts == {"passed": 2, "skipped": 2}, output
        assert "--memcached-server names one server for this process, in use already" in output
        assert "write --memcached-server=HOST:PORT,HOST:PORT" in output
        both = f"--memcached-server={one.url},{two.url}"
        counts, output = run_suite(tmp_path, both, suite=TWO_SERVERS)
        assert counts == {"passed": 4}, output


EACH_ITS_OWN = """
import pytest, time

@pytest.mark.parametrize("number", range(40))
def test_alone(memcached_server, number):
    memcached_server.put("a", b"%d" % number)
    until = time.monotonic() + 0.01
    while time.monotonic() < until:
        assert memcached_server.get("a").value == b"%d" % number
"""


def test_each_worker_has_a_server_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    with MemcachedServer() as one, MemcachedServer() as two:
        both = f"--memcached-server={one.url},{two.url}"
        counts, output = run_suite(tmp_path, "-n2", both, suite=EACH_ITS_OWN)
        assert counts == {"passed": 40}, output
        assert one.calls.of("set")
        assert two.calls.of("set")
        counts, output = run_suite(
            tmp_path, "-n2", f"--memcached-server={one.url}", suite=EACH_ITS_OWN
        )
        assert not counts, output
        assert f"--memcached-server={one.url}: 2 workers need a server each" in output
        assert "Traceback" not in output


def test_help_names_the_option() -> None:
    loaded = () if is_installed() else ("-p", "pymcd.testing.plugin")
    words = [sys.executable, "-m", "pytest", *OPTIONS, *loaded, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "--memcached-server=HOST:PORT" in done.stdout


REPORTED = """
import socket
import pytest
from pymcd.testing import MemcachedServer

def ask(server, request):
    with socket.create_connection(server.address) as client:
        client.sendall(request)
        return client.recv(1000)

def fail(call):
    assert call.key == b"another"
    return b"END\\r\\n"

def test_a_failure(memcached_server):
    memcached_server.fault(command="get", times=1).reply(fail)
    memcached_server.fault(command="set", times=3).drop()
    assert ask(memcached_server, b"get price\\r\\n") == b"END\\r\\n"

def test_a_failure_in_a_block():
    with MemcachedServer() as server:
        ask(server, b"get cart\\r\\n")
        server.calls.assert_called("set", "cart")

def test_what_only_the_end_shows(memcached_server):
    memcached_server.fault(command="get", times=1).reply(fail)
    ask(memcached_server, b"get a\\r\\n")

def test_all_is_well(memcached_server):
    ask(memcached_server, b"get a\\r\\n")

def test_without_a_server():
    assert False
"""


def test_a_report_shows_calls_and_faults(tmp_path: Path) -> None:
    counts, output = run_suite(tmp_path, suite=REPORTED)
    # What was told with the failure of the test is no second one.
    assert counts == {"passed": 2, "failed": 3, "error": 1}, output
    first = output.partition("test_a_failure_in_a_block __")[0]
    assert "- memcached calls -" in first, output
    assert "connection 1: get price -> b\"SERVER_ERROR AssertionError: assert b'price'" in first
    assert "- memcached faults -" in first
    assert "fault(command='set', times=3).drop() at test_suite.py:17, happened 0 times" in first
    assert "- memcached findings -" in first
    assert "1. fault(command='get', times=1).reply(fail) at test_suite.py:16" in first
    second = output.partition("test_a_failure_in_a_block __")[2].partition("test_without_a_server")[
        0
    ]
    assert "get cart -> b'END\\r\\n'  (command)" in second
    assert "connection 1: get cart -> b'END" in second
    assert "calls.py" not in second  # where the assert is
    assert "VerifyError: fault(command='get', times=1).reply(fail)" in output


CUT_SHORT = """
import pytest
from pymcd.testing import MemcachedPair, MemcachedServer

def arm(server):
    server.fault(command="get", times=1).drop()
    server.fault(command="set", key="a").drop()

def test_skipped(memcached_server):
    arm(memcached_server)
    pytest.skip("no")

def test_skipped_with_others(memcached_server_factory, memcached_pair):
    arm(memcached_server_factory())
    arm(memcached_pair)
    pytest.skip("no")

@pytest.fixture(scope="session")
def server(memcached_server_session_factory):
    return memcached_server_session_factory()

@pytest.fixture
def shared(server):
    server.reset()
    yield server
    server.verify()

def test_skipped_with_one_that_tests_share(shared):
    arm(shared)
    pytest.skip("no")

@pytest.fixture
def of_a_block():
    with MemcachedServer() as server, MemcachedPair() as pair:
        yield server, pair

def test_skipped_with_those_of_a_block(of_a_block):
    for each in of_a_block:
        arm(each)
    pytest.skip("no")

@pytest.fixture
def skipping(memcached_server):
    arm(memcached_server)
    pytest.skip("no")

def test_skipped_by_a_fixture(skipping):
    pass

@pytest.mark.xfail
def test_expected(memcached_server):
    arm(memcached_server)
    assert False

def test_a_part_of_it(memcached_server, subtests):
    arm(memcached_server)
    with subtests.test():
        pytest.skip("no")

def test_of_what_others_share(shared):
    arm(shared)

@pytest.fixture(scope="module")
def of_the_module():
    with MemcachedServer() as server:
        yield server

def test_something(of_the_module):
    of_the_module.fault(command="get", times=1).drop()

def test_the_last_one_is_skipped(of_the_module):
    pytest.skip("no")
"""


def test_who_is_skipped_halfway_is_not_blamed(tmp_path: Path) -> None:
    counts, output = run_suite(tmp_path, "-W", "error", suite=CUT_SHORT)
    assert counts["skipped"] >= 5, output
    assert counts["xfailed"] == 1, output
    assert counts["errors"] == 3, output  # these went on
    assert "ERROR at teardown of test_a_part_of_it" in output
    assert "ERROR at teardown of test_of_what_others_share" in output
    assert "ERROR at teardown of test_the_last_one_is_skipped" in output  # it is the module's
