"""Regular expressions that are compiled when they are first used.

Those that judge reports and replies are long: to compile them all took a seventh of the time that a process needs to
start (50 of 350 ms), and most processes never meet a mail that needs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["LatePattern"]


class LatePattern:
    """A regular expression, with those methods of a compiled one that are used here.

    Its errors come late as well: each is used by a test.
    """

    __slots__ = ("_compiled", "_flags", "_text")

    def __init__(self, text: str, flags: int = 0) -> None:
        self._text = text
        self._flags = flags
        self._compiled: re.Pattern[str] | None = None

    def _pattern(self) -> re.Pattern[str]:
        # Two threads may both compile it, with the same result.
        if self._compiled is None:
            self._compiled = re.compile(self._text, self._flags)
        return self._compiled

    def search(self, text: str) -> re.Match[str] | None:
        return self._pattern().search(text)

    def match(self, text: str) -> re.Match[str] | None:
        return self._pattern().match(text)

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        return self._pattern().finditer(text)

    def sub(self, replacement: str, text: str) -> str:
        return self._pattern().sub(replacement, text)
