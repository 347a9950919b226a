"""The manual: all that there is to say on the command line, as Markdown and as a page for man(1).

Made from the table of options, the names of `-o`, and the help of each tool; what is written here
is only what stands in none of these. `contents` says in which order, the two others how it looks.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import __version__
from ..exits import EXIT_FAILURE, EXIT_NO_USER, EXIT_OS_ERROR, EXIT_USAGE
from ..options import ENVIRONMENT_PREFIX, EXTENDED_HELP, SECTIONS
from . import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..options import Option

Rows = list[tuple[str, str]]

SYNOPSIS: Final = ("pymcd [OPTION]...", "pymcd TOOL [WORD]...")
_ABOUT: Final = (
    "pymcd is a memcached server: its options are memcached's, and some of its own, which have long"
    " names alone. A first word that is the name of a tool runs that tool instead; any other word"
    " there is an error, and `pymcd serve` begins a command line of the server whatever follows."
)
_PLACES: Final = (
    f"Every option is also read from `{ENVIRONMENT_PREFIX}<LONG_NAME>` in the environment, as in"
    f" `{ENVIRONMENT_PREFIX}MEMORY_LIMIT=512`, and from the file that `--config` names. The command"
    " line comes first, then the environment, then the file. Long names may be cut short as long as"
    " it is clear what is meant. Numbers are read as memcached reads them."
)
_ENVIRONMENT: Final[Rows] = [
    (f"{ENVIRONMENT_PREFIX}<LONG_NAME>", "an option; a variable that belongs to none is warned of"),
    ("MEMCACHED_PORT_FILENAME", "file to write the ports to that were bound, one a line"),
    ("MEMCACHED_SASL_PWDB", "with -S: file with lines user:password, made by pymcd passwd"),
    ("NOTIFY_SOCKET", "set by systemd: it is told when clients may come, and how the server is"),
    ("WATCHDOG_USEC", "set by systemd: it is told in time that the event loop turns"),
    ("LISTEN_FDS", "set by systemd: sockets of a .socket unit, in the place of -p, -l, -s and -U"),
    ("SASL_CONF_PATH", "with -S: directory of memcached.conf, or that file, with mech_list"),
]
_SIGNALS: Final[Rows] = [
    (
        "TERM, INT",
        "end: after --drain-delay requests in hand are answered, and peers get what they lack;"
        " twice: at once",
    ),
    ("USR1", "the same, with other last words"),
    ("HUP", "read files of logins, secrets and certificates again, and open the log anew"),
]
_EXIT_CODES: Final[Rows] = [
    ("0", "it was told to end, or what was asked for is done"),
    (
        str(EXIT_FAILURE),
        "an option is not known, or one of memcached's out of its range; a file cannot be read",
    ),
    (
        str(EXIT_USAGE),
        "words that do not go together, are no address or port, or are wrong for an option that"
        " memcached does not have; no such tool",
    ),
    (str(EXIT_NO_USER), "the user of -u does not exist"),
    (str(EXIT_OS_ERROR), "the system refuses: a port that is taken, a log that cannot be written"),
]


class Part(NamedTuple):
    """A heading with what stands below it."""

    level: int
    title: str
    words: str = ""
    rows: Rows = []
    shown: str = ""  #: as it is


def contents() -> Iterator[Part]:
    """Return what both forms tell."""
    yield Part(1, "Options", _PLACES)
    for title, options in SECTIONS.items():
        yield Part(2, title, rows=[(words_of(each), each.help) for each in options])
    yield Part(2, "Names for -o", rows=list(EXTENDED_HELP.items()))
    yield Part(1, "Environment", rows=_ENVIRONMENT)
    yield Part(1, "Signals", rows=_SIGNALS)
    yield Part(1, "Exit codes", rows=_EXIT_CODES)
    yield Part(1, "Tools", "Each prints this on `pymcd TOOL --help`.")
    for name in TOOLS:
        yield Part(2, f"pymcd {name}", shown=help_of(name))


def help_of(tool: str) -> str:
    """Return what a tool prints on `--help`."""
    text: str = import_module(f".{tool}", __package__).HELP
    return text.rstrip()


def words_of(option: Option) -> str:
    """Return an option as it is written."""
    long_name = f"--{option.name}" + (f"={option.metavar}" if option.metavar else "")
    return f"-{option.letter}, {long_name}" if option.letter else long_name


# -- Markdown ----------------------------------------------------------------------------------


def markdown() -> str:
    """Return the manual as docs/options.md."""
    lines = [
        "# Options and tools",
        "",
        "<!-- Made by `pymcd help --markdown` from the table of options: change that. -->",
        "",
        "```text",
        *SYNOPSIS,
        "```",
        "",
        _in_lines(_ABOUT),
    ]
    for part in contents():
        lines += ["", f"{'#' * (part.level + 1)} {part.title}"]
        if part.words:
            lines += ["", _in_lines(part.words)]
        if part.rows:
            lines += ["", "| | |", "|---|---|"]
            lines += [f"| {_code(words)} | {_cell(what)} |" for words, what in part.rows]
        if part.shown:
            lines += ["", "```text", part.shown, "```"]
    return "\n".join(lines) + "\n"


def _in_lines(words: str) -> str:
    """Break a paragraph, as the other guides are."""
    import textwrap

    return textwrap.fill(words, 110, break_on_hyphens=False, break_long_words=False)


def _code(words: str) -> str:
    return "`" + words.replace("|", "\\|") + "`"


def _cell(words: str) -> str:
    """Take what Markdown would see in words for what it is, except between accents."""
    parts = words.split("`")
    parts[::2] = [re.sub(r"[\\*_<>|\[\]]", r"\\\g<0>", part) for part in parts[::2]]
    return "`".join(parts)


# -- man ---------------------------------------------------------------------------------------


def man_page() -> str:
    """Return the manual as pymcd(1)."""
    lines = [
        '.\\" Made by `pymcd help --man` from the table of options: change that.',
        f'.TH PYMCD 1 "" "pymcd {__version__}" "User Commands"',
        ".SH NAME",
        "pymcd \\- memcached server, alone or in a pair that behaves as one",
        ".SH SYNOPSIS",
        ".nf",
        *map(_roff, SYNOPSIS),
        ".fi",
        ".SH DESCRIPTION",
        _roff(_ABOUT),
    ]
    for part in contents():
        lines.append(f".SH {part.title.upper()}" if part.level == 1 else f".SS {_roff(part.title)}")
        if part.words:
            lines.append(_roff(part.words))
        for words, what in part.rows:
            lines += [".TP", f".B {_roff(words)}", _roff(what)]
        if part.shown:
            lines += [".nf", *map(_roff, part.shown.splitlines()), ".fi"]
    lines += [".SH SEE ALSO", ".BR memcached (1)"]
    return "\n".join(lines) + "\n"


def _roff(words: str) -> str:
    """Take what roff would see in a line for what it is."""
    words = words.replace("`", "").replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{words}" if words[:1] in (".", "'") else words


#: Option of `pymcd help` -> what it prints.
FORMS: Final[dict[str, Callable[[], str]]] = {"--man": man_page, "--markdown": markdown}
