"""Fetch couchbase-client: `python -m conformance.couchbase.install`.

Each version that is tried comes from Maven Central, with what it depends on, into a folder outside
of the project, where the small program that uses it is compiled to as well. Nothing is done where
all that is there already.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from conformance.clients.catalog import home

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
JAVA = HERE / "java"
PROGRAMS = {"java": "default-jre-headless", "javac": "default-jdk-headless", "mvn": "maven"}

#: The one that memcached-session-manager 2.3.2 asks for, and the one that its guide names.
VERSIONS = ("1.4.11", "1.4.0")


def folder(version: str) -> Path:
    """Return where a version is kept: one folder for each state of the sources here."""
    sources = sorted([POM, *JAVA.glob("*.java")])
    state = sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()
    return home() / "couchbase" / state[:12] / version


def class_path(version: str) -> str:
    return f"{folder(version) / 'classes'}:{folder(version) / 'jars'}/*"


def why_not(version: str) -> str:
    """Say why a version cannot be tried here; nothing if it can."""
    if shutil.which("java") is None:
        return "no java installed (Debian: apt-get install default-jdk-headless maven)"
    if not (folder(version) / "classes" / "Worker.class").exists():
        return f"no couchbase-client {version}: python -m conformance.couchbase.install fetches it"
    return ""


def install() -> None:
    """Fetch and compile.

    Raises:
        OSError, subprocess.SubprocessError: a program is missing or failed.
    """
    for version in VERSIONS:
        if not why_not(version):
            continue
        for program, package in PROGRAMS.items():
            if shutil.which(program) is None:
                raise FileNotFoundError(
                    f"no {program} installed (Debian: apt-get install {package})"
                )
        jars, classes = folder(version) / "jars", folder(version) / "classes"
        classes.mkdir(parents=True, exist_ok=True)
        goal = ("dependency:copy-dependencies", f"-DoutputDirectory={jars}", f"-Dclient={version}")
        subprocess.run(["mvn", "-q", "-B", "-f", str(POM), *goal], check=True)
        subprocess.run(
            ["javac", "-nowarn", "-encoding", "UTF-8", "-cp", f"{jars}/*", "-d", str(classes)]
            + [str(each) for each in sorted(JAVA.glob("*.java"))],
            check=True,
        )


def main() -> int:
    try:
        install()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"couchbase: {error}", file=sys.stderr)
        return 1
    for version in VERSIONS:
        print(folder(version))
    return 0


if __name__ == "__main__":
    sys.exit(main())
