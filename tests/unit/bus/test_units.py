"""Units start in the order of their needs, at the same time where they can, and are stopped in exact reverse (B8)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from monsal.bus import Bus, ChannelFailures, Phase, Unit, UnitError, Units, states

from .conftest import PATIENCE, LoggedBus

Run = Callable[[Callable[[], object]], threading.Thread]

#: Seconds for what hangs on purpose.
SHORT = 0.2


class Yard:
    """Units that note what is done to them."""

    def __init__(self, bus: Bus) -> None:
        self.units = Units(bus)
        self.units.subscribe()
        self.seen: list[str] = []

    def add(self, name: str, **fields: Any) -> Unit:
        """A unit that notes its start and stop; `drain=True` has it note that, too."""
        fields.setdefault("start", self.note(name))
        fields.setdefault("stop", self.note(f"-{name}"))
        if fields.get("drain") is True:
            fields["drain"] = self.note(f"~{name}")
        return self.units.add(Unit(name, **fields))

    def note(self, text: str) -> Callable[[], None]:
        return lambda: self.seen.append(text)

    def phases(self) -> dict[str, str]:
        return {one.name: one.phase for one in self.units.statistics()}

    def reasons(self) -> dict[str, str]:
        return {one.name: one.reason for one in self.units.statistics() if one.reason}


@pytest.fixture
def yard(bus: LoggedBus) -> Yard:
    return Yard(bus)


def fails(text: str = "broken") -> Callable[[], None]:
    def fail() -> None:
        raise ValueError(text)

    return fail


# Order


@pytest.mark.rule("bus.B8")
def test_units_start_after_what_they_wait_for_and_stop_in_exact_reverse(bus: LoggedBus, yard: Yard) -> None:
    yard.add("web", requires=("outbox",), wants=("store",))
    yard.add("outbox", after=("store",))
    yard.add("store")
    assert not yard.units.ready
    bus.start()
    assert yard.seen == ["store", "outbox", "web"]
    assert yard.units.ready
    assert set(yard.phases().values()) == {"started"}
    bus.exit()
    assert yard.seen[3:] == ["-web", "-outbox", "-store"]
    assert set(yard.phases().values()) == {"stopped"}
    assert not yard.units.ready


@pytest.mark.rule("bus.B8")
def test_what_does_not_wait_for_each_other_starts_at_the_same_time(bus: LoggedBus, yard: Yard) -> None:
    together = threading.Barrier(3)

    def meet() -> None:
        together.wait(PATIENCE)

    async def meet_there() -> None:
        await asyncio.to_thread(meet)

    yard.add("a", start=meet)
    yard.add("b", start=meet)
    yard.add("c", start=meet_there)
    bus.start()
    assert set(yard.phases().values()) == {"started"}


@pytest.mark.rule("bus.B8")
def test_a_unit_starts_as_soon_as_what_it_waits_for_is_there(bus: LoggedBus, yard: Yard) -> None:
    """By need and not by layer: `slow` is of the first layer and waits for one of the second."""
    second = threading.Event()
    yard.add("slow", start=lambda: second.wait(PATIENCE))
    yard.add("first")
    yard.add("second", start=second.set, requires=("first",))
    bus.start()
    assert second.is_set()
    started = [one.name for one in yard.units.statistics()]
    assert started[0] == "first"
    yard.seen.clear()
    bus.stop()
    assert yard.seen == [f"-{name}" for name in reversed(started)]


@pytest.mark.rule("bus.B8")
def test_they_come_after_listeners_of_lower_priority_and_stop_before_them(bus: LoggedBus, yard: Yard) -> None:
    for channel in ("start", "drain", "stop"):
        bus.subscribe(channel, yard.note(channel))
    yard.add("store", drain=True)
    bus.start()
    bus.stop()
    assert yard.seen == ["start", "store", "~store", "drain", "-store", "stop"]


def test_one_with_nothing_to_do_is_a_mere_name_for_others(bus: LoggedBus, yard: Yard) -> None:
    yard.add("store")
    yard.units.add(Unit("resources", requires=("store",)))
    yard.add("web", requires=("resources",))
    bus.start()
    assert yard.seen == ["store", "web"]
    assert yard.phases()["resources"] == "started"
    bus.stop()
    assert yard.phases()["resources"] == "stopped"


def test_each_call_has_a_thread_of_its_own_and_the_context_of_the_caller(bus: LoggedBus, yard: Yard) -> None:
    where = ContextVar("where", default="nowhere")
    found: list[tuple[str, str]] = []

    def look() -> None:
        found.append((threading.current_thread().name, where.get()))
        where.set("changed")

    async def look_there() -> None:
        found.append((threading.current_thread().name, where.get()))

    yard.add("a", start=look)
    yard.add("b", start=look_there, after=("a",))
    where.set("here")
    bus.start()
    assert found == [("monsal-unit-a", "here"), ("monsal-bus-loop", "here")]


@pytest.mark.rule("bus.B5")
def test_async_units_run_on_the_attached_loop(bus: LoggedBus, yard: Yard) -> None:
    found: list[asyncio.AbstractEventLoop] = []

    async def look() -> None:
        await asyncio.sleep(0)
        found.append(asyncio.get_running_loop())

    async def main() -> None:
        bus.attach_loop(asyncio.get_running_loop())
        yard.add("a", start=look, drain=look, stop=look)
        await asyncio.to_thread(bus.start)
        await asyncio.to_thread(bus.exit)
        assert found == [asyncio.get_running_loop()] * 3

    asyncio.run(main())


@pytest.mark.rule("bus.B5")
def test_async_units_do_not_wait_for_a_loop_that_waits_for_them(bus: LoggedBus, yard: Yard) -> None:
    async def start() -> None:
        """Cannot begin."""

    async def main() -> None:
        bus.attach_loop(asyncio.get_running_loop())
        yard.add("a", start=start, stop=None)
        bus.start()

    with pytest.raises(ChannelFailures) as caught:
        asyncio.run(main())
    assert "await asyncio.to_thread(bus.start)" in str(caught.value)


@pytest.mark.rule("bus.B8")
def test_a_bus_can_be_started_again_with_its_units(bus: LoggedBus, yard: Yard) -> None:
    yard.add("outbox", requires=("store",))
    yard.add("store")
    for _ in range(2):
        bus.start()
        assert yard.units.ready
        bus.stop()
        assert not yard.units.ready
    assert yard.seen == ["store", "outbox", "-outbox", "-store"] * 2


def test_units_of_a_bus_that_never_started_are_left_alone(bus: LoggedBus, yard: Yard) -> None:
    yard.add("store", drain=True)
    bus.exit()
    assert yard.seen == []
    assert yard.phases() == {"store": "inactive"}


def test_units_that_unsubscribed_are_left_alone(bus: LoggedBus, yard: Yard) -> None:
    yard.add("store")
    yard.units.unsubscribe()
    bus.start()
    bus.exit()
    assert yard.seen == []


def test_units_can_be_led_without_the_bus(bus: LoggedBus) -> None:
    yard = Yard(bus)
    yard.units.unsubscribe()
    yard.add("store", drain=True)
    yard.units.start()
    with pytest.raises(UnitError, match="started already"):
        yard.units.start()
    yard.units.drain()
    yard.units.stop()
    yard.units.stop()
    assert yard.seen == ["store", "~store", "-store"]
    assert bus.phase is Phase.NEW


def test_none_is_added_while_they_are_started(bus: LoggedBus, yard: Yard) -> None:
    yard.add("store")
    bus.start()
    with pytest.raises(UnitError, match="unit 'web' comes too late"):
        yard.add("web")
    bus.stop()
    yard.add("web")
    bus.start()
    assert yard.units.ready
    assert yard.seen.count("web") == 1


# Failures


@pytest.mark.rule("bus.B8", "bus.B4")
def test_a_failure_ends_the_start_and_what_was_started_is_stopped_in_reverse(bus: LoggedBus, yard: Yard) -> None:
    error = ValueError("disk full")

    def start() -> None:
        raise error

    yard.add("a")
    yard.add("b", after=("a",))
    yard.add("store", start=start, after=("b",))
    yard.add("outbox", requires=("store",))
    yard.add("web", after=("store",))
    bus.subscribe("exit", yard.note("exit"))
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    assert caught.value.exceptions == (error,)
    assert yard.seen == ["a", "b", "-b", "-a", "exit"]
    assert bus.phase is Phase.EXITED
    assert yard.phases() == {
        "a": "stopped",
        "b": "stopped",
        "store": "failed",
        "outbox": "inactive",
        "web": "inactive",
    }
    assert yard.units.faults() == ["store: ValueError('disk full')"]
    text = bus.text_of("Error in the start of unit 'store'")
    assert "Traceback" in text
    assert "raise error" in text


@pytest.mark.rule("bus.B4", "bus.B12")
def test_a_failed_start_is_undone_before_it_returns_and_without_draining(bus: LoggedBus, yard: Yard) -> None:
    phases: list[Phase] = []
    yard.add("store", drain=True, stop=lambda: phases.append(bus.phase))
    yard.add("web", start=fails(), requires=("store",))
    with pytest.raises(ChannelFailures):
        bus.start()
    assert phases == [Phase.STARTING]
    assert yard.seen == ["store"]


@pytest.mark.rule("bus.B4")
def test_those_under_way_are_waited_for_and_stopped_after_a_failure(bus: LoggedBus, yard: Yard) -> None:
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise ValueError

    def start() -> None:
        failed.wait(PATIENCE)
        yard.seen.append("slow")

    yard.add("slow", start=start)
    yard.add("store", start=fail)
    with pytest.raises(ChannelFailures):
        bus.start()
    assert yard.seen == ["slow", "-slow"]


@pytest.mark.rule("bus.B4")
def test_several_failures_are_raised_together(bus: LoggedBus, yard: Yard) -> None:
    together = threading.Barrier(2)

    def fail() -> None:
        together.wait(PATIENCE)
        raise ValueError(threading.current_thread().name)

    yard.add("a", start=fail)
    yard.add("b", start=fail)
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    (group,) = caught.value.exceptions
    assert isinstance(group, ExceptionGroup)
    assert sorted(map(str, group.exceptions)) == ["monsal-unit-a", "monsal-unit-b"]


@pytest.mark.rule("bus.B8")
def test_what_does_not_fit_together_fails_the_start(bus: LoggedBus, yard: Yard) -> None:
    yard.add("store", after=("outbox",))
    yard.add("outbox", after=("store",))
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    (error,) = caught.value.exceptions
    assert isinstance(error, UnitError)
    assert "store -> outbox -> store" in str(error)
    assert yard.seen == []


@pytest.mark.rule("bus.B8")
def test_an_optional_unit_may_fail_and_takes_only_those_with_it_that_require_it(bus: LoggedBus, yard: Yard) -> None:
    yard.add("console", start=fails(), optional=True)
    yard.add("graphs", requires=("console",), optional=True)
    yard.add("alerts", requires=("graphs",), optional=True)
    yard.add("wanting", wants=("console",))
    yard.add("after", after=("alerts",))
    bus.start()
    assert sorted(yard.seen) == ["after", "wanting"]
    assert yard.units.ready
    assert yard.reasons() == {
        "console": "ValueError('broken')",
        "graphs": "skipped: console failed",
        "alerts": "skipped: graphs is skipped",
    }
    assert yard.phases()["alerts"] == "skipped"
    assert yard.units.faults() == ["console: ValueError('broken')"]
    assert "Unit 'graphs' is skipped: console failed" in bus.said
    bus.exit()
    assert sorted(yard.seen[2:]) == ["-after", "-wanting"]


@pytest.mark.rule("bus.B6", "bus.B8")
def test_a_start_that_hangs_is_given_up_with_its_stack(bus: LoggedBus, yard: Yard, gate: threading.Event) -> None:
    # It is warned of when half of this is over, if whoever watches comes to run in the other half.
    yard.add("store", start=lambda: gate.wait(PATIENCE), stop=None, start_limit=2.0)
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    (error,) = caught.value.exceptions
    assert isinstance(error, TimeoutError)
    assert str(error) == "unit store: start took more than 2.0 seconds"
    warning = bus.text_of("The start of unit 'store' has run for 1.")
    assert " of 2.0 seconds" in warning.splitlines()[0]
    assert "gate.wait(PATIENCE)" in warning
    assert "threading.py" in warning
    assert "run_forever" not in warning
    assert "crew.py" not in warning, "how the call came about tells nothing"
    assert "gate.wait(PATIENCE)" in bus.text_of("unit store: start took more than 2.0 seconds; it is here:")


@pytest.mark.rule("bus.B6", "bus.B8")
def test_an_async_start_that_hangs_is_cancelled_at_its_deadline(bus: LoggedBus, yard: Yard) -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    yard.add("store", start=hang, start_limit=SHORT, optional=True)
    bus.start()
    assert cancelled.wait(PATIENCE)
    assert yard.phases() == {"store": "failed"}
    assert "await asyncio.Event().wait()" in bus.text_of("The start of unit 'store'")


@pytest.mark.rule("bus.B8")
def test_a_start_that_succeeds_after_it_was_given_up_is_undone(
    bus: LoggedBus, yard: Yard, gate: threading.Event
) -> None:
    stopped = threading.Event()
    yard.add("console", start=lambda: gate.wait(PATIENCE), stop=stopped.set, start_limit=SHORT, optional=True)
    bus.start()
    assert not stopped.is_set()
    gate.set()
    assert stopped.wait(PATIENCE)
    stopped.clear()
    bus.exit()
    assert not stopped.is_set(), "it is stopped once"


@pytest.mark.rule("bus.B8")
def test_a_unit_is_not_started_beside_a_former_start_of_itself(
    bus: LoggedBus, yard: Yard, gate: threading.Event
) -> None:
    yard.add("console", start=lambda: gate.wait(PATIENCE), stop=None, start_limit=SHORT, optional=True)
    bus.start()
    bus.stop()
    bus.start()
    (fault,) = yard.units.faults()
    assert "its start of the last time still hangs" in fault


@pytest.mark.rule("bus.B8")
def test_a_unit_that_cannot_be_started_again_ends_the_start_of_others_at_once(
    bus: LoggedBus, yard: Yard, gate: threading.Event
) -> None:
    hangs = [True]

    async def serve() -> None:
        if not hangs:
            await asyncio.Event().wait()

    def stop() -> None:
        if hangs:
            hangs.clear()
            gate.wait(PATIENCE)

    yard.add("web", start=serve)
    yard.add("store", stop=stop, stop_limit=SHORT)
    bus.start()
    with pytest.raises(ChannelFailures, match="stop"):
        bus.stop()
    bus.stop()
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    assert "unit store: its stop of the last time still hangs" in str(caught.value)
    assert yard.reasons()["web"] == "cancelled: the start was ended"


@pytest.mark.rule("bus.B6")
def test_a_unit_may_extend_its_own_deadline(bus: LoggedBus, yard: Yard) -> None:
    def slow() -> None:
        bus.extend(PATIENCE)
        threading.Event().wait(3 * SHORT)

    async def slow_there() -> None:
        bus.extend(PATIENCE)
        await asyncio.sleep(3 * SHORT)

    yard.add("store", start=slow, stop=slow_there, drain=slow, start_limit=SHORT, stop_limit=SHORT, drain_limit=SHORT)
    bus.start()
    bus.exit()
    assert yard.phases() == {"store": "stopped"}


@pytest.mark.rule("bus.B6")
def test_the_deadline_of_listeners_does_not_cut_units_off(bus: LoggedBus, yard: Yard) -> None:
    bus.limits = bus.limits._replace(start=0.0, drain=0.0, stop=0.0)
    yard.add("store", drain=True)
    bus.start()
    bus.exit()
    assert yard.seen == ["store", "~store", "-store"]


@pytest.mark.rule("bus.R6")
def test_system_exit_of_a_unit_ends_more_than_the_start(bus: LoggedBus, yard: Yard) -> None:
    def leave() -> None:
        raise SystemExit(3)

    yard.add("a")
    yard.add("console", start=leave, optional=True, after=("a",))
    with pytest.raises(SystemExit) as caught:
        bus.start()
    assert caught.value.code == 3
    assert yard.seen == ["a", "-a"]
    bus.exit()
    assert yard.seen == ["a", "-a"]


@pytest.mark.rule("bus.B8")
def test_what_an_interrupt_left_under_way_is_waited_for_and_stopped(
    bus: LoggedBus, yard: Yard, gate: threading.Event
) -> None:
    """An interrupt of the main thread ends the start where it is (R11); the threads of the units go on."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    def start() -> None:
        bus.call_soon(interrupt)
        gate.wait(PATIENCE)
        yard.seen.append("slow")

    yard.add("slow", start=start)
    yard.add("never", after=("slow",))
    with pytest.raises(KeyboardInterrupt):
        bus.start()
    assert bus.phase is Phase.INTERRUPTED
    gate.set()
    bus.exit()
    assert yard.seen == ["slow", "-slow"]
    assert yard.phases() == {"slow": "stopped", "never": "inactive"}


