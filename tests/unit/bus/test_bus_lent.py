"""Where listeners run when another thread than the main one stops the bus."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from monsal.bus import ChannelFailures, Phase, State

from .conftest import PATIENCE, LoggedBus, short

Run = Callable[[Callable[[], object]], threading.Thread]


def outcome(in_thread: Run, work: Callable[[], Any]) -> Future[Any]:
    """What `work` comes to on another thread."""
    future: Future[Any] = Future()

    def carry() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the future is asked
            future.set_exception(error)

    in_thread(carry)
    return future


@pytest.mark.rule("bus.R13", "bus.R14")
def test_listeners_run_on_the_thread_that_asks(bus: LoggedBus, in_thread: Run) -> None:
    where: list[threading.Thread] = []
    for channel in ("drain", "stop", "exit"):
        bus.subscribe(channel, lambda: where.append(threading.current_thread()))
    bus.start()

    def work() -> threading.Thread:
        bus.exit()
        return threading.current_thread()

    here = outcome(in_thread, work).result(PATIENCE)
    assert where == [here] * 3


@pytest.mark.rule("bus.R14", "bus.R17")
def test_a_server_may_join_its_workers_although_one_of_them_asked(bus: LoggedBus, in_thread: Run) -> None:
    asked = threading.Event()

    def worker() -> None:
        asked.wait(PATIENCE)
        bus.restart()

    workers = [in_thread(worker)]

    def stop() -> None:
        for thread in workers:
            if thread is not threading.current_thread():
                thread.join()

    bus.subscribe("stop", stop)
    bus.start()
    asked.set()
    bus._do_execv = lambda: None  # type: ignore[method-assign] - the tests go on in this process
    bus.block()
    assert bus.phase is Phase.EXITED


@pytest.mark.rule("bus.B6")
def test_one_that_hangs_keeps_the_thread_that_asked_and_nothing_else(
    bus: LoggedBus, in_thread: Run, gate: threading.Event
) -> None:
    ran: list[str] = []
    bus.subscribe("stop", short(lambda: gate.wait(PATIENCE)), 10)
    bus.subscribe("stop", lambda: ran.append("stop"), 20)
    bus.subscribe("exit", lambda: ran.append("exit"))
    bus.start()
    asked = outcome(in_thread, bus.exit)
    bus.wait(Phase.EXITED)
    assert (ran, asked.done()) == (["stop", "exit"], False)
    gate.set()
    with pytest.raises(ChannelFailures) as caught:
        asked.result(PATIENCE)
    assert "took more than 0.2 seconds" in str(caught.value)


@pytest.mark.rule("bus.R17")
def test_a_daemon_that_asked_has_a_moment_to_give_its_answer(bus: LoggedBus, in_thread: Run) -> None:
    answered = threading.Event()
    blocked = threading.Event()
    bus.subscribe("log", lambda msg, level: msg.startswith("Waiting for child") and blocked.set())

    def worker() -> None:
        bus.exit()
        blocked.wait(PATIENCE)
        answered.set()

    bus.limits = bus.limits._replace(hurry=PATIENCE)
    bus.start()
    in_thread(worker)
    bus.block()
    assert answered.is_set()


@pytest.mark.rule("bus.R17")
def test_one_that_asked_and_ends_is_not_worth_a_line(bus: LoggedBus) -> None:
    bus.start()
    asked = threading.Thread(target=bus.exit)
    asked.start()
    bus.block()
    assert bus.said[-2:] == ["Bus EXITED", "Waiting for child threads to terminate..."]


@pytest.mark.rule("bus.R17", "bus.B6")
@pytest.mark.parametrize("goes_on", ["in a listener", "after it"])
def test_one_that_does_not_end_is_not_waited_for_any_longer(
    bus: LoggedBus, in_thread: Run, gate: threading.Event, goes_on: str
) -> None:
    if goes_on == "in a listener":
        bus.subscribe("stop", short(lambda: gate.wait(PATIENCE)))
    else:
        bus.limits = bus.limits._replace(hurry=0.1)

    def worker() -> None:
        with contextlib.suppress(ChannelFailures):
            bus.exit()
        gate.wait(PATIENCE)

    bus.start()
    thread = in_thread(worker)
    with contextlib.suppress(ChannelFailures):
        bus.block()
    assert thread.is_alive()


@pytest.mark.rule("bus.R5", "bus.R6")
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_what_fails_there_is_raised_there(bus: LoggedBus, in_thread: Run, error: BaseException) -> None:
    def fail() -> None:
        raise error

    bus.subscribe("stop", fail)
    bus.start()
    expected = ChannelFailures if isinstance(error, Exception) else type(error)
    with pytest.raises(expected):
        outcome(in_thread, bus.stop).result(PATIENCE)
    assert bus.state is State.STOPPING


@pytest.mark.rule("bus.R16")
def test_each_step_uses_the_thread_that_asks_for_it(bus: LoggedBus, in_thread: Run) -> None:
    where: list[threading.Thread] = []
    bus.subscribe("stop", lambda: where.append(threading.current_thread()))
    for _ in range(20):
        bus.start()
        outcome(in_thread, bus.stop).result(PATIENCE)
        bus.start()
        bus.stop()
    assert all(thread.name.startswith("monsal-bus") for thread in where[1::2])
    assert not any(thread.name.startswith("monsal-bus") for thread in where[::2])
