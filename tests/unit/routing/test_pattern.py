"""One format: what it matches, what it gives, and what is refused."""

from __future__ import annotations

import pytest

from monsal.errors import RouteError
from monsal.routing import check_capture, compile_pattern, is_matchable, literal

HOST = {"host": literal("example.com")}


def matches(fmt: str, address: str, *, regex: bool = False, **captures: str) -> dict[str, str | None] | None:
    assert is_matchable(address)
    return compile_pattern(fmt, {**HOST, **captures}, regex=regex).match(address)


@pytest.mark.rule("routing.R1", "routing.R4")
def test_captures_become_named_groups() -> None:
    found = matches("order-(id)@(host)", "order-17@example.com", id="[0-9]+")
    assert found == {"id": "17", "host": "example.com"}


@pytest.mark.rule("routing.R1", "routing.B9")
@pytest.mark.parametrize("address", ["xorder@example.com", "order@example.com.evil.net", "order@example.comx", "order"])
def test_the_whole_address_must_match(address: str) -> None:
    assert matches("order@(host)", address) is None


@pytest.mark.rule("routing.B9")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x00", "\x0b", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("host", [literal("example.com"), "[^@]+", r"[\s\S]+"])
def test_a_line_end_or_control_character_never_passes(end: str, host: str) -> None:
    """Not even where the expression would take it."""
    pattern = compile_pattern("order@(host)", {"host": host})
    assert not is_matchable("order@example.com" + end)
    assert not is_matchable("or" + end + "der@example.com")
    if host == literal("example.com"):
        assert pattern.match("order@example.com" + end) is None


@pytest.mark.rule("routing.B9")
def test_an_alternation_is_grouped_before_it_is_anchored() -> None:
    assert matches("foo|bar@x.y", "foo", regex=True) is not None
    assert matches("foo|bar@x.y", "foozzz@evil.net", regex=True) is None
    assert matches("foo|bar@x.y", "evil-bar@x.y", regex=True) is None
    assert matches("(kind)@(host)", "foo@example.com", kind="foo|bar") is not None
    assert matches("(kind)@(host)", "foo", kind="foo|bar") is None


@pytest.mark.rule("routing.B9")
def test_text_outside_captures_is_literal() -> None:
    assert matches("a.b@(host)", "a.b@example.com") == {"host": "example.com"}
    assert matches("a.b@(host)", "aXb@example.com") is None


@pytest.mark.rule("routing.B9")
def test_a_plus_is_a_sub_address() -> None:
    assert matches("reply+(token)@(host)", "reply+x7@example.com", token="[a-z0-9]+") is not None
    assert matches("(user)+(tag)@(host)", "al+x@example.com", user="[a-z]+", tag="[a-z]+") == {
        "user": "al",
        "tag": "x",
        "host": "example.com",
    }


@pytest.mark.rule("routing.B9")
@pytest.mark.parametrize(
    "fmt",
    [
        ".*@(host)",
        "order.+@(host)",
        "order[0-9]@(host)",
        r"order\d@(host)",
        r"order\.desk@(host)",
        "(sales|support)@(host)",
        "(?:sales)@(host)",
        "(?P<x>a)@(host)",
        "^order@(host)",
        "order@(host)$",
        "a|b@(host)",
        "order?@(host)",
        "a{2}@(host)",
        "(host)*@x.y",
        "(host)+@x.y",
        "x@(host)+",
        "order(@(host)",
        "(12)@(host)",
    ],
)
def test_what_looks_like_a_regular_expression_is_refused(fmt: str) -> None:
    with pytest.raises(RouteError, match=r"looks like a regular expression.*route\.regex"):
        compile_pattern(fmt, HOST)


