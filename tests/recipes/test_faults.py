"""Every fault, met by real client libraries: each makes of it what the page of recipes tells."""

from __future__ import annotations

import gc
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pymcd.testing import MemcachedServer

from ..interpreters import needs
from .clients import CLIENTS, PATIENT_S, Client, Pylibmc, connect
from .document import PAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: So soon does a client give up which waits for an answer that never comes.
IMPATIENT_S = 0.05
DELAY_S = 10

#: By their words in the page's table; each begins and goes on.
FAULTS: dict[str, Callable[[MemcachedServer], object]] = {
    "fault().stall()": lambda server: server.fault().stall(),
    "fault().drop()": lambda server: server.fault().drop(),
    "fault().reset()": lambda server: server.fault().reset(),
    r'fault().reply(b"SERVER_ERROR busy\r\n")': lambda server: server.fault().reply(
        b"SERVER_ERROR busy\r\n"
    ),
    'fault().server_error("busy")': lambda server: server.fault().server_error("busy"),
    "fault().miss()": lambda server: server.fault().miss(),
    "fault().chunks(1)": lambda server: server.fault().chunks(1),
    "fault().truncate(5)": lambda server: server.fault().truncate(5),
    "fault().garbage()": lambda server: server.fault().garbage(),
    "fault().out_of_memory()": lambda server: server.fault().out_of_memory(),
    "refuse_connections()": lambda server: server.refuse_connections(),
    "drop_connections()": lambda server: server.drop_connections(),
    "pause()": lambda server: server.pause(),
}
DELAYED = "fault().delay(10)"
#: Of these a client learns by its own time-out.
SILENT = {"fault().stall()", "pause()"}
#: The client must be connected when it happens.
LATE = {"drop_connections()"}

#: Words of the text protocol, for whose rest clients of the other one wait.
OF_TEXT = r'fault().reply(b"SERVER_ERROR busy\r\n")'
BINARY = {"pylibmc binary", "bmemcached"}

MISS = "a miss"
ANSWER = "the answer"


def table() -> dict[str, dict[str, list[str]]]:
    """Return the page's tables: by fault and column the words for what the client may see."""
    section = PAGES[1].read_text(encoding="utf-8").partition("\n### Every fault\n")[2]
    section, _, _ = section.partition("\n## ")
    found: dict[str, dict[str, list[str]]] = {}
    columns: list[str] = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            columns = []
        elif not columns:
            columns = [cell.replace("`", "") for cell in cells]
        elif set(line) != set("|-"):
            words = {
                column: [word.strip("`") for word in re.split(r",? or ", cell)]
                for column, cell in zip(columns, cells, strict=True)
                if column not in ("", "the server")
            }
            found.setdefault(cells[0].strip("`"), {}).update(words)
    return found


TABLE = table()
#: The library, its method, and where the table has it.
COLUMNS = [
    ("pymemcache", "get", "pymemcache"),
    ("pymemcache", "set", "pymemcache"),
    ("pylibmc", "set", "set"),
    ("pylibmc binary", "set", "binary set"),
    ("aiomcache", "get", "aiomcache get"),
    *(
        (library, method, f"{library} {method}")
        for library in ("python-memcached", "bmemcached")
        for method in ("get", "set")
    ),
]
#: What a `get` of these meets depends on their library, and on the `get` before it.
OF_LIBMEMCACHED = {"pylibmc": "get", "pylibmc binary": "binary get"}
#: In another thread these are another client, with a connection that nobody closes.
OF_ONE_THREAD = ("python-memcached", "bmemcached")
SHARED = [name for name in CLIENTS if name not in OF_ONE_THREAD]


@pytest.fixture
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer(clock="frozen") as started:
        started.put("key", b"value")
        yield started


def outcome(client: Client, method: str) -> str:
    """Ask the client; return what it says, in the words of the table."""
    try:
        if method == "set":
            return ANSWER if client.set("key", b"value") else "False"
        return ANSWER if client.get("key") == b"value" else MISS
    except Exception as error:
        return type(error).__name__


def test_the_table_has_every_fault():
    assert set(TABLE) == {*FAULTS, DELAYED}
    assert {*map(tuple, TABLE[DELAYED].values())} == {(ANSWER,)}
    assert {len(columns) for columns in TABLE.values()} == {12}


