"""The rows of the tables of commands: what must stand there, and what follows from it."""

from __future__ import annotations

import itertools
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pymcd.protocol import Connection, PairedConnection
from pymcd.protocol.binary import COMMANDS, run_binary
from pymcd.protocol.meta import META_VERBS, _plain_flags
from pymcd.protocol.metaflags import (
    DUPLICATE_FLAG,
    FLAGS,
    INVALID_FLAG,
    Flag,
    _decode_and_keep,
    decode_flags,
)
from pymcd.protocol.text import VERBS
from pymcd.protocol.verbs import LOCAL, READS, VALUE, WRITES, Command, Effect, Verb, one_key
from pymcd.store.item import SHARED_MARKS
from tests.replication.helpers import Guest, make_group

from .binary_client import request
from .helpers import Client

if TYPE_CHECKING:
    from pymcd.service import Service
    from pymcd.store.item import Item

TABLES = [Connection.tables, PairedConnection.tables]


def ignore(*_: Any) -> None:
    """Do nothing, whatever it is."""


class TestEffects:
    """Whoever forgets one hears of it at once."""

    @pytest.mark.parametrize(
        "forgetful",
        [
            lambda: Verb(handler=ignore),  # type: ignore[call-arg]
            lambda: Verb(keys=one_key, handler=ignore),  # type: ignore[call-arg]
            lambda: Verb(keys=one_key, decode=ignore, store=ignore),  # type: ignore[call-arg]
            lambda: Flag(alters=""),  # type: ignore[call-arg]
            lambda: Command(0x30, "gat", handler=ignore),  # type: ignore[call-arg]
        ],
    )
    def test_a_row_without_one_cannot_be_written(self, forgetful):
        with pytest.raises(TypeError, match="'effect'"):
            forgetful()

    @pytest.mark.parametrize("tables", TABLES)
    def test_every_row_has_one(self, tables):
        for word, verb in tables.verbs.items():
            assert isinstance(verb.effect, Effect) or (word == b"mg" and callable(verb.effect))
        for table in tables[1:]:
            assert [command.opcode for command in table] == list(range(256))
            assert all(isinstance(command.effect, Effect) for command in table)

    def test_so_has_every_flag_that_is_read(self):
        for letter in range(33, 256):
            flags = decode_flags((bytes([letter]) + b"1",))
            known = letter in FLAGS
            assert (flags.error in (INVALID_FLAG, DUPLICATE_FLAG)) == (not known)
            assert not known or flags.effect is FLAGS[letter].effect is not LOCAL

    def test_whoever_stores_writes(self):
        for verb in VERBS.values():
            assert (verb.handler is None) == (verb.store is not None)
            assert verb.store is None or verb.effect is WRITES

    def test_the_same_name_has_the_same_effect_in_both_protocols(self):
        known = {word.decode(): verb.effect for word, verb in VERBS.items()}
        for table in Connection.tables[1:]:
            for command in table:
                assert command.effect is known.get(command.name, command.effect) or (
                    # There is nothing that a stranger could write.
                    table is Connection.tables.strangers and command.effect is LOCAL
                )


def shared(service: Service) -> dict[bytes, tuple[Any, ...]]:
    """Return all that several servers must agree about."""
    cache = service.cache
    return {
        item.key: (
            item.value, item.client_flags, item.expires_at, item.cas_unique,
            item.access & SHARED_MARKS,
        )
        for item in cache.items()
        if not cache.is_dead(item)
    }  # fmt: skip


FILLING = (
    b"set a 1 0 1\r\n5\r\nset b 0 100 3\r\nabc\r\nms stale 1 T100\r\n1\r\nmd stale I\r\n"
    b"ms won 1\r\n7\r\nmd won I\r\nmg won\r\n"
)
KEYS = (b"a", b"b", b"stale", b"won", b"none")
#: One that means something, of each flag.
FLAG_WORDS = [bytes([letter]) + {ord("M"): b"I"}.get(letter, b"200") for letter in FLAGS]
LINES = [
    *(
        b" ".join((word, *arguments))
        for word, verb in VERBS.items()
        if verb.handler
        for key in KEYS
        for arguments in ((key,), (key, b"2"), (b"200", key), (b"0",), ())
    ),
    *(
        b" ".join((b"mg", key, *flags))
        for key in (*KEYS, b"YQ==", b"c3RhbGU=")
        for count in (0, 1, 2)
        for flags in itertools.combinations(FLAG_WORDS, count)
    ),
]


