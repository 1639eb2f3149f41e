"""What actors say to each other: order, keys, bounds, deadlines, circles, direct links, broken frames."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from typing import Any

import pytest
from actor_programs import fails_with, house, on_loop, spec, until

from monsal.actors import (
    ActorDied,
    ActorRef,
    Arbiter,
    AskExpired,
    Bounds,
    CommandError,
    RemoteActorError,
    UnknownActor,
    WaitingCircle,
)
from monsal.errors import Busy, RemoteFault


async def two(arbiter: Arbiter, **fields: Any) -> None:
    await asyncio.gather(arbiter.spawn(spec("left", **fields)), arbiter.spawn(spec("right", **fields)))


@pytest.mark.rule("mailbox.R3", "mailbox.R13", "mailbox.B14")
@on_loop
async def test_children_ask_each_other_over_the_arbiter_or_directly() -> None:
    async with house() as arbiter:
        await two(arbiter)
        assert await arbiter.ask("left", "relay", "right", "greet", "Anna") == "Hello Anna"
        assert await arbiter.ask("left", "relay", "right", "whose") == arbiter.get_actor("left").aid
        assert await arbiter.ask("left", "relay", "arbiter", "ping") == "pong"
        assert await arbiter.ask("left", "get_to_know", "right") == 1
        assert await arbiter.ask("right", "friends") == ["left"]
        passed = arbiter.record("right").link.statistics().calls_made
        assert await arbiter.ask("left", "relay", "right", "greet", "Anna") == "Hello Anna"
        assert arbiter.record("right").link.statistics().calls_made == passed
        error = await fails_with(UnknownActor, arbiter.ask("left", "relay", "nobody", "ping"))
        assert "'nobody'" in str(error)


@pytest.mark.rule("mailbox.B1")
@on_loop
async def test_an_error_comes_through_two_actors_as_what_it_was() -> None:
    async with house() as arbiter:
        await two(arbiter)
        error = await fails_with(RemoteActorError, arbiter.ask("left", "relay", "right", "fail", "no good"))
        assert (error.kind, str(error)) == ("ValueError", "no good")
        assert error.details.count("in fail") == 1
        assert "in relay" in error.details


@pytest.mark.rule("mailbox.B2")
@on_loop
async def test_a_death_is_told_over_a_direct_link_and_over_the_arbiter() -> None:
    async with house() as arbiter:
        await two(arbiter)
        for direct in (False, True):
            if direct:
                await arbiter.spawn(spec("right"))
                await arbiter.ask("left", "get_to_know", "right")
            asked = asyncio.create_task(arbiter.ask("left", "relay", "right", "wait", timeout=60.0))
            ref = arbiter.get_actor("right")
            await until(lambda: bool(arbiter.record("right").doing()))
            os.kill(arbiter.record("right").pid, signal.SIGKILL)
            error = await fails_with(ActorDied, asked)
            assert (error.ref, error.cause.signal) == (ref, signal.SIGKILL)
            assert await arbiter.ask("left", "friends") == []


@pytest.mark.rule("mailbox.B7")
@on_loop
async def test_messages_of_a_key_are_turns_and_keys_run_beside_each_other() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec(serial=False))
        await asyncio.gather(
            *(arbiter.ask("greeter", "note", f"{key}{number}", key=key) for number in range(3) for key in "ab")
        )
        notes = await arbiter.ask("greeter", "notes")
        for key in "ab":
            own = [note for note in notes if note.split()[1].startswith(key)]
            assert own == [f"{what} {key}{number}" for number in range(3) for what in ("begin", "end")]
        assert notes.index("begin b0") < notes.index("end a0")


@pytest.mark.rule("mailbox.R11", "mailbox.B8")
@on_loop
async def test_control_messages_overtake_a_turn_that_waits() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec())
        waiting = asyncio.create_task(arbiter.ask("greeter", "wait"))
        behind = asyncio.create_task(arbiter.ask("greeter", "greet", "Anna"))
        await asyncio.sleep(0)
        assert await arbiter.ask("greeter", "ping") == "pong"
        assert not waiting.done()
        assert not behind.done()
        await arbiter.ask("greeter", "open")
        assert (await waiting, await behind) == ("opened", "Hello Anna")


@pytest.mark.rule("mailbox.B8")
@pytest.mark.parametrize("policy", ["refuse", "wait"])
def test_a_full_mailbox_tells_its_sender(policy: Any) -> None:
    async def work() -> None:
        async with house() as arbiter:
            await arbiter.spawn(spec(mailbox=Bounds(count=3, policy=policy)))
            first = asyncio.create_task(arbiter.ask("greeter", "wait"))
            await arbiter.ask("greeter", "ping")
            asks = [asyncio.create_task(arbiter.ask("greeter", "greet", str(number))) for number in range(8)]
            await asyncio.sleep(0)  # each task has sent its message then
            await arbiter.ask("greeter", "ping")
            done = [ask for ask in asks if ask.done()]
            # Three wait in the mailbox; with `wait` three more are parked; the others are told.
            assert len(done) == (5 if policy == "refuse" else 2)
            for ask in done:
                assert isinstance(ask.exception(), Busy)
            await arbiter.ask("greeter", "open")
            assert await first == "opened"
            rest = [ask for ask in asks if ask not in done]
            assert await asyncio.gather(*rest) == [f"Hello {number}" for number in range(len(rest))]

    on_loop(work)()


@pytest.mark.rule("mailbox.B8")
@on_loop
async def test_a_large_message_is_bounded_by_octets() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec(mailbox=Bounds(octets=1000)))
        first = asyncio.create_task(arbiter.ask("greeter", "wait"))
        await arbiter.ask("greeter", "ping")
        large = asyncio.create_task(arbiter.ask("greeter", "greet", "x" * 5000))
        await asyncio.sleep(0)
        await arbiter.ask("greeter", "ping")
        await fails_with(Busy, arbiter.ask("greeter", "greet", "Anna"))
        await arbiter.ask("greeter", "open")
        await first
        assert await large == "Hello " + "x" * 5000


@pytest.mark.rule("mailbox.R6")
@on_loop
async def test_tell_and_commands_without_answer_are_done_when_taken_in() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec())
        waiting = asyncio.create_task(arbiter.ask("greeter", "wait"))
        await arbiter.ask("greeter", "ping")
        assert await arbiter.ask("greeter", "remember", "one") is None
        await arbiter.tell("greeter", "remember", "two")
        await arbiter.tell("greeter", "fail", "heard by nobody")
        assert await arbiter.ask("greeter", "notes") == []
        await arbiter.ask("greeter", "open")
        await waiting
        assert await arbiter.ask("greeter", "greet", "Anna") == "Hello Anna"
        assert await arbiter.ask("greeter", "notes") == ["one", "two"]
        await fails_with(UnknownActor, arbiter.tell("nobody", "remember", "three"))


@pytest.mark.rule("mailbox.B3")
@pytest.mark.parametrize("direct", [False, True])
def test_a_deadline_goes_on_with_the_message_and_explains_itself(direct: bool) -> None:
    async def work() -> None:
        async with house() as arbiter:
            await two(arbiter)
            if direct:
                await arbiter.introduce("left", "right")
            error = await fails_with(AskExpired, arbiter.ask("left", "relay", "right", "wait", timeout=2.0))
            told = "; ".join(error.doing)
            assert "left was at relay of arbiter" in told
            assert "and waits for right" in told
            assert "right was at wait of" in told
            # The one that was asked in the end was told to stop, too: it takes the next turn.
            assert await arbiter.ask("right", "greet", "Anna") == "Hello Anna"
            assert await arbiter.ask("left", "greet", "Anna") == "Hello Anna"

    on_loop(work)()


@pytest.mark.rule("mailbox.B3")
@on_loop
async def test_a_blocked_callee_is_explained_too() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec())
        error = await fails_with(AskExpired, arbiter.ask("greeter", "block", 4.0, timeout=1.5))
        assert "greeter was at block of arbiter" in error.doing[0]
        assert await arbiter.ask("greeter", "ping") == "pong"


@pytest.mark.rule("mailbox.B3")
@on_loop
async def test_a_circle_is_told_when_it_closes() -> None:
    async with house() as arbiter:
        await two(arbiter)
        error = await fails_with(WaitingCircle, arbiter.ask("left", "relay", "right", "relay", "left", "greet", "Anna"))
        names = [arbiter.get_actor(name).aid for name in ("left", "right", "left")]
        assert [hop.actor for hop in error.circle] == names
        await fails_with(WaitingCircle, arbiter.ask("left", "relay", "left", "greet", "Anna"))
        # Another key, or a command beside the turns, closes none.
        assert await arbiter.ask("left", "relay", "right", "relay", "left", "ping") == "pong"
        assert (
            await arbiter.ask("left", "relay", "right", "relay_keyed", "left", "other", "greet", "Anna") == "Hello Anna"
        )


@pytest.mark.rule("mailbox.B3")
@pytest.mark.parametrize("direct", [False, True])
def test_two_that_ask_each_other_at_the_same_time_are_told(direct: bool) -> None:
    async def work() -> None:
        async with house() as arbiter:
            await two(arbiter)
            if direct:
                await arbiter.introduce("left", "right")
            for _ in range(5):
                results = await asyncio.gather(
                    arbiter.ask("left", "relay", "right", "greet_later", "Anna", timeout=60.0),
                    arbiter.ask("right", "relay", "left", "greet_later", "Bert", timeout=60.0),
                    return_exceptions=True,
                )
                assert all(isinstance(one, WaitingCircle | str) for one in results), results

    on_loop(work)()


@pytest.mark.rule("mailbox.R10", "mailbox.B4", "mailbox.B5")
@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00\x00\x05hello",
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x8c\x06system\x93.",
        b"\xff\xff\xff\xff" + b"x" * 100,
        b"\x00\x00\x00\x04\x93\x00\x01\xa1",
    ],
    ids=["no msgpack", "a pickle", "4 GiB", "cut off"],
)
def test_a_bad_frame_ends_its_own_link_only(garbage: bytes) -> None:
    async def work() -> None:
        async with house() as arbiter:
            await two(arbiter)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                await arbiter.hand_over("left", "mailbox", theirs, ActorRef(aid="stranger", name="stranger"))
                theirs.close()
                assert await arbiter.ask("left", "friends") == ["stranger"]
                ours.setblocking(False)
                ours.sendall(garbage)
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(60.0):
                    while await loop.sock_recv(ours, 4096):
                        pass
            assert await arbiter.ask("left", "friends") == []
            assert await arbiter.ask("left", "relay", "right", "greet", "Anna") == "Hello Anna"

    on_loop(work)()


@pytest.mark.rule("mailbox.B5")
@on_loop
async def test_a_child_that_breaks_its_link_is_ended() -> None:
    async with house() as arbiter:
        await two(arbiter)
        watched = asyncio.create_task(arbiter.watch("left"))
        transport = arbiter.record("left").link._transport
        assert transport is not None
        transport.write(b"\x00\x00\x00\x01\xc1")
        cause = (await watched).cause
        assert cause.is_abnormal
        assert await arbiter.ask("right", "ping") == "pong"


@pytest.mark.rule("mailbox.B14")
@on_loop
async def test_an_old_reference_does_not_reach_the_new_owner_of_its_name() -> None:
    async with house() as arbiter:
        old = await arbiter.spawn(spec())
        await arbiter.stop_actor(old)
        new = await arbiter.spawn(spec())
        assert (old.name, old.epoch + 1) == (new.name, new.epoch)
        error = await fails_with(UnknownActor, arbiter.ask(old, "greet", "Anna"))
        assert new.aid in str(error)
        assert await arbiter.ask("greeter", "greet", "Anna") == "Hello Anna"


@pytest.mark.rule("mailbox.R4")
@on_loop
async def test_who_has_no_link_says_so() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec())
        await fails_with(CommandError, arbiter.ask(["no", "actor"], "ping"))
        assert await arbiter.ask("arbiter", "ping") == "pong"
        assert await arbiter.ask(arbiter, "echo", [1, {"a": b"b"}]) == [1, {"a": b"b"}]
        await fails_with(CommandError, arbiter.ask("greeter", "relay", "monitor", "ping"))


@pytest.mark.rule("mailbox.R14", "mailbox.B16")
@on_loop
async def test_a_command_knows_its_link_and_its_trace() -> None:
    async with house() as arbiter:
        await two(arbiter)
        await arbiter.spawn(spec("left-2"))
        assert await arbiter.ask("left", "over_what") == ["Link", "arbiter", ""]
        assert await arbiter.ask("left", "relay", "right", "over_what") == ["Link", arbiter.get_actor("left").aid, ""]
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        told = await arbiter.ask("left", "traced", "right", trace)
        assert told == ["Link", arbiter.get_actor("right").aid, trace]


@pytest.mark.rule("mailbox.R8")
@on_loop
async def test_what_cannot_be_said_fails_its_asker_and_nobody_else() -> None:
    async with house() as arbiter:
        await arbiter.spawn(spec())
        behind = asyncio.create_task(arbiter.ask("greeter", "note", "one"))
        await fails_with(ValueError, arbiter.ask("greeter", "note", object()))
        await fails_with(ValueError, arbiter.ask("greeter", "note", "x" * (64 * 2**20 + 1)))
        await behind
        assert await arbiter.ask("greeter", "notes") == ["begin one", "end one"]


@pytest.mark.rule("mailbox.R18")
@on_loop
async def test_a_child_that_is_lost_is_a_warning_and_the_arbiter_goes_on() -> None:
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(f"{record.levelname} {record.getMessage()}")

    ear = Ear()
    logging.getLogger("monsal.actors").addHandler(ear)
    try:
        async with house() as arbiter:
            await two(arbiter)
            os.kill(arbiter.record("left").pid, signal.SIGKILL)
            await arbiter.watch("left")
            assert await arbiter.ask("right", "ping") == "pong"
    finally:
        logging.getLogger("monsal.actors").removeHandler(ear)
    told = [line for line in heard if line.startswith("WARNING left")]
    assert len(told) == 1
    assert "SIGKILL" in told[0]


@pytest.mark.rule("mailbox.R2")
@on_loop
async def test_a_flood_of_large_messages_arrives_whole_and_in_order() -> None:
    async with house() as arbiter:
        await two(arbiter, mailbox=Bounds(count=1000, octets=2**30))
        await arbiter.introduce("left", "right")
        texts = [str(number) * 50_000 for number in range(100)]
        asks = [arbiter.ask("left", "relay", "right", "note", text, timeout=60.0) for text in texts]
        await asyncio.gather(*asks)
        notes = await arbiter.ask("right", "notes", timeout=60.0)
        assert notes == [f"{what} {text}" for text in texts for what in ("begin", "end")]


@pytest.mark.rule("mailbox.B2", "mailbox.B5")
@on_loop
async def test_a_direct_link_that_is_lost_is_no_death() -> None:
    async with house() as arbiter:
        await two(arbiter)
        await arbiter.ask("left", "get_to_know", "right")
        asked = asyncio.create_task(arbiter.ask("left", "relay", "right", "wait", timeout=60.0))
        await until(lambda: bool(arbiter.record("right").doing()))
        await arbiter.ask("left", "cut_off", "right")
        error = await fails_with(RemoteFault, asked)
        assert error.kind == "ConnectionLost"
        # From now on they speak over the arbiter, and the turn that nobody waits for was cancelled.
        assert await arbiter.ask("left", "relay", "right", "greet", "Anna") == "Hello Anna"
