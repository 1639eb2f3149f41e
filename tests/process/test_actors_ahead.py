"""Interpreters that are begun before anybody says what they are for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from actor_programs import on_loop, spec
from harness import make_application, wait_until
from test_workers import HANDLERS, alive, by_name, say, serving

from monsal.actors import Arbiter, ExitKind, SpawnFailed
from monsal.actors.interpreter import Interpreter


@on_loop
async def test_an_interpreter_that_runs_is_taken_by_the_first_actor_of_its_name() -> None:
    # Given one that imports a module, and one that there is not
    made = {"greeter": Interpreter("greeter", imports=("monsal.mail.envelope", "monsal.nothing_of_the_kind"))}
    pid = made["greeter"].popen.pid
    async with Arbiter(made=made) as arbiter:
        # When an actor of that name is started, then it runs there
        ref = await arbiter.spawn(spec(args={"greeting": "Good day"}))
        assert await arbiter.ask(ref, "where") == pid
        assert await arbiter.ask(ref, "greet", "Anna") == "Good day Anna"
        assert not made
        # And the next one has an interpreter of its own
        await arbiter.stop_actor(ref)
        assert await arbiter.ask(await arbiter.spawn(spec()), "where") != pid


@on_loop
async def test_an_interpreter_that_ended_before_it_was_needed_is_a_start_that_failed() -> None:
    made = Interpreter("greeter")
    made.popen.kill()
    async with Arbiter(made={"greeter": made}) as arbiter:
        with pytest.raises(SpawnFailed) as failed:
            await arbiter.spawn(spec())
        assert failed.value.cause is not None
        assert failed.value.cause.kind is ExitKind.START_FAILED
        # And the next try is a new process
        assert await arbiter.ask(await arbiter.spawn(spec()), "ping") == "pong"


def test_of_an_interpreter_that_nobody_wants_nothing_is_left() -> None:
    made = Interpreter("nobody", imports=("monsal.mail.envelope",))
    pid = made.popen.pid
    assert alive(pid)
    made.discard()
    assert not alive(pid)
    assert (made.link.fileno(), made.door.fileno()) == (-1, -1)
    for descriptor in (made.page, made.said, made.stacks):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_the_processes_of_a_server_begin_before_its_life(home: Path) -> None:
    # Given a server with two workers
    with serving(make_application(home, HANDLERS)) as server:
        rows = by_name(server)
        # Then the store process and the workers import by themselves what they need; the spare is told
        said = {name: Path(f"/proc/{row['pid']}/cmdline").read_text().split("\0") for name, row in rows.items()}
        assert "monsal.processes.storekeeper" in said["store-1"]
        assert "monsal.processes.worker" in said["worker-1"]
        assert "monsal.processes.worker" not in said["worker-spare"]
        assert "first" in say(server, "one")
        assert server.stop() == 0
        wait_until(lambda: not any(alive(row["pid"]) for row in rows.values()), "the end of all processes")
