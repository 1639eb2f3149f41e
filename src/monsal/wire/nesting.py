"""How deep a JSON text is nested, before anything is made of it (rpc.B7)."""

from __future__ import annotations

import re
from itertools import accumulate
from operator import add
from typing import Final

__all__ = ["is_too_deep"]

# An open end, so that it is linear for any bytes.
_STRING: Final = re.compile(rb'"[^"]*+"?')
_NO_BRACKETS: Final = bytes(octet for octet in range(256) if octet not in b'[]{}"')
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_BEGINNING: Final = 4096
_BITS: Final = bytes.maketrans(b"[]", b"10")


def _steps(octet: int) -> list[int]:
    """How deep one is after each of the eight brackets whose bits are in an octet, the highest first."""
    return list(accumulate(1 if octet >> bit & 1 else -1 for bit in range(7, -1, -1)))


#: For each such octet: where one is at its end, as a signed octet, and how high one was on the way.
_CHANGE: Final = bytes(_steps(octet)[-1] % 256 for octet in range(256))
_PEAK: Final = bytes(max(0, *_steps(octet)) for octet in range(256))


def is_too_deep(text: bytes, depth: int) -> bool:
    """Whether lists and objects are more than `depth` within each other. Whether they balance is for the parser."""
    if len(text) <= 2 * depth:
        return False
    # Who nests too deep does so at once, as a rule, and is not to have a megabyte looked at.
    if len(text) > 4 * _BEGINNING and _is_too_deep(text[:_BEGINNING], depth):
        return True
    return text.count(b"[") + text.count(b"{") > depth and _is_too_deep(text, depth)


def _is_too_deep(text: bytes, depth: int) -> bool:
    # What can be done by replacing is done first: a megabyte of short strings takes 3 ms so, and 25 with the pattern.
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side have nothing between them, inside a string or outside.
    brackets = text.translate(_ONE_KIND, _NO_BRACKETS).replace(b'""', b"")
    if b'"' in brackets:
        brackets = _STRING.sub(b"", brackets)
    if b"[" * (depth + 1) in brackets:
        return True
    # Each round takes the innermost level away: as long as that is most of what is there, nothing is faster.
    for _ in range(depth):
        before = len(brackets)
        brackets = brackets.replace(b"[]", b"")
        depth -= 1
        if 2 * len(brackets) > before:
            break
    return bool(brackets) and _peak(brackets) > depth


def _peak(brackets: bytes) -> int:
    """How deep brackets are within each other, eight of them at a time: a megabyte of them takes 10 ms."""
    eights = int(brackets.translate(_BITS) + b"0" * (-len(brackets) % 8), 2).to_bytes((len(brackets) + 7) // 8, "big")
    starts = accumulate(memoryview(eights.translate(_CHANGE)).cast("b"), initial=0)
    peak: int = max(map(add, starts, eights.translate(_PEAK)))
    return peak
