"""The stored form of texts: every Python text has one, no two have the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.store.engine.text import load_text, load_text_or_none, store_text, store_text_or_none, store_time

#: All of Unicode, lone surrogates and the mark itself more often than chance would have them.
ANY = st.text(st.one_of(st.characters(), st.sampled_from("\ud800\udfff\U0010ffff0dc\x00")))


@pytest.mark.rule("state.R2", "state.R3")
@given(ANY)
@settings(deadline=None, max_examples=200)
def test_what_was_stored_comes_back(text: str) -> None:
    stored = store_text(text)
    stored.encode("utf-8")
    assert load_text(stored) == text


@pytest.mark.rule("state.R3")
@given(ANY, ANY)
@settings(deadline=None, max_examples=200)
def test_two_texts_never_become_one(one: str, two: str) -> None:
    assert (store_text(one) == store_text(two)) == (one == two)


def test_ordinary_text_is_stored_as_it_is() -> None:
    for text in ("", "ann@example.net", "Zoë", "🐟", "a\nb\x00"):
        assert store_text(text) == text


def test_none_stays_none() -> None:
    assert store_text_or_none(None) is None
    assert load_text_or_none(None) is None
    assert load_text_or_none(store_text_or_none("\ud800")) == "\ud800"


def test_a_time_is_a_number() -> None:
    assert store_time(5) == 5.0
    with pytest.raises(ValueError, match="not a number"):
        store_time(math.nan)
