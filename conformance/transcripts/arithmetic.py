"""incr and decr: wrapping, width, and what is a number."""

from . import table


def _number(value: bytes, *commands: bytes) -> bytes:
    return b"set k 3 0 %d\r\n%s\r\n" % (len(value), value) + b"".join(
        each + b"\r\n" for each in (*commands, b"get k")
    )


CASES = table(
    "arithmetic",
    [
        ("incr", _number(b"1", b"incr k 1", b"incr k 8", b"incr k 0")),
        ("incr grows the value", _number(b"99", b"incr k 1")),
        ("incr wraps", _number(b"18446744073709551615", b"incr k 1")),
        ("incr to the largest", _number(b"18446744073709551614", b"incr k 1")),
        ("incr wraps far", _number(b"18446744073709551610", b"incr k 18446744073709551615")),
        ("decr keeps the width", _number(b"10", b"decr k 5")),
        ("decr keeps the width twice", _number(b"100", b"decr k 1", b"decr k 95", b"incr k 1")),
        ("decr stops at zero", _number(b"5", b"decr k 6", b"decr k 1")),
        ("decr by the largest", _number(b"5", b"decr k 18446744073709551615")),
        ("leading zeros", _number(b"007", b"incr k 1")),
        ("leading zeros and decr", _number(b"010", b"decr k 1")),
        ("a blank after", _number(b"5 ", b"incr k 1")),
        ("blanks before", _number(b"  5", b"incr k 1")),
        ("a plus sign", _number(b"+5", b"incr k 1")),
        ("a minus sign", _number(b"-5", b"incr k 1", b"decr k 1")),
        ("words after", _number(b"5 abc", b"incr k 1")),
        ("letters after", _number(b"5abc", b"incr k 1")),
        ("no number", _number(b"abc", b"incr k 1", b"decr k 1")),
        ("an empty value", _number(b"", b"incr k 1")),
        ("hexadecimal", _number(b"0x10", b"incr k 1")),
        ("a fraction", _number(b"1.5", b"incr k 1")),
        ("a line break after", _number(b"5\r\n", b"incr k 1")),
        ("a NUL after", _number(b"5\x00x", b"incr k 1")),
        ("a tab before", _number(b"\t5", b"incr k 1")),
        ("the largest number", _number(b"18446744073709551615", b"decr k 1")),
        ("over 64 bits", _number(b"18446744073709551616", b"incr k 1", b"decr k 1")),
        ("many digits that are zero", _number(b"0" * 30 + b"7", b"incr k 1")),
        ("a long value", _number(b"1" + b" " * 200, b"incr k 1")),
        ("flags and unique", b"set k 7 0 1\r\n1\r\ngets k\r\nincr k 1\r\ngets k\r\n"),
        ("a missing key", b"incr k 1\r\ndecr k 1\r\n"),
        (
            "bad deltas",
            _number(
                b"1",
                b"incr k abc",
                b"incr k -1",
                b"incr k 1x",
                b"incr k 1.5",
                b"incr k 18446744073709551616",
                b"decr k -1",
                b"incr k 0x1",
            ),
        ),
        (
            "deltas with signs and zeros",
            _number(b"1", b"incr k +1", b"incr k 0001", b"incr k -18446744073709551615"),
        ),
        ("a bad delta and a missing key", b"incr k abc\r\n"),
        ("word counts", b"incr\r\nincr k\r\nincr k 1 2 3\r\ndecr\r\ndecr k\r\nincr  \r\n"),
        ("another last word", _number(b"1", b"incr k 1 x", b"decr k 1 NOREPLY")),
        ("noreply", _number(b"1", b"incr k 1 noreply", b"decr x 1 noreply", b"incr k abc noreply")),
        ("a key of 251 bytes", b"incr " + b"k" * 251 + b" 1\r\n"),
        (
            "append to a padded number",
            _number(b"10", b"decr k 1", b"append k 0 0 1\r\n5", b"incr k 1"),
        ),
    ],
)
