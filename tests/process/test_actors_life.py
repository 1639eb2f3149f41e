"""Actors in real processes and threads: their beginning, what they are asked, and their end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest
from actor_programs import fails_with, house, on_loop, spec

from monsal.actors import (
    ActorDied,
    ActorSpec,
    CommandNotFound,
    ExitKind,
    Happening,
    RemoteActorError,
    SpawnFailed,
    Started,
    UnknownActor,
)


@pytest.mark.rule("mailbox.R2", "mailbox.R19")
@on_loop
async def test_what_is_spawned_is_asked_and_answers() -> None:
    happenings: list[Happening] = []
    async with house(happenings) as arbiter:
        ref = await arbiter.spawn(spec(args={"greeting": "Good day"}))
        assert await arbiter.ask("greeter", "ping") == "pong"
        assert await arbiter.ask(ref, "greet", "Anna") == "Good day Anna"
        assert await arbiter.ask(ref.aid, "GREET_later", name="Anna") == "Good day Anna"
        assert await arbiter.ask(ref, "where") != os.getpid()
        assert [type(one) for one in happenings] == [Started]


@pytest.mark.rule("mailbox.B1", "mailbox.R16")
@on_loop
async def test_a_failure_comes_to_the_asker_with_its_traceback() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec())
        error = await fails_with(RemoteActorError, arbiter.ask("greeter", "fail", "no good"))
        assert (str(error), error.kind) == ("no good", "ValueError")
        assert "in fail" in error.details
        assert "raise ValueError(text)" in error.details
        assert "cannot be sent" in str(await fails_with(RemoteActorError, arbiter.ask("greeter", "unsayable")))
        await fails_with(CommandNotFound, arbiter.ask("greeter", "dance"))
        await fails_with(UnknownActor, arbiter.ask("nobody", "ping"))
        assert await arbiter.ask("greeter", "ping") == "pong"


@pytest.mark.rule("mailbox.B2", "mailbox.B9")
@on_loop
async def test_an_actor_that_is_killed_fails_its_asks_at_once_with_the_cause() -> None:
    async with house() as arbiter:
        ref = await arbiter.spawn(spec())
        pid = await arbiter.ask(ref, "where")
        watched = asyncio.create_task(arbiter.watch(ref))
        asked = asyncio.create_task(arbiter.ask(ref, "wait", timeout=60.0))
        await arbiter.ask(ref, "ping")
        os.kill(pid, signal.SIGKILL)
        error = await fails_with(ActorDied, asked)
        assert (error.cause.kind, error.cause.signal, error.ref) == (ExitKind.SIGNAL, signal.SIGKILL, ref)
        assert (await watched).cause == error.cause
        assert "wait" in error.cause.detail
        assert (await arbiter.watch(ref)).cause == error.cause
        await fails_with(ActorDied, arbiter.ask(ref, "ping"))


@on_loop
async def test_code_that_cannot_be_imported_is_told_with_its_traceback() -> None:
    async with house() as arbiter:
        error = await fails_with(SpawnFailed, arbiter.spawn(ActorSpec(name="a", actor="no_such_module:Actor")))
        assert error.cause.kind is ExitKind.IMPORT_ERROR
        assert "No module named 'no_such_module'" in error.details
        error = await fails_with(SpawnFailed, arbiter.spawn(ActorSpec(name="a", actor="actor_programs:Loud")))
        assert (error.cause.kind, error.cause.code) == (ExitKind.START_FAILED, 3)
        assert "the disk is on fire" in error.details
        assert arbiter.get_actor("a") is None


@on_loop
async def test_a_socket_is_handed_over() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec())
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                await arbiter.hand_over("greeter", "phone", theirs)
            await arbiter.ask("greeter", "say_over", "phone", "hello")
            assert ours.recv(100) == b"hello"
            error = await fails_with(RemoteActorError, arbiter.hand_over("greeter", "refused", ours))
            assert error.kind == "UsageError"
