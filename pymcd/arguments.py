"""Split a command line into options and their words, by the rules of getopt_long(3).

memcached's start scripts rely on more than click knows: long names may be cut as long as they are
unique, `--verbose=2` is taken, words that belong to no option are passed over, an option may stand
after such a word, and nothing after `-h` is looked at. Own options never spoil a cut name of
memcached's: they are considered only where none of memcached's fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import ConfigError
from .options import BY_LETTER, BY_NAME, OPTIONS, Option

if TYPE_CHECKING:
    from collections.abc import Iterable

# These answer and end: what comes after them does not matter.
ANSWERED = frozenset({"help", "license", "version"})


class ArgumentError(ConfigError):
    """The command line is wrong in its form; the message wants the program's name before it."""


def split_arguments(words: Iterable[str]) -> list[tuple[Option, str]]:
    """Return the options in order, each with its word, which is empty for a flag.

    Raises `ArgumentError` with getopt's words.
    """
    found: list[tuple[Option, str]] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            option = _by_long_name(name)
            if option.is_flag:
                # memcached: `verbose` has an optional argument, which it does not look at.
                if equals and option.name != "verbose":
                    raise ArgumentError(f"option '--{option.name}' doesn't allow an argument")
                value = ""
            elif not equals:
                value = _next_word(rest, f"option '--{option.name}' requires an argument")
            found.append((option, value))
        elif word.startswith("-") and word != "-":
            found += _cluster(word[1:], rest)
        if found and found[-1][0].name in ANSWERED:
            break
    return found


def _cluster(letters: str, rest: Iterable[str]) -> list[tuple[Option, str]]:
    """Take `dvvp11212` apart: flags, then at most one option with its word."""
    found: list[tuple[Option, str]] = []
    for index, letter in enumerate(letters):
        option = BY_LETTER.get(letter)
        if option is None:
            raise ArgumentError(f"invalid option -- '{letter}'")
        if option.is_flag:
            found.append((option, ""))
            if option.name in ANSWERED:
                break
            continue
        attached = letters[index + 1 :]
        missing = f"option requires an argument -- '{letter}'"
        found.append((option, attached or _next_word(rest, missing)))
        break
    return found


def _next_word(rest: Iterable[str], missing: str) -> str:
    for word in rest:
        return word
    raise ArgumentError(missing)


def _by_long_name(name: str) -> Option:
    if name in BY_NAME:
        return BY_NAME[name]
    for own in (False, True):
        fitting = [o for o in OPTIONS if o.own is own and o.name.startswith(name)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            possible = " ".join(f"'--{option.name}'" for option in fitting)
            raise ArgumentError(f"option '--{name}' is ambiguous; possibilities: {possible}")
    raise ArgumentError(f"unrecognized option '--{name}'")
