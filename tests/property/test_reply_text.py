"""Any text and any HTML gives a reply text, in a time that grows no faster than the text."""

from __future__ import annotations

import time

import pytest
import reply_samples
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.mail import html_to_text, reply_from_html, reply_text

PIECES = st.sampled_from(
    [
        *(text.partition(" ")[2] for text in (*reply_samples.INTRODUCTIONS, *reply_samples.SEPARATORS)),
        *reply_samples.PHONES, *reply_samples.OUR_LINES, *(markup for _, markup in reply_samples.MARKUP),
        "\n", "> ", ">", "-- ", "--", ":", "<", "<a@b.c>", "wrote:", "On ", "1.1.2025", "\n\n", "<div>", "</div>",
        "<blockquote>", "</blockquote>", "<span hidden>", "</span>", "<a href=http://x.y/z>", "</a>",
        "<td>", "<ol><li>",
        "<pre>", "</pre>", "<img alt='&#128512;'>", "&amp;", "\x1f", "</",
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(pieces=st.lists(PIECES | st.text(max_size=8), max_size=40))
def test_no_text_raises_and_nothing_is_made_up(pieces: list[str]) -> None:
    text = "".join(pieces)

    for inline_quotes in (False, True):
        kept = reply_text(text, sender_name="Alice", delimiter="#", inline_quotes=inline_quotes)
        assert len(kept) <= len(text)
        assert set(kept.split()) <= {word for line in text.split("\n") for word in line.split()} | set(pieces)
    reply_from_html(text).encode("utf-8", "surrogatepass")


@settings(deadline=None, max_examples=100)
@given(
    new=st.lists(st.from_regex(r"[a-z]{1,8}( [a-z]{1,8}){0,5}", fullmatch=True), min_size=1, max_size=5),
    introduction=st.sampled_from(reply_samples.INTRODUCTIONS),
    old=st.lists(st.text(st.characters(blacklist_categories=("C", "Zl", "Zp")), max_size=40), min_size=1, max_size=8),
)
def test_what_is_marked_as_quoted_is_never_in_it(new: list[str], introduction: str, old: list[str]) -> None:
    quoted = "\n".join(f"> {line}" for line in old)
    text = "\n".join(new)

    assert reply_text(f"{text}\n\n{introduction.partition(' ')[2]}\n\n{quoted}\n") == text


HOSTILE = [
    "On 1@: ", "On 1.1.2025 a@b.c wrote:\n", "From: a@b\n", "From: x\nTo: y\n", "Sent via the mail\n\n", "--\n",
    "-- a wrote ", "a:\n", "> x\ny\n", "on " * 100 + ":\n", "<a@b>:\n> q\n", "x On Mon, " * 40 + "1:\n> q\n",
    "2025年" * 80 + "\n", "w " * 240 + "<\n", "12:" * 150 + ":\n", "<p>", "<a href=http://x>y", "<b x=1>", "</a>",
    "<blockquote>", "<td>", "<div class=gmail_quote>x", "<span style='display:none'>", "<div " + "a=b " * 50 + ">",
    "<div style='" + "x:" * 500 + "'>", "<b x=1><i y=1></b>", "<a href=http://x><p></a>", "<div a='", "<i a", "&#1;",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE, ids=[piece[:16] for piece in HOSTILE])
def test_hostile_text_is_read_in_proportion_to_its_size(piece: str) -> None:
    text = (piece * (150_000 // len(piece)))[:150_000] + "</div></a></b>" * 500
    started = time.process_time()

    reply_text(text, sender_name="x", inline_quotes=True)
    html_to_text(text)
    reply_from_html(text)

    assert time.process_time() - started < 30.0  # below one second; a quadratic step takes minutes


def test_ten_thousand_nested_elements() -> None:
    deep = "<div>" * 10_000 + "x" + "<blockquote>" * 10_000 + "old" + "</div>" * 30_000 + "y"

    assert html_to_text(deep) == "x\n\n" + ">" * 20 + " old\n\ny"
    assert reply_from_html(deep) == "x\n\ny"
