"""The stored form of a text, which is the text itself for all that UTF-8 can say, and of a time.

A Python text may hold lone surrogates (a header in no known encoding, an address of a hostile peer); UTF-8 cannot.
Two keys must never become one (rules state.R2, R3), so those are written as U+10FFFF and six hexadecimal digits.
U+10FFFF stands for no character (Unicode 15, section 23.7) and is itself written that way.
"""

from __future__ import annotations

import re

__all__ = ["load_text", "load_text_or_none", "store_text", "store_text_or_none", "store_time"]

_MARK = "\U0010ffff"
_UNSPEAKABLE = re.compile("[\ud800-\udfff\U0010ffff]")
_WRITTEN = re.compile(_MARK + "([0-9a-f]{6})")


def store_text(text: str) -> str:
    """The form in which `text` is kept in the database."""
    # isascii looks at a flag; nearly every address ends here.
    if text.isascii() or not _UNSPEAKABLE.search(text):
        return text
    return _UNSPEAKABLE.sub(lambda found: f"{_MARK}{ord(found[0]):06x}", text)


def load_text(stored: str) -> str:
    """The text whose stored form this is."""
    if stored.isascii() or _MARK not in stored:
        return stored
    return _WRITTEN.sub(lambda found: chr(int(found[1], 16)), stored)


def store_text_or_none(text: str | None) -> str | None:
    return None if text is None else store_text(text)


def store_time(seconds: float) -> float:
    """A time as a float. Raises ValueError for one that is no number: SQLite would make it NULL."""
    seconds = float(seconds)
    if seconds != seconds:
        raise ValueError("a time is not a number")
    return seconds


def load_text_or_none(stored: str | None) -> str | None:
    return None if stored is None else load_text(stored)
