"""Java programs of ours and what they need: from Maven Central, into a folder outside the project.

A suite has a folder `java` and a `pom.xml` that names, by coordinates, what its programs are
compiled and run with. Nothing is done where all that is there already.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from conformance.clients.catalog import home

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROGRAMS = {"java": "default-jre-headless", "javac": "default-jdk-headless", "mvn": "maven"}


@dataclass(frozen=True, slots=True)
class Project:
    """What one suite runs on Java.

    Args:
        here: the suite's folder.
        main: a class that is there when everything is.
        version: one of several, the value of the pom's property `client`; or nothing.
    """

    here: Path
    main: str
    version: str = ""

    @property
    def name(self) -> str:
        return f"{self.here.name} {self.version}".strip()

    @property
    def java(self) -> Path:
        return self.here / "java"

    @property
    def folder(self) -> Path:
        """Where all of it is kept: one folder for each state of the sources."""
        sources = sorted([self.here / "pom.xml", *self.java.glob("*.java")])
        state = sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()
        return home() / self.here.name / state[:12] / self.version

    @property
    def class_path(self) -> str:
        return f"{self.folder / 'classes'}:{self.folder / 'jars'}/*"

    def why_not(self) -> str:
        """Say why it cannot be run here; nothing if it can."""
        if shutil.which("java") is None:
            return "no java installed (Debian: apt-get install default-jdk-headless maven)"
        if not (self.folder / "classes" / f"{self.main}.class").exists():
            suite = f"conformance.{self.here.name}"
            return f"no {self.name} here: python -m {suite}.install fetches it"
        return ""

    def install(self) -> None:
        """Fetch and compile.

        Raises:
            OSError, subprocess.SubprocessError: a program is missing or failed.
        """
        if not self.why_not():
            return
        for program, package in PROGRAMS.items():
            if shutil.which(program) is None:
                raise FileNotFoundError(
                    f"no {program} installed (Debian: apt-get install {package})"
                )
        jars, classes = self.folder / "jars", self.folder / "classes"
        classes.mkdir(parents=True, exist_ok=True)
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        if self.version:
            goal.append(f"-Dclient={self.version}")
        subprocess.run(["mvn", "-q", "-B", "-f", str(self.here / "pom.xml"), *goal], check=True)
        compiler = ["javac", "-nowarn", "-encoding", "UTF-8", "-cp", f"{jars}/*", "-d"]
        subprocess.run([*compiler, classes, *sorted(self.java.glob("*.java"))], check=True)


def install(projects: Sequence[Project]) -> int:
    """Fetch all of them, say where they are, and return the exit code of a command."""
    for project in projects:
        try:
            project.install()
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{project.name} cannot be fetched: {error}", file=sys.stderr)
            return 1
        print(project.folder)
    return 0
