"""What a request takes in bytecodes has not grown; and how that is told."""

from __future__ import annotations

import pytest

from . import counts

pytestmark = pytest.mark.skipif(not counts.CAN_COUNT, reason="takes CPython, and Linux's epoll")


@pytest.mark.parametrize("load", counts.LOADS)
def test_no_request_takes_more_than_it_did(load: str):
    before = counts.kept()
    if not before:
        pytest.skip(f"no counts are kept for CPython {counts.version()}")
    complaint = counts.grown(before[load], counts.count(load))
    assert not complaint, "\n".join(
        [f"{load}: {complaint[0]}", *complaint[1:], "worth it? python -m tests.counts --write"]
    )


def test_counts_are_the_same_each_time():
    assert counts.count("set16") == counts.count("set16")


def test_a_function_more_is_told_by_name():
    before = {"store/cache.py:Cache.get": 50.0, "server/hub.py:Hub._turn": 50.0}
    now = before | {"store/cache.py:Cache.get": 53.0, "store/cache.py:look": 3.0}
    assert counts.grown(before, now) == [
        "106.0 bytecodes a request, where it were 100.0:",
        "      +3.0  store/cache.py:Cache.get",
        "      +3.0  store/cache.py:look",
    ]
    assert counts.grown(before, before | {"store/cache.py:look": 5.0}) == []


def test_work_that_is_done_is_counted(monkeypatch: pytest.MonkeyPatch):
    from pymcd.protocol.connection import Connection

    before = sum(counts.count("get16").values())
    respond = Connection.respond_text
    code = compile("def respond(self, data):\n for _ in range(9): pass\n return of(self, data)",
                   f"{counts.PACKAGE}more.py", "exec")  # fmt: skip
    names = {"of": respond}
    exec(code, names)
    monkeypatch.setattr(Connection, "respond_text", names["respond"])
    now = counts.count("get16")
    assert now["more.py:respond"] > 9
    assert sum(now.values()) > before + 9
