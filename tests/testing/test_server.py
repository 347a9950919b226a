"""`MemcachedServer`: its life, its clock, and what a test can see of it and do to it."""

from __future__ import annotations

import collections
import copy
import errno
import gc
import pickle
import re
import shutil
import socket
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.server.hub import Hub
from pymcd.server.serving import Server
from pymcd.service import Service
from pymcd.store import Cache
from pymcd.store.item import Item as StoredItem
from pymcd.store.item import Segment, SlabClass
from pymcd.testing import Item, MemcachedPair, MemcachedServer

from ..interpreters import needs_certificates
from .helpers import RawClient, nothing_left, raw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Python and trio open and keep things when they are first used.
WARM_UP = MemcachedServer()


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    with WARM_UP, raw(WARM_UP) as client:
        client.ask(b"version\r\n")


# -- life --------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_server_is_one_of_its_kind(duplicate: Callable[[object], object]) -> None:
    with MemcachedServer() as server:
        with pytest.raises(TypeError, match="hand on the address"):
            duplicate(server)
        assert server.port
    with pytest.raises(TypeError, match="hand on the address"):
        duplicate(MemcachedPair())


@pytest.mark.skipif(not hasattr(gc, "freeze"), reason="this Python frees nothing at once")
def test_a_stopped_server_is_not_left_to_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        before = parts_of_servers()
        with MemcachedServer() as server, raw(server) as client:
            for number in range(3):
                client.ask(b"set key%d 0 0 1\r\nx\r\n" % number)
            server.restart(keep_items=True)
            assert parts_of_servers() != before
        assert parts_of_servers() == before
        assert [call.key for call in server.calls] == [b"key0", b"key1", b"key2"]
    finally:
        gc.enable()


def parts_of_servers() -> dict[type, int]:
    """Count the objects that there are."""
    kinds = StoredItem, Segment, SlabClass, Cache, Service, Server, Hub
    return collections.Counter(type(each) for each in gc.get_objects() if isinstance(each, kinds))


@pytest.mark.slow
def test_nothing_is_left_of_two_hundred_servers() -> None:
    with nothing_left():
        for _ in range(200):
            with MemcachedServer() as server, raw(server) as client:
                assert client.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"


def test_connected_clients_are_left_without_a_server() -> None:
    with nothing_left():
        with MemcachedServer() as server:
            clients = [RawClient(server.address) for _ in range(10)]
            for client in clients:
                client.ask(b"set a 0 0 1\r\nx\r\n")
        for client in clients:
            assert client.read() == b""
            client.close()


def test_a_test_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with nothing_left():
        kinds: list[dict[str, Any]] = [{}, {"unix_socket": path}]
        for arguments in kinds:
            with pytest.raises(ZeroDivisionError):
                fail_amid_everything(arguments)
    assert list(tmp_path.iterdir()) == []


def fail_amid_everything(arguments: dict[str, Any]) -> None:
    with MemcachedServer(**arguments) as server, raw(server) as client:
        server.fault().stall()
        client.send(b"get a\r\n")
        server.wait_for("get")
        server.refuse_connections()
        server.pause()
        raise ZeroDivisionError


def test_a_server_that_cannot_start_leaves_nothing_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, nothing_left():
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="leave `port` out") as failure:
            MemcachedServer(port=port).start()
        assert failure.value.errno == errno.EADDRINUSE
        with pytest.raises(ValueError, match="higher than"):
            MemcachedServer(options=["-m", "1", "-I", "1m"]).start()
        with pytest.raises(OSError, match="/nowhere/socket"):
            MemcachedServer(unix_socket="/nowhere/socket").start()


def test_stop_is_harmless_when_repeated_and_start_works_again() -> None:
    server = MemcachedServer()
    server.stop()
    server.start()
    server.put("a", b"1")
    server.stop()
    server.stop()
    with server:
        assert server.items() == {}


def test_servers_of_one_process_share_nothing() -> None:
    with MemcachedServer(clock="frozen") as one, MemcachedServer(clock="frozen") as two:
        one.put("a", b"1", ttl=10)
        assert two.items() == {}
        two.put("a", b"2", ttl=10)
        one.advance(11)
        assert one.get("a") is None
        assert two.get("a") is not None
        one.fault(command="get").drop()
        with raw(two) as client:
            assert client.ask(b"get b\r\n") == b"END\r\n"
        assert list(one.calls) == []
        assert len(two.calls) == 1
        assert one.stats()["get_misses"] == "0"


