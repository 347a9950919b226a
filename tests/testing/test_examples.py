"""Every public name of `pymcd.testing` is documented, with an example that runs."""

from __future__ import annotations

import contextlib
import doctest
import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest
import trio

import pymcd.testing

from ..interpreters import needs_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator

pymemcache = pytest.importorskip("pymemcache", reason="the examples use pymemcache as their client")
pytestmark = needs_certificates  # some examples do


def public_members() -> Iterator[tuple[str, Any]]:
    """Yield all that users can call or read, by its full name."""
    for name in pymcd.testing.__all__:
        thing = getattr(pymcd.testing, name)
        yield name, thing
        if inspect.isclass(thing):
            for member in dir(thing):
                found = inspect.getattr_static(thing, member)
                is_ours = getattr(inspect.unwrap(_function(found)), "__module__", "")
                if not member.startswith("_") and str(is_ours).startswith("pymcd.testing"):
                    yield f"{name}.{member}", found


def _function(member: Any) -> Any:
    return member.fget if isinstance(member, property) else member


MEMBERS = dict(public_members())
#: What the example of a class imports, so that those of its members need not.
IMPORTED = {name: MEMBERS[name] for name in pymcd.testing.__all__} | {
    "Client": pymemcache.Client,
    "closing": contextlib.closing,
    "trio": trio,
}


@pytest.mark.parametrize("name", MEMBERS)
def test_is_documented(name: str) -> None:
    assert inspect.getdoc(MEMBERS[name]), f"{name} has no docstring"


@pytest.mark.parametrize(
    "name", [name for name in MEMBERS if ">>>" in (inspect.getdoc(MEMBERS[name]) or "")]
)
def test_example_runs(name: str) -> None:
    text = inspect.getdoc(MEMBERS[name]) or ""
    names = IMPORTED if "." in name else {}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    runner.run(test, out=said.append)
    assert "".join(said) == ""


def test_everything_has_an_example() -> None:
    missing = [name for name in MEMBERS if not has_example(name)]
    assert missing == []


def has_example(name: str) -> bool:
    """Return whether something has an example of its own, or that of its class shows it."""
    if ">>>" in (inspect.getdoc(MEMBERS[name]) or ""):
        return True
    owner, _, member = name.partition(".")
    example = (inspect.getdoc(MEMBERS[owner]) or "").partition(">>>")[2]
    return bool(member) and re.search(rf"\b(server|fault|items)\.{member}\b", example) is not None


@pytest.mark.parametrize("name", ["MemcachedServer", "MemcachedPair"])
def test_arguments_are_shown_and_explained(name: str) -> None:
    thing = MEMBERS[name]
    _, _, explained = (inspect.getdoc(thing) or "").partition("Args:")
    assert set(inspect.signature(thing).parameters) == set(
        re.findall(r"^    (\w+):", explained, re.MULTILINE)
    )


def test_serve_takes_what_a_server_takes() -> None:
    server = set(inspect.signature(pymcd.testing.MemcachedServer).parameters)
    assert set(inspect.signature(pymcd.testing.serve).parameters) == server - {"process"} | {
        "sockets"
    }


@pytest.mark.parametrize("name", ["MemcachedServer", "MemcachedPair", "serve"])
def test_a_wrong_argument_is_that_of_what_was_called(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\b.*unexpected keyword argument 'prot'"):
        MEMBERS[name](prot="ascii")
