"""The transports of this house in blocking code, from many threads (contract rpc, R5, R21 to R23, transports; B13)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from monsal.errors import ConnectionLost, UsageError
from monsal.rpc import (
    CallExpired,
    PromiseDeadlockError,
    PromiseError,
    RemoteAPI,
    RemoteError,
    Transport,
    current,
    incoming,
    outgoing,
    transport,
)


class Desk(RemoteAPI):
    @incoming(has_reply=True)
    def echo(self, sender, value=None): ...

    @incoming(has_reply=True)
    def consult(self, sender, question): ...

    @incoming
    def note(self, sender, text): ...

    @outgoing
    def told(self, receivers, text): ...

    @outgoing(has_reply=True)
    def ask(self, receivers, question): ...


Make = Callable[..., Any]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes started APIs, and stops them at the end."""
    made: list[RemoteAPI] = []

    def make_one(text: str, **options: Any) -> Any:
        api = Desk(transport=text, **options)
        made.append(api)
        assert api.transport is not None
        assert api.transport.start() is True
        return api

    yield make_one
    for api in made:
        if api.transport is not None:
            api.transport.stop()


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if condition():
            return
        threading.Event().wait(0.002)
    raise AssertionError("it did not come to that")


def address_of(api: Any) -> str:
    where = api.transport.addresses[0]
    return f"unix:{where}" if where.startswith("/") else f"tcp:{where}"


@pytest.mark.rule("rpc.R5", "rpc.R6")
@pytest.mark.parametrize("text", ["tcpserv:127.0.0.1:0", "unixserv:{home}/api.sock"])
def test_a_server_and_its_clients(make: Make, home: Path, text: str) -> None:
    server = make(text.format(home=home))
    server.echo.connect(lambda sender, value: [sender, value])
    clients = [make(address_of(server), invert=True) for _ in range(3)]
    heard: list[tuple[int, str]] = []
    for number, client in enumerate(clients):
        client.told.connect(lambda sender, text, number=number: heard.append((number, text)))
        assert client.echo(None, value=number).result()[1] == number
    senders = [client.sync.echo()[0] for client in clients]
    assert sorted(senders) == sorted(server.peers)
    server.told(None, text="all")
    until(lambda: len(heard) == 3)
    server.told([senders[1]], text="you")
    until(lambda: len(heard) == 4)
    assert heard[3] == (1, "you")


@pytest.mark.rule("rpc.R5")
def test_a_transport_from_text_is_not_started(home: Path) -> None:
    api = Desk(transport=f"unixserv:{home}/api.sock")
    assert api.transport is not None
    assert not api.transport.running
    assert not (home / "api.sock").exists()
    with pytest.raises(ConnectionLost):
        api.ask(None, question="x")
    assert transport("null") is None


