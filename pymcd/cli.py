"""The command `pymcd`: words in, exit code out.

Owns the click command, the help, the table of tools, and the checks at start that need neither a
socket nor the event loop. Bare `pymcd` is the server with memcached's options; a tool runs only
when the first word is exactly its name, which loses nothing, since memcached passes over words.

click sees arguments that `arguments` has already made plain, declares them and prints the help; its
own messages and its exit code 2 never show. trio is imported when the server really starts, never
for `-h` or `-V`: start scripts call those hundreds of times.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from . import __version__
from .arguments import ArgumentError, Given, split_arguments
from .config import EXIT_FAILURE, ConfigError, Settings
from .options import EXTENDED_HELP, OPTIONS, Option
from .sources import ENVIRONMENT_PREFIX, from_environment, from_file, gather, read_secrets
from .startup import Signals, own_stderr

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = "pymcd"

# What a wrapper's name ends in to be given debugtime, as memcached's own debug build is.
DEBUG_SUFFIX = "-debug"


def main(arguments: list[str] | None = None, signals: Signals | None = None) -> int:
    """Run `pymcd` with these arguments, or the process's; return the exit code.

    `signals` are those of a process that is ours alone, and heard already.
    """
    words = sys.argv[1:] if arguments is None else arguments
    name = words[0] if words else ""
    if name in TOOLS:
        if signals is not None:
            signals.release()
        run: Callable[[list[str]], int] = getattr(
            import_module(f".tools.{name}", __package__), name
        )
        return run(words[1:])
    words = words[1:] if name == "serve" else words
    if signals is not None:
        own_stderr()
        return serve(words, signals)
    signals = Signals()
    signals.hear()
    try:
        return serve(words, signals)
    finally:
        signals.release()


def serve(words: list[str], signals: Signals) -> int:
    """Run the server until it is stopped; return the exit code."""
    try:
        given = split_arguments(words)
        plain = [_plain(one) for one in given]
        exit_code: int = _COMMAND.main(
            plain, prog_name=PROGRAM, standalone_mode=False, obj=(given, signals)
        )
    except ConfigError as error:
        if isinstance(error, ArgumentError):
            _say(f'{PROGRAM}: {error.message}\nIllegal argument "?"')  # memcached: main
        else:
            _say(error.message)
        return error.exit_code
    except click.Abort:
        # Interrupted before the server took charge of signals.
        return EXIT_FAILURE
    return exit_code


def _say(words: str) -> None:
    """Write to standard error, if that can be written to."""
    try:
        click.echo(words, err=True)
    except OSError:
        pass


#: Functions, each in a module of that name, which takes time to import: the server must not wait.
TOOLS: Final = ("passwd", "replication", "witness")


def _plain(given: Given) -> str:
    name = f"--{given.option.name}"
    return name if given.option.is_flag else f"{name}={given.text}"


@click.pass_context
def _serve(context: click.Context, /, **values: Any) -> int:
    """Answer `-h`, `-i`, `-V`, or start the server; called by click.

    click has the words in another order, and not as they were written: the context brings them.
    """
    given: list[Given]
    signals: Signals
    given, signals = context.obj
    environment = os.environ
    if given and given[-1].option.name in _ANSWERS:
        # As in memcached, what stands before it must be right, word by word.
        gather([given])
        click.echo(_ANSWERS[given[-1].option.name](context))
        return 0
    paths = [text for option, text, _ in given if option.name == "config" and text]
    path = paths[-1] if paths else environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    passed_over: list[str] = []
    in_file = from_file(path, environment, passed_over.append) if path else []
    layers = [in_file, from_environment(environment), given]
    draft = gather(layers)
    if os.path.basename(sys.argv[0]).endswith(DEBUG_SUFFIX):
        draft.set("debug_commands", True)
    settings = draft.build()
    check_start(settings)
    notices = [*passed_over, *draft.notices] if settings.verbose else []
    for notice in [*draft.warnings, *notices]:
        _say(f"warning: {notice}")
    from .server import process  # trio is slow to import, and `-h` must not wait for it

    return process.run(settings, signals)


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
        _, warning = read_secrets(settings.replication_secret_file)
        if warning:
            _say(f"warning: {warning}")
    from .server.daemon import account_to_become

    account_to_become(settings.user)


def _version(context: click.Context) -> str:
    return f"{PROGRAM} {__version__}"


def _license(context: click.Context) -> str:
    """Return the licence from the installed package, or from beside the source."""
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
    return f"{_version(context)}\n\n{text.strip()}"


_ANSWERS: dict[str, Callable[[click.Context], str]] = {
    "help": click.Context.get_help,
    "license": _license,
    "version": _version,
}


class _ServerCommand(click.Command):
    """The command with a help that begins as memcached's does."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"{_version(ctx)}\n")
        rows = [(_option_words(option), option.help) for option in OPTIONS]
        with formatter.indentation():
            formatter.write_dl(rows, col_max=28)
        with formatter.section("Names for -o"):
            formatter.write_dl(list(EXTENDED_HELP.items()), col_max=28)
        formatter.write(
            f"\nEvery option is also read from {ENVIRONMENT_PREFIX}<LONG_NAME> in the environment"
            " and from --config FILE;\nthe command line comes first, then the environment,"
            " then the file.\n"
        )


def _option_words(option: Option) -> str:
    long_name = f"--{option.name}" + (f"={option.metavar}" if option.metavar else "")
    return f"-{option.letter}, {long_name}" if option.letter else f"    {long_name}"


def _click_option(option: Option) -> click.Option:
    declarations = [f"--{option.name}"]
    if option.letter:
        declarations.append(f"-{option.letter}")
    if option.is_flag:
        return click.Option(declarations, count=True, help=option.help)
    return click.Option(declarations, multiple=True, metavar=option.metavar, help=option.help)


_COMMAND = _ServerCommand(
    name=PROGRAM,
    params=[_click_option(option) for option in OPTIONS],
    callback=_serve,
    add_help_option=False,
    context_settings={"max_content_width": 100},
)
