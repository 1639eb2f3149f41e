"""A scripted next hop on a real socket, and tests that are coroutines, run on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parent))  # for dnsserver


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    coroutine = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    kind = pyfuncitem.callspec.params["loop_kind"]
    factory = uvloop.new_event_loop if kind == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(coroutine)
    return True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every coroutine test is run on both loops."""
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_kind")
        metafunc.parametrize("loop_kind", ["asyncio", "uvloop"])


@dataclass
class Taken:
    """A mail that the peer got to the end of."""

    connection: int
    sender: str
    recipients: list[str]
    body: bytes


HANG_UP = ""
SILENCE = "..."

#: (number of the connection, command or "GREETING" or ".") -> a reply, HANG_UP, SILENCE, or None for the usual.
Script = Callable[[int, str], str | None]


@dataclass
class Peer:
    """A next hop that answers by a script; what the script leaves open it does properly."""

    script: Script = lambda _number, _command: None
    extensions: tuple[str, ...] = ("PIPELINING", "SIZE 1000000", "8BITMIME")
    lmtp: bool = False
    commands: list[tuple[int, str]] = field(default_factory=list)
    mails: list[Taken] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: list[_Session] = field(default_factory=list)
    server: asyncio.AbstractServer | None = None
    on_content: Callable[[_Session], None] = lambda _session: None

    async def listen(self, path: str | None = None, port: int = 0, host: str = "127.0.0.1") -> str:
        """Open the door; the url of it."""
        loop = asyncio.get_running_loop()
        scheme = "lmtp" if self.lmtp else "smtp"
        if path is not None:
            self.server = await loop.create_unix_server(lambda: _Session(self), path)
            return f"{scheme}://{path}"
        self.server = await loop.create_server(lambda: _Session(self), host, port)
        return f"{scheme}://{host}:{self.server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()
        for session in self.sessions:
            session.transport.abort()
        await self.until(lambda: not self.open)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something has come true here."""
        while not condition():
            self.changed.clear()
            async with asyncio.timeout(60):
                await self.changed.wait()

    def said(self, start: str) -> list[str]:
        return [command for _, command in self.commands if command.startswith(start)]


class _Session(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.buffer = b""
        self.in_data = False
        self.sender = ""
        self.recipients: list[str] = []
        self.number = 0
        self.mute = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.peer.sessions.append(self)
        self.number = self.peer.connections
        self.peer.connections += 1
        self.peer.open += 1
        self.answer("GREETING", "220 peer ready")

    def connection_lost(self, exc: Exception | None) -> None:
        self.peer.open -= 1
        self.peer.changed.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while not self.transport.is_closing() and not self.mute:
            if self.in_data:
                self.peer.on_content(self)
                body, found, rest = (b"\r\n" + self.buffer).partition(b"\r\n.\r\n")
                if not found:
                    return
                self.buffer = rest
                self.end_of_data(body[2:] + b"\r\n")
            else:
                line, found, rest = self.buffer.partition(b"\r\n")
                if not found:
                    return
                self.buffer = rest
                self.command(line.decode())

    def command(self, line: str) -> None:
        verb = line.split(" ")[0]
        if verb in ("EHLO", "LHLO"):
            lines = ["peer", *self.peer.extensions]
            usual = "\r\n".join(f"250{' ' if i == len(lines) - 1 else '-'}{text}" for i, text in enumerate(lines))
        elif verb == "MAIL":
            usual = "250 sender ok"
        elif verb == "RCPT":
            usual = "250 recipient ok"
        elif verb == "DATA":
            usual = "354 go" if self.recipients else "503 no recipients"
        elif verb == "QUIT":
            usual = "221 bye"
        else:
            usual = "250 ok"
        reply = self.answer(line, usual)
        if verb == "MAIL":
            self.sender, self.recipients = line.split("<")[1].split(">")[0], []
        elif verb == "RCPT" and reply.startswith("2"):
            self.recipients.append(line.split("<")[1].split(">")[0])
        elif verb == "DATA" and reply.startswith("3"):
            self.in_data = True
        elif verb == "QUIT":
            self.transport.close()

    def end_of_data(self, body: bytes) -> None:
        self.in_data = False
        body = (
            body.replace(b"\r\n..", b"\r\n.").removeprefix(b".")
            if body.startswith(b"..")
            else body.replace(b"\r\n..", b"\r\n.")
        )
        taken = Taken(self.number, self.sender, self.recipients, body)
        replies = 0
        for recipient in self.recipients if self.peer.lmtp else [""]:
            reply = self.answer(f". {recipient}".strip(), "250 2.0.0 taken")
            replies += reply.startswith("2")
        if replies:
            self.peer.mails.append(taken)
        self.recipients = []

    def answer(self, command: str, usual: str) -> str:
        self.peer.commands.append((self.number, command))
        reply = self.peer.script(self.number, command)
        if reply is None:
            reply = usual
        if reply == HANG_UP:
            self.transport.close()
        elif reply == SILENCE:
            self.mute = True
        else:
            self.transport.write(reply.encode() + b"\r\n")
            if reply.startswith("421"):
                self.transport.close()
        self.peer.changed.set()
        return reply


@pytest.fixture
def new_peer() -> type[Peer]:
    """The scripted next hop, to be made by the test."""
    return Peer
