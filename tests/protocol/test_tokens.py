"""Words and numbers, read as memcached reads them with the C library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.protocol.tokens import decode_i32, decode_u32, decode_u64, split_line

I32_MAX, I32_MIN, U32_MAX, U64_MAX = (1 << 31) - 1, -(1 << 31), (1 << 32) - 1, (1 << 64) - 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"   ", []),
        (b"get a", [b"get", b"a"]),
        (b"  get   a  ", [b"get", b"a"]),
        (b"get\ta", [b"get\ta"]),
        (b"get a\0 b", [b"get", b"a"]),
        (b"\0get", []),
        (b"\r", [b"\r"]),
    ],
)
def test_split_line(line, words):
    assert split_line(line) == words


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"2147483647", I32_MAX),
        (b"2147483648", I32_MIN),  # wraps, as the original's cast does
        (b"4294967295", -1),
        (b"4294967296", 0),
        (b"-2147483649", I32_MAX),
        (b"9223372036854775807", -1),
        (b"-9223372036854775808", 0),
        (b"9223372036854775808", None),
        (b"-9223372036854775809", None),
        (b"-5", -5),
        (b"+5", 5),
        (b"\t5", 5),
        (b"5\t", 5),
        (b"5\tx", 5),
        (b"5x", None),
        (b"", None),
        (b"-", None),
        (b"x", None),
        (b"0x5", None),
        (b"5.0", None),
        (b"--5", None),
        (b"- 5", None),
        ("٥".encode(), None),
        (b"1" * 5000, None),
        (b"0" * 5000 + b"5", 5),
    ],
)
def test_signed(token, number):
    assert decode_i32(token) == number


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"0", 0),
        (b"18446744073709551615", U64_MAX),
        (b"9223372036854775808", 1 << 63),
        (b"18446744073709551616", None),
        (b"-1", None),
        (b"-0", 0),
        (b"-18446744073709551615", 1),
        (b"-18446744073709551616", None),
        (b"-9223372036854775809", I32_MAX | (I32_MAX << 32) | (1 << 31)),
        (b"+7", 7),
        (b"\v7", 7),
        (b"7 ", 7),
        (b"7-", None),
        (b"7\t-", 7),
        (b"", None),
        (b"1" * 5000, None),
    ],
)
def test_unsigned(token, number):
    assert decode_u64(token) == number


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"0", 0),
        (b"4294967295", U32_MAX),
        (b"4294967296", 0),
        (b"4294967297", 1),
        (b"-1", None),
        (b"x", None),
    ],
)
def test_unsigned_of_32_bits(token, number):
    assert decode_u32(token) == number


@given(st.integers(0, U64_MAX))
def test_plain_numbers(number):
    token = b"%d" % number
    assert decode_u64(token) == number
    assert decode_u32(token) == number & U32_MAX
    if number <= I32_MAX:
        assert decode_i32(token) == number
        assert decode_i32(b"-" + token) == -number


@given(st.binary(max_size=40))
def test_any_word_is_a_number_in_range_or_none(token):
    for decode, low, high in (
        (decode_i32, I32_MIN, I32_MAX),
        (decode_u32, 0, U32_MAX),
        (decode_u64, 0, U64_MAX),
    ):
        number = decode(token)
        assert number is None or low <= number <= high
