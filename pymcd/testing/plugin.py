"""The fixtures for pytest: `memcached_server`, `memcached_pair`, `memcached_server_factory`.

pytest loads this module in every run, so it imports nothing; the fixtures do. With
`--memcached-server=HOST:PORT` the tests run on a server that is there already; what only the fake
can do is then skipped, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .pair import MemcachedPair
    from .server import MemcachedServer

_OPTION = "--memcached-server"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("pymcd").addoption(
        _OPTION,
        metavar="HOST:PORT",
        help="use this memcached, and empty it, in the place of the fixtures' own",
    )


@pytest.fixture
def memcached_server(request: pytest.FixtureRequest) -> Iterator[MemcachedServer]:
    """A memcached for this test alone, on a free port: a running `MemcachedServer`."""
    with _make_server(request) as server:
        yield server


@pytest.fixture
def memcached_pair(request: pytest.FixtureRequest) -> Iterator[MemcachedPair]:
    """Two servers that replicate, for this test alone: a running `MemcachedPair`."""
    if request.config.getoption(_OPTION):
        pytest.skip(f"two servers that replicate are not behind {_OPTION}")
    from .pair import MemcachedPair

    with MemcachedPair() as pair:
        yield pair


@pytest.fixture(scope="session")
def memcached_server_factory(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., MemcachedServer]]:
    """A function that starts a `MemcachedServer`, of its arguments, until the session ends.

    For fixtures of a wider scope and for hypothesis, together with `reset()`.
    """
    from contextlib import ExitStack

    with ExitStack() as servers:

        def start(**arguments: Any) -> MemcachedServer:
            return servers.enter_context(_make_server(request, **arguments))

        yield start


def _make_server(request: pytest.FixtureRequest, **arguments: Any) -> MemcachedServer:
    """Return the server of the command line, or else a new one."""
    address = request.config.getoption(_OPTION)
    if not address:
        from .server import MemcachedServer

        return MemcachedServer(**arguments)
    if arguments:
        words = ", ".join(f"{name}=" for name in arguments)
        pytest.skip(f"{words} cannot be chosen for the server of {_OPTION}")
    from .external import ExternalServer

    try:
        return ExternalServer(address)
    except ValueError as error:
        raise pytest.UsageError(f"{_OPTION}: {error}") from None
