"""The clients: how each is found, started, and with which setups of the server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COMMAND_TIMEOUT_S = 60


def home() -> Path:
    """Return the folder of what `install` fetched: CONFORMANCE_CLIENTS, or one in /tmp."""
    named = os.environ.get("CONFORMANCE_CLIENTS")
    return Path(named) if named else Path(tempfile.gettempdir()) / "conformance-clients"


def output_of(*command: str | Path, **environment: str) -> str | None:
    """Return what a command prints, or None where it is missing or fails."""
    try:
        done = subprocess.run(
            [str(each) for each in command],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=True,
            env=os.environ | environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Client:
    """One client library and the program that exercises it."""

    #: As its registry calls it.
    name: str
    language: str
    #: Which of setups.SETUPS it can talk to.
    setups: tuple[str, ...]
    #: What its program runs, for the table.
    what: str
    #: Returns the command of its program.
    command: Callable[[], list[str]]
    #: Returns the installed version, or None where the client or its runtime is missing.
    version: Callable[[], str | None]
    #: What the program finds in its environment besides the server's address.
    environment: Callable[[], dict[str, str]] = dict


def python() -> Path:
    """Return the interpreter with the clients in Python."""
    return home() / "python" / "bin" / "python"


def _python_client(package: str, name: str, setups: tuple[str, ...], what: str) -> Client:
    def version() -> str | None:
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        return output_of(python(), "-c", code)

    def command() -> list[str]:
        return [str(python()), "-m", f"conformance.clients.{package}.scenario"]

    return Client(name, "Python", setups, what, command, version, sasl_plugins)


def sasl_plugins() -> dict[str, str]:
    """Show libsasl2 where its mechanisms are: the copy inside a wheel looks in another place."""
    folders = sorted(str(each) for each in Path("/usr/lib").glob("*/sasl2"))
    return {"SASL_PATH": ":".join(folders)} if folders else {}


def _npm_version(package: str) -> Callable[[], str | None]:
    manifest = home() / "node" / "node_modules" / package / "package.json"

    def version() -> str | None:
        if not manifest.exists() or shutil.which("node") is None:
            return None
        return output_of("node", "-p", f"require({str(manifest)!r}).version")

    return version


def _npm_client(package: str, folder: str, setups: tuple[str, ...], what: str) -> Client:
    return Client(
        package,
        "Node.js",
        setups,
        what,
        lambda: ["node", str(HERE / folder / "scenario.js")],
        _npm_version(package),
        lambda: {"NODE_PATH": str(home() / "node" / "node_modules")},
    )


def _java_client(package: str, setups: tuple[str, ...], what: str) -> Client:
    folder = home() / "java" / package

    def version() -> str | None:
        jars = sorted(folder.glob(f"{package}-*.jar"))
        if not jars or shutil.which("java") is None or not (folder / "Scenario.class").exists():
            return None
        return jars[0].stem.removeprefix(package + "-")

    def command() -> list[str]:
        # Small and quick to start: the programs live for a second or two.
        quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]
        return ["java", *quick, "-cp", f"{folder}:{folder}/*", "Scenario"]

    return Client(package, "Java", setups, what, command, version)


def _go_version() -> str | None:
    program = home() / "go" / "scenario"
    if not program.exists():
        return None
    said = output_of(program, "--version") or ""
    # A version made of a commit: v0.0.0-DATE-COMMIT.
    found = re.search(r"-(\d{8})\d*-([0-9a-f]{12})", said)
    return f"{found[1]} {found[2]}" if found else said or None


def _php_version() -> str | None:
    return output_of("php", "-r", "echo phpversion('memcached');") or None


def _perl_version() -> str | None:
    module = "Cache::Memcached::Fast"
    return output_of("perl", f"-M{module}", "-e", f"print ${module}::VERSION")


def _ruby_version() -> str | None:
    return output_of("ruby", "-e", "require 'dalli'; print Dalli::VERSION")


def _twemproxy_version() -> str | None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    program = shutil.which("nutcracker", path=path)
    if program is None or not python().exists():
        return None
    done = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)
    found = re.search(r"nutcracker-(\S+)", done.stdout + done.stderr)
    return found[1] if found else None


CLIENTS = (
    _python_client(
        "pymemcache",
        "pymemcache",
        ("plain", "narrow", "tls"),
        "single, pooled, hashing and retrying clients; every text command, serde, noreply, TLS",
    ),
    _python_client(
        "pylibmc",
        "pylibmc",
        ("plain", "narrow", "sasl"),
        "libmemcached over text and binary, blocking and not, ketama; bulk, cas, compression, SASL",
    ),
    _python_client(
        "bmemcached",
        "python-binary-memcached",
        ("plain", "sasl", "tls"),
        "every binary command, distributed and replicating clients, cas, bulk, SASL, TLS",
    ),
    _python_client(
        "aiomcache",
        "aiomcache",
        ("plain", "tls"),
        "every text command, many at once over a pool, flags, statistics, TLS",
    ),
    _python_client(
        "emcache",
        "emcache",
        ("plain", "auth", "tls"),
        "every text command with gat and gats, batches, noreply, text authentication, TLS",
    ),
    _python_client(
        "meta_memcache",
        "meta-memcache",
        ("plain",),
        "meta commands: cas, leases, recache, stale, counters, bulk, long and binary keys",
    ),
    Client(
        "php-memcached",
        "PHP",
        ("plain", "narrow", "sasl"),
        "text and binary: every method, delayed fetch, sessions with locking, SASL",
        lambda: ["php", str(HERE / "php" / "scenario.php")],
        _php_version,
    ),
    _npm_client(
        "memjs", "memjs", ("plain", "sasl"), "every binary command, cas, counters, bulk, SASL"
    ),
    _npm_client(
        "memcached",
        "memcached_js",
        ("plain",),
        "every text command, bulk, cas, long keys, statistics, slabs, items, cachedump",
    ),
    Client(
        "gomemcache",
        "Go",
        ("plain", "tls"),
        "every text command, cas, bulk, 16 goroutines at once, TLS",
        lambda: [str(home() / "go" / "scenario")],
        _go_version,
    ),
    _java_client(
        "spymemcached",
        ("plain", "narrow", "sasl"),
        "text and binary: every operation, bulk, cas mutator, counters, SASL PLAIN and CRAM-MD5",
    ),
    _java_client(
        "xmemcached",
        ("plain", "narrow", "sasl"),
        "text and binary: every operation, bulk, cas, counters, namespaces, SASL",
    ),
    Client(
        "twemproxy",
        "C",
        ("narrow",),
        "between pymemcache and the server",
        lambda: [str(python()), "-m", "conformance.clients.twemproxy.scenario"],
        _twemproxy_version,
    ),
    Client(
        "Cache::Memcached::Fast",
        "Perl",
        ("plain",),
        "every method and its _multi form, compression, namespaces, noreply",
        lambda: ["perl", str(HERE / "perl" / "scenario.pl")],
        _perl_version,
    ),
    Client(
        "dalli",
        "Ruby",
        ("plain", "narrow", "sasl", "tls"),
        "binary: every method, bulk, cas blocks, compression, quiet, threads, SASL, TLS",
        lambda: ["ruby", str(HERE / "ruby" / "scenario.rb")],
        _ruby_version,
    ),
)
