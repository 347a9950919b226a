"""What is tested of one interpreter alone, and what others have to do without."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec

import pytest

IS_CPYTHON = sys.implementation.name == "cpython"
#: What is written in C, or takes what is, and is built for CPython alone.
OF_CPYTHON = {"flask_session", "gevent", "pylibmc", "time_machine"}
HAS_TRUSTME = find_spec("trustme") is not None

needs_certificates = pytest.mark.skipif(
    not HAS_TRUSTME and not shutil.which("openssl"),
    reason="needs trustme, or the command openssl, to make certificates",
)


def of_cpython(what: str) -> pytest.MarkDecorator:
    """Mark a test of what other interpreters do not have, or do not need."""
    return pytest.mark.skipif(not IS_CPYTHON, reason=f"CPython alone has this: {what}")


def needs(*modules: str) -> str:
    """Return why a test is skipped that lacks these."""
    for module in modules:
        if module in OF_CPYTHON and not IS_CPYTHON:
            return f"needs {module}, which is not built for {sys.implementation.name}"
    return f"needs {', '.join(modules)}: pip install -e '.[recipes]'"
