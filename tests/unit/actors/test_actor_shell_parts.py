"""The parts of the shell that need no process: the recorder, names, commands, and errors on their way."""

from __future__ import annotations

import math
from typing import Any

import pytest

from monsal.actors import (
    Actor,
    ActorDied,
    ActorRef,
    ActorStopping,
    AskExpired,
    CommandError,
    CommandNotFound,
    Exit,
    ExitKind,
    Hop,
    RemoteActorError,
    StaleName,
    UnknownActor,
    WaitingCircle,
    command,
    runnable,
)
from monsal.actors.commands import declared, table_of
from monsal.actors.errors import error_of, fault_of
from monsal.actors.names import Names
from monsal.actors.recorder import PAGE, Recorder
from monsal.errors import Busy, RemoteError, RemoteFault, UsageError
from monsal.wire.msgpack import MsgPack
from monsal.wire.packets import Fault


@pytest.mark.rule("mailbox.B16")
def test_the_recorder_tells_what_runs() -> None:
    recorder = Recorder()
    first = recorder.begin("greet", "anna", "helpdesk-1", 10.0)
    second = recorder.begin("order", "", "", 11.0)
    recorder.waits(second, "store")
    assert [(one.command, one.key, one.sender, one.since, one.waits_for) for one in recorder.doing()] == [
        ("greet", "anna", "helpdesk-1", 10.0, ""),
        ("order", "", "", 11.0, "store"),
    ]
    assert recorder.doing()[0].text(12.5) == "greet (key anna) of helpdesk-1, for 2.5 s"
    assert recorder.doing()[1].text(12.5) == "order, for 1.5 s, and waits for store"
    recorder.end(first)
    recorder.waits(second, "")
    assert [one.text(12.0) for one in recorder.doing()] == ["order, for 1.0 s"]
    assert recorder.turns == 2
    assert recorder.last_beat == 0.0
    recorder.beat(9.5)
    assert recorder.last_beat == 9.5
    recorder.close()


@pytest.mark.rule("mailbox.B16")
def test_the_recorder_is_bounded_whatever_is_written() -> None:
    recorder = Recorder()
    slots = [recorder.begin("c" * 500, "k" * 500 + "é", "s" * 500, 1.0) for _ in range(100)]
    assert slots.count(-1) == 36
    assert [one.command for one in recorder.doing()] == ["c" * 48]
    for slot in slots:
        recorder.waits(slot, "w" * 500)
        recorder.give_up(slot, 2.0)
        recorder.end(slot)
    assert recorder.doing() == ()
    assert recorder.turns == 100
    assert len(recorder._page) == PAGE
    recorder.close()


@pytest.mark.rule("mailbox.B3")
def test_what_was_given_up_is_known_for_a_moment() -> None:
    recorder = Recorder()
    slot = recorder.begin("order", "7", "anna", 10.0)
    recorder.waits(slot, "store")
    recorder.give_up(slot, 15.0)
    recorder.waits(slot, "")
    recorder.end(slot)
    assert recorder.doing() == ()
    assert [one.waits_for for one in recorder.doing(15.5)] == ["store"]
    assert recorder.doing(18.0) == ()
    recorder.close()


@pytest.mark.rule("mailbox.B14")
def test_names_have_an_epoch() -> None:
    names = Names()
    assert names.claim("a", "id1") == 1
    assert names.claim("a", "id1") == 1
    with pytest.raises(CommandError):
        names.claim("a", "id2")
    epoch = names.reserve("a")
    names.take_over("a", "id2", epoch)
    assert (names.owner("a"), epoch) == ("id2", 2)
    names.check("a", "id2", 2)
    with pytest.raises(StaleName):
        names.check("a", "id1", 1)
    names.release("a", "id1")  # it is not the owner any more
    assert names.owner("a") == "id2"
    names.release("a", "id2")
    with pytest.raises(UnknownActor):
        names.check("a", "id2", 2)
    assert names.claim("a", "id3") == 3
    for reserved in ("arbiter", "monitor", ""):
        with pytest.raises(CommandError):
            names.claim(reserved, "id4")


def test_names_without_owner_are_not_remembered_for_ever() -> None:
    names = Names()
    names.claim("kept", "id")
    for number in range(20_000):
        names.claim(f"name{number}", "id")
        names.release(f"name{number}", "id")
    assert len(names._epochs) <= 10_001
    assert names.owner("kept") == "id"


