"""Reading and writing mail: `python reading.py CONTESTANT WHAT SECONDS`, run by `../suites/mail.py`.

It runs in salmon's environment, too, so it needs the standard library only and is called by its path. WHAT is one of
`MAILS` or of `REPLIES`. Its last line on standard output is a JSON object: CPU microseconds by task.
"""

from __future__ import annotations

import base64
import email
import email.header
import email.message
import email.parser
import email.policy
import email.utils
import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

__all__ = ["MAILS", "REPLIES", "WAYS", "main", "make_mail"]

#: A task by its name.
Tasks = Mapping[str, Callable[[], Any]]

RECIPIENT = "orders@example.com"
_TRACE = """Return-Path: <alice@example.org>
Received: from mx{k}.example.org (mx{k}.example.org [192.0.2.10])
\tby mail.example.com with ESMTPS id 4XyZ{k} for <orders@example.com>;
\tFri, 21 Nov 2025 10:00:01 +0000 (UTC)
"""
_HEADER = """Authentication-Results: mail.example.com; dkim=pass header.d=example.org; dmarc=pass
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=mail;
\th=from:to:subject:date:message-id; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;
\tb=dzdVyOfAKCdLXdJOc9G2q8LoXSlEniSbav+yuU4zGeeruD00lszZVoG4ZHRNiYzR4vWj2YYpXv8
From: "Alice =?utf-8?q?Ex=C3=A4mple?=" <Alice@Example.org>
To: Orders <orders@example.com>, "B, C" <bc@example.com>
Subject: =?utf-8?b?UsO8Y2tmcmFnZQ==?= =?iso-8859-1?q?_zu_n=B0_1?=
Date: Fri, 21 Nov 2025 10:00:00 +0000
Message-ID: <0123456789abcdef@mail.example.org>
In-Reply-To: <b+token@example.com>
References: <a@example.com>
 <b+token@example.com>
MIME-Version: 1.0
"""
_SENTENCE = "We opened the parcel this morning and the keyboard is missing; could you send it before Friday?\n"


