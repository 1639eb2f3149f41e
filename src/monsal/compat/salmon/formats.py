"""A format of the ancestor: text and captures are regular expressions, and the whole address must match (R1)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from monsal.errors import RouteError
from monsal.routing import Pattern, is_matchable, literal_runs, parse_regex

__all__ = ["Format"]

_CAPTURE = re.compile(r"\((\w+)\)")


class Format:
    """A finished format. `regex` is compiled from its text; `pattern` is the same for a table of the engine.

    Raises RouteError if the text is no regular expression (rule routing.B21).
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            # Grouped before it is closed: `a|b` does not leak out, and a newline is no end (rule routing.B9).
            self.regex = re.compile(f"(?:{text})\\Z", re.IGNORECASE)
        except re.error as error:
            raise RouteError(f"{text!r} is no regular expression: {error}") from error
        self.pattern = Pattern(text, self.regex.pattern, _runs(text), frozenset(self.regex.groupindex), is_regex=True)

    def __repr__(self) -> str:
        return f"Format({self.text!r})"

    def match(self, address: str) -> re.Match[str] | None:
        """The match of the whole address."""
        return self.regex.match(address) if is_matchable(address) else None

    def captures(self, address: str) -> dict[str, str | None] | None:
        """The named groups if the whole address matches, else None."""
        found = self.match(address)
        return None if found is None else found.groupdict()

    @staticmethod
    def finish(text: str, captures: Mapping[str, str]) -> str:
        """Put captures into a format, each `(name)` once and not into one another (rule routing.B9), and anchor it.

        Parentheses that name no capture stay what they are in an expression.
        """

        def group(found: re.Match[str]) -> str:
            name = found[1]
            return f"(?P<{name}>{captures[name]})" if name in captures else found[0]

        return f"^{_CAPTURE.sub(group, text)}$"


def _runs(text: str) -> tuple[str | None, ...]:
    """The literal text that every match contains, for the index of a table; none for what it cannot read."""
    body = text.removeprefix("^")
    if body.endswith("$") and not body.endswith("\\$"):
        body = body[:-1]
    try:
        return literal_runs(parse_regex(body)[0])
    except RouteError:
        return (None,)
