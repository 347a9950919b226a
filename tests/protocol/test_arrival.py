"""Where values gather: in segments, which are given back, or in a buffer that becomes the value."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.protocol import arrival
from pymcd.protocol.arrival import _KEPT_MAX, SEGMENT_BYTES, SEGMENTED_MAX_BYTES, Segments
from pymcd.protocol.tokens import NO_MEMORY_READING
from tests.protocol.helpers import Client

SIZES = st.integers(0, 3 * SEGMENT_BYTES) | st.sampled_from([1, SEGMENT_BYTES, SEGMENT_BYTES + 1])


@given(st.lists(SIZES, max_size=6), st.sampled_from([SEGMENTED_MAX_BYTES, SEGMENTED_MAX_BYTES + 1]))
def test_what_was_written_is_the_value(sizes, length):
    room: Any = Segments().room_for(length)
    wanted = b""
    for number, size in enumerate(sizes):
        piece = bytes([number + 1]) * size
        assert room.write(piece) == size
        wanted += piece
        assert room.tell() == len(wanted)
    assert room.getvalue() == wanted
    room.close()


def test_large_values_need_no_copy_in_the_end():
    segments = Segments()
    assert isinstance(segments.room_for(SEGMENTED_MAX_BYTES + 1), BytesIO)
    assert not isinstance(segments.room_for(SEGMENTED_MAX_BYTES), BytesIO)


def test_a_few_segments_are_kept_for_the_next_value():
    segments = Segments()
    rooms: list[Any] = [segments.room_for(SEGMENTED_MAX_BYTES) for _ in range(5)]
    for room in rooms:
        room.write(bytes(SEGMENTED_MAX_BYTES))
    taken = [segment for room in rooms for segment in room._segments]
    for room in rooms:
        room.close()
        room.close()
    assert segments._free == taken[:_KEPT_MAX]
    assert all(segment.closed for segment in taken[_KEPT_MAX:])
    assert segments.take() is taken[_KEPT_MAX - 1]


@pytest.mark.parametrize("size", [100_000, 500_000])
def test_where_the_system_has_no_memory_the_value_is_refused(size, monkeypatch):
    client = Client()
    block = b"x" * size + b"\r\n"
    assert client.send(b"set a 0 0 %d\r\n" % size + block[:50_000]) == b""

    def fail(*arguments: Any) -> None:
        raise OSError

    monkeypatch.setattr(arrival, "mmap", fail)
    rest = block[50_000:]
    refused = size > SEGMENT_BYTES
    assert client.send(rest, step=65536) == (NO_MEMORY_READING if refused else b"STORED\r\n")
    assert client.send(b"version\r\n") == b"VERSION 1.6.45\r\n"
    assert client.service.under_way.held_bytes == 0
