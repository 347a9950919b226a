"""Random commands of the classic text protocol: valid, slightly wrong, and wrong on purpose.

Two right servers must give the same bytes, always, so what depends on more than the bytes sent
stays out:

- **Time.** No exptime makes an item expire while the test runs: it is zero, far away, or past.
- **Segments.** memcached looks at a line of more than 2048 bytes as soon as it has read that much
  of it, and drops answers that wait when it closes without having been asked to. Long lines and
  commands that close that way are alone in their batch and sent in one piece. A retrieval with a
  key that is too long drops the answers that wait, too, and comes first in its batch.
- **Memory behind a value.** memcached parses a number of 2**63 or more in an item with a look for
  `-` that runs over the value's end, and reads on behind a value of nothing but white space. No
  value becomes that large (the transcripts have some), none is blank, and a `-` that may end up
  inside a value by a wrong length is replaced.
- **Background threads.** No command that starts one (slab moves, crawls), none whose answer shows
  what they did.
- **Answers on their way.** memcached changes a number in place, and pads it, only when no answer
  that waits to be sent refers to the item; otherwise it makes a new item, without padding. So no
  arithmetic follows a retrieval in the same batch. Its segmented LRU holds items in the same way
  until a thread has moved them; the reference is told to keep one flat list.
- **A delayed flush** cancels an earlier one and items come back, unless something looked at them
  meanwhile. Left out.

A wrong length moves the frame. Such *rough* batches hold small commands only, and end in more
padding than any of their lengths can swallow.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import Batch, Memory

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

UNIQUE_WIDTH = 20
UNIQUE = re.compile(rb"(VALUE [^ \r\n]+ \d+ \d+ )(\d+)(\r\n)")
# Stands for "the n-th unique seen, counted from the last": as wide as what replaces it, so that
# a moved frame swallows as much on both servers.
UNIQUE_TOKEN = re.compile(rb"~unique(\d{4})~~~~~~~~~")

ROUGH_LENGTH_MAX = 300
SEGMENT_MAX_BYTES = 12_000

KEYS = (
    b"k",
    b"key",
    b"alpha",
    b"beta",
    b"counter",
    b"n",
    b"prefix:one",
    b"prefix:two",
    b"k" * 100,
    b"L" * 250,
    b"\xc3\xa9t\xc3\xa9",
    b"with\ttab",
    b"with\x01control",
    b"%41~!",
)
BAD_KEYS = (b"L" * 251, b"M" * 300, b"N" * 1000)
NUMERIC_VALUES = (
    b"0",
    b"1",
    b"5",
    b"9",
    b"10",
    b"99",
    b"100",
    b"1000000000000",
    b"4611686018427387904",
    b"18446744073709551616",
    b"00012",
    b"5 ",
    b" 5",
    b"+5",
    b"5 abc",
    b"5abc",
    b"abc",
    b"1e3",
    b"0x10",
    b"\t7",
    b"7\n",
    b"1\x002",
    b"99999999999999999999999",
    b"00000000000000000000000001",
)
DELTAS = (
    b"0",
    b"1",
    b"1",
    b"2",
    b"5",
    b"10",
    b"99999",
    b"18446744073709551616",
    b"99999999999999999999999999",
    b"-1",
    b"-18446744073709551615",
    b"+1",
    b"abc",
    b"1x",
    b"0x1",
    b"1.5",
    b"00001",
    b"\t1",
    b"1\t",
    b"",
)
FLAGS = (
    b"0",
    b"0",
    b"0",
    b"0",
    b"1",
    b"5",
    b"4294967295",
    b"4294967296",
    b"4294967297",
    b"-1",
    b"18446744073709551615",
    b"18446744073709551616",
    b"123456789012345678901",
    b"abc",
    b"1a",
    b"+7",
    b"007",
    b"0x1f",
    b"\t1",
    b"2\t",
)
GOOD_FLAGS = (b"0", b"0", b"0", b"1", b"77", b"4294967295")
EXPTIMES = (
    b"0",
    b"0",
    b"0",
    b"0",
    b"0",
    b"0",
    b"0",
    b"0",
    b"100000",
    b"2592000",
    b"2592001",
    b"1000000000",
    b"2147483647",
    b"-1",
    b"-100000",
    b"-2147483648",
    b"2147483648",
    b"4294967296",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"abc",
    b"0x0",
    b"+100000",
    b"00",
    b"\t0",
    b"0.5",
)
# Without a minus sign, and harmless in whatever slot of whatever command they land.
ODD_TOKENS = (
    b"0",
    b"00",
    b"100000",
    b"4294967295",
    b"4294967296",
    b"99999999999999999999",
    b"abc",
    b"noreply",
    b"NOREPLY",
    b"noreplyx",
    b"\t",
    b"\x00",
    b"\x01\x02",
    b"\xff\xfe",
    b"0x10",
    b"+0",
    b"*",
    b"k",
    b"L" * 251,
)
WORDS = (
    b"GET",
    b"Set",
    b"geta",
    b"getss",
    b"ge",
    b"g",
    b"s",
    b"x",
    b"foo",
    b"incrr",
    b"stat",
    b"touc",
    b"STATS",
    b"lrux",
    b"verbos",
    b"bgets",
    b"quitx",
    b"cas2",
    b"gats2",
    b"deletee",
    b"\x01",
    b"\xff",
    b"\x00",
    b"\tget",
    b"get\t",
    b"set\x00",
    b"debugtime",
    b"misbehave",
    b"flush",
    b"flush_all2",
    b"shutdown",
    b"refresh_certs",
    b"proxy",
)
# Lines that take no key. Left out is whatever starts work in the background, or shows its result.
ADMIN = (
    b"version",
    b"version x",
    b"versions",
    b"verbosity",
    b"verbosity 0",
    b"verbosity 0 noreply",
    b"verbosity abc",
    b"verbosity -1",
    b"verbosity 0 1 2",
    b"verbosity noreply",
    b"cache_memlimit",
    b"cache_memlimit 256",
    b"cache_memlimit 300 noreply",
    b"cache_memlimit 7",
    b"cache_memlimit abc",
    b"cache_memlimit -1",
    b"cache_memlimit 2000000000",
    b"cache_memlimit 256 1 2",
    b"cache_memlimit 4294967297",
    b"lru",
    b"lru tune",
    b"lru tune 10 25 0.1 2.0",
    b"lru tune 10 25 0.1 2.0 noreply",
    b"lru tune 50 31 0.1 2.0",
    b"lru tune 10 25 0 2.0",
    b"lru tune a b c d",
    b"lru tune 20 40 0.2 2",
    b"lru tune 10 25 0.1",
    b"lru tune 10 25 1e999 2",
    b"lru tune 10 25 0x1 inf",
    b"lru tune 10 25 nan 2",
    b"lru tune -1 2 1 1",
    b"lru bogus",
    b"lru bogus noreply",
    b"lru mode",
    b"lru mode bogus",
    b"lru temp_ttl",
    b"lru temp_ttl -1",
    b"lru temp_ttl abc",
    b"lru_crawler",
    b"lru_crawler bogus",
    b"lru_crawler sleep 100",
    b"lru_crawler sleep 1000001",
    b"lru_crawler sleep abc",
    b"lru_crawler sleep",
    b"lru_crawler tocrawl 0",
    b"lru_crawler tocrawl",
    b"lru_crawler tocrawl x",
    b"lru_crawler crawl",
    b"lru_crawler metadump",
    b"lru_crawler sleep 100 noreply",
    b"lru_crawler a b c d",
    b"slabs",
    b"slabs bogus",
    b"slabs reassign",
    b"slabs reassign 1 1",
    b"slabs reassign a b",
    b"slabs reassign 99 100",
    b"slabs reassign 1 2 3",
    b"slabs automove",
    b"slabs automove 0",
    b"slabs automove 1",
    b"slabs automove 2",
    b"slabs automove 3",
    b"slabs automove abc",
    b"slabs automove ratio 0.8",
    b"slabs automove ratio",
    b"slabs automove ratio x",
    b"slabs automove 0 noreply",
    b"slabs automove 9 noreply",
    b"stats bogus",
    b"stats bogus x y",
    b"stats reset",
    b"stats reset x",
    b"stats detail",
    b"stats detail on",
    b"stats detail off",
    b"stats detail bogus",
    b"stats cachedump",
    b"stats cachedump 1",
    b"stats cachedump a b",
    b"stats cachedump 300 1",
    b"stats noreply",
    b"stats r",
    b"stats d",
    b"stats det o",
    b"stats detail of",
    b"stats c 1",
    b"stats e",
    b"stats p",
    b"stats proxyf",
    b"stats sizes_enable",
    b"stats sizes_disable",
    b"lru t 10 25 0.1 2.0",
    b"lru te -1",
    b"lru t -1",
    b"lru tune 10 25 1e-999 2",
    b"lru tune 10 25 nan(x) 2",
    b"lru tune +10 25 0.1 2.0",
    b"lru tune 10 25 " + b"0" * 32 + b" 2",
    b"lru_crawler sl 100",
    b"lru_crawler t 0",
    b"lru_crawler c 0",
    b"lru_crawler crawl noreply",
    b"lru_crawler crawl 64",
    b"slabs a 1",
    b"slabs a r 0.8",
    b"slabs a f 0.01",
    b"slabs automove freeratio x",
    b"slabs automove window 10",
    b"slabs automove window 2",
    b"slabs automove window 1801",
    b"slabs automove window",
    b"slabs re 1 1",
    b"slabs reassign 1 noreply",
    b"watch x",
    b"verbosity 0 1 noreply",
    b"verbosity +0",
    b"flush_all x y z",
    b"flush_all +0",
    b"refresh_certs noreply",
    b"shutdown",
    b"shutdown graceful",
    b"shutdown noreply",
    b"flush_all abc",
    b"flush_all abc noreply",
    b"flush_all 0 0 0",
    b"flush_all 99999999999999999999",
)
FLUSHES = (
    b"flush_all",
    b"flush_all 0",
    b"flush_all noreply",
    b"flush_all 0 noreply",
    b"flush_all -1",
    b"flush_all 3000000000",
    b"flush_all  0  noreply ",
    b"flush_all +0",
)
CLOSING_BY_REQUEST = (b"quit\r\n", b"quit x\r\n", b"quit\n", b"quit  \r\n", b"quit noreply\r\n")
CLOSING_AT_ONCE = (
    b"GET / HTTP/1.0\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /a/b HTTP/1.1\r\n",
    b"x" * 2049,
    b"touch " + b"y" * 3000,
    b"set " + b"k" * 2100,
    b" " * 101 + b"get " + b"k " * 1500,
    b"\x00" * 2500,
    b"gat 0 " + b"k " * 1400,
    b"get\t" + b"k" * 2200,
)
BLANKS = (b" ", b" ", b" ", b" ", b" ", b" ", b" ", b" ", b"  ", b"    ")
STORING = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")
RETRIEVES = re.compile(rb"get|gat")
DROPS_ANSWERS = re.compile(rb"b?ga?e?ts?[^\n]*[^ \n]{251}")
CALCULATES = re.compile(rb"incr|decr")
LONG_LINE = re.compile(rb"[^\n]{2048}")
LINE_ENDS = (b"\r\n",) * 12 + (b"\n", b" \r\n", b"  \n", b"\r\r\n", b"\t\r\n", b"\x00junk\r\n")


class TextProtocol:
    """Generator of the classic text commands; see `Protocol` for its duties.

    `flushing=False` leaves out flush_all, for servers that run without cas: those flush by whole
    seconds, so that the answer depends on the moment.
    """

    name = "text"
    login: tuple[bytes, ...] = ()

    def __init__(self, *, flushing: bool = True) -> None:
        self.flushing = flushing
        self._kinds: list[Callable[[random.Random], bytes]] = [
            *[self._retrieval] * 5,
            *[self._storage] * 8,
            self._cas,
            self._cas,
            *[self._arithmetic] * 3,
            self._touch,
            self._delete,
            self._delete,
            self._admin,
            self._mutated,
            self._mutated,
            self._noise,
            self._number,
            self._number,
        ]
        if flushing:
            self._kinds.append(self._flush)

    # What the runner calls.

    def is_answer(self, reply: bytes) -> bool:
        return reply.endswith(b"\r\n")

    def opening(self) -> bytes:
        flush = b"flush_all\r\n" if self.flushing else b""
        deletes = b"".join(b"delete %s\r\n" % key for key in KEYS)
        return flush + deletes + b"verbosity 0\r\nstats detail off\r\n"

    def reference_opening(self) -> bytes:
        return b"lru mode flat\r\n"

    def sentinel(self, number: int) -> tuple[bytes, bytes]:
        key = b"sentinel%d" % number
        request = b"set %s 0 0 4\r\nlast\r\nget %s\r\n" % (key, key)
        return request, b"VALUE %s 0 4\r\nlast\r\nEND\r\n" % key

    def substitute(self, request: bytes, memory: Memory) -> bytes:
        if b"~unique" not in request:
            return request

        def unique(found: re.Match[bytes]) -> bytes:
            back = int(found.group(1))
            seen = memory.uniques
            return (seen[-1 - back % len(seen)] if seen else b"1").rjust(UNIQUE_WIDTH, b"0")

        return UNIQUE_TOKEN.sub(unique, request)

    def normalise(self, reply: bytes, memory: Memory) -> bytes:
        return UNIQUE.sub(
            lambda found: b"%sunique-%d\r\n" % (found.group(1), memory.see(found.group(2))), reply
        )

    def batch(self, rng: random.Random) -> Batch:
        batch = self._batch(rng)
        first, *rest = batch.commands
        rest = [each for each in rest if not DROPS_ANSWERS.search(each)]
        # Whether what is before it was answered already is a matter of memcached's own turns.
        rest = [each for each in rest if not each.startswith(b"watch")]
        batch.commands = [first, *rest]
        if any(LONG_LINE.search(each) for each in batch.commands):
            batch.cuts = ()  # refused if it is received in pieces
        return batch

    # Batches.

    def _batch(self, rng: random.Random) -> Batch:
        kind = rng.random()
        if kind < 0.72:
            return self._smooth(rng)
        if kind < 0.94:
            return self._rough(rng)
        if kind < 0.955:
            commands = [self._storage(rng) for _ in range(rng.randrange(4))]
            if rng.random() < 0.5:
                commands.insert(0, self._retrieval(rng))
            return Batch([*commands, rng.choice(CLOSING_BY_REQUEST), b"version\r\n"], closes=True)
        if kind < 0.97:
            return Batch([rng.choice(CLOSING_AT_ONCE)], closes=True)
        if kind < 0.985:
            return Batch([self._long_retrieval(rng)])
        return Batch([self._large(rng), *(self._retrieval(rng) for _ in range(2))])

    def _smooth(self, rng: random.Random) -> Batch:
        commands: list[bytes] = []
        size_bytes = 0
        retrieved = False
        for _ in range(rng.choice((1, 3, 10, 30, 80))):
            command = self._command(rng)
            size_bytes += len(command)
            if size_bytes > SEGMENT_MAX_BYTES or (retrieved and CALCULATES.search(command)):
                break
            retrieved = retrieved or RETRIEVES.search(command) is not None
            commands.append(command)
        if not commands:
            commands.append(b"version\r\n")
        cuts = tuple(sorted(rng.random() for _ in range(rng.choice((0, 0, 0, 1, 2, 5)))))
        return Batch(commands, cuts=cuts)

    def _rough(self, rng: random.Random) -> Batch:
        commands: list[bytes] = []
        retrieved = False
        for _ in range(rng.choice((1, 2, 4, 8))):
            make = self._misframed if rng.random() < 0.4 else self._command
            command = make(rng).replace(b"-", b"x")
            if retrieved and CALCULATES.search(command):
                break
            if len(command) <= 1000 and b"~unique" not in command:
                retrieved = retrieved or RETRIEVES.search(command) is not None
                commands.append(command)
        padding = b" " * (ROUGH_LENGTH_MAX + 100) + b"\r\n"
        cuts = tuple(sorted(rng.random() for _ in range(rng.choice((0, 0, 1, 3)))))
        return Batch(commands or [b"version\r\n"], padding=padding, cuts=cuts)

    # Commands.

    def _command(self, rng: random.Random) -> bytes:
        return rng.choice(self._kinds)(rng)

    def _line(self, rng: random.Random, *tokens: bytes) -> bytes:
        if rng.random() < 0.85:
            return b" ".join(tokens) + b"\r\n"
        line = b"".join(token + rng.choice(BLANKS) for token in tokens[:-1]) + tokens[-1]
        lead = rng.choice((b"", b"", b" ", b"   "))
        return lead + line + rng.choice(LINE_ENDS)

    def _key(self, rng: random.Random) -> bytes:
        return rng.choice(KEYS) if rng.random() < 0.97 else rng.choice(BAD_KEYS)

    def _retrieval(self, rng: random.Random) -> bytes:
        word = rng.choice((b"get", b"get", b"get", b"gets", b"gets", b"gat", b"gats", b"bget"))
        count = rng.choice((1, 1, 1, 1, 2, 3, 8, 22, 23, 24, 25, 47, 60))
        keys = [rng.choice(KEYS if count < 8 else KEYS[:8]) for _ in range(count)]
        if rng.random() < 0.02:
            keys = [rng.choice(BAD_KEYS)]
        if word.startswith(b"ga"):
            return self._line(rng, word, rng.choice(EXPTIMES), *keys)
        return self._line(rng, word, *keys)

    def _block(self, rng: random.Random, *, small: bool = True) -> bytes:
        kind = rng.random()
        if kind < 0.35:
            return rng.choice(NUMERIC_VALUES)
        if kind < 0.45:
            return b""
        if kind < 0.55:
            return rng.choice(
                (b"get k\r\nget n", b"x\r\n", b"\r\nx\r\n", b"\nx", b"\rx", b"END\r\n")
            )
        if small or kind < 0.95:
            noise = rng.randbytes(rng.choice((1, 2, 7, 30, 64, 200))).replace(b"-", b"+")
            return noise if noise.strip() else b"blank"
        return bytes((rng.randrange(48, 123),)) * rng.choice((1000, 2000, 4000))

    def _header(self, rng: random.Random, length: bytes, *, good: bool) -> list[bytes]:
        word = rng.choice((b"set", b"set", b"set", b"add", b"replace", b"append", b"prepend"))
        flags, exptimes = (GOOD_FLAGS, (b"0",)) if good else (FLAGS, EXPTIMES)
        tokens = [word, self._key(rng), rng.choice(flags), rng.choice(exptimes), length]
        if rng.random() < 0.15:
            tokens.append(rng.choice((b"noreply", b"noreply", b"noreply", b"x", b"NOREPLY")))
        return tokens

    def _storage(self, rng: random.Random) -> bytes:
        good = rng.random() < 0.8
        block = self._block(rng, small=not good)
        header = self._header(rng, b"%d" % len(block), good=good)
        # Of a header that is not one the block is read as commands: it must not be a long line.
        line = self._line(rng, *header) if len(block) < 1000 else b" ".join(header) + b"\r\n"
        return line + block + b"\r\n"

    def _number(self, rng: random.Random) -> bytes:
        value = rng.choice(NUMERIC_VALUES)
        key = rng.choice((b"counter", b"n"))
        return b"set %s %s 0 %d\r\n%s\r\n" % (key, rng.choice(GOOD_FLAGS), len(value), value)

    def _cas(self, rng: random.Random) -> bytes:
        block = self._block(rng)
        unique = b"~unique%04d~~~~~~~~~" % rng.choice((0, 0, 0, 1, 2, 5, 50))
        if rng.random() < 0.15:
            unique = rng.choice(
                (
                    b"0",
                    b"1",
                    b"18446744073709551615",
                    b"18446744073709551616",
                    b"-1",
                    b"abc",
                    b"1x",
                    b"+1",
                )
            )
        tokens = [b"cas", rng.choice(KEYS[:6]), b"0", b"0", b"%d" % len(block), unique]
        if rng.random() < 0.1:
            tokens.append(b"noreply")
        ask = b"gets %s\r\n" % tokens[1] if rng.random() < 0.7 else b""
        return ask + self._line(rng, *tokens) + block + b"\r\n"

    def _arithmetic(self, rng: random.Random) -> bytes:
        key = rng.choice((b"counter", b"n", b"counter", b"n", self._key(rng)))
        tokens = [rng.choice((b"incr", b"decr")), key, rng.choice(DELTAS)]
        if tokens[0] == b"decr" and rng.random() < 0.1:
            tokens[2] = rng.choice((b"18446744073709551615", b"9223372036854775808"))
        if rng.random() < 0.1:
            tokens.append(rng.choice((b"noreply", b"x")))
        return self._line(rng, *tokens)

    def _touch(self, rng: random.Random) -> bytes:
        tokens = [b"touch", self._key(rng), rng.choice(EXPTIMES)]
        if rng.random() < 0.2:
            tokens.append(rng.choice((b"noreply", b"x")))
        return self._line(rng, *tokens)

    def _delete(self, rng: random.Random) -> bytes:
        tokens = [b"delete", self._key(rng)]
        if rng.random() < 0.3:
            tokens += rng.choice(
                (
                    [b"0"],
                    [b"noreply"],
                    [b"0", b"noreply"],
                    [b"5"],
                    [b"5", b"noreply"],
                    [b"0", b"0"],
                    [b"noreply", b"0"],
                    [b"0", b"noreply", b"x"],
                    [b"00"],
                )
            )
        return self._line(rng, *tokens)

    def _admin(self, rng: random.Random) -> bytes:
        return self._line(rng, *rng.choice(ADMIN).split(b" "))

    def _flush(self, rng: random.Random) -> bytes:
        return rng.choice(FLUSHES) + b"\r\n"

    def _mutated(self, rng: random.Random) -> bytes:
        """A valid line with one token added, taken away or replaced. Never a whole block."""
        tokens = rng.choice(
            (
                [b"get", b"k"],
                [b"gets", b"k", b"n"],
                [b"gat", b"100000", b"k"],
                [b"incr", b"n", b"1"],
                [b"decr", b"n", b"1"],
                [b"touch", b"k", b"100000"],
                [b"delete", b"k"],
                [b"gat", b"100000"],
                [b"get"],
                [b"incr", b"n"],
                [b"touch", b"k"],
                [b"delete"],
                [b"set", b"k"],
                [b"add"],
                [b"cas", b"k", b"0"],
                [b"verbosity", b"0"],
                [b"lru", b"tune"],
                [b"append", b"k", b"0"],
            )
        )
        place = rng.randrange(len(tokens) + 1)
        change = rng.random()
        if change < 0.5:
            tokens.insert(place, rng.choice(ODD_TOKENS))
        elif change < 0.8:
            tokens[place - 1] = rng.choice(ODD_TOKENS)
        else:
            # Never so that a storage command is complete and waits for its block.
            filler = b"x" if tokens[0] in STORING else rng.choice((b"x", b"0"))
            tokens += [filler] * rng.choice((18, 19, 20, 21, 22, 23, 24, 30))
            if rng.random() < 0.3:
                tokens.append(b"noreply")
        if tokens[0] in (b"mg", b"ms", b"md", b"mn", b"ma", b"me"):
            tokens[0] = b"mx"
        return self._line(rng, *tokens)

    def _noise(self, rng: random.Random) -> bytes:
        kind = rng.random()
        if kind < 0.2:
            return rng.choice(
                (
                    b"\r\n",
                    b"\n",
                    b" \r\n",
                    b"\t\r\n",
                    b"\r\r\n",
                    b"\x00\r\n",
                    b"   \n",
                    b"x\r\n",
                    b"mn\n",
                    b"me\n",
                    b"  \r\n",
                    b" x\r\n",
                    b"  quit  \r\n",
                    b" version\r\n",
                )
            )
        if kind < 0.7:
            tokens = [rng.choice(WORDS), *rng.choices(ODD_TOKENS, k=rng.choice((0, 1, 2, 5, 30)))]
            return self._line(rng, *tokens)
        noise = rng.randbytes(rng.choice((1, 3, 20, 100)))
        # No line break, so that it is one line; nothing that is a meta command by chance.
        return b"?" + noise.translate(None, b"\n-") + b"\r\n"

    def _misframed(self, rng: random.Random) -> bytes:
        """A storage command whose block is not what its header says."""
        block = self._block(rng)[:200]
        kind = rng.random()
        if kind < 0.5:
            length = b"%d" % max(0, len(block) + rng.choice((-3, -2, -1, 1, 2, 3, 20, 100)))
            return self._line(rng, *self._header(rng, length, good=True)) + block + b"\r\n"
        header = self._line(rng, *self._header(rng, b"%d" % len(block), good=True))
        if kind < 0.75:
            end = rng.choice((b"\n", b"\r", b"", b"x\r\n", b"\n\r", b"\r\r\n", b"\n\n", b"ab"))
            return header + block + end
        if kind < 0.9:
            length = rng.choice(
                (
                    b"-1",
                    b"abc",
                    b"1x",
                    b"4294967296",
                    b"4294967297",
                    b"2147483646",
                    b"2147483647",
                    b"2147483648",
                    b"9223372036854775808",
                    b"",
                    b"0x4",
                    b"+2",
                    b"002",
                    b"-2147483648",
                    b"\t2",
                )
            )
            if length == b"2147483646":
                length = b"2147483648"
            return self._line(rng, *self._header(rng, length, good=True)) + block + b"\r\n"
        tokens = self._header(rng, b"%d" % len(block), good=True)
        tokens[rng.randrange(2, len(tokens))] = rng.choice((b"abc", b"", b"0", b"noreply"))
        return self._line(rng, *tokens) + block + b"\r\n"

    def _long_retrieval(self, rng: random.Random) -> bytes:
        keys = rng.choices(KEYS[:8], k=rng.choice((100, 300, 1500)))
        return b"%s %s\r\n" % (rng.choice((b"get", b"gets")), b" ".join(keys))

    def _large(self, rng: random.Random) -> bytes:
        """A value near a limit: the largest item, or over it.

        Not near half a megabyte: memcached 1.6.18 crashes now and then when the last of several
        chunks holds nothing but the line end.
        """
        near = rng.choice((8 << 10, 16 << 10, 600 << 10, 1 << 20, 1 << 20, 2 << 20))
        length = max(
            0, near - rng.choice((0, 1, 2, 47, 48, 50, 56, 57, 58, 60, 64, 100, 300, -1, -2))
        )
        word = rng.choice((b"set", b"set", b"add", b"append", b"prepend", b"replace"))
        key = rng.choice((b"k", b"beta"))
        quiet = rng.choice((b"", b"", b" noreply"))
        header = b"%s %s %s 0 %d%s\r\n" % (word, key, rng.choice(GOOD_FLAGS), length, quiet)
        return header + bytes((rng.randrange(65, 91),)) * length + b"\r\n"
