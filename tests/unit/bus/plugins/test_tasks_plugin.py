"""Work that is done again and again: when it is called, what its failures do, and how it ends.

No test waits for time to pass: a callback tells of each call, and an interval that must not come is an hour.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from monsal.bus import BackgroundTask, Bus, ChannelFailures, Limits, Monitor, PeriodicTask, PerpetualTimer, Phase, State
from monsal.bus.plugins.tasks import LONGEST_PAUSE

PATIENCE = 60.0
SOON = 0.001
NEVER = 3600.0


class Told:
    """A callback that tells of its calls and does with each what it was given for it."""

    def __init__(self, *work: Callable[[], object]) -> None:
        self.calls: SimpleQueue[int] = SimpleQueue()
        self.threads: list[threading.Thread] = []
        self._work = list(work)

    def __call__(self) -> object:
        self.threads.append(threading.current_thread())
        try:
            return self._work.pop(0)() if self._work else None
        finally:
            self.calls.put(len(self.threads))

    def wait(self, times: int = 1) -> None:
        for _ in range(times):
            self.calls.get(timeout=PATIENCE)


def fails() -> None:
    raise ValueError("no luck")


def over(thread: threading.Thread | None) -> None:
    assert thread is not None
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.fixture
def tasks() -> Iterator[list[PerpetualTimer]]:
    """What is put here is ended with the test."""
    made: list[PerpetualTimer] = []
    yield made
    for task in made:
        task.cancel()
        over(task)


# Threads


@pytest.mark.parametrize("kind", [PerpetualTimer, BackgroundTask])
def test_a_task_calls_again_and_again_with_its_arguments_until_it_is_cancelled(kind: type[PerpetualTimer]) -> None:
    calls: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
    task = kind(SOON, lambda *args, **kwargs: calls.put((args, kwargs)), [1, 2], {"key": "value"})
    task.start()
    for _ in range(3):
        assert calls.get(timeout=PATIENCE) == ((1, 2), {"key": "value"})
    task.cancel()
    over(task)


@pytest.mark.rule("bus.B16")
@pytest.mark.parametrize("kind", [PerpetualTimer, BackgroundTask])
def test_cancel_ends_the_waiting_at_once(kind: type[PerpetualTimer]) -> None:
    """A descendant slept on to the end of its interval (M7)."""
    task = kind(NEVER, fails)
    task.start()
    task.cancel()
    over(task)


def test_a_background_task_is_really_a_daemon_and_a_perpetual_timer_is_none() -> None:
    """The process of a descendant could not end while one ran (M7)."""
    assert BackgroundTask(NEVER, fails).daemon is True
    assert PerpetualTimer(NEVER, fails).daemon is False


def test_an_interval_without_end_is_waited_for() -> None:
    task = BackgroundTask(float("inf"), fails)
    task.start()
    task.cancel()
    over(task)


def test_a_failure_ends_a_perpetual_timer_and_is_logged_on_its_bus(bus: Any) -> None:
    told = Told(fails)
    timer = PerpetualTimer(SOON, told, bus=bus)
    timer.start()
    over(timer)
    assert len(told.threads) == 1
    level, text = bus.lines[-1]
    assert level == 40
    assert text.startswith(f"Error in perpetual timer thread function {told!r}.\nTraceback")
    assert text.endswith("ValueError: no luck\n")


@pytest.mark.parametrize(("kind", "calls"), [(PerpetualTimer, 1), (BackgroundTask, 2)])
def test_without_a_bus_a_failure_goes_to_the_excepthook(
    kind: type[PerpetualTimer], calls: int, monkeypatch: pytest.MonkeyPatch, tasks: list[PerpetualTimer]
) -> None:
    hooked: SimpleQueue[threading.ExceptHookArgs] = SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", hooked.put)
    told = Told(fails)
    tasks.append(kind(SOON, told))
    tasks[0].start()
    seen = hooked.get(timeout=PATIENCE)
    assert (seen.exc_type, str(seen.exc_value), seen.thread) == (ValueError, "no luck", tasks[0])
    told.wait(calls)


@pytest.mark.rule("bus.B16")
def test_a_background_task_survives_failures(bus: Any, tasks: list[PerpetualTimer]) -> None:
    told = Told(fails, fails)
    tasks.append(BackgroundTask(SOON, told, bus=bus))
    tasks[0].start()
    told.wait(4)
    said = [line for line in bus.said if "background task" in line]
    assert said == [
        f"Error in background task thread function {told!r}. It is called again in 0.002 s.",
        f"Error in background task thread function {told!r}. It is called again in 0.004 s.",
    ]
    assert "ValueError: no luck" in bus.text_of("Error in background task")


@pytest.mark.rule("bus.B16")
def test_the_pause_is_doubled_up_to_a_bound() -> None:
    task = BackgroundTask(1, fails)
    assert [task._pause(failures) for failures in (0, 1, 2, 3, 8, 9, 10**6)] == [1, 2, 4, 8, 256, *2 * [LONGEST_PAUSE]]
    assert [BackgroundTask(3600, fails)._pause(failures) for failures in (0, 1, 10**6)] == [3600] * 3


@pytest.mark.rule("bus.B16")
def test_a_success_ends_the_longer_pauses(bus: Any, tasks: list[PerpetualTimer]) -> None:
    told = Told(fails, fails, str, fails)
    tasks.append(BackgroundTask(SOON, told, bus=bus))
    tasks[0].start()
    told.wait(5)
    pauses = [line.rpartition(" in ")[2] for line in bus.said if "background task" in line]
    assert pauses == ["0.002 s.", "0.004 s.", "0.002 s."]


def test_an_async_function_needs_a_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    hooked: SimpleQueue[threading.ExceptHookArgs] = SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", hooked.put)

    async def callback() -> None: ...

    timer = PerpetualTimer(SOON, callback)
    timer.start()
    over(timer)
    assert "needs a bus" in str(hooked.get(timeout=PATIENCE).exc_value)


# The plugin


def test_the_old_name_is_kept() -> None:
    assert Monitor is PeriodicTask


@pytest.mark.rule("bus.B19", "bus.R3")
def test_a_periodic_task_starts_at_70_and_has_the_defaults_of_the_contract(bus: Bus) -> None:
    task = PeriodicTask(bus, fails)
    assert (task.frequency, task.name, task.thread, task.callback) == (60, None, None, fails)
    assert PeriodicTask.start.priority == 70
    task.subscribe()
    for channel in ("start", "stop", "graceful"):
        assert getattr(task, channel) in bus.listeners[channel]


def test_it_runs_from_start_to_stop_and_again(bus: Any) -> None:
    task = PeriodicTask(bus, fails, SOON, "cleaner")
    task.subscribe()
    threads = []
    for _ in range(2):
        task.callback = told = Told()
        bus.start()
        told.wait(2)
        bus.stop()
        over(told.threads[0])
        threads += set(told.threads)
    bus.exit()
    assert len(set(threads)) == 2
    assert {(thread.name, thread.daemon) for thread in threads} == {("cleaner", True)}
    assert bus.said.count("Started monitor thread 'cleaner'.") == 2
    assert bus.said.count("Stopped thread 'cleaner'.") == 2


@pytest.mark.parametrize("frequency", [0, -1])
def test_a_frequency_of_0_or_less_is_off(bus: Any, frequency: float) -> None:
    task = PeriodicTask(bus, fails, frequency)
    task.subscribe()
    bus.start()
    assert task.thread is None
    bus.exit()
    assert "No thread running for PeriodicTask." in bus.said


def test_the_frequency_may_be_set_until_the_start(bus: Bus) -> None:
    told = Told()
    task = PeriodicTask(bus, told, NEVER)
    task.subscribe()
    task.frequency = SOON
    bus.start()
    told.wait()
    bus.exit()


def test_a_second_start_does_nothing(bus: Any) -> None:
    task = PeriodicTask(bus, fails, NEVER)
    task.start()
    first = task.thread
    task.start()
    assert task.thread is first
    assert bus.said == ["Started monitor thread 'PeriodicTask'.", "Monitor thread 'PeriodicTask' already started."]
    task.stop()
    over(first)


def test_starts_from_many_threads_make_one(bus: Any, in_thread: Callable[..., threading.Thread]) -> None:
    task = PeriodicTask(bus, fails, NEVER)
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        task.start()

    starters = [in_thread(start) for _ in range(8)]
    for starter in starters:
        over(starter)
    assert bus.said.count("Started monitor thread 'PeriodicTask'.") == 1
    assert bus.said.count("Monitor thread 'PeriodicTask' already started.") == 7
    task.stop()


def test_graceful_gives_it_a_new_thread(bus: Bus) -> None:
    task = PeriodicTask(bus, fails, NEVER)
    task.subscribe()
    bus.start()
    first = task.thread
    bus.graceful()
    assert task.thread is not None
    assert task.thread is not first
    over(first)
    bus.exit()
    assert task.thread is None


@pytest.mark.parametrize(("name", "shown"), [(None, "PeriodicTask"), ("cleaner", "cleaner")])
def test_stop_logs_the_real_name(bus: Any, name: str | None, shown: str) -> None:
    """The original said "None" (C19)."""
    task = PeriodicTask(bus, fails, NEVER, name)
    task.stop()
    task.start()
    task.stop()
    assert bus.said == [
        f"No thread running for {shown}.",
        f"Started monitor thread {shown!r}.",
        f"Stopped thread {shown!r}.",
    ]


@pytest.mark.rule("bus.B16")
def test_it_survives_a_failing_callback(bus: Any) -> None:
    """The thread of the original ended with the first failure, while the bus stayed STARTED (C12)."""
    told = Told(fails)
    PeriodicTask(bus, told, SOON).subscribe()
    bus.start()
    told.wait(3)
    assert bus.text_of("Error in background task thread function").endswith("ValueError: no luck\n")
    bus.exit()


@pytest.mark.rule("bus.B16")
def test_the_stop_is_immediate(bus: Any) -> None:
    """The thread waits for an hour, and so did a descendant's stop for its interval (M7)."""
    PeriodicTask(bus, fails, NEVER).subscribe()
    bus.start()
    bus.exit()
    assert bus.said[-4:] == ["Stopped thread 'PeriodicTask'.", "Bus STOPPED", "Bus EXITING", "Bus EXITED"]