# Stopping


@pytest.mark.rule("bus.B12")
def test_all_are_drained_before_the_first_is_stopped(bus: LoggedBus, yard: Yard) -> None:
    yard.add("store", drain=True)
    yard.add("outbox", requires=("store",))
    yard.add("web", drain=True, requires=("outbox",))
    bus.start()
    yard.seen.clear()
    bus.exit()
    assert yard.seen == ["~web", "~store", "-web", "-outbox", "-store"]


@pytest.mark.rule("bus.B12", "bus.B8")
def test_a_drain_or_stop_that_fails_or_hangs_keeps_nobody_from_theirs(
    bus: LoggedBus, yard: Yard, gate: threading.Event
) -> None:
    def hang() -> None:
        gate.wait(PATIENCE)

    yard.add("a", drain=True)
    yard.add("b", drain=fails("b drain"), stop=fails("b stop"), after=("a",))
    yard.add("c", drain=hang, stop=hang, drain_limit=SHORT, stop_limit=SHORT, after=("b",))
    yard.add("d", drain=True, after=("c",))
    bus.start()
    yard.seen.clear()
    with pytest.raises(ChannelFailures) as caught:
        bus.exit()
    assert yard.seen == ["~d", "~a", "-d", "-a"]
    leaves = [error for group in caught.value.exceptions for error in group.exceptions]  # type: ignore[attr-defined]
    assert list(map(repr, leaves)) == [
        "TimeoutError('unit c: drain took more than 0.2 seconds')",
        "ValueError('b drain')",
        "TimeoutError('unit c: stop took more than 0.2 seconds')",
        "ValueError('b stop')",
    ]
    assert yard.phases() == {"a": "stopped", "b": "failed", "c": "failed", "d": "stopped"}


