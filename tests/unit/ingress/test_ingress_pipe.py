"""One mail from a pipe, with the exit codes of sysexits.h."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from monsal.errors import StoreUnavailable
from monsal.ingress.pipe import EX_DATAERR, EX_OK, EX_TEMPFAIL, Ingested, ingest, read_mail
from monsal.smtp.replies import NO_ROUTES, TOO_MANY_HOPS, Refused


def give(
    intake: Any, body: tuple[bytes, ...] | None = (b"x",), *, to: str = "a@example.org", sender: str = ""
) -> Ingested:
    return asyncio.run(ingest(intake, body, recipients=to.split(), sender=sender))


def test_a_mail_is_taken(fake_intake: Any) -> None:
    intake = fake_intake()

    result = give(intake, (b"one", b"two"), to="a@example.org postmaster", sender="ann@example.com")

    assert result.code == EX_OK
    assert str(result.reply) == "250 2.0.0 100,101 stored"
    envelope, body = intake.mails[0]
    assert body == b"onetwo"
    assert (envelope.sender, envelope.recipients) == ("ann@example.com", ("a@example.org", "postmaster"))
    assert envelope.protocol == "LOCAL"


@pytest.mark.parametrize(
    ("to", "sender", "code"),
    [
        ("nobody@example.org", "", EX_DATAERR),
        ("a@example.org nobody@example.org", "", EX_DATAERR),
        ("a", "", EX_DATAERR),
        ("", "", EX_DATAERR),
        ("a@example.org", "ann", EX_DATAERR),
    ],
)
def test_all_recipients_or_none(fake_intake: Any, to: str, sender: str, code: int) -> None:
    intake = fake_intake()

    assert give(intake, to=to, sender=sender).code == code
    assert intake.mails == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable("disk full"), EX_TEMPFAIL),
        (RuntimeError("a bug"), EX_TEMPFAIL),
        (Refused(NO_ROUTES), EX_TEMPFAIL),
        (Refused(TOO_MANY_HOPS), EX_DATAERR),
    ],
)
def test_what_is_not_stored_is_not_acknowledged(fake_intake: Any, error: Exception, code: int) -> None:
    """P1 for a pipe: exit 0 only after the receipt."""
    intake = fake_intake()
    intake.error = error

    assert give(intake).code == code


def test_an_intake_that_breaks_when_asked(fake_intake: Any) -> None:
    intake = fake_intake()
    intake.accepts_error = RuntimeError("a bug")

    assert give(intake).code == EX_TEMPFAIL


def test_a_mail_too_big_is_not_held(fake_intake: Any) -> None:
    stream = io.BytesIO(b"x" * 1_000_000)

    assert read_mail(stream, 100_000) is None
    assert stream.tell() < 300_000
    assert give(fake_intake(), None).code == EX_DATAERR


def test_exactly_the_limit() -> None:
    body = read_mail(io.BytesIO(b"x" * 100_000), 100_000)

    assert body is not None
    assert b"".join(body) == b"x" * 100_000


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"From ann@example.com Sat Nov 21\nSubject: x\n\ny\n", b"Subject: x\n\ny\n"),
        (b"From: ann@example.com\n\ny\n", b"From: ann@example.com\n\ny\n"),
        (b"", b""),
    ],
)
def test_the_line_of_a_mailbox_is_no_part_of_the_mail(raw: bytes, body: bytes) -> None:
    read = read_mail(io.BytesIO(raw), 1000)

    assert read is not None
    assert b"".join(read) == body
