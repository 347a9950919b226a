"""Words and numbers, read as memcached reads them: mostly by itself, twice with the C library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.protocol.tokens import (
    decode_i32,
    decode_i64,
    decode_loose_i32,
    decode_loose_u32,
    decode_u32,
    decode_u64,
    is_silenced,
    split_line,
)

I32_MAX, I32_MIN, U32_MAX, U64_MAX = (1 << 31) - 1, -(1 << 31), (1 << 32) - 1, (1 << 64) - 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"   ", []),
        (b"get a", [b"get", b"a"]),
        (b"  get   a  ", [b"get", b"a"]),
        (b"get\ta", [b"get\ta"]),
        (b"get a\0 b", [b"get", b"a\0", b"b"]),
        (b"\r", [b"\r"]),
    ],
)
def test_split_line(line, words):
    assert split_line(line) == words


@pytest.mark.parametrize(
    ("line", "silent"),
    [
        (b"delete noreply", True),
        (b"delete a noreply", True),
        (b"delete noreply a", False),
        (b"delete a NOREPLY", False),
        (b"delete" + b" a" * 21 + b" noreply", True),
        (b"delete" + b" a" * 22 + b" noreply", False),
        (b"delete" + b" a" * 21 + b" noreply a b", True),
    ],
)
def test_silence_is_asked_for_by_the_last_word_that_counts(line, silent):
    assert is_silenced(split_line(line)) == silent


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"00000000007", 7),
        (b"000000000007", None),
        (b"2147483647", I32_MAX),
        (b"2147483648", None),
        (b"-2147483648", I32_MIN),
        (b"-2147483649", None),
        (b"-5", -5),
        (b"-0", 0),
        (b"-", 0),
        (b"+5", None),
        (b"\t5", None),
        (b"5\t", None),
        (b"5\0", None),
        (b"5x", None),
        (b"", None),
        (b"x", None),
        (b"0x5", None),
        (b"5.0", None),
        (b"--5", None),
        ("٥".encode(), None),
        (b"1" * 5000, None),
        (b"0" * 5000 + b"5", None),
    ],
)
def test_signed(token, number):
    assert decode_i32(token) == number


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"9223372036854775807", (1 << 63) - 1),
        (b"9223372036854775808", None),
        (b"-9223372036854775808", -(1 << 63)),
        (b"-9223372036854775809", None),
        (b"-", 0),
        (b"0" * 21 + b"7", 7),
        (b"0" * 22 + b"7", None),
        (b"", None),
    ],
)
def test_signed_of_64_bits(token, number):
    assert decode_i64(token) == number


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"0", 0),
        (b"18446744073709551615", U64_MAX),
        (b"18446744073709551616", None),
        (b"0" * 21 + b"7", 7),
        (b"0" * 22 + b"7", None),
        (b"-1", None),
        (b"-0", None),
        (b"-", None),
        (b"+7", None),
        (b"\v7", None),
        (b"7\0", None),
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
        (b"4294967296", None),
        (b"00000000007", 7),
        (b"000000000007", None),
        (b"-1", None),
        (b"+1", None),
        (b"x", None),
        (b"", None),
    ],
)
def test_unsigned_of_32_bits(token, number):
    assert decode_u32(token) == number


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
        (b"5\0x", 5),
        (b"\0005", None),
        (b"5x", None),
        (b"-", None),
        (b"x", None),
        (b"0x5", None),
        (b"5.0", None),
        (b"--5", None),
        ("٥".encode(), None),
        (b"1" * 5000, None),
        (b"0" * 5000 + b"5", 5),
    ],
)
def test_signed_as_c_reads_it(token, number):
    assert decode_loose_i32([b"set", token, b"77"], 1) == number


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"0", 0),
        (b"4294967295", U32_MAX),
        (b"4294967296", 0),
        (b"4294967297", 1),
        (b"18446744073709551615", U32_MAX),
        (b"9223372036854775808", 0),
        (b"18446744073709551616", None),
        (b"-1", None),
        (b"-0", 0),
        (b"-18446744073709551615", 1),
        (b"-18446744073709551616", None),
        (b"-9223372036854775809", U32_MAX),
        (b"+7", 7),
        (b"\v7", 7),
        (b"7-", None),
        (b"7\t-", 7),
        (b"1" * 5000, None),
    ],
)
def test_unsigned_as_c_reads_it(token, number):
    assert decode_loose_u32([b"set", token, b"77"], 1) == number


@pytest.mark.parametrize("decode", [decode_loose_i32, decode_loose_u32])
def test_the_c_library_looks_behind_white_space(decode):
    assert decode([b"set", b"\t", b"\v", b"77", b"x"], 1) == 77
    assert decode([b"set", b"\t", b"x", b"77"], 1) is None
    assert decode([b"set", b"\t"], 1) is None


@given(st.integers(0, U64_MAX))
def test_plain_numbers(number):
    token = b"%d" % number
    assert decode_u64(token) == number
    assert decode_u32(token) == (number if number <= U32_MAX else None)
    assert decode_loose_u32([token], 0) == number & U32_MAX
    if number <= I32_MAX:
        assert decode_i32(token) == decode_loose_i32([token], 0) == number
        assert decode_i32(b"-" + token) == decode_loose_i32([b"-" + token], 0) == -number


@given(st.binary(max_size=40))
def test_any_word_is_a_number_in_range_or_none(token):
    for decode, low, high in (
        (decode_i32, I32_MIN, I32_MAX),
        (decode_u32, 0, U32_MAX),
        (decode_u64, 0, U64_MAX),
        (lambda token: decode_loose_i32([token], 0), I32_MIN, I32_MAX),
        (lambda token: decode_loose_u32([token], 0), 0, U32_MAX),
    ):
        number = decode(token)
        assert number is None or low <= number <= high
