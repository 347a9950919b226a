"""Settings under which Django's tests run: its two memcached caches on one server.

Beside them the runner, which writes what became of each test. With a server of `pymcd.testing`
`time.sleep` moves that server's clock: the tests of expiry wait for nothing else.
"""

from __future__ import annotations

import json
import os
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from pymcd.testing import MemcachedServer

ADDRESS_VARIABLE = "CONFORMANCE_DJANGO_SERVER"
OUTCOMES_VARIABLE = "CONFORMANCE_DJANGO_OUTCOMES"

DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3"},
    "other": {"ENGINE": "django.db.backends.sqlite3"},
}
SECRET_KEY = "of tests"  # noqa: S105 - Django wants one
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "conformance.django.settings.Runner"
