"""Fetch Django's tests, run them on a real memcached and on pymcd, print what differs."""

from __future__ import annotations

import sys
from collections import Counter

from ..servers import Server, find_memcached
from .suite import fetch, run


def main() -> int:
    print(f"Django's tests: {fetch()}")
    outcomes = {"pymcd": run()}
    if command := find_memcached():
        with Server(command) as server:
            outcomes["memcached"] = run(f"127.0.0.1:{server.port}")
    for name, found in outcomes.items():
        counts = Counter(found.values())
        print(f"{name:10}", ", ".join(f"{count} {word}" for word, count in counts.most_common()))
    differing = 0
    for test, word in outcomes.get("memcached", {}).items():
        if outcomes["pymcd"].get(test) != word:
            differing += 1
            print(f"{test}: memcached {word}, pymcd {outcomes['pymcd'].get(test, 'not run')}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
