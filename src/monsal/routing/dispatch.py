"""Choosing: which handler is the next to take a message. Pure, and asked anew after each turn (R18).

A message goes to each matching stateless handler, once, and then to one stateful handler: the first that is in its
state, over all matching routes and modules (R15, R16). If none is, the message goes to the module's `@otherwise`; and
if the stored state has no function any more, somebody who is still there takes it, loudly (P5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from monsal.routing.table import ERROR_STATE, Handler, Match, Module, Table

__all__ = ["Call", "Orphan", "next_call", "orphaned"]

StateOf = Callable[[str], str]


class Call(msgspec.Struct, frozen=True):
    """A handler and the captures of the route that chose it (R19). `note` is for the log and the history, if any."""

    handler: Handler
    captures: Mapping[str, Any]
    note: str = ""

    @property
    def stateful(self) -> bool:
        """Whether the handler's result moves the machine."""
        return not self.handler.stateless


class Orphan(msgspec.Struct, frozen=True):
    """A conversation in a state that its module has no function for."""

    module: str
    state: str


def next_call(
    matches: Sequence[Match],
    state_of: StateOf,
    *,
    table: Table,
    done: Collection[str] = (),
    stateful_done: bool = False,
    rescue: bool = True,
) -> Call | None:
    """The next handler to call for a message, or None if there is no more.

    `matches` are those of the recipient in `table`. `state_of` gives the state that the correspondent has with a
    module; it is asked once per module (rule routing.B18). `done` are the ids of the handlers that were called already,
    whether they returned or failed for good; `stateful_done` says that one of them was a stateful one, and then no
    other is called, even if that one failed (R16). Without `rescue` a message whose conversation is in a state that
    has no function goes to `@otherwise` or to nobody.
    """
    for match in matches:
        for handler in match.route.stateless:
            if handler.id not in done:
                return Call(handler, match.captures)
    if stateful_done:
        return None
    states: dict[str, str] = {}
    if (call := _in_state(matches, state_of, table, states)) is not None:
        return call

    def known(module: str) -> str:
        return states[module] if module in states else state_of(module)

    machines = _machines(matches, known, table)
    for match in matches:
        for handler in match.route.stateful:
            machine = machines.get(handler.module)
            taker = None if machine is None else machine.taker(handler)
            if taker is not None:
                return Call(taker, match.captures)
    calls = (machine.rescue(others=rescue) for machine in machines.values())
    return next((call for call in calls if call is not None), None)


def _in_state(matches: Sequence[Match], state_of: StateOf, table: Table, states: dict[str, str]) -> Call | None:
    """The call that a walk over the machines finds, where none that comes before it is in ERROR: nearly always.

    `states` are filled with those that were asked for.
    """
    present: dict[str, str] = {}
    for match in matches:
        for handler in match.route.stateful:
            name = handler.module
            state = present.get(name)
            if state is None:
                module = table.modules.get(name)
                if module is None:
                    continue
                states[name] = state_of(name)
                state = present[name] = module.present_name(states[name])
                if state == ERROR_STATE:
                    return None
            if state == handler.name:
                return Call(handler, match.captures)
    return None


def orphaned(matches: Sequence[Match], state_of: StateOf, *, table: Table) -> tuple[Orphan, ...]:
    """The conversations among the matching modules whose state has no function any more (rule routing.B8)."""
    machines = _machines(matches, state_of, table).values()
    return tuple(Orphan(machine.module.name, machine.state) for machine in machines if machine.is_orphan)


class _Machine:
    """One module's machine as a message meets it: its state, and which of its handlers the address matches."""

    def __init__(self, module: Module, state: str, first: Match) -> None:
        self.module = module
        self.state = state
        self.first = first
        self.matched: dict[str, tuple[Handler, Match]] = {}

    @property
    def is_orphan(self) -> bool:
        return not self.module.knows(self.state)

    def taker(self, handler: Handler) -> Handler | None:
        """The handler to call where the walk meets `handler`: itself if it is in its state (R17)."""
        state = self.module.present_name(self.state)
        if handler.name == state:
            return handler
        # ERROR needs no route: it takes what any of the module's routes matches (DESIGN 4, *Failure*).
        if state == ERROR_STATE and ERROR_STATE not in self.matched:
            return self.module.error
        return None

    def rescue(self, *, others: bool) -> Call | None:
        """Who takes the message though nobody is in the state.

        An orphan's message goes to `@otherwise`, else to ERROR, which exists for conversations gone wrong, else to
        START if the address matches it: an answer that fits badly beats silence (P5). Without `others` only to
        `@otherwise`, which was written for what fits nowhere.
        """
        module, otherwise = self.module, self.module.otherwise
        if not self.is_orphan:
            return None if otherwise is None else Call(otherwise, self.first.captures)
        handler, match = otherwise or (module.error if others else None), self.first
        if handler is None:
            if not others or module.first not in self.matched:
                return None
            handler, match = self.matched[module.first]
        note = f"{module.name} has no state {self.state} any more; {handler.id} takes the message instead"
        return Call(handler, match.captures, note)


def _machines(matches: Sequence[Match], state_of: StateOf, table: Table) -> dict[str, _Machine]:
    """The machines that have a stateful handler here, in order of the walk."""
    machines: dict[str, _Machine] = {}
    for match in matches:
        for handler in match.route.stateful:
            machine = machines.get(handler.module)
            if machine is None:
                module = table.modules.get(handler.module)
                if module is None:
                    continue
                machine = machines[handler.module] = _Machine(module, state_of(handler.module), match)
            machine.matched.setdefault(handler.name, (handler, match))
    return machines
