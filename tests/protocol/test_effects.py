"""What commands about the server do, beyond what they answer. What memcached does then is in the
transcripts of the conformance suite (effects.py); here are the fast paths, and what time brings.

`shows` says which commands a test is about; at the end it is looked whether one is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pymcd.store.maintainer import SLICE_DELAY_S

from ..clocks import ManualClock
from ..hosts import lend
from .binary_client import FLUSH, FLUSHQ, GET, NOOP, SET, STAT, count, request, store
from .helpers import Client, make_service
from .test_admin import CASES, RESTRICTED, stat, stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymcd.service import Service

SHOWN: set[bytes] = set()

type_Test = "Callable[..., None]"


def shows(*commands: bytes) -> Callable[[Any], Any]:
    SHOWN.update(commands)
    return lambda test: test


def maintain(service: Service, steps: int = 1000) -> None:
    """Have done what is to be done at once."""
    for _ in range(steps):
        service.maintainer.step()


class FastClient(Client):
    """A client whose requests come one by one, and may be answered by the shortest way."""

    def send(self, data: bytes, *, step: int = 0) -> bytes:
        self.service.tick()
        reply = self.connection.respond(data)
        return self.receive() if reply is None else reply


SETS: dict[str, Callable[[int], bytes]] = {
    "set": lambda number: b"set k%02d 0 0 1\r\na\r\n" % number,
    "ms": lambda number: b"ms k%02d 1\r\na\r\n" % number,
    "binary": lambda number: store(SET, b"k%02d" % number, b"a"),
    "add": lambda number: b"add k%02d 0 0 1\r\na\r\n" % number,
    "flags": lambda number: b"set k%02d 7 0 1\r\na\r\n" % number,
    "ms, of some length": lambda number: b"ms k%02d 1 T0 F0\r\na\r\n" % number,
    "mg": lambda number: b"mg k%02d N0\r\n" % number,
    "ma": lambda number: b"ma k%02d N0\r\n" % number,
    "incr": lambda number: count(5, b"k%02d" % number, 1),
}


def segments(service: Service) -> list[int]:
    """Return how many items are HOT, WARM, COLD and TEMP."""
    return [
        sum(slab_class.segments[kind].count for slab_class in service.cache.slabs)
        for kind in range(4)
    ]


@shows(b"lru mode")
@pytest.mark.parametrize("way", SETS)
def test_lru_mode(way):
    service = make_service()
    admin = Client(service)
    client = FastClient(service)
    client.send(request(NOOP) if way in ("binary", "incr") else b"mn\r\n")
    expected = [0, 0, 0, 0]
    numbers = iter(range(100))
    for mode, kind in ((b"segmented", 0), (b"flat", 2), (b"segmented", 0), (b"flat", 2)):
        assert admin.send(b"lru mode %b\r\n" % mode) == b"OK\r\n"
        for _ in range(20):
            assert client.send(SETS[way](next(numbers)))
        expected[kind] += 20
        assert segments(service) == expected
        service.cache.check()


@pytest.mark.parametrize("way", ["set", "ms", "binary"])
def test_lru_mode_for_what_is_replaced(way):
    service = make_service()
    client = FastClient(service)
    client.send(request(NOOP) if way == "binary" else b"mn\r\n")
    for mode, expected in ((b"segmented", 0), (b"flat", 2), (b"segmented", 0)):
        Client(service).send(b"lru mode %b\r\n" % mode)
        for number in range(20):
            client.send(SETS[way](number))
        assert segments(service)[expected] == 20
        service.cache.check()


def test_lru_mode_flat_moves_items_as_they_were_read():
    clock = ManualClock()
    client = Client(make_service(clock))
    client.send(b"lru mode flat\r\nset a 0 0 1\r\n1\r\nset b 0 0 1\r\n1\r\n")
    clock.advance(100)
    client.send(b"get a\r\nget a\r\nget a\r\n")
    maintain(client.service)
    assert segments(client.service) == [0, 0, 2, 0]
    assert client.send(b"stats cachedump 1 0\r\n").startswith(b"ITEM a ")


@shows(b"lru temp_ttl")
@pytest.mark.parametrize("way", ["set", "ms", "binary"])
@pytest.mark.parametrize("mode", [b"segmented", b"flat"])
def test_lru_temp_ttl(way, mode):
    """As memcached: whatever the mode, what is over from the start is not temporary."""
    service = make_service()
    client = FastClient(service)
    client.send(request(NOOP) if way == "binary" else b"mn\r\n")
    written: dict[str, Callable[[bytes, int], bytes]] = {
        "set": lambda key, ttl: b"set %b 0 %d 1\r\na\r\n" % (key, ttl),
        "ms": lambda key, ttl: b"ms %b 1 T%d\r\na\r\n" % (key, ttl),
        "binary": lambda key, ttl: store(SET, key, b"a", exptime=ttl & 0xFFFFFFFF),
    }
    write = written[way]
    Client(service).send(b"lru mode %b\r\nlru temp_ttl 60\r\n" % mode)
    for key, ttl in ((b"a", 0), (b"b", 60), (b"c", 61), (b"d", 1), (b"e", -1)):
        client.send(write(key, ttl))
    assert segments(service)[3] == 2
    Client(service).send(b"lru temp_ttl -1\r\n")
    client.send(write(b"b", 60))
    client.send(write(b"f", 1))
    assert segments(service)[3] == 1
    service.cache.check()


@shows(b"lru tune")
@pytest.mark.parametrize("hot_pct", [5, 50])
def test_lru_tune_sets_the_shares(hot_pct):
    client = Client()
    client.send(b"lru tune %d 25 0.1 2\r\n" % hot_pct)
    for number in range(1000):
        client.send(b"set k%03d 0 0 1\r\na\r\n" % number)
    maintain(client.service)
    assert segments(client.service) == [hot_pct * 10, 0, 1000 - hot_pct * 10, 0]


@pytest.mark.parametrize(("factor", "hot"), [(b"0.5", 0), (b"3", 1)])
def test_lru_tune_sets_how_much_older_hot_items_may_be(factor, hot):
    clock = ManualClock()
    client = Client(make_service(clock))
    client.send(b"lru tune 80 0 %b 1\r\nset a 0 0 1\r\n1\r\n" % factor)
    maintain(client.service)
    clock.advance(10)
    client.send(b"set b 0 0 1\r\n1\r\n")
    clock.advance(15)
    maintain(client.service)
    assert segments(client.service) == [hot, 0, 2 - hot, 0]


def filled(mebibytes: int, **settings: Any) -> Client:
    client = Client(**settings)
    for number in range(mebibytes * 16):
        client.send(b"set k%d 0 0 60000\r\n%b\r\n" % (number, b"x" * 60000))
    return client


@shows(b"cache_memlimit")
def test_cache_memlimit_gives_memory_back():
    client = filled(20, memory_limit_bytes=64 << 20)
    woken: list[bool] = []
    client.service.maintainer.wake = lambda: woken.append(True)
    before = int(stat(client, "curr_items"))
    client.send(b"cache_memlimit 8\r\n")
    assert woken
    maintain(client.service)
    assert int(stats(client, "slabs")["total_malloced"]) <= 8 << 20
    assert 0 < int(stat(client, "curr_items")) < before
    assert stat(client, "limit_maxbytes") == str(8 << 20)
    client.service.cache.check()


def test_cache_memlimit_lets_more_in():
    client = filled(10, memory_limit_bytes=8 << 20)
    evicted = int(stat(client, "evictions"))
    assert evicted
    client.send(b"cache_memlimit 64\r\n")
    client.send(b"".join(b"set j%d 0 0 60000\r\n%b\r\n" % (n, b"x" * 60000) for n in range(160)))
    assert int(stat(client, "evictions")) == evicted


@shows(b"lru_crawler tocrawl")
def test_lru_crawler_tocrawl_bounds_a_crawl():
    client = Client()
    client.send(b"".join(SETS["set"](number) for number in range(20)))
    client.send(b"lru_crawler tocrawl 5\r\nlru_crawler crawl 1\r\n")
    maintain(client.service)
    assert stat(client, "crawler_items_checked") == "5"
    client.send(b"lru_crawler tocrawl 0\r\nlru_crawler crawl 1\r\n")
    maintain(client.service)
    assert stat(client, "crawler_items_checked") == "25"


@shows(b"lru_crawler sleep")
def test_lru_crawler_sleep_is_what_the_maintainer_waits():
    client = Client(lru_maintainer=False)
    for number in range(2000):
        client.send(SETS["set"](number))
    client.send(b"lru_crawler sleep 20000\r\nlru_crawler crawl all\r\n")
    assert client.service.maintainer.step() == 0.02
    client.send(b"lru_crawler sleep 0\r\n")
    assert client.service.maintainer.step() == SLICE_DELAY_S


@shows(b"lru_crawler enable", b"lru_crawler disable", b"lru_crawler crawl")
def test_lru_crawler_is_switched():
    client = Client(lru_maintainer=False)
    dead = b"set a 0 -1 1\r\na\r\n"
    crawl = b"lru_crawler crawl all\r\n"
    client.send(dead + crawl + b"lru_crawler disable\r\n")
    assert client.send(crawl) == b"CLIENT_ERROR lru crawler disabled\r\n"
    maintain(client.service)
    assert stats(client).get("lru_crawler_running") is None
    assert stat(client, "curr_items") == "1"
    assert client.send(b"lru_crawler enable\r\n" + crawl) == b"OK\r\nOK\r\n"
    maintain(client.service)
    assert stat(client, "curr_items") == "0"
    assert stat(client, "crawler_reclaimed") == "1"


def crowded(automove: bytes) -> Client:
    """Return a client of a server with two classes, of which one has all the memory."""
    client = Client(memory_limit_bytes=8 << 20)
    client.send(b"slabs automove %b\r\n" % automove)
    client.send(b"set a 0 0 1\r\na\r\n")
    for number in range(7000):
        client.send(b"set k%d 0 0 1000\r\n%b\r\n" % (number, b"x" * 1000))
    for number in range(2000):
        client.send(b"set l%d 0 0 2000\r\n%b\r\n" % (number, b"x" * 2000))
    return client


@shows(b"slabs automove 0", b"slabs automove 2", b"slabs automove noreply")
@pytest.mark.parametrize(("level", "moves"), [(b"0", False), (b"2", True)])
def test_slabs_automove_at_each_eviction(level, moves):
    client = crowded(level)
    maintain(client.service)
    assert (int(stat(client, "slabs_moved")) > 0) == moves
    assert int(stat(client, "evictions"))
    client.service.cache.check()


@shows(b"slabs automove 1", b"slabs automove\0x 1", b"slabs automove ratio")
@pytest.mark.parametrize(
    ("commands", "moves"),
    [
        (b"slabs automove 1\r\n", True),
        (b"slabs automove\0x 1\r\n", True),
        (b"slabs automove 0\r\n", False),
        (b"slabs automove 1\r\nslabs automove ratio 0.00001\r\n", False),
    ],
)
def test_slabs_automove_by_age(commands, moves):
    """A class that evicts young items gets a page from one whose items are old."""
    clock = ManualClock()
    client = Client(make_service(clock, memory_limit_bytes=8 << 20, slab_automove_window_s=3))
    for number in range(7000):
        client.send(b"set k%d 0 0 1000\r\n%b\r\n" % (number, b"x" * 1000))
    clock.advance(1000)
    client.send(commands)
    for second in range(12):
        clock.advance(1)
        client.service.cache.tick()
        for number in range(200):
            client.send(b"set l%d-%d 0 0 2000\r\n%b\r\n" % (second, number, b"x" * 2000))
        maintain(client.service, 20)
    assert (int(stat(client, "slabs_moved")) > 0) == moves


@shows(b"slabs reassign")
def test_slabs_reassign():
    client = Client()
    for number in range(3000):
        client.send(b"set k%d 0 0 1000\r\n%b\r\n" % (number, b"x" * 1000))
    before = stats(client, "slabs")
    assert (before["12:total_pages"], before.get("1:total_pages")) == ("4", None)
    assert client.send(b"slabs reassign 12 1\r\n") == b"OK\r\n"
    maintain(client.service)
    after = stats(client, "slabs")
    assert (after["12:total_pages"], after["1:total_pages"]) == ("3", "1")


@pytest.mark.parametrize("protocol", ["auto", "ascii"])
def test_verbosity_may_be_said_again_and_again(protocol):
    service = make_service(protocol=protocol)
    log: list[str] = []
    lend(service, log_line=log.append)
    client, other = Client(service), Client(service)
    other.send(b"get z\r\n")
    for _ in range(3):
        client.send(b"verbosity 2\r\n" * 500)
    log.clear()
    for number, each in ((10, client), (11, other)):
        each.send(b"get a\r\n")
        assert log == [f"<{number} get a", f">{number} END"]
        log.clear()
        runner: Any = each.connection.runner
        assert not hasattr(runner.runner, "runner")  # that is no tracer, too


@shows(b"verbosity")
def test_verbosity_is_for_all_clients_from_now_on():
    service = make_service()
    log: list[str] = []
    lend(service, log_line=log.append)
    old, fast, admin = Client(service), FastClient(service), Client(service)
    old.send(b"get z\r\n")
    fast.send(b"get z\r\n")
    binary = Client(service)
    binary.send(request(GET, b"a"))
    admin.send(b"verbosity 2\r\n")
    assert log == [">12 OK"]
    log.clear()
    old.send(b"get a\r\n")
    assert log == ["<10 get a", ">10 END"]
    log.clear()
    assert fast.send(b"get a\r\n") == b"END\r\n"
    assert log == ["<11 get a", ">11 END"]
    log.clear()
    binary.send(request(GET, b"a"))
    assert "<13 GET a" in log
    assert ">13 Writing bin response:" in log
    log.clear()
    Client(service).send(b"get b\r\n")
    assert log == ["14: Client using the ascii protocol", "<14 get b", ">14 END"]
    log.clear()
    admin.send(b"verbosity 1\r\n")
    assert log == ["<12 verbosity 1"]
    for client in (old, fast, admin):
        client.send(b"get a\r\n")
    assert log == ["<12 verbosity 1"]
    service.tick()
    assert service.plain
    admin.send(b"cache_memlimit 99\r\n")
    admin.send(b"verbosity 0\r\ncache_memlimit 98\r\n")
    assert log == ["<12 verbosity 1", "maxbytes adjusted to 99m"]


@shows(b"flush_all")
@pytest.mark.parametrize(
    ("command", "at_once", "later"),
    [
        (b"flush_all\r\n", True, True),
        (b"flush_all 0\r\n", True, True),
        (b"flush_all -1\r\n", True, True),
        (b"flush_all noreply\r\n", True, True),
        (b"flush_all 0 noreply\r\n", True, True),
        (b"flush_all 9\r\n", False, True),
        (b"flush_all 9 noreply\r\n", False, True),
        (b"flush_all 99\r\n", False, False),
        (b"flush_all abc\r\n", False, False),
        (b"flush_all abc noreply\r\n", False, False),
        (b"flush_all noreply noreply\r\n", False, False),
        (b"flush_all 0 0\r\n", True, True),
        (request(FLUSH), True, True),
        (request(FLUSH, extras=bytes(4)), True, True),
        (request(FLUSH, extras=b"\0\0\0\x09"), False, True),
        (request(FLUSHQ), True, True),
        (request(FLUSHQ, extras=b"\0\0\0\x63"), False, False),
    ],
)
def test_flush_all(command, at_once, later):
    clock = ManualClock()
    service = make_service(clock)
    client = FastClient(service)
    client.send(b"set a 0 0 1\r\na\r\n")
    Client(service).send(command)
    assert (client.send(b"get a\r\n") == b"END\r\n") == at_once
    clock.advance(10)
    assert (client.send(b"get a\r\n") == b"END\r\n") == later
    client.send(b"set a 0 0 1\r\na\r\n")
    assert client.send(b"get a\r\n") != b"END\r\n"
    service.cache.check()


@shows(b"stats detail")
@pytest.mark.parametrize("binary", [False, True])
def test_stats_detail_is_switched(binary):
    service = make_service()
    client = FastClient(service)
    client.send(b"mn\r\n")

    def switch(word: bytes) -> None:
        Client(service).send(
            request(STAT, b"detail " + word) if binary else b"stats detail %b\r\n" % word
        )

    client.send(b"get a:1\r\n")
    switch(b"on")
    client.send(b"get a:1\r\n")
    switch(b"off")
    client.send(b"get a:1\r\n")
    assert b"PREFIX a get 1 " in client.send(b"stats detail dump\r\n")
    switch(b"on")
    client.send(b"get a:1\r\n")
    assert b"PREFIX a get 2 " in client.send(b"stats detail dump\r\n")


@shows(b"stats reset")
@pytest.mark.parametrize("command", [b"stats reset\r\n", request(STAT, b"reset")])
def test_stats_reset(command):
    client = Client()
    client.send(b"set a 0 0 1\r\na\r\nget a\r\nget b\r\nstats detail on\r\nget a:b\r\n")
    Client(client.service).send(command)
    values = stats(client)
    for name in ("cmd_get", "cmd_set", "get_hits", "get_misses", "total_items", "cmd_flush"):
        assert values[name] == "0", name
    assert values["curr_items"] == "1"
    assert client.send(b"stats detail dump\r\n") == b"END\r\n"


@shows(b"debugtime")
def test_debugtime():
    clock = ManualClock()
    client = Client(make_service(clock, debug_commands=True))
    client.send(b"set a 0 10 1\r\na\r\n")
    there = b"VALUE a 0 1\r\na\r\nEND\r\n"
    client.send(b"debugtime p\r\n")
    clock.advance(20)
    assert client.send(b"get a\r\n") == there
    client.send(b"debugtime 9\r\n")
    assert client.send(b"get a\r\n") == there
    client.send(b"debugtime -5\r\ndebugtime r\r\n")
    clock.advance(5)
    assert client.send(b"get a\r\n") == there
    clock.advance(1)
    assert client.send(b"get a\r\n") == b"END\r\n"


@shows(b"watch")
@pytest.mark.parametrize("words", [b"", b" fetchers", b" noreply", b" mut"])
def test_watch(words):
    watcher, client = Client(), FastClient()
    watcher = Client(client.service)
    client.send(b"version\r\n")
    watcher.send(b"watch%b\r\n" % words)
    client.send(b"get a\r\n")
    assert (b"type=item_get key=a" in watcher.take()) == (words in (b"", b" fetchers"))


SHORTENED = [
    (b"lru_crawler sl 7", b"lru_crawler_sleep", b"7"),
    (b"lru_crawler t 8", b"lru_crawler_tocrawl", b"8"),
    (b"lru_crawler d", b"lru_crawler", b"no"),
    (b"lru t 3", b"temporary_ttl", b"3"),
    (b"lru t 11 12 1 2", b"hot_lru_pct", b"11"),
    (b"lru m f", b"lru_segmented", b"no"),
    (b"slabs a r 0.5", b"slab_automove_ratio", b"0.50"),
    (b"slabs a f 0.5", b"slab_automove_freeratio", b"0.500"),
    (b"slabs a w 60", b"slab_automove_window", b"60"),
    (b"stats d o", b"detail_enabled", b"yes"),
]


@shows(*(command for command, _, _ in SHORTENED), b"lru_crawler sl", b"stats r", b"watch f")
@pytest.mark.parametrize(("command", "name", "value"), SHORTENED)
def test_words_may_be_shortened(command, name, value):
    client = Client()
    row = b"STAT %b %b\r\n" % (name, value)
    assert row not in client.send(b"stats settings\r\n")
    assert client.send(command + b"\r\n") == b"OK\r\n"
    assert row in client.send(b"stats s\r\n")
    client.send(b"get k\r\nstats r\r\n")
    assert b"STAT cmd_get 0\r\n" in client.send(b"stats\r\n")
    client.send(b"watch f\r\n")
    assert client.connection.watching


@shows(b"refresh_certs", b"shutdown", b"version", b"quit", b"lru noreply", b"lru_crawler metadump")
@shows(b"stats cachedump", b"cache_memlimit noreply", b"stats items", b"stats slabs")
def test_what_others_show():
    """The host is asked in test_admin.py; the others are all answer, or do nothing."""


def test_quit_closes():
    client = Client()
    assert client.send(b"quit\r\nversion\r\n") == b""
    assert client.connection.closing


@pytest.mark.parametrize("case", [*CASES, *(row[1:] for row in RESTRICTED)], ids=str)
def test_no_command_is_known_by_its_answer_alone(case):
    command, reply = case
    if reply in (b"", b"OK\r\n", b"RESET\r\n"):
        assert any(command.lstrip(b" ").startswith(each) for each in SHOWN)
