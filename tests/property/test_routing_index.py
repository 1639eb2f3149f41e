"""The table with its index against a plain walk through all patterns."""

from __future__ import annotations

import types

from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.errors import RouteError
from monsal.routing import Router, compile_pattern, is_matchable, route

words = st.sampled_from(["a", "ab", "order", "ASK", "straße", "kilo", "i", "a_b", "x1", "σας"])
signs = st.sampled_from(["-", ".", "+", "@", "_", ""])
holes = st.sampled_from(["(any)", "(some)", "(word)", "(host)", "(ask)"])
CAPTURES = {"any": ".*", "some": "[^@]+", "word": "[a-z]*", "host": r"example\.com", "ask": "a(?:s|k)?"}

formats = st.lists(st.tuples(words | holes, signs), min_size=1, max_size=4).map(
    lambda pairs: "".join(word + sign for word, sign in pairs)
)
raw_formats = st.lists(
    st.sampled_from(["order", "-", "@", r"\.", "(?:a|b)", "(?:order-)?", "[ab]+", "(?:x)", "a*", "^", "(host)", "k"]),
    min_size=1,
    max_size=5,
).map("".join)

_SPECIAL = {"s": "ſ", "k": "\u212a", "i": "İ", "σ": "ς", "ß": "ẞ", "a": "A"}


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """Text made of the same words as the formats, in cases that only IGNORECASE knows."""
    text = draw(st.lists(st.tuples(words, signs), max_size=4).map(lambda pairs: "".join(map("".join, pairs))))
    text += draw(st.sampled_from(["", "@example.com", "@EXAMPLE.com"]))
    for plain, special in _SPECIAL.items():
        if draw(st.booleans()):
            text = text.replace(plain, special)
    return text


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(formats, st.just(False)) | st.tuples(raw_formats, st.just(True)), min_size=1, max_size=12),
    st.lists(addresses(), min_size=1, max_size=8),
)
def test_the_index_finds_what_a_walk_finds_in_the_same_order(written: list[tuple[str, bool]], texts: list[str]) -> None:
    module = types.ModuleType("indexed")
    walk = []
    for fmt, is_regex in written:
        try:
            pattern = compile_pattern(fmt, CAPTURES, regex=is_regex)
        except RouteError:
            continue
        name = f"H{len(walk)}"
        exec(f"def {name}(message): ...", vars(module))  # noqa: S102 - the shortest way to a module without a file
        (route.regex if is_regex else route)(fmt, accept_any_domain=True)(vars(module)[name])
        if pattern.text not in [known.text for known in walk]:
            walk.append(pattern)
    router = Router()
    router.defaults(**CAPTURES)
    router.load([module])
    for text in texts:
        expected = [pattern.text for pattern in walk if is_matchable(text) and pattern.match(text) is not None]
        assert [match.route.pattern.text for match in router.match(text)] == expected
        assert router.accepts(text) is bool(expected)
