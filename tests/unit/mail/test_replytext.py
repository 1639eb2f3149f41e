"""What somebody wrote anew."""

from __future__ import annotations

import pytest

from monsal.mail.replytext import reply_text

TEXT = "My answer.\n\nSecond line."


@pytest.mark.parametrize(
    "introduction",
    [
        "On Fri, Nov 21, 2025 at 10:00 AM Alice <alice@example.org> wrote:",
        "On Fri, Nov 21, 2025 at 10:00 AM Alice\n<alice@example.org> wrote:",
        "Am 21.11.2025 um 10:00 schrieb Alice:",
        "Am Fr., 21. Nov. 2025 um 10:00 Uhr schrieb Alice <\nalice@example.org>:",
        "Le ven. 21 nov. 2025 à 10:00, Alice <alice@example.org> a écrit :",
        "El vie, 21 nov 2025 a las 10:00, Alice (<alice@example.org>) escribió:",
        "Il giorno ven 21 nov 2025 alle ore 10:00 Alice <alice@example.org> ha scritto:",
        "Em sex., 21 de nov. de 2025 às 10:00, Alice <alice@example.org> escreveu:",
        "Op vr 21 nov 2025 om 10:00 schreef Alice <alice@example.org>:",
        "Den fre 21 nov. 2025 kl 10:00 skrev Alice <alice@example.org>:",
        "pt., 21 lis 2025 o 10:00 Alice <alice@example.org> napisał(a):",
        "pá 21. 11. 2025 v 10:00 odesílatel Alice <alice@example.org> napsal:",
        "21.11.2025 10:00, Alice пишет:",
        "пт, 21 нояб. 2025 г. в 10:00, Alice <alice@example.org>:",
        "在 2025年11月21日，10:00，Alice <alice@example.org> 写道：",
        "2025年11月21日(金) 10:00 Alice <alice@example.org>:",
        "Alice <alice@example.org> wrote:",
    ],
)
def test_introductions_go_with_their_quotation(introduction: str) -> None:
    assert reply_text(f"{TEXT}\n\n{introduction}\n\n> old\n> text\n") == TEXT


@pytest.mark.parametrize(
    "separator",
    [
        "-----Original Message-----\nFrom: x",
        "-----Ursprüngliche Nachricht-----\nVon: x",
        "---------- Forwarded message ---------\nFrom: x",
        "________________________________\nFrom: Alice <a@b.c>\nSent: Friday\nTo: Bob\nSubject: x",
        "Von: Alice <a@b.c>\nGesendet: Freitag\nAn: Bob\nBetreff: x",
        "De : Alice <a@b.c>\nEnvoyé : vendredi\nÀ : Bob\nObjet : x",
        "*From:* Alice\n*Sent:* Friday\n*To:* Bob",
    ],
)
def test_separators_end_the_text(separator: str) -> None:
    assert reply_text(f"{TEXT}\n\n{separator}\n\nold text\n") == TEXT


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("answer\n-- \nAlice\n", "answer"),
        ("answer\n--\nAlice\n", "answer"),
        ("answer\n\nSent from my iPhone\n", "answer"),
        ("answer\n\nVon meinem iPhone gesendet\n", "answer"),
        ("> question one\nanswer one\n> question two\nanswer two", "answer one\nanswer two"),
        ("On 21.11.2025 Alice wrote:\n> old\n\nanswer below", "answer below"),
        ("On 21.11.2025 Alice wrote:\nold without marks", ""),
        ("> nothing new", ""),
        ("", ""),
        ("\n\n answer  \n\n", " answer"),
    ],
)
def test_signatures_and_quotations(text: str, kept: str) -> None:
    assert reply_text(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "On the whole, as the poet wrote:\nall is well.",
        "From: here\nwe go on.",
        "I sent from my side what I had.",
        "Two -- or three -- of them.\n---\nEnd",
        "The agenda:\n1. On time\n2. To do: nothing",
    ],
)
def test_prose_is_kept(text: str) -> None:
    assert reply_text(text) == text
