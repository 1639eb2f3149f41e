"""Dates of mail (RFC 5322, section 3.3): written in UTC, read as living systems write them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

__all__ = ["format_date", "parse_date"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}

# Day, month, year, time and zone, wherever they stand; day of the week and comments are skipped.
_DATE = re.compile(
    r"\b(\d{1,2})[ \-]+([A-Za-z]{3})[A-Za-z]*\.?,?[ \-]+(\d{2,4})[ ,]+(\d{1,2})[:.](\d{2})(?:[:.](\d{2})(?:\.\d+)?)?"
    r"(?:\s*(?:UTC|GMT)?([+-]\d{4}|[+-]\d{2}:\d{2})|\s+([A-Za-z]{1,5})\b)?"
)
# RFC 5322 section 4.3. Of other names of zones nobody knows what they meant: they count as UTC.
_ZONES = {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}


def format_date(seconds: float) -> str:
    """A time in epoch seconds as the value of a Date field, in UTC."""
    return _format_second(int(seconds // 1))


@lru_cache(maxsize=16)  # a busy server writes many mails a second
def _format_second(seconds: int) -> str:
    t = time.gmtime(seconds)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"
    )


def parse_date(value: str) -> datetime | None:
    """The aware time that a Date field names, or None if it names none. Never raises."""
    match = _DATE.search(value[:300])
    if match is None:
        return None
    day, month_name, year, hour, minute, second, offset, zone = match.groups()
    month = _MONTH_NUMBERS.get(month_name.lower())
    if month is None:
        return None
    number = int(year)
    if len(year) < 4:
        # RFC 5322 section 4.3, Obsolete Date and Time.
        number += 2000 if len(year) == 2 and number < 50 else 1900
    try:
        # A leap second has no place in datetime; the second before it is near enough.
        when = datetime(number, month, int(day), int(hour), int(minute), min(int(second or 0), 59), tzinfo=UTC)
        return when.replace(tzinfo=_zone(offset, zone))
    except (ValueError, OverflowError):
        return None


def _zone(offset: str | None, zone: str | None) -> timezone:
    if offset is None:
        return timezone(timedelta(hours=_ZONES.get((zone or "").upper(), 0)))
    digits = offset[1:].replace(":", "")
    delta = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-delta if offset[0] == "-" else delta)