def _text(size: int) -> str:
    return _SENTENCE * (size // len(_SENTENCE)) + _SENTENCE[: size % len(_SENTENCE)].rstrip() + "\n"


def _plain(size: int) -> str:
    return "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + _text(size)


def _with_file(size: int) -> str:
    """Text and HTML, and a file that makes the mail about `size` long."""
    data = base64.encodebytes(random.Random(7).randbytes(size * 3 // 4)).decode()
    html = f"Content-Type: text/html; charset=utf-8\n\n<p>{_text(1500)}</p>\n"
    return (
        'Content-Type: multipart/mixed; boundary="outer"\n\n--outer\n'
        'Content-Type: multipart/alternative; boundary="inner"\n\n'
        f"--inner\n{_plain(1000)}\n--inner\n{html}--inner--\n--outer\n"
        'Content-Type: application/pdf; name="order.pdf"\nContent-Transfer-Encoding: base64\n'
        f'Content-Disposition: attachment; filename="order.pdf"\n\n{data}--outer--\n'
    )


def _nasty() -> str:
    """Fifty fields that are broken in some way, and twenty multiparts in one another."""
    fields = "".join(f"X-Broken-{k}: =?utf-8?q?=ZZ{k}?= =?x-none?b?@@?= (open <{k}@ ,,; a=b\n" for k in range(50))
    nested = "".join(
        f'Content-Type: multipart/mixed; boundary="b{k}"\n\n--b{k}\nContent-Type: text/plain\n\nx\n--b{k}\n'
        for k in range(20)
    )
    return fields + nested + "Content-Type: text/plain; charset=x-none\n\ndeep down\n"


MAILS: dict[str, Callable[[], str]] = {
    "1 kB": lambda: _plain(1_000),
    "10 kB": lambda: _plain(10_000),
    "106 kB, a file": lambda: _with_file(100_000),
    "nasty": _nasty,
}


def make_mail(name: str) -> bytes:
    """One of `MAILS`, with CRLF as it comes by SMTP."""
    trace = "".join(_TRACE.format(k=k) for k in range(3))
    return (trace + _HEADER + MAILS[name]()).replace("\n", "\r\n").encode()


# -- reading ---------------------------------------------------------------------------------------------------------


def _ours(raw: bytes) -> Tasks:
    mail = import_module("monsal.mail")

    def header() -> Any:
        head = mail.scan(mail.first_bytes((raw,)))
        return head.received_count, head.correspondent, head.message_id

    def message() -> Any:
        return mail.Message(raw=raw, recipient=RECIPIENT, correspondent="alice@example.org")

    def text() -> Any:
        read = message()
        return read.subject, read.sender, read.text

    def whole() -> Any:
        read = message()
        return read.subject, read.sender, read.text, [file.data for file in read.attachments]

    return {"header": header, "text": text, "whole": whole}


def _decoded(value: str | None) -> str:
    return str(email.header.make_header(email.header.decode_header(value or "")))


def _leaf(part: Any) -> str:
    data = part.get_payload(decode=True) or b""
    try:
        return str(data.decode(part.get_content_charset() or "us-ascii", "replace"))
    except LookupError:
        return str(data.decode("utf-8", "replace"))


def _compat32(raw: bytes) -> Tasks:
    head = raw[: raw.index(b"\r\n\r\n") + 4]

    def header() -> Any:
        read = email.parser.BytesHeaderParser().parsebytes(head)
        return len(read.get_all("Received", ())), email.utils.parseaddr(read["From"])[1], read["Message-ID"]

    def texts(read: Any) -> Any:
        return [_leaf(part) for part in read.walk() if part.get_content_type() == "text/plain"]

    def text() -> Any:
        read = email.message_from_bytes(raw)
        return _known(read), texts(read)

    def _known(read: Any) -> Any:
        return _decode_or_keep(read["Subject"]), email.utils.parseaddr(read["From"])[1]

    def whole() -> Any:
        read = email.message_from_bytes(raw)
        files = [part.get_payload(decode=True) for part in read.walk() if part.get_filename()]
        return _known(read), texts(read), files

    return {"header": header, "text": text, "whole": whole}


def _decode_or_keep(value: str | None) -> str:
    try:
        return _decoded(value)
    except (LookupError, UnicodeError, email.errors.HeaderParseError):
        return value or ""


def _default(raw: bytes) -> Tasks:
    head = raw[: raw.index(b"\r\n\r\n") + 4]
    policy = email.policy.default

    def header() -> Any:
        read: Any = email.parser.BytesHeaderParser(policy=policy).parsebytes(head)
        return len(read.get_all("Received", ())), read["From"].addresses[0].addr_spec, str(read["Message-ID"])

    def known(read: Any) -> Any:
        return str(read["Subject"]), read["From"].addresses[0].addr_spec

    def text() -> Any:
        read: Any = email.message_from_bytes(raw, policy=policy)
        return known(read), _leaf(read.get_body(("plain", "html")))

    def whole() -> Any:
        read: Any = email.message_from_bytes(raw, policy=policy)
        files = [part.get_payload(decode=True) for part in read.walk() if part.get_filename()]
        return known(read), _leaf(read.get_body(("plain", "html"))), files

    return {"header": header, "text": text, "whole": whole}


def _salmon(raw: bytes) -> Tasks:
    request = partial(import_module("salmon.mail").MailRequest, "peer", "alice@example.org", RECIPIENT)

    def header() -> Any:
        read = request(raw)
        return len(read.base.get_all("Received")), read["From"], read["Message-ID"]

    def text() -> Any:
        read = request(raw)
        return read["Subject"], read["From"], read.body()

    def whole() -> Any:
        read = request(raw)
        return read["Subject"], read["From"], [part.body for part in read.walk()]

    return {"header": header, "text": text, "whole": whole}


# -- writing ---------------------------------------------------------------------------------------------------------

_PLAIN = _text(1_000)
_FOREIGN = "Schöne Grüße, señor Übel — für Sie geöffnet.\n" * 20


def _as_html(text: str) -> str:
    return "<html><body>" + "".join(f"<p>{line}</p>\n" for line in text.splitlines()) + "</body></html>\n"


#: Text and HTML of an answer.
REPLIES: dict[str, tuple[str, str | None]] = {
    "plain": (_PLAIN, None),
    "plain, not ASCII": (_FOREIGN, None),
    "text and HTML": (_PLAIN, _as_html(_PLAIN)),
    "text and HTML, not ASCII": (_FOREIGN, _as_html(_FOREIGN)),
}
_ID, _MOMENT = "<reply-1@example.com>", 1_763_719_200.0
_FIELDS = {
    "From": RECIPIENT,
    "To": "Alice@Example.org",
    "Subject": "Re: Rückfrage zu n° 1",
    "Message-ID": _ID,
    "In-Reply-To": "<0123456789abcdef@mail.example.org>",
    "References": "<a@example.com> <b+token@example.com> <0123456789abcdef@mail.example.org>",
    "Auto-Submitted": "auto-replied",
}


def _write_ours(text: str, html: str | None) -> Tasks:
    mail = import_module("monsal.mail")
    message = mail.Message(raw=make_mail("1 kB"), recipient=RECIPIENT, correspondent="alice@example.org")
    _ = message.header

    def write() -> Any:
        draft = mail.reply_draft(message, text=text, html=html)
        return draft.render(message_id=_ID, date=_MOMENT)

    return {"write": write}


def _fill(made: Any) -> None:
    for name, value in _FIELDS.items():
        made[name] = value
    made["Date"] = email.utils.formatdate(_MOMENT)


def _write_default(text: str, html: str | None) -> Tasks:
    def write() -> Any:
        made = email.message.EmailMessage()
        _fill(made)
        made.set_content(text)
        if html is not None:
            made.add_alternative(html, subtype="html")
        return made.as_bytes(policy=email.policy.SMTP)

    return {"write": write}


def _write_compat32(text: str, html: str | None) -> Tasks:
    def write() -> Any:
        made: Any = MIMEText(text)
        if html is not None:
            made = MIMEMultipart("alternative", _subparts=[MIMEText(text), MIMEText(html, "html")])
        _fill(made)
        return made.as_bytes()

    return {"write": write}


def _write_salmon(text: str, html: str | None) -> Tasks:
    response = import_module("salmon.mail").MailResponse

    def write() -> Any:
        made = response(To=_FIELDS["To"], From=_FIELDS["From"], Subject=_FIELDS["Subject"], Body=text, Html=html)
        for name in ("Message-ID", "In-Reply-To", "References", "Auto-Submitted"):
            made[name] = _FIELDS[name]
        made["Date"] = email.utils.formatdate(_MOMENT)
        return str(made).encode()

    return {"write": write}


#: How each reads, and how it writes.
WAYS: dict[str, tuple[Callable[[bytes], Tasks], Callable[[str, str | None], Tasks]]] = {
    "monsal": (_ours, _write_ours),
    "compat32": (_compat32, _write_compat32),
    "EmailMessage": (_default, _write_default),
    "salmon": (_salmon, _write_salmon),
}


def _time(task: Callable[[], Any], number: int) -> float:
    began = time.process_time_ns()
    for _ in range(number):
        task()
    return (time.process_time_ns() - began) / 1e3


def _measure(tasks: Tasks, seconds: float) -> dict[str, float]:
    """CPU microseconds of each, the median of many short batches; they take turns."""
    batches = {}
    for name, task in tasks.items():
        task()
        batches[name] = max(1, int(2_000 / max(_time(task, 3) / 3, 0.1)))
    samples: dict[str, list[float]] = {name: [] for name in tasks}
    until = time.monotonic() + seconds
    while True:
        for name, task in tasks.items():
            samples[name].append(_time(task, batches[name]) / batches[name])
        if time.monotonic() > until:
            return {f"{name}_us": median(found) for name, found in samples.items()}


def main(words: Sequence[str]) -> None:
    """Measure one contestant with one mail or answer."""
    contestant, what, seconds = words
    read, write = WAYS[contestant]
    tasks = read(make_mail(what)) if what in MAILS else write(*REPLIES[what])
    print(json.dumps(_measure(tasks, float(seconds))))


if __name__ == "__main__":
    main(sys.argv[1:])
