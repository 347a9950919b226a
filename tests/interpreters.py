"""What is tested of one interpreter alone, and what others have to do without."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec

import pytest

IS_CPYTHON = sys.implementation.name == "cpython"
#: trustme is made of C and Rust, of which for PyPy nothing is built.
HAS_TRUSTME = find_spec("trustme") is not None

needs_certificates = pytest.mark.skipif(
    not HAS_TRUSTME and not shutil.which("openssl"),
    reason="needs trustme, or the command openssl, to make certificates",
)


def of_cpython(what: str) -> pytest.MarkDecorator:
    """Mark a test of what other interpreters do not have, or do not need."""
    return pytest.mark.skipif(not IS_CPYTHON, reason=f"CPython alone has this: {what}")
