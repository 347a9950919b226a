"""The form of a dump: what is written is read, and what is not whole or not right is noticed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.moving.dumpfile import (
    HEAD,
    LINE_MAX_BYTES,
    DumpError,
    DumpReader,
    Record,
    encode_end,
    encode_record,
)

RECORDS = st.builds(
    Record,
    st.binary(min_size=1, max_size=250),
    st.binary(max_size=300),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
FOO = Record(b"foo", b"bar", 5, 1_800_000_000)
WHOLE = HEAD + encode_record(FOO) + encode_end(1)


def written(records: list[Record]) -> bytes:
    return HEAD + b"".join(map(encode_record, records)) + encode_end(len(records))


def read(data: bytes, step: int = 0) -> list[Record]:
    reader = DumpReader()
    records: list[Record] = []
    for start in range(0, len(data), step or max(1, len(data))):
        records += reader.receive(data[start : start + step] if step else data)
    reader.finish()
    return records


def test_how_it_looks():
    assert WHOLE == (
        b"pymcd-dump 1\n"
        b"item 3 3 5 1800000000 a200dbf0\n"
        b"foobar\n"
        b"end 1\n"
    )  # fmt: skip


@given(st.lists(RECORDS, max_size=5), st.integers(1, 40))
def test_what_is_written_is_read(records, step):
    assert read(written(records)) == records
    assert read(written(records), step) == records


@given(st.lists(RECORDS, min_size=1, max_size=3), st.data())
def test_a_file_that_was_cut_off_is_noticed_and_what_is_whole_comes(records, data):
    whole = written(records)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    reader = DumpReader()
    found = list(reader.receive(cut))
    with pytest.raises(DumpError):
        reader.finish()
    assert found == records[: len(found)]
    assert len(found) == reader.items


@given(st.lists(RECORDS, min_size=1, max_size=3), st.data())
def test_a_bit_that_fell_over_is_noticed(records, data):
    whole = bytearray(written(records))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DumpError):
        read(bytes(whole))


@given(st.binary(max_size=300))
def test_anything_at_all_is_a_dump_or_an_error(data):
    with suppress(DumpError):
        read(data)
    with suppress(DumpError):
        read(HEAD + data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is no dump: it is empty"),
        (b"pym", "it is no dump of pymcd"),
        (b"add foo 0 0 3\r\nbar\r\n", "it is no dump of pymcd"),
        (b"x" * 10_000, "it is no dump of pymcd"),
        (b"pymcd-dump 2\n", "it is a dump of version 2, and this pymcd reads 1"),
        (HEAD, "it was cut off after 0 items"),
        (WHOLE[:-1], "it was cut off after 1 item"),
        (WHOLE + b"x", "it is damaged after 1 item: there is more behind its end"),
        (WHOLE + b"x\n", "it is damaged after 1 item: there is more behind its end"),
        (HEAD + encode_end(3), "it is damaged after 0 items: it should have 3 of them"),
        (HEAD + b"thing 1\n", "it is damaged after 0 items: no item begins there"),
        (HEAD + b"item 0 3 0 0 00000000\n", "it is damaged after 0 items: the next one cannot be"),
        (
            HEAD + b"item 251 3 0 0 00000000\n",
            "it is damaged after 0 items: the next one cannot be",
        ),
        (
            HEAD + b"item 3 9999999999 0 0 00000000\n",
            "it is damaged after 0 items: the next one cannot be",
        ),
        (HEAD + b"y" * LINE_MAX_BYTES, "it is damaged after 0 items: no item begins there"),
        (
            WHOLE.replace(b"bar", b"baz"),
            "it is damaged after 0 items: the next one is not what was written",
        ),
        (
            WHOLE.replace(b"1800000000", b"1900000000"),
            "it is damaged after 0 items: the next one is not what was written",
        ),
    ],
)
def test_what_is_wrong_is_said(data, message):
    with pytest.raises(DumpError) as caught:
        read(data)
    assert str(caught.value) == message
