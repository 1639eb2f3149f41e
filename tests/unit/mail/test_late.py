"""A late pattern does what a compiled one does, and is compiled once, when it is first used."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from monsal.mail import LatePattern

TEXT = "Delivered to anna@example.com, not to BOB@example.org"


@pytest.mark.parametrize("flags", [0, re.IGNORECASE])
def test_it_finds_what_a_compiled_one_finds(flags: int) -> None:
    for expression in (r"[a-z]+@", "delivered", "x"):
        late, known = LatePattern(expression, flags), re.compile(expression, flags)
        for found, expected in ((late.search(TEXT), known.search(TEXT)), (late.match(TEXT), known.match(TEXT))):
            assert (found and found.span()) == (expected and expected.span())
        assert [match.span() for match in late.finditer(TEXT)] == [match.span() for match in known.finditer(TEXT)]
        assert late.sub("-", TEXT) == known.sub("-", TEXT)


def test_a_wrong_expression_is_told_when_it_is_used() -> None:
    late = LatePattern("(")
    with pytest.raises(re.error):
        late.search(TEXT)


@pytest.mark.parametrize("name", ["dsntext", "dsnstatus", "replytext"])
def test_all_of_the_house_are_expressions(name: str) -> None:
    """So that none is wrong unnoticed in a branch that no test takes."""
    found = []
    for value in vars(import_module(f"monsal.mail.{name}")).values():
        flat = [one for pair in value for one in pair] if name == "dsnstatus" and _is_table(value) else [value]
        found += [one for one in flat if isinstance(one, LatePattern)]
    assert found
    for pattern in found:
        pattern.search("")


def _is_table(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(pair, tuple) for pair in value)
