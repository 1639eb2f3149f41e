"""The table's index: what it may leave out, and that it leaves out nothing else."""

from __future__ import annotations

import re
import types

import pytest

from monsal.routing import (
    Router,
    TokenIndex,
    compile_pattern,
    fold_case,
    literal,
    literal_runs,
    parse_regex,
    route,
    tokens_of,
)


def tokens(regex: str) -> set[str]:
    return tokens_of(literal_runs(parse_regex(regex)[0]))


@pytest.mark.parametrize(
    ("regex", "expected"),
    [
        ("order@example.com", {"order"}),
        (r"order@example\.com", {"order", "example", "com"}),
        (r"Order-(?P<id>[0-9]+)@example\.com", {"order", "example", "com"}),
        (r"order(?P<id>[0-9]+)@example\.com", {"example", "com"}),
        (r"(?P<id>[0-9]+)order@x", {"x"}),
        (r"(?:a|b)-order@x", {"order", "x"}),
        (r"(?:order-)?x@y", {"y"}),
        (r"(?:order-)*x@y", {"y"}),
        (r"(?:order-)+x@y", {"y"}),
        (r"order@(?:a|b)", {"order"}),
        (r"foo|bar", set()),
        (r"(?=order)-x@y", {"x", "y"}),
        (r"(order)(-)(x)@y", {"order", "x", "y"}),
        (r"(?i:order)@y", {"order", "y"}),
        (r"or(?:d)er@y", {"order", "y"}),
        (r"order_desk@y", {"order", "desk", "y"}),
        (r"[o]rder@y", {"order", "y"}),
        (r"^order@y$", {"order", "y"}),
        (r"order.", set()),
        (r".*", set()),
    ],
)
def test_tokens_stand_in_every_match_as_a_whole(regex: str, expected: set[str]) -> None:
    assert tokens(regex) == expected


def test_folding_is_at_least_as_coarse_as_ignorecase() -> None:
    """Every character of Unicode: what re.IGNORECASE takes for the same has the same fold, of length one."""
    from re import _casefix  # type: ignore[attr-defined]  # the table that re itself uses

    lower = __import__("_sre").unicode_tolower
    for number in range(0x110000):
        folded = fold_case(chr(number))
        assert len(folded) == 1
        if folded != fold_case(chr(lower(number))):
            pytest.fail(f"{number:#x}")
    for number, others in _casefix._EXTRA_CASES.items():
        for other in others:
            assert fold_case(chr(number)) == fold_case(chr(other)), hex(number)


@pytest.mark.parametrize(
    ("fmt", "address"),
    [
        ("ask@example.com", "a\u017fk@example.com"),
        ("ask@example.com", "as\u212a@EXAMPLE.com"),
        ("i@example.com", "\u0130@example.com"),
        ("i@example.com", "\u0131@example.com"),
        ("\u03c3@example.com", "\u03c2@example.com"),
        ("\u1e9e-x@example.com", "\u00df-x@example.com"),
        ("stra\u00dfe@example.com", "STRA\u1e9eE@example.com"),
    ],
)
def test_special_cases_of_ignorecase_are_found(fmt: str, address: str) -> None:
    module = types.ModuleType("special_cases")
    for number, text in enumerate([fmt, *(f"filler{n}@example.com" for n in range(5))]):
        exec(f"def H{number}(message): ...", vars(module))  # noqa: S102 - the shortest way to a module without a file
        route(text)(vars(module)[f"H{number}"])
    router = Router()
    router.load([module])
    assert re.fullmatch(re.escape(fmt), address, re.IGNORECASE)
    assert [match.route.pattern.format for match in router.match(address)] == [fmt]


def test_candidates_keep_their_order_and_include_those_without_a_token() -> None:
    index = TokenIndex(
        [
            (("b-", None), "0"),
            ((None,), "1"),
            (("c",), "2"),
            ((None, "-a"), "3"),
            (("b",), "4"),
            ((None,), "5"),
        ]
    )
    assert index.candidates("b-x-a") == ["0", "1", "3", "4", "5"]
    assert index.candidates("zzz") == ["1", "5"]
    assert index.candidates("") == ["1", "5"]


def test_a_token_that_stands_twice_counts_once() -> None:
    index = TokenIndex([(("a",), "0"), (("b",), "1"), (("a",), "2"), (("c",), "3")])
    assert index.candidates("a-a@a") == ["0", "2"]
    assert index.candidates("a-b-a@b") == ["0", "1", "2"]


def test_the_rarest_token_is_looked_up() -> None:
    """Ten thousand routes with a common host: only the one in question is tried."""
    index = TokenIndex(((f"user{n}@example.com",), n) for n in range(10_000))
    assert index.candidates("user77@example.com") == [77]
    assert index.candidates("someone@example.com") == []


def test_a_literal_capture_counts_as_text() -> None:
    pattern = compile_pattern("x(id)y@(host)", {"host": literal("mail.example"), "id": "[0-9]"})
    assert tokens_of(pattern.runs) == {"mail", "example"}


def test_a_crowd_is_compiled_at_load_and_a_needle_at_its_first_match(router: Router) -> None:
    """The first address must not wait until a thousand patterns are compiled."""
    module = types.ModuleType("crowd")
    for number in range(40):
        for fmt in (f"same-(x{number})@(host)", f"needle{number}@(host)", f"(x{number})"):
            name = f"H{len(vars(module))}"
            exec(f"def {name}(message): ...", vars(module))  # noqa: S102 - the shortest way to a module without a file
            route(fmt, **{f"x{number}": "[0-9]+"})(vars(module)[name])
    router.load([module])
    ready = {pattern.format[:2] for table_route in router.table.routes if (pattern := table_route.pattern)._compiled}
    assert ready == {"sa", "(x"}
    assert len(router.match("same-1@example.com")) == 40
    assert len(router.match("needle7@example.com")) == 1
