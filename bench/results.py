"""What `--json` has written, read again: by who was measured, scenario and name of the figure."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Of whom most is told: a server on each of the Pythons.
OURS = "pymcd on "
ALL = "CPU per request"
USER = "user part of it"
SYSTEM = "system part of it"

#: Scenario, the row with the CPU time, and how a reader would say it.
LOADS = [
    ("get16", ALL, "16 connections, 90 % gets, 1 KB"),
    ("get128", ALL, "128 connections, the same"),
    ("set16", ALL, "16 connections, 90 % sets, 1 KB"),
    ("flags16", ALL, "sets with client flags and a time to live"),
    ("big16", ALL, "16 KB values, 30 % sets"),
    ("multiget", "CPU per key", "gets of 20 keys, per key"),
    ("binary16", ALL, "binary protocol"),
    ("meta16", ALL, "meta protocol"),
    ("tls16", ALL, "TLS 1.3"),
]


class Results:
    """The rows of some results, by who was measured, scenario and name."""

    def __init__(self, results: Sequence[dict[str, Any]]) -> None:
        self.machine = dict(item for result in results for item in result["machine"].items())
        self.pairs = max(result["pairs"] for result in results)
        self._rows = {
            (row["subject_name"], row["scenario"], row["what"]): row
            for result in results
            for row in result["rows"]
        }
        self.subjects = list(dict.fromkeys(subject for subject, _, _ in self._rows))

    def row(self, subject: str, scenario: str, what: str) -> dict[str, Any] | None:
        return self._rows.get((subject, scenario, what))

    def of(self, subject: str, scenario: str) -> dict[str, dict[str, Any]]:
        """Return all rows of one scenario."""
        rows = self._rows.items()
        return {what: row for (name, of, what), row in rows if (name, of) == (subject, scenario)}

    def subjects_of(self, scenario: str) -> list[str]:
        """Return who was measured in it."""
        return [subject for subject in self.subjects if self.of(subject, scenario)]

    def ours(self, subject: str, scenario: str, what: str) -> float | None:
        row = self.row(subject, scenario, what)
        return median(row["subject"]) if row else None

    def theirs(self, scenario: str, what: str) -> float | None:
        """Return memcached's figure, of all that there are."""
        figures = [
            figure
            for subject in self.subjects
            if (row := self.row(subject, scenario, what))
            for figure in row["reference"]
        ]
        return median(figures) if figures else None

    def ratio(self, subject: str, scenario: str, what: str) -> float | None:
        row = self.row(subject, scenario, what)
        return median(row["ratios"]) if row else None


def named(subject: str) -> str:
    """Say who was measured, beside memcached."""
    return subject.removeprefix(OURS)