@pytest.mark.rule("rpc.R21", "rpc.R22")
def test_one_call_at_a_time_on_the_receiver_thread(make: Make) -> None:
    server = make("tcpserv:127.0.0.1:0")
    clients = [make(address_of(server), invert=True) for _ in range(3)]
    inside, most, names = 0, 0, set()

    def echo(sender: str, value: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        names.add(threading.current_thread())
        threading.Event().wait(0.002)
        inside -= 1
        return value

    server.echo.connect(echo)
    promises = [client.echo(None, value=number) for number in range(10) for client in clients]
    assert sorted(promise.result(30) for promise in promises) == sorted(list(range(10)) * 3)
    assert most == 1
    assert names == {server.transport.receiver_thread}


@pytest.mark.rule("rpc.R23", "rpc.R22")
def test_a_listener_that_waits_for_its_own_thread_is_told_at_once(make: Make) -> None:
    server = make("tcpserv:127.0.0.1:0")
    client = make(address_of(server), invert=True)
    caught: list[BaseException] = []

    def consult(sender: str, question: str) -> str:
        try:
            return server.ask([sender], question=question).result(30)
        except PromiseDeadlockError as error:
            caught.append(error)
            return "no"

    server.consult.connect(consult)
    client.ask.connect(lambda sender, question: "yes")
    assert client.consult(None, question="?").result() == "no"
    assert len(caught) == 1
    later: list[Any] = []
    server.note.connect(lambda sender, text: server.ask([sender], question=text).then(later.append) and None)
    client.note(None, text="then")
    until(lambda: later == ["yes"])


@pytest.mark.rule("rpc.R21")
def test_with_async_processing_a_listener_may_wait(make: Make) -> None:
    server = make("tcpserv:127.0.0.1:0", async_processing=True)
    client = make(address_of(server), invert=True)
    threads: list[threading.Thread] = []

    def consult(sender: str, question: str) -> Any:
        threads.append(threading.current_thread())
        return server.ask([sender], question=question).result(30)

    server.consult.connect(consult)
    client.ask.connect(lambda sender, question: f"{question}!")
    assert client.consult(None, question="who").result() == "who!"
    assert threads[0] is not server.transport.receiver_thread


@pytest.mark.rule("rpc.B13")
def test_one_connection_shared_by_many_threads(make: Make) -> None:
    server = make("tcpserv:127.0.0.1:0")
    server.echo.connect(lambda sender, value: value)
    client = make(address_of(server), invert=True)

    def work(number: int) -> bool:
        got = [client.sync.echo(value=[number, step]) for step in range(10)]
        promises = [client.echo(None, value=[number, step]) for step in range(10)]
        return got == [promise.result() for promise in promises] == [[number, step] for step in range(10)]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


@pytest.mark.rule("rpc.B13")
def test_listeners_may_be_coroutines_here_too(make: Make) -> None:
    server = make("tcpserv:127.0.0.1:0")

    @server.echo.handler
    async def echo(sender: str, value: Any) -> list[Any]:
        return [current().sender == sender, value]

    assert make(address_of(server), invert=True).sync.echo(value=1) == [True, 1]


@pytest.mark.rule("rpc.B4")
def test_giving_up_skips_what_waits_and_is_seen_by_what_runs(make: Make) -> None:
    server = make("tcpserv:127.0.0.1:0")
    client = make(address_of(server), invert=True)
    begun, seen = threading.Event(), []

    def echo(sender: str, value: Any) -> Any:
        seen.append(value)
        begun.set()
        call = current()
        until(lambda: call.cancelled)
        return "too late"

    server.echo.connect(echo)
    link = client._links._by_name[client.peers[0]].link
    until(lambda: link.peer.theirs)
    running = client.echo(None, value="one")
    assert begun.wait(60)
    waiting = client.echo(None, value="two")
    assert waiting.cancel()
    assert running.cancel()
    server_link = server._links._by_name[server.peers[0]].link
    until(lambda: server_link.peer.in_flight == 0)
    until(lambda: not server.transport._unanswered)
    assert seen == ["one"]
    with pytest.raises(PromiseError):
        running.result()


@pytest.mark.rule("rpc.B4", "rpc.B3")
def test_a_call_that_is_not_answered_expires(make: Make) -> None:
    server = make("tcpserv:127.0.0.1:0")
    go = threading.Event()
    server.echo.connect(lambda sender, value: go.wait(30) and None)
    client = make(address_of(server), invert=True)
    with pytest.raises(CallExpired):
        client.sync.with_(timeout=0.05).echo()
    with pytest.raises(CallExpired):
        client.echo.with_(timeout=0.05)(None).result()
    go.set()


@pytest.mark.rule("rpc.B3", "rpc.B16")
def test_a_server_that_stops_fails_what_waits_and_its_clients_know(make: Make) -> None:
    ended: list[str] = []

    class Watcher(Desk):
        def peer_disconnected(self, sender: str, reason: str) -> None:
            ended.append(threading.current_thread().name)

    server = make("tcpserv:127.0.0.1:0")
    server.consult.connect(lambda sender, question: threading.Event().wait(2.5))
    client = Watcher(transport=address_of(server), invert=True)
    assert client.transport is not None
    client.transport.start()
    promise = client.consult(None, question="x")
    until(lambda: server._links._by_name[server.peers[0]].link.peer.in_flight)
    server.transport.stop(block=False)
    with pytest.raises(ConnectionLost):
        promise.result(60)
    until(lambda: not client.transport.running)
    until(lambda: ended)
    with pytest.raises(ConnectionLost):
        client.echo(None)


def test_start_passes_its_errors_on(make: Make, home: Path) -> None:
    api = Desk(transport=f"unix:{home}/nothing.sock")
    assert api.transport is not None
    with pytest.raises(RemoteError):
        api.transport.start()
    assert not api.transport.running
    promise = api.transport.start(block=False)
    with pytest.raises(RemoteError):
        promise.result(60)
    server = make(f"unixserv:{home}/api.sock")
    with pytest.raises(UsageError, match="runs already"):
        server.transport.start()
    api.transport = address_of(server)
    assert api.transport.start(block=False).result(60) is True
    api.transport.stop()
    api.transport.stop()


def test_a_transport_can_be_started_again(make: Make, home: Path) -> None:
    server = make(f"unixserv:{home}/api.sock")
    server.echo.connect(lambda sender, value: value)
    client = make(f"unix:{home}/api.sock", invert=True)
    for number in range(3):
        assert client.sync.echo(value=number) == number
        client.transport.stop()
        assert not client.transport.running
        assert client.transport.start() is True


@pytest.mark.rule("rpc.B17")
def test_a_transport_belongs_to_one_api(make: Make) -> None:
    server = make("tcpserv:127.0.0.1:0")
    client = make(address_of(server), invert=True)
    other = Desk()
    with pytest.raises(UsageError, match="another API"):
        other.transport = client.transport
    lost = client.transport
    client.transport = None
    assert client.peers == []
    with pytest.raises(UsageError, match="no transport"):
        client.echo(None)
    other.transport = lost
    lost.stop()


def test_several_as_one_which_may_change(make: Make, home: Path) -> None:
    server = make(f"mux:(tcpserv:127.0.0.1:0)(unixserv:{home}/one.sock)")
    server.echo.connect(lambda sender, value: value)
    make(f"unix:{home}/one.sock", invert=True)
    server.transport += f"unixserv:{home}/two.sock"
    assert make(f"unix:{home}/two.sock", invert=True).sync.echo(value=2) == 2
    server.transport -= f"unixserv:{home}/two.sock"
    with pytest.raises(RemoteError):
        make(f"unix:{home}/two.sock", invert=True)
    assert make(f"unix:{home}/one.sock", invert=True).sync.echo(value=1) == 1


def test_one_that_fails_stops_all(home: Path) -> None:
    api = Desk(transport=f"mux:(unixserv:{home}/one.sock)(unix:{home}/nothing.sock)(unix:{home}/neither.sock)")
    assert api.transport is not None
    with pytest.raises(BaseExceptionGroup) as caught:
        api.transport.start()
    assert len(caught.value.exceptions) == 2
    assert not (home / "one.sock").exists()


def test_inside_the_process(make: Make) -> None:
    server = make("internal:threads:server")
    server.echo.connect(lambda sender, value: [sender, value])
    client = make("internal:threads:client", invert=True)
    until(lambda: client.peers == ["server"])
    assert client.echo(None, value=1).result() == ["client", 1]
    assert client.sync.echo(value=2) == ["client", 2]


@pytest.mark.rule("rpc.B16")
def test_restarting(make: Make, home: Path) -> None:
    client = make(f"restart:0.05:unix:{home}/api.sock", invert=True)
    for number in range(2):
        server = make(f"unixserv:{home}/api.sock")
        server.echo.connect(lambda sender, value, number=number: number)
        until(lambda: client.peers)
        assert client.sync.echo() == number
        server.transport.stop()
        until(lambda: not client.peers)


def test_hanging_up_on_one(make: Make) -> None:
    server = make("tcpserv:127.0.0.1:0")
    one, two = (make(address_of(server), invert=True) for _ in range(2))
    server.echo.connect(lambda sender, value: sender)
    name = one.sync.echo()
    server.transport.close(name)
    until(lambda: not one.peers)
    assert two.sync.echo() in server.peers
    with pytest.raises(KeyError):
        server.transport.close("nobody")


@pytest.mark.rule("rpc.R19", "rpc.B8")
def test_what_cannot_be_carried_is_answered(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    server = make("tcpserv:127.0.0.1:0")
    server.echo.connect(lambda sender, value: object())
    with pytest.raises(RemoteError):
        make(address_of(server), invert=True).sync.echo()
    until(lambda: logging.ERROR in [record.levelno for record in caplog.records])


def test_it_moves_calls_and_not_bytes(make: Make) -> None:
    server = make("tcpserv:127.0.0.1:0")
    with pytest.raises(UsageError):
        server.transport.send(b"x")
    loose = transport("tcpserv:127.0.0.1:0")
    assert loose is not None
    with pytest.raises(UsageError, match="RemoteAPI"):
        loose.start()


class Pipe(Transport):
    """One end of two in memory, each with a thread that receives."""

    def __init__(self) -> None:
        super().__init__()
        self.other: Pipe | None = None
        self.condition = threading.Condition()
        self.waiting = b""

    def run(self) -> None:
        rest = b""
        while True:
            with self.condition:
                self.condition.wait_for(lambda: self.waiting or not self.running)
                data, self.waiting = self.waiting, b""
            if not self.running:
                return
            rest = self.received("other", rest + data)

    def send(self, data: bytes, receivers: list[str] | None = None) -> None:
        assert self.other is not None
        with self.other.condition:
            self.other.waiting += data
            self.other.condition.notify()

    def stop(self, block: bool = True) -> None:
        self.running = False
        with self.condition:
            self.condition.notify()
        super().stop(block)


@pytest.mark.rule("rpc.R11", "rpc.R29", "rpc.B13")
def test_a_transport_of_ones_own_with_its_threads() -> None:
    left, right = Pipe(), Pipe()
    left.other, right.other = right, left
    server, client = Desk(transport=left), Desk(transport=right, invert=True)
    assert left.start()
    assert right.start(block=False).result(60)
    server.echo.connect(lambda sender, value: value)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: client.echo(None, value=n).result(60), range(100))) == list(range(100))
    assert client.echo(None, value=1).setter_thread is right.receiver_thread
    left.stop()
    lost = client.echo(None, value=2)
    right.stop()
    with pytest.raises(ConnectionLost):
        lost.result(60)


@pytest.mark.rule("rpc.R26")
def test_opening_may_fail_and_says_so() -> None:
    class Broken(Pipe):
        def open(self) -> None:
            raise OSError("no such device")

    broken = Broken()
    with pytest.raises(OSError, match="no such device"):
        broken.start()
    assert not broken.running
    with pytest.raises(OSError, match="no such device"):
        broken.start(block=False).result(60)
