"""UDP: the frame header, requests that are dropped, answers in several datagrams."""

from . import Packets, table


def _frame(
    request: bytes, number: int = 1, *, at: int = 0, total: int = 1, reserved: int = 0
) -> bytes:
    fields = (number, at, total, reserved)
    return b"".join(each.to_bytes(2, "big") for each in fields) + request


ASK = (_frame(b"version\r\n", 77), 1)

CASES = table(
    "udp",
    [
        (
            "a request",
            Packets(((_frame(b"set k 0 0 1\r\na\r\n"), 1), (_frame(b"get k\r\n", 2), 1))),
        ),
        (
            "the number comes back",
            Packets(((_frame(b"version\r\n", 65535), 1), (_frame(b"version\r\n", 0), 1))),
        ),
        ("reserved bits", Packets(((_frame(b"version\r\n", 5, reserved=65535), 1),))),
        ("several datagrams are dropped", Packets(((_frame(b"version\r\n", 5, total=2), 0), ASK))),
        ("a wrong place in the sequence", Packets(((_frame(b"version\r\n", 5, at=1), 1), ASK))),
        (
            "a short datagram is dropped",
            Packets(((b"", 0), (b"1234567", 0), (b"12345678", 0), ASK)),
        ),
        ("an error", Packets(((_frame(b"bogus\r\n"), 1), (_frame(b"get\r\n"), 1)))),
        (
            "a large value",
            b"set k 0 0 5000\r\n" + b"0123456789" * 500 + b"\r\n",
            Packets(((_frame(b"get k\r\n", 9), 4),)),
        ),
        (
            "noreply",
            Packets(((_frame(b"set k 0 0 1 noreply\r\na\r\n"), 0), (_frame(b"get k\r\n", 2), 1))),
        ),
        (
            "delete and incr",
            Packets(((_frame(b"incr k 1\r\n"), 1), (_frame(b"delete k\r\n", 2), 1))),
        ),
    ],
    # With more threads, a request may overtake the one before.
    switches="-t 1 -U -1",
    fresh=True,
)
