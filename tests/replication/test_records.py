"""What messages carry: what is encoded comes back, and nothing else is taken for a record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication import records
from pymcd.replication.frames import FrameError
from pymcd.replication.records import Record
from tests.replication.helpers import encode_state

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
KEYS = st.binary(min_size=1, max_size=250)
NODE_IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=255)

STATES = st.tuples(
    KEYS, st.binary(max_size=300), U32, U64, U64, U64, st.integers(0, 63)
)  # as encode_state takes them


def decoded_state(state):
    """A state as `decode_records` gives it: in the order in which it is looked at."""
    key, value, client_flags, unix_end, cas_unique, version, marks = state
    return (Record.STATE, key, value, client_flags, unix_end, cas_unique, version, marks)


PIECES = st.lists(st.binary(max_size=30), max_size=3)


def altered(state, before, appended, prepended):
    """An ALTERED on the wire, and what it says."""
    key, value, *about = state
    head = encode_state(*state)[: records.STATE_BYTES]
    said = [list(map(records.encode_piece, pieces)) for pieces in (appended, prepended)]
    flags, unix_end, cas_unique, version, marks = about
    record = Record.ALTERED, key, len(value), flags, unix_end, cas_unique, version, marks
    return (
        records.encode_altered(head, key, before, *said),
        (*record, before, appended, prepended),
    )


#: A record on the wire, and what it says.
RECORDS = st.one_of(
    STATES.map(lambda state: (encode_state(*state), decoded_state(state))),
    st.tuples(KEYS, U64).map(lambda gone: (records.encode_gone(*gone), (Record.GONE, *gone))),
    U64.map(lambda version: (records.encode_flush(version), (Record.FLUSH, version))),
    st.tuples(U64, U64).map(lambda due: (records.encode_flush_due(*due), (Record.FLUSH_AT, *due))),
    st.tuples(U64, st.binary(max_size=300)).map(
        lambda result: (records.encode_result(*result), (Record.RESULT, *result))
    ),
    st.tuples(U64, U64).map(lambda batch: (records.encode_batch(*batch), (Record.BATCH, *batch))),
    st.tuples(NODE_IDS, U64, st.binary(max_size=300)).map(
        lambda executed: (records.encode_executed(*executed), (Record.EXECUTED, *executed))
    ),
    st.builds(altered, STATES, U64, PIECES, PIECES),
    KEYS.map(lambda key: (records.encode_wanted(key), (Record.WANTED, key))),
)


def test_of_a_flush_to_come_the_first_version_knows_less():
    flush, due = records.encode_flush(7), records.encode_flush_due(8, 9)
    state = [encode_state(b"")[: -0 or None], bytes([Record.FLUSH_AT]) + bytes(16), b"value"]
    for pieces, wanted in [
        ([flush, due, *state], [(Record.FLUSH, 7), (Record.FLUSH_DUE, 9)]),
        ([due, *state], [(Record.FLUSH_DUE, 9)]),
        ([flush], [(Record.FLUSH, 7)]),
        ([due], [(Record.FLUSH_DUE, 9)]),
    ]:
        said = records.for_first_version(pieces)
        assert said[len(wanted) :] == pieces[len(wanted) :]
        assert list(records.decode_records(b"".join(said[: len(wanted)]), 0)) == wanted
    for pieces in (state, [flush, *state]):
        assert records.for_first_version(pieces) == pieces


FORWARDS = st.tuples(U64, st.sampled_from(["text", "binary"]), st.binary(max_size=300))


class TestRecords:
    @given(st.lists(RECORDS, max_size=8), st.binary(max_size=9))
    def test_records_come_back_in_order(self, entries, before):
        payload = before + b"".join(data for data, _ in entries)
        got = records.decode_records(payload, len(before))
        assert got == [meaning for _, meaning in entries]

    @given(RECORDS, RECORDS)
    def test_a_record_that_is_cut_off_is_refused(self, first, second):
        payload = first[0] + second[0]
        for end in range(1, len(payload)):
            if end == len(first[0]):
                continue
            with pytest.raises(FrameError, match="cut off"):
                records.decode_records(payload[:end], 0)

    @given(st.lists(RECORDS, max_size=3), st.sampled_from([b"\xff", b"\x02", b"\x05\0"]))
    def test_nothing_is_given_out_of_what_is_not_understood_whole(self, entries, more):
        payload = b"".join(data for data, _ in entries) + more
        with pytest.raises(FrameError):
            records.decode_records(payload, 0)  # and not only when it comes to that

    @given(st.integers(0, 255).filter(lambda kind: kind not in set(Record)), st.binary())
    def test_an_unknown_kind_is_refused(self, kind, rest):
        with pytest.raises(FrameError, match=f"unknown kind {kind}"):
            records.decode_records(bytes([kind]) + rest, 0)

    def test_a_name_that_is_no_text_is_somebody_elses(self):
        record = records.encode_executed("b", 1, b"").replace(b"b", b"\xff")
        assert records.decode_records(record, 0) == [(Record.EXECUTED, "\ufffd", 1, b"")]

    @given(st.sampled_from(Record), st.binary(max_size=200))
    def test_anything_at_all(self, kind, payload):
        payload = bytes([kind]) + payload
        try:
            records.decode_records(payload, 0)
        except FrameError:
            pass


class TestForwards:
    @given(st.lists(FORWARDS, max_size=5))
    def test_requests_come_back_in_order(self, forwards):
        payload = b"".join([records.encode_forward(*forward) for forward in forwards])
        assert records.decode_forwards(payload, 0) == forwards

    @given(FORWARDS, st.data())
    def test_a_request_that_is_cut_off_is_refused(self, forward, data):
        payload = records.encode_forward(*forward)
        end = data.draw(st.integers(1, len(payload) - 1))
        with pytest.raises(FrameError, match="cut off"):
            records.decode_forwards(payload[:end], 0)

    @given(st.lists(FORWARDS, max_size=3))
    def test_nothing_is_given_out_of_what_is_not_understood_whole(self, forwards):
        payload = b"".join([records.encode_forward(*forward) for forward in forwards])
        with pytest.raises(FrameError):
            records.decode_forwards(payload + b"x", 0)  # and not only when it comes to that
