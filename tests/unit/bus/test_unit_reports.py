"""What units tell: where each stands, why something waits, and where the time of a start and a stop went (B17)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable

import pytest

from monsal.bus import Bus, ChannelFailures, Event, Phase, Unit, Units
from monsal.bus.inner.blame import report

from .conftest import PATIENCE, LoggedBus

Run = Callable[[Callable[[], object]], threading.Thread]


@pytest.fixture
def units(bus: LoggedBus) -> Units:
    made = Units(bus)
    made.subscribe()
    return made


def nothing() -> None:
    """Done at once."""


def broken() -> str:
    raise ValueError("no answer")


class Held:
    """A call that is held until `let_go`."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.gate = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.gate.wait(PATIENCE)

    def reached(self) -> None:
        assert self.begun.wait(PATIENCE)

    def let_go(self) -> None:
        self.gate.set()


@pytest.mark.rule("bus.B17")
def test_statistics_tell_where_each_unit_stands(bus: LoggedBus, units: Units) -> None:
    units.add(Unit("web", requires=("store",), wants=("console",), start=nothing, health=lambda: "slow disk"))
    units.add(Unit("console", start=broken, optional=True))
    units.add(Unit("store", start=nothing, stop=nothing, doing=lambda: "42 turns", health=lambda: None))
    before = {one.name: one for one in units.statistics()}
    assert [one.phase for one in before.values()] == ["inactive"] * 3
    assert before["web"].requires == ("store",)
    assert before["web"].wants == ("console",)
    bus.start()
    web, console, store = ({one.name: one for one in units.statistics()}[name] for name in before)
    assert [one.name for one in units.statistics()][-1] == "web"
    assert (web.phase, web.health, web.doing) == ("started", "slow disk", "")
    assert (store.phase, store.health, store.doing, store.optional) == ("started", "", "42 turns", False)
    assert (console.phase, console.reason, console.optional) == ("failed", "ValueError('no answer')", True)
    assert store.started_in is not None
    assert store.started_in >= 0
    assert (store.stopped_in, console.started_in) == (None, None)
    assert store.seconds >= 0
    bus.stop()
    assert {one.name: one.phase for one in units.statistics()}["store"] == "stopped"
    assert next(one for one in units.statistics() if one.name == "store").stopped_in is not None


@pytest.mark.rule("bus.B13")
def test_faults_and_stalls_are_sentences_of_started_units(bus: LoggedBus, units: Units) -> None:
    units.add(Unit("store", health=lambda: "disk is full", progress=lambda: "oldest message waits for 70 s"))
    units.add(Unit("web", health=lambda: "", progress=lambda: None))
    units.add(Unit("deaf", health=broken, progress=broken))
    units.add(Unit("console", start=broken, optional=True, health=lambda: "not asked", progress=lambda: "not asked"))
    assert units.faults() == units.stalled() == []
    bus.start()
    assert sorted(units.faults()) == [
        "console: ValueError('no answer')",
        "deaf: health() failed: ValueError('no answer')",
        "store: disk is full",
    ]
    assert units.stalled() == [
        "store: oldest message waits for 70 s",
        "deaf: progress() failed: ValueError('no answer')",
    ]


@pytest.mark.rule("bus.B17")
def test_each_call_of_a_unit_is_an_event(bus: LoggedBus, units: Units) -> None:
    units.add(Unit("store", start=nothing, drain=broken, stop=nothing))
    units.add(Unit("console", start=broken, optional=True, after=("store",)))
    units.add(Unit("graphs", requires=("console",), optional=True))
    bus.start()
    with pytest.raises(ChannelFailures):
        bus.exit()
    assert [(one.channel, one.name, one.cause) for one in bus.history.last() if one.kind == "unit"] == [
        ("start", "store", ""),
        ("start", "console", "ValueError('no answer')"),
        ("start", "graphs", "skipped: console failed"),
        ("drain", "store", "ValueError('no answer')"),
        ("stop", "store", ""),
    ]


# Why


