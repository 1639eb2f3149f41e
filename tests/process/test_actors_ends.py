"""How actors end: signals, exit codes, hangs, crashes, memory, and the death of the parent."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from actor_programs import fails_with, house, on_loop, spec, until

from monsal.actors import ActorDied, ActorSpec, ActorStopping, Died, ExitKind, Happening, RemoteActorError

HERE = Path(__file__).resolve().parent


@pytest.mark.rule("mailbox.R21", "mailbox.B13")
@on_loop
async def test_a_stop_lets_the_turn_that_runs_end_and_refuses_others() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec())
        running = asyncio.create_task(arbiter.ask("greeter", "wait"))
        behind = asyncio.create_task(arbiter.ask("greeter", "greet", "Anna"))
        await arbiter.ask("greeter", "ping")
        stopping = asyncio.create_task(arbiter.stop_actor("greeter"))
        await fails_with(ActorStopping, behind)
        await arbiter.ask("greeter", "open")
        assert await running == "opened"
        cause = await stopping
        assert (cause.kind, cause.code) == (ExitKind.SHUTDOWN, 0)


@pytest.mark.rule("mailbox.R21")
@on_loop
async def test_a_turn_that_does_not_end_is_cancelled_in_time() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec(shutdown=0.3))
        running = asyncio.create_task(arbiter.ask("greeter", "wait"))
        await arbiter.ask("greeter", "ping")
        cause = await arbiter.stop_actor("greeter")
        assert cause.kind is ExitKind.SHUTDOWN
        assert (await asyncio.gather(running, return_exceptions=True))[0] is not None


@on_loop
async def test_one_that_does_not_stop_is_ended_by_force() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec(shutdown=0.2))
        blocked = asyncio.create_task(arbiter.ask("greeter", "block", 60.0, timeout=60.0))
        await until(lambda: bool(arbiter.record("greeter").doing()))
        cause = await arbiter.stop_actor("greeter")
        assert (cause.kind, cause.signal) == (ExitKind.KILLED, signal.SIGKILL)
        assert (await fails_with(ActorDied, blocked)).cause == cause


@pytest.mark.rule("mailbox.R24")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT])
def test_a_signal_stops_with_its_number_as_exit_code(number: signal.Signals) -> None:
    async def work() -> None:
        async with house() as arbiter:
            await arbiter.spawn(spec())
            os.kill(arbiter.record("greeter").pid, number)
            cause = (await arbiter.watch("greeter")).cause
            assert (cause.kind, cause.code) == (ExitKind.EXIT, number)

    on_loop(work)()


@pytest.mark.rule("mailbox.R24", "mailbox.B9")
@on_loop
async def test_exit_codes_are_told() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec())
        error = await fails_with(ActorDied, arbiter.ask("greeter", "leave_by", 7))
        assert (error.cause.kind, error.cause.code) == (ExitKind.EXIT, 7)
        await arbiter.spawn(spec())
        watched = asyncio.create_task(arbiter.watch("greeter"))
        assert (await fails_with(RemoteActorError, arbiter.ask("greeter", "raise_exit", 9))).kind == "RuntimeError"
        assert ((await watched).cause.kind, (await watched).cause.code) == (ExitKind.EXIT, 9)


@pytest.mark.rule("mailbox.B9", "mailbox.B16")
@on_loop
async def test_a_crash_leaves_its_stack_and_the_message_that_was_on_the_table() -> None:
    happenings: list[Happening] = []
    async with house(happenings) as arbiter:
        await arbiter.spawn(spec())
        error = await fails_with(ActorDied, arbiter.ask("greeter", "read_null", key="conversation 7"))
        assert (error.cause.kind, error.cause.signal) == (ExitKind.SIGNAL, signal.SIGSEGV)
        assert "read_null" in error.cause.stack
        died = next(one for one in happenings if isinstance(one, Died))
        assert [(doing.command, doing.key) for doing in died.doing] == [("read_null", "conversation 7")]


@pytest.mark.rule("mailbox.R23", "mailbox.B11")
@on_loop
async def test_a_hang_is_found_and_its_stack_is_told() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec(timeout=0.5))
        error = await fails_with(ActorDied, arbiter.ask("greeter", "block", 60.0, timeout=60.0))
        assert error.cause.kind is ExitKind.HANG
        assert "in block" in error.cause.stack
        assert "block of arbiter" in error.cause.detail


@pytest.mark.rule("mailbox.B11")
@on_loop
async def test_a_stopped_process_is_a_hang() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec(timeout=0.3))
        error = await fails_with(ActorDied, arbiter.ask("greeter", "stop_oneself", timeout=60.0))
        assert (error.cause.kind, error.cause.signal) == (ExitKind.HANG, signal.SIGKILL)


@pytest.mark.rule("mailbox.B11")
@on_loop
async def test_a_small_timeout_kills_nobody_who_lives() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec(timeout=0.1))
        pid = arbiter.record("greeter").pid
        looked = arbiter.record("greeter").host.recorder.last_beat
        # Twenty times its timeout, told by its own beats.
        await until(lambda: arbiter.record("greeter").host.recorder.last_beat > looked + 2.0)
        # Late is not dead: it comes back before the second look.
        assert await arbiter.ask("greeter", "block", 0.5) is None
        assert await arbiter.ask("greeter", "where") == pid


@on_loop
async def test_memory_that_runs_out_is_an_error_of_the_turn() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec(hooks={"start": "actor_programs:limit_memory"}))
        error = await fails_with(RemoteActorError, arbiter.ask("greeter", "take_memory", 10 * 2**30))
        assert error.kind == "MemoryError"
        assert await arbiter.ask("greeter", "ping") == "pong"


@on_loop
async def test_a_start_that_takes_too_long_is_given_up_with_its_stack() -> None:
    async with house() as arbiter:
        from monsal.actors import SpawnFailed

        slow = spec(hooks={"boot": "actor_programs:sleep_long"}, ready_within=8.0)
        error = await fails_with(SpawnFailed, arbiter.spawn(slow))
        assert error.cause.kind is ExitKind.START_FAILED
        assert "in sleep_long" in error.details


PARENT = """
    import asyncio, sys
    sys.path.insert(0, {here!r})
    from monsal.actors import ActorSpec, Arbiter

    async def main():
        async with Arbiter() as arbiter:
            await arbiter.spawn(
                ActorSpec(name="a", actor="actor_programs:Greeter", shutdown=0.5, timeout={timeout!r})
            )
            task = asyncio.ensure_future(arbiter.ask("a", {command!r}, {seconds!r}, timeout=600.0))
            while not arbiter.record("a").doing() and {command!r} != "echo":
                await asyncio.sleep(0.01)
            print(arbiter.record("a").pid, flush=True)
            await asyncio.sleep(600.0)

    asyncio.run(main())
