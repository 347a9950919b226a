"""What a server waits for before it stops."""

from __future__ import annotations

import pytest

from pymcd.config import Settings
from pymcd.protocol import Connection
from pymcd.server.serving import has_work
from pymcd.service import Service

from ..clocks import ManualClock
from ..hosts import make_host

HEADER = b"\x80\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x03" + bytes(12)

CASES = [
    ("nothing", b"", False),
    ("half a line", b"get a", False),
    ("a line", b"get a\r\n", True),
    ("half a header", HEADER[:20], False),
    ("a header without its key", HEADER + b"ke", False),
    ("a request", HEADER + b"key", True),
]


@pytest.mark.parametrize(("name", "received", "expected"), CASES, ids=[row[0] for row in CASES])
def test_what_can_still_be_executed_is_work(name: str, received: bytes, expected: bool) -> None:
    protocol = "binary" if received.startswith(b"\x80") else "ascii"
    connection = Connection(Service(Settings(), ManualClock(), make_host()), protocol=protocol)
    connection.receive_data(received)
    assert has_work(connection) is expected


class Waiting(Connection):
    waiting = True


def test_to_wait_for_other_servers_is_none_of_ours() -> None:
    service = Service(Settings(), ManualClock(), make_host())
    for kind, expected in ((Connection, True), (Waiting, False)):
        connection = kind(service)
        connection.reply(b"STORED\r\n")
        assert has_work(connection) is expected
        connection.receive_data(b"get a\r\n")
        assert has_work(connection)
