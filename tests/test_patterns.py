"""What is done with a client's words takes time in proportion to their length, by construction.

A regular expression can try again and again where it ends a repetition. Ours are such that it
cannot: read by `re`'s own parser, each has no more to try than a bounded number of things for each
byte. Numbers are looked at before `int` and `float` see them, which raise, or take long, where
there are thousands of digits.
"""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

import pytest

import pymcd
from pymcd import auth
from pymcd.protocol import admin, metaflags, tokens
from pymcd.store import cache
from pymcd.web import conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = Path(pymcd.__file__).parent
#: One character.
SIMPLE = {kinds.LITERAL, kinds.NOT_LITERAL, kinds.IN, kinds.ANY}
#: Repetitions of a fixed number of times cost as much as what they repeat.
BOUNDED = 300
#: What these read is from whoever starts the server or writes a test, or ours: the help.
OPERATOR = {"options", "sources", "completion", "manual", "wanted"}
#: The others try each place of a text.
ANCHORED = {"match", "fullmatch"}


def patterns() -> Iterator[tuple[str, str | bytes, int, bool]]:
    """Yield each pattern of the package: where it stands, itself, its flags, if it is anchored."""
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text()
        if "import re\n" not in source or path.stem in OPERATOR:
            continue
        name = ".".join(("pymcd", *path.relative_to(PACKAGE).with_suffix("").parts))
        module = importlib.import_module(name)
        tree = ast.parse(source)
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            match node:
                case ast.Call(ast.Attribute(ast.Name("re"), verb), [pattern, *others]):
                    flags = 0
                    if verb == "compile":
                        flags = _evaluate(others[0], module) if others else 0
                        parent = parents[node]
                        # Patterns that are kept whole are matched: see below.
                        verb = parent.attr if isinstance(parent, ast.Attribute) else "match"
                    where = f"{name}:{node.lineno}"
                    yield where, _evaluate(pattern, module), flags, verb in ANCHORED


def _evaluate(node: ast.expr, module: Any) -> Any:
    return eval(compile(ast.Expression(node), "", "eval"), vars(module))


def trouble(pattern: str | bytes, flags: int = 0, *, anchored: bool = True) -> str | None:
    """Return why a pattern may take more than linear time; None: it does not."""
    tree = parser.parse(pattern, flags)
    if not anchored and _width(tree) > BOUNDED:
        return "it is searched for, and has no bounded length"
    return _trouble(list(tree), 0)


def _width(tree: Any) -> int:
    return int(tree.getwidth()[1])


def _trouble(items: list[Any], behind: int) -> str | None:
    """Look at a sequence, behind which as much may follow before it is all decided."""
    for number, (kind, value) in enumerate(items):
        rest = parser.SubPattern(parser.State(), items[number + 1 :])
        after = _width(rest) + behind
        found = None
        if kind is kinds.BRANCH:
            for branch in value[1]:
                found = found or _trouble(list(branch), after)
        elif kind is kinds.SUBPATTERN:
            found = _trouble(list(value[-1]), after)
        elif kind in (kinds.ASSERT, kinds.ASSERT_NOT):
            found = _trouble(list(value[1]), 0)
        elif kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT):
            _, most, body = value
            simple = len(body) == 1 and body[0][0] in SIMPLE
            if kind is kinds.POSSESSIVE_REPEAT and not simple:
                found = "a possessive group, which Python before 3.11.5 matches wrongly"
            elif most > BOUNDED and len(body) == 1 and _width(body) == 1:
                if kind is not kinds.POSSESSIVE_REPEAT and after > BOUNDED:
                    found = "a repetition that gives back has something long behind it"
            elif most > 1 and _width(body) > 1 and most * _width(body) > BOUNDED:
                found = "a repetition of more than one character"
            else:
                found = _trouble(list(body), 0 if kind is kinds.POSSESSIVE_REPEAT else after)
        elif kind not in (kinds.LITERAL, kinds.NOT_LITERAL, kinds.IN, kinds.ANY, kinds.AT):
            found = f"{kind} is not known here"
        if found:
            return found
    return None


@pytest.mark.parametrize(
    ("pattern", "linear"),
    [
        (r"a*b", True),
        (r"a*", True),
        (r"\s*(.*)", False),
        (r"\s*+(.*)", True),
        (r"(.*)\r\n", True),
        (r"\d+\.?\d*", False),
        (r"\d++\.?\d*", True),
        (r"(?:a+)+", False),
        (r"(?:a|b*)c*", False),
        (r"(?:a|b*+)c*", True),
        (r"(?:ab)*", False),
        (r"\d{1,9}\d{1,9}", True),
        (r"(?=a*)b*", True),
        (r"[ab]?+c", True),
        (r"(?:aa|bb)?+c", False),
        (r"(?:ab)?+c", False),
        (r"(a)++", False),
        (r"(?>a*)b", False),
    ],
)
def test_what_is_found_of_patterns(pattern, linear):
    assert (trouble(pattern) is None) is linear


def test_what_is_searched_for_is_short():
    assert trouble(r"a{1,9}b", anchored=False) is None
    assert trouble(r"a*+b", anchored=False) is not None


def test_every_pattern_is_linear():
    found = list(patterns())
    assert len(found) >= 7
    assert [
        (where, pattern, why)
        for where, pattern, flags, anchored in found
        if (why := trouble(pattern, flags, anchored=anchored))
    ] == []


def test_no_pattern_has_a_possessive_group():
    # Nor have those for what an operator writes: Python before 3.11.5 matches them wrongly.
    group = re.compile(r"\)(?:[*+?]|\{[\d,]+\})\+")
    for path in sorted(PACKAGE.rglob("*.py")):
        assert group.search(path.read_text()) is None, path


def test_patterns_that_are_kept_are_matched():
    ways = re.compile(r"_[A-Z]+\.(finditer|findall|subn?|search|split)\(")
    for path in sorted(PACKAGE.rglob("*.py")):
        assert ways.search(path.read_text()) is None, path


LONG = 1 << 16
WORDS = [
    mark + digits * LONG + end
    for mark in (b"", b"-", b"+", b"0x", b"0.", b"1e", b"1e-", b"\t", b" " * LONG)
    for digits in (b"0", b"1", b"9", b"\t", b"f", b".", b"-", b"A")
    for end in (b"", b"x", b"\t", b"\t1", b".", b"=", b",")
]


def _with_flag(flag: int) -> Callable[[bytes], object]:
    return lambda word: metaflags.decode_flags((bytes([flag]) + word,))


READERS: dict[str, list[Callable[[bytes], object]]] = {
    "i32": [tokens.decode_i32],
    "u32": [tokens.decode_u32],
    "u64": [tokens.decode_u64],
    "double": [admin._decode_double],
    "class ids": [admin._decode_class_ids],
    "value of incr": [cache._number],
    "meta flags": [_with_flag(flag) for flag in range(33, 127)],
    "base64 key": [metaflags.decode_key],
    "path": [conversation.decode_path],
    "password": [
        lambda word: auth.decode_sasl_users(b"a:$scram$" + word),
        lambda word: auth.decode_sasl_users(b"a:$scram$4096$" + word),
        lambda word: auth.decode_sasl_users(b"a:" + word),
    ],
}


@pytest.mark.parametrize("name", READERS)
def test_long_words_are_numbers_or_not(name):
    # `int` refuses 4,301 digits with an exception that nobody expects.
    for read in READERS[name]:
        for word in WORDS:
            read(word)
