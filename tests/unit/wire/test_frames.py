"""Frames end at newlines, however the bytes are chopped, and none is held beyond its bound."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.wire.frames import LineFrames, TooLong


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    return [*pieces, data[start:]]


@pytest.mark.rule("rpc.R11", "rpc.R31")
def test_frames_come_out_as_their_newlines_arrive() -> None:
    frames = LineFrames()
    assert frames.receive_data(b'{"a"') == []
    assert frames.held == 4
    assert frames.receive_data(b':1}\r\n\n  \n{"b":2}\n{') == [b'{"a":1}', b'{"b":2}']
    assert frames.held == 1


@pytest.mark.rule("rpc.B1", "rpc.B7")
def test_a_long_frame_is_told_once_and_the_next_one_is_read() -> None:
    frames = LineFrames(limit=10)
    assert frames.receive_data(b"0123456789") == []
    [first] = frames.receive_data(b"0")
    assert isinstance(first, TooLong)
    assert frames.receive_data(b"x" * 1000) == []
    assert frames.held == 0
    assert frames.receive_data(b"tail\nnext\n") == [b"next"]


def test_a_frame_of_exactly_the_limit_passes() -> None:
    frames = LineFrames(limit=10)
    assert frames.receive_data(b"0123456789\n") == [b"0123456789"]
    [first] = frames.receive_data(b"0123456789a\n")
    assert isinstance(first, TooLong)


lines = st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b" ")), max_size=12)


@settings(deadline=None, max_examples=200)
@given(lines, st.lists(st.integers(0, 40), max_size=30), st.integers(1, 25))
@pytest.mark.rule("rpc.R11")
def test_any_chopping_gives_the_same_frames(parts: list[bytes], sizes: list[int], limit: int) -> None:
    data = b"".join(part + b"\n" for part in parts)
    frames = LineFrames(limit)
    seen: list[str | bytes] = []
    for piece in cut(data, sizes):
        for frame in frames.receive_data(piece):
            seen.append("long" if isinstance(frame, TooLong) else frame)
        assert frames.held <= limit
    expected = ["long" if len(part) > limit else part.strip() for part in parts]
    assert seen == [part for part in expected if part]