@pytest.mark.rule("bus.B6")
def test_hurry_and_the_limit_of_the_whole_shorten_what_units_have(
    bus: LoggedBus, yard: Yard, gate: threading.Event, in_thread: Run
) -> None:
    begun = threading.Event()

    def hang() -> None:
        begun.set()
        gate.wait(PATIENCE)

    bus.limits = bus.limits._replace(hurry=SHORT)
    yard.add("a", drain=hang, stop=hang, drain_limit=PATIENCE * 9, stop_limit=PATIENCE * 9)
    yard.add("b")
    bus.start()

    def hasten() -> None:
        begun.wait(PATIENCE)
        bus.hurry.set()

    in_thread(hasten)
    with pytest.raises(ChannelFailures) as caught:
        bus.exit()
    assert len(caught.value.exceptions) == 2
    assert "-b" in yard.seen
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B6")
def test_all_units_together_have_the_time_of_one_shutdown(bus: LoggedBus, yard: Yard, gate: threading.Event) -> None:
    bus.limits = bus.limits._replace(whole=0.1, hurry=0.05)
    for name in "abc":
        yard.add(name, stop=lambda: gate.wait(PATIENCE), stop_limit=PATIENCE * 9)
    bus.start()
    with pytest.raises(ChannelFailures) as caught:
        bus.exit()
    (group,) = caught.value.exceptions
    assert isinstance(group, ExceptionGroup)
    assert len(group.exceptions) == 3


