"""Split a command line into options and their words, by the rules of getopt_long(3).

memcached's start scripts rely on more than libraries for command lines know: long names may be cut
as long as they are unique, `--verbose=2` is taken, words that belong to no option are passed over,
an option may stand after such a word, and nothing after `-h` is looked at. Own options never spoil
a cut name of memcached's: they are considered only where none of memcached's fits. Where `-x` is
given, `-X` and `-q` are repcached's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .exits import ConfigError
from .options import BY_LETTER, BY_NAME, OPTIONS, REPCACHED_LETTERS, Option
from .spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# These answer and end: what comes after them does not matter.
ANSWERED = frozenset({"help", "license", "version"})


class Given(NamedTuple):
    """One option with its word, which is empty for a flag; None is a flag that is switched off.

    `where` is the place to name when the word is wrong: on the command line the option as it was
    written. Not for memcached's options there, whose messages are to be memcached's.
    """

    option: Option
    text: str | None
    where: str = ""


class ArgumentError(ConfigError):
    """The command line is wrong in its form; the message wants the program's name before it."""


def letters_of(words: Iterable[str]) -> Mapping[str, Option]:
    """Return what each letter means in these words: memcached's, or repcached's with `-x`."""
    for word in words:
        if word == "--":
            break
        if word.startswith("-") and not word.startswith("--"):
            for letter in word[1:]:
                if letter == "x":
                    return {**BY_LETTER, **REPCACHED_LETTERS}
                if letter not in BY_LETTER or not BY_LETTER[letter].is_flag:
                    break
    return BY_LETTER


def split_arguments(
    words: Iterable[str], letters: Mapping[str, Option] | None = None
) -> list[Given]:
    """Return the options in order.

    `letters` is what the letters mean if more than these words decides that. Raises
    `ArgumentError` with getopt's words.
    """
    found: list[Given] = []
    words = list(words)
    if letters is None:
        letters = letters_of(words)
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
            found.append(_given(option, value, f"--{name}"))
        elif word.startswith("-") and word != "-":
            found += _cluster(word[1:], rest, letters)
        if found and found[-1].option.name in ANSWERED:
            break
    return found


def _given(option: Option, text: str, written: str) -> Given:
    return Given(option, text, "" if option.is_memcacheds else written)


def _cluster(cluster: str, rest: Iterable[str], letters: Mapping[str, Option]) -> list[Given]:
    """Take `dvvp11212` apart: flags, then at most one option with its word."""
    found: list[Given] = []
    for index, letter in enumerate(cluster):
        option = letters.get(letter)
        if option is None:
            raise ArgumentError(f"invalid option -- '{letter}'")
        if option.is_flag:
            found.append(_given(option, "", f"-{letter}"))
            if option.name in ANSWERED:
                break
            continue
        attached = cluster[index + 1 :]
        missing = f"option requires an argument -- '{letter}'"
        found.append(_given(option, attached or _next_word(rest, missing), f"-{letter}"))
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
    meant = did_you_mean(f"--{name}", (f"--{each}" for each in BY_NAME))
    raise ArgumentError(f"unrecognized option '--{name}'{meant}")
