"""Names of files that strangers chose, made fit for a folder of ours."""

from __future__ import annotations

import re

from monsal.mail.charset import clean

__all__ = ["numbered", "safe_filename"]

# Signs that turn the direction of text or show nothing: they make "gpj.exe" read as "exe.jpg".
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def safe_filename(name: str) -> str:
    """A file name that stays in its folder: the last part of a path, without control or invisible characters.

    At most 200 characters, of which the extension is kept. Empty if nothing is left.
    """
    name = _INVISIBLE.sub("", clean(name)).replace("\\", "/").rpartition("/")[2]
    name = " ".join(name.split()).rstrip(". ")
    if len(name.encode("utf-8")) > 200:
        stem, dot, extension = name.rpartition(".")
        extension = f"{dot}{extension}" if dot and len(extension) <= 20 and extension.isascii() else ""
        kept = (stem if extension else name).encode("utf-8")[: 200 - len(extension)]
        name = kept.decode("utf-8", "ignore") + extension
    return name


def numbered(name: str, number: int) -> str:
    """The name with a number before its extension: `report (2).pdf`."""
    stem, dot, extension = name.rpartition(".")
    return f"{stem} ({number}).{extension}" if dot and stem else f"{name} ({number})"
