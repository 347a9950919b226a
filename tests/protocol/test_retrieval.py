"""A get of very many keys: answered in parts, which together are what one get answers."""

from __future__ import annotations

import random

import pytest

from pymcd import limits
from pymcd.protocol import retrieval

from .helpers import Client

BAD_KEY = b"CLIENT_ERROR bad command line format\r\n\r\n"
LONG = retrieval.LONG_LINE_BYTES


def filled(**settings) -> Client:
    """Return a client of a server with ten items, each of another size and with other flags."""
    client = Client(**settings)
    for digit in range(10):
        value = bytes([97 + digit]) * digit * 50
        client.send(b"set k%d %d 0 %d\r\n%b\r\n" % (digit, digit, len(value), value))
    return client


def one_by_one(client: Client, verb: bytes, keys: list[bytes]) -> bytes:
    """Return what is answered for each key alone, put together."""
    answers = [client.send(verb + b" " + key + b"\r\n")[: -len(b"END\r\n")] for key in keys]
    return b"".join([*answers, b"END\r\n"])


def keys_of(number: int) -> list[bytes]:
    chance = random.Random(number)
    return [b"k%d" % chance.randrange(13) for _ in range(number)]


VERBS = [b"get", b"gets", b"gat 100", b"gats 0"]
NUMBERS = [2, 63, 64, 65, 66, 128, 1000, 5000]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("number", NUMBERS)
def test_parts_are_one_answer(verb: bytes, number: int):
    keys = keys_of(number)
    expected = one_by_one(filled(), verb, keys)
    client = filled()
    line = verb + b" " + b" ".join(keys) + b"\r\n"
    assert client.send(line) == expected
    may_drip = verb in (b"get", b"gets") or len(line) < limits.LINE_MAX_BYTES
    assert client.send(line + b"version\r\nget k1\r\n", step=977 if may_drip else 0) == (
        expected + b"VERSION 1.6.45\r\n" + one_by_one(client, b"get", [b"k1"])
    )
    assert not client.connection.buffer
    assert client.connection.answer_plain is not None


@pytest.mark.parametrize("number", [1000, 100_000])
def test_a_run_looks_up_a_bounded_number_of_keys(number: int):
    client = filled()
    connection = client.connection
    connection.receive_data(b"get" + b" k1" * number + b"\r\n")
    hits = client.service.cache.slabs.by_id(2)
    assert hits is not None
    runs = 0
    more = True
    while more:
        before = client.service.cache.counters.get_misses + _hits(client)
        more = connection.run()
        client.take()
        after = client.service.cache.counters.get_misses + _hits(client)
        assert after - before <= limits.RUN_KEYS_MAX
        runs += 1
    assert _hits(client) == number
    assert runs >= number / limits.RUN_KEYS_MAX


def _hits(client: Client) -> int:
    return sum(slab_class.get_hits for slab_class in client.service.cache.slabs)


def test_the_line_of_a_long_get_is_cut_window_by_window(monkeypatch: pytest.MonkeyPatch):
    client = filled()
    connection = client.connection
    number = 200_000
    connection.receive_data(b"get" + b" k1" * number + b"\r\n")
    while connection.run():
        client.take()
        rest = connection.retrieval
        assert rest is None or len(rest.keys) <= 8192
    assert _hits(client) == number


@pytest.mark.parametrize("number", [1, 64, 65, 1500, 6000])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("at", ["first", "middle", "last"])
def test_a_key_that_is_too_long_is_seen_before_anything_is_answered(
    verb: bytes, number: int, at: str
):
    client = filled()
    keys = keys_of(number)
    place = {"first": 0, "middle": number // 2, "last": number}[at]
    for length in (251, 10_000):
        line = b" ".join([verb, *keys[:place], b"x" * length, *keys[place:]])
        if len(line) + 2 <= limits.READ_BUFFER_BYTES or verb.startswith(b"get"):
            assert client.send(line + b"\r\nversion\r\n") == BAD_KEY + b"VERSION 1.6.45\r\n"
    line = b" ".join([verb, *keys[:place], b"x" * 250, *keys[place:]])
    if len(line) + 2 <= limits.READ_BUFFER_BYTES or verb.startswith(b"get"):
        assert client.send(line + b"\r\n") == one_by_one(client, verb, keys)


@pytest.mark.parametrize("number", [10, 100, 5000])
def test_blanks(number: int):
    client = filled()
    keys = keys_of(number)
    expected = one_by_one(client, b"get", keys)
    assert client.send(b"get  " + b"   ".join(keys) + b"  \r\n") == expected
    assert client.send(b"get " + b" ".join(keys) + b" \0" * 10 + b"\n") == expected
    blanks = b" " * 30_000
    assert client.send(b"get " + blanks + blanks.join(keys[:5]) + blanks + b"\r\n") == one_by_one(
        client, b"get", keys[:5]
    )


@pytest.mark.parametrize("length", [10, 5000, 100_000])
def test_a_get_of_nothing(length: int):
    client = filled()
    nothing = client.send(b"get \r\n")
    assert (
        client.send(b"get" + b" " * length + b"\r\nversion\r\n") == nothing + b"VERSION 1.6.45\r\n"
    )


def test_large_values_end_a_run_early():
    client = Client()
    value = bytes(40_000)
    client.send(b"set big 0 0 40000\r\n%b\r\n" % value)
    connection = client.connection
    connection.receive_data(b"get" + b" big" * 30 + b"\r\nget nothing\r\n")
    sizes = []
    more = True
    while more:
        more = connection.run()
        sizes.append(client.take().count(b"VALUE"))
    assert sizes == [2] * 15 + [0]


def test_what_others_do_between_two_parts_is_seen():
    client = filled()
    other = Client(client.service)
    connection = client.connection
    connection.receive_data(b"get" + b" k1" * 100 + b"\r\n")
    assert connection.run()
    first = client.take()
    other.send(b"delete k1\r\n")
    assert first.count(b"VALUE") == limits.RUN_KEYS_MAX
    assert client.receive() == b"END\r\n"


def test_it_is_told_whose_command_goes_on():
    client = filled()
    watcher = Client(client.service)
    watcher.send(b"watch fetchers\n")
    connection = client.connection
    connection.receive_data(b"get" + b" k1" * 100 + b"\r\n")
    connection.run()
    other = Client(client.service)
    other.send(b"get k1\r\n")
    client.receive()
    lines = watcher.take().decode().splitlines()
    ids = [client.connection.id] * 64 + [other.connection.id] + [client.connection.id] * 36
    assert [int(line.rpartition("cfd=")[2].split()[0]) for line in lines] == ids


def test_the_log_shows_a_long_get(caplog):
    client = filled(verbose=2)
    keys = keys_of(100)
    assert client.send(b"get " + b" ".join(keys) + b"\r\n") == one_by_one(client, b"get", keys)
