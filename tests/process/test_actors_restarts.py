"""Many deaths and restarts leave nothing behind: no descriptor, no zombie, no orphan, no thread, no name."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from actor_programs import house, spec, until

from monsal.actors import ActorDied, ActorStopping, Arbiter, Backoff, GroupSpec, Monitor


def held() -> int:
    gc.collect()  # what earlier tests left open is not ours
    return len(os.listdir("/proc/self/fd"))


def children() -> set[str]:
    """Of all threads of this process, zombies too."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        found |= set((task / "children").read_text("ascii").split())
    return found


async def team_of(arbiter: Arbiter, kind: Any, count: int, spare: int) -> Monitor:
    group = GroupSpec(
        member=spec("team", kind), count=count, spare=spare, backoff=Backoff(first=0.001, limit=0.001, reset_after=0.0)
    )
    return await arbiter.add_monitor("team", group)


async def kill_members(arbiter: Arbiter, team: Monitor, kind: str, deaths: int) -> None:
    """End members, one after another, in all ways there are; each time the group answers again."""
    for number in range(deaths):
        await until(lambda: len(team.members) == team.group.count, 60.0)
        victim = team.members[number % len(team.members)]
        if kind == "process" and number % 2:
            os.kill(arbiter.record(victim).pid, signal.SIGKILL)
        else:
            await arbiter.tell(victim, "raise_exit", 3)
        await arbiter.watch(victim)
        while True:
            try:
                assert await team.ask("greet", "Anna", timeout=60.0) == "Hello Anna"
                break
            except (ActorDied, ActorStopping):
                continue


async def die_often(kind: str, deaths: int, spare: int) -> None:
    others = children()  # of earlier tests, such as multiprocessing's own, which lives as long as the process
    async with house() as arbiter:
        team = await team_of(arbiter, kind, 2, spare)
        await kill_members(arbiter, team, kind, 4)
        await until(lambda: len(team.members) == 2 and (not spare or team.statistics().spare is not None), 60.0)
        before = held()
        await kill_members(arbiter, team, kind, deaths)
        await until(lambda: len(team.members) == 2 and (not spare or team.statistics().spare is not None), 60.0)
        await until(lambda: held() <= before)  # what earlier tests left may go meanwhile
        if kind == "process":
            living = {str(record.pid) for record in arbiter.switch.records.values()}
            await until(lambda: children() - others == living)
        assert len(arbiter.switch.by_link) == len(arbiter.switch.records) == 2 + spare
        assert len(arbiter.switch.gone) <= 1000
    await until(lambda: children() <= others)
    await until(lambda: not any(one.name.startswith("team") for one in threading.enumerate()))


@pytest.mark.rule("mailbox.B12")
@pytest.mark.parametrize(("kind", "deaths", "spare"), [("process", 30, 1), ("thread", 200, 0)])
def test_nothing_is_left_behind(kind: str, deaths: int, spare: int) -> None:
    asyncio.run(die_often(kind, deaths, spare))
