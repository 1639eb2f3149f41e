"""Which expressions are refused because a hostile address could keep them busy."""

from __future__ import annotations

import pytest

from monsal.errors import RouteError
from monsal.routing import MAX_SHARED_LOOPS, count_loops, parse_regex, why_slow

pytestmark = pytest.mark.rule("routing.B9")


@pytest.mark.parametrize(
    "regex",
    [
        r"(a+)+",
        r"(?:a*)*",
        r"(a*)+b",
        r"(?:ab|ab)*",
        r"(a|ab|b)*",
        r"(a?b?)*",
        r"((a?)*b)*",
        r"(\w+\s?)*",
        r"([a-zA-Z]+)*x",
        r"([a-z0-9]+[-._]?)*@x",
        r"(?:[^@]+\.?)+",
        r"(x+x+)+y",
        r"(a{1,10})+",
        r"(?:a{2,3})+",
        r"(?:a{1,30}){1,30}",
        r"((a?){8}){8}",
        r"(?:a?){40}",
        r"(?:ab|ab){32}",
        r"(.*a){20}",
        r"(?:a+?)+?",
        r"(?=(a+)+b)x",
        r"x(?!(?:a|ab|b)*c)y",
        r"(?:(a+)\1)+",
        r"(?i:(S+s)+)",
        r"(?:[ks]+\u017f?)+",
        r"(?:[^a-z]+_?)+",
    ],
)
def test_exponential_expressions_are_known(regex: str) -> None:
    assert why_slow(parse_regex(regex)[0]) is not None


@pytest.mark.parametrize(
    "regex",
    [
        r"a+",
        r".*",
        r"[^@]+",
        r"\w+(?:\.\w+)*",
        r"(\w+\.)*\w+",
        r"([a-z]{2,5}\.)+[a-z]+",
        r"[a-z0-9]+(?:[-._+][a-z0-9]+)*",
        r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}",
        r"[0-9a-f]{32}",
        r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
        r"(a{32})+",
        r"(?:foo|bar)+",
        r"(?:\w|\d)*",
        r"(?:ab|ac)*",
        r"(?:sales|support|info)(?:-[a-z]+)?",
        r"\d{4}-\d{2}-\d{2}",
        r".+-.+-.+@example",
        r"[^-@]+-[^-@]+-[^-@]+-[^-@]+-[^@]+@[^@]+",
        r"(?!admin)[a-z]+(?<!-)",
        r"(?:" + "|".join(f"word{n}" for n in range(60)) + ")+",
    ],
)
def test_usual_expressions_are_let_through(regex: str) -> None:
    assert why_slow(parse_regex(regex)[0]) is None


def test_loops_that_share_text_are_counted() -> None:
    loop = "[a-z-]+"
    fine, slow = "-".join([loop] * MAX_SHARED_LOOPS), "-".join([loop] * (MAX_SHARED_LOOPS + 1))
    assert why_slow(parse_regex(fine)[0]) is None
    assert "in a row" in (why_slow(parse_regex(slow)[0]) or "")
    assert count_loops(parse_regex(slow)[0]) == MAX_SHARED_LOOPS + 1


def test_what_is_too_complex_to_check_is_refused() -> None:
    words = "|".join(f"{chr(97 + n % 26)}{n:03}x" for n in range(900))
    assert why_slow(parse_regex(f"(?:{words})*")[0]) == "it is too complex to be checked"


@pytest.mark.rule("routing.B21")
@pytest.mark.parametrize("regex", ["(", "[", "*", "a{2,1}", "(?P<1>a)", "(?P=x)", "\\", "(?<=a+)b", "(?z)"])
def test_what_is_no_expression_is_refused_with_the_reason(regex: str) -> None:
    with pytest.raises(RouteError, match="no valid regular expression"):
        parse_regex(regex)
