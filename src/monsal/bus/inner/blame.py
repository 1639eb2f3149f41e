"""Where the time of a start or stop went (B17), as a pure function of the events of the bus and of its units.

Listeners are called one after the other, so each waits for the one before. Units start at the same time, so each has a
note of the unit that it had to wait for last. The critical chain goes back from the last step along these. Before all
of them a process loads its code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from monsal.bus.events import Event

__all__ = ["UnitStep", "report"]

#: An event of a unit, and the name of the unit that it had to wait for last.
UnitStep = tuple[Event, str | None]

#: The listeners in whose time the units are; they are left out, their time is that of the units.
_UNITS = frozenset(f"monsal.bus.units.Units.{channel}" for channel in ("start", "drain", "stop", "exit"))

#: The phases that make up a stop.
_STOP = ("draining", "stopping", "exiting")
#: Those in which it is not over: exit listeners may want to note what it took.
_UNDER_WAY = ("draining", "stopping")


class _Span(NamedTuple):
    """A phase with what happened in it, in seconds since 1970."""

    phase: str
    began: float
    ended: float
    calls: tuple[Event, ...]


#: The step that is what the process did before the bus began: to start Python, to load its code.
_LOADING: Final = "loading"


def report(
    events: Sequence[Event], units: Sequence[UnitStep], phase: str, now: float, since: float | None = None
) -> dict[str, Any]:
    """The last start and the stop after it, None if there was none or it is not over; see `Units.blame`.

    `phase` is that of the bus at `now`. If the events of the start are forgotten already, it is that of the units only.
    """
    spans = list(_spans(events, phase, now))
    last = max((place for place, span in enumerate(spans) if span.phase == "starting"), default=-1)
    start, after = spans[last : last + 1] if last >= 0 else [], spans[last + 1 :]
    stop = [span for span in after if span.phase in _STOP]
    border = start[0].ended if start else stop[0].began if stop else now
    is_first = last > 0 and spans[last - 1].phase == "new"
    return {
        "start": _part(start, [step for step in units if step[0].at <= border], since if is_first else None),
        "stop": _part(stop, [step for step in units if step[0].at > border])
        if stop and phase not in _UNDER_WAY
        else None,
    }


def _spans(events: Iterable[Event], phase: str, now: float) -> Iterable[_Span]:
    began: float | None = None
    calls: list[Event] = []
    for event in events:
        if event.kind == "phase":
            yield _Span(event.name, event.at - event.seconds, event.at, tuple(calls))
            began, calls = event.at, []
        elif event.kind == "call":
            calls.append(event)
    yield _Span(phase, now if began is None else began, now, tuple(calls))


def _part(spans: Sequence[_Span], units: Sequence[UnitStep], since: float | None = None) -> dict[str, Any]:
    began = min([*(span.began for span in spans), *(event.at - event.seconds for event, _ in units)], default=0.0)
    ended = max((event.at for event, _ in units), default=began)
    steps: list[tuple[Event, str | None, str]] = []
    chain: list[str] = []
    before: str | None = None
    loading = 0.0
    if since is not None and since < began:
        loading = began - since
        steps.append((Event(began, "phase", _LOADING, "start", loading), None, "process"))
        chain.append(_LOADING)
        began, before = since, _LOADING
    for call in (call for span in spans for call in span.calls):
        if call.name in _UNITS:
            chain += _critical([step for step in units if call.at - call.seconds <= step[0].at <= call.at])
            before = chain[-1] if chain else before
            continue
        steps.append((call, before, "listener"))
        chain.append(call.name)
        before = call.name
    steps += [(event, waited_for, "unit") for event, waited_for in units]
    chain += [name for name in _critical(units) if name not in chain]
    steps.sort(key=lambda step: step[0].at - step[0].seconds)
    return {
        "seconds": round(loading + sum(span.ended - span.began for span in spans) if spans else ended - began, 6),
        "steps": [_step(*step, began) for step in steps],
        "chain": chain,
    }


def _critical(units: Sequence[UnitStep]) -> list[str]:
    """The names of the units that made up the time: of a start the chain that ended last; a stop is one chain."""
    starts = {event.name: (event, waited_for) for event, waited_for in units if event.channel == "start"}
    chain: list[str] = []
    last = max(starts.values(), key=lambda step: step[0].at, default=None)
    while last is not None:
        chain.insert(0, last[0].name)
        last = starts.get(last[1]) if last[1] is not None else None
    return chain + [event.name for event, _ in units if event.channel != "start"]


def _step(event: Event, waited_for: str | None, kind: str, began: float) -> dict[str, Any]:
    return {
        "name": event.name,
        "kind": kind,
        "channel": event.channel,
        "seconds": round(event.seconds, 6),
        "at": round(event.at - event.seconds - began, 6),
        "waited_for": waited_for,
        "cause": event.cause,
    }