@pytest.mark.rule("bus.B4")
def test_what_fails_to_stop_after_a_failed_start_is_told_at_the_end(bus: LoggedBus, yard: Yard) -> None:
    yard.add("store", stop=fails("stop"))
    yard.add("web", start=fails("start"), after=("store",))
    with pytest.raises(ChannelFailures) as at_start:
        bus.start()
    with pytest.raises(ChannelFailures) as at_end:
        bus.block()
    assert list(map(repr, at_start.value.exceptions)) == ["ValueError('start')"]
    assert list(map(repr, at_end.value.exceptions)) == ["ValueError('stop')"]


# Leaving during the start


@pytest.mark.rule("bus.B10", "bus.B8")
@pytest.mark.parametrize("wish", ["exit", "stop", "restart"])
def test_an_exit_during_the_start_ends_it_without_an_error(bus: LoggedBus, yard: Yard, wish: str) -> None:
    def start() -> None:
        getattr(bus, wish)()
        yard.seen.append("b")

    yard.add("a")
    yard.add("b", start=start, after=("a",))
    yard.add("never", after=("b",))
    bus.start()
    assert yard.seen == ["a", "b", "-b", "-a"]
    assert bus.state is (states.STOPPED if wish == "stop" else states.EXITING)
    assert yard.phases() == {"a": "stopped", "b": "stopped", "never": "inactive"}
    assert yard.units.broken is None