@pytest.mark.rule("bus.B17")
def test_why_names_the_units_that_are_waited_for_and_those_that_wait(
    bus: LoggedBus, units: Units, in_thread: Run
) -> None:
    held = Held()
    units.add(Unit("store", start=held, doing=lambda: "replaying the journal"))
    units.add(Unit("outbox", requires=("store",)))
    units.add(Unit("web", after=("outbox",)))
    units.add(Unit("console"))
    assert units.why() == []
    in_thread(bus.start)
    held.reached()
    first, *rest = units.why()
    assert first.startswith("The start of unit store has run for ")
    assert " seconds and is given up in " in first
    assert first.endswith(" UTC.")
    assert rest[:-1] == ["store says: replaying the journal", "What waits for store: outbox, web."]
    assert rest[-1].startswith("store is here:\n")
    assert "assert self.gate.wait(PATIENCE)" in rest[-1]
    held.let_go()
    bus.wait(Phase.STARTED)
    assert units.why() == []


@pytest.mark.rule("bus.B17")
def test_why_a_drain_or_stop_takes_long(bus: LoggedBus, units: Units, in_thread: Run) -> None:
    drain, stop = Held(), Held()
    units.add(Unit("store", drain=nothing))
    units.add(Unit("outbox", drain=drain, stop=stop, requires=("store",)))
    units.add(Unit("web", requires=("outbox",)))
    bus.start()
    in_thread(bus.exit)
    drain.reached()
    first, second, _ = units.why()
    assert first.startswith("The drain of unit outbox has run for")
    assert second == "What waits for outbox: store."
    drain.let_go()
    stop.reached()
    first, second, _ = units.why()
    assert first.startswith("The stop of unit outbox has run for")
    assert second == "What waits for outbox: store."
    stop.let_go()
    bus.wait(Phase.EXITED)


@pytest.mark.rule("bus.B17")
def test_why_tells_of_a_listener_too_and_of_coroutines(bus: LoggedBus, units: Units, in_thread: Run) -> None:
    held, begun = Held(), threading.Event()
    bus.subscribe("start", held, 10)

    async def start() -> None:
        begun.set()
        await asyncio.Event().wait()

    units.add(Unit("web", start=start, start_limit=float("inf")))
    in_thread(bus.start)
    held.reached()
    first, second = units.why()
    assert "Held object at" in first
    assert "of 'start' has run for" in first
    assert "assert self.gate.wait(PATIENCE)" in second
    held.let_go()
    assert begun.wait(PATIENCE)
    first, second = units.why()
    assert first.endswith("seconds, without a limit.")
    assert "await asyncio.Event().wait()" in second
    bus.exit()
    bus.wait(Phase.EXITED)


# Blame


@pytest.mark.rule("bus.B17")
def test_blame_is_plain_values_with_listeners_units_and_the_critical_chain(bus: LoggedBus, units: Units) -> None:
    released = threading.Event()
    bus.subscribe("start", nothing, 10)
    units.add(Unit("quick", start=released.set, after=("store",)))
    units.add(Unit("store", start=nothing, stop=nothing))
    units.add(Unit("slow", start=lambda: released.wait(PATIENCE) and threading.Event().wait(0.05), after=("quick",)))
    empty = {"seconds": 0.0, "steps": [], "chain": []}
    assert units.blame() == {"start": empty, "stop": None}
    bus.start()
    told = units.blame()
    assert json.loads(json.dumps(told)) == told
    assert told["stop"] is None
    listener = "tests.unit.bus.test_unit_reports.nothing"
    assert told["start"]["chain"][-3:] == ["store", "quick", "slow"]
    assert told["start"]["chain"][0].endswith("test_unit_reports.nothing")
    steps = {step["name"].rpartition("tests.unit.bus.")[2]: step for step in told["start"]["steps"]}
    assert [step["kind"] for step in steps.values()] == ["listener", "unit", "unit", "unit"]
    assert [step["waited_for"] for step in steps.values()] == [None, None, "store", "quick"], listener
    assert {step["channel"] for step in steps.values()} == {"start"}
    slow = steps["slow"]
    assert slow["seconds"] >= 0.05
    assert 0 <= slow["at"] <= told["start"]["seconds"]
    bus.exit()
    told = units.blame()
    assert told["stop"]["chain"] == ["slow", "quick", "store"]
    assert [step["waited_for"] for step in told["stop"]["steps"]] == [None, "slow", "quick"]
    assert told["stop"]["seconds"] >= 0
    assert told["start"]["seconds"] >= 0.05


