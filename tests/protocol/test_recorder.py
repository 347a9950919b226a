"""Prefix statistics and watchers."""

from __future__ import annotations

import pytest

from pymcd.protocol.recorder import PREFIXES_MAX, WATCHERS_MAX, uri_encode
from pymcd.store.status import StoreMode
from tests.protocol.binary_client import GET, SET, request, store
from tests.protocol.helpers import Client, make_service

from ..clocks import ManualClock

TS = "ts=1700000000.0"


def watcher_of(client: Client, events: str) -> Client:
    watcher = Client(client.service)
    assert watcher.send(f"watch {events}\r\n".encode()) == b"OK\r\n"
    return watcher


def lines(watcher: Client) -> list[str]:
    return watcher.take().decode().splitlines()


# -- prefixes ------------------------------------------------------------------------------------


def test_prefixes():
    client = Client()
    client.send(b"stats detail on\r\n")
    client.send(
        b"set foo:a 0 0 1\r\n1\r\nget foo:a foo:b\r\ngat 0 foo:a\r\ndelete foo:b\r\n"
        b"set plain 0 0 1\r\n1\r\nget plain\r\nset bar: 0 0 1\r\n1\r\nget :x\r\n"
    )
    assert client.send(b"stats detail dump\r\n") == (
        b"PREFIX foo get 3 hit 2 set 1 del 1\r\n"
        b"PREFIX bar get 0 hit 0 set 1 del 0\r\n"
        b"PREFIX  get 1 hit 0 set 0 del 0\r\n"
        b"END\r\n"
    )


def test_a_key_ends_at_its_first_nul_byte():
    client = Client(detail_enabled=True)
    recorder = client.service.recorder
    recorder.begin(client.connection, "set")
    for key in (b"a\0:b", b"\0a:b", b"a:\0b"):
        recorder.storing(key)
    assert client.send(b"stats detail dump\r\n") == b"PREFIX a get 0 hit 0 set 1 del 0\r\nEND\r\n"


def test_prefixes_are_kept_while_detail_is_off():
    client = Client()
    client.send(b"stats detail on\r\nget a:b\r\nstats detail off\r\nget a:b\r\n")
    assert client.service.cache.listener is None
    assert client.send(b"stats detail dump\r\n") == b"PREFIX a get 1 hit 0 set 0 del 0\r\nEND\r\n"


def test_detail_from_the_start_with_another_delimiter():
    client = Client(detail_enabled=True, prefix_delimiter="/")
    client.send(b"get a/b:c\r\n")
    assert client.send(b"stats detail dump\r\n") == b"PREFIX a get 1 hit 0 set 0 del 0\r\nEND\r\n"


def test_prefixes_are_bounded():
    client = Client(detail_enabled=True)
    recorder = client.service.recorder
    for number in range(PREFIXES_MAX + 10):
        recorder.begin(client.connection, b"set")
        recorder.storing(b"%d:x" % number)
    assert len(recorder.prefixes) == PREFIXES_MAX


# -- watchers ------------------------------------------------------------------------------------


def test_fetchers():
    client = Client()
    client.send(b"set a%b 0 0 3\r\nabc\r\n")
    watcher = watcher_of(client, "fetchers")
    client.send(b"get a%b b\r\n")
    assert lines(watcher) == [
        f"{TS} gid=2 type=item_get key=a%25b status=found clsid=1 cfd=10 size=3",
        f"{TS} gid=3 type=item_get key=b status=not_found clsid=0 cfd=10 size=0",
    ]


def test_fetchers_are_the_default():
    client = Client()
    watcher = watcher_of(client, "")
    client.send(b"get b\r\nset b 0 0 1\r\n1\r\n")
    # Storing looks first, too.
    assert [line.split(" ")[2] for line in lines(watcher)] == ["type=item_get", "type=item_get"]


