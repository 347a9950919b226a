"""The fuzz targets on what is in the corpus, and on inputs that hypothesis makes: no coverage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.search import Search
from tests.fuzz.subjects import SUBJECTS, Watch
from tests.protocol.requests import BINARY, GARBAGE, TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGETS = {
    "text": targets.text,
    "meta": targets.meta,
    "binary": targets.binary,
    "mixed": targets.mixed,
    "authentication": targets.authentication,
}
CORPUS = Path(__file__).parent / "corpus"

SEED_MAX_BYTES = 200
#: Longer pieces of a script's steps would need two bytes to say so.
PIECE_MAX_BYTES = 126


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name):
    seeds = sorted((CORPUS / name).iterdir())
    assert seeds
    for seed in seeds:
        data = seed.read_bytes()
        assert len(data) <= SEED_MAX_BYTES, seed
        TARGETS[name](data)


@st.composite
def scripts(draw: st.DrawFn) -> bytes:
    """Return commands as steps of two clients, cut anywhere."""
    script = bytes([draw(st.integers(0, len(targets.VARIANTS) - 1))])
    for stream in draw(st.lists(st.one_of(TEXT, BINARY).map(b"".join), max_size=4)):
        speaker = draw(st.sampled_from([0, 0x80]))
        position = 0
        while position < len(stream):
            piece = stream[position : position + draw(st.integers(0, PIECE_MAX_BYTES))]
            script += bytes([speaker | len(piece)]) + piece
            position += len(piece) or 1
    return script


INPUTS = {
    "text": st.one_of(TEXT.map(b"".join), GARBAGE),
    "meta": st.one_of(TEXT.map(b"".join), GARBAGE),
    "binary": st.one_of(BINARY.map(b"".join), st.binary(max_size=512)),
    "mixed": st.one_of(scripts(), st.binary(max_size=512)),
    "authentication": st.binary(max_size=512),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_any_bytes(name, data):
    TARGETS[name](data.draw(INPUTS[name]))


@pytest.mark.parametrize(
    "replies",
    [
        b"STORED",
        b"STORED\n",
        b"nonsense\r\n",
        b"VALUE a 0 5\r\nab\r\n",
        b"VA 1\r\nxx\r\n",
        b"\n",
        b"\rX\r\n",
    ],
)
def test_a_reply_of_another_form_is_noticed(replies):
    with pytest.raises(AssertionError):
        targets.check_text(b"END\r\n" + replies)


@pytest.mark.parametrize(
    "replies",
    [
        b"\x80" + bytes(23),
        b"\x81" + bytes(4) + b"\1" + bytes(18),
        b"\x81\0\0\0\0\0\0\x07" + bytes(16),
        b"\x81\0\0\x05" + bytes(20),
        b"\x81" + bytes(10) + b"\x01" + bytes(12),
    ],
)
def test_so_is_one_of_the_binary_protocol(replies):
    with pytest.raises(AssertionError):
        targets.check_binary(replies)


# -- the search ---------------------------------------------------------------------------------

SEARCHED = 200


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_search(name):
    search = Search(name, seed=1, clock=lambda: 0.0)
    for _ in range(SEARCHED):
        search.step()
    assert search.crashes == []
    assert search.inputs == SEARCHED


class Slow:
    """A subject of which a call takes as long as it is told, and a clock that says so."""

    def __init__(self, *taken_s: float) -> None:
        self._now_s = 0.0
        self._taken_s = list(taken_s)

    def renew(self) -> None:
        pass

    def clock(self) -> float:
        return self._now_s

    def hear(self, pieces: Sequence[bytes], watch: Watch) -> bytes:
        watch(self._take)
        return b""

    def _take(self) -> None:
        self._now_s += self._taken_s.pop(0) if self._taken_s else 0.0


@pytest.mark.parametrize(
    ("taken_s", "crashes"),
    [((0.004, 0.004), 0), ((0.006, 0.001), 0), ((0.006, 0.0051), 1), ((0.1, 0.1, 0.1, 0.1), 2)],
)
def test_a_call_that_takes_long_twice_is_a_crash(taken_s, crashes):
    slow = Slow(*taken_s)
    search = Search("text", seed=1, make=lambda: slow, clock=slow.clock)
    for _ in range(4):
        search.step()
    assert len(search.crashes) == crashes


def test_an_exception_is_a_crash():
    def hear(pieces: Sequence[bytes], watch: Watch) -> bytes:
        raise AssertionError("it does not fit together")

    slow = Slow()
    slow.hear = hear  # type: ignore[method-assign]
    search = Search("text", seed=1, make=lambda: slow)
    search.step()
    assert "it does not fit together" in search.crashes[0].what
