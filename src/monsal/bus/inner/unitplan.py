"""The order of units (B8), as pure functions: what waits for what, and whose turn it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from monsal.bus.unit import Unit, UnitError, UnitPhase

__all__ = ["planned", "those_behind", "turn_of"]


def planned(units: Mapping[str, Unit]) -> tuple[str, ...]:
    """All names, each after those that it waits for; else in the order of adding.

    Raises UnitError if a name is unknown, if units wait for each other, or if a unit that must be started requires one
    that may fail: its failure would fail the start, so it is not optional.
    """
    for unit in units.values():
        for field in ("requires", "wants", "after"):
            for name in getattr(unit, field):
                if name not in units:
                    raise UnitError(f"{unit.name}: {field} names {name!r}, which is no unit")
        for name in unit.requires:
            if units[name].optional and not unit.optional:
                raise UnitError(
                    f"{unit.name} requires {name}, which is optional; let it want {name}, or make it optional, too"
                )
    order: dict[str, None] = {}
    for name in units:
        _visit(name, units, order)
    return tuple(order)


def _visit(first: str, units: Mapping[str, Unit], order: dict[str, None]) -> None:
    """Append `first` and what it waits for; without recursion, because a chain may be longer than the stack."""
    if first in order:
        return
    way: dict[str, Iterable[str]] = {first: iter(units[first].waits_for)}
    while way:
        name, rest = next(reversed(way.items()))
        for before in rest:
            if before in way:
                names = list(way)
                raise UnitError("units wait for each other: " + " -> ".join([*names[names.index(before) :], before]))
            if before not in order:
                way[before] = iter(units[before].waits_for)
                break
        else:
            del way[name]
            order[name] = None


def turn_of(unit: Unit, phase_of: Callable[[str], UnitPhase]) -> tuple[Literal["wait", "start", "skip"], str]:
    """What is to be done with a unit that waits, and why if it is skipped."""
    for name in unit.requires:
        phase = phase_of(name)
        if phase.settled and phase is not UnitPhase.STARTED:
            how = phase.value if phase is UnitPhase.FAILED else f"is {phase.value}"
            return "skip", f"skipped: {name} {how}"
    if all(phase_of(name).settled for name in unit.waits_for):
        return "start", ""
    return "wait", ""


def those_behind(name: str, units: Iterable[Unit]) -> list[str]:
    """The names of those of `units` that wait for `name`, or for one that does."""
    behind = [name]
    rest = list(units)
    while found := [unit for unit in rest if any(before in behind for before in unit.waits_for)]:
        behind += [unit.name for unit in found]
        rest = [unit for unit in rest if unit not in found]
    return behind[1:]