@pytest.mark.rule("bus.B17")
def test_blame_after_a_failed_start_tells_what_was_stopped_within_it(bus: LoggedBus, units: Units) -> None:
    units.add(Unit("store"))
    units.add(Unit("web", start=broken, after=("store",)))
    with pytest.raises(ChannelFailures):
        bus.start()
    told = units.blame()
    assert told["start"]["chain"] == ["store", "web", "store"]
    assert [(step["name"], step["channel"], step["cause"]) for step in told["start"]["steps"]] == [
        ("store", "start", ""),
        ("web", "start", "ValueError('no answer')"),
        ("store", "stop", ""),
    ]
    assert told["stop"]["steps"] == []


@pytest.mark.rule("bus.B17")
def test_blame_is_of_the_last_start_and_the_stop_after_it(bus: LoggedBus, units: Units) -> None:
    units.add(Unit("store", start=nothing))
    bus.start()
    bus.stop()
    assert units.blame()["stop"]["chain"] == ["store"]
    bus.start()
    assert units.blame()["stop"] is None
    assert len(units.blame()["start"]["steps"]) == 1


def test_blame_while_it_starts_tells_what_is_done_so_far(bus: LoggedBus, units: Units, in_thread: Run) -> None:
    held = Held()
    units.add(Unit("store"))
    units.add(Unit("web", start=held, after=("store",)))
    in_thread(bus.start)
    held.reached()
    told = units.blame()
    assert told["start"]["chain"] == ["store"]
    held.let_go()
    bus.wait(Phase.STARTED)


def test_blame_of_a_start_that_the_history_forgot_is_that_of_the_units() -> None:
    events = [Event(at, "call", "late", channel="main") for at in (50.0, 51.0)]
    units = [
        (Event(10.0, "unit", "store", "start", 1.0), None),
        (Event(13.5, "unit", "web", "start", 3.0), "store"),
    ]
    told = report(events, units, "started", 60.0)
    assert told["start"]["seconds"] == 4.5
    assert told["start"]["chain"] == ["store", "web"]
    assert [(step["name"], step["at"], step["seconds"]) for step in told["start"]["steps"]] == [
        ("store", 0.0, 1.0),
        ("web", 1.5, 3.0),
    ]
    assert told["stop"] is None


def test_blame_from_the_beginning_of_the_process_tells_what_came_before_the_bus() -> None:
    events = [
        Event(10.0, "phase", "new", seconds=1.0),
        Event(10.5, "call", "listener", "start", 0.25),
        Event(14.0, "phase", "starting", seconds=4.0),
    ]
    units = [(Event(13.0, "unit", "store", "start", 2.0), None)]
    told = report(events, units, "started", 60.0, 8.5)["start"]
    assert told["seconds"] == 5.5
    assert told["chain"] == ["loading", "listener", "store"]
    assert [(step["name"], step["kind"], step["at"], step["seconds"]) for step in told["steps"]] == [
        ("loading", "process", 0.0, 1.5),
        ("listener", "listener", 1.75, 0.25),
        ("store", "unit", 2.5, 2.0),
    ]
    assert [step["waited_for"] for step in told["steps"]] == [None, "loading", None]
    # A clock that was set back meanwhile tells nothing.
    assert report(events, units, "started", 60.0, 12.0) == report(events, units, "started", 60.0)


def test_the_time_before_the_bus_belongs_to_the_first_start_alone(bus: LoggedBus, units: Units) -> None:
    units.add(Unit("store", start=nothing))
    bus.start()
    assert units.blame(0.0)["start"]["chain"] == ["loading", "store"]
    bus.stop()
    bus.start()
    assert units.blame(0.0) == units.blame()


def test_units_of_a_bus_that_runs_are_told_from_any_thread(in_thread: Run) -> None:
    """Asking while a start is under way neither waits for it nor disturbs it."""
    bus, held = Bus(), Held()
    units = Units(bus)
    units.subscribe()
    units.add(Unit("store", start=held))
    in_thread(bus.start)
    held.reached()
    assert not units.ready
    assert [one.phase for one in units.statistics()] == ["starting"]
    assert units.faults() == units.stalled() == []
    held.let_go()
    bus.wait(Phase.STARTED)
    assert units.ready
    bus.exit()
