"""The rows of the tables of commands: what must stand there, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from pymcd.protocol import Connection, PairedConnection
from pymcd.protocol.text import VERBS
from pymcd.protocol.verbs import LOCAL, WRITES, Command, Effect, Verb, one_key

from .helpers import Client

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
