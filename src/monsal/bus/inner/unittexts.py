"""What units say of themselves and what is said of them: statistics, faults, and why something waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from time import monotonic

from monsal.bus.events import History
from monsal.bus.inner.crew import Member, UnitCall
from monsal.bus.inner.outcomes import text_of
from monsal.bus.inner.rounds import Call
from monsal.bus.inner.unitplan import those_behind
from monsal.bus.unit import Unit, UnitPhase, UnitStatistics

__all__ = ["faults", "stalled", "statistics", "why_listener", "why_unit"]

_AT_WORK = (UnitPhase.STARTING, UnitPhase.STARTED, UnitPhase.DRAINING, UnitPhase.STOPPING)


def _said(asked: Callable[[], str | None] | None, what: str) -> str:
    """What a unit answers; one that cannot answer is not well, and the reader should know."""
    if asked is None:
        return ""
    try:
        return asked() or ""
    except Exception as error:  # noqa: BLE001 - a foreign function; its failure is the answer
        return f"{what} failed: {text_of(error)}"


def _health(member: Member) -> str:
    return _said(member.unit.health, "health()") if member.phase is UnitPhase.STARTED else ""


def faults(members: Iterable[Member]) -> list[str]:
    found = [
        (member.unit.name, member.reason if member.phase is UnitPhase.FAILED else _health(member)) for member in members
    ]
    return [f"{name}: {text}" for name, text in found if text]


def stalled(members: Iterable[Member]) -> list[str]:
    found = [
        (member.unit.name, _said(member.unit.progress, "progress()"))
        for member in members
        if member.phase is UnitPhase.STARTED
    ]
    return [f"{name}: {text}" for name, text in found if text]


def statistics(member: Member) -> UnitStatistics:
    unit = member.unit
    return UnitStatistics(
        name=unit.name,
        phase=member.phase.value,
        optional=unit.optional,
        requires=unit.requires,
        wants=unit.wants,
        after=unit.after,
        seconds=monotonic() - member.since,
        started_in=member.started_in,
        stopped_in=member.stopped_in,
        doing=_said(unit.doing, "doing()") if member.phase in _AT_WORK else "",
        reason=member.reason,
        health=_health(member),
    )


def why_unit(call: UnitCall, end: float, starting: Iterable[Unit], up: Sequence[str]) -> list[str]:
    """Why a unit's call is waited for. `starting` are the units that are not started yet, `up` those still to stop."""
    unit = call.member.unit
    lines = [_since(f"The {call.channel} of unit {unit.name}", call, end)]
    if doing := _said(unit.doing, "doing()"):
        lines.append(f"{unit.name} says: {doing}")
    if call.channel == "start":
        behind = those_behind(unit.name, starting)
    elif call.channel == "stop":
        behind = list(up)
    else:
        behind = list(up[up.index(unit.name) + 1 :]) if unit.name in up else []
    if behind:
        lines.append(f"What waits for {unit.name}: {', '.join(behind)}.")
    lines.append(f"{unit.name} is here:\n{call.stack().rstrip()}")
    return lines


def why_listener(call: Call, channel: str, end: float) -> list[str]:
    """Why a listener is waited for."""
    name = History.name_of(call.listener)
    return [_since(f"The listener {name} of {channel!r}", call, end), f"{name} is here:\n{call.stack().rstrip()}"]


def _since(what: str, call: Call, end: float) -> str:
    now = monotonic()
    text = f"{what} has run for {now - call.began:.1f} seconds"
    if end == float("inf"):
        return f"{text}, without a limit."
    until = time.strftime("%H:%M:%S", time.gmtime(time.time() + end - now))
    return f"{text} and is given up in {max(0.0, end - now):.1f} seconds, at {until} UTC."