@pytest.mark.rule("bus.B10", "bus.B7")
def test_an_exit_from_elsewhere_wakes_the_start_and_async_units_are_cancelled(
    bus: LoggedBus, yard: Yard, in_thread: Run
) -> None:
    begun = threading.Event()

    async def start() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            yard.seen.append("cleaned up")

    def leave() -> None:
        begun.wait(PATIENCE)
        bus.exit()

    yard.add("store")
    yard.add("web", start=start, requires=("store",))
    in_thread(leave)
    bus.start()
    assert yard.seen == ["store", "cleaned up", "-store"]
    assert yard.phases() == {"store": "stopped", "web": "stopped"}
    assert yard.reasons() == {"web": "cancelled: the start was ended"}


@pytest.mark.rule("bus.B10")
def test_a_plain_start_under_way_is_waited_for_when_the_bus_exits(
    bus: LoggedBus, yard: Yard, gate: threading.Event, in_thread: Run
) -> None:
    begun = threading.Event()

    def start() -> None:
        begun.set()
        gate.wait(PATIENCE)
        yard.seen.append("store")

    def leave() -> None:
        begun.wait(PATIENCE)
        bus.exit()
        gate.set()

    yard.add("store", start=start)
    in_thread(leave)
    bus.start()
    assert yard.seen == ["store", "-store"]
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B6", "bus.B10")
def test_a_start_without_a_limit_has_the_time_of_a_shutdown_when_the_bus_exits(
    bus: LoggedBus, yard: Yard, gate: threading.Event
) -> None:
    def start() -> None:
        bus.exit()
        gate.wait(PATIENCE)

    bus.limits = bus.limits._replace(whole=0.1, hurry=0.1)
    yard.add("store")
    yard.add("web", start=start, start_limit=float("inf"), requires=("store",))
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    assert isinstance(caught.value.exceptions[0], TimeoutError)
    assert yard.seen == ["store", "-store"]


