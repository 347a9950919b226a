"""The tool `pymcd help [TOOL]`: what `pymcd --help` prints, in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from .. import __version__
from ..config import EXIT_USAGE
from ..options import EXTENDED_HELP, SECTIONS
from ..sources import ENVIRONMENT_PREFIX
from ..spelling import did_you_mean
from . import TOOLS
from .manual import FORMS, help_of, words_of
from .telling import complain, tell

if TYPE_CHECKING:
    from ..options import Option

USAGE: Final = "usage: pymcd help [--man|--markdown] [TOOL]"
HELP: Final = f"""\
{USAGE}

Prints what `pymcd --help` does, or `pymcd TOOL --help`.

  --man       print the whole manual for man(1): pymcd help --man | man -l -
  --markdown  print it as Markdown"""

#: How wide it may be where there is room.
_WIDTH_MAX: Final = 100
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
    formatter = click.HelpFormatter(max_width=_WIDTH_MAX)
    formatter.write(f"pymcd {__version__}\n")
    formatter.write("Usage: pymcd [OPTION]...       a server, with memcached's options\n")
    formatter.write("       pymcd TOOL [WORD]...    one of the tools below\n")
    for title, options in SECTIONS.items():
        with formatter.section(title):
            formatter.write_dl([(_words(each), each.help) for each in options], _WORDS_MAX)
    with formatter.section("Names for -o"):
        formatter.write_dl(list(EXTENDED_HELP.items()), _WORDS_MAX)
    with formatter.section("Tools"):
        formatter.write_dl(list(TOOLS.items()), _WORDS_MAX)
    formatter.write_paragraph()
    formatter.write_text(
        f"Every option is also read from {ENVIRONMENT_PREFIX}<LONG_NAME> in the environment and"
        " from --config FILE; the command line comes first, then the environment, then the file."
    )
    return formatter.getvalue().rstrip()


def _words(option: Option) -> str:
    """Return an option with its long name where all others' are."""
    return words_of(option) if option.letter else f"    {words_of(option)}"
