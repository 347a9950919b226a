"""Run applications with their sessions in servers: `python -m conformance.sessions [NAME ...]`."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.pair.command import main

from .trials import TRIALS, run_all

if TYPE_CHECKING:
    import argparse

    from conformance.trial import Run

    from .app import Kind

#: Each is a package with `KINDS`.
APPLICATIONS = {
    name: f"conformance.sessions.{package}"
    for name, package in {
        "django": "django_app",
        "flask": "flask_app",
        "php": "php",
        "rails": "rails",
    }.items()
    if (Path(__file__).parent / package / "__init__.py").exists()
}
#: What --kind and --only left.
_wanted: list[str] = []
_only: list[str] = list(TRIALS)


def kinds_of(name: str) -> list[Kind]:
    return list(importlib.import_module(APPLICATIONS[name]).KINDS)


def _try(name: str, run: Run) -> None:
    kinds = kinds_of(name)
    if _wanted:
        kinds = [kind for kind in kinds if kind.name in _wanted]
    run_all(run, kinds, _only)


def _trial(name: str) -> functools.partial[None]:
    trial = functools.partial(_try, name)
    trial.__doc__ = f"sessions of {', '.join(kind.name for kind in kinds_of(name))}"
    return trial


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", action="append", default=[], help="only this configuration")
    choices = list(TRIALS)
    parser.add_argument("--only", action="append", choices=choices, help="only this trial")


def _take_options(options: argparse.Namespace) -> None:
    _wanted[:] = options.kind
    if options.only:
        _only[:] = options.only


if __name__ == "__main__":
    sys.exit(
        main(
            "conformance.sessions",
            "Try sessions of web applications on memcached, pymcd and pairs, through kills.",
            {name: _trial(name) for name in APPLICATIONS},
            _add_options,
            _take_options,
        )
    )
