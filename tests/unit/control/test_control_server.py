"""The control socket over a real unix socket: who gets in, and that a bad peer hurts only itself (P7, P8)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monsal.control.client import ControlClient
from monsal.control.server import ControlLimits, ControlServer
from monsal.errors import MonsalError, NoAnswer, NotRunning, RemoteFault, StoreLocked
from monsal.rpc import RemoteAPI, incoming
from monsal.transport import socket_name
from monsal.wire import (
    BUSY,
    FORBIDDEN,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    SHUTDOWN,
    TOO_LARGE,
    Fault,
    encode,
)

Serve = Callable[[ControlServer], ControlServer]


class Api(RemoteAPI):
    """Methods that answer, wait until told, and answer too much."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0
        self.most = 0
        self.go = asyncio.Event()

    @incoming(ordered=False)
    async def echo(self, caller: str, value: Any) -> Any:
        return value

    @incoming(ordered=False)
    async def wait(self, caller: str) -> int:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.go.wait()
        self.waiting -= 1
        return self.most

    @incoming(ordered=False)
    async def open(self, caller: str) -> int:
        self.go.set()
        return self.waiting

    @incoming(ordered=False)
    async def large(self, caller: str, size: int) -> str:
        return "x" * size

    @incoming(ordered=False)
    async def odd(self, caller: str) -> object:
        return object()


def control_at(path: Path, **options: Any) -> ControlServer:
    control = ControlServer(path, **options)
    control.mount("api", Api())
    return control


