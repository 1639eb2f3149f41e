"""Who is woken for new work: one of those who wait, and always one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from monsal.store.waking import Lane


class Clients:
    """Some who wait for items; `items` is what there is to take, `due` when (in their clock)."""

    def __init__(self, *names: str, due: float = 0.0) -> None:
        self.items = 0
        self.due = due
        self.rung: list[str] = []
        self.deaf: set[str] = set()
        self.woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.lane: Lane[str] = Lane(loop, lambda: self.due if self.items else None, self._ring, lambda: 1000.0)
        for name in names:
            self.ask(name, 1)

    def _ring(self, name: str) -> bool:
        if name in self.deaf:
            return False
        self.rung.append(name)
        self.woken.set()
        return True

    def ask(self, name: str, limit: int, now: float = 1000.0) -> int:
        self.lane.asks(name, now)
        taken = min(limit, self.items) if now >= self.due else 0
        self.items -= taken
        self.lane.answered(name, short=taken < limit)
        return taken

    def come(self, count: int = 1) -> None:
        self.items += count
        self.lane.look()

    async def wait_rung(self, count: int) -> list[str]:
        async with asyncio.timeout(60):
            while len(self.rung) < count:
                self.woken.clear()
                await self.woken.wait()
        return self.rung


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(body())


def test_one_item_wakes_one_and_the_next_the_next() -> None:
    async def body() -> None:
        clients = Clients("a", "b", "c")
        for wanted in ("a", "b", "c", "a"):
            clients.come()
            await settled()
            assert clients.rung[-1] == wanted
            assert clients.ask(wanted, 5) == 1
            await settled()
        assert clients.rung == ["a", "b", "c", "a"]
        assert clients.lane.wakes == 4

    run(body)


def test_more_than_one_can_take_wakes_the_next() -> None:
    async def body() -> None:
        clients = Clients("a", "b", "c")
        clients.come(5)
        await settled()
        assert clients.rung == ["a"]
        assert clients.ask("a", 2) == 2
        await settled()
        assert clients.rung == ["a", "b"]
        assert clients.ask("b", 3) == 3
        await settled()
        assert clients.rung == ["a", "b"]

    run(body)


def test_who_was_woken_and_does_not_come_is_passed_over() -> None:
    async def body() -> None:
        clients = Clients("a", "b")
        clients.come()
        assert (await clients.wait_rung(2))[:2] == ["a", "b"]
        # The one that slept comes in the end, finds nothing, and takes part again.
        assert clients.ask("b", 1) == 1
        assert clients.ask("a", 1) == 0
        clients.come()
        assert (await clients.wait_rung(3))[2] == "a"

    run(body)


def test_who_cannot_be_told_is_tried_again() -> None:
    async def body() -> None:
        clients = Clients("a")
        clients.deaf.add("a")
        clients.come()
        await settled()
        assert clients.rung == []
        clients.deaf.clear()
        assert await clients.wait_rung(1) == ["a"]

    run(body)


def test_an_item_that_came_while_the_answer_was_made_is_not_forgotten() -> None:
    """The bell was looked at while nobody waited; then the one who asks gets nothing of what came after it."""

    async def body() -> None:
        clients = Clients("a")
        clients.lane.asks("a", 1000.0)
        clients.come()
        await settled()
        assert clients.rung == []
        clients.lane.answered("a", short=True)
        await settled()
        assert clients.rung == ["a"]

    run(body)


def test_what_is_due_later_wakes_somebody_later_and_nobody_needs_to_ask() -> None:
    async def body() -> None:
        clients = Clients("a", due=1000.05)
        clients.come()
        await settled()
        assert clients.rung == []
        assert await clients.wait_rung(1) == ["a"]

    run(body)


def test_a_client_whose_clock_stands_still_is_not_woken_in_a_circle() -> None:
    async def body() -> None:
        clients = Clients("a", due=1000.05)
        clients.come()
        await clients.wait_rung(1)
        assert clients.ask("a", 1, now=1000.0) == 0
        await settled()
        assert clients.rung == ["a"]
        await clients.wait_rung(2)

    run(body)


def test_who_leaves_while_woken_leaves_the_work_to_the_others() -> None:
    async def body() -> None:
        clients = Clients("a", "b")
        clients.come()
        await settled()
        clients.lane.leave("a")
        await settled()
        assert clients.rung == ["a", "b"]

    run(body)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_left_while_somebody_waits(seed: int) -> None:
    """Whatever happens in whatever order: in the end all is taken, by clients that ask only when they are woken."""

    async def body() -> None:
        dice = random.Random(seed)
        names = "abcde"
        clients = Clients(*names)
        asleep = set(names[:2])
        seen, called = 0, set[str]()

        def serve() -> None:
            nonlocal seen
            called.update(clients.rung[seen:])
            seen = len(clients.rung)
            for name in called - asleep:
                called.discard(name)
                while clients.ask(name, limit := dice.randint(1, 3)) == limit:
                    pass

        for _ in range(200):
            act = dice.random()
            if act < 0.5:
                clients.come(dice.randint(1, 4))
            elif act < 0.6:
                asleep = set(dice.sample(names, dice.randint(0, 4)))
            serve()
            await asyncio.sleep(0)
        # One still sleeps and never comes again; all others do.
        asleep = {"a"}
        async with asyncio.timeout(60):
            while clients.items:
                serve()
                await asyncio.sleep(0)

    run(body)


@pytest.mark.parametrize("made", ["asyncio", "uvloop"])
def test_a_look_that_is_due_at_once_is_like_any_other(made: str) -> None:
    """uvloop's handle for what is due at once has no time: asking for it lost the wake-up."""

    async def body() -> None:
        # Given a client that was woken, and the others that are, as soon as that one had its time
        clients = Clients("a", "b", "c")
        clients.come(3)
        await clients.wait_rung(1)
        # When it is looked at again and again, until that is now
        for _ in range(2):
            clients.lane._again_in(0.0)
        # Then all are woken, one after the other
        assert await clients.wait_rung(3) == ["a", "b", "c"]

    loop = asyncio.new_event_loop if made == "asyncio" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(body())
