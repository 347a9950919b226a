"""Random meta commands, mixed with classic ones on the same keys: valid, slightly wrong, and wrong.

What is said in `text` holds here, too. Besides:

- **Time.** A time to live is answered to the second, and the servers' seconds do not begin at the
  same moment: what is left is compared roughly. No `R` is near a time to live in use.
- **Lengths.** An error in the flags of ms swallows the block, so a wrong length stays small there.
- **Cas uniques that clients choose** are far from those in turn.
- **Keys that are not text.** memcached forgets that a key came as base64 when it creates an item
  itself (N), or appends or calculates, and then answers `k` with the raw bytes, line ends and all.
  pymcd answers base64 for such keys. Both are made the same before they are compared.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING

from . import Batch, Memory
from .text import (
    CALCULATES,
    DROPS_ANSWERS,
    FLAGS,
    GOOD_FLAGS,
    KEYS,
    RETRIEVES,
    ROUGH_LENGTH_MAX,
    SEGMENT_MAX_BYTES,
    TextProtocol,
)

if TYPE_CHECKING:
    import random

UNIQUE_FLAG = re.compile(rb"( c| cas=)(\d+)(?=[ \r])")
TTL_FLAG = re.compile(rb"( t| exp=)(\d+)(?=[ \r])")
ACCESS_FLAG = re.compile(rb"( l| la=)(\d{1,3})(?=[ \r])")

FETCHES = re.compile(rb"mg", re.IGNORECASE)
ADDS = re.compile(rb"ma", re.IGNORECASE)

UNSPEAKABLE_KEYS = (
    b"sp ace", b"new\r\nline", b"nul\x00", b"\xff\x00\xfe", b"\n",
    b"\x00\x00",  # what three of the odd ones below decode to
)  # fmt: skip
TEXT_KEYS = (b"k", b"key", b"alpha", b"beta", b"counter", b"n", b"prefix:one", b"\xc3\xa9t\xc3\xa9")
BASE64_KEYS = tuple(b64encode(key) for key in (*TEXT_KEYS, b"L" * 187, *UNSPEAKABLE_KEYS))
ODD_BASE64_KEYS = (
    b"=", b"====", b"a", b"ab", b"abc", b"abcd=", b"!!!!", b"Z!m!9!v", b"Zm9v====", b"Zg==Zg==",
    b"Z===", b"=AAA", b"A=AA", b"AA=A", b"Zm9", b"Zh==", b"L" * 250, b"L" * 248, b"a-_b", b"k",
)  # fmt: skip
LONG_KEYS = (b"L" * 251, b"M" * 300)

OPAQUES = (
    b"O", b"O1", b"Oabc", b"O%d%s", b"O%%", b"O" + b"x" * 31, b"O" + b"x" * 32, b"O" + b"y" * 100,
    b"O\xff\xfe", b"Ok", b"Oc f", b"O\t",
)  # fmt: skip
TTLS = (
    b"0", b"0", b"0", b"100000", b"100000", b"2592000", b"2592001", b"1000000000", b"2147483647",
    b"-1", b"-1", b"-100000", b"2147483648", b"4294967296",
)  # fmt: skip
BAD_NUMBERS = (b"", b"abc", b"1x", b"9223372036854775808", b"0x1", b"99999999999999999999", b"+")
RECACHES = (b"0", b"30", b"50000", b"200000", b"1000000", b"-1", b"1000000000", b"2147483646")
DELTAS = (b"0", b"1", b"2", b"5", b"10", b"99999", b"+1", b"\t1", b"00001")
BIG_DELTAS = (b"18446744073709551615", b"9223372036854775808", b"100")
UNIQUES = (b"0", b"1", b"18446744073709551615", b"abc", b"", b"1x", b"18446744073709551616", b"+1")
STRAY_FLAGS = (
    b"S", b"S1", b"a", b"g", b"i", b"z", b"W", b"X", b"Z", b"Q", b"0", b"1", b"noreply", b"?", b"~",
    b"\x7f", b"\xff", b"\x01", b"\t", b"=", b"A", b"B", b"K", b"m", b"vv", b"qq", b"kx", b"cc1",
    b"P", b"Ppath", b"L", b"Lpath/to", b"I", b"Ix", b"\x00",
)  # fmt: skip
NEW_UNIQUES = (b"E0", b"E1099511627776", b"E1099511627777", b"E18446744073709551615", b"E", b"Ex")
NEW_UNIQUE = re.compile(rb" E[^ \r\n]*")
MODES = (b"M", b"MEE", b"M\x00", b"MAx", b"MZ", b"Me", b"M0", b"M+", b"MS", b"MI", b"M\xff", b"MD")


class MetaProtocol(TextProtocol):
    """Generator of meta commands; see `Protocol` for its duties."""

    name = "meta"

    def __init__(self, *, flushing: bool = True) -> None:
        super().__init__(flushing=flushing)
        classic = [
            self._retrieval, self._storage, self._storage, self._cas, self._arithmetic, self._touch,
            self._delete, self._number,
        ]  # fmt: skip
        self._kinds = [
            *[self._mg] * 12,
            *[self._ms] * 10,
            *[self._md] * 4,
            *[self._ma] * 5,
            self._me,
            self._me,
            self._mn,
            self._recaching,
            self._recaching,
            self._meta_noise,
            *classic,
        ]
        if flushing:
            self._kinds.append(self._rare_flush)

    # What the runner calls.

    def opening(self) -> bytes:
        deletes = b"".join(b"md %s b q\r\n" % key for key in BASE64_KEYS)
        return deletes + super().opening()

    def normalise(self, reply: bytes, memory: Memory) -> bytes:
        for key in UNSPEAKABLE_KEYS:
            encoded = b64encode(key)
            reply = reply.replace(b" k" + key, b" k%s b" % encoded)
            reply = reply.replace(b"ME %s exp" % key, b"ME %s exp" % encoded)
        reply = super().normalise(reply, memory)
        reply = TTL_FLAG.sub(lambda found: found.group(1) + _rough_ttl(int(found.group(2))), reply)
        reply = ACCESS_FLAG.sub(rb"\1~", reply)

        def unique(found: re.Match[bytes]) -> bytes:
            if int(found.group(2)) == 0:
                return found.group()
            return b"%sunique-%d" % (found.group(1), memory.see(found.group(2)))

        return UNIQUE_FLAG.sub(unique, reply)

    def batch(self, rng: random.Random) -> Batch:
        kind = rng.random()
        if kind < 0.01:
            word = rng.choice((b"mg ", b"ms ", b"mn ", b"md "))
            return Batch([word + b"k" * 3000], closes=True)
        if kind < 0.03:
            return Batch([self._large_ms(rng), b"mg k s v\r\n", b"mg beta s k\r\n"])
        if kind < 0.05:
            return super().batch(rng)
        return self._smooth(rng) if kind < 0.75 else self._rough(rng)

    # Batches.

    def _smooth(self, rng: random.Random) -> Batch:
        commands = self._gather(rng, rng.choice((1, 3, 10, 30, 80)), rough=False)
        cuts = tuple(sorted(rng.random() for _ in range(rng.choice((0, 0, 0, 1, 2, 5)))))
        return Batch(commands, cuts=cuts)

    def _rough(self, rng: random.Random) -> Batch:
        commands = self._gather(rng, rng.choice((1, 2, 4, 8)), rough=True)
        padding = b" " * (ROUGH_LENGTH_MAX + 100) + b"\r\n"
        cuts = tuple(sorted(rng.random() for _ in range(rng.choice((0, 0, 1, 3)))))
        return Batch(commands, padding=padding, cuts=cuts)

    def _gather(self, rng: random.Random, count: int, *, rough: bool) -> list[bytes]:
        """Return commands of which no calculation follows a retrieval."""
        commands: list[bytes] = []
        size_bytes = 0
        retrieved = False
        for _ in range(count):
            if rough and rng.random() < 0.4:
                command = rng.choice((self._misframed, self._misframed_ms))(rng)
            else:
                command = self._command(rng)
            if rough:
                command = command.replace(b"-", b"_")
                if len(command) > 1000 or b"~unique" in command:
                    continue
            size_bytes += len(command)
            calculates = CALCULATES.search(command) or ADDS.search(command)
            if size_bytes > SEGMENT_MAX_BYTES or (retrieved and calculates):
                break
            if commands and DROPS_ANSWERS.search(command):
                continue
            if RETRIEVES.search(command) or FETCHES.search(command):
                retrieved = True
            commands.append(command)
        return commands or [b"mn\r\n"]

    # Parts of commands.

    def _named(self, rng: random.Random) -> list[bytes]:
        """Return a key, and the flag that it needs."""
        kind = rng.random()
        if kind < 0.7:
            return [rng.choice(TEXT_KEYS)]
        if kind < 0.75:
            return [rng.choice(KEYS)]
        if kind < 0.93:
            return [rng.choice(BASE64_KEYS), b"b"]
        if kind < 0.97:
            return [rng.choice(ODD_BASE64_KEYS), rng.choice((b"b", b"b", b"bx"))]
        return [rng.choice(LONG_KEYS)]

    def _block(self, rng: random.Random, *, small: bool = True) -> bytes:
        # In a value of white space alone memcached reads on, into what lies behind it.
        block = super()._block(rng, small=small)
        return block if block.strip() or not block else b"x" + block

    def _unique(self, rng: random.Random) -> bytes:
        if rng.random() < 0.75:
            return b"C~unique%04d~~~~~~~~~" % rng.choice((0, 0, 0, 1, 2, 5, 50))
        return b"C" + rng.choice(UNIQUES)

    def _number_flag(self, rng: random.Random, letter: bytes, good: tuple[bytes, ...]) -> bytes:
        return letter + rng.choice(good if rng.random() < 0.95 else BAD_NUMBERS)

    def _flags(self, rng: random.Random, key: list[bytes], usual: list[bytes]) -> list[bytes]:
        """Return some of the usual flags in any order, and now and then a stray one."""
        flags = key[1:] + rng.sample(usual, min(len(usual), rng.choice((0, 1, 1, 2, 2, 3, 4, 6))))
        if rng.random() < 0.2:
            flags.append(rng.choice(OPAQUES))
        # Refused for its opaque, an ms leaves its cas unique to the connection's next store.
        elif rng.random() < 0.12:
            flags.append(rng.choice(NEW_UNIQUES))
        kind = rng.random()
        if kind < 0.06:
            flags.append(rng.choice(STRAY_FLAGS))
        elif kind < 0.08 and flags:
            flags.append(rng.choice(flags))
        elif kind < 0.09:
            flags += [b"P%d" % number for number in range(rng.randrange(13, 26))]
        elif kind < 0.1:
            flags += rng.sample([b"c", b"f", b"h", b"k", b"l", b"s", b"t", b"u", b"v", b"P", b"L",
                                 b"F1", b"J1", b"D1", b"I", b"MI", b"O7", b"q"], 16)  # fmt: skip
        rng.shuffle(flags)
        return flags

    # Commands.

    def _mg(self, rng: random.Random) -> bytes:
        key = self._named(rng)
        usual = [
            b"v", b"k", b"c", b"f", b"s", b"t", b"h", b"l", b"u", b"q",
            self._number_flag(rng, b"T", TTLS),
            self._number_flag(rng, b"N", TTLS),
            self._number_flag(rng, b"R", RECACHES),
        ]  # fmt: skip
        if rng.random() < 0.05:
            usual += [self._unique(rng), b"I", rng.choice(MODES), b"F7", b"J3", b"D4"]
        return self._line(rng, b"mg", key[0], *self._flags(rng, key, usual))

    def _ms(self, rng: random.Random) -> bytes:
        block = self._block(rng)
        return self._ms_line(rng, b"%d" % len(block)) + block + b"\r\n"

    def _ms_line(self, rng: random.Random, length: bytes) -> bytes:
        key = self._named(rng)
        flags = GOOD_FLAGS if rng.random() < 0.8 else FLAGS
        usual = [
            b"k", b"c", b"q", b"I", b"s",
            self._number_flag(rng, b"T", TTLS),
            self._number_flag(rng, b"N", TTLS),
            b"F" + rng.choice(flags),
            rng.choice((b"ME", b"MA", b"MP", b"MR", b"MS", b"MA", rng.choice(MODES))),
            self._unique(rng),
        ]  # fmt: skip
        if rng.random() < 0.05:
            usual += [b"v", b"t", b"h", b"u", b"R30", b"J1", b"D1"]
        tokens = [b"ms", key[0], length, *self._flags(rng, key, usual)]
        # Short of its length, a line would be read with the flag as length, and be refused.
        return self._line(rng, *(tokens if rng.random() < 0.99 else tokens[:2]))

    def _md(self, rng: random.Random) -> bytes:
        key = self._named(rng)
        usual = [
            b"k", b"q", b"I", b"I", b"x", b"F7",
            self._number_flag(rng, b"T", TTLS),
            self._unique(rng),
        ]  # fmt: skip
        if rng.random() < 0.05:
            usual += [b"v", b"t", b"c", b"h", b"u", b"N0", b"R30", b"J1", b"D1", rng.choice(MODES)]
        return self._line(rng, b"md", key[0], *self._flags(rng, key, usual))

    def _ma(self, rng: random.Random) -> bytes:
        key = self._named(rng)
        if rng.random() < 0.6:
            key = [rng.choice((b"counter", b"n"))]
        usual = [
            b"v", b"k", b"c", b"t", b"q",
            self._number_flag(rng, b"T", TTLS),
            self._number_flag(rng, b"N", TTLS),
            self._number_flag(rng, b"J", (b"0", b"9", b"99", b"4611686018427387904", b"007")),
            self._number_flag(rng, b"D", DELTAS),
            rng.choice((b"MI", b"M+")),
            self._unique(rng),
        ]  # fmt: skip
        if rng.random() < 0.4:
            usual[8:10] = [b"MD", self._number_flag(rng, b"D", DELTAS)]
        flags = self._flags(rng, key, usual)
        if b"MD" in flags and rng.random() < 0.2:
            flags = [each for each in flags if each[:1] != b"D"] + [b"D" + rng.choice(BIG_DELTAS)]
        elif rng.random() < 0.03:
            flags = [rng.choice(MODES) if each[:1] == b"M" else each for each in flags]
        return self._line(rng, b"ma", key[0], *flags)

    def _me(self, rng: random.Random) -> bytes:
        key = self._named(rng)
        more = rng.choice(([], [], [], [b"x"], [b"b"], [b"b", b"b"], [b"x", b"b"]))
        return self._line(rng, b"me", *(key + more if rng.random() < 0.95 else []))

    def _mn(self, rng: random.Random) -> bytes:
        return self._line(rng, *rng.choice(([b"mn"], [b"mn"], [b"mn", b"x"], [b"mn", b"q", b"O1"])))

    def _recaching(self, rng: random.Random) -> bytes:
        """A story: an item becomes stale, or is missing, and two clients want to refill it."""
        key = rng.choice(TEXT_KEYS)
        steps = [
            b"ms %s 3 T100000 c\r\nold\r\n" % key,
            b"md %s I T%s\r\n" % (key, rng.choice((b"0", b"100000"))),
            b"mg %s s c t v\r\n" % key,
            b"mg %s v h N100000 R50000\r\n" % key,
            b"mg %s t R200000 c\r\n" % key,
            b"ms %s 3 c T100000 C~unique0000~~~~~~~~~\r\nnew\r\n" % key,
            b"ms %s 4 I c C~unique%04d~~~~~~~~~\r\nlate\r\n" % (key, rng.choice((1, 2, 3))),
            b"md %s\r\n" % key,
            b"mg %s N0 v c\r\n" % key,
        ]
        first = rng.randrange(len(steps) - 1)
        return b"".join(step for step in steps[first:] if rng.random() < 0.8) or steps[0]

    def _meta_noise(self, rng: random.Random) -> bytes:
        word = rng.choice(
            (b"mg", b"ms", b"md", b"ma", b"me", b"mn", b"mx", b"m", b"mgg", b"MG", b"m\x00")
        )
        count = rng.choice((0, 0, 1, 2, 3, 18, 19, 25))
        tokens = [rng.choice((b"k", b"0", b"v", b"q", *STRAY_FLAGS)) for _ in range(count)]
        if word == b"ms" and count > 1:
            tokens[1] = b"v"  # a length would wait for its block
        return self._line(rng, word, *tokens)

    def _rare_flush(self, rng: random.Random) -> bytes:
        return self._flush(rng) if rng.random() < 0.3 else b"mn\r\n"

    def _misframed_ms(self, rng: random.Random) -> bytes:
        """An ms whose block is not what its length says."""

        def line(length: bytes) -> bytes:
            # Refused for its block, an ms leaves its cas unique to the connection's next store.
            return NEW_UNIQUE.sub(b"", self._ms_line(rng, length))

        block = self._block(rng)[:200]
        kind = rng.random()
        if kind < 0.5:
            length = max(0, len(block) + rng.choice((-3, -2, -1, 1, 2, 3, 20, 100)))
            return line(b"%d" % length) + block + b"\r\n"
        if kind < 0.75:
            end = rng.choice((b"\n", b"\r", b"", b"x\r\n", b"\n\r", b"\r\r\n", b"\n\n", b"ab"))
            return line(b"%d" % len(block)) + block + end
        length_word = rng.choice(
            (b"-1", b"abc", b"1x", b"4294967296", b"4294967298", b"2147483646", b"2147483647",
             b"9223372036854775808", b"", b"0x4", b"+2", b"002", b"\t2", b"S2", b"T0", b"q")
        )  # fmt: skip
        return line(length_word) + block + b"\r\n"

    def _large_ms(self, rng: random.Random) -> bytes:
        """A value near a limit: the largest item, or over it, in all modes."""
        near = rng.choice((8 << 10, 16 << 10, 600 << 10, 1 << 20, 1 << 20, 2 << 20))
        less = rng.choice((0, 1, 2, 47, 48, 50, 56, 57, 58, 60, 64, 100, 300, -1, -2))
        length = max(0, near - less)
        key = rng.choice((b"k", b"beta"))
        mode = rng.choice((b"ME", b"MA", b"MP", b"MR"))
        flags = rng.sample([b"q", b"c", b"k", b"F5", b"T100000", mode], rng.randrange(4))
        line = b" ".join([b"ms", key, b"%d" % length, *flags])
        return line + b"\r\n" + bytes((rng.randrange(65, 91),)) * length + b"\r\n"


def _rough_ttl(ttl: int) -> bytes:
    """Return how long that is, without what depends on the moment."""
    if ttl > 4_000_000_000:
        return b"over"
    return b"far" if ttl > 10_000_000 else b"%d000" % ((ttl + 500) // 1000)
