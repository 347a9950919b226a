"""The runner of Django's tests: it writes down what became of each.

On a server of `pymcd.testing`, `time.sleep` moves that server's clock instead, so that tests of
expiry take no time. On any other server they sleep.
"""

from __future__ import annotations

import contextlib
import json
import os
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from django.test.runner import DiscoverRunner

from .settings import SERVER
from .suite import OUTCOMES_VARIABLE


class Result(unittest.TextTestResult):
    """A result that keeps one word for each test; the worst, where subtests differ."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.outcomes: dict[str, str] = {}

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self.outcomes.setdefault(test.id(), "ok")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self.outcomes[test.id()] = "skipped"

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self.outcomes[test.id()] = "failed"

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self.outcomes[test.id()] = "error"

    def addSubTest(self, test: unittest.TestCase, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.outcomes[test.id()] = "failed"


class Runner(DiscoverRunner):  # type: ignore[misc]  # Django has no annotations
    """Django's runner, writing the outcomes to the file which the environment names."""

    def get_resultclass(self) -> type[unittest.TextTestResult]:
        return Result

    def run_suite(self, suite: unittest.TestSuite, **named: Any) -> unittest.TestResult:
        with contextlib.ExitStack() as stack:
            if SERVER is not None:
                stack.callback(SERVER.stop)
                stack.enter_context(mock.patch("time.sleep", SERVER.advance))
            result: Result = super().run_suite(suite, **named)
        Path(os.environ[OUTCOMES_VARIABLE]).write_text(json.dumps(result.outcomes))
        return result
