"""Where a frame ends, in each framing; frames that are too long, and headers that are none."""

from __future__ import annotations

import pytest

from monsal.wire import DelimiterFrames, EncodeError, Frames, HeaderFrames, LengthFrames, LineFrames, TooLong


def kinds(frames: list[bytes | TooLong]) -> list[bytes | None]:
    return [None if isinstance(frame, TooLong) else frame for frame in frames]


@pytest.mark.rule("rpc.B14")
@pytest.mark.parametrize(
    ("frames", "wire"),
    [
        (LineFrames(), b'{"a":1}\n'),
        (DelimiterFrames(), b'{"a":1}\0'),
        (DelimiterFrames(b"\r\n--"), b'{"a":1}\r\n--'),
        (LengthFrames(), b'\0\0\0\x07{"a":1}'),
        (HeaderFrames(), b'Content-Length: 7\r\n\r\n{"a":1}'),
    ],
)
def test_a_frame_is_marked_and_found_again(frames: Frames, wire: bytes) -> None:
    assert frames.wrap(b'{"a":1}') == wire
    assert frames.receive_data(wire * 2 + wire[:3]) == [b'{"a":1}'] * 2
    assert frames.held == 3
    assert frames.receive_data(wire[3:]) == [b'{"a":1}']
    assert frames.held == 0


@pytest.mark.rule("rpc.R31")
def test_a_payload_with_the_delimiter_in_it_is_not_sent() -> None:
    with pytest.raises(EncodeError, match="delimiter"):
        LineFrames().wrap(b"a\nb")
    with pytest.raises(EncodeError, match="delimiter"):
        DelimiterFrames(b"||").wrap(b"a||b")
    assert DelimiterFrames(b"||").wrap(b"a|b") == b"a|b||"
    with pytest.raises(EncodeError, match="delimiter"):
        DelimiterFrames(b"||").wrap(b"a|")
    with pytest.raises(ValueError, match="at least one"):
        DelimiterFrames(b"")


@pytest.mark.rule("rpc.B7")
def test_two_gigabytes_that_are_announced_are_not_waited_for() -> None:
    frames = LengthFrames(limit=100)
    assert kinds(frames.receive_data(b"\x7f\xff\xff\xff")) == [None]
    for _ in range(100):
        assert frames.receive_data(b"x" * 10_000) == []
        assert frames.held == 0
    header = HeaderFrames(limit=100)
    assert kinds(header.receive_data(b"Content-Length: 2147483647\r\n\r\n")) == [None]
    assert header.receive_data(b"x" * 10_000) == []
    assert header.held == 0


@pytest.mark.rule("rpc.B1")
def test_after_a_frame_that_is_too_long_comes_the_next_one() -> None:
    length = LengthFrames(limit=4)
    assert kinds(length.receive_data(b"\0\0\0\x05aaaaa\0\0\0\x01b\0\0\0\0\0\0\0\x04cccc")) == [None, b"b", b"cccc"]
    header = HeaderFrames(limit=4)
    stream = b"Content-Length: 5\r\n\r\naaaaaContent-Length: 1\r\n\r\nb"
    assert kinds(header.receive_data(stream)) == [None, b"b"]
    several = DelimiterFrames(b"<>", limit=4)
    assert kinds(several.receive_data(b"aaaaa<><>b<>aaaa<>")) == [None, b"b", b"aaaa"]


@pytest.mark.rule("rpc.B14")
def test_headers_as_editors_write_them() -> None:
    frames = HeaderFrames()
    stream = b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\ncontent-length:2\r\n\r\n{}"
    assert frames.receive_data(stream) == [b"{}"]
    assert frames.receive_data(b"Content-Length: 0\r\n\r\n\r\n\r\nContent-Length: 1\r\n\r\n1") == [b"1"]


@pytest.mark.rule("rpc.B1", "rpc.B7")
def test_a_header_that_is_none_is_for_the_codec_to_refuse() -> None:
    frames = HeaderFrames()
    assert frames.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == [b"GET / HTTP/1.1\r\nHost: x"]
    assert frames.receive_data(b"X-Content-Length: 3\r\n\r\n") == [b"X-Content-Length: 3"]
    assert kinds(frames.receive_data(b"y" * 100_000)) == [None]
    assert frames.held < 10
    assert frames.receive_data(b"\r\n\r\nContent-Length: 1\r\n\r\n1") == [b"1"]
