"""What `pyproject.toml` asks pip for is what the package imports."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from tests.test_layering import imports, modules

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    """Return the packages of some requirements; each has one module, of the same name."""
    return {re.split(r"[\[>=]", requirement)[0].replace("-", "_") for requirement in requirements}


def test_what_the_package_needs_is_what_it_imports():
    imported = {
        name.split(".")[0] for _, package, tree in modules() for name, _ in imports(package, tree)
    }
    # What tests ask for as tests: the fixtures, certificates, and where gevent is.
    for_tests = {"pytest", "trustme", "gevent", "eventlet"}
    needed = names(PROJECT["dependencies"]) | names(EXTRAS["sasl"]) | names(EXTRAS["couchbase"])
    assert imported - sys.stdlib_module_names - {"pymcd"} - for_tests == needed
