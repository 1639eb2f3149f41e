"""What strangers send costs time in proportion to its length (P7): eight times as much is not 64 times the work.

Times are of this thread's processor, compared with each other in one run, so that a busy machine changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from monsal.mail import Envelope, Message
from monsal.mail.addresses import first_address, mailboxes
from monsal.mail.auth import Upstream, authenticate
from monsal.mail.automatic import automatic_reason
from monsal.mail.charset import decode_header
from monsal.mail.dates import parse_date
from monsal.mail.filenames import safe_filename
from monsal.mail.header import digest_below_received, scan
from monsal.mail.htmltext import html_to_text
from monsal.mail.mime import parameters, parse
from monsal.mail.replytext import reply_text

SHORT, TIMES = 2_500, 8
#: Times as long that eight times the input may take, and what is too short to be measured.
ALLOWED, FLOOR = 16, 0.05
ENVELOPE = Envelope(sender="", recipients=("a@b.c",))

_PIECES = [
    " ", "\t", "(", ")", "<", ">", "@", '"', "\\", '\\"', ";", ",", ":", ".", "=", "=?", "?=", "%", "'", "&", "&#", "*",
    "a", "1", "-", "/", "[", "\u00fc", "\u3000", "<a", "<a ", "< ", '<"', "<@", "@:", "<a@", "a@b,", "(a", '"a', ' "',
    "a ", " @", " . ", "a.", ";a=", ';a="', ';a*0="', ";=", "=?a", "=?a*", "=?a?b?", "=?a?q?x?= ", "=?a?q?x?=y",
    "\n", "\n\n", " \n", "\r", "\r\n", "\n>", "\n> ", "\n:", "a:\n", "\nOn 1 wrote:", "On 1 ", "From: x\n", "\n--\n",
    "wrote", "--", "--a\n", "\n--a", "<p>", "</p>", "<blockquote>", "<a b='", "<!--", "<!", "<head>", "<pre>", "<li>",
    "<br>", "&gt;", "begin 6\n", "<td>", "</", "<1", "1 Jan ", "1:1", "a/b", " (a)", " (",
]  # fmt: skip
_FRAMES = [("", ""), ("<a", ">"), ('"', ""), ("(", ""), ("a@b", "x"), ("x", "\nx:"), ('; a="', ""), ("=?a?q?", "")]


def shape(frame: tuple[str, str], piece: str, length: int) -> str:
    return frame[0] + piece * (length // len(piece)) + frame[1]


def field(name: str, text: str) -> bytes:
    return f"{name}: ".encode() + text.replace("\n", "").encode() + b"\r\n\r\nbody"


def read_header(text: str) -> None:
    found = scan(field("From", text))
    _ = (found.correspondent, found.message_id, found.precedence, found.fields)


def read_raw(text: str) -> None:
    raw = text.encode()
    scan(raw)
    digest_below_received([raw])
    _ = Message(raw=raw, recipient="a@b.c", correspondent="d@e.f").sender_name


def read_auth(text: str) -> None:
    found = scan(field("Authentication-Results", f"x; {text}"))
    authenticate(found, None, "d@e.f", Upstream(authserv_id="x"))


def read_automatic(text: str) -> None:
    automatic_reason(scan(field("Content-Type", f"multipart/report; {text}")), text)
    automatic_reason(scan(field("X-Auto-Response-Suppress", text)), "")


def read_fields(text: str) -> None:
    for name in ("From", "References", "Subject", "Date"):
        raw = field(name, text)
        message = Message(raw=raw, recipient="a@b.c", correspondent="d@e.f", envelope=ENVELOPE)
        _ = (message.sender_name, message.references, message.in_reply_to, message.subject, message.date)
        _ = (message.sender_address, message.mailboxes("From"))


def read_parts(text: str) -> None:
    head = b'Content-Type: multipart/mixed; boundary="a"\r\n\r\n'
    for part in parse(head + b"--a\r\n\r\n" + text.encode()).walk():
        _ = (part.text, part.filename)


def read_part_field(text: str) -> None:
    part = parse(field("Content-Disposition", f"attachment; {text}"))
    _ = (part.filename, part.disposition, part.params)
    parse(field("Content-Type", f"multipart/mixed; {text}"))


@pytest.mark.parametrize(
    "read",
    [
        first_address,
        mailboxes,
        decode_header,
        parse_date,
        html_to_text,
        reply_text,
        parameters,
        safe_filename,
        read_header,
        read_raw,
        read_auth,
        read_automatic,
        read_fields,
        read_parts,
        read_part_field,
    ],
)
def test_the_time_grows_with_the_length(read: Callable[[str], object]) -> None:
    slow = {
        (frame, piece): times
        for frame in _FRAMES
        for piece in _PIECES
        if (times := too_slow(read, shape(frame, piece, SHORT), shape(frame, piece, SHORT * TIMES))) is not None
    }

    assert slow == {}


def too_slow(read: Callable[[str], object], short: str, long: str) -> tuple[float, float] | None:
    """The times for the short and the long text, if the second is out of proportion in each of three attempts."""
    measured = (0.0, 0.0)
    for _ in range(3):
        taken = seconds(read, long)
        if taken <= FLOOR:
            return None
        measured = (seconds(read, short), taken)
        if taken <= ALLOWED * measured[0]:
            return None
    return measured


def seconds(read: Callable[[str], object], text: str) -> float:
    before = time.thread_time()
    read(text)
    return time.thread_time() - before


def test_a_long_run_of_spaces_within_brackets() -> None:
    """Found by an attacker: 59,000 spaces took three seconds."""
    text = "<a" + " " * 59_000 + ">"

    assert mailboxes(text) == []
    assert seconds(mailboxes, text) < 0.5


def test_what_is_too_long_between_brackets_is_no_address() -> None:
    assert mailboxes("<" + " " * 50 + "a@b.c>") == mailboxes("a@b.c")
    assert mailboxes("<" + " " * 500 + "a@b.c>, d@e.f") == mailboxes("d@e.f")
    assert mailboxes("<" + "@one.example," * 20 + "@two.example:a@b.c>") == mailboxes("a@b.c")