@pytest.mark.rule("routing.R1", "routing.B9")
def test_regex_formats_have_the_meaning_of_the_original() -> None:
    assert matches(".*", "any thing@all", regex=True) == {}
    assert matches("order-[0-9]+@(host)", "order-17@example.com", regex=True) == {"host": "example.com"}
    assert matches("(?:sales|support)@(host)", "support@example.com", regex=True) is not None
    assert matches("(?P<desk>sales|support)@(host)", "sales@example.com", regex=True) == {
        "desk": "sales",
        "host": "example.com",
    }
    assert matches("(host)?x@y", "x@y", regex=True) == {"host": None}


@pytest.mark.rule("routing.R4")
def test_a_group_that_took_no_part_is_none_and_unnamed_groups_are_not_given() -> None:
    found = matches("order(?:-(id))?([x])?@(host)", "orderx@example.com", regex=True, id="[0-9]+")
    assert found == {"id": None, "host": "example.com"}


@pytest.mark.rule("routing.B9")
def test_escaped_parentheses_sets_and_comments_hold_no_captures() -> None:
    assert matches(r"\(host\)@x.y", "(host)@x.y", regex=True) == {}
    assert matches("[(host)]@x.y", "h@x.y", regex=True) == {}
    assert matches("[](host)]@x.y", "]@x.y", regex=True) == {}
    assert matches("(?#(host)a@x.y", "a@x.y", regex=True) == {}


@pytest.mark.rule("routing.R3")
@pytest.mark.parametrize("address", ["ORDER@EXAMPLE.COM", "Order@Example.Com", "order@example.com"])
def test_matching_ignores_case(address: str) -> None:
    assert matches("Order@(host)", address) == {"host": address.partition("@")[2]}


@pytest.mark.rule("routing.R3")
def test_a_display_name_is_no_part_of_an_address() -> None:
    assert matches("order@(host)", "Order <order@example.com>") is None
    assert matches("order@(host)", "<order@example.com>") is None


@pytest.mark.rule("routing.B17")
def test_captures_keep_the_case_of_the_address() -> None:
    assert matches("confirm-(token)@(host)", "Confirm-aBcD@example.com", token="[a-z]+") == {
        "token": "aBcD",
        "host": "example.com",
    }


@pytest.mark.rule("routing.B9")
def test_captures_are_parsed_and_not_put_into_each_other() -> None:
    assert matches("(a)@(host)", "(host)@example.com", a=r"\(host\)") is not None
    assert matches("(a)x@(host)", "bx@example.com", a="b|c") is not None
    with pytest.raises(RouteError, match=r"capture 'a'.*no valid regular expression"):
        compile_pattern("(a)(b)@(host)", {**HOST, "a": "x)|(?:", "b": "y"})


@pytest.mark.rule("routing.B9")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(", "no valid"),
        ("[a", "no valid"),
        ("a)", "no valid"),
        ("*", "no valid"),
        ("a\\", "no valid"),
        ("(?i)a", "flags"),
        ("(?x)a # b", "flags"),
        ("(?P<x>a)", "named group"),
        (r"(a)\1", "by its number"),
        (r"(a)?(?(1)b|c)", "by its number"),
        ("(a+)+", "very long"),
        ("(?:a|a)*", "very long"),
        (7, "needs a name"),
        (None, "needs a name"),
    ],
)
def test_a_capture_is_checked_by_itself(text: str, why: str) -> None:
    with pytest.raises(RouteError, match=why):
        check_capture("x", text)
    with pytest.raises(RouteError, match=why):
        compile_pattern("(x)@(host)", {**HOST, "x": text})


def test_an_escaped_backslash_before_a_digit_is_no_reference() -> None:
    assert matches(r"a\\1@(host)", r"a\1@example.com", regex=True) is not None
    with pytest.raises(RouteError, match="by its number"):
        compile_pattern(r"a\\(b)\1@x", {"b": "c"}, regex=True)