def test_stop_waits_for_a_callback_that_is_running(bus: Any, gate: threading.Event) -> None:
    done: list[str] = []
    told = Told(lambda: (began.set(), gate.wait(PATIENCE), done.append("callback")))
    began = threading.Event()
    task = PeriodicTask(bus, told, SOON)
    task.patience = PATIENCE
    task.start()
    assert began.wait(PATIENCE)
    thread = task.thread
    assert thread is not None
    cancelled = thread.finished
    opener = threading.Thread(target=lambda: (cancelled.wait(PATIENCE), gate.set()))
    opener.start()
    task.stop()
    assert done == ["callback"]
    opener.join()
    assert bus.said[-1] == "Stopped thread 'PeriodicTask'."


def test_a_callback_that_hangs_is_left_alone_and_its_place_is_logged(bus: Any, gate: threading.Event) -> None:
    began = threading.Event()

    def hangs() -> None:
        began.set()
        gate.wait(PATIENCE)

    task = PeriodicTask(bus, hangs, SOON)
    task.patience = 0.05
    task.start()
    assert began.wait(PATIENCE)
    thread = task.thread
    task.stop()
    assert bus.lines[-1][0] == 30
    assert bus.said[-1] == "Thread 'PeriodicTask' did not end in 0.05 s and is left alone; it is here:"
    assert "in hangs" in bus.lines[-1][1]
    gate.set()
    over(thread)


