"""Is a regular expression fast on every address? A hostile one must not cost more than milliseconds (P7).

`re` tries one way after the other, so an expression is slow exactly when one text can be read in many ways. The
expression is turned into Glushkov's automaton (a position for each character, an edge for each pair that can follow
one another, and how often it can), and two questions are asked of it:

- *Exponential*: is there a loop in which the same text leads from a position back to itself in two ways? Two paths are
  followed at once, through pairs of positions (the criterion EDA of Weber and Seidl, "On the degree of ambiguity of
  finite automata", 1991). So `(a+)+`, `(a|a)*`, `(a?b?)*` and `(\\w+\\s?)*` are found, `(\\w+\\.)*` is let through.
- *Polynomial*: how many loops in a row can share the same text, as in `.+-.+-.+` (their criterion IDA)? Each further
  loop multiplies the time by the length of the address. Of 320 characters, three such loops take 9 ms on a present
  machine, four 0.3 s, five 3 s: three are allowed.

Counted repeats are shortened, long ones taken as endless; where the tree is coarser than the expression or a question
would take too long, the answer is "slow". Both err on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from monsal.routing.regex import (
    ANY_CHARACTER,
    Alternatives,
    Characters,
    Group,
    Look,
    Node,
    Reference,
    Repeat,
    Sequence,
    nodes_below,
)

__all__ = ["MAX_SHARED_LOOPS", "count_loops", "why_slow"]

#: How many loops in a row may be able to share the same text.
MAX_SHARED_LOOPS = 3
#: A repeat with more turns than this, multiplied through nested ones, is taken as endless.
_ENDLESS = 8
#: Places (positions, pairs or triples of them) that the questions about one expression may look at: half a second.
_PATIENCE = 500_000
#: Positions that an automaton may have.
_MAX_POSITIONS = 1000

_Weights = dict[int, int]


class _Part(msgspec.Struct):
    """A part of the automaton: in how many ways it is empty, where it begins and where it ends (2 means several)."""

    empty: int
    first: _Weights
    last: _Weights


class _TooComplex(Exception):
    """The questions would look at more than _PATIENCE places."""


def why_slow(node: Node) -> str | None:
    """The reason why the expression can be slow on some address; None if it is fast on all."""
    if _is_plain(node) and count_loops(node) <= MAX_SHARED_LOOPS:
        return None
    for tree in [node, *_looks(node)]:
        try:
            automaton = _Automaton(tree)
            if automaton.is_exponential():
                return "a repeat inside a repeat, or alternatives under a repeat, can read the same text in many ways"
            if automaton.shared_loops() > MAX_SHARED_LOOPS:
                return f"more than {MAX_SHARED_LOOPS} repeats in a row can share the same text"
        except _TooComplex:
            return "it is too complex to be checked"
    return None


def count_loops(node: Node) -> int:
    """An upper bound of the loops of an expression; up to MAX_SHARED_LOOPS of them need no closer look."""
    if isinstance(node, Repeat):
        own = 1 if node.high is None or node.high > 1 else 0
        return own + count_loops(node.item)
    if isinstance(node, Reference):
        return 1
    return sum(count_loops(child) for child in nodes_below(node))


def _is_plain(node: Node) -> bool:
    """Whether only single characters are repeated: then nothing can be ambiguous but loops in a row."""
    if isinstance(node, Repeat) and node.high != 1:
        item = node.item
        while isinstance(item, Group):
            item = item.item
        return isinstance(item, Characters)
    return all(map(_is_plain, nodes_below(node)))


def _looks(node: Node) -> Iterator[Node]:
    if isinstance(node, Look):
        yield node.item
    for child in nodes_below(node):
        yield from _looks(child)


def _few(number: int) -> int:
    """Only none, one and several matter."""
    return min(number, 2)


def _add(into: _Weights, more: _Weights, times: int = 1) -> None:
    if times:
        for position, ways in more.items():
            into[position] = _few(into.get(position, 0) + ways * times)


class _Automaton:
    """Glushkov's automaton of a tree, with the number of ways on each edge."""

    def __init__(self, tree: Node) -> None:
        self.masks: list[int] = []
        self.follow: list[_Weights] = []
        self._patience = _PATIENCE
        self._build(tree, 1)

    def _look(self) -> None:
        self._patience -= 1
        if self._patience < 0:
            raise _TooComplex

    # -- building -----------------------------------------------------------------------------------------------

    def _build(self, node: Node, turns: int) -> _Part:
        if isinstance(node, Characters):
            return self._position(node.mask)
        if isinstance(node, Sequence):
            part = _Part(1, {}, {})
            for item in node.items:
                part = self._concat(part, self._build(item, turns))
            return part
        if isinstance(node, Alternatives):
            return self._either([self._build(option, turns) for option in node.options])
        if isinstance(node, Repeat):
            return self._repeat(node, turns)
        if isinstance(node, Group):
            return self._build(node.item, turns)
        if isinstance(node, Reference):  # any text: coarser than what the group took
            return self._optional(self._loop(self._position(ANY_CHARACTER)))
        return _Part(1, {}, {})  # a look-around takes nothing; `why_slow` checks what is inside

    def _position(self, mask: int) -> _Part:
        self.masks.append(mask)
        self.follow.append({})
        position = len(self.masks) - 1
        if position >= _MAX_POSITIONS:
            raise _TooComplex
        return _Part(0, {position: 1}, {position: 1})

    def _link(self, before: _Weights, after: _Weights) -> None:
        for position, ways in before.items():
            _add(self.follow[position], after, ways)

    def _concat(self, left: _Part, right: _Part) -> _Part:
        self._link(left.last, right.first)
        first, last = dict(left.first), dict(right.last)
        _add(first, right.first, left.empty)
        _add(last, left.last, right.empty)
        return _Part(_few(left.empty * right.empty), first, last)

    def _either(self, parts: Iterable[_Part]) -> _Part:
        whole = _Part(0, {}, {})
        for part in parts:
            whole.empty = _few(whole.empty + part.empty)
            _add(whole.first, part.first)
            _add(whole.last, part.last)
        return whole

    def _optional(self, part: _Part) -> _Part:
        return _Part(_few(part.empty + 1), part.first, part.last)

    def _loop(self, part: _Part) -> _Part:
        self._link(part.last, part.first)
        return part

    def _repeat(self, node: Repeat, turns: int) -> _Part:
        low, high = node.low, node.high
        if high is not None and low == high and isinstance(node.item, Characters):
            low = high = min(high, 2)  # a fixed number of single characters is read in one way, however many
        elif high is None or high * turns > _ENDLESS:
            part = self._loop(self._build(node.item, 1))
            if part.empty and low * turns > _ENDLESS:
                self._link(part.last, part.first)  # any of the turns that must be there may be an empty one
            if low > 1:
                part = self._concat(self._build(node.item, 1), part)
            return part if low else self._optional(part)
        part = _Part(1, {}, {})
        for _ in range(high - low):
            part = self._optional(self._concat(self._build(node.item, turns * high), part))
        for _ in range(low):
            part = self._concat(self._build(node.item, turns * high), part)
        return part

    # -- asking -------------------------------------------------------------------------------------------------

    def is_exponential(self) -> bool:
        """Whether a position can be left and reached again with the same text in two ways."""
        return any(self._is_ambiguous(loop) for loop in self.loops())

    def _is_ambiguous(self, loop: frozenset[int]) -> bool:
        if any(ways > 1 for position in loop for after, ways in self.follow[position].items() if after in loop):
            return True
        if len(loop) == 1:
            return False
        seen = {(position, position) for position in loop}
        came_from: dict[tuple[int, int], list[tuple[int, int]]] = {}
        todo = list(seen)
        while todo:
            pair = todo.pop()
            for after in self._after_both(pair, loop):
                self._look()
                came_from.setdefault(after, []).append(pair)
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        # Two paths that have parted on the same text meet again: then they can part and meet for ever.
        return any(before[0] != before[1] for position in loop for before in came_from.get((position, position), ()))

    def _after_both(self, pair: tuple[int, int], loop: frozenset[int]) -> Iterator[tuple[int, int]]:
        for one in self.follow[pair[0]]:
            if one in loop:
                for other in self.follow[pair[1]]:
                    if other in loop and self.masks[one] & self.masks[other]:
                        yield (one, other) if one < other else (other, one)

    def shared_loops(self) -> int:
        """The longest row of loops that can share the same text."""
        loops = list(self.loops())
        if len(loops) <= MAX_SHARED_LOOPS:
            return len(loops)
        after = [
            [other for other, later in enumerate(loops) if other != one and self._can_share(loop, later)]
            for one, loop in enumerate(loops)
        ]
        longest: dict[int, int] = {}

        def row(loop: int) -> int:
            if loop not in longest:
                longest[loop] = 1 + max(map(row, after[loop]), default=0)
            return longest[loop]

        return max(map(row, range(len(loops))))

    def _can_share(self, loop: frozenset[int], later: frozenset[int]) -> bool:
        """Whether a text leads round `loop`, from it to `later`, and round `later`: the same text all three."""
        return any(
            self._leads(one, other, loop, later)
            for one in loop
            for other in later
            if self.masks[one] & self.masks[other]  # where the text ends, both are
        )

    def _leads(self, one: int, other: int, loop: frozenset[int], later: frozenset[int]) -> bool:
        start, goal = (one, one, other), (one, other, other)
        seen, todo = {start}, [start]
        while todo:
            self._look()
            stay, walk, wait = todo.pop()
            for first in self.follow[stay]:
                if first not in loop:
                    continue
                for third in self.follow[wait]:
                    both = self.masks[first] & self.masks[third]
                    if third not in later or not both:
                        continue
                    for second in self.follow[walk]:
                        self._look()
                        place = (first, second, third)
                        if self.masks[second] & both and place not in seen:
                            if place == goal:
                                return True
                            seen.add(place)
                            todo.append(place)
        return False

    def loops(self) -> Iterator[frozenset[int]]:
        """The positions from which one comes back, loop by loop (the strongly connected parts of the automaton)."""
        reach = [self._reachable(position) for position in range(len(self.masks))]
        told: set[int] = set()
        for position, reached in enumerate(reach):
            if position in reached and position not in told:
                loop = frozenset(other for other in reached if position in reach[other])
                told |= loop
                yield loop

    def _reachable(self, start: int) -> set[int]:
        found: set[int] = set()
        todo = [start]
        while todo:
            for position in self.follow[todo.pop()]:
                if position not in found:
                    found.add(position)
                    todo.append(position)
        return found
