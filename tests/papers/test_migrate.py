"""What docs/migrate.md prints for sessions in Redis, with something that answers as Redis does."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from pymcd.testing import MemcachedServer

from .blocks import DOCS, blocks

pymemcache = pytest.importorskip("pymemcache")

SECTION = "Sessions from Redis"
DAY_MS = 86_400_000


class Redis:
    """Keys with values, and what is left of their time in milliseconds; -1: it does not end."""

    def __init__(self, items: dict[bytes, tuple[bytes | None, int]]) -> None:
        self.items = items

    def scan_iter(self, match: str, count: int) -> list[bytes]:
        assert match.endswith("*")
        assert count > 0
        return [key for key in self.items if key.startswith(match[:-1].encode())]

    def get(self, key: bytes) -> bytes | None:
        return self.items[key][0]

    def pttl(self, key: bytes) -> int:
        return self.items[key][1]


def printed_script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (block,) = [
        block
        for block in blocks(DOCS / "migrate.md")
        if block.section == SECTION and block.file == "copy_sessions.py"
    ]
    monkeypatch.setitem(sys.modules, "redis", types.ModuleType("redis"))
    names: dict[str, Any] = {"__name__": "copy_sessions"}
    exec(compile(block.text, block.file, "exec"), names)
    return names


def test_sessions_come_with_what_is_left_of_their_time(monkeypatch):
    script = printed_script(monkeypatch)
    old, new = script["OLD"].encode(), script["NEW"]
    source = Redis(
        {
            old + b"a": (b'user|s:5:"alice";', 1_440_000),
            old + b"short": (b"x", 10),
            old + b"never": (b"x", -1),
            old + b"long": (b"x", 60 * DAY_MS),
            old + b"ended": (None, -2),
            old + b"there": (b"old", 1_440_000),
            b"other": (b"x", -1),
        }
    )
    with MemcachedServer() as server:
        client = pymemcache.Client(server.address)
        server.put(new + "there", b"new")
        assert script["copy"](source, client) == 4
        client.close()
        items = server.items()
        left = {
            key.decode().removeprefix(new): item.expires and round(item.expires - server.now)
            for key, item in items.items()
        }
        assert items[f"{new}there".encode()].value == b"new"
        assert items[f"{new}a".encode()].value == b'user|s:5:"alice";'
    assert left.keys() == {"a", "short", "never", "long", "there"}
    assert not left["never"]
    for name, seconds in (("a", 1440), ("short", 1), ("long", 60 * 86400)):
        assert abs(left[name] - seconds) <= 2, name
