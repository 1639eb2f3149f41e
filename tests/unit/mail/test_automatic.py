"""Which mail gets no automatic answer (DESIGN 4, Loops; RFC 3834)."""

from __future__ import annotations

import re._parser as re_parser  # type: ignore[import-not-found]
from collections.abc import Iterable
from typing import Any

import pytest

from monsal.mail.automatic import _BEGINNINGS, _SUBJECT, automatic_reason, bounce_reason, own_hops
from monsal.mail.header import scan


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("Auto-Submitted: auto-replied", "Auto-Submitted: auto-replied"),
        ("Auto-Submitted: auto-generated; owner-email=x", "Auto-Submitted: auto-generated"),
        ("Precedence: bulk", "Precedence: bulk"),
        ("Precedence: LIST", "Precedence: list"),
        ("Precedence: junk", "Precedence: junk"),
        ("Precedence: auto_reply", "Precedence: auto_reply"),
        ("List-Id: <x.y>", "List-Id"),
        ("List-Unsubscribe: <mailto:x@y>", "List-Unsubscribe"),
        ("X-Autoreply: yes", "X-Autoreply"),
        ("X-Autorespond: x", "X-Autorespond"),
        ("X-Loop: monsal", "X-Loop"),
        ("X-Auto-Response-Suppress: DR, OOF, AutoReply", "X-Auto-Response-Suppress: DR, OOF, AutoReply"),
        ("X-Auto-Response-Suppress: All", "X-Auto-Response-Suppress: All"),
        ("Content-Type: multipart/report; report-type=disposition-notification; boundary=x",
         "Content-Type: multipart/report (receipt)"),
        ("Content-Type: multipart/report; boundary=x", "Content-Type: multipart/report (report)"),
        ('Content-Type: multipart/report; report-type="delivery-status"; boundary=x',
         "Content-Type: multipart/report (delivery report)"),
        ("X-Failed-Recipients: x@y", "X-Failed-Recipients"),
        ("X-FC-MachineGenerated: true", "X-FC-MachineGenerated: true"),
        ("X-Post-MessageClass: 9; Autoresponder", "X-Post-MessageClass: 9; Autoresponder"),
        ("Delivered-To: Autoresponder", "Delivered-To: Autoresponder"),
        ("X-Mailer: vacation 1.2", "X-Mailer: vacation 1.2"),
        ("Subject: Automatic reply: your order", "Subject: Automatic reply: your order"),
        ("Subject: Out of Office", "Subject: Out of Office"),
        ("Subject: AUTO: Jane is out of the office (back 1 May)",
         "Subject: AUTO: Jane is out of the office (back 1 May)"),
    ],
)  # fmt: skip
def test_a_header_that_says_so(header: str, reason: str) -> None:
    raw = f"From: a@b.c\r\n{header}\r\n\r\n".encode()

    assert automatic_reason(scan(raw), "a@b.c") == reason


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: no",
        "Auto-Submitted: No (typed by hand)",
        "Precedence: first-class",
        "X-Auto-Response-Suppress: DR",
        "Content-Type: multipart/alternative; boundary=report-type",
        "X-Priority: 1",
        "X-FC-MachineGenerated: false",
        "Delivered-To: desk@example.com",
        "X-Mailer: Thunderbird",
        "Subject: Out of office chairs we are",
        "Subject: Re: Automatic reply: your order",
        "Subject: Auto: Reifen",
        "Subject: Absence: three days",
        "Feedback-ID: 1:2:3:x",
        "X-Monsal-Hops: 1",
    ],
)
def test_a_person(header: str) -> None:
    raw = f"From: a@b.c\r\n{header}\r\n\r\n".encode()

    assert automatic_reason(scan(raw), "a@b.c") is None
    assert automatic_reason(scan(raw), None) is None


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        ("", "null envelope sender"),
        ("MAILER-DAEMON@x.y", "envelope sender MAILER-DAEMON@x.y"),
        ("list-request@x.y", "envelope sender list-request@x.y"),
        ("owner-list@x.y", "envelope sender owner-list@x.y"),
    ],
)
def test_an_envelope_sender_that_wants_no_answer(sender: str, reason: str) -> None:
    assert automatic_reason(scan(b"From: a@b.c\r\n\r\n"), sender) == reason