def raw(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(60)
    with socket_name(str(path)) as name:
        connection.connect(name)
    return connection


def read_all(connection: socket.socket) -> list[Any]:
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return [json.loads(line) for line in data.splitlines()]


def call(method: str, known: int, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": known}).encode() + b"\n"


def test_a_client_is_answered_and_the_socket_is_private(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    control = serve(control_at(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["control.sock"]
    with ControlClient(path) as client:
        assert client.call("api.echo", value={"a": [1, "ü\n", None]}) == {"a": [1, "ü\n", None]}
        with pytest.raises(RemoteFault, match="Method not found") as caught:
            client.call("api.nothing")
        assert caught.value.code == -32601
        assert client.call("api.echo", value=2) == 2
    assert control.statistics().taken == 1


def test_a_directory_with_a_long_name_is_no_trouble(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / ("deep" * 20) / ("down" * 20) / "control.sock"
    serve(control_at(path))
    with ControlClient(path) as client:
        assert client.call("api.echo", value=1) == 1


@pytest.mark.rule("rpc.B1")
def test_garbage_is_answered_and_the_next_line_is_read(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    serve(control_at(path, limits=ControlLimits(request=200)))
    with raw(path) as connection:
        connection.sendall(b'\xff\xfe garbage\n[1]\n{"method": 5}\n\n' + b"x" * 500 + b"\n")
        connection.sendall(b'{"jsonrpc":"2.0","id":null,"result":1}\n{"jsonrpc":"2.0","method":"api.echo"}\n')
        connection.sendall(call("api.echo", 9, value="still here"))
        connection.shutdown(socket.SHUT_WR)
        answers = read_all(connection)
    # A batch is answered by one (JSON-RPC 2.0, section 6), here with nothing but the fault of its only item.
    [of_batch] = answers.pop(1)
    assert of_batch["error"]["code"] == INVALID_REQUEST
    assert [answer["error"]["code"] for answer in answers[:-1]] == [PARSE_ERROR, INVALID_REQUEST, TOO_LARGE]
    assert answers[-1] == {"jsonrpc": "2.0", "result": "still here", "id": 9}


@pytest.mark.rule("rpc.B7")
def test_calls_of_one_peer_are_bounded_and_all_are_answered(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    serve(control_at(path, limits=ControlLimits(in_flight=4)))
    with raw(path) as many, ControlClient(path) as other:
        many.sendall(b"".join(call("api.wait", number) for number in range(50)))
        many.shutdown(socket.SHUT_WR)
        while other.call("api.echo", value=0) or other.call("api.open") < 4:
            continue
        answers = read_all(many)
    assert sorted(answer["id"] for answer in answers) == list(range(50))
    assert max(answer["result"] for answer in answers) <= 4


@pytest.mark.rule("rpc.B7")
def test_one_connection_too_many_is_told_so(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    control = serve(control_at(path, limits=ControlLimits(connections=3)))
    clients = [ControlClient(path) for _ in range(3)]
    assert [client.call("api.echo", value=1) for client in clients] == [1, 1, 1]
    with ControlClient(path) as late, pytest.raises(RemoteFault, match="3 connections") as caught:
        late.call("api.echo", value=1)
    assert caught.value.code == BUSY
    assert clients[0].call("api.echo", value=2) == 2
    for client in clients:
        client.close()
    assert control.statistics().refused == 1


def test_many_peers_at_once_are_served(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    serve(control_at(path))
    peers = [raw(path) for _ in range(50)]
    for number, peer in enumerate(peers):
        peer.sendall(call("api.echo", number, value=number))
        peer.shutdown(socket.SHUT_WR)
    for number, peer in enumerate(peers):
        with peer:
            assert read_all(peer) == [{"jsonrpc": "2.0", "result": number, "id": number}]


def test_another_user_is_refused(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    serve(control_at(path, allowed=frozenset({os.geteuid() + 1})))
    with ControlClient(path) as client, pytest.raises(RemoteFault, match="not for this user") as caught:
        client.call("api.echo", value=1)
    assert caught.value.code == FORBIDDEN


@pytest.mark.rule("rpc.B7")
def test_a_peer_that_does_not_read_is_cut_and_nobody_else_notices(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    control = serve(control_at(path, limits=ControlLimits(slow_reader=0.05)))
    with raw(path) as slow, ControlClient(path) as other:
        slow.sendall(b"".join(call("api.large", number, size=900_000) for number in range(8)))
        while control.statistics().taken < 2 or control.statistics().open > 1:
            assert other.call("api.echo", value=1) == 1
    assert control.statistics().taken == 2


def test_a_silent_peer_is_cut(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    serve(control_at(path, limits=ControlLimits(idle=0.05)))
    with raw(path) as silent:
        assert silent.recv(1) == b""


@pytest.mark.rule("rpc.B8")
def test_a_result_that_cannot_be_sent_is_answered_all_the_same(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    serve(control_at(path, limits=ControlLimits(reply=1000)))
    with ControlClient(path) as client:
        for method, params, code in [
            ("api.odd", {}, INTERNAL_ERROR),
            ("api.large", {"size": 2000}, TOO_LARGE),
        ]:
            with pytest.raises(RemoteFault) as caught:
                client.call(method, **params)
            assert caught.value.code == code


def test_the_socket_of_a_dead_server_is_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with ControlClient(path) as client, pytest.raises(NotRunning):
        client.call("api.echo", value=1)
    serve(control_at(path))
    with ControlClient(path) as client:
        assert client.call("api.echo", value=1) == 1


def test_a_living_server_is_not_pushed_aside(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    serve(control_at(path))
    with pytest.raises(StoreLocked, match="another server"):
        asyncio.run(control_at(path).start())
    with ControlClient(path) as client:
        assert client.call("api.echo", value=1) == 1


def test_closing_answers_what_runs_and_removes_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def scenario() -> tuple[bytes, bytes]:
        control = ControlServer(path)
        api = Api()
        control.mount("api", api)
        await control.start()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(call("api.wait", 1))
        while not api.waiting:
            await asyncio.sleep(0)
        closing = asyncio.create_task(control.stop())
        while path.exists():
            await asyncio.sleep(0)
        api.go.set()
        answer, rest = await reader.readline(), await reader.read()
        await closing
        writer.close()
        return answer, rest

    answer, rest = asyncio.run(scenario())
    assert json.loads(answer)["result"] == 1
    assert rest == b""


def test_closing_does_not_wait_longer_than_its_grace_and_spares_a_successors_socket(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def scenario() -> bytes:
        control = ControlServer(path)
        api = Api()
        control.mount("api", api)
        await control.start()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(call("api.wait", 1))
        while not api.waiting:
            await asyncio.sleep(0)
        path.unlink()
        path.write_text("a successor's")
        await control.stop(grace=0.05)
        rest = await reader.read()
        writer.close()
        return rest

    assert asyncio.run(scenario()) == b""
    assert path.read_text() == "a successor's"


def test_a_peer_that_came_in_the_last_moment_is_hung_up_on(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def scenario() -> bytes:
        control = control_at(path)
        await control.start()
        with raw(path) as late:
            await control.stop()
            late.settimeout(0)
            heard = b""
            while True:
                await asyncio.sleep(0)
                try:
                    data = late.recv(1000)
                except BlockingIOError:
                    continue
                except ConnectionError:
                    return heard
                if not data:
                    return heard
                heard += data

    # It was let in just before, or never; either way it is no secret why.
    heard = asyncio.run(scenario())
    assert not heard or json.loads(heard)["error"]["code"] == SHUTDOWN


def test_a_socket_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "control.sock"
    path.mkdir()
    with pytest.raises(FileExistsError, match="is no socket"):
        asyncio.run(control_at(path).start())
    assert [entry.name for entry in path.parent.iterdir()] == ["control.sock"]


def test_a_server_that_hangs_up_or_says_nothing_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        with ControlClient(path, timeout=0.05) as client:
            with pytest.raises(NoAnswer, match="did not answer"):
                client.call("api.echo")
            listener.accept()[0].close()
        with ControlClient(path) as client:
            client.connect()
            peer = listener.accept()[0]
            peer.sendall(b"220 this is SMTP\n")
            with pytest.raises(NoAnswer, match="no monsal server"):
                client.call("api.echo")
            peer.close()
        with ControlClient(path) as client:
            client.connect()
            listener.accept()[0].close()
            with pytest.raises(NoAnswer, match="hung up"):
                client.call("api.echo")
        with ControlClient(path) as client:
            client.connect()
            peer = listener.accept()[0]
            peer.sendall(encode(Fault(None, SHUTDOWN, "Shutting down")))
            with pytest.raises(NotRunning, match="about to end"):
                client.call("api.echo")
            peer.close()


def test_who_may_not_connect_is_told_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Barred(socket.socket):
        def connect(self, address: object) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Barred)
    with pytest.raises(MonsalError, match="only for the user that the server runs as"):
        ControlClient(tmp_path / "control.sock").connect()
