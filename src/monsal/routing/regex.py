"""Regular expressions read as trees: what a text must contain to match, and an example that matches.

This is the only module that knows `re`'s own parser, which has no public name; everything else in this package works
on the few node types below. A tree says *at least* what the expression can match: where `re` is finer (look-around,
flags inside groups, categories outside ASCII), the tree is coarser, so "cannot match" may be relied on.

Order of use: `parse_regex`, then `literal_runs` (for the index of the table), `example` (for `routes --check` and the
test for wildcards), or `monsal.routing.safety` (is it fast whatever comes in).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from re import _constants as sre  # type: ignore[attr-defined]  # re's parser has no public name; typeshed lacks it
from re import _parser  # type: ignore[attr-defined]  # as above
from typing import Any

import msgspec

from monsal.address import MAX_ADDRESS
from monsal.errors import RouteError

__all__ = [
    "ANY_CHARACTER",
    "Alternatives",
    "Characters",
    "Group",
    "Look",
    "Node",
    "Reference",
    "Repeat",
    "Sequence",
    "example",
    "join_runs",
    "literal_runs",
    "nodes_below",
    "parse_regex",
]

# A set of characters is a mask: one bit for each ASCII character, then one each for all letters, digits, white space
# and other characters outside ASCII.
_ASCII = range(128)
_LETTER, _DIGIT, _SPACE, _OTHER = (1 << bit for bit in range(128, 132))
_FOREIGN = _LETTER | _DIGIT | _SPACE | _OTHER
ANY_CHARACTER = (1 << 132) - 1
_NEWLINE = 1 << ord("\n")

#: Characters that an example is made of, in order of preference.
_PREFERRED = "xabcdefghijklmnopqrstuvwyz0123456789-._+=@!#%&*/?^`{|}~$' \"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Characters(msgspec.Struct, frozen=True):
    """One character out of a set. `literal` is the character if there is only one; `sample` is one of the set."""

    mask: int
    sample: str
    literal: str | None = None


class Sequence(msgspec.Struct, frozen=True):
    """One after the other; empty for what matches without taking a character."""

    items: tuple[Node, ...] = ()


class Alternatives(msgspec.Struct, frozen=True):
    """One of several; none at all can never match."""

    options: tuple[Node, ...]


class Repeat(msgspec.Struct, frozen=True):
    """`item` at least `low` and at most `high` times; None is without bound."""

    item: Node
    low: int
    high: int | None


class Group(msgspec.Struct, frozen=True):
    """A group; `number` is None if it captures nothing."""

    item: Node
    number: int | None


class Look(msgspec.Struct, frozen=True):
    """A look ahead or behind: takes no character."""

    item: Node


class Reference(msgspec.Struct, frozen=True):
    """The text that a group took, once more."""

    number: int


Node = Characters | Sequence | Alternatives | Repeat | Group | Look | Reference


def parse_regex(text: str) -> tuple[Node, frozenset[str]]:
    """The tree of an expression that is to be used with IGNORECASE as a part of another one; the names of its groups.

    Raises RouteError with the reason if it is no valid expression, or has flags for the whole of it.
    """
    try:
        parsed = _parser.parse(text)
        tree = _sequence(parsed)
        if _has_look(tree):
            re.compile(text, re.IGNORECASE)  # a look behind of varying width is only refused here
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise RouteError(f"{text!r} is no valid regular expression: {error}") from error
    if parsed.state.flags & ~re.UNICODE:
        raise RouteError(f"{text!r} sets flags for the whole expression; write (?s:...) for a part (case never counts)")
    return tree, frozenset(parsed.state.groupdict)


def nodes_below(node: Node) -> tuple[Node, ...]:
    """The nodes directly below a node."""
    if isinstance(node, Sequence):
        return node.items
    if isinstance(node, Alternatives):
        return node.options
    if isinstance(node, Repeat | Group | Look):
        return (node.item,)
    return ()


def _has_look(node: Node) -> bool:
    return isinstance(node, Look) or any(map(_has_look, nodes_below(node)))


def _sequence(parsed: Any) -> Node:
    items = tuple(_node(op, argument) for op, argument in parsed)
    return items[0] if len(items) == 1 else Sequence(items)


def _node(op: Any, argument: Any) -> Node:
    if op is sre.LITERAL:
        return _literal(chr(argument))
    if op in (sre.NOT_LITERAL, sre.ANY, sre.IN):
        return _set(op, argument)
    if op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        low, high, item = argument
        return Repeat(_sequence(item), int(low), None if high is sre.MAXREPEAT else int(high))
    if op is sre.SUBPATTERN:
        return Group(_sequence(argument[3]), argument[0])
    if op is sre.ATOMIC_GROUP:
        return Group(_sequence(argument), None)
    if op is sre.BRANCH:
        return Alternatives(tuple(_sequence(option) for option in argument[1]))
    if op in (sre.ASSERT, sre.ASSERT_NOT):
        return Look(_sequence(argument[1]))
    if op is sre.GROUPREF:
        return Reference(argument)
    if op is sre.GROUPREF_EXISTS:
        _, yes, no = argument
        return Alternatives((_sequence(yes), _sequence(no) if no else Sequence()))
    if op is sre.AT:
        return Sequence()
    if op is sre.FAILURE:
        return Alternatives(())
    raise RouteError(f"this regular expression uses {op}, which monsal does not know")


def _literal(character: str) -> Characters:
    return Characters(_mask_of(character), character, character)


def _mask_of(character: str) -> int:
    """The set of a literal character, with all that re.IGNORECASE takes for it."""
    mask = 0
    for variant in {character, character.lower()[0], character.upper()[0], character.lower()[0].upper()[0]}:
        mask |= 1 << ord(variant) if variant.isascii() else _class_of(variant)
    # The long s, the dotless i and the Kelvin sign are letters outside ASCII that re.IGNORECASE takes for ASCII ones.
    return mask | _LETTER if character in "ikIKsS" else mask


def _class_of(character: str) -> int:
    if character.isdecimal():
        return _DIGIT
    if character.isspace():
        return _SPACE
    return _LETTER if character.isalnum() else _OTHER


def _set(op: Any, argument: Any) -> Characters:
    if op is sre.ANY:
        return Characters(ANY_CHARACTER & ~_NEWLINE, "x")
    items = [(sre.NEGATE, None), (sre.LITERAL, argument)] if op is sre.NOT_LITERAL else argument
    some = every = 0  # characters of which some, and of which surely every one, is in the set
    sample = ""
    for kind, value in items:
        if kind is sre.NEGATE:
            continue
        here, whole, first = _member(kind, value)
        some, every, sample = some | here, every | whole, sample or first
    if items[0][0] is sre.NEGATE:
        some, sample = ANY_CHARACTER & ~every, ""
    preferred = next((character for character in _PREFERRED if some >> ord(character) & 1), "")
    return Characters(some, preferred or sample or "\N{LATIN SMALL LETTER E WITH ACUTE}")


def _member(kind: Any, value: Any) -> tuple[int, int, str]:
    """One item of a set: the characters some of which are in it, those all of which are, and one of them."""
    if kind is sre.LITERAL:
        mask = _mask_of(chr(value))
        return mask, mask & ~_FOREIGN, chr(value)
    if kind is sre.RANGE:
        low, high = value
        mask = 0
        for number in range(low, min(high, 127) + 1):
            mask |= _mask_of(chr(number))
        every = mask & ~_FOREIGN
        return (
            (mask | _FOREIGN | _mask_of("i") | _mask_of("k") | _mask_of("s") if high > 127 else mask),
            every,
            chr(low),
        )
    mask = _CATEGORIES[value]
    return mask, mask, ""


def _category(test: Any, foreign: int) -> int:
    return sum(1 << number for number in _ASCII if test(chr(number))) | foreign


def _categories() -> dict[Any, int]:
    found = {
        sre.CATEGORY_DIGIT: _category(str.isdecimal, _DIGIT),
        sre.CATEGORY_SPACE: _category(str.isspace, _SPACE),
        sre.CATEGORY_WORD: _category(lambda character: character.isalnum() or character == "_", _LETTER | _DIGIT),
    }
    found[sre.CATEGORY_NOT_DIGIT] = ANY_CHARACTER & ~found[sre.CATEGORY_DIGIT]
    found[sre.CATEGORY_NOT_SPACE] = ANY_CHARACTER & ~found[sre.CATEGORY_SPACE]
    found[sre.CATEGORY_NOT_WORD] = ANY_CHARACTER & ~found[sre.CATEGORY_WORD]
    return found


_CATEGORIES = _categories()


def literal_runs(node: Node) -> tuple[str | None, ...]:
    """The pieces of literal text that every match contains, in order; None stands for anything between them.

    Only what stands in every match counts: nothing out of alternatives, repeats or look-arounds.
    """
    return join_runs(_runs(node))


def join_runs(runs: Iterable[str | None]) -> tuple[str | None, ...]:
    """The same pieces with neighbours joined."""
    joined: list[str | None] = []
    for is_text, group in groupby(runs, lambda run: run is not None):
        joined.append("".join(run or "" for run in group) if is_text else None)
    return tuple(joined)


def _runs(node: Node) -> Iterator[str | None]:
    if isinstance(node, Characters):
        yield node.literal
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from _runs(item)
    elif isinstance(node, Group):
        yield from _runs(node.item)
    else:
        yield None


def example(node: Node) -> str | None:
    """A text that the expression is likely to match, as short as reads well; None if there is none.

    Look-arounds are not heeded: try it before you show it.
    """
    groups: dict[int, str] = {}

    def make(node: Node) -> str | None:
        if isinstance(node, Characters):
            return node.literal or node.sample
        if isinstance(node, Sequence):
            parts = [make(item) for item in node.items]
            return None if None in parts else "".join(part or "" for part in parts)
        if isinstance(node, Alternatives):
            return next((text for text in map(make, node.options) if text is not None), None)
        if isinstance(node, Repeat):
            text = make(node.item) if node.high != 0 else ""
            if text is None or len(text) * node.low > MAX_ADDRESS:
                return "" if node.low == 0 else None
            return text * max(node.low, 1)
        if isinstance(node, Group):
            text = make(node.item)
            if node.number is not None and text is not None:
                groups[node.number] = text
            return text
        if isinstance(node, Reference):
            return groups.get(node.number)
        return ""

    return make(node)
