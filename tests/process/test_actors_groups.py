"""Groups of actors: restarts, spares, routes, scaling, generations, recycling, giving up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from actor_programs import fails_with, house, on_loop, spec, until

from monsal.actors import (
    ActorDied,
    ActorSpec,
    ActorState,
    ActorStopping,
    Arbiter,
    Backoff,
    Died,
    Down,
    ExitKind,
    GaveUp,
    GroupSpec,
    Happening,
    Monitor,
    Promoted,
    RemoteActorError,
    Restarting,
    SpawnFailed,
)
from monsal.errors import NotRunning, ReloadFailed


async def group(arbiter: Arbiter, count: int = 2, *, member: ActorSpec | None = None, **fields: Any) -> Monitor:
    return await arbiter.add_monitor("team", GroupSpec(member=member or spec("team"), count=count, **fields))


@pytest.mark.rule("mailbox.R15", "mailbox.R23")
@on_loop
async def test_a_group_is_asked_as_one_and_its_members_by_their_names() -> None:
    async with house() as arbiter:
        team = await group(arbiter)
        pids = {await arbiter.ask(f"team-{number}", "where") for number in (1, 2)}
        assert len(pids) == 2
        assert {await team.ask("where", route="round_robin") for _ in range(4)} == pids
        assert {await arbiter.ask("team", "where") for _ in range(8)} <= pids
        assert len({await team.ask("where", key="anna") for _ in range(8)}) == 1
        assert await team.ask("where", route="broadcast") == {ref.name: arbiter.record(ref).pid for ref in team.members}
        assert await arbiter.ask("team-1", "relay", "monitor", "ping") == "pong"
        told = await arbiter.ask("team-1", "relay", "monitor", "info")
        assert len(told["workers"]) == 2
        with pytest.raises(KeyError):
            await group(arbiter)


@pytest.mark.rule("mailbox.B10")
@on_loop
async def test_a_member_that_dies_is_replaced_by_the_spare() -> None:
    happenings: list[Happening] = []
    async with house(happenings) as arbiter:
        team = await group(arbiter, 1, spare=1)
        for _ in range(2):
            await until(lambda: team.statistics().spare is not None)
            spare = team.statistics().spare
            assert spare is not None
            old = team.members[0]
            os.kill(arbiter.record(old).pid, signal.SIGKILL)
            await arbiter.watch(old)
            # It is asked while nobody is there, and waits.
            assert await team.ask("where") == spare.pid
            assert (team.members[0].name, team.members[0].epoch) == (old.name, old.epoch + 1)
        promoted = [one for one in happenings if isinstance(one, Promoted)]
        assert len(promoted) == team.statistics().promoted == 2


@pytest.mark.rule("mailbox.B10", "mailbox.R23")
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_a_member_is_replaced_without_a_spare(kind: Any) -> None:
    async def work() -> None:
        async with house() as arbiter:
            team = await group(arbiter, 1, member=spec("team", kind))
            await arbiter.tell("team-1", "raise_exit", 3)
            await until(lambda: not team.members or team.members[0].epoch > 1)
            assert await team.ask("greet", "Anna", timeout=60.0) == "Hello Anna"
            assert team.members[0].epoch == 2
            assert team.statistics().supervisor.restarts == 1

    on_loop(work)()


@pytest.mark.rule("mailbox.B10")
@on_loop
async def test_a_crash_loop_backs_off_and_others_go_on() -> None:
    happenings: list[Happening] = []
    async with house(happenings) as arbiter:
        team = await group(arbiter, 1, backoff=Backoff(first=0.2, factor=2.0, limit=1.0))
        other = await arbiter.spawn(spec("other"))
        for _ in range(2):
            await fails_with(ActorDied, team.ask("leave_by", 1, timeout=60.0))
        await until(lambda: any(isinstance(one, Restarting) for one in happenings))
        waits = [one.delay for one in happenings if isinstance(one, Restarting)]
        assert 0.05 < waits[0] <= 0.2
        assert await arbiter.ask(other, "ping") == "pong"
        assert await team.ask("ping", timeout=60.0) == "pong"


@pytest.mark.rule("mailbox.B10")
@on_loop
async def test_a_group_gives_up_after_too_many_deaths() -> None:
    happenings: list[Happening] = []
    async with house(happenings) as arbiter:
        team = await group(arbiter, 1, intensity=0, backoff=None)
        await fails_with(ActorDied, team.ask("leave_by", 1))
        await until(lambda: any(isinstance(one, GaveUp) for one in happenings))
        assert not team.is_up
        await fails_with(NotRunning, team.ask("ping"))


@pytest.mark.rule("mailbox.B10")
@on_loop
async def test_all_are_restarted_with_one_and_stopped_in_reverse() -> None:
    happenings: list[Happening] = []
    async with house(happenings) as arbiter:
        team = await group(arbiter, 3, strategy="one_for_all")
        before = [ref.aid for ref in team.members]
        os.kill(arbiter.record("team-2").pid, signal.SIGKILL)
        await until(lambda: len(team.members) == 3 and not {ref.aid for ref in team.members} & set(before))
        died = [one.ref.name for one in happenings if isinstance(one, Died)]
        assert died == ["team-2", "team-3", "team-1"]


@on_loop
async def test_a_group_whose_members_do_not_start_is_refused() -> None:
    async with house() as arbiter:
        error = await fails_with(
            SpawnFailed, group(arbiter, 2, member=ActorSpec(name="team", actor="actor_programs:Nobody"), spare=1)
        )
        assert error.cause.kind is ExitKind.IMPORT_ERROR
        assert arbiter.get_actor("team") is None
        assert arbiter.statistics().groups == ()


@on_loop
async def test_a_group_is_scaled() -> None:
    async with house() as arbiter:
        team = await group(arbiter, 1)
        await team.scale(3)
        assert sorted(ref.name for ref in team.members) == ["team-1", "team-2", "team-3"]
        await team.scale(1)
        assert [ref.name for ref in team.members] == ["team-1"]
        assert await team.ask("ping") == "pong"


@pytest.mark.rule("mailbox.B13")
@on_loop
async def test_a_new_generation_is_ready_before_the_old_one_drains() -> None:
    async with house() as arbiter:
        team = await group(arbiter, 2, spare=1)
        old = {ref.name: ref for ref in team.members}
        running = asyncio.create_task(arbiter.ask("team-1", "wait", timeout=60.0))
        await arbiter.ask("team-1", "ping")
        answers: list[str] = []
        is_over = False

        async def load() -> None:
            while not is_over:
                answers.append(await team.ask("greet", "Anna", timeout=60.0))

        loading = asyncio.create_task(load())
        replacing = asyncio.create_task(team.replace(spec("team", args={"greeting": "Hi"})))
        await until(lambda: team.generation == 2)
        await arbiter.ask(old["team-1"], "open")
        assert await running == "opened"
        assert await replacing == 2
        assert await team.ask("greet", "Anna") == "Hi Anna"
        is_over = True
        await loading
        assert set(answers) == {"Hello Anna", "Hi Anna"}
        for ref in team.members:
            assert (ref.generation, ref.epoch) == (2, old[ref.name].epoch + 1)
        for ref in old.values():
            down: Down = await arbiter.watch(ref)
            assert down.cause.kind is ExitKind.SHUTDOWN


@on_loop
async def test_new_code_that_does_not_start_leaves_the_old_generation_alone() -> None:
    async with house() as arbiter:
        team = await group(arbiter, 1, spare=1)
        before = team.members
        for bad in ("actor_programs:Nobody", "actor_programs:Loud", "no_such_module:Actor"):
            error = await fails_with(ReloadFailed, team.replace(ActorSpec(name="team", actor=bad)))
            assert error.details
            assert team.members == before
            assert team.generation == 1
        assert await team.ask("greet", "Anna") == "Hello Anna"
        assert len([one for one in arbiter.switch.records.values() if one.state < ActorState.STOPPING]) == 2


@pytest.mark.rule("mailbox.B13")
@pytest.mark.parametrize("spare", [0, 1])
def test_a_member_is_recycled_after_its_messages(spare: int) -> None:
    async def work() -> None:
        async with house() as arbiter:
            team = await group(arbiter, 1, spare=spare, recycle_after=10)
            first = team.members[0]
            # Its successor starts meanwhile, which takes as long as it takes.
            end = time.monotonic() + 60.0
            while time.monotonic() < end:
                try:
                    await team.ask("greet", "Anna", timeout=60.0)
                except ActorStopping:
                    raise AssertionError("it stopped before its successor was ready") from None
                if team.members[0] != first and team.statistics().recycled:
                    break
                await asyncio.sleep(0.02)
            assert team.members[0].name == first.name
            assert team.members[0] != first
            assert (await arbiter.watch(first)).cause.kind is ExitKind.SHUTDOWN
            assert team.statistics().supervisor.restarts == 0

    on_loop(work)()


@pytest.mark.rule("mailbox.R21", "mailbox.R22", "mailbox.R26")
@on_loop
async def test_the_hooks_run_in_their_order() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        async with house() as arbiter:
            member = ActorSpec(name="team", actor="actor_programs:Hooked", args={"path": str(log)}, timeout=0.5)
            team = await group(arbiter, 1, member=member)
            await until(lambda: "periodic" in log.read_text())
            assert (await team.ask("info"))["extra"] == {"hooked": True}
            working = asyncio.create_task(team.ask("work", 0.3))
            await until(lambda: "work begins" in log.read_text())
            await team.close()
            assert await working == "done"
        lines = [line for line in log.read_text().splitlines() if line != "periodic"]
        assert lines == ["boot", "start team-1 starting", "work begins", "work ends", "stopping"]


@pytest.mark.rule("mailbox.R21")
@on_loop
async def test_a_start_that_fails_ends_the_actor() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        async with house() as arbiter:
            args = {"path": str(log), "fails": "start"}
            failing = ActorSpec(name="a", actor="actor_programs:Hooked", args=args)
            error = await fails_with(SpawnFailed, arbiter.spawn(failing))
            assert "start goes wrong" in error.details
            assert (error.cause.kind, error.cause.code) == (ExitKind.START_FAILED, 15)


@pytest.mark.rule("mailbox.B1")
@on_loop
async def test_a_broadcast_tells_who_failed() -> None:
    async with house() as arbiter:
        team = await group(arbiter, 2)
        error = await fails_with(ExceptionGroup, team.ask("fail", "no good", route="broadcast"))
        assert [type(one) for one in error.exceptions] == [RemoteActorError] * 2


@on_loop
async def test_a_group_that_stops_tells_of_the_members_that_are_left() -> None:
    async with house() as arbiter:
        team = await group(arbiter, 2)
        first, second = team.members
        running = asyncio.create_task(arbiter.ask(second, "wait", timeout=60.0))
        await arbiter.ask(second, "ping")
        stopping = asyncio.create_task(team.close())
        await arbiter.watch(first)  # the other one still has a turn to end
        assert team.members == (second,)
        assert await team.ask("ping", route="broadcast") == {second.name: "pong"}
        await arbiter.ask(second, "open")
        assert await running == "opened"
        await stopping
        assert team.members == ()
        await fails_with(NotRunning, team.ask("ping", route="broadcast"))


@on_loop
async def test_members_are_given_sockets_before_they_start() -> None:
    async with house() as arbiter:
        listening = socket.create_server(("127.0.0.1", 0))
        given: list[str] = []

        async def equip(ref: Any) -> None:
            await arbiter.hand_over(ref, "http", listening)
            given.append(ref.name)

        with listening:
            member = spec("team", hooks={"start": "actor_programs:needs_socket"})
            team = await arbiter.add_monitor("team", GroupSpec(member=member, count=1, spare=1), equip=equip)
            assert sorted(given) == ["team-1", "team-spare"]
            port = listening.getsockname()[1]
            assert await team.ask("port_of", "http") == port
            # The spare has it already, and so has a new generation.
            old = team.members[0]
            os.kill(arbiter.record(old).pid, signal.SIGKILL)
            await arbiter.watch(old)
            assert await team.ask("port_of", "http", timeout=60.0) == port
            assert await team.replace() == 2
            assert await team.ask("port_of", "http") == port
            await arbiter.spawn(spec("alone"), equip=equip)
            listening.close()
            error = await fails_with(ReloadFailed, team.replace())
            assert "did not start" in str(error)
            assert await team.ask("ping") == "pong"