def test_mutations():
    client = Client()
    watcher = watcher_of(client, "mutations")
    client.send(
        b"set a 0 100 1\r\n1\r\nappend a 0 0 2\r\n22\r\nadd a 0 0 1\r\n1\r\n"
        b"cas b 0 0 1 1\r\n1\r\nset big 0 0 2000000\r\n%b\r\nset gone 0 -1 1\r\n1\r\n"
        % (b"x" * 2_000_000)
    )
    told = [line.split(" ", 3)[3] for line in lines(watcher)]
    assert told == [
        "key=a status=stored cmd=set ttl=100 clsid=1 cfd=10 size=1",
        "key=a status=stored cmd=append ttl=100 clsid=1 cfd=10 size=3",
        "key=a status=not_stored cmd=add ttl=0 clsid=1 cfd=10 size=1",
        "key=b status=not_found cmd=cas ttl=0 clsid=1 cfd=10 size=1",
        "key=big status=too_large cmd=set ttl=0 clsid=0 cfd=10 size=0",
        "key=gone status=stored cmd=set ttl=4294967295 clsid=1 cfd=10 size=1",
    ]


def test_deletions():
    client = Client()
    client.send(b"set a 0 0 1\r\n1\r\n")
    watcher = watcher_of(client, "deletions")
    client.send(b"delete a\r\ndelete a\r\n")
    assert lines(watcher) == [f"{TS} gid=2 type=deleted key=a cmd=delete clsid=1 size=1"]


@pytest.mark.parametrize(
    ("first", "rest", "told"),
    [
        (b"set a 0 0 3\r\nab", b"c\r\n", "item_store"),
        (store(SET, b"a", b"abc")[:-1], b"c", "item_store"),
        (b"get a", b"\r\n", "item_get"),
    ],
)
def test_it_is_told_who_acts_when_a_command_comes_in_pieces(first, rest, told):
    slow = Client()
    other = Client(slow.service)
    watcher = watcher_of(slow, "fetchers mutations")
    slow.send(first)
    other.send(b"get other\r\n")
    slow.send(rest)
    *others, last = lines(watcher)
    assert f"key=other status=not_found clsid=0 cfd={other.connection.id}" in others[0]
    assert f"type={told} key=a" in last
    assert f"cfd={slow.connection.id}" in last


def test_whoever_watches_first_is_told_of_others_in_the_same_turn():
    """Nobody's fast path goes on unheard until the clock is read again."""
    client = Client()
    binary = Client(client.service)
    service = client.service
    service.tick()
    binary.send(request(GET, b"a"))
    client.send(b"get a\r\n")
    assert service.plain
    watcher = watcher_of(client, "fetchers")
    assert binary.connection.respond(request(GET, b"a"))
    assert client.connection.respond(b"get a\r\n") == b"END\r\n"
    assert [line.rsplit(" ", 2)[1] for line in lines(watcher)] == [
        f"cfd={binary.connection.id}",
        f"cfd={client.connection.id}",
    ]


def test_evictions():
    clock = ManualClock()
    client = Client(make_service(clock, memory_limit_bytes=2 << 20))
    client.send(b"set k 0 0 1000\r\n%b\r\nget k\r\n" % (b"x" * 1000))
    watcher = watcher_of(client, "evictions")
    clock.advance(5)
    for number in range(1, 1770):
        client.service.cache.tick()
        client.service.cache.store(StoreMode.SET, b"k%d" % number, b"x" * 1000, 0, 100)
    assert lines(watcher) == []
    client.service.cache.store(StoreMode.SET, b"last", b"x" * 1000)
    assert [line.split(" ", 2)[2] for line in lines(watcher)] == [
        "type=eviction key=k fetch=yes ttl=-1 la=5 clsid=12 size=1000"
    ]


def test_connections():
    client = Client()
    watcher = watcher_of(client, "connevents")
    other = Client(client.service)
    other.connection.close_reason = "error"
    client.service.disconnected(other.connection)
    local = Client(client.service)
    local.connection.transport = "local"
    local.connection.address = "unix:<AF 1>"
    six = local.connection
    client.service.disconnected(six)
    assert [line.split(" ", 2)[2] for line in lines(watcher)] == [
        "type=conn_new rip=127.0.0.1 rport=40012 transport=tcp cfd=12",
        "type=conn_close rip=127.0.0.1 rport=40012 transport=tcp reason=error cfd=12",
        "type=conn_new rip=127.0.0.1 rport=40012 transport=tcp cfd=12",
        "type=conn_close rip=unix rport=0 transport=local reason=normal cfd=12",
    ]


