"""However a stream is cut, the frames in it are the same, and no more than the limit is held."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.wire import DelimiterFrames, Frames, HeaderFrames, LengthFrames, LineFrames, TooLong

LIMIT = 12
MAKERS: list[Callable[[], Frames]] = [
    lambda: LineFrames(LIMIT),
    lambda: DelimiterFrames(b"\0", LIMIT),
    lambda: DelimiterFrames(b"<=>", LIMIT),
    lambda: DelimiterFrames(b"aab", LIMIT),
    lambda: LengthFrames(LIMIT),
    lambda: HeaderFrames(LIMIT),
]
#: What each framing takes for a mark, among other bytes.
MARKS = [b"\n", b"\0", b"<", b"=>", b"<=>", b"aab", b"aa", b"b", b"\r\n\r\n", b"\r\n", b"{}", b"  ", b"0123456789"]
MARKS += [b"\0\0\0\2", b"\0\0\0\x0c", b"\0\0\0\x0d"]
MARKS += [b"Content-Length: 3\r\n\r\n", b"content-length:13\r\n\r\n", b"Content-Length: x"]
parts = st.sampled_from(MARKS) | st.binary(max_size=4)
streams = st.lists(parts, max_size=40).map(b"".join)


def told(frames: list[bytes | TooLong]) -> list[bytes | None]:
    return [None if isinstance(frame, TooLong) else frame for frame in frames]


@pytest.mark.rule("rpc.R11", "rpc.B7", "rpc.B14")
@settings(deadline=None, max_examples=300)
@given(st.sampled_from(MAKERS), streams, st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_any_cut_gives_the_same_frames(maker: Callable[[], Frames], stream: bytes, steps: list[int]) -> None:
    whole = told(maker().receive_data(stream))
    frames, found, start, turn = maker(), [], 0, 0
    while start < len(stream):
        step = steps[turn % len(steps)]
        found += told(frames.receive_data(stream[start : start + step]))
        start, turn = start + step, turn + 1
        assert frames.held <= 4096 + 4
    assert found == whole
    assert all(frame is None or 0 < len(frame) <= max(LIMIT, len(stream)) for frame in found)


@pytest.mark.rule("rpc.R31", "rpc.B14")
@settings(deadline=None, max_examples=200)
@given(st.sampled_from(MAKERS), st.lists(st.text("xyz{}1 ", max_size=LIMIT).map(lambda text: text.strip().encode())))
def test_what_is_wrapped_comes_out(maker: Callable[[], Frames], payloads: list[bytes]) -> None:
    stream = b"".join(maker().wrap(payload) for payload in payloads)
    assert maker().receive_data(stream) == [payload for payload in payloads if payload]
