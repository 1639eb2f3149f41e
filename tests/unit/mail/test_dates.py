"""Dates of mail."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.mail.dates import format_date, parse_date


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        ("Fri, 21 Nov 2025 10:00:00 +0000", "2025-11-21T10:00:00+00:00"),
        ("21 Nov 2025 10:00 -0530", "2025-11-21T10:00:00-05:30"),
        ("Fri, 21 Nov 2025 10:00:00 GMT", "2025-11-21T10:00:00+00:00"),
        ("Fri, 21 Nov 2025 10:00:00 EST", "2025-11-21T10:00:00-05:00"),
        ("Fri, 21 Nov 2025 10:00:00", "2025-11-21T10:00:00+00:00"),
        ("Fri, 21 Nov 2025 10:00:00 +0100 (CET)", "2025-11-21T10:00:00+01:00"),
        ("Fri, 21 November 2025 10.00.00 +0000", "2025-11-21T10:00:00+00:00"),
        ("Fri 21-Nov-25 10:00:00 GMT+0100", "2025-11-21T10:00:00+01:00"),
        ("Sat, 31 Dec 2016 23:59:60 +0000", "2016-12-31T23:59:59+00:00"),
        ("21 Nov 99 10:00:00 UT", "1999-11-21T10:00:00+00:00"),
    ],
)
def test_dates_of_living_systems(value: str, iso: str) -> None:
    found = parse_date(value)

    assert found is not None
    assert found.isoformat() == iso


@pytest.mark.parametrize(
    "value", ["", "yesterday", "31 Feb 2025 10:00:00 +0000", "1 Foo 2025 10:00", "1 Nov 2025 25:00"]
)
def test_what_is_no_date(value: str) -> None:
    assert parse_date(value) is None


def test_an_impossible_offset_is_no_date() -> None:
    assert parse_date("21 Nov 2025 10:00:00 +9900") is None


@settings(deadline=None, max_examples=100)
@given(seconds=st.floats(0, 4e9))
def test_what_is_written_is_read(seconds: float) -> None:
    value = format_date(seconds)

    assert parsedate_to_datetime(value).timestamp() == int(seconds)
    found = parse_date(value)
    assert found is not None
    assert found.timestamp() == int(seconds)
