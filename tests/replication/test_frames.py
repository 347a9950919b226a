"""The form on the wire: what is encoded comes back, and nothing else is taken for a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication import frames
from pymcd.replication.frames import FrameError, Kind

U64 = st.integers(0, 2**64 - 1)
LIMIT_BYTES = 4096


class TestFrame:
    @given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5))
    def test_bodies_come_back_in_order(self, bodies):
        buffer = b"".join(map(frames.encode_frame, bodies))
        position = 0
        got = []
        while (frame := frames.split_frame(buffer, position, LIMIT_BYTES)) is not None:
            body, position = frame
            got.append(body)
        assert got == bodies
        assert position == len(buffer)

    @given(st.binary(min_size=1, max_size=100), st.binary(max_size=20))
    def test_no_part_of_a_frame_is_a_frame(self, body, before):
        buffer = before + frames.encode_frame(body)
        for end in range(len(before), len(buffer)):
            assert frames.split_frame(buffer[:end], len(before), LIMIT_BYTES) is None

    @given(st.binary(min_size=1, max_size=100), st.data())
    def test_no_bit_may_be_wrong(self, body, data):
        frame = frames.encode_frame(body)
        bit = data.draw(st.integers(0, 8 * len(frame) - 1))
        wrong = bytearray(frame)
        wrong[bit // 8] ^= 1 << bit % 8
        try:
            assert frames.split_frame(bytes(wrong), 0, LIMIT_BYTES) is None  # longer, it says
            assert bit < 32
        except FrameError:
            pass

    @pytest.mark.parametrize("length", [0, 1, 4, LIMIT_BYTES + 1, 2**31, 2**32 - 1])
    def test_a_wrong_length_is_refused_at_once(self, length):
        """Whoever waited for the rest would have to keep it."""
        with pytest.raises(FrameError, match=f"a frame of {length} bytes"):
            frames.split_frame(length.to_bytes(4, "big") + bytes(4), 0, LIMIT_BYTES)

    def test_the_limit_itself_is_allowed(self):
        body = bytes(LIMIT_BYTES - 4)
        assert frames.split_frame(frames.encode_frame(body), 0, LIMIT_BYTES) == (
            body, LIMIT_BYTES + 4,
        )  # fmt: skip

    @given(st.binary(min_size=1, max_size=100))
    def test_how_long_a_frame_is_can_be_told_from_its_beginning(self, body):
        frame = frames.encode_frame(body)
        assert frames.frame_bytes(frame[: frames.PREFIX_BYTES]) == len(frame)

    @given(st.binary(max_size=100))
    def test_anything_at_all(self, buffer):
        try:
            frame = frames.split_frame(buffer, 0, LIMIT_BYTES)
        except FrameError:
            return
        assert frame is None or frames.encode_frame(frame[0]) == buffer[: frame[1]]


class TestMessage:
    @given(
        st.sampled_from(Kind),
        st.floats(allow_nan=False),
        st.floats(allow_nan=False),
        U64,
        U64,
        U64,
        st.binary(max_size=300),
    )
    def test_head_and_payload_come_back(self, kind, time, echo, epoch, number, ack, payload):
        pieces = frames.encode_message(kind, time, echo, epoch, number, ack, payload)
        body, end = frames.split_frame(b"".join(pieces), 0, LIMIT_BYTES) or (b"", 0)
        assert end == sum(map(len, pieces))
        assert frames.decode_head(body) == (kind, time, echo, epoch, number, ack)
        assert body[frames.HEAD_BYTES :] == payload
        assert pieces[1] is payload  # it may be large: no copy

    def test_a_head_must_be_whole(self):
        for length in range(frames.HEAD_BYTES):
            with pytest.raises(FrameError, match="without a head"):
                frames.decode_head(bytes(length))


class TestJson:
    FIELDS = st.dictionaries(
        st.text(max_size=9), st.one_of(st.text(max_size=9), st.integers(), st.booleans())
    )

    @given(FIELDS)
    def test_fields_come_back(self, fields):
        assert frames.decode_json(frames.encode_json(fields)) == fields

    @given(st.binary())
    def test_keys_come_back(self, key):
        text = frames.encode_text(key)
        fields = frames.decode_json(frames.encode_json({"key": text}))
        assert frames.decode_text(fields["key"]) == key

    @pytest.mark.parametrize(
        ("payload", "complaint"),
        [
            (b"", "not JSON"),
            (b"{", "not JSON"),
            (b"\xff", "not JSON"),
            (bytes(8), "not JSON"),
            ('{"a":1}'.encode("utf-32-be"), "not JSON"),
            ('{"a":1}'.encode("utf-16"), "not JSON"),
            ('{"a":1}'.encode("utf-8-sig"), "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"9" * 5000, "not JSON"),
            (b"true", "not a JSON object"),
            (b"[]", "not a JSON object"),
            (b"1", "not a JSON object"),
            (b"null", "not a JSON object"),
        ],
    )
    def test_what_is_no_object_is_refused(self, payload, complaint):
        with pytest.raises(FrameError, match=complaint):
            frames.decode_json(payload)