def test_restart_keeps_the_address_and_what_it_is_told_to() -> None:
    with MemcachedServer() as server:
        address = server.address
        with raw(server) as client:
            client.ask(b"set a 7 100 1\r\nx\r\n")
            client.ask(b"set b 0 0 1\r\ny\r\n")
            before = server.items()
            server.restart(keep_items=True)
            assert client.read() == b""
        assert server.address == address
        after = server.items()
        for key, item in before.items():
            kept = after[key]
            assert (kept.value, kept.flags, kept.cas) == (item.value, item.flags, item.cas)
            assert abs(kept.expires - item.expires) <= 1
        with raw(server) as client:
            assert client.ask(b"gets a\r\n", b"END\r\n") == b"VALUE a 7 1 2\r\nx\r\nEND\r\n"
            # No cas unique is given out twice.
            client.ask(b"set c 0 0 1\r\nz\r\n")
            assert server.items()[b"c"].cas > max(item.cas for item in before.values())
        assert server.stats()["total_items"] == "1"
        server.restart()
        assert server.items() == {}
        assert server.address == address


def test_restart_keeps_the_clock_faults_and_calls() -> None:
    with MemcachedServer(clock="frozen") as server:
        server.put("a", b"1", ttl=100)
        server.advance(60)
        now = server.now
        fault = server.fault(command="get").reply(b"SERVER_ERROR\r\n")
        with raw(server) as client:
            client.ask(b"version\r\n")
        server.restart(keep_items=True)
        assert server.now == now
        with raw(server) as client:
            assert client.ask(b"get a\r\n") == b"SERVER_ERROR\r\n"
        fault.remove()
        server.advance(39)
        assert server.get("a") is not None
        server.advance(2)
        assert server.get("a") is None
        assert [call.command for call in server.calls] == ["version", "get"]
        server.reset()
        server.put("a", b"1")
        assert server.get("a") is not None


def test_calls_can_be_looked_at_afterwards() -> None:
    with MemcachedServer() as server, raw(server) as client:
        client.ask(b"get a\r\n")
    assert [str(call) for call in server.calls] == ["get a"]


# -- wrong use ---------------------------------------------------------------------------------

WRONG: list[tuple[str, Callable[[MemcachedServer], Any], type[Exception], str]] = [
    ("starting twice", lambda s: s.start(), RuntimeError, "restart"),
    ("back in time", lambda s: s.advance(-1), ValueError, "reset"),
    ("no time", lambda s: s.advance(float("nan")), ValueError, "forward"),
    ("for ever", lambda s: s.advance(float("inf")), ValueError, "forward"),
    ("unknown command", lambda s: s.fault(command="gett"), ValueError, "did you mean 'get'"),  # type: ignore[arg-type]
    ("upper case", lambda s: s.fault(command="GET"), ValueError, "did you mean 'get'"),  # type: ignore[arg-type]
    ("command of bytes", lambda s: s.fault(command=[b"get"]), ValueError, "the commands are"),  # type: ignore[list-item]
    ("never", lambda s: s.fault(times=0), ValueError, "leave times out"),
    ("no chance", lambda s: s.fault(probability=0), ValueError, "probability=0.25"),
    ("client 0", lambda s: s.fault(connection=0), ValueError, "counted from 1"),
    ("negative delay", lambda s: s.fault().delay(-1), ValueError, "0 or more"),
    ("endless delay", lambda s: s.fault().delay(float("inf")), ValueError, "stall"),
    ("reply of str", lambda s: s.fault().reply("END"), TypeError, 'write b"'),  # type: ignore[arg-type]
    ("less than nothing", lambda s: s.fault().truncate(-1), ValueError, "0 or more"),
    ("no garbage", lambda s: s.fault().garbage(0), ValueError, "1 or more"),
    ("put of str", lambda s: s.put("a", "1"), TypeError, "encode"),  # type: ignore[arg-type]
    ("put of half a second", lambda s: s.put("a", b"1", ttl=0.5), ValueError, "whole"),  # type: ignore[arg-type]
    ("put of odd flags", lambda s: s.put("a", b"1", flags=-1), ValueError, "32 bits"),
    ("put of too much", lambda s: s.put("a", bytes(2 << 20)), ValueError, "max_item_size"),
    ("empty key", lambda s: s.get(""), ValueError, "1 to 250"),
    ("long key", lambda s: s.get("a" * 251), ValueError, "1 to 250"),
    ("key of a number", lambda s: s.get(1), TypeError, "str or bytes"),  # type: ignore[arg-type]
    ("wait for nothing", lambda s: s.wait_for("get", count=0), ValueError, "1 call"),
    ("wait for unknown", lambda s: s.wait_for("got"), ValueError, "did you mean"),  # type: ignore[arg-type]
    ("load of a list", lambda s: s.load([("a", b"1")]), TypeError, 'write load({"a"'),  # type: ignore[arg-type]
    ("load of a number", lambda s: s.load({1: b"1"}), TypeError, "str or bytes"),  # type: ignore[type-var]
    ("load of an empty key", lambda s: s.load({"": b"1"}), ValueError, "1 to 250"),
    ("restore of a dict", lambda s: s.restore({}), TypeError, "load() stores a dict"),  # type: ignore[arg-type]
    ("a number in it", lambda s: 1 in s, TypeError, "str or bytes"),  # type: ignore[operator]
    ("unknown report", lambda s: s.stats("bogus"), ValueError, "ERROR"),
    ("authority", lambda s: s.tls_ca_file, RuntimeError, "tls=True"),
]


