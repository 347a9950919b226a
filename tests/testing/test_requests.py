"""What the log and the faults make of a client's bytes."""

from __future__ import annotations

import struct

import pytest

from pymcd.testing.requests import INCOMPLETE, as_commands, read_request

VALUE_MAX_BYTES = 1000


def binary(opcode: int, key: bytes = b"", extras: bytes = b"", value: bytes = b"") -> bytes:
    body = extras + key + value
    head = struct.pack(
        ">BBHBBHI4sQ", 0x80, opcode, len(key), len(extras), 0, 0, len(body), b"mine", 0
    )
    return head + body


#: Request, command, keys, opaque.
CASES: list[tuple[bytes, str, tuple[bytes, ...], bytes | None]] = [
    (b"get a\r\n", "get", (b"a",), None),
    (b"get a\n", "get", (b"a",), None),
    (b"gets  a b c\r\n", "gets", (b"a", b"b", b"c"), None),
    (b"gat 10 a b\r\n", "gat", (b"a", b"b"), None),
    (b"set a 0 0 3\r\nabc\r\n", "set", (b"a",), None),
    (b"set a 0 0 3 noreply\r\nabc\r\n", "set", (b"a",), None),
    (b"cas a 0 0 3 7\r\nabc\r\n", "cas", (b"a",), None),
    (b"append a 0 0 0\r\n\r\n", "append", (b"a",), None),
    (b"incr a 1\r\n", "incr", (b"a",), None),
    (b"touch a 1\r\n", "touch", (b"a",), None),
    (b"delete a\r\n", "delete", (b"a",), None),
    (b"mg a v Oabc t\r\n", "mg", (b"a",), b"abc"),
    (b"mg YWI= b v\r\n", "mg", (b"ab",), None),
    (b"mg YW=b bb v\r\n", "mg", (b"a`",), None),
    (b"mg YWI b v\r\n", "mg", (b"YWI",), None),
    (b"ms YWI= 1 b\r\nx\r\n", "ms", (b"ab",), None),
    (b"ms a 3 T0 Oxyz\r\nabc\r\n", "ms", (b"a",), b"xyz"),
    (b"mn\r\n", "mn", (), None),
    (b"stats items\r\n", "stats", (), None),
    (b"flush_all 0 noreply\r\n", "flush_all", (), None),
    (b"what is this\r\n", "what", (), None),
    (b"set a 0 0 x\r\n", "set", (b"a",), None),
    (b"set a 0 0 -1\r\n", "set", (b"a",), None),
    (b"set a 0 0 100000\r\n", "set", (b"a",), None),
    (binary(0x00, b"a"), "get", (b"a",), b"mine"),
    (binary(0x0D, b"a"), "get", (b"a",), b"mine"),
    (binary(0x11, b"a", bytes(8), b"abc"), "set", (b"a",), b"mine"),
    (binary(0x05, b"a", bytes(20)), "incr", (b"a",), b"mine"),
    (binary(0x0A), "noop", (), b"mine"),
    (binary(0x10, b"items"), "stats", (), b"mine"),
    (binary(0x21, b"PLAIN", value=b"\0a\0b"), "sasl_auth", (), b"mine"),
    (binary(0x77), "0x77", (), b"mine"),
]


@pytest.mark.parametrize(("data", "command", "keys", "opaque"), CASES)
def test_a_request_is_read(
    data: bytes, command: str, keys: tuple[bytes, ...], opaque: bytes | None
) -> None:
    for before in (b"", b"mn\r\n"):
        for behind in (b"", b"get x\r\n"):
            request = read_request(before + data + behind, len(before), VALUE_MAX_BYTES)
            assert request is not None
            assert request[:3] == (command, keys, opaque)
            assert request.end == len(before + data)
    for end in range(len(data)):
        part = read_request(data[:end], 0, VALUE_MAX_BYTES)
        assert part is None or part is INCOMPLETE


@pytest.mark.parametrize(
    "data", [b"", b"\r\n", b"get a", b"\x80", binary(0x01, value=bytes(10_000))[:100]]
)
def test_what_is_not_clear_is_left_to_the_server(data: bytes) -> None:
    assert read_request(data, 0, VALUE_MAX_BYTES) is None


def test_names_of_commands() -> None:
    assert as_commands(None) is None
    assert as_commands("get") == frozenset({"get"})
    assert as_commands(("get", "noop", "mg")) == frozenset({"get", "noop", "mg"})
    with pytest.raises(ValueError, match="did you mean 'delete'"):
        as_commands(["get", "delet"])
