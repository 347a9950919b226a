"""The command `pymcd`: words in, exit code out.

Owns what the first word means, and the checks at start that need neither a socket nor the event
loop. Bare `pymcd` is the server with memcached's options; a tool runs when the first word is
exactly its name.

memcached passes over words that belong to no option. So do we, but not where such a word comes
first: `pymcd replicaton cache-1` would be a server, on all interfaces, that nobody asked for.
memcached's users lose nothing by that. Debian's wrapper, Red Hat's unit, init scripts and compose
files all begin with an option, and of other first words only these have been seen: an empty one,
of `memcached "$OPTIONS"` where none are set; a number, of `memcached $PORT 64` where a variable
lost its letter; and memcached's own name, which its container image has for a command. They are
passed over still, and so is every word behind an option, or behind `serve`.

Whatever is loaded here is waited for by `-h` and `-V`, which start scripts call hundreds of times;
what takes long is loaded where settings are made, and trio when the server really starts.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

from . import __version__
from .arguments import ArgumentError, Given, split_arguments
from .exits import EXIT_FAILURE, EXIT_USAGE, ConfigError
from .options import ENVIRONMENT_PREFIX
from .spelling import did_you_mean
from .startup import Signals, own_stderr, restart_with_short_collections
from .tools import TOOLS
from .tools.telling import complain, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Settings

PROGRAM: Final = "pymcd"
#: The word before a command line of the server that need not begin with an option.
SERVE: Final = "serve"

# What a wrapper's name ends in to be given debugtime, as memcached's own debug build is.
DEBUG_SUFFIX: Final = "-debug"

_OF_NO_OPTION: Final = re.compile(r"-.*|[+-]?[0-9]+[A-Za-z]?|(.*/)?memcached|", re.DOTALL)


def main(arguments: list[str] | None = None, signals: Signals | None = None) -> int:
    """Run `pymcd` with these arguments, or the process's; return the exit code.

    `signals` are those of a process that is ours alone, and heard already.
    """
    words = sys.argv[1:] if arguments is None else arguments
    name = words[0] if words else ""
    if name in TOOLS:
        if signals is not None:
            signals.release()
        return use(name, words[1:])
    if name == SERVE:
        words = words[1:]
    elif not _OF_NO_OPTION.fullmatch(name):
        meant = did_you_mean(name, [*TOOLS, SERVE])
        complain(f"{PROGRAM}: neither an option nor a tool: {name}{meant or '; see pymcd --help'}")
        return EXIT_USAGE
    if signals is not None:
        own_stderr()
        return serve(words, signals, restart_with_short_collections)
    signals = Signals()
    signals.hear()
    try:
        return serve(words, signals)
    finally:
        signals.release()


def use(name: str, words: list[str]) -> int:
    """Run a tool; return the exit code."""
    if words in (["-h"], ["--help"]):
        name, words = "help", [name]
    run: Callable[[list[str]], int] = getattr(import_module(f".tools.{name}", __package__), name)
    return run(words)


def serve(words: list[str], signals: Signals, before_all: Callable[[], None] = lambda: None) -> int:
    """Answer `-h`, `-i`, `-V`, or run the server until it is stopped; return the exit code.

    `before_all`: what to do as soon as it is clear that a server is to run.
    """
    try:
        given = split_arguments(words)
        if given and given[-1].option.name in _ANSWERS:
            # As in memcached, what stands before it must be right, word by word.
            if given[:-1]:
                from .sources import gather

                gather([given])
            _ANSWERS[given[-1].option.name]()
            return 0
        before_all()
        paths = [text for option, text, _ in given if option.name == "config" and text]
        settings = _settings(given, paths[-1] if paths else None)
        check_start(settings)
        from .server import process  # trio is slow to import, and `-h` must not wait for it

        return process.run(settings, signals)
    except ConfigError as error:
        if isinstance(error, ArgumentError):
            complain(f'{PROGRAM}: {error.message}\nIllegal argument "?"')  # memcached: main
        else:
            complain(error.message)
        return error.exit_code
    except KeyboardInterrupt:
        # Interrupted before the server took charge of signals.
        return EXIT_FAILURE


def _settings(given: list[Given], path: str | None) -> Settings:
    """Return what a command line, the environment and a file say together; warn of oddities."""
    from .sources import from_environment, from_file, gather, misspelt

    environment = os.environ
    path = path or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    passed_over: list[str] = []
    in_file = from_file(path, environment, passed_over.append) if path else []
    draft = gather([in_file, from_environment(environment), given])
    if os.path.basename(sys.argv[0]).endswith(DEBUG_SUFFIX):
        draft.set("debug_commands", True)
    settings = draft.build()
    notices = [*passed_over, *draft.notices] if settings.verbose else []
    for notice in [*misspelt(environment), *draft.warnings.values(), *notices]:
        complain(f"warning: {notice}")
    return settings


def check_start(settings: Settings) -> None:
    """Raise `ConfigError` if this process may not start with these settings."""
    if settings.auth_file is not None:
        try:
            with open(settings.auth_file, "rb"):
                pass
        except OSError as error:
            raise ConfigError(
                f"Could not open authfile [{settings.auth_file}] for reading,"
                f" error {error.strerror}"
            ) from None
    if settings.replicated and settings.replication_secret_file is not None:
        from .sources import read_secrets

        _, warning = read_secrets(settings.replication_secret_file)
        if warning:
            complain(f"warning: {warning}")
    if settings.fill_from is not None and settings.fill_from_login_file is not None:
        from .sources import read_login

        _, warning = read_login(settings.fill_from_login_file)
        if warning:
            complain(f"warning: {warning}")
    from .server.daemon import account_to_become

    account_to_become(settings.user)


def _help() -> None:
    use("help", [])


def _version() -> None:
    tell(f"{PROGRAM} {__version__}")


def _license() -> None:
    """Print the licence from the installed package, or from beside the source."""
    import importlib.metadata
    import pathlib

    text: str | None = None
    try:
        text = importlib.metadata.distribution(PROGRAM).read_text("licenses/LICENSE")
    except importlib.metadata.PackageNotFoundError:
        pass
    if text is None:
        beside = pathlib.Path(__file__).parent.parent / "LICENSE"
        text = beside.read_text() if beside.is_file() else "BSD-3-Clause"
    tell(f"{PROGRAM} {__version__}\n\n{text.strip()}")


_ANSWERS: Final = {
    "help": _help,
    "license": _license,
    "version": _version,
}
