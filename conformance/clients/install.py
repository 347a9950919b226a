"""Fetch the clients: `python -m conformance.clients.install [NAME ...]`.

Each comes from its own registry through that registry's ordinary tool, in the versions which
`requirements.txt`, `package.json`, `go.mod` and the `pom.xml` files name; PHP, Perl and Ruby ones
are Debian's packages. Everything but those goes to one folder (`catalog.home()`) outside of the
project. What fails is told and costs only its own language.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

from .catalog import CLIENTS, HERE, home, output_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: By the program that shows whether it is there already.
DEBIAN_PROGRAMS = {
    "php": "php-cli",
    "perl": "perl",
    "ruby": "ruby",
    "node": "nodejs",
    "npm": "npm",
    "go": "golang-go",
    "javac": "default-jdk-headless",
    "mvn": "maven",
    "saslpasswd2": "sasl2-bin",
}
DEBIAN_LIBRARIES = (
    "php-memcached",
    "libcache-memcached-fast-perl",
    "ruby-dalli",
    "libsasl2-modules",
)


def _run(*command: str | Path, folder: Path | None = None) -> None:
    print("+", *command, flush=True)
    subprocess.run([str(each) for each in command], cwd=folder, check=True)


def _fresh(*parts: str) -> Path:
    folder = home().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def debian() -> None:
    """Install what Debian packages, where we may."""
    if shutil.which("apt-get") is None:
        print("no apt-get: PHP, Perl and Ruby clients must come from elsewhere")
        return
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    wanted = [
        package
        for program, package in DEBIAN_PROGRAMS.items()
        if shutil.which(program, path=path) is None
    ]
    installed = (output_of("dpkg-query", "-W", "-f", "${Package} ") or "").split()
    wanted += [each for each in DEBIAN_LIBRARIES if each not in installed]
    if not wanted:
        return
    root = () if os.geteuid() == 0 else ("sudo", "-n")
    _run(*root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted)


def python() -> None:
    folder = _fresh("python")
    venv.create(folder, with_pip=True)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "-q")
    _run(*pip, "--disable-pip-version-check", "-r", HERE / "requirements.txt")


def node() -> None:
    folder = _fresh("node")
    shutil.copy(HERE / "package.json", folder)
    _run("npm", "install", "--no-audit", "--no-fund", "--loglevel=error", folder=folder)


def go() -> None:
    _run("go", "build", "-o", _fresh("go") / "scenario", ".", folder=HERE / "gomemcache")


def java() -> None:
    for package in ("spymemcached", "xmemcached"):
        folder = _fresh("java", package)
        pom = HERE / package / "pom.xml"
        goal = ("dependency:copy-dependencies", f"-DoutputDirectory={folder}")
        _run("mvn", "-q", "-B", "-f", pom, *goal)
        sources = (HERE / "java" / "Checks.java", HERE / package / "Scenario.java")
        compiler = ("javac", "-nowarn", "-encoding", "UTF-8")
        _run(*compiler, "-cp", f"{folder}/*", "-d", folder, *sources)


STEPS: dict[str, Callable[[], None]] = {
    "debian": debian,
    "python": python,
    "node": node,
    "go": go,
    "java": java,
}


def main() -> int:
    failed = []
    for name in sys.argv[1:] or STEPS:
        try:
            STEPS[name]()
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
    for client in CLIENTS:
        print(f"{client.language:8} {client.name:24} {client.version() or 'missing'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
