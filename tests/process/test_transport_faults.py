"""What others suffer when a program dies, freezes, or is malicious: nothing; and what its callers learn: at once.

Real processes. No time is measured: that something came at once is shown by its coming long before any deadline.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monsal.errors import ConnectionLost
from monsal.transport import Link, connect, reconnect
from monsal.wire import PeerLimits

#: Less than the deadline of any call here, so that none of them can be what ends it.
PATIENCE = 100.0
#: A side is taken for frozen after two of them: not so soon that one that only waits for its turn to run is.
BEAT = 1.0
LIMITS = PeerLimits(timeout=120.0, beat=BEAT)
PROGRAM = Path(__file__).with_name("link_server.py")


class Program:
    """link_server.py as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Server(Program):
    """The server, and how it is reached."""

    def __init__(self, home: Path, beat: float = BEAT) -> None:
        self.json, self.msgpack = home / "json.sock", home / "msgpack.sock"
        super().__init__(f"unix:{self.json}", f"unix:{self.msgpack}", str(beat), "0.5")

    @property
    def address(self) -> str:
        return f"unix:{self.json}"


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    program = Server(home)
    yield program
    program.end()


@pytest.fixture
def target(home: Path) -> Iterator[Server]:
    """A server that is patient: on a busy machine who is attacked is not to be taken for frozen."""
    program = Server(home, PATIENCE)
    yield program
    program.end()


def run(scene: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(PATIENCE):
            await scene

    asyncio.run(limited())


@pytest.mark.rule("rpc.B3")
def test_the_death_of_a_server_is_told_to_all_its_callers_at_once(server: Server) -> None:
    async def scene() -> None:
        link = await connect(server.address, limits=LIMITS)
        await link.call("echo")
        calls = [asyncio.create_task(link.call("never")) for _ in range(10)]
        assert await link.call("echo", {"in": "between"}) == {"in": "between"}
        server.signal(signal.SIGKILL)
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, ConnectionLost)
            assert outcome.sent
        with pytest.raises(ConnectionLost) as late:
            await link.call("echo")
        assert not late.value.sent

    run(scene())


@pytest.mark.rule("rpc.B3")
def test_a_frozen_server_is_noticed_by_its_silence(server: Server) -> None:
    async def scene() -> None:
        link = await connect(server.address, limits=LIMITS)
        await link.call("echo")
        call = asyncio.create_task(link.call("never"))
        # Longer than two beats in which nothing is said but pings: that is no reason to hang up.
        await asyncio.sleep(2.5 * BEAT)
        assert link.is_open
        server.signal(signal.SIGSTOP)
        with pytest.raises(ConnectionLost, match="two beats"):
            await call
        server.signal(signal.SIGCONT)
        again = await connect(server.address, limits=LIMITS)
        assert await again.call("echo", {}) == {}
        again.close()

    run(scene())


@pytest.mark.rule("rpc.B16")
def test_a_connection_comes_back_with_the_server(server: Server, home: Path) -> None:
    async def scene() -> Server:
        keeper = reconnect(server.address, limits=LIMITS, longest=0.05)
        assert await keeper.call("echo", {"n": 1}) == {"n": 1}
        repeatable = asyncio.create_task(keeper.call("links", repeatable=True))
        lost = asyncio.create_task(keeper.call("never"))
        assert await repeatable == 1
        server.end()
        with pytest.raises(ConnectionLost):
            await lost
        waiting = asyncio.create_task(keeper.call("echo", {"n": 2}))
        successor = await asyncio.to_thread(Server, home)
        assert await waiting == {"n": 2}
        await keeper.close()
        return successor

    found: list[Server] = []

    async def keep() -> None:
        found.append(await scene())

    try:
        run(keep())
    finally:
        for successor in found:
            successor.end()


@pytest.mark.rule("rpc.B3")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_lets_go_of_a_client_that_died_or_froze(server: Server, number: int) -> None:
    async def scene() -> None:
        link = await connect(server.address, limits=LIMITS)
        client = await asyncio.to_thread(Program, server.address)
        try:
            assert await link.call("links") == 2
            client.signal(number)
            while await link.call("links") != 1:
                await asyncio.sleep(0.01)
        finally:
            client.end()
        link.close()

    run(scene())


# -- malice: an undisturbed client counts its answers meanwhile ---------------------------------------------------


async def undisturbed(link: Link, attack: Awaitable[Any]) -> Any:
    """Make calls for as long as the attack lasts, and some after it; each has to be answered rightly."""
    task = asyncio.ensure_future(attack)
    number = 0
    rest = 50
    while rest:
        number += 1
        rest -= task.done()
        assert await link.call("echo", {"number": number}) == {"number": number}
    return await task


def attacked(server: Server, attack: Callable[[], Any], *, codec: str = "jrpc:\n") -> Any:
    """Run a blocking attack in a thread beside an undisturbed client; what it found."""
    found: list[Any] = []

    async def scene() -> None:
        link = await connect(server.address, limits=PeerLimits(timeout=120.0, beat=PATIENCE))
        found.append(await undisturbed(link, asyncio.to_thread(attack)))
        assert await link.call("links") <= 2
        link.close()

    run(scene())
    return found[0]


