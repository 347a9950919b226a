"""The tool `pymcd help [TOOL]`: what `pymcd --help` prints, in columns."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING, Final

from .. import __version__
from ..exits import EXIT_USAGE
from ..options import ENVIRONMENT_PREFIX, EXTENDED_HELP, SECTIONS
from ..spelling import did_you_mean
from . import TOOLS
from .manual import FORMS, help_of, words_of
from .telling import complain, tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..options import Option

USAGE: Final = "usage: pymcd help [--man|--markdown] [TOOL]"
HELP: Final = f"""\
{USAGE}

Prints what `pymcd --help` does, or `pymcd TOOL --help`.

  --man       print the whole manual for man(1): pymcd help --man | man -l -
  --markdown  print it as Markdown"""

#: How wide it is: no wider where there is room, and no narrower where there is none.
_WIDTH_MAX: Final = 98
_WIDTH_MIN: Final = 50
#: Where nobody says how wide a terminal is.
_COLUMNS: Final = 80
_PLACES: Final = (
    f"Every option is also read from {ENVIRONMENT_PREFIX}<LONG_NAME> in the environment and from"
    " --config FILE; the command line comes first, then the environment, then the file."
)
#: Of the column of options.
_WORDS_MAX: Final = 28


def help(words: list[str]) -> int:  # noqa: A001 - it is the tool's name
    """Print the help, or a tool's; return the exit code."""
    if words[1:]:
        complain(f"pymcd help: more than one word\n{USAGE}")
    elif not words:
        tell(help_text())
        return 0
    elif words[0] in FORMS:
        tell(FORMS[words[0]]().rstrip("\n"))
        return 0
    elif words[0] in TOOLS:
        tell(help_of(words[0]))
        return 0
    else:
        meant = did_you_mean(words[0], TOOLS) or "; see pymcd --help"
        complain(f"pymcd help: no tool is named {words[0]}{meant}")
    return EXIT_USAGE


def help_text() -> str:
    """Return the help of the server, as wide as the terminal is."""
    width = max(min(_columns() - 2, _WIDTH_MAX), _WIDTH_MIN)
    tables: dict[str, Iterable[tuple[str, str]]] = {
        **{
            title: [(_words(each), each.help) for each in options]
            for title, options in SECTIONS.items()
        },
        "Names for -o": EXTENDED_HELP.items(),
        "Tools": TOOLS.items(),
    }
    lines = [
        f"pymcd {__version__}",
        "Usage: pymcd [OPTION]...       a server, with memcached's options",
        "       pymcd TOOL [WORD]...    one of the tools below",
    ]
    for title, rows in tables.items():
        lines += ["", f"{title}:", *_table(list(rows), width)]
    return "\n".join([*lines, "", *textwrap.wrap(_PLACES, width)])


def _table(rows: list[tuple[str, str]], width: int) -> list[str]:
    """Return lines with words on the left and what they mean on the right."""
    left = min(max(len(words) for words, _ in rows), _WORDS_MAX)
    lines = []
    for words, meaning in rows:
        first, *rest = textwrap.wrap(meaning, width - left - 4, break_on_hyphens=False)
        if len(words) > left:
            lines.append(f"  {words}")
            words = ""
        lines.append(f"  {words:{left}}  {first}")
        lines += [f"{'':{left}}    {line}" for line in rest]
    return lines


def _columns() -> int:
    """Return how wide the terminal is; as shutil has it, which takes a while to load."""
    try:
        return int(os.environ.get("COLUMNS", "")) or _COLUMNS
    except ValueError:
        pass
    try:
        return os.get_terminal_size().columns or _COLUMNS
    except OSError:
        return _COLUMNS


def _words(option: Option) -> str:
    """Return an option with its long name where all others' are."""
    return words_of(option) if option.letter else f"    {words_of(option)}"
