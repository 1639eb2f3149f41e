"""What somebody wrote anew, in the languages and clients of `reply_samples.py`."""

from __future__ import annotations

import pytest
import reply_samples

from monsal.mail import Message
from monsal.mail.replytext import reply_from_html, reply_text

TEXT = "My answer.\n\nSecond line."


@pytest.mark.parametrize("introduction", reply_samples.INTRODUCTIONS)
def test_introductions_go_with_their_quotation(introduction: str) -> None:
    words = introduction.partition(" ")[2]

    assert reply_text(f"{TEXT}\n\n{words}\n\n> old\n> text\n") == TEXT
    assert reply_text(f"{TEXT}\n{words}\n> old\n\nBelow.\n") == f"{TEXT}\n\nBelow."


@pytest.mark.parametrize("introduction", [text for text in reply_samples.INTRODUCTIONS if "\n" not in text])
def test_introductions_of_known_languages_need_no_marks_below(introduction: str) -> None:
    assert reply_text(f"{TEXT}\n\n{introduction.partition(' ')[2]}\n\nold text\n") == TEXT


@pytest.mark.parametrize("separator", reply_samples.SEPARATORS)
def test_separators_end_the_text(separator: str) -> None:
    assert reply_text(f"{TEXT}\n\n{separator.partition(' ')[2]}\n\nold text\n") == TEXT


@pytest.mark.parametrize("line", reply_samples.PHONES)
def test_lines_of_telephones_go(line: str) -> None:
    assert reply_text(f"{TEXT}\n\n{line}\n") == TEXT
    assert reply_text(f"{TEXT}\n\n{line}\n\nOn 21.11.2025 10:00, Alice wrote:\n> old\n") == TEXT


@pytest.mark.parametrize("line", reply_samples.OUR_LINES)
def test_our_own_lines_end_the_text(line: str) -> None:
    assert reply_text(f"{TEXT}\n\nAm 21.11.2025 10:00 schrieb Desk <desk@example.com>:\n{line}\n\nold\n") == TEXT
    assert reply_text(f"{TEXT}\n\n> {line}\n> old\n") == TEXT


def test_a_line_of_the_application() -> None:
    text = "yes\n\nR, 21. nov 2025 kell 10:00 kirjutas Desk:\n[#desk# answer over this]\nold\n"

    assert reply_text(text, delimiter="[#desk#") == "yes"


@pytest.mark.parametrize(("name", "text", "kept"), reply_samples.KEPT, ids=[case[0] for case in reply_samples.KEPT])
def test_parts(name: str, text: str, kept: str) -> None:
    assert reply_text(text, sender_name="Alice Example") == kept


@pytest.mark.parametrize("text", reply_samples.PROSE)
def test_prose_is_kept(text: str) -> None:
    assert reply_text(text, sender_name="Alice Example") == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("> nothing new", ""),
        ("", ""),
        ("\n\n answer  \n\n", " answer"),
        ("On 21.11.2025 Alice wrote:\nold without marks", ""),
    ],
)
def test_edges(text: str, kept: str) -> None:
    assert reply_text(text) == kept


def test_quotations_that_are_answered_one_by_one_may_be_kept() -> None:
    text = "On 21.11.2025 10:00, Bob wrote:\n> Pears?\nyes, two\n> Apples?\nno\n> Regards\n"

    assert reply_text(text) == "yes, two\nno"
    assert reply_text(text, inline_quotes=True) == "> Pears?\nyes, two\n> Apples?\nno"
    assert reply_text("> old\nnew\n", inline_quotes=True) == "new"


@pytest.mark.parametrize(("name", "markup"), reply_samples.MARKUP, ids=[case[0] for case in reply_samples.MARKUP])
def test_clients_mark_in_html_what_they_quote(name: str, markup: str) -> None:
    assert reply_from_html(markup) == "Two pears"
    assert reply_from_html(f"<html><head><style>x</style></head><body>{markup}</body></html>") == "Two pears"


def test_answers_between_quotations_in_html() -> None:
    markup = (
        '<div class="gmail_quote"><div class="gmail_attr">Bob:</div><blockquote class="gmail_quote">Pears?</blockquote>'
        '<div>yes</div><blockquote class="gmail_quote">Apples?</blockquote><div>no</div></div>'
    )

    assert reply_from_html(markup) == "yes\n\nno"


def mail(plain: str, markup: str) -> Message:
    raw = (
        "From: Alice <alice@example.org>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/alternative; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{plain}\r\n"
        f"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{markup}\r\n--b--\r\n"
    )
    return Message(raw=raw.encode(), recipient="desk@example.com", correspondent="alice@example.org")


def test_the_plain_text_counts() -> None:
    message = mail(
        "Two pears\n\nOn 21.11.2025 10:00, Bob wrote:\n> old", "<b>Two</b> pears<blockquote>old</blockquote>"
    )

    assert message.reply_text == "Two pears"


def test_html_says_what_is_quoted_where_plain_text_does_not() -> None:
    """A client that marks nothing in plain text, in a language that is not known."""
    message = mail("Two pears\n\nSaatja: Bob\nvana", '<p>Two pears</p><div id="divRplyFwdMsg">Saatja: Bob</div>vana')

    assert message.reply_text == "Two pears"


def test_the_name_of_the_sender_is_a_signature() -> None:
    assert mail("Two pears\n\n-- Alice", "").reply_text == "Two pears"
    assert mail("Two pears\n\n- Apples", "").reply_text == "Two pears\n\n- Apples"