def test_connections_over_ipv6():
    client = Client()
    watcher = watcher_of(client, "connevents")
    client.connection.address = "tcp6:[::1]:5"
    client.service.disconnected(client.connection)
    assert "rip=::1 rport=5 transport=tcp" in lines(watcher)[0]


def test_page_moves():
    client = Client()
    watcher = watcher_of(client, "sysevents")
    client.service.rebalancer.on_automove(3, 4)
    assert lines(watcher) == [f"{TS} gid=2 type=slab_move src=3 dst=4"]


def test_microseconds_have_no_leading_zeros():
    clock = ManualClock(1_700_000_000.0)
    client = Client(make_service(clock))
    watcher = watcher_of(client, "fetchers")
    clock.advance(0.0078125)
    client.send(b"get a\r\n")
    assert lines(watcher)[0].startswith("ts=1700000000.7812 ")


def test_a_watcher_is_told_only_what_it_wants():
    client = Client()
    fetchers, mutations = watcher_of(client, "fetchers"), watcher_of(client, "mutations")
    client.send(b"get a\r\nset a 0 0 1\r\n1\r\n")
    assert [len(lines(fetchers)), len(lines(mutations))] == [2, 1]


def test_a_watcher_that_does_not_read_is_bounded():
    client = Client(watcher_logbuf_size_bytes=1000)
    watcher = watcher_of(client, "fetchers")
    for _ in range(100):
        client.send(b"get some_key\r\n")
    size = sum(map(len, watcher.connection.pieces))
    assert 700 < size < 1000
    told = len(lines(watcher))
    client.send(b"get other\r\n")
    assert lines(watcher)[0] == f"skipped={100 - told}"
    client.send(b"get other\r\n")
    assert len(lines(watcher)) == 1
    recorder = client.service.recorder
    assert (recorder.lines_written, recorder.lines_skipped) == (102, 100 - told)
    assert recorder.lines_sent == told + 2


def test_a_watcher_is_woken():
    client = Client()
    watcher = watcher_of(client, "fetchers")
    woken: list[bool] = []
    watcher.connection.wake = lambda: woken.append(True)
    client.send(b"get a\r\n")
    assert woken == [True]


def test_what_a_watcher_says_is_dropped():
    client = Client()
    watcher = watcher_of(client, "fetchers")
    for _ in range(10):
        assert watcher.send(b"version\r\n" * 1000) == b""
    assert watcher.connection.buffer == b""


def test_too_many_watchers():
    client = Client()
    for _ in range(WATCHERS_MAX):
        watcher_of(client, "fetchers")
    late = Client(client.service)
    assert late.send(b"watch\r\n") == b"WATCHER_TOO_MANY log watcher limit reached\r\n"
    assert late.send(b"version\r\n") == b"VERSION 1.6.45\r\n"


def test_the_last_watcher_turns_the_recorder_off():
    client = Client()
    assert client.service.cache.listener is None
    watchers = [watcher_of(client, "fetchers"), watcher_of(client, "mutations")]
    client.service.tick()
    assert not client.service.plain
    for watcher in watchers:
        assert client.service.cache.listener is client.service.recorder
        client.service.disconnected(watcher.connection)
    assert client.service.cache.listener is None
    client.service.tick()
    assert client.service.plain


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        (b"abcXYZ09", "abcXYZ09"),
        (b"a-b.c_d~e", "a-b.c_d~e"),
        (b"a:b/c%", "a%3Ab%2Fc%25"),
        (b"\xc3\xa9\x00", "%C3%A9%00"),
        (b"", ""),
    ],
)
def test_uri_encode(key, encoded):
    assert uri_encode(key) == encoded