@pytest.mark.rule("bus.B10")
def test_an_async_start_that_does_not_mind_being_cancelled_is_stopped(
    bus: LoggedBus, yard: Yard, in_thread: Run
) -> None:
    begun = threading.Event()

    async def start() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yard.seen.append("web")

    def leave() -> None:
        begun.wait(PATIENCE)
        bus.exit()

    yard.add("web", start=start)
    in_thread(leave)
    bus.start()
    assert yard.seen == ["web", "-web"]


# Breaking while it runs


@pytest.mark.rule("bus.B18")
def test_a_unit_that_breaks_takes_the_bus_down_and_is_stopped_with_the_others(bus: LoggedBus, yard: Yard) -> None:
    yard.add("a")
    yard.add("store", drain=True, after=("a",))
    yard.add("web", after=("store",))
    bus.start()
    yard.seen.clear()
    try:
        raise OSError("disk gone")
    except OSError as error:
        yard.units.failed("store", error)
    yard.units.failed("web", "no store")
    bus.wait(Phase.EXITED)
    assert yard.seen == ["-web", "-store", "-a"]
    assert yard.units.broken == ("store", "OSError('disk gone')")
    text = bus.text_of("Unit 'store' broke: ")
    assert "Traceback" in text
    assert "disk gone" in text
    assert yard.reasons()["store"] == "OSError('disk gone')"
    assert yard.phases()["store"] == "stopped"
    assert ("store", "failed", "OSError('disk gone')") in [
        (event.name, event.channel, event.cause) for event in bus.history.last() if event.kind == "unit"
    ]


