"""One client in Python: the documented lines make `cache`, which does what it is told by lines."""

from __future__ import annotations

import os
import sys
from typing import Any

scope: dict[str, Any] = {}
exec(os.environ["LINES"], scope)
cache = scope["cache"]


def do(verb: str, key: str, value: str) -> str:
    """Make one call; whatever it raises is an error."""
    if verb == "get":
        found = cache.get(key)
        if found is None:
            return "none"
        return f"value {found.decode() if isinstance(found, bytes) else found}"
    if verb == "set":
        return "done" if cache.set(key, value) else "error refused"
    cache.delete(key)
    return "done"


print("ready", flush=True)
for line in sys.stdin:
    try:
        answer = do(*line.split())
    except Exception as error:
        answer = f"error {type(error).__name__} {' '.join(str(error).split())}"
    print(answer, flush=True)
