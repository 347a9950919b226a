"""Clients that spread keys over shards, made by the very code that docs/capacity.md shows.

A `Maker` starts what all clients of its kind share (a JVM, a twemproxy) and makes one client for
each thread. A `Client` has three words; what it cannot say for certain it raises as `Failed`.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pylibmc
from pymemcache.client.base import Client as OneServer
from pymemcache.exceptions import MemcacheError

from conformance.clients import catalog
from conformance.trial import TrialError

from . import page
from .twemproxy import Twemproxy, documented

ANSWER_TIMEOUT_S = 30.0
JVM = ("java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
DRIVER = Path(__file__).with_name("Driver.java")
PLACEHOLDER = "// The block of docs/capacity.md."


class Failed(Exception):
    """The client raised or was refused: nobody knows what became of the request."""


class Client(Protocol):
    def set(self, key: bytes, value: bytes) -> None: ...

    def get(self, key: bytes) -> bytes | None: ...

    def delete(self, key: bytes) -> None: ...

    def close(self) -> None: ...


Make = Callable[[], Client]
#: Takes the shards' addresses.
Maker = Callable[[Sequence[str]], AbstractContextManager[Make]]


class _Python:
    """pylibmc and pymemcache: they agree on all but the exceptions."""

    def __init__(self, client: Any, close: Callable[[], None], *errors: type[Exception]) -> None:
        self._client = client
        self._errors = errors
        self.close = close

    def set(self, key: bytes, value: bytes) -> None:
        try:
            stored = self._client.set(key.decode(), value)
        except self._errors as error:
            raise Failed(f"{type(error).__name__}: {error}") from None
        if not stored:
            raise Failed(f"set answered {stored!r}")

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._client.get(key.decode())
        except self._errors as error:
            raise Failed(f"{type(error).__name__}: {error}") from None
        return value

    def delete(self, key: bytes) -> None:
        # Of no interest is whether it was there; what failed is raised.
        try:
            self._client.delete(key.decode())
        except self._errors as error:
            raise Failed(f"{type(error).__name__}: {error}") from None


def _execute(text: str) -> Any:
    """Execute a block of the page, and return the client that it makes."""
    names: dict[str, Any] = {}
    exec(compile(text, page.PAGE.name, "exec"), names)
    return names["client"]


def with_pylibmc(*changes: page.Change) -> Maker:
    """Return the maker of pylibmc's clients, with settings of the page changed."""

    @contextmanager
    def maker(addresses: Sequence[str]) -> Iterator[Make]:
        text = page.changed(page.addressed(page.block("python", "pylibmc"), addresses), *changes)

        def make() -> Client:
            client = _execute(text)
            return _Python(client, client.disconnect_all, pylibmc.Error)

        yield make

    return maker


def with_pymemcache(*changes: page.Change) -> Maker:
    @contextmanager
    def maker(addresses: Sequence[str]) -> Iterator[Make]:
        text = page.changed(page.addressed(page.block("python", "pymemcache"), addresses), *changes)

        def make() -> Client:
            client = _execute(text)
            return _Python(client, client.close, MemcacheError, OSError)

        yield make

    return maker


def through_twemproxy(text: str | None = None) -> Maker:
    """Return the maker of clients that know one address: twemproxy's."""

    @contextmanager
    def maker(addresses: Sequence[str]) -> Iterator[Make]:
        with Twemproxy(addresses, text or documented()) as proxy:

            def make() -> Client:
                client = OneServer(
                    proxy.address,
                    connect_timeout=1,
                    timeout=2,
                    no_delay=True,
                    default_noreply=False,
                )
                return _Python(client, client.close, MemcacheError, OSError)

            yield make

    return maker


# -- spymemcached --------------------------------------------------------------------------------


def why_no_java() -> str:
    """Say why spymemcached cannot run here; nothing if it can."""
    if shutil.which("javac") is None:
        return "no JDK installed (Debian: apt-get install default-jdk-headless)"
    if not _jar():
        return "no spymemcached: python -m conformance.clients.install java"
    return ""


def _jar() -> Path | None:
    return next(iter(sorted((catalog.home() / "java").glob("*/spymemcached-*.jar"))), None)


class _Spy:
    """One connection to the driver, which asks its one MemcachedClient for all of them."""

    def __init__(self, port: int) -> None:
        self._stream = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S)
        self._answers = self._stream.makefile("rb")

    def _ask(self, *words: bytes) -> bytes:
        self._stream.sendall(b" ".join(words) + b"\n")
        said, _, rest = self._answers.readline().rstrip(b"\n").partition(b" ")
        if said != b"ok":
            raise Failed(f"{said.decode()} {rest.decode(errors='replace')}")
        return rest

    def set(self, key: bytes, value: bytes) -> None:
        self._ask(b"set", key, value.hex().encode())

    def get(self, key: bytes) -> bytes | None:
        found = self._ask(b"get", key)
        return bytes.fromhex(found[1:].decode()) if found else None

    def delete(self, key: bytes) -> None:
        self._ask(b"delete", key)

    def close(self) -> None:
        self._answers.close()
        self._stream.close()


def with_spymemcached(*changes: page.Change, proxied: bool = False) -> Maker:
    """Return the maker of clients of one MemcachedClient in a JVM of its own.

    Args:
        proxied: it knows twemproxy's address alone.
    """

    @contextmanager
    def maker(addresses: Sequence[str]) -> Iterator[Make]:
        with contextlib.ExitStack() as stack:
            known = addresses
            if proxied:
                known = [stack.enter_context(Twemproxy(addresses)).address]
            block = page.addressed(page.block("java", "KETAMA"), known)
            port = stack.enter_context(_driver(page.changed(block, *changes)))
            yield lambda: _Spy(port)

    return maker


@contextmanager
def _driver(block: str) -> Iterator[int]:
    """Run the driver with this block in it; the port where it listens."""
    if reason := why_no_java():
        raise TrialError(reason)
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        source, log = Path(name) / "Driver.java", Path(name) / "log"
        source.write_text(page.changed(DRIVER.read_text(), (PLACEHOLDER, block)))
        with (
            log.open("wb") as sink,
            subprocess.Popen(
                [*JVM, "-cp", str(_jar()), str(source)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                start_new_session=True,
            ) as process,
        ):
            try:
                assert process.stdout is not None
                said = process.stdout.readline()
                if not said.strip().isdigit():
                    raise TrialError(f"the driver says {said!r}\n{log.read_text()[-2000:]}")
                yield int(said)
            finally:
                process.kill()