class Base(Actor):
    @command()
    def Greet(self, request: Any) -> str:
        return "base"

    @command(name="say", ack=False)
    def _say(self, request: Any) -> str:
        return "said"


class Derived(Base):
    @command(control=True)
    def greet(self, request: Any) -> str:
        return "derived"


@pytest.mark.rule("mailbox.B6", "mailbox.B18")
def test_commands_belong_to_their_class() -> None:
    base, derived = table_of(Base), table_of(Derived)
    assert {"ping", "echo", "config", "run", "stop", "notify", "info"} <= set(base)
    assert "greet" not in table_of(Actor)
    assert base["greet"].function(Base(), None) == "base"
    assert derived["greet"].function(Derived(), None) == "derived"
    assert derived["greet"].control
    assert not base["say"].ack
    assert "_say" not in base
    assert table_of(Derived) is derived


@runnable
def fine(actor: Any) -> str:
    return "fine"


@pytest.mark.rule("mailbox.B6")
def test_run_finds_only_what_was_declared() -> None:
    assert declared(f"{__name__}:fine")(None) == "fine"
    for path in ("os:system", "os", "", ":", "os:", "no.such.module:f", f"{__name__}:Base"):
        with pytest.raises(CommandNotFound):
            declared(path)


def over(error: BaseException) -> Any:
    """An error as it comes out at the other end of a link."""
    code, message, data = fault_of(error)
    codec = MsgPack()
    packet = codec.decode(codec.encode(Fault(1, code, message, data)))
    assert isinstance(packet, Fault)
    return error_of(packet)


@pytest.mark.rule("mailbox.B1", "mailbox.B9")
def test_errors_come_out_as_what_they_were() -> None:
    for error in (CommandError("a"), CommandNotFound("b"), UnknownActor("c"), StaleName("d"), ActorStopping("e")):
        out = over(error)
        assert (type(out), str(out)) == (type(error), str(error))
    busy = over(Busy("full", 2.5))
    assert (type(busy), busy.retry_after) == (Busy, 2.5)
    expired = over(AskExpired("late", doing=("a was at b",)))
    assert (type(expired), expired.doing) == (AskExpired, ("a was at b",))
    cause = Exit(kind=ExitKind.SIGNAL, signal=9, detail="x", stack="y")
    died = over(ActorDied("gone", ref=ActorRef(aid="1", name="a", epoch=3), cause=cause))
    assert (died.cause, died.ref, died.ref.epoch) == (cause, ActorRef(aid="1"), 3)
    circle = over(WaitingCircle([Hop("a"), Hop("b", "7"), Hop("a")]))
    assert circle.circle == (Hop("a"), Hop("b", "7"), Hop("a"))


@pytest.mark.rule("mailbox.B1")
def test_an_exception_brings_its_traceback_over_several_actors() -> None:
    def fail() -> None:
        raise LookupError("no good")

    try:
        fail()
    except LookupError as error:
        first = over(error)
    assert (type(first), first.kind, str(first)) == (RemoteActorError, "LookupError", "no good")
    assert "in fail" in first.details
    try:
        raise first
    except RemoteActorError as error:
        second = over(error)
    assert (second.kind, str(second)) == ("LookupError", "no good")
    assert second.details.index("in fail") < second.details.index("and then")
    assert len(over(ValueError("x" * 10**6)).details) <= 16 * 1024


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        "text",
        [],
        {"kind": 7},
        {"kind": "ActorDied", "cause": 7, "ref": []},
        {"kind": "WaitingCircle"},
        {"kind": "WaitingCircle", "circle": 7},
        {"kind": "WaitingCircle", "circle": [7, [1]]},
        {"retry_after": "soon"},
        {"retry_after": math.inf},
        {"doing": 7},
    ],
)
@pytest.mark.parametrize("code", [-32000, -32001, -32005, -32010, -32603, 7])
def test_any_fault_is_an_error(code: int, data: Any) -> None:
    assert isinstance(error_of(Fault(1, code, "m", data)), RemoteError)


def test_a_foreign_fault_keeps_its_code() -> None:
    out = over(RemoteFault("no", code=-32002, kind="Unauthenticated"))
    assert (out.code, out.kind) == (-32002, "Unauthenticated")


def test_an_actor_that_nobody_started_says_so() -> None:
    with pytest.raises(UsageError):
        _ = Base().name
