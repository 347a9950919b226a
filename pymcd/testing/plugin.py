"""The fixtures for pytest, and the marker that says what their servers shall be.

pytest loads this module in every run, so it imports nothing; the fixtures do. With
`--memcached-server=HOST:PORT` the tests run on a server that is there already; what only the fake
can do is then skipped, with the reason.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from .external import Addresses
    from .pair import MemcachedPair
    from .server import MemcachedServer

_OPTION = "--memcached-server"
_MARKER = "memcached"
#: Loaded with the first server.
_SECTIONS = f"{__package__}.sections"
_SKIPPING = f"{__package__}.skipping"
_ADDRESSES: pytest.StashKey[Addresses] = pytest.StashKey()
#: Of a test: it was skipped when it had begun.
_CUT_SHORT: pytest.StashKey[bool] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("pymcd").addoption(
        _OPTION,
        metavar="HOST:PORT",
        help="use this memcached, and empty it, in the place of the fixtures' own;"
        " with pytest-xdist one for each worker: HOST:PORT,HOST:PORT",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and see which servers are there."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(**arguments): what the servers of memcached_server, memcached_pair and"
        ' memcached_server_factory shall be, as in max_item_size=2048, clock="frozen"',
    )
    written = config.getoption(_OPTION)
    if written is None:
        return
    from .external import Addresses

    worker = getattr(config, "workerinput", {"workerid": "gw0", "workercount": 1})
    number, workers = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    try:
        config.stash[_ADDRESSES] = Addresses(written.split(",")[number::workers])
    except ValueError as error:
        raise pytest.UsageError(f"{_OPTION}={written}: {error}") from None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[object]) -> None:
    """See that no two workers empty one server under each other."""
    address = config.getoption(_OPTION)
    if address and len(address.split(",")) < len(specs):
        raise pytest.UsageError(
            f"{_OPTION}={address}: {len(specs)} workers need a server each, or they empty it under"
            f" each other; write {_OPTION}=HOST:PORT,HOST:PORT with {len(specs)} of them,"
            " or leave -n out"
        )


@pytest.fixture
def memcached_server(request: pytest.FixtureRequest) -> Iterator[MemcachedServer]:
    """A memcached for this test alone, on a free port: a running `MemcachedServer`."""
    with _server(request, _marked(request)) as server:
        yield server


@pytest.fixture
def memcached_pair(request: pytest.FixtureRequest) -> Iterator[MemcachedPair]:
    """Two servers that replicate, for this test alone: a running `MemcachedPair`."""
    if _ADDRESSES in request.config.stash:
        pytest.skip(f"two servers that replicate are not behind {_OPTION}")
    from .pair import MemcachedPair

    with _made(MemcachedPair, _marked(request)) as pair:
        yield pair


@pytest.fixture
def memcached_server_factory(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., MemcachedServer]]:
    """A function that starts a `MemcachedServer`, of its arguments, until the test ends."""
    yield from _factory(request, _marked(request))


@pytest.fixture(scope="session")
def memcached_server_session_factory(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., MemcachedServer]]:
    """A function that starts a `MemcachedServer`, of its arguments, until the session ends.

    For fixtures of a wider scope and for hypothesis, together with `reset()`.
    """
    yield from _factory(request, {})


def _factory(
    request: pytest.FixtureRequest, marked: dict[str, Any]
) -> Iterator[Callable[..., MemcachedServer]]:
    from contextlib import ExitStack

    with ExitStack() as servers:

        def start(*given: Any, **arguments: Any) -> MemcachedServer:
            if given:
                raise TypeError(
                    f"memcached_server_factory() takes its arguments by name, as in port=0, not"
                    f" {given[0]!r}"
                )
            return servers.enter_context(_server(request, marked, arguments))

        yield start


def _marked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the arguments of all markers of a test: those nearer to it win."""
    arguments: dict[str, Any] = {}
    for marker in request.node.iter_markers(_MARKER):  # the nearest one first
        if marker.args:
            written = ", ".join(map(repr, marker.args))
            pytest.fail(
                f"@pytest.mark.{_MARKER}({written}) takes arguments by name, as in"
                f' @pytest.mark.{_MARKER}(clock="frozen")',
                pytrace=False,
            )
        arguments = {**marker.kwargs, **arguments}
    return arguments


def _made(kind: Callable[..., Any], marked: dict[str, Any], **arguments: Any) -> Any:
    """Return what a constructor makes of a marker's arguments, or fail with what is wrong."""
    if not marked:
        return kind(**arguments)
    try:
        return kind(**{**marked, **arguments})
    except (TypeError, ValueError) as error:
        wrong = str(error)
    written = ", ".join(f"{name}={value!r}" for name, value in marked.items())
    return pytest.fail(f"@pytest.mark.{_MARKER}({written}): {wrong}", pytrace=False)


def _server(
    request: pytest.FixtureRequest, marked: dict[str, Any], arguments: dict[str, Any] | None = None
) -> MemcachedServer:
    """Return a server of the command line, or else a new one, that is not started yet."""
    addresses = request.config.stash.get(_ADDRESSES, None)
    arguments = arguments or {}
    if addresses is None:
        from .server import MemcachedServer

        server: MemcachedServer = _made(MemcachedServer, marked, **arguments)
        return server
    if marked or arguments:
        words = ", ".join(f"{name}=" for name in {**marked, **arguments})
        pytest.skip(f"{words} cannot be chosen for the server of {_OPTION}")
    return addresses.server()


# -- reports -----------------------------------------------------------------------------------


def pytest_runtest_logstart() -> None:
    """Forget the servers of tests before."""
    if _SECTIONS in sys.modules:  # there was a server
        sys.modules[_SECTIONS].begin_test()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Find nothing wrong with a test that was skipped before it was over."""
    if _SKIPPING in sys.modules:
        sys.modules[_SKIPPING].end_test(cut_short=item.stash.get(_CUT_SHORT, False))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failing test what its servers were asked, and which faults were there."""
    report = yield
    if report.when != "teardown":
        item.stash[_CUT_SHORT] = report.skipped
    if report.failed and _SECTIONS in sys.modules:
        report.sections += sys.modules[_SECTIONS].make_sections()
    return report
