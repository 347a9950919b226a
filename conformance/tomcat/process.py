"""Tomcats: each a process with one application, configured by a context.xml as users write it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from xml.sax.saxutils import quoteattr

from conformance.sessions.users import User
from conformance.trial import TrialError, free_port, until

from .install import TOMCAT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANAGER = "de.javakaffee.web.msm.MemcachedBackupSessionManager"
KRYO = "de.javakaffee.web.msm.serializer.kryo.KryoTranscoderFactory"

#: Small and quick to start: two of them run at a time.
QUICK = ("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
#: What kryo wants to look into, which java since 17 does not let it.
OPENED = ("java.util", "java.util.concurrent", "java.lang")
LOGGING = (
    f"-Djava.util.logging.config.file={TOMCAT.java / 'logging.properties'}",
    "-Dnet.spy.log.LoggerImpl=net.spy.memcached.compat.log.SunLogger",
)


def context_xml(manager: Mapping[str, object], context: Mapping[str, object]) -> str:
    """Return the text of a context.xml."""

    def attributes(of: Mapping[str, object]) -> str:
        text = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in of.items()
        }
        return "".join(f"\n    {name}={quoteattr(value)}" for name, value in text.items())

    inner = attributes({"className": MANAGER, **manager})
    return f"<Context{attributes(context)}>\n  <Manager{inner} />\n</Context>\n"


class Event(NamedTuple):
    """Something that the session manager counted, and how long it took."""

    at_s: float
    what: str
    taken_s: float


class Statistics(NamedTuple):
    """What the session manager counted: its own figures by name, and the moments of some."""

    counters: dict[str, float]
    events: list[Event]


@dataclass(slots=True)
class Tomcat:
    """A running Tomcat. A context manager; `kill` and `start` let one come back at its port.

    Args:
        manager: attributes of the Manager.
        route: its jvmRoute, which only sticky sessions have.
        context: attributes of the Context.
        properties: Java's system properties.
    """

    manager: Mapping[str, object]
    route: str = ""
    context: Mapping[str, object] = field(default_factory=dict)
    properties: Mapping[str, object] = field(default_factory=dict)
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start the process, and do not wait for it."""
        if reason := TOMCAT.why_not():
            raise TrialError(reason)
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        folder = Path(self._folder.name)
        file = folder / "context.xml"
        file.write_text(context_xml(self.manager, self.context))
        self.port = self.port or free_port()
        opens = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
        properties = [f"-D{name}={value}" for name, value in self.properties.items()]
        java = ("java", *QUICK, *opens, *LOGGING, *properties, "-cp", TOMCAT.class_path, "Main")
        arguments = (str(file), str(self.port), self.route or "-", str(folder / "base"))
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*java, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until requests are answered."""
        until("Tomcat answers", self._listens)

    def start(self) -> Self:
        self.launch()
        self.wait()
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise TrialError(f"Tomcat ended:\n{self.log()}")
        return f"listening on {self.port}" in self.log()

    def stores(self) -> bool:
        """Say whether a session that is made now is stored."""
        answer = User([self.url]).count()
        return answer is not None and answer.stored

    def log(self) -> str:
        if self._folder is None:
            return ""
        return (Path(self._folder.name) / "log").read_text(errors="replace")

    def kill(self) -> None:
        """End the process as a power cut would. Does nothing the second time."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def statistics(self) -> Statistics:
        with urllib.request.urlopen(f"{self.url}/statistics", timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
        events = [Event(at / 1e9, what, ms / 1e3) for at, what, ms in told.pop("events")]
        counters: dict[str, float] = {}
        for name, value in told.items():
            if isinstance(value, list):
                # A probe: "Count = 3", "Min = 0", "Avg = 0.5", "Max = 2", times in milliseconds.
                for part in value:
                    found = re.fullmatch(r"(\w+) = ([-\d.E]+)", part)
                    if found is not None:
                        counters[name.removesuffix("Info") + found[1]] = float(found[2])
            else:
                counters[name] = float(value)
        return Statistics(counters, sorted(events))

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *exc: object) -> None:
        self.kill()


@contextlib.contextmanager
def started(*tomcats: Tomcat, stores: bool = True) -> Iterator[tuple[Tomcat, ...]]:
    """Start Tomcats at the same time, for as long as the context lasts.

    `stores`: wait until they store sessions; before the session manager has connected, a Tomcat
    already answers.
    """
    try:
        for each in tomcats:
            each.launch()
        for each in tomcats:
            each.wait()
        if stores:
            for each in tomcats:
                until("sessions are stored", each.stores)
        yield tomcats
    finally:
        for each in tomcats:
            each.kill()


def two_tomcats(
    manager: Mapping[str, object],
    other: Mapping[str, object] | None = None,
    properties: Mapping[str, object] | None = None,
) -> tuple[Tomcat, Tomcat]:
    """Return two alike, or the second with another manager; routes where sessions are sticky."""
    routes = ("t1", "t2") if manager["sticky"] else ("", "")
    return (
        Tomcat(manager, routes[0], properties=properties or {}),
        Tomcat(other or manager, routes[1], properties=properties or {}),
    )