@pytest.mark.rule("routing.B9", "routing.B21")
@pytest.mark.parametrize(
    ("fmt", "why"),
    [
        ("a)|(?:b", "no valid"),
        ("(host)(host)", "no valid"),
        ("order[@(host)", "no valid"),
        ("(?i)order@(host)", "flags"),
        ("(a+)+@(host)", "no capture 'a'|very long"),
        (r"(\w+\s?)*@(host)", "very long"),
        (".+-.+-.+-.+@(host)", "very long"),
        ("(?#", "no valid"),
        ("", "needs a format"),
    ],
)
def test_a_format_that_is_no_good_expression_is_refused(fmt: str, why: str) -> None:
    with pytest.raises(RouteError, match=why):
        compile_pattern(fmt, HOST, regex=True)


@pytest.mark.rule("routing.B9")
def test_captures_that_share_text_are_refused_where_they_become_slow() -> None:
    loose = {"a": ".+", "b": ".+", "c": ".+", "d": ".+"}
    compile_pattern("(a)-(b)-(c)@(host)", {**HOST, **loose})
    with pytest.raises(RouteError, match=r"more than 3 repeats.*\[\^-@\]\+"):
        compile_pattern("(a)-(b)-(c)-(d)@(host)", {**HOST, **loose})
    strict = dict.fromkeys("abcd", "[^-@]+")
    assert compile_pattern("(a)-(b)-(c)-(d)@(host)", {**HOST, **strict}).match("1-2-3-4@example.com")


@pytest.mark.rule("routing.B10")
@pytest.mark.parametrize("regex", [False, True])
def test_a_name_without_a_capture_is_refused(regex: bool) -> None:
    with pytest.raises(RouteError, match=r"no capture 'list' \(known: host\)"):
        compile_pattern("(list)@(host)", HOST, regex=regex)


@pytest.mark.rule("routing.R2")
def test_captures_that_do_not_occur_are_harmless() -> None:
    assert matches("order@(host)", "order@example.com", unused="(", other="x") == {"host": "example.com"}


def test_a_capture_stands_in_a_format_once() -> None:
    with pytest.raises(RouteError, match="twice"):
        compile_pattern("(host)@(host)", HOST)


@pytest.mark.rule("routing.R6")
def test_the_same_finished_text_means_the_same_format() -> None:
    one = compile_pattern("(a)@(host)", {**HOST, "a": "x"})
    same = compile_pattern("(a)@(host)", {"host": r"example\.com", "a": "x", "b": "y"})
    other = compile_pattern("(a)@(host)", {**HOST, "a": "y"})
    assert one.text == same.text != other.text


def test_literal_stands_for_one_text() -> None:
    assert literal("a.b+c") == r"a\.b\+c"
    assert literal("a.b+c").text == "a.b+c"
    assert matches("(x)@(host)", "a.b+c@example.com", x=literal("a.b+c")) is not None
    assert matches("(x)@(host)", "aXb+c@example.com", x=literal("a.b+c")) is None
    for nothing in ("", None, 3):
        with pytest.raises(RouteError, match="not empty"):
            literal(nothing)  # type: ignore[arg-type]  # what it does with a wrong type is the point


def test_addresses_that_are_too_long_never_reach_a_pattern() -> None:
    assert is_matchable("a" * 314 + "@ex.co")
    assert not is_matchable("a" * 315 + "@ex.co")
    assert not is_matchable("é" * 160 + "@ex.co")
    assert is_matchable("é" * 157 + "@ex.co")


@pytest.mark.parametrize("thing", [b"order@example.com", None, 7, ["order@example.com"]])
def test_only_text_is_an_address(thing: object) -> None:
    assert not is_matchable(thing)


def test_half_a_surrogate_pair_is_in_no_address() -> None:
    assert not is_matchable("\ud800@example.com")
    assert not is_matchable("a\udcff@example.com")


def test_a_joiner_of_other_scripts_may_stand_in_an_address() -> None:
    assert is_matchable("نامه\u200cای@example.com")