def time_out(fault: str, library: str) -> float:
    silent = fault in SILENT or (fault == OF_TEXT and library in BINARY)
    return IMPATIENT_S if silent else PATIENT_S


def column_of_get(library: str) -> str:
    """Return where the table has what a `get` of pylibmc meets with the libmemcached it has."""
    module = pytest.importorskip("_pylibmc", reason=needs("pylibmc"))
    version: str = module.libmemcached_version
    return f"{OF_LIBMEMCACHED[library]} ({'.'.join(version.split('.')[:2])})"


# python-memcached does not close a socket that could not be connected.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize(("library", "method", "column"), COLUMNS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_client_meets(server, fault, library, method, column):
    with closing(connect(library, server, time_out(fault, library))) as client:
        if fault in LATE:
            client.get("key")
        FAULTS[fault](server)
        assert outcome(client, method) in TABLE[fault][column]
    if library in OF_ONE_THREAD and sys.implementation.name != "cpython":
        del client
        gc.collect()  # what they did not close is closed by it, and warns, here and not later


BEFORE = ["nothing", "a set", "a miss", "a hit", "a hit and a set"]


@pytest.mark.parametrize("library", OF_LIBMEMCACHED)
@pytest.mark.parametrize(
    ("fault", "before"),
    [
        (fault, before)
        for fault in FAULTS
        for before in BEFORE
        # Who is connected is not refused, and who is not cannot be dropped.
        if not (fault == "refuse_connections()" and before != "nothing")
        if not (fault in LATE and before == "nothing")
    ],
)
def test_a_get_of_pylibmc_meets(server, fault, library, before):
    column = column_of_get(library)
    with closing(connect(library, server)) as client:
        assert isinstance(client, Pylibmc)
        if before == "a miss":
            assert client.get("another") is None
        if "hit" in before:
            assert client.get("key") == b"value"
        if "set" in before:
            assert client.set("key", b"value")
        client.give_up_after(time_out(fault, library))
        FAULTS[fault](server)
        assert outcome(client, "get") == TABLE[fault][column][-1 if "hit" in before else 0]


@pytest.mark.parametrize(
    ("library", "method"),
    [(library, method) for library in SHARED for method in ("get", "set")],
)
def test_a_client_waits_for_a_delayed_answer(server, library, method):
    with closing(connect(library, server)) as client, ThreadPoolExecutor(1) as thread:
        fault = server.fault(command=method).delay(DELAY_S)
        found = thread.submit(outcome, client, method)
        (call,) = server.wait_for(method, "key")
        server.advance(DELAY_S - 1)
        assert call.reply is None
        assert not found.done()
        server.advance(2)
        assert found.result(PATIENT_S) == ANSWER
        assert fault.met == 1


@pytest.mark.parametrize("library", SHARED)
def test_who_was_paused_goes_on(server, library):
    with closing(connect(library, server)) as client, ThreadPoolExecutor(1) as thread:
        server.pause()
        found = thread.submit(outcome, client, "get")
        assert not found.done()
        server.resume()
        assert found.result(PATIENT_S) == ANSWER


@pytest.mark.parametrize("library", SHARED)
def test_who_was_stalled_goes_on_when_the_fault_is_removed(server, library):
    with closing(connect(library, server)) as client, ThreadPoolExecutor(1) as thread:
        with server.fault(command="get", key="key").stall():
            found = thread.submit(outcome, client, "get")
            server.wait_for("get", "key")
        assert found.result(PATIENT_S) == ANSWER


@pytest.mark.parametrize("library", CLIENTS)
def test_a_fault_is_for_one_key_and_so_many_times(server, library):
    server.put("other", b"value")
    with closing(connect(library, server)) as client:
        fault = server.fault(command="get", key="other", times=1).miss()
        found = [client.get("key"), client.get("other"), client.get("other")]
        assert (found, fault.met) == ([b"value", None, b"value"], 1)


def test_what_was_executed_before_the_reset_stays(server):
    exceptions = pytest.importorskip("pymemcache.exceptions")
    with closing(connect("pymemcache", server)) as client:
        with (
            server.fault(command="set").reset(executed=True),
            pytest.raises(ConnectionResetError),
        ):
            client.set("key", b"changed")
        assert server.get("key").value == b"changed"
        with server.fault(command="set").drop(), pytest.raises(exceptions.MemcacheServerError):
            client.set("key", b"again")
        assert server.get("key").value == b"changed"
        assert client.get("key") == b"changed"
