"""The situations of the original's own actor tests, in processes and threads; B1's errors where those expected None."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from actor_programs import fails_with, house, spec

from monsal.actors import (
    ActorRef,
    Arbiter,
    CommandError,
    CommandNotFound,
    ExitKind,
    RemoteActorError,
    SpawnFailed,
    UnknownActor,
    actor_identity,
    arbiter,
    ask,
    get_actor,
    get_ref,
    is_actor,
    new_id,
    send,
    spawn,
)
from monsal.errors import UsageError

Work = Callable[[Arbiter, str], Coroutine[Any, Any, None]]


def in_each_kind(work: Work) -> Any:
    @pytest.mark.parametrize("kind", ["process", "thread"])
    def test(kind: str) -> None:
        async def run() -> None:
            async with house() as owner:
                await work(owner, kind)

        asyncio.run(asyncio.wait_for(run(), 120.0))

    test.__name__ = work.__name__
    test.pytestmark = [*getattr(work, "pytestmark", []), *test.pytestmark]  # type: ignore[attr-defined]
    return test


@in_each_kind
@pytest.mark.rule("mailbox.R2", "mailbox.R20")
async def test_spawn_and_interact(owner: Arbiter, kind: str) -> None:
    ref = await spawn(spec("pippo", kind))
    assert (ref.name, owner.get_actor("pippo"), owner.get_actor(ref.aid)) == ("pippo", ref, ref)
    assert await send(ref, "ping") == "pong"
    assert await send(ref.name, "echo", "Hello!") == "Hello!"
    assert await send("arbiter", "echo", ref) == {
        "aid": ref.aid,
        "name": "pippo",
        "group": "",
        "generation": 0,
        "epoch": 1,
    }
    assert (await owner.ask(ref, "where") == (await owner.ask("arbiter", "info"))["actor"]["process_id"]) is (
        kind == "thread"
    )


@in_each_kind
@pytest.mark.rule("mailbox.R26", "mailbox.B16")
async def test_info(owner: Arbiter, kind: str) -> None:
    ref = await owner.spawn(spec("pippo", kind))
    told = await send(ref, "info")
    assert (told["actor"]["name"], told["actor"]["actor_id"], told["actor"]["state"]) == ("pippo", ref.aid, "running")
    assert told["actor"]["is_process"] is (kind == "process")
    everything = await send("arbiter", "info")
    assert [one["ref"]["aid"] for one in everything["workers"]] == [ref.aid]
    assert set(everything) == {"actor", "extra", "system", "workers", "monitors", "server"}


@in_each_kind
async def test_config(owner: Arbiter, kind: str) -> None:
    ref = await owner.spawn(spec("pippo", kind, args={"greeting": "Hi"}))
    assert await send(ref, "config", "get", "greeting") == "Hi"
    assert await send(ref, "config", "set", "max_requests", 1000) is True
    assert await send(ref, "config", "get", "max_requests") == 1000
    for wrong in (("get",), ("get", "nothing"), ("set", "greeting"), ("foo", "greeting"), ("get", "a", "b")):
        await fails_with(CommandError if len(wrong) > 1 else RemoteActorError, send(ref, "config", *wrong))


@in_each_kind
@pytest.mark.rule("mailbox.B6")
async def test_run(owner: Arbiter, kind: str) -> None:
    ref = await owner.spawn(spec("pippo", kind))
    assert await send(ref, "run", "actor_programs:add_name", "hello") == "pippo: hello"
    for path in ("actor_programs:not_declared", "os:getpid", "nothing", "no_such_module:f"):
        await fails_with(CommandNotFound, send(ref, "run", path))
    await fails_with(CommandError, send("arbiter", "run", "actor_programs:add_name", "hello"))


@in_each_kind
@pytest.mark.rule("mailbox.B6")
async def test_commands_belong_to_the_type(owner: Arbiter, kind: str) -> None:
    ref = await owner.spawn(spec("pippo", kind))
    assert await send(ref, "shout", "hello") == "HELLO says pippo"
    await fails_with(CommandNotFound, send("arbiter", "shout", "hello"))


@in_each_kind
@pytest.mark.rule("mailbox.R13")
async def test_unknown_command_and_actor(owner: Arbiter, kind: str) -> None:
    ref = await owner.spawn(spec("pippo", kind))
    assert "'sjdhcvbs'" in str(await fails_with(CommandNotFound, send(ref, "sjdhcvbs")))
    await fails_with(UnknownActor, send("sjdcbhjscbhjdbjsj", "ping"))
    await fails_with(UnknownActor, send(ref, "relay", "sjdcbhjscbhjdbjsj", "ping"))


@in_each_kind
@pytest.mark.rule("mailbox.R16")
async def test_a_command_that_fails(owner: Arbiter, kind: str) -> None:
    ref = await owner.spawn(spec("pippo", kind))
    assert (await fails_with(RemoteActorError, send(ref, "fail", "bla bla"))).kind == "ValueError"
    assert (await fails_with(RemoteActorError, send(ref, "greet"))).kind == "TypeError"
    assert await send(ref, "ping") == "pong"


@in_each_kind
async def test_kill_actor(owner: Arbiter, kind: str) -> None:
    ref = await owner.spawn(spec("pippo", kind))
    assert await send("arbiter", "kill_actor", ref.aid) == f"killed {ref.aid}"
    assert owner.get_actor(ref.aid) is None
    assert (await owner.watch(ref)).cause.kind is ExitKind.SHUTDOWN
    assert await send("arbiter", "kill_actor", "jhgcjhdgcjh") is None
    other = await owner.spawn(spec("pluto", kind))
    again = await owner.spawn(spec("pippo", kind))
    assert await send(other, "relay", "arbiter", "kill_actor", again.aid, 2) == f"killed {again.aid}"


@in_each_kind
@pytest.mark.rule("mailbox.R19")
async def test_spawn_from_an_actor(owner: Arbiter, kind: str) -> None:
    ref = await owner.spawn(spec("pippo", kind))
    told = await send(ref, "spawn_one", "pluto")
    made = get_ref(told)
    assert made == owner.get_actor("pluto")
    assert await send("pluto", "greet", "Anna") == "Hi Anna"
    assert (await fails_with(RemoteActorError, send(ref, "spawn_one", "pluto"))).kind == "SpawnFailed"


@in_each_kind
async def test_stop_command(owner: Arbiter, kind: str) -> None:
    ref = await owner.spawn(spec("pippo", kind))
    watched = asyncio.create_task(owner.watch(ref))
    assert await send(ref, "stop") is None
    assert (await watched).cause.kind is ExitKind.NORMAL
    await fails_with(Exception, send(ref, "ping"))


@in_each_kind
@pytest.mark.rule("mailbox.R22")
async def test_notify(owner: Arbiter, kind: str) -> None:
    ref = await owner.spawn(spec("pippo", kind))
    assert await send(ref, "relay", "arbiter", "notify", {"mood": "good"}) > 1e9
    assert owner.record(ref).told == {"mood": "good"}
    assert owner.record(ref).last_notified > 1e9


@in_each_kind
async def test_a_start_that_fails(owner: Arbiter, kind: str) -> None:
    error = await fails_with(SpawnFailed, owner.spawn(spec("pippo", kind, args={"wrong": 1})))
    assert "unexpected keyword argument 'wrong'" in error.details
    assert error.cause.kind is ExitKind.START_FAILED


@in_each_kind
@pytest.mark.rule("mailbox.B14")
async def test_direct_links_and_sockets(owner: Arbiter, kind: str) -> None:
    await asyncio.gather(owner.spawn(spec("pippo", kind)), owner.spawn(spec("pluto", kind)))
    await owner.introduce("pippo", "pluto")
    assert await send("pippo", "friends") == ["pluto"]
    assert await send("pluto", "relay", "pippo", "greet", "Anna") == "Hello Anna"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        await owner.hand_over("pippo", "phone", theirs)
        await send("pippo", "say_over", "phone", "hello")
        assert ours.recv(100) == b"hello"


@pytest.mark.rule("mailbox.R19", "mailbox.R20", "mailbox.B15")
def test_what_a_spec_refuses() -> None:
    with pytest.raises(ValueError, match="kind"):
        spec("a", "coroutine")
    assert spec("a", "subprocess").kind == "process"
    with pytest.raises(TypeError):
        spec("a", whatever=1)
    with pytest.raises(ValueError, match="hook"):
        spec("a", hooks={"whatever": "module:function"})


@pytest.mark.rule("mailbox.R1", "mailbox.B18")
def test_the_names_of_the_contract() -> None:
    async def work() -> None:
        assert get_actor() is None
        with pytest.raises(RuntimeError):
            await send("arbiter", "ping")
        with pytest.raises(RuntimeError):
            await spawn(spec("a"))
        owner = arbiter()
        assert owner is not None
        async with owner:
            assert arbiter() is owner is get_actor()
            assert owner.is_arbiter
            assert is_actor(owner)
            assert actor_identity(owner) == "arbiter"
            assert actor_identity("anything") == "anything"
            assert get_ref(owner) == owner.ref
            assert get_ref("anything", safe=True) is None
            with pytest.raises(ValueError):
                get_ref("anything")
            with pytest.raises(UsageError):
                Arbiter()
            assert await ask("arbiter", "ping") == "pong"
        assert get_actor() is None

    asyncio.run(work())


def test_ids_sort_by_time_and_do_not_collide() -> None:
    ids = [new_id() for _ in range(20_000)]
    assert len(set(ids)) == len(ids)
    assert [one[:12] for one in ids] == sorted(one[:12] for one in ids)
    assert ActorRef(aid="a", name="b") == ActorRef(aid="a", name="c")
    assert len({ActorRef(aid="a"), ActorRef(aid="a", epoch=2)}) == 1


def test_an_actor_cannot_be_pickled() -> None:
    import copyreg  # noqa: F401 - what pickle would use

    async def work() -> None:
        async with house() as owner:
            with pytest.raises(TypeError, match="never leaves its process"):
                owner.__reduce__()

    asyncio.run(work())


def test_no_thread_is_left() -> None:
    async def work() -> None:
        async with house() as owner:
            await owner.spawn(spec("a", "thread"))
            assert any(thread.name == "a" for thread in threading.enumerate())

    asyncio.run(work())
    for thread in threading.enumerate():
        if thread.name == "a":
            thread.join(60.0)
            assert not thread.is_alive()
