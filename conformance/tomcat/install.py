"""Fetch Tomcat and its session manager: `python -m conformance.tomcat.install`.

What pom.xml names comes from Maven Central into a folder outside of the project, where the small
application is compiled to as well. Nothing is done where all that is there already.
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


def _of(what: str, *sources: Path) -> Path:
    """Return the folder of what was made of these sources, as they are now."""
    state = sha256(b"".join(each.read_bytes() for each in sorted(sources))).hexdigest()
    return home() / "tomcat" / f"{what}-{state[:12]}"


def _jars() -> Path:
    return _of("jars", POM)


def _classes() -> Path:
    return _of("classes", POM, *JAVA.glob("*.java"))


def class_path() -> str:
    return f"{_classes()}:{_jars()}/*"


def why_not() -> str:
    """Say why there can be no Tomcat here; nothing if there can."""
    if shutil.which("java") is None:
        return "no java installed (Debian: apt-get install default-jdk-headless maven)"
    if not (_classes() / "Main.class").exists():
        return "no Tomcat here: python -m conformance.tomcat.install fetches it"
    return ""


def install() -> None:
    """Fetch and compile.

    Raises:
        OSError, subprocess.SubprocessError: a program is missing or failed.
    """
    if not why_not():
        return
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise FileNotFoundError(f"no {program} installed (Debian: apt-get install {package})")
    jars, classes = _jars(), _classes()
    classes.mkdir(parents=True, exist_ok=True)
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={jars}")
    subprocess.run(["mvn", "-q", "-B", "-f", str(POM), *goal], check=True)
    sources = [str(each) for each in sorted(JAVA.glob("*.java"))]
    compiler = ("javac", "-nowarn", "-encoding", "UTF-8")
    subprocess.run([*compiler, "-cp", f"{jars}/*", "-d", str(classes), *sources], check=True)


def main() -> int:
    try:
        install()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"tomcat: {error}", file=sys.stderr)
        return 1
    print(class_path())
    return 0


if __name__ == "__main__":
    sys.exit(main())
