"""Handlers run beside the sockets' loop, within their deadline, and harm nobody when they do not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monsal.conversation.context import Turn, current
from monsal.conversation.page import TurnPage
from monsal.conversation.runner import Runner
from monsal.errors import DeadlineExceeded, TurnError
from monsal.mail import Message
from monsal.store.contract import StateKey


def a_turn(row: int = 1) -> Turn:
    message = Message(raw=b"", recipient="a@b.c", correspondent="x@y.z", envelope=None, id=row, received=0.0)
    tools: Any = SimpleNamespace()
    return Turn(
        message=message,
        handler="m:F",
        module="m",
        secret=b"key",
        state="START",
        conversation=StateKey("m", "x@y.z"),
        captures={},
        tools=tools,
    )


def test_a_turn_does_not_show_the_key_of_the_store() -> None:
    turn = a_turn()
    shown = repr(turn) + repr(turn.__rich_repr__())
    assert "m:F" in shown
    assert "key" not in shown


@asynccontextmanager
async def a_runner(threads: int = 4) -> AsyncIterator[Runner]:
    runner = Runner(threads=threads, page=TurnPage(None))
    await runner.open()
    yield runner
    await runner.close()


def run(story: Callable[[Runner], Any], threads: int = 4) -> None:
    async def main() -> None:
        async with a_runner(threads) as runner:
            await asyncio.wait_for(story(runner), 30)

    asyncio.run(main())


def test_plain_handlers_run_in_threads_with_their_turn() -> None:
    async def story(runner: Runner) -> None:
        turn = a_turn()
        here = threading.get_ident()
        outcome = await runner.run(
            lambda: (current(), threading.get_ident()), turn=turn, finish=lambda pair: pair, deadline=5
        )
        assert outcome.value[0] is turn
        assert outcome.value[1] != here
        assert turn.closed

    run(story)


def test_coroutines_run_on_a_loop_of_their_own() -> None:
    async def story(runner: Runner) -> None:
        turn = a_turn()
        here = asyncio.get_running_loop()

        async def handler() -> Any:
            await asyncio.sleep(0)
            return current(), asyncio.get_running_loop()

        outcome = await runner.run(handler, turn=turn, is_async=True, deadline=60)
        assert outcome.value[0] is turn
        assert outcome.value[1] is not here

    run(story)


@pytest.mark.parametrize("is_async", [False, True])
def test_errors_come_back_with_the_handlers_own_traceback(is_async: bool) -> None:
    def broken() -> None:
        raise ValueError("on purpose")

    async def broken_async() -> None:
        broken()

    async def story(runner: Runner) -> None:
        function = broken_async if is_async else broken
        outcome = await runner.run(function, turn=a_turn(), is_async=is_async, deadline=60)
        assert isinstance(outcome.error, ValueError)
        assert "on purpose" in outcome.detail
        assert "conversation/runner.py" not in outcome.detail

    run(story)


def test_even_system_exit_ends_only_the_turn() -> None:
    def leave() -> None:
        raise SystemExit(3)

    async def story(runner: Runner) -> None:
        outcome = await runner.run(leave, turn=a_turn(), deadline=60)
        assert isinstance(outcome.error, SystemExit)
        assert (await runner.run(lambda: 7, deadline=60)).value == 7

    run(story)


def test_a_hanging_handler_blocks_nobody_but_its_own_turn() -> None:
    release = threading.Event()

    async def story(runner: Runner) -> None:
        turn = a_turn()
        stuck = asyncio.ensure_future(runner.run(release.wait, turn=turn, deadline=0.05))
        while not turn.closed:
            await asyncio.sleep(0.01)
        # Its thread was the only one; another took its place.
        assert (await runner.run(lambda: 7, turn=a_turn(2), deadline=60)).value == 7
        assert runner.statistics().stuck == 1
        assert not stuck.done()
        with pytest.raises(TurnError, match="deadline"):
            turn.write("select 1")
        release.set()
        outcome = await stuck
        assert isinstance(outcome.error, DeadlineExceeded)
        assert runner.statistics().stuck == 0

    run(story, threads=1)


def test_a_slow_coroutine_is_cancelled() -> None:
    async def story(runner: Runner) -> None:
        outcome = await runner.run(lambda: asyncio.sleep(60), turn=a_turn(), is_async=True, deadline=0.05)
        assert isinstance(outcome.error, DeadlineExceeded)

    run(story)


def test_a_coroutine_that_blocks_its_loop_is_left_behind() -> None:
    release = threading.Event()

    async def blocking() -> None:
        release.wait()

    async def fine() -> int:
        await asyncio.sleep(0)
        return 7

    async def story(runner: Runner) -> None:
        stuck = asyncio.ensure_future(runner.run(blocking, turn=a_turn(), is_async=True, deadline=0.05))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(runner.run(fine, turn=a_turn(2), is_async=True, deadline=60))
        assert (await waiting).value == 7
        release.set()
        assert isinstance((await stuck).error, DeadlineExceeded)

    run(story)


def test_too_many_stuck_handlers_stop_the_intake_of_new_ones() -> None:
    release = threading.Event()

    async def story(runner: Runner) -> None:
        turns = [a_turn(row) for row in range(2)]
        stuck = [asyncio.ensure_future(runner.run(release.wait, turn=turn, deadline=0.02)) for turn in turns]
        while not all(turn.closed for turn in turns):
            await asyncio.sleep(0.01)
        assert runner.is_full
        release.set()
        await asyncio.gather(*stuck)
        assert not runner.is_full

    run(story, threads=2)


def test_waiting_for_a_thread_is_not_the_handlers_fault() -> None:
    begun, release = threading.Event(), threading.Event()

    def long() -> None:
        begun.set()
        release.wait()

    async def story(runner: Runner) -> None:
        first = asyncio.ensure_future(runner.run(long, turn=a_turn(1), deadline=60))
        await asyncio.to_thread(begun.wait)
        # It waits for longer than it may take, and then takes no time at all.
        waiting = asyncio.ensure_future(runner.run(lambda: 7, turn=a_turn(2), deadline=1.5))
        await asyncio.sleep(2.0)
        release.set()
        assert [outcome.error for outcome in await asyncio.gather(first, waiting)] == [None, None]

    run(story, threads=1)


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    "error",
    [
        SyntaxError("odd", ("a file", 1, "no number", "a line")),
        _Unspeakable(),
        ValueError("\ud800"),
        ValueError("x" * 5_000_000),
    ],
    ids=["an error that traceback cannot format", "a __str__ that raises", "a lone surrogate", "long words"],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_an_error_that_is_hard_to_put_into_words_is_an_outcome_all_the_same(error: Exception, is_async: bool) -> None:
    async def story(runner: Runner) -> None:
        def plain() -> None:
            raise error

        async def coroutine() -> None:
            raise error

        outcome = await runner.run(coroutine if is_async else plain, turn=a_turn(), is_async=is_async, deadline=60)
        assert outcome.error is error
        assert type(error).__name__ in outcome.text
        assert len((outcome.text + outcome.detail).encode()) < 300_000

    run(story, threads=1)


def test_who_calls_code_that_is_no_turn_can_have_its_message_accused(tmp_path: Path) -> None:
    page = TurnPage(tmp_path / "turns.page")

    async def story() -> None:
        runner = Runner(threads=1, page=page)
        await runner.open()
        # What a process that dies in the middle of the call leaves.
        outcome = await runner.run(lambda: TurnPage(tmp_path / "turns.page").left_behind(), deadline=5, row=7)
        assert outcome.value == [7]
        await runner.close()

    asyncio.run(story())
    assert page.left_behind() == []