"""


@pytest.mark.rule("mailbox.R17", "mailbox.B12")
@pytest.mark.parametrize("command", ["echo", "block", "hold_the_interpreter"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent(command: str, number: signal.Signals) -> None:
    timeout = 2.0 if command == "hold_the_interpreter" else 30.0
    program = PARENT.format(here=str(HERE), command=command, seconds=600.0, timeout=timeout)
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        os.kill(parent.pid, number)
        parent.wait(60.0)
        deadline = time.monotonic() + 60.0
        while _is_alive(child):
            assert time.monotonic() < deadline, "the child outlives its parent"
            time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie, which its new parent has not collected yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.rule("mailbox.B12")
@on_loop
async def test_no_child_inherits_a_descriptor_of_another_one() -> None:
    async with house() as arbiter:
        for number in range(3):
            await arbiter.spawn(spec(f"actor{number}"))
        opened = [await arbiter.ask(f"actor{number}", "descriptors") for number in range(3)]
        sockets = [{name for name in names if name.startswith("socket:")} for names in opened]
        assert not sockets[0] & sockets[1]
        assert not sockets[0] & sockets[2]
        assert not sockets[1] & sockets[2]
        # Two for the link and the door, two of the loop that wakes itself.
        assert {len(names) for names in sockets} == {len(sockets[0])}


@pytest.mark.rule("mailbox.B12")
@on_loop
async def test_nothing_is_left_after_many_restarts() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec("first"))
        await arbiter.stop_actor("first")
        gc.collect()  # what earlier tests left open is not ours
        before, others = len(os.listdir("/proc/self/fd")), _children()
        for number in range(20):
            await arbiter.spawn(spec("again"))
            if number % 2:
                os.kill(arbiter.record("again").pid, signal.SIGKILL)
                await arbiter.watch("again")
            else:
                await arbiter.stop_actor("again")
        # What earlier tests left may go meanwhile.
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)
        assert _children() <= others


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split())


def test_an_actor_of_main_cannot_be_imported_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"package\.module:Class"):
        ActorSpec(name="a", actor="Greeter")


IDLE = """
    import asyncio, os, sys, time
    sys.path.insert(0, {here!r})
    from monsal.actors import ActorSpec, Arbiter, GroupSpec

    def switches():
        return int(open("/proc/self/status").read().partition("\\nvoluntary_ctxt_switches:")[2].split()[0])

    async def main():
        async with Arbiter() as arbiter:
            spec = ActorSpec(name="a", actor="actor_programs:Greeter")
            team = await arbiter.add_monitor("team", GroupSpec(member=spec, count=2, spare=1))
            await team.ask("ping")
            # What follows the start takes its time on a busy machine; who is woken regularly is so in each of these.
            fewest = 1000
            for _ in range(10):
                before = switches()
                await asyncio.sleep(3.0)
                fewest = min(fewest, switches() - before)
                # One is the end of the sleep itself.
                if fewest <= 2:
                    break
            print(fewest, flush=True)

    asyncio.run(main())
"""


@pytest.mark.quiet
def test_an_idle_arbiter_does_not_wake() -> None:
    program = textwrap.dedent(IDLE.format(here=str(HERE)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100.0, check=True)
    assert int(done.stdout) <= 2, done.stdout