class TestWhatIsSaidIsTrue:
    """What does not write changes nothing: else it would on one node alone."""

    def filled(self) -> tuple[Client, dict[bytes, tuple[Any, ...]]]:
        client = Client()
        client.send(FILLING)
        return client, shared(client.service)

    def test_text(self):
        client, before = self.filled()
        writing = set()
        for line in LINES:
            tokens = line.split(b" ")
            effect = VERBS[tokens[0]].effect
            if not isinstance(effect, Effect):
                effect = effect(client.service.cache, tokens)
            client.send(line + b"\r\n")
            if shared(client.service) != before:
                assert effect is WRITES, line
                writing.add(tokens[0])
            elif not (client.connection.closing or client.connection.watching):
                continue
            client, before = self.filled()
        # Those that write were given the chance.
        assert writing == {
            word
            for word, verb in VERBS.items()
            if verb.handler and verb.effect not in (READS, LOCAL)
        }

    def test_binary(self):
        client, before = self.filled()
        writing = set()
        for command, key in itertools.product(COMMANDS, (*KEYS, b"")):
            client.connection.runner = run_binary
            extras = struct.pack(">QQI", 1, 1, 200)
            extras = extras[20 - (max if key else min)(command.extras) :]
            value = b"1" if command.value == VALUE else b""
            client.send(request(command.opcode, key, extras, value))
            if shared(client.service) != before:
                assert command.effect is WRITES, command.name
                writing.add(command.opcode)
            elif not client.connection.closing:
                continue
            client, before = self.filled()
        assert writing == {each.opcode for each in COMMANDS if each.effect is WRITES}


def test_the_page_names_every_verb():
    page = (Path(__file__).parents[2] / "docs" / "index.md").read_text(encoding="utf-8")

    def named(row: str) -> set[str]:
        line, *_ = re.findall(rf"^\| {row} \| (.*) \|$", page, re.MULTILINE)
        return set(re.split(r"; | with ", line)[0].split())

    meta = {word.decode() for word in META_VERBS}
    assert named("meta protocol") == meta
    # The one that is not named is for tests.
    assert named("text protocol") == {word.decode() for word in VERBS} - meta - {
        "debugtime",
    }


class TestAnotherFlag:
    """One row, and it is known wherever flags are."""

    @pytest.fixture
    def add(self, monkeypatch):
        def add(flag: Flag) -> None:
            for kept in (_decode_and_keep, _plain_flags):
                kept.cache_clear()
            monkeypatch.setitem(FLAGS, ord("z"), flag)

        yield add
        for kept in (_decode_and_keep, _plain_flags):
            kept.cache_clear()

    @pytest.mark.parametrize("alters", ["", "g"])
    def test_it_is_answered_in_its_turn(self, add, alters):
        def answer(item: Item, now: int) -> int:
            return 100 + len(item.key)

        add(Flag(READS, alters, asks=answer))
        client = Client()
        client.send(b"ms k 1\r\n1\r\n")
        client.service.tick()
        answer_z = b"VA 1 s1 z101 f0\r\n1\r\n"
        assert client.connection.respond(b"mg k s z f v\r\n") == answer_z
        assert client.send(b"mg k s z f v\r\nmn\r\n") == answer_z + b"MN\r\n"

    @pytest.mark.parametrize(("effect", "forwards"), [(READS, 0), (WRITES, 1)])
    def test_a_pair_goes_by_its_effect(self, add, effect, forwards):
        add(Flag(effect, "g"))
        group = make_group()
        group.warm()
        assert Guest(group["b"]).ask(b"mg k z v\r\n") == b"EN\r\n"
        assert group["b"].rows["forwards_sent"] == forwards


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize(
    "word", [word for word, verb in VERBS.items() if verb.handler and verb.effect is WRITES]
)
def test_rows_say_where_noreply_stands(word, count):
    """Where it is no key, say; only then may a client be left without an answer."""
    verb = VERBS[word]
    tokens = [word, *[b"1"] * (count - 2), b"noreply"][:count]
    reply = Client().send(b" ".join(tokens) + b"\r\n")
    if not reply:
        assert verb.is_quiet(tokens)
    elif verb.is_quiet(tokens):
        assert reply == b"ERROR\r\n"