def open_socket(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(str(path))
    return connection


def send_until_cut(connection: socket.socket, data: bytes, times: int) -> int:
    """How often it could be sent until the other side hung up."""
    for number in range(times):
        try:
            connection.sendall(data)
        except OSError:
            return number
    return times


def read_all(connection: socket.socket) -> bytes:
    whole = b""
    try:
        while data := connection.recv(65536):
            whole += data
    except OSError:
        return whole
    return whole


@pytest.mark.rule("rpc.B1")
@pytest.mark.rule("rpc.B7")
def test_one_that_never_reads_is_cut_off(target: Server) -> None:
    call = b'{"jsonrpc":"2.0","method":"echo","params":["' + b"x" * 100_000 + b'"],"id":1}\n'

    def attack() -> int:
        with open_socket(target.json) as connection:
            return send_until_cut(connection, call, 10_000)

    assert attacked(target, attack) < 10_000


@pytest.mark.rule("rpc.B1")
def test_garbage_hurts_only_its_sender(target: Server) -> None:
    def attack() -> bytes:
        with open_socket(target.json) as connection:
            for number in range(10_000):
                try:
                    connection.sendall(b"\xff%d garbage {[\n" % number)
                except OSError:
                    break
            return read_all(connection)

    attacked(target, attack)


@pytest.mark.rule("rpc.B1")
@pytest.mark.rule("rpc.B8")
def test_garbage_with_sense_in_between_is_answered_all_of_it(target: Server) -> None:
    def attack() -> list[Any]:
        with open_socket(target.json) as connection:
            sent = b""
            for number in range(100):
                sent += b"garbage\n" * 99 + b'{"jsonrpc":"2.0","method":"echo","id":%d}\n' % number
            sender = connection.dup()
            answers: list[Any] = []
            with sender:
                rest = sent
                buffered = b""
                while len(answers) < 10_000:
                    if rest:
                        rest = rest[sender.send(rest[:8000]) :]
                    buffered += connection.recv(1 << 20) if not rest or len(sent) - len(rest) > 16_000 else b""
                    *lines, buffered = buffered.split(b"\n")
                    answers += [msgspec.json.decode(line) for line in lines]
            return answers

    answers = attacked(target, attack)
    assert len(answers) == 10_000
    assert sum("result" in answer for answer in answers) == 100
    assert {answer["error"]["code"] for answer in answers if "error" in answer} == {-32700}


@pytest.mark.rule("rpc.B7")
def test_batch_bombs(target: Server) -> None:
    item = b'{"jsonrpc":"2.0","method":"echo","params":[1],"id":7}'

    def attack() -> list[Any]:
        allowed = b"[" + b",".join([item] * 100) + b"]\n"
        bomb = b"[" + b",".join([item] * 10_000) + b"]\n"
        with open_socket(target.json) as connection, connection.makefile("rb") as answers:
            found: list[Any] = []
            for data in (allowed, bomb, b"[]\n", b"[1,2,3]\n", b"[" + b"[]," * 90 + b"[]]\n", allowed):
                connection.sendall(data)
                found.append(msgspec.json.decode(answers.readline()))
            return found

    allowed, bomb, empty, numbers, lists, again = attacked(target, attack)
    assert len(allowed) == len(again) == 100
    assert all(answer == {"jsonrpc": "2.0", "result": [1], "id": 7} for answer in allowed)
    for refused in (bomb, empty):
        assert refused["error"]["code"] in {-32600, -32004}
    assert [answer["error"]["code"] for answer in numbers] == [-32600] * 3
    assert all(answer["error"]["code"] == -32600 for answer in lists)


@pytest.mark.rule("rpc.B7")
def test_deep_nesting_and_frames_without_end(target: Server) -> None:
    deep = b'{"jsonrpc":"2.0","method":"echo","id":1,"params":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"

    def attack() -> list[Any]:
        with open_socket(target.json) as connection, connection.makefile("rb") as answers:
            found: list[Any] = []
            for data in (deep, b"[" * 1_000_000 + b"\n", b"x" * 50_000_000 + b"\n", b'{"a":' * 200_000 + b"\n"):
                connection.sendall(data)
                found.append(msgspec.json.decode(answers.readline()))
            connection.sendall(b'{"jsonrpc":"2.0","method":"echo","params":["still here"],"id":2}\n')
            found.append(msgspec.json.decode(answers.readline()))
            return found

    *refused, answered = attacked(target, attack)
    assert [answer["error"]["code"] for answer in refused] == [-32700, -32700, -32004, -32700]
    assert answered == {"jsonrpc": "2.0", "result": ["still here"], "id": 2}


@pytest.mark.rule("rpc.B7")
def test_a_length_of_two_gigabytes(target: Server) -> None:
    def attack() -> int:
        with open_socket(target.msgpack) as connection:
            connection.sendall((2**31).to_bytes(4, "big"))
            # What was announced is passed over as it comes, and none of it is kept.
            sent = send_until_cut(connection, bytes(1 << 20), 100)
            before = memory_of(target.process.pid)
            sent += send_until_cut(connection, bytes(1 << 20), 100)
            assert memory_of(target.process.pid) - before < 20 << 20
            length = int.from_bytes(connection.recv(4), "big")
            assert length < 1000
            return sent

    assert attacked(target, attack) == 200


def memory_of(pid: int) -> int:
    """Octets of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.rule("rpc.B7")
def test_more_calls_than_can_be_held(target: Server) -> None:
    def attack() -> list[Any]:
        with open_socket(target.json) as connection, connection.makefile("rb") as answers:
            calls = [b'{"jsonrpc":"2.0","method":"never","id":%d}\n' % number for number in range(64 + 1024 + 100)]
            connection.sendall(b"".join(calls))
            return [msgspec.json.decode(answers.readline()) for _ in range(100)]

    answers = attacked(target, attack)
    assert [answer["id"] for answer in answers] == list(range(64 + 1024, 64 + 1024 + 100))
    assert all(answer["error"]["code"] == -32000 for answer in answers)
    assert all(answer["error"]["data"]["retry_after"] > 0 for answer in answers)
