"""Numbers for threads: each has one while it works, and none is given twice."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from monsal.bus import Bus, ChannelFailures, ThreadManager

PATIENCE = 60.0
InThread = Callable[[Callable[[], object]], threading.Thread]


class Worker:
    """A thread that does what it is told, one thing after the other, and lives until the test is over."""

    def __init__(self) -> None:
        self._work: Callable[[], object] | None = None
        self._wanted, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def _live(self) -> None:
        while self._wanted.acquire() and self._work is not None:
            try:
                self._work()
            except ChannelFailures as error:
                self.error = error
            self._done.release()

    def do(self, work: Callable[[], object]) -> None:
        self._work = work
        self._wanted.release()
        assert self._done.acquire(timeout=PATIENCE)

    def end(self) -> None:
        self._work = None
        self._wanted.release()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def workers() -> Iterator[Callable[[], Worker]]:
    made: list[Worker] = []

    def make() -> Worker:
        made.append(Worker())
        return made[-1]

    yield make
    for worker in made:
        if worker.thread.is_alive():
            worker.end()


@pytest.fixture
def manager(bus: Bus) -> ThreadManager:
    made = ThreadManager(bus)
    made.subscribe()
    return made


@pytest.fixture
def told(bus: Bus, manager: ThreadManager) -> list[tuple[str, int]]:
    """What was published about threads."""
    said: list[tuple[str, int]] = []
    bus.subscribe("start_thread", lambda number: said.append(("start", number)))
    bus.subscribe("stop_thread", lambda number: said.append(("stop", number)))
    return said


def test_it_makes_its_channels_known(bus: Bus) -> None:
    theirs = {print}
    bus.listeners["start_thread"] = theirs
    ThreadManager(bus)
    assert {"acquire_thread", "release_thread", "start_thread", "stop_thread"} <= set(bus.listeners)
    assert bus.listeners["start_thread"] is theirs


@pytest.mark.rule("bus.B19")
def test_the_first_acquire_starts_and_the_release_stops(
    bus: Bus, manager: ThreadManager, told: list[tuple[str, int]]
) -> None:
    bus.publish("acquire_thread")
    bus.publish("acquire_thread")
    assert manager.threads == {threading.get_ident(): 1}
    bus.publish("release_thread")
    bus.publish("release_thread")
    assert manager.threads == {}
    assert told == [("start", 1), ("stop", 1)]


def test_the_listeners_run_on_the_thread_itself(
    bus: Bus, manager: ThreadManager, workers: Callable[[], Worker]
) -> None:
    where: list[threading.Thread] = []
    worker = workers()
    bus.subscribe("start_thread", lambda number: where.append(threading.current_thread()))
    bus.subscribe("stop_thread", lambda number: where.append(threading.current_thread()))
    worker.do(lambda: bus.publish("acquire_thread"))
    worker.do(lambda: bus.publish("release_thread"))
    assert where == [worker.thread, worker.thread]


@pytest.mark.rule("bus.B16")
def test_a_number_in_use_is_not_given_again(
    bus: Bus, manager: ThreadManager, told: list[tuple[str, int]], workers: Callable[[], Worker]
) -> None:
    """With 1 and 2 in use and 1 released, the original gave 2 again (C14); ours gives the smallest that is free."""
    first, second, third, fourth = (workers() for _ in range(4))
    first.do(manager.acquire_thread)
    second.do(manager.acquire_thread)
    first.do(manager.release_thread)
    third.do(manager.acquire_thread)
    fourth.do(manager.acquire_thread)
    assert told == [("start", 1), ("start", 2), ("stop", 1), ("start", 1), ("start", 3)]
    assert sorted(manager.threads.values()) == [1, 2, 3]


@pytest.mark.parametrize("channel", ["stop", "graceful"])
def test_stop_and_graceful_release_all(
    bus: Bus, manager: ThreadManager, told: list[tuple[str, int]], workers: Callable[[], Worker], channel: str
) -> None:
    for _ in range(3):
        workers().do(manager.acquire_thread)
    told.clear()
    bus.publish(channel)
    assert told == [("stop", 1), ("stop", 2), ("stop", 3)]
    assert manager.threads == {}
    bus.publish("acquire_thread")
    assert told[-1] == ("start", 1)


def test_a_number_is_free_only_when_its_stop_listeners_are_done(
    bus: Bus, manager: ThreadManager, workers: Callable[[], Worker]
) -> None:
    given: list[int] = []
    first, second = workers(), workers()
    first.do(manager.acquire_thread)
    bus.subscribe("start_thread", given.append)
    bus.subscribe("stop_thread", lambda number: second.do(manager.acquire_thread), 10)
    first.do(manager.release_thread)
    assert given == [2]


def test_a_start_that_fails_is_told_and_the_number_is_kept_until_the_release(
    bus: Bus, manager: ThreadManager, told: list[tuple[str, int]]
) -> None:
    def fails(number: int) -> None:
        raise ValueError(number)

    bus.subscribe("start_thread", fails)
    with pytest.raises(ChannelFailures):
        manager.acquire_thread()
    assert list(manager.threads.values()) == [1]
    bus.unsubscribe("start_thread", fails)
    bus.subscribe("stop_thread", fails)
    with pytest.raises(ChannelFailures):
        manager.release_thread()
    assert manager.threads == {}
    bus.unsubscribe("stop_thread", fails)
    manager.acquire_thread()
    assert told == [("start", 1), ("stop", 1), ("start", 1)]


def test_stop_releases_all_even_if_listeners_fail(
    bus: Bus, manager: ThreadManager, workers: Callable[[], Worker]
) -> None:
    def fails(number: int) -> None:
        if number != 2:
            raise ValueError(number)

    for _ in range(3):
        workers().do(manager.acquire_thread)
    bus.subscribe("stop_thread", fails)
    bus.subscribe("stop_thread", lambda number: number * 10)
    with pytest.raises(ChannelFailures) as failed:
        manager.stop()
    assert [str(error) for error in failed.value.exceptions] == ["1", "3"]
    assert failed.value.results == [10, 30]
    assert manager.threads == {}


def test_system_exit_of_a_listener_passes_and_the_number_is_free(bus: Bus, manager: ThreadManager) -> None:
    def leaves(number: int) -> None:
        raise SystemExit(3)

    manager.acquire_thread()
    bus.subscribe("stop_thread", leaves)
    with pytest.raises(SystemExit):
        manager.release_thread()
    bus.unsubscribe("stop_thread", leaves)
    manager.acquire_thread()
    assert list(manager.threads.values()) == [1]


def test_a_release_while_a_thread_is_started_comes_after_its_start(
    bus: Bus, manager: ThreadManager, told: list[tuple[str, int]]
) -> None:
    bus.subscribe("start_thread", lambda number: manager.stop(), 10)
    bus.subscribe("start_thread", lambda number: told.append(("still", number)), 90)
    manager.acquire_thread()
    assert told == [("start", 1), ("still", 1), ("stop", 1)]
    assert manager.threads == {}


def test_a_thread_that_has_the_identity_of_one_that_ended_is_started(
    manager: ThreadManager, told: list[tuple[str, int]]
) -> None:
    """The system gives identities again; the new thread has nothing of what was set up for the old one."""
    manager.acquire_thread()
    manager._held[threading.get_ident()].thread = threading.Thread()
    manager.acquire_thread()
    assert told == [("start", 1), ("stop", 1), ("start", 1)]


@pytest.mark.rule("bus.B1", "bus.B16")
def test_threads_that_come_and_go_at_once_never_share_a_number(bus: Any, in_thread: InThread) -> None:
    manager = ThreadManager(bus)
    manager.subscribe()
    live: set[int] = set()
    shared: list[int] = []
    lock = threading.Lock()

    def started(number: int) -> None:
        with lock:
            if number in live:
                shared.append(number)
            live.add(number)

    def stopped(number: int) -> None:
        with lock:
            live.discard(number)

    bus.subscribe("start_thread", started)
    bus.subscribe("stop_thread", stopped)

    def come_and_go() -> None:
        for _ in range(100):
            bus.publish("acquire_thread")
            bus.publish("release_thread")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [in_thread(come_and_go) for _ in range(8)]
        for _ in range(20):
            bus.publish("graceful")
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    bus.publish("stop")
    assert shared == []
    assert live == set()
    assert manager.threads == {}
    assert not [line for line in bus.said if line.startswith("Error")]
