"""What all tests share: how hypothesis searches.

`dev` looks for something new in each run. `ci` is chosen where the environment variable CI is
set: it tries the same examples each time, so that a red build is the fault of the change.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A shared machine is slow at times: that is no failure.
_SLOW = [HealthCheck.too_slow]

settings.register_profile("dev", deadline=None, suppress_health_check=_SLOW)
settings.register_profile(
    "ci", deadline=None, suppress_health_check=_SLOW, derandomize=True, max_examples=100
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# They are for this run, not for one that a test starts.
os.environ.pop("PYTEST_ADDOPTS", None)
