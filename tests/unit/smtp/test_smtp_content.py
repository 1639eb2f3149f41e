"""Content after DATA: its end, its dots, its bounds."""

from __future__ import annotations

import time

import pytest

from monsal.smtp.content import ContentReader

LIMIT = 1_000_000


def read(stream: bytes, *, limit: int = LIMIT, step: int = 0) -> tuple[bytes | None, bytes]:
    """The content and what follows it; None while it has not ended. `step` cuts the stream."""
    reader = ContentReader(limit)
    step = step or len(stream)
    for start in range(0, len(stream), step):
        piece = stream[start : start + step]
        position = reader.feed(piece, 0)
        if reader.ended:
            return b"".join(reader.take()), piece[position:] + stream[start + step :]
    return None, b""


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize(
    ("stream", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"hello\r\n.\r\n", b"hello\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".x\r\n.\r\n", b"x\r\n"),
        (b"a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
        (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n"),
        (b".\rb\r\n.\r\n", b"\rb\r\n"),
        (b"a\r\r\n.\r\n", b"a\r\r\n"),
        (b"\r\n\r\n..\r\n..\r\n.\r\n", b"\r\n\r\n.\r\n.\r\n"),
        (b"no dot .\r\nat . the start\r\n.\r\n", b"no dot .\r\nat . the start\r\n"),
        (b"\x00\xff\x80 any octet\r\n.\r\n", b"\x00\xff\x80 any octet\r\n"),
    ],
)
def test_content_without_stuffing(stream: bytes, content: bytes, step: int) -> None:
    """RFC 5321, section 4.5.2."""
    assert read(stream + b"RSET\r\n", step=step) == (content, b"RSET\r\n")


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "pretended",
    [
        b"\n.\n",
        b"\r\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\n.\r",
        b"\r.\n",
        b"\r\r.\r\r",
        b"\r\n\x00.\r\n",
        b"\r\n.\x00\r\n",
        b"\x00\r\n.\r\x00\n",
        b"\n\n.\n\n",
        b"\r\n .\r\n",
        b"\r\n. \r\n",
        b"\x0b.\x0b",
        b"\xc2\x85.\xc2\x85",
        "\u2028.\u2028".encode(),
    ],
)
def test_only_crlf_dot_crlf_is_an_end(pretended: bytes, step: int) -> None:
    """SMTP smuggling: what another server may take for the end stays content, octet by octet."""
    smuggled = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<order@example.org>\r\nDATA\r\nhidden"
    stream = b"text" + pretended + smuggled + b"\r\n.\r\n"

    content, rest = read(stream, step=step)

    # The only change ever made is the dot that the client's own stuffing put after a CRLF.
    assert content == (b"text" + pretended).replace(b"\r\n.", b"\r\n") + smuggled + b"\r\n"
    assert rest == b""


@pytest.mark.parametrize("start", [b"\n.\r\n", b"\n.\n", b"\r.\r\n", b".\n", b".\r", b" .\r\n"])
def test_the_first_line_is_opened_by_the_crlf_of_data_only(start: bytes) -> None:
    content, _ = read(start + b"x\r\n.\r\n")

    assert content is not None
    assert content.endswith(b"x\r\n")


def test_above_the_limit_nothing_is_kept_but_the_end_is_found() -> None:
    reader = ContentReader(10)

    reader.feed(b"12345678\r\n", 0)
    assert (reader.kept, reader.stored) == (True, 8)  # the CRLF may belong to the end
    reader.feed(b"x" * 100, 0)
    assert (reader.kept, reader.stored, reader.size) == (False, 0, 110)
    data = b"x\r\n.\r\nRSET\r\n"
    assert data[reader.feed(data, 0) :] == b"RSET\r\n"
    assert reader.ended
    assert reader.take() == ()


def test_exactly_the_limit_is_kept() -> None:
    assert read(b"12345678\r\n.\r\n", limit=10)[0] == b"12345678\r\n"
    assert read(b"123456789\r\n.\r\n", limit=10)[0] == b""


def test_the_size_does_not_count_stuffing() -> None:
    """RFC 1870, section 4: neither the final dot nor doubled dots count."""
    reader = ContentReader(LIMIT)
    reader.feed(b"..a\r\n..b\r\n.\r\n", 0)

    assert reader.size == len(b".a\r\n.b\r\n")


def test_a_mail_that_trickles_in_does_not_cost_an_object_per_packet() -> None:
    reader = ContentReader(LIMIT)
    for _ in range(50_000):
        reader.feed(b"ab", 0)
    reader.feed(b"\r\n.\r\n", 0)

    assert reader.size == 100_002
    assert len(reader.take()) <= 2 * 100_002 // 4096 + 2


def test_large_pieces_are_handed_on_as_they_are() -> None:
    reader = ContentReader(LIMIT)
    pieces = [bytes([65 + number]) * 65_536 for number in range(8)]
    for piece in pieces:
        reader.feed(piece, 0)
    reader.feed(b"\r\n.\r\n", 0)

    taken = reader.take()
    assert taken[:8] == tuple(pieces)
    assert reader.stored == 0


@pytest.mark.parametrize(
    "lines",
    [
        b"no dots at all\r\n",
        b"a dot at the end.\r\n",
        b".\n.\r.\r\n",
        b"x\r\r\n",
        b"\r\n..two\r\n",
        b"one.\r\n..\r\n.\r.\r\n",
        b"\r",
        b".",
        b"\n.",
    ],
)
@pytest.mark.parametrize("late", [b"", b"..stuffed\r\n", b"\r\n..\r\n", b".\n.\r\n", b"\n..\r\n"])
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "open"])
def test_a_large_piece_is_read_as_small_ones_are(lines: bytes, late: bytes, ended: bool) -> None:
    """Stuffed dots are looked for in another way in large pieces; what comes out is the same."""
    stream = lines * (40_000 // len(lines)) + late + lines + (b"\r\n.\r\nQUIT\r\n" if ended else b"")

    assert read(stream) == read(stream, step=1000)
    assert read(stream, step=20_000) == read(stream, step=1000)
    assert (read(stream)[0] is not None) == ended


@pytest.mark.quiet
@pytest.mark.parametrize("line", [b"..\r\n", b"\r\n", b"\r\n.x", b"\r", b".", b"x" * 70 + b"\r\n"])
def test_the_work_is_linear(line: bytes) -> None:
    """Eight times the content takes about eight times as long, whatever it is made of."""

    def cost(octets: int) -> float:
        stream = b"x" + line * (octets // len(line)) + b"\r\n.\r\n"
        best = 9.0
        for _ in range(3):
            started = time.process_time()
            assert read(stream, limit=10**9, step=65_536)[0] is not None
            best = min(best, time.process_time() - started)
        return best

    assert cost(4_000_000) < 8 * 6 * cost(500_000) + 0.05
