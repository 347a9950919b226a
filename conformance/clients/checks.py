"""What the programs in Python share: where the server is, and how a check is told."""

from __future__ import annotations

import os
import random
import re
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

HOST = os.environ["MEMCACHED_HOST"]
PORT = int(os.environ["MEMCACHED_PORT"])
ADDRESS = f"{HOST}:{PORT}"
#: Which of setups.SETUPS the server has.
SETUP = os.environ["MEMCACHED_SETUP"]
USER = os.environ["MEMCACHED_USER"]
PASSWORD = os.environ["MEMCACHED_PASSWORD"]
WRONG_PASSWORD = PASSWORD + "x"
#: The certificate authority's file, where the server speaks TLS.
CA_FILE = os.environ.get("MEMCACHED_CA", "")

#: With TLS, of a later memcached than the reference may be.
NEWER_STATISTICS = {"ssl_proto_errors"}

#: A time to live that no program reaches.
FAR_S = 100_000
#: Larger than one read, than one slab chunk of 512 KB, and than an item may be.
SIZES = (0, 1, 4_095, 70_000, 600_000, 1_048_000)
TOO_LARGE_BYTES = 2_000_000
#: Of setup "narrow": larger than an item may be by little, by more, by far.
NARROW_SIZES = (1_100_000, 2_000_000, 8_000_000)
#: A client that has lost its connection gets another one in so many attempts, a second each.
ATTEMPTS = 30


def _line(*words: object) -> None:
    text = " ".join(map(str, words))
    sys.stdout.write(text.replace("\n", "\\n").replace("\r", "\\r") + "\n")
    sys.stdout.flush()


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:100]}... ({len(text)} characters)"


class Checks:
    """Runs operations and prints how each went; `prefix` tells the passes of a program apart."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix + ": " if prefix else ""

    def equal(self, name: str, got: Any, expected: Any) -> None:
        """Print whether a result is the expected one."""
        if got == expected and type(got) is type(expected):
            _line("ok", self.prefix + name)
        else:
            _line("not ok", f"{self.prefix}{name}: {_brief(got)}, not {_brief(expected)}")

    def call(self, name: str, operation: Callable[[], Any], expected: Any) -> None:
        """Check what an operation returns; an error fails the check and no more."""
        try:
            got = operation()
        except Exception as error:
            _line("not ok", f"{self.prefix}{name}: {type(error).__name__}: {error}")
        else:
            self.equal(name, got, expected)

    def fails(
        self, name: str, operation: Callable[[], Any], error_type: type[BaseException]
    ) -> None:
        """Check that an operation raises, and show what the error says."""
        try:
            got = operation()
        except error_type as error:
            _line("ok", self.prefix + name)
            _line("saw", f"{self.prefix}{name}: {type(error).__name__}: {error}")
        except Exception as error:
            _line("not ok", f"{self.prefix}{name}: {type(error).__name__}: {error}")
        else:
            _line("not ok", f"{self.prefix}{name}: {_brief(got)}, no {error_type.__name__}")

    def saw(self, name: str, operation: Callable[[], Any]) -> None:
        """Show a result, or an error, that only has to be the same on both servers."""
        try:
            _line("saw", f"{self.prefix}{name}: {_brief(operation())}")
        except Exception as error:
            _line("saw", f"{self.prefix}{name}: {type(error).__name__}: {error}")

    async def acall(self, name: str, operation: Awaitable[Any], expected: Any) -> None:
        """`call` for a coroutine."""
        try:
            got = await operation
        except Exception as error:
            _line("not ok", f"{self.prefix}{name}: {type(error).__name__}: {error}")
        else:
            self.equal(name, got, expected)

    async def afails(
        self, name: str, operation: Awaitable[Any], error_type: type[BaseException]
    ) -> None:
        """`fails` for a coroutine."""
        try:
            got = await operation
        except error_type as error:
            _line("ok", self.prefix + name)
            _line("saw", f"{self.prefix}{name}: {type(error).__name__}: {error}")
        except Exception as error:
            _line("not ok", f"{self.prefix}{name}: {type(error).__name__}: {error}")
        else:
            _line("not ok", f"{self.prefix}{name}: {_brief(got)}, no {error_type.__name__}")


def attempted(operation: Callable[[], Any], expected: Any) -> Any:
    """Do something again and again until it returns what is expected, or was done often enough."""
    got: Any = None
    for number in range(ATTEMPTS):
        if number:
            time.sleep(1.0)
        try:
            got = operation()
        except Exception as error:
            got = error
        if got == expected:
            break
    return got


def narrow(t: Checks, store: Callable[[str, bytes], Any], fetch: Callable[[str], Any]) -> None:
    """Store values that are too large; a client must go on afterwards as if nothing were."""
    small = payload(100)
    for size in NARROW_SIZES:
        store("large", b"old")
        t.saw(f"set {size}", partial(store, "large", payload(size)))
        t.saw(f"get after {size}", partial(fetch, "large"))
        for number in range(3):
            key = f"{size}-{number}"
            t.call(
                f"set {number} after {size}",
                partial(attempted, partial(store, key, small), True),
                True,
            )
            t.call(
                f"get {number} after {size}",
                partial(attempted, partial(fetch, key), small),
                small,
            )


def names(rows: Iterable[str | bytes]) -> list[str]:
    """Return the names of statistics, without class numbers: which class has items depends on
    when expired ones are looked at.
    """
    texts = (each.decode() if isinstance(each, bytes) else each for each in rows)
    return sorted({re.sub(r"\d+:", "", text) for text in texts} - NEWER_STATISTICS)


def payload(size: int) -> bytes:
    """Return bytes that no client can make smaller, the same for the same size."""
    return random.Random(size).randbytes(size)
