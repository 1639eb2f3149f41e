"""Whatever units wait for and whatever they do: each that starts is stopped once, in reverse, and the end is reached.

`Model` says what may come of a plan of units. It knows nothing of threads, so of a start that ended early it says only
which units cannot have been reached.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from monsal.bus import Bus, ChannelFailures, Limits, Phase, Unit, Units

PATIENCE = 60.0
#: What a unit does at its start, drain or stop, plainly or as a coroutine.
DEEDS = ("ok", "ok", "ok", "fails", "hangs", "exits", "breaks")
LIMIT = 0.03


@dataclass(frozen=True)
class Part:
    """One unit of a plan: what it does, and by their numbers what it waits for, which are all lower than its own."""

    start: str
    drain: str
    stop: str
    coroutine: bool
    optional: bool
    requires: frozenset[int]
    wants: frozenset[int]
    after: frozenset[int]

    @property
    def waits_for(self) -> frozenset[int]:
        return self.requires | self.wants | self.after


@st.composite
def plans(draw: st.DrawFn, deeds: Sequence[str] = DEEDS) -> list[Part]:
    parts: list[Part] = []
    for number in range(draw(st.integers(1, 6))):
        some = st.frozensets(st.integers(0, number - 1), max_size=2) if number else st.just(frozenset[int]())
        optional = draw(st.booleans())
        requires = frozenset(one for one in draw(some) if optional or not parts[one].optional)
        part = Part(
            start=draw(st.sampled_from(deeds)),
            drain=draw(st.sampled_from(deeds)),
            stop=draw(st.sampled_from(deeds)),
            coroutine=draw(st.booleans()),
            optional=optional,
            requires=requires,
            wants=draw(some),
            after=draw(some),
        )
        parts.append(part)
    return parts


class Stage:
    """The units of a plan on a bus, and what was done to them: (channel, number) as each call begins."""

    def __init__(self, plan: Sequence[Part]) -> None:
        self.plan = plan
        self.bus = Bus(limits=Limits(hurry=LIMIT))
        self.units = Units(self.bus)
        self.units.subscribe()
        self.gate = threading.Event()
        self.done: list[tuple[str, int]] = []
        for number, part in enumerate(plan):
            self.units.add(self._unit(number, part))

    def _unit(self, number: int, part: Part) -> Unit:
        limits = {
            f"{channel}_limit": LIMIT if getattr(part, channel) == "hangs" else PATIENCE
            for channel in ("start", "drain", "stop")
        }
        return Unit(
            str(number),
            start=self._work("start", number, part.start, part.coroutine),
            drain=self._work("drain", number, part.drain, part.coroutine),
            stop=self._work("stop", number, part.stop, part.coroutine),
            requires=tuple(map(str, part.requires)),
            wants=tuple(map(str, part.wants)),
            after=tuple(map(str, part.after)),
            optional=part.optional,
            **limits,
        )

    def _work(self, channel: str, number: int, deed: str, coroutine: bool) -> Callable[[], Any]:
        def begin() -> None:
            self.done.append((channel, number))
            if deed == "fails":
                raise ValueError(f"{channel} {number}")
            if deed == "exits":
                ask(self.bus, "exit")
            if deed == "breaks":
                self.units.failed(str(number), "told so")

        def plain() -> None:
            begin()
            if deed == "hangs":
                self.gate.wait(PATIENCE)
                raise ValueError("given up long ago")
            self.done.append((f"{channel} ended", number))

        async def awaited() -> None:
            begin()
            if deed == "hangs":
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            self.done.append((f"{channel} ended", number))

        return awaited if coroutine else plain

    def phases(self) -> list[str]:
        found = {int(one.name): one.phase for one in self.units.statistics()}
        return [found[number] for number in range(len(found))]

    def calls(self, channel: str) -> list[int]:
        return [number for what, number in self.done if what == channel]


def ask(bus: Bus, wish: str) -> ChannelFailures | None:
    try:
        getattr(bus, wish)()
    except ChannelFailures as failures:
        return failures
    return None


class Model:
    """What comes of a start in which nobody asks for the exit and nothing that is not optional goes wrong."""

    def __init__(self, plan: Sequence[Part]) -> None:
        self.phases: list[str] = []
        for part in plan:
            missed = any(self.phases[one] in ("failed", "skipped") for one in part.requires)
            bad = part.start in ("fails", "hangs", "breaks")
            self.phases.append("skipped" if missed else "failed" if bad else "started")

    def fails(self, plan: Sequence[Part]) -> bool:
        """Whether a unit that is not optional goes wrong, if its turn comes."""
        return any(phase == "failed" and not part.optional for phase, part in zip(self.phases, plan, strict=True))

    def leaves(self, plan: Sequence[Part]) -> bool:
        """Whether a unit asks for the exit, if its turn comes."""
        return any(phase == "started" and part.start == "exits" for phase, part in zip(self.phases, plan, strict=True))


def check_order(stage: Stage, started: Sequence[int]) -> None:
    """What holds however it went: once each, never before what it needs, stopped in exact reverse."""
    starts, stops, drains = stage.calls("start"), stage.calls("stop"), stage.calls("drain")
    assert len(set(starts)) == len(starts)
    for place, number in enumerate(starts):
        part = stage.plan[number]
        assert part.requires <= set(starts[:place]), "never before what it requires"
        assert not part.waits_for & set(starts[place:]), "never before what it waits for"
        ahead = stage.done[: stage.done.index(("start", number))]
        for one in part.waits_for & set(starts):
            works = stage.plan[one].start in ("ok", "exits", "breaks")
            assert not works or ("start ended", one) in ahead, "never before that is done"
    assert stops == list(reversed(started)), "stopped once, in exact reverse of having become started"
    for place, number in enumerate(stops):
        assert not stage.plan[number].waits_for & set(stops[:place]), "stopped before what it waits for"
    assert len(set(drains)) == len(drains)
    assert drains == [number for number in stops if number in drains]
    if drains:
        assert max(index for index, (what, _) in enumerate(stage.done) if what == "drain") < min(
            index for index, (what, _) in enumerate(stage.done) if what == "stop"
        ), "all are drained before the first is stopped"


def became_started(stage: Stage) -> list[int]:
    """The units that became started, in that order, by what the bus says."""
    events = [event for event in stage.bus.history.last() if event.kind == "unit"]
    return [int(event.name) for event in events if event.channel == "start" and not event.cause]


@pytest.mark.rule("bus.B8", "bus.B12", "bus.B4", "bus.B18")
@settings(deadline=None, max_examples=120)
@given(plan=plans())
def test_what_became_started_is_stopped_once_in_reverse_and_the_end_is_reached(plan: list[Part]) -> None:
    stage, model = Stage(plan), Model(plan)
    failures = ask(stage.bus, "start")
    started, phases = became_started(stage), stage.phases()
    ends = model.fails(plan) or model.leaves(plan)
    if not ends:
        assert failures is None
        # A unit that asks for nothing leaves the bus alone, and an optional failure does not fail the start.
        assert stage.bus.phase is Phase.STARTED
        assert phases == model.phases
        assert stage.units.ready
    elif not model.leaves(plan):
        assert failures is not None, "the failure of a unit that is not optional fails the start"
    elif not model.fails(plan):
        assert failures is None, "an exit during the start is no failure (B10)"
    if ends:
        assert stage.bus.phase is Phase.EXITED
    ended = ask(stage.bus, "exit")
    stage.bus.wait(Phase.EXITED)
    check_order(stage, started)
    final = stage.phases()
    for number, part in enumerate(plan):
        if number not in started:
            assert final[number] in ("inactive", "skipped", "failed", "stopped")
        else:
            assert final[number] == ("failed" if part.stop in ("fails", "hangs") else "stopped")
    # Whether the bus ended well is a function of what happened.
    bad = [number for number in started if plan[number].stop in ("fails", "hangs")]
    bad += [number for number in stage.calls("drain") if plan[number].drain in ("fails", "hangs")]
    assert (ask(stage.bus, "block") is None) == (not bad and stage.units.broken is None)
    assert ended is None or bad
    stage.gate.set()


class Life(RuleBasedStateMachine):
    """A bus with units that is started, broken, stopped and exited at random, beside a model of three facts."""

    def __init__(self) -> None:
        super().__init__()
        self.stage: Stage | None = None
        self.runs: list[int] = []
        self.gone = False

    @initialize(plan=plans(deeds=("ok", "ok", "fails")))
    def made(self, plan: list[Part]) -> None:
        self.stage = Stage(plan)

    @property
    def is_up(self) -> bool:
        return self.stage is not None and self.stage.bus.phase is Phase.STARTED

    @precondition(lambda self: not self.gone and self.stage.bus.phase in (Phase.NEW, Phase.STOPPED))
    @rule()
    def start(self) -> None:
        stage = self.stage
        assert stage is not None
        stage.done.clear()
        stage.bus.history._events.clear()
        model = Model(stage.plan)
        failures = ask(stage.bus, "start")
        self.runs = became_started(stage)
        if model.fails(stage.plan):
            assert failures is not None
            self._ended()
        else:
            assert failures is None
            assert stage.phases() == model.phases
            assert stage.units.broken is None

    @precondition(lambda self: self.is_up)
    @rule()
    def stop(self) -> None:
        assert self.stage is not None
        failures = ask(self.stage.bus, "stop")
        assert self.stage.bus.phase is (Phase.STOPPED if failures is None else Phase.FAILED)
        check_order(self.stage, self.runs)

    @precondition(lambda self: self.is_up)
    @rule(number=st.integers(0, 5))
    def breaks(self, number: int) -> None:
        stage = self.stage
        assert stage is not None
        number %= len(stage.plan)
        before = stage.phases()[number]
        stage.units.failed(str(number), "told so")
        if before == "started" and not stage.plan[number].optional:
            assert stage.units.broken == (str(number), "told so")
            stage.bus.wait(Phase.EXITED)
            self._ended()
        else:
            assert stage.units.broken is None
            assert stage.bus.phase is Phase.STARTED
            assert stage.phases()[number] == ("failed" if before == "started" else before)

    @precondition(lambda self: self.stage is not None)
    @rule()
    def leave(self) -> None:
        assert self.stage is not None
        ask(self.stage.bus, "exit")
        self._ended()

    def _ended(self) -> None:
        assert self.stage is not None
        self.gone = True
        assert self.stage.bus.phase is Phase.EXITED
        check_order(self.stage, self.runs)

    @invariant()
    def the_words_fit_the_facts(self) -> None:
        if self.stage is None:
            return
        stage = self.stage
        assert stage.units.why() == []
        assert stage.units.ready == (
            stage.bus.phase is Phase.STARTED
            and all(
                phase == "started" for phase, part in zip(stage.phases(), stage.plan, strict=True) if not part.optional
            )
        )
        told = stage.units.blame()
        assert (told["stop"] is None) == (stage.bus.phase in (Phase.NEW, Phase.STARTED))

    def teardown(self) -> None:
        if self.stage is not None:
            self.stage.gate.set()
            ask(self.stage.bus, "exit")


TestLife = Life.TestCase
TestLife.settings = settings(deadline=None, max_examples=60, stateful_step_count=12)
TestLife.pytestmark = [pytest.mark.rule("bus.B8", "bus.B18")]
