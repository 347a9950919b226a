"""How inputs are made of other inputs: by pure chance, from a seed."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from pymcd import limits

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

#: Of one input; one in so many is long.
INPUT_MAX_BYTES: Final = 200_000
LONG_EVERY: Final = 200
SHORT_MAX_BYTES: Final = 250

NUMBERS: Final = [
    *(
        b"%d" % (power + more)
        for power in (0, 2**8, 2**15, 2**16, 2**31, 2**32, 2**63, 2**64)
        for more in (-1, 0, 1)
    ),
    b"1048576",
    b"1048527",
    b"1048528",
    b"2000000",
    b"2592000",
    b"2592001",
    b"-0",
    b"+1",
    b"0x10",
    b"1e9",
    b"1.5",
    b".",
    b"1.",
    b"00000000000000000001",
    b"nan",
]
BLANKS: Final = [b" ", b"  ", b" " * 300, b"\t", b"\0", b"\r\n", b"\n", b"\r", b"", b"\n\n"]
SIZES: Final = [0, 1, 2, 23, 24, 250, 251, 511, 512, 1023, 1024, 2047, 2048, 2049, 4096, 65_536]


class Mutator:
    """Makes inputs.

    Args:
        rng: decides everything.
        seeds: what to begin with; `learn` adds to it.
        words: of the language.
        binary: whether lengths stand in a header, as in the binary protocol.
    """

    POOL_MAX: Final = 4000

    def __init__(
        self, rng: random.Random, seeds: Sequence[bytes], words: Sequence[bytes], *, binary: bool
    ) -> None:
        self._rng = rng
        self.pool = list(seeds)
        self._words = [*words, *NUMBERS]
        self._binary = binary
        self._ways: list[Callable[[bytes], bytes]] = [
            self._splice,
            self._splice,
            self._word,
            self._word,
            self._word,
            self._blank,
            self._flip,
            self._cut,
            self._repeat,
            self._long_word,
            self._twice,
        ]
        if binary:
            self._ways += [self._field] * 5

    def learn(self, data: bytes) -> None:
        """Take note of an input that was answered as none before it."""
        if len(data) <= SHORT_MAX_BYTES:
            if len(self.pool) < self.POOL_MAX:
                self.pool.append(data)
            else:
                self.pool[self._rng.randrange(len(self.pool))] = data

    def make(self) -> bytes:
        """Return a new input."""
        rng = self._rng
        limit = INPUT_MAX_BYTES if rng.randrange(LONG_EVERY) == 0 else SHORT_MAX_BYTES
        data = rng.choice(self.pool)
        for _ in range(1 + min(rng.getrandbits(3), rng.getrandbits(3))):
            data = rng.choice(self._ways)(data)
            if len(data) > limit:
                data = data[:limit]
        if self._binary and rng.getrandbits(1):
            data = repaired(data)
        return data

    def pieces(self, data: bytes) -> list[bytes]:
        """Cut an input as a network may."""
        rng = self._rng
        how = rng.randrange(10)
        if how == 0 and len(data) < 200:
            return [data[place : place + 1] for place in range(len(data))]
        if how < 4 and data:
            cuts = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(1 + how))})
            pieces = [data[one:other] for one, other in pairwise(cuts)]
        else:
            pieces = [data]
        size = limits.RECEIVE_BYTES
        return [each[at : at + size] for each in pieces for at in range(0, len(each), size)]

    # -- ways ----------------------------------------------------------------------------------

    def _place(self, data: bytes) -> int:
        """Return a place; often one where a word begins or ends."""
        rng = self._rng
        place = rng.randrange(len(data) + 1)
        if not self._binary and rng.getrandbits(1):
            found = data.find(rng.choice((b" ", b"\r\n")), place)
            place = found if found >= 0 else place
        return place

    def _splice(self, data: bytes) -> bytes:
        other = self._rng.choice(self.pool)
        if self._rng.getrandbits(1):
            return data + other
        return data[: self._place(data)] + other[self._place(other) :]

    def _word(self, data: bytes) -> bytes:
        rng = self._rng
        word = rng.choice(self._words)
        if self._binary or rng.randrange(3) == 0:
            place = self._place(data)
            return data[:place] + word + data[place:]
        words = data.split(b" ")
        words[rng.randrange(len(words))] = word
        return b" ".join(words)

    def _blank(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + self._rng.choice(BLANKS) + data[place:]

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        spoiled = bytearray(data)
        spoiled[self._rng.randrange(len(data))] = self._rng.getrandbits(8)
        return bytes(spoiled)

    def _cut(self, data: bytes) -> bytes:
        one, other = sorted((self._place(data), self._place(data)))
        return data[:one] + data[other:] if self._rng.getrandbits(1) else data[one:other]

    def _repeat(self, data: bytes) -> bytes:
        one, other = sorted((self._place(data), self._place(data)))
        part = data[one:other]
        if not part:
            return data
        times = self._rng.choice((2, 3, 20, 100, 1 + INPUT_MAX_BYTES // len(part)))
        return data[:one] + part * min(times, 1 + INPUT_MAX_BYTES // len(part)) + data[other:]

    def _long_word(self, data: bytes) -> bytes:
        rng = self._rng
        size = rng.choice(SIZES)
        part = rng.choice((b"1", b"k", b"k ", b" ", b"9", b"=", b"a:", b"\xff", b"q ", b"%"))
        place = self._place(data)
        return data[:place] + (part * size)[:size] + data[place:]

    def _twice(self, data: bytes) -> bytes:
        return data * min(
            self._rng.choice((2, 2, 3, 21, 50)), 1 + INPUT_MAX_BYTES // (len(data) + 1)
        )

    def _field(self, data: bytes) -> bytes:
        """Change a field of a binary header."""
        rng = self._rng
        starts = [place for place in range(0, len(data), 24) if data[place] == 0x80] or [0]
        start = rng.choice(starts)
        place, size = rng.choice(((1, 1), (2, 2), (4, 1), (5, 1), (6, 2), (8, 4), (12, 4), (16, 8)))
        most = (1 << 8 * size) - 1
        value = rng.choice((0, 1, 4, 8, 20, 250, 251, rng.getrandbits(8 * size), most)) & most
        field = value.to_bytes(size)
        return data[: start + place] + field + data[start + place + size :]


def repaired(data: bytes) -> bytes:
    """Return binary requests with lengths that say what there is of the last of them."""
    if len(data) < 24 or data[0] != 0x80:
        return data
    body = len(data) - 24
    extras = min(data[4], body)
    key = min(int.from_bytes(data[2:4]), body - extras)
    head = data[:2] + key.to_bytes(2) + bytes([extras]) + data[5:8] + body.to_bytes(4)
    return head + data[12:]
