"""An intake that does as it is told, a client that speaks line by line, and both loops that monsal runs on."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
import uvloop

from monsal.ingress.base import Screening
from monsal.ingress.smtp import LmtpIngress, SmtpIngress
from monsal.mail.envelope import Envelope
from monsal.smtp.replies import UNKNOWN_RECIPIENT, Reply
from monsal.store.contract import Receipt

# The certificates of tests are made there.
_TRANSPORT = str(Path(__file__).parent.parent / "transport")
if _TRANSPORT not in sys.path:
    sys.path.insert(0, _TRANSPORT)


class FakeIntake:
    """Takes everything but recipients that start with `no`. `gate` holds mails back, `error` is raised instead."""

    def __init__(self) -> None:
        self.mails: list[tuple[Envelope, bytes]] = []
        self.pieces: list[int] = []
        self.error: Exception | None = None
        self.accepts_error: Exception | None = None
        self.receipt: Receipt | None = None
        self.gate: asyncio.Event | None = None
        self.asked = asyncio.Event()
        self.screening: Screening | None = None

    def accepts(self, address: str) -> Reply | None:
        if self.accepts_error is not None:
            raise self.accepts_error
        return UNKNOWN_RECIPIENT if address.startswith("no") else None

    def screen(self, address: str) -> Screening | None:
        return self.screening

    async def accept(self, envelope: Envelope, body: tuple[bytes, ...]) -> Receipt:
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.mails.append((envelope, b"".join(body)))
        self.pieces.append(len(body))
        if self.receipt is not None:
            return self.receipt
        first = 100 * len(self.mails)
        count = len(envelope.recipients)
        return Receipt(tuple(range(first, first + count)), (False,) * count)


class Client:
    """One connection to an ingress; `run` hangs up those that a test leaves open."""

    left_open: ClassVar[list[Client]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.left_open.append(self)

    @classmethod
    async def connect(cls, address: str) -> Client:
        """Connect and read nothing."""
        if "/" in address:
            return cls(*await asyncio.open_unix_connection(address))
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    @classmethod
    async def greeted(cls, address: str, hello: str = "EHLO client.example") -> Client:
        """Connect, read the greeting, say hello."""
        client = await cls.connect(address)
        await client.reply()
        await client.say(hello)
        return client

    async def reply(self) -> str:
        """One whole reply, its lines joined by newlines; empty at the end of the connection."""
        lines = []
        while True:
            line = (await self.reader.readline()).decode()
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def say(self, *lines: str) -> str:
        """Send lines in one packet; the last reply of as many."""
        self.send("".join(f"{line}\r\n" for line in lines).encode())
        last = ""
        for _ in lines:
            last = await self.reply()
        return last

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def rest(self) -> bytes:
        """Everything until the server closes; a reset counts as closed."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def start_mail(self, *recipients: str, sender: str = "ann@example.com") -> str:
        """MAIL, RCPT and DATA; the reply to DATA."""
        paths = [f"RCPT TO:<{recipient}>" for recipient in recipients or ("order@example.org",)]
        return await self.say(f"MAIL FROM:<{sender}>", *paths, "DATA")

    async def mail(self, text: str, *recipients: str) -> str:
        """A whole mail; the reply to its content."""
        await self.start_mail(*recipients)
        self.send(text.encode() + b"\r\n.\r\n")
        return await self.reply()

    def hang_up(self) -> None:
        self.writer.transport.abort()

    def reset(self) -> None:
        """Hang up so that the server's next read fails."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.hang_up()

    async def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def serving(
    kind: type[SmtpIngress], bind: str, intake: FakeIntake, **options: object
) -> AsyncIterator[SmtpIngress]:
    """An ingress that listens for the time of the block."""
    ingress = kind(bind, intake, **options)  # type: ignore[arg-type]  # keywords of the ingress
    await ingress.start()
    try:
        yield ingress
    finally:
        await ingress.stop(0.0)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Run a test's coroutine function on a loop of either kind."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def go(test: Callable[[], Awaitable[None]]) -> None:
        async def within_time() -> None:
            try:
                async with asyncio.timeout(60):
                    await test()
            finally:
                for client in Client.left_open:
                    client.hang_up()
                Client.left_open.clear()
                for _ in range(5):  # turns for the loop to tell both sides
                    await asyncio.sleep(0)

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(within_time())

    return go


@pytest.fixture
def smtp() -> Callable[..., object]:
    """`async with smtp(intake, ...) as ingress`: SMTP on a free port of 127.0.0.1."""
    return lambda intake, **options: serving(SmtpIngress, "smtp://127.0.0.1:0", intake, **options)


@pytest.fixture
def lmtp() -> Callable[..., object]:
    """`async with lmtp(intake, path, ...) as ingress`: LMTP on a unix socket."""
    return lambda intake, path, **options: serving(LmtpIngress, f"lmtp:{path}", intake, **options)


@pytest.fixture
def client() -> type[Client]:
    return Client


@pytest.fixture
def fake_intake() -> type[FakeIntake]:
    return FakeIntake
