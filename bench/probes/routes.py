"""One address among many routes: `python routes.py CONTESTANT FAMILY SECONDS SIZE...`, run by `../suites/routes.py`.

It runs in salmon's environment, too, so it needs the standard library only and is called by its path. Its last line on
standard output is a JSON object with figures by size.
"""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from statistics import median
from typing import Any

__all__ = ["FAMILIES", "TABLES", "Family", "addresses", "main"]

Match = Callable[[str], Any]
#: Addresses of a table that are asked in turn for `any`: more than a cache of the processor holds of what they need.
_SPREAD = 1000


class Family:
    """Routes that differ in one word. `fmt` and `sample` have `{k}` where its number is."""

    def __init__(self, fmt: str, sample: str) -> None:
        self.fmt = fmt
        self.sample = sample


FAMILIES = {
    "action": Family("(list)-action{k}@(host)", "news-action{k}@example.com"),
    "user": Family("user-{k}@(host)", "user-{k}@example.com"),
    "host": Family("(list)-(action)@h{k}.example.com", "news-join@h{k}.example.com"),
}
_CAPTURES = {"list": "[a-z]+", "action": "[a-z]+"}


def _functions(size: int) -> Iterator[Any]:
    def HANDLER(message: Any, **captures: Any) -> None:
        """What a route calls; there is one for each."""

    for number in range(size):
        made = types.FunctionType(HANDLER.__code__, globals(), f"H{number}")
        made.__module__ = "routed"
        yield made


def _module(size: int) -> tuple[types.ModuleType, list[Any]]:
    module = types.ModuleType("routed")
    functions = list(_functions(size))
    vars(module).update({function.__name__: function for function in functions})
    return module, functions


def _ours(family: Family, size: int) -> tuple[float, Match]:
    """CPU seconds of decorating and loading, and the way to ask."""
    routing = import_module("monsal.routing")
    module, functions = _module(size)
    router = routing.Router()
    router.defaults(host=routing.literal("example.com"), **_CAPTURES)
    began = time.process_time()
    for number, function in enumerate(functions):
        routing.route(family.fmt.format(k=number))(function)
    router.load([module])
    return time.process_time() - began, router.match


def _salmon(family: Family, size: int) -> tuple[float, Match]:
    """The same; decorating is all of it there. The scan alone is asked, which `deliver` does before anything else."""
    routing = import_module("salmon.routing")
    _, functions = _module(size)
    router = routing.Router
    router.clear_routes()
    router.defaults(host=r"example\.com", **_CAPTURES)
    began = time.process_time()
    for number, function in enumerate(functions):
        routing.route(family.fmt.format(k=number).replace(".", r"\."))(function)
    took = time.process_time() - began
    order, registered = list(router.ORDER), dict(router.REGISTERED)

    def match(address: str) -> list[Any]:
        # Its router is one object of its module: each table takes its place there in turn.
        router.ORDER, router.REGISTERED = order, registered
        return list(router.match(address))

    return took, match


TABLES: dict[str, Callable[[Family, int], tuple[float, Match]]] = {"monsal": _ours, "salmon": _salmon}


def addresses(family: Family, size: int) -> dict[str, list[str]]:
    """What is asked: the last route, one number too much, and every so many-th route, in an order without a pattern."""
    many = min(size, _SPREAD)
    # A prime that divides no such number of them: each comes once.
    spread = [family.sample.format(k=number * 7919 % many * (size // many)) for number in range(many)]
    return {"last": [family.sample.format(k=size - 1)], "miss": [family.sample.format(k=size)], "any": spread}


class _Asked:
    """One way to ask one table; its addresses are gone through round and round."""

    def __init__(self, match: Match, asked: Sequence[str], expected: int) -> None:
        for address in asked:
            found = match(address)
            if len(found) != expected:
                raise SystemExit(f"{address} matches {len(found)} routes, not {expected}")
        self._match, self._asked, self._next = match, asked, 0
        self.batch = 1
        self.samples: list[float] = []

    def size_batch(self, seconds: float) -> None:
        while self._time(self.batch) < seconds and self.batch < 100_000:
            self.batch *= 2

    def take(self) -> None:
        self.samples.append(self._time(self.batch) / self.batch)

    def _time(self, number: int) -> float:
        asked, match, start = self._asked, self._match, self._next
        self._next = (start + number) % len(asked)
        chosen = [asked[(start + index) % len(asked)] for index in range(number)]
        began = time.process_time_ns()
        for address in chosen:
            match(address)
        return (time.process_time_ns() - began) / 1e9


def _measure(contestant: str, family: Family, seconds: float, sizes: Sequence[int]) -> dict[int, dict[str, float]]:
    built = {size: TABLES[contestant](family, size) for size in sizes}
    ways: dict[tuple[int, str], _Asked] = {}
    figures: dict[int, dict[str, float]] = {size: {"build_ms": 1e3 * built[size][0]} for size in sizes}
    for size in sizes:
        asked = addresses(family, size)
        match = built[size][1]
        began = time.process_time_ns()
        match(asked["any"][len(asked["any"]) // 2])
        figures[size]["first_us"] = (time.process_time_ns() - began) / 1e3
        for kind, texts in asked.items():
            ways[size, kind] = _Asked(match, texts, 0 if kind == "miss" else 1)
    for way in ways.values():
        way.size_batch(0.002)
    until = time.monotonic() + seconds
    while True:
        for way in ways.values():
            way.take()
        if time.monotonic() > until:
            break
    for (size, kind), way in ways.items():
        figures[size][f"{kind}_us"] = 1e6 * median(way.samples)
    return figures


def main(words: Sequence[str]) -> None:
    """Measure one contestant; the figures by size are the last line."""
    contestant, family, seconds, *sizes = words
    found = _measure(contestant, FAMILIES[family], float(seconds), [int(size) for size in sizes])
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
