"""What feeds a watchdog, and what lets it bite."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from monsal.progress import Progress


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    begun = threading.Event()
    loop.call_soon(begun.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert begun.wait(60)
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Work:
    """A service: `late` seconds ago something became due (None: nothing will), `turns` are done."""

    def __init__(self) -> None:
        self.late: float | None = None
        self.turns = 0

    def figures(self) -> tuple[int, float]:
        return self.turns, 0.0 if self.late is None else self.late


def test_a_loop_that_answers_and_one_that_does_not(loop: asyncio.AbstractEventLoop) -> None:
    progress = Progress(lambda: None, loop, lag=0.05)
    assert progress.loop_lags() is None
    hangs, released = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        released.wait(30)

    loop.call_soon_threadsafe(hang)
    assert hangs.wait(30)
    assert "not answered for 0.05 s" in str(progress.loop_lags())
    assert progress.stalled() is None, "one reason is enough"
    released.set()


def test_nothing_is_stalled_while_nothing_is_due(loop: asyncio.AbstractEventLoop) -> None:
    work = Work()
    progress = Progress(work.figures, loop, patience=0.0)
    for late in (None, -5.0, 10.0):
        work.late = late
        assert progress.stalled() is None
        assert progress.stalled() is None


def test_due_messages_of_which_none_is_finished(loop: asyncio.AbstractEventLoop) -> None:
    work = Work()
    progress = Progress(work.figures, loop, patience=0.0)
    work.late = 100.0
    assert progress.stalled() is None, "seen for the first time"
    assert "due for 100 s" in str(progress.stalled())
    work.turns += 1
    assert progress.stalled() is None, "one was finished"
    assert progress.stalled() is not None


def test_before_the_store_is_open(loop: asyncio.AbstractEventLoop) -> None:
    progress = Progress(lambda: None, loop, patience=0.0)
    assert progress.stalled() is None
    assert progress.stalled() is None


def test_a_loop_that_is_closed() -> None:
    gone = asyncio.new_event_loop()
    gone.close()
    assert Progress(lambda: None, gone, lag=0.05).loop_lags() is not None
