"""What is odd about a loaded table: the findings of `monsal routes --check` (rule routing.B22).

Each finding has a witness where there is one: an address for which it happens.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from monsal.address import is_address
from monsal.routing.machine import transitions, unnamed_states
from monsal.routing.marks import marks_of
from monsal.routing.table import ERROR_STATE, Handler, Match, Module, Route, Table

__all__ = ["Finding", "FindingKind", "findings"]

FindingKind = Literal[
    "no_handler_in_state",
    "shadowed",
    "unreachable_state",
    "redefined",
    "mark_without_route",
    "error_stays",
    "no_example",
    "no_error",
]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that its author may not have meant. With `severity` info it is only good to know.

    `states` are those of `module` that it is about.
    """

    kind: FindingKind
    text: str
    module: str = ""
    states: tuple[str, ...] = ()
    witness: str | None = None
    severity: Literal["warning", "info"] = "warning"


def findings(table: Table) -> list[Finding]:
    """All findings, the graver kinds first."""
    witnesses = [(route, _witness(route)) for route in table.routes]
    found = [
        *(finding for _, witness in witnesses if witness for finding in _unhandled(table, witness)),
        *_shadowed(table, [witness for _, witness in witnesses if witness]),
        *_unreachable(table),
        *(finding for module in table.modules.values() for finding in _redefined(module)),
        *(finding for module in table.modules.values() for finding in _marks_without_route(module)),
        *_error_stays(table),
        *(_no_example(route) for route, witness in witnesses if witness is None),
        *(_no_error(module) for module in table.modules.values() if module.handlers and module.error is None),
    ]
    return list(dict.fromkeys(found))


def _witness(route: Route) -> str | None:
    """An address that the route matches."""
    example = route.pattern.example()
    guesses = (example, "x@example.com") if example is None else (example, f"{example}@example.com", "x@example.com")
    return next((it for it in guesses if it and is_address(it) and route.pattern.match(it) is not None), None)


def _stateful(table: Table, matches: Sequence[Match]) -> dict[str, set[str]]:
    """The states in which each module takes a message with these matches."""
    taken: dict[str, set[str]] = {}
    for match in matches:
        for handler in match.handlers:
            if not handler.stateless:
                taken.setdefault(handler.module, set()).add(handler.name)
    for name, states in taken.items():
        if table.modules[name].error is not None:
            states.add(ERROR_STATE)
    return taken


def _unhandled(table: Table, witness: str) -> Iterator[Finding]:
    """States in which mail to the witness would become a dead letter, with everybody else at the start."""
    matches = table.match(witness)
    if any(handler.stateless for match in matches for handler in match.handlers):
        return
    taken = _stateful(table, matches)
    if any(table.modules[name].otherwise is not None for name in taken):
        return
    for name, states in taken.items():
        module = table.modules[name]
        if any(table.modules[other].first in taken[other] for other in taken if other != name):
            continue
        lacking = tuple(state for state in (module.first, *module.handlers) if state not in states)
        lacking = tuple(dict.fromkeys(lacking))
        if lacking:
            yield Finding(
                kind="no_handler_in_state",
                module=name,
                states=lacking,
                witness=witness,
                text=f"mail to {witness} is a dead letter when {name} is in {', '.join(lacking)}: no handler takes it "
                "there; route one, or add an @otherwise",
            )


def _shadowed(table: Table, witnesses: Sequence[str]) -> Iterator[Finding]:
    """Two modules that both start at one address: the first one gets the message (R16)."""
    told: set[tuple[str, str]] = set()
    for witness in witnesses:
        starts: list[Handler] = []
        for match in table.match(witness):
            for handler in match.handlers:
                first = table.modules[handler.module].first
                if not handler.stateless and handler.name == first and handler not in starts:
                    starts.append(handler)
        for later in starts[1:]:
            if (starts[0].id, later.id) not in told:
                told.add((starts[0].id, later.id))
                yield Finding(
                    kind="shadowed",
                    module=later.module,
                    states=(later.name,),
                    witness=witness,
                    text=f"{starts[0].id} and {later.id} both match {witness}: the first one takes every new "
                    f"conversation, {later.id} none",
                )


def _unreachable(table: Table) -> Iterator[Finding]:
    for handler in unnamed_states(table):
        yield Finding(
            kind="unreachable_state",
            module=handler.module,
            states=(handler.name,),
            text=f"{handler.id} is a state that no loaded function names, so no conversation comes there",
        )


def _redefined(module: Module) -> Iterator[Finding]:
    """A second def of the same name: Python keeps the last one, and the routes of the first are gone."""
    source = sys.modules.get(module.name)
    if source is None:
        return
    try:
        tree = ast.parse(inspect.getsource(source))
    except (OSError, TypeError, SyntaxError):
        return  # no source to read: made by hand, or frozen
    seen: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            before = seen.get(node.name)
            if before is not None and before.decorator_list:
                yield Finding(
                    kind="redefined",
                    module=module.name,
                    states=(node.name,),
                    text=f"{module.name}:{node.name} is defined in line {before.lineno} and again in line "
                    f"{node.lineno}; only the last one counts",
                )
            seen[node.name] = node


def _marks_without_route(module: Module) -> Iterator[Finding]:
    for name, func in module.functions.items():
        marks = marks_of(func)
        if marks is None or marks.routes or marks.otherwise or marks.on_bounce:
            continue
        if marks.state_key is not None or name == ERROR_STATE:
            continue
        yield Finding(
            kind="mark_without_route",
            module=module.name,
            states=(name,),
            text=f"{module.name}:{name} has marks but no route, so it is never called",
        )


def _error_stays(table: Table) -> Iterator[Finding]:
    """An ERROR handler that names no state: what fails once stays in ERROR for good (rule routing.R30)."""
    leaving = {(step.module, step.state) for step in transitions(table)}
    for module in table.modules.values():
        if module.error is not None and (module.name, ERROR_STATE) not in leaving:
            yield Finding(
                kind="error_stays",
                module=module.name,
                states=(ERROR_STATE,),
                text=f"{module.error.id} returns no state: a conversation that failed once stays in ERROR, and all its "
                "later mail goes there; return the state to go on with",
            )


def _no_example(route: Route) -> Finding:
    return Finding(
        kind="no_example",
        module=route.handlers[0].module,
        text=f"no address was found that route {route.pattern.format!r} matches; it was not checked",
        severity="info",
    )


def _no_error(module: Module) -> Finding:
    return Finding(
        kind="no_error",
        module=module.name,
        text=f"{module.name} has no ERROR handler: after a failure its conversations stay where they are",
        severity="info",
    )
