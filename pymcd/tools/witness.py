"""The tool `pymcd witness`: a third voter for a pair, without data.

Its options are a few of the server's, with the same meaning, and two of its own. It is a server
itself: it runs until a signal ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..arguments import Given, split_arguments
from ..exits import EXIT_USAGE, ConfigError
from ..options import BY_NAME
from ..sources import gather, read_secrets
from ..startup import Signals
from .telling import complain, tell

if TYPE_CHECKING:
    from ..config import Settings

HELP: Final = """\
usage: pymcd witness [--listen ADDRESS] [--state FILE] [OPTION]...

A third voter for a pair of servers that name it with --witness: with it, one of
two nodes that do not see each other goes on, and never both. It holds no data.

  --listen=ADDRESS  where nodes call: HOST, HOST:PORT, [V6]:PORT or * for all,
                    several with commas or repeated (default: loopback, port
                    11212)
  --state=FILE      keep there what was promised; without it a witness that is
                    started anew has no vote until the nodes have taken it in
  --replication-secret-file=FILE
                    the secret that the nodes share; this or --replication-tls
                    is needed unless it listens on loopback only
  --replication-tls
                    speak TLS, with -o ssl_chain_cert, ssl_key, ssl_ca_cert
  --cluster-id=NAME
                    of the nodes (default pymcd)
  --node-id=NAME    its own name (default witness@, host name and port)
  -u, --user=USER   become this user when started as root
  --log-file=FILE, --log-format=FORMAT, -P, --pidfile=FILE, -o NAME=VALUE"""
#: Options of the server that mean the same here.
SHARED: Final = frozenset(
    {
        "replication-secret-file", "replication-tls", "replication-port", "cluster-id", "node-id",
        "user", "log-file", "log-format", "pidfile", "extended", "help", "verbose",
    }
)  # fmt: skip


def witness(words: list[str]) -> int:
    """Be a witness; return the exit code."""
    signals = Signals()
    signals.hear()
    try:
        plain, state = _own_words(words)
        given = split_arguments(plain)
        for option, *_ in given:
            if option.name not in SHARED and option.name != "replication-listen":
                raise ConfigError(f"--{option.name} is not for a witness", EXIT_USAGE)
        if any(option.name == "help" for option, *_ in given):
            tell(HELP)
            return 0
        settings = _settings(given)
        if settings.replication_secret_file is not None:
            _, warning = read_secrets(settings.replication_secret_file)
            if warning:
                complain(f"pymcd witness: warning: {warning}")
        from ..server import witnessing  # trio is slow to import, and `--help` must not wait

        return witnessing.run(settings, signals, state)
    except ConfigError as error:
        complain(f"pymcd witness: {error.message}")
        return error.exit_code
    finally:
        signals.release()


def _own_words(words: list[str]) -> tuple[list[str], str | None]:
    """Take the words of its own options out; return the rest, and the file for its state."""
    plain: list[str] = []
    state: str | None = None
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in ("--listen", "--state"):
            plain.append(word)
            continue
        if not equals:
            value = next(rest, "")
        if not value:
            raise ConfigError(f"{name} needs a word", EXIT_USAGE)
        if name == "--state":
            state = value
        else:
            plain.append(f"--replication-listen={value}")
    return plain, state


def _settings(given: list[Given]) -> Settings:
    """Return the settings of a server that has no clients."""
    if all(option.name != "replication-listen" for option, *_ in given):
        given = [*given, Given(BY_NAME["replication-listen"], "127.0.0.1", "--listen")]
    draft = gather([given])
    draft.set("port", 0)
    return draft.build()
