"""Patterns against Python's own `re.fullmatch`, and the claims about expressions against what a matcher really does."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from monsal.errors import RouteError
from monsal.routing import (
    Alternatives,
    Characters,
    Group,
    Node,
    Repeat,
    Router,
    Sequence,
    compile_pattern,
    fold_case,
    is_matchable,
    literal_runs,
    parse_regex,
    tokens_of,
    why_slow,
)
from monsal.routing.index import _TOKEN

quick = settings(deadline=None, max_examples=200)

LETTERS = "abAB1.-+_@ksi\u017f\u212a\u0130\u0131\u00df"
addresses = st.text(alphabet=LETTERS, max_size=12) | st.text(max_size=20)
literals = st.text(alphabet="abAB1.-_@ks\u017f\u00df", min_size=1, max_size=4)
captures = st.sampled_from(["a", "[ab]+", ".+", ".*", "a|b", "(?:ab)?", r"\w+", "[^@]+", "(a)(b)?", r"\.", "", "ſ|k"])


def whole(text: str, address: str) -> dict[str, str | None] | None:
    found = re.fullmatch(text, address, re.IGNORECASE)
    return None if found is None else found.groupdict()


@pytest.mark.rule("routing.B9")
@quick
@given(st.lists(literals | st.tuples(captures), min_size=1, max_size=4), addresses)
@example(["a", ("a|b",)], "a\n")
@example([("a|b",), "@a"], "azzz")
def test_a_format_matches_what_fullmatch_of_its_parts_matches(pieces: list[str | tuple[str]], address: str) -> None:
    fmt, text, known = "", "", {}
    for number, piece in enumerate(pieces):
        if isinstance(piece, str):
            fmt, text = fmt + piece, text + re.escape(piece)
        else:
            fmt, text = f"{fmt}(c{number})", f"{text}(?P<c{number}>{piece[0]})"
            known[f"c{number}"] = piece[0]
    try:
        pattern = compile_pattern(fmt, known)
    except RouteError:
        assume(False)
    assume(is_matchable(address))
    assert pattern.match(address) == whole(text, address)


def expressions() -> st.SearchStrategy[str]:
    atoms = st.sampled_from(["a", "b", "ab", "-", "@", "[ab]", "[^a]", ".", "k1-", "(?=a)", "", r"\b", "(?:)"])
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda options: f"(?:{'|'.join(options)})"),
            st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,20}", "*?"])).map(
                lambda pair: f"(?:{pair[0]}){pair[1]}"
            ),
            inner.map(lambda text: f"({text}|-)"),
        ),
        max_leaves=6,
    )


@pytest.mark.rule("routing.R1", "routing.B9")
@quick
@given(expressions(), addresses)
@example("a|b", "ab")
@example("a|b@x", "azzz")
def test_a_regex_format_matches_what_fullmatch_matches(text: str, address: str) -> None:
    try:
        pattern = compile_pattern(text, {}, regex=True)
    except RouteError:
        assume(False)
    assume(is_matchable(address))
    assert pattern.match(address) == whole(text, address)


@quick
@given(st.data(), expressions())
def test_each_match_contains_the_tokens_of_its_pattern(data: st.DataObject, text: str) -> None:
    """What the index relies on: a pattern left out because of a token could not have matched."""
    text = data.draw(st.sampled_from([text, f"x-{text}-k", f"is@{text}"]))
    tokens = tokens_of(literal_runs(parse_regex(text)[0]))
    address = data.draw(st.from_regex(re.compile(f"(?:{text})", re.IGNORECASE), fullmatch=True))
    if re.fullmatch(text, address, re.IGNORECASE):
        assert tokens <= set(_TOKEN.findall(fold_case(address)))


@quick
@given(expressions())
def test_an_example_is_true(text: str) -> None:
    try:
        pattern = compile_pattern(text, {}, regex=True)
    except RouteError:
        assume(False)
    shown = pattern.example()
    assert shown is None or whole(text, shown) is not None


# -- speed ----------------------------------------------------------------------------------------------------------


class _TooMany(Exception):
    pass


def count_steps(tree: Node, text: str, limit: int) -> int:
    """How many steps a backtracking matcher takes until it has tried every way to read the text, none being enough.

    Looking around costs nothing here and always succeeds: that only makes more ways.
    """
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps > limit:
            raise _TooMany

    def go(node: Node, at: int, then: Callable[[int], bool]) -> bool:
        step()
        if isinstance(node, Characters):
            return at < len(text) and bool(node.mask >> ord(text[at]) & 1) and then(at + 1)
        if isinstance(node, Group):
            return go(node.item, at, then)
        if isinstance(node, Alternatives):
            return any(go(option, at, then) for option in node.options)
        if isinstance(node, Sequence):
            if not node.items:
                return then(at)
            first, rest = node.items[0], Sequence(node.items[1:])
            return go(first, at, lambda end: go(rest, end, then))
        if isinstance(node, Repeat):
            return turn(node, 0, at, -1, then)
        return then(at)

    def turn(node: Repeat, count: int, at: int, before: int, then: Callable[[int], bool]) -> bool:
        step()
        # As in re: after the turns that must be, an empty turn is the last one.
        if (
            (node.high is None or count < node.high)
            and (count < node.low or at != before)
            and go(node.item, at, lambda end: turn(node, count + 1, end, at, then))
        ):
            return True
        return count >= node.low and then(at)

    go(tree, 0, lambda end: False)
    return steps


@pytest.mark.rule("routing.B9")
@settings(deadline=None, max_examples=300)
@given(expressions(), st.sampled_from(["a", "b", "ab", "-", "a-", "aab"]), st.sampled_from(["", "a", "b-"]))
@example("(?:a?){12}", "a", "")
@example("(?:ab|ab){9}", "ab", "")
def test_an_expression_that_is_let_through_is_fast(text: str, pump: str, start: str) -> None:
    """Twice the address may take a few times as many steps, never thousands of times."""
    tree, _ = parse_regex(text)
    assume(why_slow(tree) is None)
    short, long = (start + pump * n + "!" for n in (12 // len(pump), 24 // len(pump)))
    steps = count_steps(tree, short, 50_000)
    try:
        count_steps(tree, long, 2_000 + 40 * steps)
    except _TooMany:
        pytest.fail(f"{text!r} took {steps} steps for {short!r} and more than {2_000 + 40 * steps} for {long!r}")


# -- whatever comes in ----------------------------------------------------------------------------------------------


def _router() -> Router:
    import types

    module = types.ModuleType("property_routes")
    exec(  # noqa: S102 - the shortest way to a module without a file
        "from monsal.routing import *\n"
        "@route('order-(id)@(host)', id='[0-9]+')\ndef START(message): ...\n"
        "@route.regex('[^@]+@(host)')\n@stateless\ndef LOGGED(message): ...\n"
        "@route('(all)', all='.*', accept_any_domain=True)\n@stateless\ndef ALL(message): ...\n"
        "@route('a@(host)')\n@stateless\ndef A(message): ...\n",
        vars(module),
    )
    router = Router()
    router.defaults(host="example\\.com")
    router.load([module])
    return router


ROUTER = _router()


@pytest.mark.rule("routing.B16")
@quick
@given(st.one_of(st.text(max_size=400), st.text(alphabet=st.characters(), max_size=40), st.binary(max_size=400)))
@example("\ud800")
@example("a@example.com\n")
@example("\x00")
def test_nothing_that_comes_in_raises(address: object) -> None:
    matches = ROUTER.match(address)  # type: ignore[arg-type]  # what it does with bytes is part of the point
    assert ROUTER.accepts(address) is bool(matches)  # type: ignore[arg-type]  # as above
    assert bool(matches) <= is_matchable(address)