def test_the_daemon_in_from() -> None:
    found = scan(b"From: Mail Delivery System <Mailer-Daemon@x.y>\r\n\r\n")

    assert bounce_reason(found, "x@y.z") == "From: mailer-daemon@x.y"


def test_a_vacation_notice_is_no_bounce() -> None:
    found = scan(b"From: a@b.c\r\nAuto-Submitted: auto-replied\r\n\r\n")

    assert bounce_reason(found, "a@b.c") is None
    assert automatic_reason(found, "a@b.c") is not None


@pytest.mark.parametrize(
    "subject",
    [
        "Out of office: order",
        "Abwesenheitsnotiz: Bestellung",
        "Réponse automatique : commande",
        "Respuesta automática: pedido",
        "Risposta automatica: ordine",
        "Resposta automática: pedido",
        "Automatisch antwoord: bestelling",
        "Autosvar: bestilling",
        "Automaattinen vastaus: tilaus",
        "Odpowiedź automatyczna: zamówienie",
        "Automatická odpověď: objednávka",
        "Автоматический ответ: заказ",
        "Automatikus válasz: rendelés",
        "自動応答: 注文",
        "自动答复: 订单",
        "=?utf-8?q?Automatische_Antwort=3A_Gr=C3=BC=C3=9Fe?=",
    ],
)
def test_subjects_of_responders(subject: str) -> None:
    raw = f"From: a@b.c\r\nSubject: {subject}\r\n\r\n".encode()

    assert (automatic_reason(scan(raw), "a@b.c") or "").startswith("Subject: ")


@pytest.mark.parametrize(
    ("address", "nobody"),
    [
        ("noreply@b.c", True),
        ("no-reply+x@b.c", True),
        ("do_not_reply@b.c", True),
        ("orders-noreply@b.c", True),
        ("autoresponder@b.c", True),
        ("norman@b.c", False),
        ("reply@b.c", False),
        ("nobody.smith@b.c", False),
    ],
)
def test_addresses_that_nobody_reads(address: str, nobody: bool) -> None:
    raw = f"From: {address}\r\n\r\n".encode()

    assert automatic_reason(scan(raw), "a@b.c") == (f"From: {address}" if nobody else None)


@pytest.mark.parametrize(("value", "hops"), [("1", 1), (" 12 ", 12), ("-1", 0), ("x", 0), ("9999999", 0), ("²", 0)])
def test_own_hops(value: str, hops: int) -> None:
    assert own_hops(scan(f"X-Monsal-Hops: {value}\r\n\r\n".encode())) == hops


def beginnings(items: Iterable[tuple[Any, Any]]) -> set[str]:
    """The first two characters that a parsed pattern can match, or one that is all of it; of optional ones also what
    follows them."""
    found = {""}
    for kind, value in items:
        if all(len(begin) == 2 for begin in found):
            break
        name = str(kind)
        if name == "LITERAL":
            more = {chr(value)}
        elif name == "IN":
            more = {chr(each) for _, each in value}
        elif name == "SUBPATTERN":
            more = beginnings(value[-1])
        elif name == "BRANCH":
            more = set().union(*map(beginnings, value[1]))
        else:
            assert name == "MAX_REPEAT", f"{name} stands within the first two characters"
            more = beginnings(value[2]) | {""}
        found = {begin if len(begin) == 2 else (begin + each)[:2] for begin in found for each in more}
    return found


def test_the_beginnings_that_are_tried_are_those_of_the_pattern() -> None:
    possible = beginnings(re_parser.parse(_SUBJECT.pattern, _SUBJECT.flags))
    assert {begin.lower() for begin in possible if begin.isascii()} == _BEGINNINGS
