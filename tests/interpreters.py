"""What is tested of one interpreter alone."""

from __future__ import annotations

import sys

import pytest

IS_CPYTHON = sys.implementation.name == "cpython"


def of_cpython(what: str) -> pytest.MarkDecorator:
    """Mark a test of what other interpreters do not have, or do not need."""
    return pytest.mark.skipif(not IS_CPYTHON, reason=f"CPython alone has this: {what}")