@pytest.mark.parametrize(
    ("use", "error", "words"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_wrong_use_says_what_to_write(
    use: Callable[[MemcachedServer], Any], error: type[Exception], words: str
) -> None:
    with MemcachedServer() as server:
        with pytest.raises(error, match=f"(?i){re.escape(words)}"):
            use(server)
        with raw(server) as client:
            assert client.ask(b"get a\r\n") == b"END\r\n"


#: Each says the argument's name, and what to write.
WRONG_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    *(
        ({"memory_limit": wrong}, "megabytes, as in memory_limit=64")
        for wrong in (0, 0.5, None, "64")
    ),
    ({"memory_limit": True}, "memory_limit=True: it is in whole megabytes"),
    ({"memory_limit": 1}, "memory_limit=1: an item may be as large as half of it"),
    ({"max_item_size": "100m"}, "write memory_limit=200 or more"),
    *(
        ({"max_item_size": wrong}, 'write bytes, as in max_item_size=4096, or max_item_size="2m"')
        for wrong in ("1x", "", "m", "2 m", None, True, 1.5, -1, 0, 1023, "2g", b"2m")
    ),
    ({"max_item_size": 1500}, "max_item_size=1500: write a multiple of 1024"),
    *(
        ({"port": wrong}, f"port={wrong!r}: a port is a number up to 65535")
        for wrong in (80000, -1, "11211", None, 1.5, True)
    ),
    *(
        ({"host": wrong}, 'write an address, as in host="127.0.0.1"')
        for wrong in ("", None, b"::1")
    ),
    ({"host": "192.0.2.1"}, "host='192.0.2.1' is no address of this machine"),
    ({"unix_socket": ""}, "unix_socket='': a path of 0 bytes"),
    ({"unix_socket": "x" * 108}, "a path of 108 bytes"),
    ({"unix_socket": b"x"}, "unix_socket=b'x': a path is a str or a pathlib.Path"),
    ({"unix_socket": 5}, "unix_socket=5: a path is a str or a pathlib.Path"),
    ({"unix_socket": "x", "port": 1}, "port=1: with unix_socket= there is none"),
    ({"unix_socket": "/tmp"}, "unix_socket='/tmp': failed to listen"),
    *(({"protocol": wrong}, 'write protocol="auto"') for wrong in ("udp", "text", None, 1)),
    *(({"clock": wrong}, '"frozen" or clock="host"') for wrong in ("stopped", None, 5)),
    ({"users": {}}, '"name": "password"'),
    ({"users": "a:b"}, 'users=\'a:b\': write users={"a": "b"}'),
    *(
        ({"users": wrong}, 'write users={"name": "password"}')
        for wrong in (
            "ada",
            [("a", "b")],
            5,
            {"a": 1},
            {1: "a"},
            {"a": None},
            {"": "a"},
            {b"a": "b"},
        )
    ),
    ({"users": {"a b": "c"}, "protocol": "ascii"}, "nobody could log in as 'a b'"),
    *(
        ({"tls": wrong}, 'write tls=True, or tls=("chain.pem", "key.pem")')
        for wrong in ("cert.pem", ("nope.pem", "nope.key"), ("a",), ["a", "b"], 1)
    ),
    ({"tls": (None, None)}, "tls=None: a path is a str or a pathlib.Path"),
    ({"tls": (__file__, __file__)}, "that is no certificate chain and its key, in PEM"),
    *(({"process": wrong}, "write process=True, or leave it out") for wrong in ("yes", None, 1)),
    ({"options": "-M -vv"}, "['-M', '-vv']"),
    *(({"options": wrong}, "options=") for wrong in (None, 5, [1], [""], ["foo"], ["-m", "x"])),
    ({"options": ["-m"]}, "options=['-m']: option requires an argument"),
    ({"options": ["-I", "1"]}, "options=['-I', '1']: Item max size"),
    ({"options": ["-p", "11211"]}, "port="),
    ({"options": ["-l", "::1"]}, "host="),
    ({"options": ["-d"]}, "not for a server of tests"),
    ({"options": ["--bogus"]}, "unrecognized option"),
    ({"options": ["-x", "localhost"]}, "MemcachedPair"),
    ({"options": ["-Y", "/nowhere"]}, "Could not open authfile [/nowhere]"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG_ARGUMENTS, ids=lambda value: str(value))
def test_wrong_arguments_say_what_to_write(arguments: dict[str, Any], words: str) -> None:
    with nothing_left(), pytest.raises((ValueError, TypeError, OSError), match=re.escape(words)):
        MemcachedServer(**arguments).start()


def test_arguments_have_names() -> None:
    with pytest.raises(TypeError, match=r"^MemcachedServer.__init__\(\) takes .* by name"):
        MemcachedServer("127.0.0.1", 11211)  # type: ignore[arg-type, call-arg]


@pytest.mark.parametrize(
    ("size", "item_bytes"),
    [("2m", 2 << 20), ("1M", 1 << 20), ("4k", 4096), ("2048", 2048), (700 << 10, 700 << 10)],
)
def test_sizes(size: int | str, item_bytes: int) -> None:
    with MemcachedServer(max_item_size=size) as server:
        assert server.stats("settings")["item_size_max"] == str(item_bytes)
        server.put("a", bytes(item_bytes - 1000))


STOPPED: list[Callable[[MemcachedServer], Any]] = [
    lambda s: s.address,
    lambda s: s.url,
    lambda s: s.now,
    lambda s: s.advance(1),
    lambda s: s.items(),
    lambda s: s.put("a", b"1"),
    lambda s: s.fault().drop(),
    lambda s: s.wait_for("get"),
    lambda s: s.restart(),
    lambda s: s.reset(),
]


@pytest.mark.parametrize("use", STOPPED)
@pytest.mark.parametrize("was_started", [False, True])
def test_a_server_that_does_not_run_says_so(
    use: Callable[[MemcachedServer], Any], was_started: bool
) -> None:
    server = MemcachedServer()
    if was_started:
        with server:
            pass
    with pytest.raises(RuntimeError, match="with MemcachedServer"):
        use(server)


# -- time --------------------------------------------------------------------------------------


def test_an_item_is_gone_after_its_time_in_every_protocol() -> None:
    for clock in ("real", "frozen"):
        with MemcachedServer(clock=clock) as server, raw(server) as text, raw(server) as binary:
            text.ask(b"set a 0 60 1\r\nx\r\n")
            text.ask(b"ms b 1 T60\r\nx\r\n")
            binary.ask_binary(0x01, b"c", b"\0\0\0\0\0\0\0\x3c", b"x")
            assert len(server.items()) == 3
            server.advance(58)
            for key in (b"a", b"b", b"c"):
                assert text.ask(b"get %b\r\n" % key, b"END\r\n") != b"END\r\n"
            server.advance(3)
            assert server.items() == {}
            for key in (b"a", b"b", b"c"):
                assert text.ask(b"get %b\r\n" % key) == b"END\r\n"
                assert text.ask(b"mg %b v\r\n" % key) == b"EN\r\n"
                assert binary.ask_binary(0x00, key)[0] == 1


def test_a_flush_to_come_comes() -> None:
    with MemcachedServer(clock="frozen") as server, raw(server) as client:
        server.put("a", b"1")
        assert client.ask(b"flush_all 30\r\n") == b"OK\r\n"
        server.advance(28)
        assert server.get("a") is not None
        server.advance(3)
        assert server.get("a") is None


def test_idle_clients_are_closed_by_the_clock() -> None:
    with (
        MemcachedServer(clock="frozen", options=["-o", "idle_timeout=10"]) as server,
        raw(server) as client,
    ):
        client.ask(b"version\r\n")
        server.advance(9)
        assert server.connections == 1
        server.advance(20)
        assert server.connections == 0
        assert client.read() == b""
        assert server.stats()["idle_kicks"] == "1"


def test_a_frozen_clock_stands_and_a_real_one_goes_on() -> None:
    with MemcachedServer(clock="frozen") as frozen, MemcachedServer() as real:
        assert abs(real.now - time.time()) < 60
        assert abs(frozen.now - time.time()) < 60
        then = frozen.now
        assert frozen.now == then
        real_then = real.now
        real.advance(1000)
        assert 1000 <= real.now - real_then < 1060


# -- items -------------------------------------------------------------------------------------


def test_items_are_shown_as_clients_stored_them() -> None:
    with MemcachedServer(clock="frozen") as server, raw(server) as client:
        client.ask(b"set a 5 100 3\r\nabc\r\n")
        client.ask(b"ms Yg== 1 b\r\nx\r\n")
        item = server.get("a")
        assert item is not None
        assert (item.key, item.value, item.flags) == (b"a", b"abc", 5)
        assert abs(item.expires - server.now - 100) <= 1
        assert abs(item.last_access - server.now) <= 1
        reply = client.ask(b"gets a\r\n", b"END\r\n")
        assert reply == b"VALUE a 5 3 %d\r\nabc\r\nEND\r\n" % item.cas
        assert set(server.items()) == {b"a", b"b"}
        never = server.get("b")
        assert never is not None
        assert never.expires == 0


def test_looking_at_items_changes_nothing() -> None:
    calm = ["-o", "no_lru_maintainer"]  # which moves items in its own time
    with MemcachedServer(clock="frozen", options=calm) as server, raw(server) as client:
        client.ask(b"set a 0 0 1\r\nx\r\n")
        before = server.stats(), server.stats("items"), server.get("a")
        server.items()
        server.get("a")
        server.get("b")
        stats = server.stats()
        for changing in ("rusage_user", "rusage_system"):
            stats[changing] = before[0][changing]
        assert (stats, server.stats("items"), server.get("a")) == before


def test_put_stores_what_clients_get() -> None:
    with MemcachedServer(clock="frozen") as server, raw(server) as client:
        server.put("a", b"abc", flags=3, ttl=60)
        server.put("a", b"abcd", flags=4, ttl=60)
        server.put("far", b"1", ttl=40 * 24 * 3600)
        server.put("over", b"1", ttl=-1)
        assert client.ask(b"get a\r\n", b"END\r\n") == b"VALUE a 4 4\r\nabcd\r\nEND\r\n"
        assert server.stats()["cmd_set"] == server.stats()["total_items"] == "0"
        assert server.get("over") is None
        server.advance(61)
        assert server.get("a") is None
        far = server.get("far")
        assert far is not None
        assert abs(far.expires - server.now - 40 * 24 * 3600 + 61) <= 1


def test_load_stores_values_and_items() -> None:
    with MemcachedServer(clock="frozen") as server, raw(server) as client:
        server.put("other", b"1")
        server.load({b"a": b"abc", b"\xc3\xa9": b"2"})
        server.load({"b": Item(b"x", b"3", flags=7, expires=int(server.now) + 60)})
        server.load({"over": Item(b"over", b"4", expires=60)})  # in 1970
        assert client.ask(b"get a b\r\n", b"END\r\n") == (
            b"VALUE a 0 3\r\nabc\r\nVALUE b 7 1\r\n3\r\nEND\r\n"
        )
        assert len(server) == 4
        assert "é" in server
        assert "over" not in server
        assert server.stats()["cmd_set"] == "0"
        server.advance(61)
        assert "b" not in server
        with MemcachedServer(clock="frozen") as another:
            another.load(server.items())
            assert {key: item.value for key, item in another.items().items()} == {
                key: item.value for key, item in server.items().items()
            }


def test_load_stores_all_or_nothing() -> None:
    with MemcachedServer(max_item_size=2048) as server:
        with pytest.raises(ValueError, match="b'b' of 4000 bytes is too large"):
            server.load({"a": b"1", "b": bytes(4000)})
        with pytest.raises(TypeError, match=r"value\.encode\(\)"):
            server.load({"a": b"1", "b": "2"})  # type: ignore[dict-item]
        assert len(server) == 0
        assert server  # though it is empty


def test_restore_leaves_statistics_alone() -> None:
    with MemcachedServer() as server, raw(server) as client:
        client.ask(b"set a 0 0 1\r\nx\r\n")
        server.restore(server.snapshot())
        stats = server.stats()
        assert (stats["cmd_set"], stats["total_items"], stats["curr_items"]) == ("1", "1", "1")


@pytest.mark.parametrize("pair", [False, True])
def test_restore_of_what_is_too_large_changes_nothing(pair: bool) -> None:
    kind: Any = MemcachedPair if pair else MemcachedServer
    with MemcachedServer() as large, kind(max_item_size=2048) as small:
        server = small.a if pair else small
        server.put("a", b"1")
        large.load({"b": b"2", "c": bytes(4000)})
        with pytest.raises(ValueError, match="b'c' of 4000 bytes is too large"):
            server.restore(large.snapshot())
        assert set(server.items()) == {b"a"}


@pytest.mark.parametrize("options", [[], ["-M"]])
def test_restore_of_too_many_items_says_so(options: list[str]) -> None:
    arguments: dict[str, Any] = {"memory_limit": 2, "max_item_size": 1024, "options": options}
    with MemcachedServer() as large, MemcachedServer(**arguments) as small:
        large.load({f"k{number}": bytes(900) for number in range(3000)})
        with pytest.raises(RuntimeError, match=r"all 3000 items .* a larger memory_limit="):
            small.restore(large.snapshot())


@pytest.mark.parametrize("clock", ["real", "frozen"])
def test_restore_is_as_at_the_snapshot(clock: Any) -> None:
    with MemcachedServer(clock=clock) as server, raw(server) as client:
        client.ask(b"set a 5 100 1\r\nx\r\n")
        client.ask(b"set b 0 0 1\r\ny\r\n")
        server.advance(50)
        before, snapshot, now = server.items(), server.snapshot(), server.now
        for _ in range(3):
            server.advance(60)
            client.ask(b"flush_all 10\r\n")
            client.ask(b"set c 0 0 1\r\nz\r\n")
            client.ask(b"delete b\r\n")
            server.restart(keep_items=True)
            assert set(server.items()) - {b"d"} == {b"c"}
            server.restore(snapshot)
            assert 0 <= server.now - now < 30
            assert {key: (item.value, item.flags, item.cas) for key, item in before.items()} == {
                key: (item.value, item.flags, item.cas) for key, item in server.items().items()
            }
            assert abs(server.items()[b"a"].expires - before[b"a"].expires) <= 1
            client.close()
            client = RawClient(server.address)
            # No cas unique is given out twice.
            client.ask(b"set d 0 0 1\r\nz\r\n")
            assert server.items()[b"d"].cas > max(item.cas for item in before.values())
        server.advance(51)
        assert set(server.items()) == {b"b", b"d"}
        server.reset()
        assert len(server) == 0
        assert 0 <= now - server.now - 50 + 30 < 60
        client.close()


def test_what_a_snapshot_has_can_be_elsewhere() -> None:
    with MemcachedServer() as one, MemcachedServer() as other:
        one.load({b"%d" % number: b"x" for number in range(1000)})
        other.put("a", b"1")
        other.restore(one.snapshot())
        assert set(other.items()) == set(one.items())


def test_evict_is_an_eviction() -> None:
    with MemcachedServer() as server:
        server.put("a", b"1", ttl=60)
        server.put("b", b"1")
        assert server.evict("a")
        assert not server.evict("a")
        assert list(server.items()) == [b"b"]
        assert server.stats()["evictions"] == "1"
        assert server.stats()["evicted_unfetched"] == "1"
    with MemcachedServer(options=["-M"]) as server:
        server.put("a", b"1")
        with pytest.raises(RuntimeError, match="-M"):
            server.evict("a")


def test_reset_is_as_good_as_new() -> None:
    with MemcachedServer(clock="frozen") as server, raw(server) as client:
        then = server.now
        client.ask(b"set a 0 0 1\r\nx\r\n")
        client.ask(b"flush_all 50\r\n")
        server.advance(1000)
        server.fault().reply(b"ERROR\r\n")
        server.pause()
        refusal = server.refuse_connections()
        server.reset()
        assert server.now == then
        assert server.items() == {}
        assert list(server.calls) == []
        assert server.stats()["cmd_set"] == server.stats()["cmd_flush"] == "0"
        # The client is still there, and the server is all right.
        client.ask(b"set a 0 10 1\r\nx\r\n")
        server.advance(9)
        assert server.get("a") is not None
        server.advance(100)
        assert client.ask(b"get a\r\n") == b"END\r\n"
        with raw(server) as another:
            assert another.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"
        refusal.remove()
        with raw(server) as another:
            assert another.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"


def test_times_of_day_are_right_after_a_restart_and_a_reset() -> None:
    with MemcachedServer(clock="frozen") as server:
        server.advance(1000)
        server.restart()
        server.reset()
        with raw(server) as client:
            client.ask(b"set a 0 %d 1\r\nx\r\n" % (server.now + 60))
        item = server.get("a")
        assert item is not None
        assert abs(item.expires - server.now - 60) <= 1


def test_what_was_held_does_not_outlive_a_reset() -> None:
    with MemcachedServer(clock="frozen") as server, raw(server) as client, raw(server) as other:
        server.fault(key="a").stall()
        client.send(b"set a 0 0 1\r\nx\r\n")
        server.wait_for("set", "a")
        server.fault(key="b").delay(5)
        other.send(b"set b 0 0 1\r\nx\r\nset c 0 0 1\r\nx\r\n")
        server.wait_for("set", "b")
        server.reset()
        assert client.read() == b"STORED\r\n"
        assert server.get("a") is server.get("b") is None


def test_reports() -> None:
    with MemcachedServer(options=["-D", ":"]) as server, raw(server) as client:
        client.ask(b"set x:a 0 0 1\r\nx\r\n")
        assert server.stats("detail dump") == {"x": "get 0 hit 0 set 1 del 0"}
        assert server.stats("slabs")["active_slabs"] == "1"
        assert server.stats("sizes") == {"sizes_status": "disabled"}
        assert server.stats("reset") == {}
        assert server.stats()["cmd_set"] == "0"
        assert server.calls.of("stats") == []


def test_reset_between_many_examples() -> None:
    with MemcachedServer() as server, raw(server) as client:
        for number in range(50):
            assert client.ask(b"add a 0 0 3\r\n%03d\r\n" % number) == b"STORED\r\n"
            assert len(server.calls) == 1
            server.advance(number)
            server.reset()


def test_what_clients_sent_before_is_done_before() -> None:
    """Nothing waits for these commands: their clients do not, as there will be no reply."""
    with MemcachedServer(clock="frozen") as server:
        for number in range(100):
            with raw(server) as client:
                client.send(b"set a 0 60 1 noreply\r\nx\r\n" + b"incr n 1 noreply\r\n" * 50)
                item = server.get("a")
                assert item is not None
                client.send(b"delete a noreply\r\n")
                assert server.items() == {}
                assert len(server.calls) == 52
                client.send(b"set b 0 60 1 noreply\r\nx\r\n")
                server.advance(61)
                assert server.get("b") is None
                client.send(b"set c 0 0 1 noreply\r\nx\r\n")
                with server.fault(command="set").drop() as fault:
                    assert fault.met == 0
                client.send(b"get %d\r\n" % number)
                server.reset()
                assert server.items() == {}
    with MemcachedServer() as server, raw(server) as client:
        client.send(b"delete a noreply\r\n")
    assert [str(call) for call in server.calls] == ["delete a"]


# -- how it can be started ---------------------------------------------------------------------


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with MemcachedServer(unix_socket=tmp_path / "socket") as server, raw(server) as client:
        assert server.url == path
        assert client.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"
        with pytest.raises(RuntimeError, match="unix_socket"):
            _ = server.port
        server.restart()
        with raw(server) as again, server.refuse_connections():
            with pytest.raises(ConnectionRefusedError):
                RawClient(path)
            assert again.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"
        with raw(server) as again:
            assert again.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_unix_socket_of_another_server_is_not_taken(tmp_path: Path, process: bool) -> None:
    path = tmp_path / "socket"
    with MemcachedServer(unix_socket=path) as server:
        with pytest.raises(OSError, match=r"unix_socket=.*a server listens there already; write"):
            MemcachedServer(unix_socket=path, process=process).start()
        assert path.exists()
        server.restart()
    with socket.socket(socket.AF_UNIX) as dead:  # of a process that was killed
        dead.bind(str(path))
    with MemcachedServer(unix_socket=path, process=process):
        pass
    assert not path.exists()


def test_an_address_of_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with MemcachedServer(host="::1") as server, raw(server) as client:
        assert server.url == f"[::1]:{server.port}"
        assert client.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"


@needs_certificates
def test_tls_with_a_certificate_of_its_own() -> None:
    with MemcachedServer(tls=True) as server:
        context = ssl.create_default_context(cafile=server.tls_ca_file)
        for name in ("localhost", "127.0.0.1"):
            with (
                socket.create_connection(server.address) as sock,
                context.wrap_socket(sock, server_hostname=name) as client,
            ):
                client.sendall(b"set a 0 0 1\r\nx\r\n")
                assert client.recv(100) == b"STORED\r\n"
                assert server.calls[-1].reply == b"STORED\r\n"
        server.restart(keep_items=True)
        assert server.get("a") is not None


@pytest.fixture
def no_trustme(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on interpreters that nobody builds it for."""
    monkeypatch.setitem(sys.modules, "trustme", None)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the command openssl")
def test_tls_with_a_certificate_that_openssl_made(no_trustme: None) -> None:
    with MemcachedServer(tls=True) as server:
        context = ssl.create_default_context(cafile=server.tls_ca_file)
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
        for name in ("localhost", "127.0.0.1"):
            with (
                socket.create_connection(server.address) as sock,
                context.wrap_socket(sock, server_hostname=name) as client,
            ):
                client.sendall(b"version\r\n")
                assert client.recv(100).startswith(b"VERSION")


def test_what_makes_certificates_is_named_where_it_is_missing(
    no_trustme: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"trustme.*no command openssl.*chain\.pem"):
        MemcachedServer(tls=True).start()
    failing = tmp_path / "openssl"
    failing.write_text("#!/bin/sh\necho no randomness today >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"openssl req: no randomness today"):
        MemcachedServer(tls=True).start()


def test_users_of_the_text_protocol() -> None:
    with MemcachedServer(users={"alice": "secret"}, protocol="ascii") as server:
        with raw(server) as client:
            assert client.ask(b"get a\r\n") == b"CLIENT_ERROR unauthenticated\r\n"
            wrong = b"set x 0 0 11\r\nalice wrong\r\n"
            assert client.ask(wrong) == b"CLIENT_ERROR authentication failure\r\n"
            assert client.ask(b"set x 0 0 12\r\nalice secret\r\n") == b"STORED\r\n"
            assert client.ask(b"get a\r\n") == b"END\r\n"
        server.put("a", b"1")
        assert server.stats()["auth_errors"] == "1"


def test_users_of_sasl() -> None:
    with MemcachedServer(users={"alice": "secret"}) as server, raw(server) as client:
        assert client.ask_binary(0x21, b"PLAIN", value=b"\0alice\0wrong")[0] == 0x20
        assert client.ask_binary(0x21, b"PLAIN", value=b"\0alice\0secret")[0] == 0
        assert client.ask_binary(0x00, b"a")[0] == 1


def test_options_of_the_command_line() -> None:
    with MemcachedServer(
        memory_limit=8, max_item_size=2048, options=["-M", "-o", "hot_lru_pct=33"]
    ) as server:
        settings = server.stats("settings")
        assert settings["maxbytes"] == str(8 << 20)
        assert settings["item_size_max"] == "2048"
        assert settings["evictions"] == "off"
        assert settings["hot_lru_pct"] == "33"


def test_the_log_is_kept_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with MemcachedServer(options=["-vv"]) as server, raw(server) as client:
        client.ask(b"get a\r\n")
        assert any(line.endswith("get a") for line in server.log)
        assert [str(call) for call in server.calls] == ["get a"]
    assert capfd.readouterr() == ("", "")


# -- values that are refused -------------------------------------------------------------------

HEAD = b"set a 0 0 2000000\r\n"
REFUSED_FAULTS: list[tuple[str, Callable[[Any], object], bytes]] = [
    ("none", lambda server: None, b"SERVER_ERROR object too large for cache\r\n"),
    ("a reply", lambda server: server.fault(command="set").reply(b"NO\r\n"), b"NO\r\n"),
]


@pytest.mark.parametrize(("inject", "reply"), [c[1:] for c in REFUSED_FAULTS],
                         ids=[c[0] for c in REFUSED_FAULTS])  # fmt: skip
def test_a_refused_value_is_answered_when_all_of_it_is_there(inject: Any, reply: bytes) -> None:
    with MemcachedServer() as server, raw(server) as client, raw(server) as other:
        inject(server)
        client.send(HEAD + bytes(1_000_000))
        other.ask(b"version\r\n")
        assert server.calls.of("set")[0].reply is None
        client.send(bytes(1_000_001))
        other.ask(b"version\r\n")
        assert server.calls.of("set")[0].reply is None
        assert client.ask(b"\n") == reply
        assert server.calls.of("set")[0].reply == reply
        assert client.ask(b"version\r\n") == b"VERSION 1.6.45\r\n"
