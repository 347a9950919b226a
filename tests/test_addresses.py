"""Hosts and ports as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.addresses import Address, AddressError, join_address, split_address

WORDS = [
    ("localhost", ("localhost", None)),
    ("localhost:5", ("localhost", 5)),
    ("127.0.0.1:0", ("127.0.0.1", 0)),
    ("127.0.0.1:65535", ("127.0.0.1", 65535)),
    ("*", ("*", None)),
    ("*:5", ("*", 5)),
    ("::1", ("::1", None)),
    ("[::1]", ("::1", None)),
    ("[::1]:5", ("::1", 5)),
    ("[fe80::1%eth0]:5", ("fe80::1%eth0", 5)),
    # Whether a host is a good one is another question.
    ("[localhost]:5", ("localhost", 5)),
    ("", ("", None)),
    ("[]", ("", None)),
    (":5", ("", 5)),
    ("a:b:c", ("a:b:c", None)),
]


@pytest.mark.parametrize(("text", "parts"), WORDS)
def test_an_address_is_split(text, parts):
    assert split_address(text) == parts


BAD_WORDS = [
    ("[::1", "an IPv6 address is written [ADDRESS]:PORT", None),
    ("[::1]5", "an IPv6 address is written [ADDRESS]:PORT", None),
    ("a:", "'' is no port number", ""),
    ("[::1]:", "'' is no port number", ""),
    ("a:x", "'x' is no port number", "x"),
    ("a:-1", "'-1' is no port number", "-1"),
    ("a:\xb2", "'\xb2' is no port number", "\xb2"),
    ("a:65536", "'65536' is no port number", "65536"),
    ("a:" + "0" * 5000, f"{'0' * 5000!r} is no port number", "0" * 5000),
]


@pytest.mark.parametrize(("text", "reason", "port"), BAD_WORDS)
def test_what_is_no_address_says_why(text, reason, port):
    with pytest.raises(AddressError) as caught:
        split_address(text)
    assert (str(caught.value), caught.value.port) == (reason, port)


@given(host=st.sampled_from(["a", "10.0.0.1", "::1", "::"]), port=st.integers(0, 65535))
def test_what_is_joined_splits_again(host, port):
    assert split_address(join_address(host, port)) == (host, port)


def test_an_address_as_it_is_shown():
    assert [str(Address(host, 5)) for host in ("a", "::1", None)] == ["a:5", "[::1]:5", "*:5"]