def test_a_hurried_stop_has_half_of_the_time_that_is_left(gate: threading.Event) -> None:
    bus = Bus(limits=Limits(hurry=0.1))
    said: list[str] = []
    bus.subscribe("log", lambda msg, level: said.append(msg))
    began = threading.Event()
    task = PeriodicTask(bus, lambda: (began.set(), gate.wait(PATIENCE)), SOON)
    task.start()
    assert began.wait(PATIENCE)
    thread = task.thread
    bus.hurry.set()
    task.stop()
    assert said[-1].startswith("Thread 'PeriodicTask' did not end in 0.05 s")
    gate.set()
    over(thread)


# What a callback may do


@pytest.mark.parametrize("way", ["stop", "graceful"])
def test_a_callback_may_stop_its_own_task(bus: Any, way: str) -> None:
    told = Told(lambda: getattr(task, way)())
    task = PeriodicTask(bus, told, SOON)
    task.start()
    first = task.thread
    over(first)
    assert f"Stopped thread {first.name!r}." in bus.said  # type: ignore[union-attr] - `over` has looked
    assert (task.thread is None) is (way == "stop")
    if way == "graceful":
        told.wait(2)
        assert told.threads[-1] is not first
        task.stop()


@pytest.mark.rule("bus.R14")
@pytest.mark.parametrize("way", ["stop", "exit", "restart"])
def test_a_callback_may_stop_the_bus_and_is_not_waited_for(bus: Any, way: str) -> None:
    """The stop listeners run on another thread, which must not wait for the one that waits for it."""
    task = PeriodicTask(bus, Told(lambda: getattr(bus, way)()), SOON)
    task.patience = PATIENCE
    task.subscribe()
    bus.start()
    bus.wait(State.STOPPED if way == "stop" else Phase.EXITED)
    assert "Stopped thread 'PeriodicTask'." in bus.said
    assert not [line for line in bus.said if "left alone" in line or "Error" in line]
    assert bus.execv is (way == "restart")
    bus.execv = False


