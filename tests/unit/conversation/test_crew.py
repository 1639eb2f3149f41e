"""Handlers' threads: no more are awake than have something to do, and one that waits holds nobody up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from monsal.conversation.crew import Crew

PATIENCE = 30.0


class Job:
    """A call and what the crew notes of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.thread: threading.Thread | None = None
        self.started: float | None = None
        self.expired = False
        self.done = threading.Event()


def work(job: Job) -> None:
    job.function()
    job.done.set()


async def ended(*jobs: Job) -> None:
    """Wait for jobs without stopping the loop."""
    for job in jobs:
        assert await asyncio.to_thread(job.done.wait, PATIENCE)


def run(size: int, story: Callable[[Crew], Any]) -> None:
    async def main() -> None:
        crew = Crew(size, work)
        crew.open(asyncio.get_running_loop())
        await story(crew)
        crew.close()

    asyncio.run(main())


def test_jobs_that_come_while_a_thread_is_busy_are_all_done() -> None:
    async def story(crew: Crew) -> None:
        gate = threading.Event()
        names: list[str] = []
        jobs = [Job(lambda: names.append(threading.current_thread().name)) for _ in range(20)]
        first = Job(gate.wait)
        crew.put(first)
        for job in jobs:
            crew.put(job)
        gate.set()
        await ended(first, *jobs)
        assert len(names) == 20
        assert crew.threads <= 4

    run(4, story)


def test_a_job_that_waits_for_another_one_does_not_hold_it_up() -> None:
    async def story(crew: Crew) -> None:
        other = threading.Event()
        jobs = [Job(lambda: other.wait(PATIENCE)), Job(other.set)]
        for job in jobs:
            crew.put(job)
        await ended(*jobs)
        assert crew.threads == 2

    run(2, story)


def test_one_thread_is_woken_for_jobs_that_come_in_one_turn_of_the_loop_and_after_it() -> None:
    async def story(crew: Crew) -> None:
        jobs = [Job(lambda: None) for _ in range(3)]
        for job in jobs:
            crew.put(job)
        assert crew.threads == 0
        await asyncio.sleep(0)
        assert crew.threads == 1
        await ended(*jobs)

    run(4, story)


def test_jobs_are_done_though_the_crew_is_closed_in_the_same_turn_of_the_loop() -> None:
    jobs = [Job(lambda: None) for _ in range(3)]

    async def story(crew: Crew) -> None:
        for job in jobs:
            crew.put(job)
        crew.close()
        # The loop does nothing more meanwhile, as if it had ended.
        assert all(job.done.wait(PATIENCE) for job in jobs)

    run(4, story)


def test_there_are_no_more_threads_than_may_be() -> None:
    async def story(crew: Crew) -> None:
        gate = threading.Event()
        begun = threading.Semaphore(0)

        def wait() -> None:
            begun.release()
            gate.wait(PATIENCE)

        jobs = [Job(wait) for _ in range(4)]
        for job in jobs:
            crew.put(job)
        for _ in range(3):
            assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
        assert crew.threads == 3
        assert [job.started is not None for job in jobs] == [True, True, True, False]
        gate.set()
        await ended(*jobs)
        assert crew.threads == 3

    run(3, story)


def test_another_thread_takes_the_place_of_one_that_is_given_up() -> None:
    async def story(crew: Crew) -> None:
        gate, begun = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            gate.wait(PATIENCE)

        stuck, next_one = Job(wait), Job(lambda: None)
        crew.put(stuck)
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        crew.put(next_one)
        assert crew.give_up(stuck)
        await ended(next_one)
        assert stuck.expired
        assert not stuck.done.is_set()
        gate.set()
        await ended(stuck)

    run(1, story)


def test_what_has_ended_cannot_be_given_up() -> None:
    async def story(crew: Crew) -> None:
        jobs = [Job(lambda: None), Job(lambda: None)]
        for job in jobs:
            crew.put(job)
        # With one thread the first is over for good when the second has begun.
        await ended(*jobs)
        assert not crew.give_up(jobs[0])
        assert not jobs[0].expired

    run(1, story)


@pytest.mark.parametrize("size", [1, 4])
def test_threads_end_with_the_crew(size: int) -> None:
    async def story(crew: Crew) -> None:
        jobs = [Job(lambda: None) for _ in range(3)]
        for job in jobs:
            crew.put(job)
        await ended(*jobs)
        mine = [thread for thread in threading.enumerate() if thread in crew._threads]
        crew.close()
        for thread in mine:
            await asyncio.to_thread(thread.join, PATIENCE)
        assert crew.threads == 0

    run(size, story)


def test_a_thread_that_was_given_up_never_seems_to_have_its_place_again() -> None:
    """Or a job that is put just then would wake nobody, and wait for the next one."""

    class Threads(set[threading.Thread]):
        def discard(self, thread: threading.Thread) -> None:
            seen.append(crew_lock.locked())
            super().discard(thread)
            left.set()

    seen: list[bool] = []
    left = threading.Event()
    crew_lock = threading.Lock()

    async def story(crew: Crew) -> None:
        crew._lock, crew._threads = crew_lock, Threads()
        gate, begun = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            gate.wait(PATIENCE)

        stuck = Job(wait)
        crew.put(stuck)
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        assert crew.give_up(stuck)
        gate.set()
        assert await asyncio.to_thread(left.wait, PATIENCE)
        assert seen == [True]
        after = Job(lambda: None)
        crew.put(after)
        await ended(after)

    run(1, story)


def test_a_job_waits_until_the_system_has_a_thread_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be called later, when whoever put it was told that it is not: its message would be handled twice."""
    monkeypatch.setattr("monsal.conversation.crew._PAUSE", 0.001)
    refused: list[threading.Thread] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("monsal-turn-") and len(refused) < 3:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    async def story(crew: Crew) -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        called: list[int] = []
        jobs = [Job(lambda: called.append(1)), Job(lambda: called.append(2))]
        for job in jobs:
            crew.put(job)
        await ended(*jobs)
        assert called == [1, 2]
        assert len(refused) == 3
        assert crew.threads == 1

    run(1, story)
