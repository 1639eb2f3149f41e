"""What a call is given, as it is typed in a shell: KEY=VALUE, KEY=@FILE, or all of it as JSON from standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from monsal.errors import UsageError

__all__ = ["arguments_of", "value_of"]


def arguments_of(words: Sequence[str], *, positional: bool = False) -> dict[str, Any] | list[Any]:
    """The parameters that `words` mean: by name, or with `positional` in their order.

    Raises UsageError for what means none.
    """
    if tuple(words) == ("-",):
        return _from_standard_input()
    if positional:
        return [value_of(word) for word in words]
    found: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key:
            raise UsageError(f"a parameter is KEY=VALUE, not {word!r}; see --positional for those without a name")
        if key in found:
            raise UsageError(f"the parameter {key} is given twice")
        found[key] = value_of(text)
    return found


def value_of(text: str) -> Any:
    """One value: JSON if it can be read as that, the text of a file after @, otherwise the text itself.

    Raises UsageError if there is no such file, or what was typed is no text.
    """
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{text}: {error.strerror or error} (text that begins with @ is written as JSON)"
            ) from None
        except UnicodeDecodeError:
            raise UsageError(f"{text}: the file is no text in UTF-8") from None
    try:
        octets = text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is no text in UTF-8") from None
    try:
        return msgspec.json.decode(octets)
    except (msgspec.DecodeError, RecursionError):
        return text


def _from_standard_input() -> dict[str, Any] | list[Any]:
    try:
        found = msgspec.json.decode(sys.stdin.buffer.read())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"standard input is no JSON: {error}") from None
    if not isinstance(found, dict | list):
        raise UsageError("standard input is no object and no list; parameters are one of them")
    return found
