"""How deep a JSON text is nested, before anything is made of it (rpc.B7)."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_too_deep"]

# Possessive, and content with an open end, so that it is linear for any bytes.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS: Final = bytes(octet for octet in range(256) if octet not in b"[]{}")
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")


def is_too_deep(text: bytes, depth: int) -> bool:
    """Whether lists and objects are more than `depth` within each other, or do not balance.

    A text with few brackets is not looked at: whether they balance is then for the parser.
    """
    if len(text) <= 2 * depth:
        return False
    if text.count(b"[") + text.count(b"{") <= depth:
        return False
    brackets = _STRING.sub(b"", text).translate(_ONE_KIND, _NO_BRACKETS)
    if b"[" * (depth + 1) in brackets:
        return True
    for _ in range(depth):  # each round takes the innermost level away
        before = len(brackets)
        brackets = brackets.replace(b"[]", b"")
        if len(brackets) == before:
            break
    return bool(brackets)