@pytest.mark.parametrize(
    ("fmt", "captures", "regex", "wild"),
    [
        ("x@(host)", {"host": ".+"}, False, True),
        ("x@(host)", {"host": ".*"}, False, True),
        ("x@(host)", {"host": "[^@]+"}, False, True),
        ("x@(host)", {"host": "[a-z0-9.-]+"}, False, True),
        ("x@(host)", {"host": r"[a-z]+\.[a-z]+"}, False, True),
        ("x@(host)", {"host": r".+\.com"}, False, True),
        ("x@(host).com", {"host": ".+"}, False, True),
        ("x@(host)", {"host": r"(?:example\.com|.+)"}, False, True),
        ("(all)", {"all": ".+"}, False, True),
        ("(all)", {"all": r".+@example\.com"}, False, False),
        (".*", {}, True, True),
        (r"x@\S+", {}, True, True),
        (r"(?:x|y)@.+", {}, True, True),
        (r"(?!admin)[a-z]+@.+", {}, True, True),
        ("x@(host)", {"host": literal("example.com")}, False, False),
        ("x@(host)", {"host": r"example\.(?:com|org)"}, False, False),
        ("x@(host)", {"host": r".+\.example\.com"}, False, False),
        ("x@(sub).example.com", {"sub": ".+"}, False, False),
        ("x@example.com", {}, False, False),
        (r".+@example\.com", {}, True, False),
        (r"x@localhost", {}, True, False),
        (r"x@[0-9.]+", {}, True, False),
        ('"a@(all)"@(host)', {"all": ".*", "host": ".+"}, False, True),
        ("x@(dotted)com", {"dotted": r"(?:.+\.)?"}, False, True),
    ],
)
def test_a_pattern_that_takes_any_domain_is_known(fmt: str, captures: dict[str, str], regex: bool, wild: bool) -> None:
    assert compile_pattern(fmt, captures, regex=regex).takes_any_domain() is wild


@pytest.mark.parametrize(
    ("fmt", "regex"),
    [
        ("order-(id)@(host)", False),
        (r"(?:a|b)+c{3}@(host)", True),
        (r"(?=x)[a-z]@(host)", True),
        ("(x)(?P=x)@y.z", True),
    ],
)
def test_an_example_matches(fmt: str, regex: bool) -> None:
    pattern = compile_pattern(fmt, {**HOST, "id": r"\d{4}", "x": "[aeiou]"}, regex=regex)
    example = pattern.example()
    assert example is not None
    assert pattern.match(example) is not None


@pytest.mark.parametrize("fmt", ["(?!)a@b.c", "(?=y)x@b.c", "a{400}@b.c"])
def test_no_example_is_better_than_a_false_one(fmt: str) -> None:
    assert compile_pattern(fmt, {}, regex=True).example() is None


HOSTILE = [
    "",
    "@",
    "@@",
    "order",
    "order@",
    "@example.com",
    "order@example.com@example.com",
    "order@example.com ",
    " order@example.com",
    "order@example.com\n",
    "order\n@example.com",
    "order@example.com\nRCPT TO:<x@y>",
    "order@example\ncom",
    "orderXdesk@example.com",
    "order.desk@exampleXcom",
    "order.desk@example.com.",
    "order.desk@example.com|evil",
    '"order.desk"@example.com',
    "order.desk@[127.0.0.1]",
    "(host)@(host)",
    "order.desk@(host)",
    "order\u2024desk@example.com",
    "order.desk@example\u3002com",
    "o\u0440der.desk@example.com",
    "order.desk@\u212aexample.com",
    "a" * 400,
    "-" * 318 + "@x",
]


@pytest.mark.rule("routing.B9")
@pytest.mark.parametrize("address", HOSTILE)
def test_hostile_addresses_do_not_match(address: str) -> None:
    pattern = compile_pattern("order.desk@(host)", HOST)
    assert not (is_matchable(address) and pattern.match(address) is not None)
    assert pattern.match("Order.DESK@example.com") is not None
