"""quickrpc 0.1.0 from the package index on the other side: its client at our server, our client at its server.

Both sides are made from one declaration (rpc_peers/desk_interface.py), and ours is used as the original's: blocking,
with `transport.start()` and Promises, over `tcp` and `tcpserv`, with `jrpc` as it stands and with newlines.
"""

from __future__ import annotations

import base64
import importlib.util
import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from harness import PATIENCE
from line_program import LineProgram, TaskFailed

import monsal.rpc
from monsal.rpc import AppError, ConnectionLost, InvalidSignatureError, RemoteError, RemoteFault

pytestmark = [pytest.mark.interop, pytest.mark.parametrize("codec", ["jrpc", "jrpc:\n"])]

QuickRpc = Callable[..., LineProgram]


def _interface() -> ModuleType:
    place = Path(__file__).resolve().parent / "rpc_peers" / "desk_interface.py"
    spec = importlib.util.spec_from_file_location("desk_interface", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


interface = _interface()
Desk: Any = interface.declare(monsal.rpc.RemoteAPI, monsal.rpc.incoming, monsal.rpc.outgoing)
Signed: Any = interface.secure(monsal.rpc.Security, InvalidSignatureError)


class Events:
    """What the functions on our side tell, to be waited for."""

    def __init__(self) -> None:
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue()

    def tell(self, event: str, **details: Any) -> None:
        self._queue.put({"event": event, **details})

    def next(self) -> dict[str, Any]:
        return self._queue.get(timeout=PATIENCE)


class Ours:
    """Our side of a Desk, and what happened to it."""

    def __init__(self, desk: Any, events: Events) -> None:
        self.desk = desk
        self.events = events


def security(key: str) -> Any:
    return Signed(key.encode(), "monsal") if key else "null"


@contextmanager
def our_server(codec: str, key: str = "") -> Iterator[tuple[Ours, int]]:
    events = Events()
    desk = Desk(codec=codec, transport="tcpserv:127.0.0.1:0", security=security(key), async_processing=True)
    desk.note.pass_secinfo(True)
    interface.Clerk(desk, events.tell)
    desk.transport.start()
    try:
        yield Ours(desk, events), int(desk.transport.addresses[0].rpartition(":")[2])
    finally:
        desk.transport.stop()


@contextmanager
def our_client(codec: str, port: int, key: str = "") -> Iterator[Ours]:
    events = Events()
    given = {"codec": codec, "security": security(key), "async_processing": True}
    desk = Desk(transport=f"tcp:127.0.0.1:{port}", invert=True, **given)
    interface.Visitor(desk, events.tell)
    desk.transport.start()
    try:
        yield Ours(desk, events)
    finally:
        desk.transport.stop()


def spoken(codec: str) -> str:
    """The codec as an argument of the command line."""
    return codec.replace("\n", "\\n")


@pytest.fixture
def at_ours(quickrpc: QuickRpc, codec: str) -> Iterator[tuple[LineProgram, Ours]]:
    """The original's client, connected to a server of ours."""
    with our_server(codec) as (ours, port):
        client = quickrpc("connect", spoken(codec), "", port)
        assert client.event() == {"event": "ready", "port": 0, "unhandled": []}
        yield client, ours


@pytest.fixture
def at_its(quickrpc: QuickRpc, codec: str) -> Iterator[tuple[LineProgram, Ours]]:
    """The original's server, and a client of ours that is connected to it."""
    server = quickrpc("serve", spoken(codec), "")
    ready = server.event()
    assert ready["unhandled"] == ["unheard"]
    with our_client(codec, ready["port"]) as ours:
        yield server, ours


def next_event(program: LineProgram, event: str) -> dict[str, Any]:
    """The next of that kind; what quickrpc logs in between is passed over."""
    while True:
        happened = program.event()
        if happened["event"] == event:
            return happened


# -- its client at our server -----------------------------------------------------------------------------------


@pytest.mark.rule("rpc.R7", "rpc.R9", "rpc.R31")
def test_its_calls_are_answered(at_ours: tuple[LineProgram, Ours]) -> None:
    client, _ = at_ours
    assert client.ask("call", name="add", arguments={"a": 2, "b": 3}) == 5
    # What it leaves out has the default that we declared.
    assert client.ask("call", name="add", arguments={"a": 2}) == 3
    value = {"deep": [None, True, 1.5, "ü\n", {}], "": []}
    assert client.ask("call", name="echo", arguments={"value": value}) == value
    assert client.ask("call", name="nothing") is None
    assert client.ask("call", name="join", positional=["left", "right"]) == "leftright"
    # It keeps nothing of calls that were answered.
    assert client.ask("pending") == 0


@pytest.mark.rule("rpc.R31", "rpc.B15")
def test_its_bytes_come_and_go(at_ours: tuple[LineProgram, Ours]) -> None:
    client, _ = at_ours
    every = bytes(range(256))
    sent = {"base64": base64.b64encode(every).decode()}
    answer = client.ask("call", name="turn", arguments={"data": sent})
    assert base64.b64decode(answer["base64"]) == every[::-1]


@pytest.mark.rule("rpc.B7")
def test_its_big_and_many_calls_are_answered(at_ours: tuple[LineProgram, Ours]) -> None:
    client, _ = at_ours
    big = "ü" * 100_000
    assert client.ask("call", name="echo", arguments={"value": big}) == big
    assert client.ask("call", name="add", arguments={"a": 2}, count=1000) == [3] * 1000


@pytest.mark.rule("rpc.R30", "rpc.B9", "rpc.R12", "rpc.R14")
def test_its_caller_sees_our_errors_as_its_own_remote_error(at_ours: tuple[LineProgram, Ours], codec: str) -> None:
    client, ours = at_ours

    def error(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        with pytest.raises(TaskFailed) as caught:
            client.ask("call", name=name, arguments=arguments)
        found: dict[str, Any] = caught.value.error
        assert found["kind"] == "RemoteError"
        return found

    # Of an error that was not foreseen it learns no more than that there was one, and under which number.
    secret = error("refuse", {"reason": "the password is 1234"})
    assert "1234" not in str(secret)
    # What is meant for the caller is told.
    ours.desk.refuse.disconnect(next(iter(ours.desk.refuse._listeners)))
    ours.desk.refuse.connect(refuse_openly)
    assert error("refuse", {"reason": "closed today"})["message"] == "closed today"
    assert "wrong signature" in error("add", {"a": "two"})["message"]
    # And it is served on.
    assert client.ask("call", name="add", arguments={"a": 2}) == 3


def refuse_openly(sender: str, reason: str) -> None:
    raise AppError(reason)


@pytest.mark.rule("rpc.R3", "rpc.R6", "rpc.R15")
def test_notifications_go_both_ways(at_ours: tuple[LineProgram, Ours]) -> None:
    client, ours = at_ours
    client.ask("call", name="note", arguments={"text": "told ü"})
    noted = ours.events.next()
    assert noted["text"] == "told ü"
    # Its name is where it calls from.
    assert noted["sender"].startswith("127.0.0.1:")
    # Ours goes to all who are connected; it leaves out what has a default at the receiver.
    client.ask("call", name="open_ticket", arguments={"subject": "lamp"})
    assert client.event() == {"event": "ticket_opened", "number": 1, "subject": "lamp"}
    ours.desk.ticket_opened([noted["sender"]], number=7)
    assert client.event() == {"event": "ticket_opened", "number": 7, "subject": "none"}


@pytest.mark.rule("rpc.R22", "rpc.R27")
def test_our_server_asks_back(at_ours: tuple[LineProgram, Ours]) -> None:
    client, ours = at_ours
    assert client.ask("call", name="consult", arguments={"question": "sure?"}) == "asked"
    confirmed = ours.events.next()
    assert (confirmed["event"], confirmed["answer"]) == ("confirmed", "sure? yes")
    # The text and the traceback of its error come as the original sends them: code 0, and data that is text.
    promise = ours.desk.confirm([confirmed["sender"]], question="no?")
    with pytest.raises(RemoteError, match="nobody knows") as caught:
        promise.result(PATIENCE)
    assert isinstance(caught.value, RemoteFault)
    assert caught.value.code == 0
    assert "LookupError: nobody knows" in caught.value.details


# -- our client at its server -----------------------------------------------------------------------------------


@pytest.mark.rule("rpc.R7", "rpc.R9", "rpc.R26", "rpc.R31")
def test_our_calls_are_answered_by_it(at_its: tuple[LineProgram, Ours]) -> None:
    _, ours = at_its
    desk = ours.desk
    assert desk.add(None, a=2, b=3).result(PATIENCE) == 5
    assert desk.add(None, a=2).result(PATIENCE) == 3
    value = {"deep": [None, True, 1.5, "ü\n", {}], "": []}
    assert desk.echo(None, value=value).result(PATIENCE) == value
    assert desk.nothing().result(PATIENCE) is None
    assert desk.join(None, "left", "right").result(PATIENCE) == "leftright"
    every = bytes(range(256))
    assert desk.turn(None, data=every).result(PATIENCE) == every[::-1]
    # The newer ways lead to the same.
    assert desk.sync.add(a=2) == 3


@pytest.mark.rule("rpc.B7", "rpc.B13")
def test_our_big_and_many_calls_are_answered_by_it(at_its: tuple[LineProgram, Ours]) -> None:
    _, ours = at_its
    big = "ü" * 30_000
    assert ours.desk.echo(None, value=big).result(PATIENCE) == big
    promises = [ours.desk.add(None, a=number) for number in range(1000)]
    assert [promise.result(PATIENCE) for promise in promises] == list(range(1, 1001))


@pytest.mark.rule("rpc.R2", "rpc.R30", "rpc.B11")
def test_its_errors_are_ours(at_its: tuple[LineProgram, Ours]) -> None:
    server, ours = at_its
    with pytest.raises(RemoteFault, match="closed today") as caught:
        ours.desk.refuse(None, reason="closed today").result(PATIENCE)
    assert "ValueError: closed today" in caught.value.details
    # The body of the declaration refuses before anything is sent, here as there.
    with pytest.raises(ValueError, match="a number below zero"):
        ours.desk.checked(None, number=-1)
    assert ours.desk.checked(None, number=1).result(PATIENCE) == 1
    # Our hello was an unknown call to it, no more.
    assert "rpc.hello" in next_event(server, "logged")["text"]


@pytest.mark.rule("rpc.R3", "rpc.R6")
def test_notifications_go_both_ways_with_its_server(at_its: tuple[LineProgram, Ours]) -> None:
    server, ours = at_its
    assert ours.desk.note(None, text="told ü") is None
    assert next_event(server, "noted")["text"] == "told ü"
    ours.desk.open_ticket(None, subject="lamp")
    assert ours.events.next() == {"event": "ticket_opened", "number": 1, "subject": "lamp"}


@pytest.mark.rule("rpc.R21", "rpc.R22")
def test_its_server_asks_back(at_its: tuple[LineProgram, Ours]) -> None:
    server, ours = at_its
    assert ours.desk.consult(None, question="sure?").result(PATIENCE) == "asked"
    assert next_event(server, "confirmed")["answer"] == "sure? yes"
    assert ours.desk.consult(None, question="no?").result(PATIENCE) == "asked"
    failed = next_event(server, "confirm_failed")
    # Its callback gets its own class of error.
    assert failed["kind"] == "RemoteError"


@pytest.mark.rule("rpc.B3")
def test_who_waits_for_its_server_hears_of_its_death(at_its: tuple[LineProgram, Ours]) -> None:
    server, ours = at_its
    assert ours.desk.add(None, a=1).result(PATIENCE) == 2
    server.process.send_signal(signal.SIGSTOP)
    waiting = ours.desk.add(None, a=1)
    server.process.kill()
    with pytest.raises(ConnectionLost) as caught:
        waiting.result(PATIENCE)
    assert caught.value.sent


# -- with one security, written once for both -------------------------------------------------------------------


@pytest.mark.rule("rpc.R16", "rpc.R32")
def test_its_signed_calls_are_believed(quickrpc: QuickRpc, codec: str) -> None:
    with our_server(codec, "key") as (ours, port):
        client = quickrpc("connect", spoken(codec), "key", port)
        assert client.event()["event"] == "ready"
        assert client.ask("call", name="add", arguments={"a": 2}) == 3
        client.ask("call", name="note", arguments={"text": "told"})
        noted = ours.events.next()
        assert (noted["text"], noted["user"]) == ("told", "quickrpc")


@pytest.mark.rule("rpc.R32", "rpc.B6")
@pytest.mark.parametrize("key", ["", "another key"])
def test_its_calls_that_are_not_signed_with_the_key_are_refused_before_anything_runs(
    quickrpc: QuickRpc, codec: str, key: str
) -> None:
    with our_server(codec, "key") as (ours, port):
        ours.desk.message_error = lambda *trouble: ours.events.tell("refused", kind=type(trouble[1]).__name__)
        stranger = quickrpc("connect", spoken(codec), key, port)
        assert stranger.event()["event"] == "ready"
        stranger.ask("call", name="note", arguments={"text": "forged"})
        assert ours.events.next() == {"event": "refused", "kind": "Unauthenticated"}
        friend = quickrpc("connect", spoken(codec), "key", port)
        assert friend.event()["event"] == "ready"
        friend.ask("call", name="note", arguments={"text": "told"})
        # No listener heard of the other one; who has the key is served as ever (rpc.B1).
        assert ours.events.next()["text"] == "told"


@pytest.mark.rule("rpc.R16", "rpc.R32")
def test_our_signed_calls_are_believed_by_it(quickrpc: QuickRpc, codec: str) -> None:
    server = quickrpc("serve", spoken(codec), "key")
    with our_client(codec, server.event()["port"], "key") as ours:
        assert ours.desk.add(None, a=2).result(PATIENCE) == 3
        ours.desk.note(None, text="told")
        noted = next_event(server, "noted")
        assert (noted["text"], noted["user"]) == ("told", "monsal")
        ours.desk.open_ticket(None, subject="lamp")
        assert ours.events.next() == {"event": "ticket_opened", "number": 1, "subject": "lamp"}