@pytest.mark.rule("bus.B18")
def test_an_optional_unit_may_break(bus: LoggedBus, yard: Yard) -> None:
    yard.add("console", optional=True)
    yard.add("store")
    bus.start()
    yard.units.failed("console", "port lost")
    assert bus.state is states.STARTED
    assert yard.units.ready
    assert yard.units.broken is None
    assert yard.units.faults() == ["console: port lost"]
    assert yard.phases() == {"console": "failed", "store": "started"}
    bus.stop()
    assert sorted(yard.seen[2:]) == ["-console", "-store"]
    bus.start()
    assert yard.units.faults() == []


@pytest.mark.rule("bus.B18")
def test_one_that_breaks_while_others_start_fails_the_start(
    bus: LoggedBus, yard: Yard, gate: threading.Event, in_thread: Run
) -> None:
    error = OSError("disk gone")

    def start() -> None:
        yard.units.failed("store", error)
        gate.set()

    yard.add("store")
    yard.add("web", start=start, after=("store",))
    yard.add("never", after=("web",))
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    assert caught.value.exceptions == (error,)
    assert yard.units.broken == ("store", "OSError('disk gone')")
    assert yard.seen == ["store", "-web", "-store"]


@pytest.mark.rule("bus.B18")
def test_one_that_breaks_before_its_start_has_returned_fails_the_start(bus: LoggedBus, yard: Yard) -> None:
    yard.add("store", start=lambda: yard.units.failed("store", "child died"))
    with pytest.raises(ChannelFailures) as caught:
        bus.start()
    assert str(caught.value) == "UnitError('unit store broke: child died')"
    assert yard.units.broken == ("store", "child died")
    assert yard.seen == ["-store"]


@pytest.mark.rule("bus.B18")
def test_what_breaks_while_it_is_stopped_is_only_logged(bus: LoggedBus, yard: Yard) -> None:
    """A signal of the terminal goes to children, too: that they end then is no failure."""

    def drain() -> None:
        yard.units.failed("web", "ended")
        yard.units.failed("store", "ended")

    yard.add("store", drain=drain)
    yard.add("web", requires=("store",))
    bus.start()
    bus.exit()
    assert yard.units.broken is None
    assert yard.seen == ["store", "web", "-web", "-store"]
    assert "Unit 'web' broke: ended" in bus.said


def test_only_a_unit_can_break(bus: LoggedBus, yard: Yard) -> None:
    with pytest.raises(UnitError, match="there is no unit 'sotre'"):
        yard.units.failed("sotre", "gone")
