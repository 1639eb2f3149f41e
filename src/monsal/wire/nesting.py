"""How deep a JSON text is nested, before anything is made of it (rpc.B7)."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_too_deep"]

# An open end, so that it is linear for any bytes.
_STRING: Final = re.compile(rb'"[^"]*+"?')
_NO_BRACKETS: Final = bytes(octet for octet in range(256) if octet not in b'[]{}"')
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")


def is_too_deep(text: bytes, depth: int) -> bool:
    """Whether lists and objects are more than `depth` within each other, or do not balance.

    A text with few brackets is not looked at: whether they balance is then for the parser.
    """
    if len(text) <= 2 * depth:
        return False
    if text.count(b"[") + text.count(b"{") <= depth:
        return False
    # What can be done by replacing is done first: a megabyte of short strings takes 3 ms so, and 25 with the pattern.
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side have nothing between them, inside a string or outside.
    brackets = text.translate(_ONE_KIND, _NO_BRACKETS).replace(b'""', b"")
    if b'"' in brackets:
        brackets = _STRING.sub(b"", brackets)
    if b"[" * (depth + 1) in brackets:
        return True
    for _ in range(depth):  # each round takes the innermost level away
        before = len(brackets)
        brackets = brackets.replace(b"[]", b"")
        if len(brackets) == before:
            break
    return bool(brackets)
