"""What the service manager is told, and when."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_manager import FakeManager

from monsal.bus import Bus, ChannelFailures, Limits, Notifier, Phase

PATIENCE = 60.0


@pytest.fixture
def manager(home: Path) -> Iterator[FakeManager]:
    with FakeManager(f"{home}/notify") as made:
        yield made


@pytest.fixture
def notifier(bus: Any, manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Notifier]]:
    """Make and subscribe a Notifier of the bus; `usec` is that of the watchdog.

    Its beats are quick, but an answer may take seconds, as it does on a busy machine.
    """
    monkeypatch.setattr("monsal.bus.inner.watchdog.PATIENCE", 1000)
    made: list[Notifier] = []

    def make(*, usec: str = "", pid: str = "", **options: Any) -> Notifier:
        environ = {
            **manager.environ,
            **({"WATCHDOG_USEC": usec} if usec else {}),
            **({"WATCHDOG_PID": pid} if pid else {}),
        }
        made.append(Notifier(bus, environ=environ, **options))
        made[-1].subscribe()
        return made[-1]

    yield make
    for one in made:
        one.unsubscribe()
    for thread in threading.enumerate():
        if thread.name.startswith("monsal-watchdog"):
            thread.join(PATIENCE)


def said(manager: FakeManager) -> list[str]:
    """What was said so far, without the parts that have tests of their own."""
    manager.drain()
    return [
        line.partition("=")[0] if line.startswith("MONOTONIC_USEC=") else line
        for message in manager.messages
        for line in message
        if not line.startswith(("EXTEND_TIMEOUT_USEC=", "STATUS="))
    ]


@pytest.mark.rule("bus.B13")
def test_a_whole_life(bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]) -> None:
    notifier()
    bus.start()
    bus.graceful()
    bus.exit()
    assert said(manager) == ["READY=1", "RELOADING=1", "MONOTONIC_USEC", "READY=1", "STOPPING=1"]
    assert manager.lines("STATUS") == [
        "STATUS=starting",
        "STATUS=ready",
        "STATUS=reloading",
        "STATUS=ready",
        "STATUS=stopping",
    ]


@pytest.mark.rule("bus.B13")
def test_ready_is_said_only_when_all_start_listeners_are_done(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    notifier()
    before: list[str] = []
    bus.subscribe("start", lambda: before.extend(said(manager)), float("inf"))
    bus.start()
    assert before == []
    assert said(manager) == ["READY=1"]


@pytest.mark.rule("bus.B13")
def test_a_failed_start_is_never_ready(bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]) -> None:
    def fails() -> None:
        raise OSError("no such disk")

    notifier()
    bus.subscribe("start", fails)
    with pytest.raises(ChannelFailures):
        bus.start()
    assert said(manager) == ["STOPPING=1"]


@pytest.mark.rule("bus.B13")
def test_a_server_can_hold_readiness_back_until_it_says_so(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    held = notifier(hold=True)
    bus.start()
    bus.graceful()
    assert said(manager) == []
    held.ready()
    held.ready()
    assert said(manager) == ["READY=1"]
    bus.graceful()
    assert said(manager)[1:] == ["RELOADING=1", "MONOTONIC_USEC", "READY=1"]


def test_who_is_ready_before_the_bus_waits_for_it(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    held = notifier(hold=True)
    bus.subscribe("start", held.ready)
    before: list[str] = []
    bus.subscribe("start", lambda: before.extend(said(manager)), 90)
    bus.start()
    assert (before, said(manager)) == ([], ["READY=1"])


@pytest.mark.rule("bus.B13")
def test_the_time_of_a_reload_is_that_of_the_monotonic_clock(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    notifier()
    bus.start()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    bus.graceful()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.drain()
    # systemd wants both in one message.
    [message] = [message for message in manager.messages if "RELOADING=1" in message]
    [at] = [int(line.partition("=")[2]) for line in message if line.startswith("MONOTONIC_USEC=")]
    assert before <= at <= after


def test_a_reload_that_fails_in_part_is_over_all_the_same(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    def fails() -> None:
        raise OSError("no such disk")

    notifier()
    bus.subscribe("graceful", fails)
    bus.start()
    with pytest.raises(ChannelFailures):
        bus.graceful()
    assert said(manager)[-1] == "READY=1"


@pytest.mark.rule("bus.B13", "bus.R14")
def test_a_restart_is_a_reload_and_not_an_end(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    notifier()
    bus.start()
    bus.restart()
    assert said(manager) == ["READY=1", "RELOADING=1", "MONOTONIC_USEC"]


def test_an_exit_that_overrides_a_restart_is_an_end(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    notifier()
    bus.start()
    bus.subscribe("stop", bus.exit)
    bus.restart()
    assert said(manager)[1:] == ["RELOADING=1", "MONOTONIC_USEC", "STOPPING=1"]


def test_a_mere_stop_is_no_end_for_the_service(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    notifier()
    bus.start()
    bus.stop()
    assert said(manager) == ["READY=1"]
    bus.start()
    bus.exit()
    assert said(manager) == ["READY=1", "READY=1", "STOPPING=1"]


@pytest.mark.rule("bus.B13", "bus.B12")
def test_the_manager_is_asked_for_all_the_time_that_the_bus_allows(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    def slow() -> None:
        bus.extend(1000)

    slow.limit = 200  # type: ignore[attr-defined]
    bus.limits = Limits(start=10, drain=120, whole=300, exit=20, hurry=1)
    notifier()
    bus.subscribe("start", slow)
    bus.subscribe("start", lambda: None)
    bus.subscribe("drain", lambda: None)
    bus.start()
    bus.exit()
    manager.drain()
    assert [int(line.partition("=")[2]) / 1e6 for line in manager.lines("EXTEND_TIMEOUT_USEC")] == [210, 1210, 321]
    # Before the drain, which is what takes so long.
    order = [line for message in manager.messages for line in message]
    assert order.index("EXTEND_TIMEOUT_USEC=321000000") < order.index("STATUS=draining")


def test_limits_without_end_are_a_year(bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]) -> None:
    bus.limits = Limits(start=float("inf"), whole=float("inf"))
    notifier()
    bus.subscribe("start", lambda: None)
    bus.start()
    bus.exit()
    manager.drain()
    assert manager.lines("EXTEND_TIMEOUT_USEC") == [f"EXTEND_TIMEOUT_USEC={365 * 86400 * 10**6}"] * 2


def test_who_minds_its_own_time_is_trusted(bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]) -> None:
    def units() -> None:
        manager.drain()

    units.own_time = True  # type: ignore[attr-defined]
    notifier()
    bus.subscribe("start", units)
    bus.start()
    assert manager.lines("EXTEND_TIMEOUT_USEC") == [f"EXTEND_TIMEOUT_USEC={86400 * 10**6}"]


@pytest.mark.rule("bus.B13")
def test_the_status_is_one_line(bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]) -> None:
    told = notifier(status=lambda: "receives mail\nREADY=0")
    bus.start()
    told.tell("one\ntwo")
    told.notify("X_MONSAL=1")
    manager.drain()
    assert manager.messages[-3:] == [["READY=1", "STATUS=receives mail"], ["STATUS=one"], ["X_MONSAL=1"]]


def test_a_status_that_cannot_be_told_hinders_nobody(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    def fails() -> str:
        raise OSError("no such disk")

    notifier(status=fails)
    bus.start()
    assert said(manager) == ["READY=1"]
    assert "no such disk" in manager.lines("STATUS")[-1]
    assert "OSError: no such disk" in bus.text_of("Error in the status")


@pytest.mark.rule("bus.B13")
def test_a_lost_manager_is_told_once_and_stops_nobody(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    notifier()
    manager.socket.close()
    for _ in range(3):
        bus.start()
        bus.stop()
    os.unlink(manager.address)
    bus.start()
    complaints = [text for text in bus.said if text.startswith("The service manager cannot be told")]
    assert len(complaints) == 1
    assert bus.phase is Phase.STARTED


@pytest.mark.rule("bus.B13")
def test_without_a_manager_nothing_is_done(bus: Any) -> None:
    threads = threading.active_count()
    Notifier(bus, progress=lambda: None, environ={"WATCHDOG_USEC": "1000"}).subscribe()
    assert "phase" not in bus.listeners
    bus.start()
    assert threading.active_count() <= threads


def test_a_manager_elsewhere_is_told_of_in_the_log(bus: Any) -> None:
    Notifier(bus, environ={"NOTIFY_SOCKET": "vsock:2:1234"}).subscribe()
    bus.start()
    assert "NOTIFY_SOCKET=vsock:2:1234 cannot be reached from here; nobody is told." in bus.said


@pytest.mark.rule("bus.B13", "bus.B7")
def test_without_a_watchdog_there_is_no_thread(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    notifier(progress=lambda: None)
    bus.start()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("monsal-watchdog")]


@pytest.mark.rule("bus.B13")
def test_the_watchdog_is_fed_while_there_is_progress(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    notifier(usec="20000", progress=lambda: None)
    bus.start()
    for _ in range(3):
        assert manager.until("WATCHDOG=") == ["WATCHDOG=1"]
    bus.exit()
    assert not [line for line in manager.lines("WATCHDOG") if line != "WATCHDOG=1"]


@pytest.mark.rule("bus.B13")
@pytest.mark.parametrize("stalls", [["the loop", "the outbox"], "the loop", "error", "hang"])
def test_the_watchdog_goes_hungry_while_something_stalls(
    bus: Any,
    manager: FakeManager,
    notifier: Callable[..., Notifier],
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    stalls: Any,
) -> None:
    stalled = threading.Event()

    def progress() -> Any:
        if not stalled.is_set():
            return []
        if stalls == "error":
            raise OSError("no such disk")
        if stalls == "hang":
            gate.wait(PATIENCE)
        return stalls if not gate.is_set() else []

    notifier(usec="20000", progress=progress)
    bus.start()
    manager.until("WATCHDOG=1")

    # when it stalls
    if stalls == "hang":
        monkeypatch.setattr("monsal.bus.inner.watchdog.PATIENCE", 5)
    stalled.set()
    status = manager.until("STATUS=stalled: ")
    expected = {
        "error": "STATUS=stalled: progress() failed: OSError('no such disk')",
        "hang": "STATUS=stalled: progress() does not answer",
        "the loop": "STATUS=stalled: the loop",
    }
    assert status == [expected[stalls] if isinstance(stalls, str) else "STATUS=stalled: the loop; the outbox"]
    # then it is not fed, however often it asks
    assert [manager.next() for _ in range(3)] == [status] * 3
    complaints = [text for level, text in bus.lines if level == 40]
    assert len(complaints) == 1
    assert complaints[0].startswith("The watchdog is not fed, because nothing moves: ")
    assert "Thread MainThread:" in complaints[0]
    assert "test_the_watchdog_goes_hungry_while_something_stalls" in complaints[0]
    if stalls == "hang":
        assert "gate.wait(PATIENCE)" in complaints[0]

    # when it moves again
    monkeypatch.setattr("monsal.bus.inner.watchdog.PATIENCE", 1000)
    gate.set()
    stalled.clear()
    assert manager.until("WATCHDOG=1") == ["WATCHDOG=1", "STATUS=ready"]
    assert "There is progress again; the watchdog is fed." in bus.said


def test_a_progress_that_hangs_is_asked_once(
    bus: Any,
    manager: FakeManager,
    notifier: Callable[..., Notifier],
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    notifier(usec="20000", progress=lambda: asked.append(1) or (gate.wait(PATIENCE) and None))
    monkeypatch.setattr("monsal.bus.inner.watchdog.PATIENCE", 1)
    bus.start()
    for _ in range(4):
        manager.until("STATUS=stalled: progress() does not answer")
    assert len(asked) == 1


def test_the_steps_to_and_from_there_have_their_own_limits(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    # given something that shows progress only while the bus runs
    notifier(usec="20000", progress=lambda: None if bus.phase is Phase.STARTED else "nothing moves")

    def waits_for_food() -> None:
        manager.drain()
        manager.messages.clear()
        manager.until("WATCHDOG=1")

    for channel in ("start", "drain", "stop", "exit"):
        bus.subscribe(channel, waits_for_food)
    bus.start()
    bus.exit()
    assert not any("nothing moves" in text for text in bus.said)


@pytest.mark.parametrize(("usec", "pid"), [("0", ""), ("soon", ""), ("20000", "1")])
def test_a_watchdog_that_is_off_or_not_ours_is_not_fed(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier], usec: str, pid: str
) -> None:
    notifier(usec=usec, pid=pid)
    bus.start()
    assert not [thread for thread in threading.enumerate() if thread.name == "monsal-watchdog"]


def test_a_watchdog_of_ours_is_fed_and_without_proof_it_is_said(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    notifier(usec="20000", pid=str(os.getpid()))
    bus.start()
    manager.until("WATCHDOG=1")
    assert "The watchdog is fed without a proof of progress: the Notifier was given none." in bus.said


def test_the_status_comes_with_the_food(bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]) -> None:
    notifier(usec="20000", status=lambda: "12 mails", progress=lambda: None)
    bus.start()
    manager.until("READY=1")
    assert manager.until("WATCHDOG=1") == ["WATCHDOG=1", "STATUS=12 mails"]


@pytest.mark.rule("bus.B11", "bus.B13")
def test_after_a_successor_nothing_is_said_any_more(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier], in_thread: Callable[..., threading.Thread]
) -> None:
    one = notifier(usec="20000", progress=lambda: None)
    bus.start()
    reading = in_thread(lambda: manager.until("BARRIER=1"))
    one.reloading()
    one.succeeded_by(1234)
    reading.join(PATIENCE)
    bus.exit()
    manager.drain()
    assert manager.messages[-2:] == [["MAINPID=1234", "READY=1"], ["BARRIER=1"]]
    assert not [line for line in said(manager) if line.startswith("STOPPING")]


def test_a_manager_that_confirms_nothing_is_not_waited_for_long(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monsal.bus.plugins.systemd.BARRIER", 0.05)
    one = notifier()
    bus.start()
    one.succeeded_by(1234)
    assert any(text.startswith("The service manager does not confirm MAINPID=1234") for text in bus.said)


def test_a_reload_that_failed_shows_in_the_status_until_the_next(
    bus: Any, manager: FakeManager, notifier: Callable[..., Notifier]
) -> None:
    one = notifier()
    bus.start()
    one.reloading()
    one.reload_failed("it ended with code 1\nTraceback")
    assert said(manager)[-1] == "READY=1"
    assert manager.lines("STATUS")[-1] == "STATUS=ready (the last reload failed: it ended with code 1)"
    bus.graceful()
    manager.drain()
    assert manager.lines("STATUS")[-1] == "STATUS=ready"


def test_two_notifiers_of_two_buses_do_not_meet(manager: FakeManager) -> None:
    first, second = Bus(), Bus()
    Notifier(first, environ=manager.environ).subscribe()
    second.start()
    second.exit()
    assert said(manager) == []