def test_an_async_callback_may_exit_the_bus_from_a_thread(bus: Any) -> None:
    async def leave() -> None:
        await asyncio.to_thread(bus.exit)

    task = PeriodicTask(bus, leave, SOON)
    task.patience = PATIENCE
    task.subscribe()
    bus.start()
    bus.wait(Phase.EXITED)
    assert not [line for line in bus.said if "left alone" in line or "cancelled" in line]


@pytest.mark.rule("bus.B5")
def test_an_async_callback_is_awaited_on_the_owner_loop(bus: Any) -> None:
    told = Told()
    where: list[str] = []

    async def callback() -> None:
        await asyncio.sleep(0)
        where.append(threading.current_thread().name)
        told()
        if len(where) == 1:
            raise ValueError("no luck")

    PeriodicTask(bus, callback, SOON).subscribe()
    bus.start()
    told.wait(2)
    bus.exit()
    assert set(where) == {"monsal-bus-loop"}
    assert bus.text_of("Error in background task").endswith("ValueError: no luck\n")


def test_an_async_callback_that_hangs_is_cancelled(bus: Any) -> None:
    began, ended = threading.Event(), threading.Event()

    async def hangs() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = PeriodicTask(bus, hangs, SOON)
    task.patience = 0.05
    task.start()
    assert began.wait(PATIENCE)
    thread = task.thread
    task.stop()
    assert ended.wait(PATIENCE)
    over(thread)
    assert bus.said[-2:] == [
        "Thread 'PeriodicTask' has waited 0.05 s for its coroutine, which is cancelled.",
        "Stopped thread 'PeriodicTask'.",
    ]


@pytest.mark.rule("bus.R6", "bus.B16")
def test_system_exit_in_a_callback_shuts_the_bus_down_and_keeps_its_code(bus: Any) -> None:
    blocking = threading.Event()

    def leaves() -> None:
        blocking.wait(PATIENCE)
        raise SystemExit(3)

    told = Told(leaves)
    PeriodicTask(bus, told, SOON).subscribe()
    bus.subscribe("main", blocking.set)
    bus.start()
    with pytest.raises(SystemExit) as raised:
        bus.block(SOON)
    assert raised.value.code == 3
    assert bus.phase is Phase.EXITED
    assert f"SystemExit raised in background task thread function {told!r}: shutting down bus" in bus.said


def test_system_exit_shuts_the_bus_down_also_if_nobody_waits_in_it(bus: Any) -> None:
    """As in a program of others, which owns the main thread."""
    started, ended = threading.Event(), threading.Event()

    def leaves() -> None:
        # Else `start` itself may raise it, in its last moment.
        started.wait(PATIENCE)
        raise SystemExit(3)

    bus.subscribe("exit", ended.set)
    PeriodicTask(bus, leaves, SOON).subscribe()
    bus.start()
    started.set()
    assert ended.wait(PATIENCE)
    while bus.phase is not Phase.EXITED:
        threading.Event().wait(SOON)


def test_an_interrupt_in_a_callback_shuts_the_bus_down(bus: Any) -> None:
    blocking = threading.Event()

    def interrupts() -> None:
        blocking.wait(PATIENCE)
        raise KeyboardInterrupt

    told = Told(interrupts)
    PeriodicTask(bus, told, SOON).subscribe()
    bus.subscribe("main", blocking.set)
    bus.start()
    bus.block(SOON)
    assert bus.phase is Phase.EXITED
    assert len(told.threads) == 1


def test_a_shutdown_that_a_callback_asks_for_and_that_fails_is_raised_by_block(bus: Any) -> None:
    blocking = threading.Event()

    def leaves() -> None:
        blocking.wait(PATIENCE)
        raise SystemExit

    bus.subscribe("exit", fails)
    PeriodicTask(bus, leaves, SOON).subscribe()
    bus.subscribe("main", blocking.set)
    bus.start()
    with pytest.raises((ChannelFailures, SystemExit)):
        bus.block(SOON)
    assert bus.phase is Phase.EXITED
    assert "no luck" in bus.text_of("Error in 'exit' listener")


# Importing


@pytest.mark.rule("bus.B19")
def test_importing_needs_nothing_of_windows() -> None:
    """A descendant could not be imported with pywin32 there (M8). Windows is not supported: nothing asks for it."""
    code = (
        "import sys, monsal.bus.plugins\n"
        "print([name for name in sys.modules if name.startswith(('win32', 'pywin', 'pythoncom', 'servicemanager'))])\n"
        "print([name for name in ('asyncio', 'logging', 'zipfile') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
