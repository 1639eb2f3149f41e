"""One client connection of a load, speaking SMTP or LMTP (RFC 5321, RFC 2033) as asyncio Protocol.

It sends one mail at a time and pipelines its commands where the server offers that (RFC 2920). It is written anew
and apart from the product's own client, so that a fault of that one cannot hide here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import cast

from bench.mails import Mail

__all__ = ["Answer", "Session"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply of the server."""

    code: int
    text: str


class Session(asyncio.Protocol):
    """A connection. First await `greeted`, then `transact` one mail after the other, at last `quit`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, lmtp: bool = False) -> None:
        self._loop = loop
        self._lmtp = lmtp
        self._buffer = b""
        self._lines: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._replies: asyncio.Future[list[Answer]] | None = None
        self._wanted = 0
        self._got: list[Answer] = []
        self._pipelining = False
        #: When the content of the last mail was handed to the socket, on the clock of time.perf_counter.
        self.content_at = 0.0
        self.last_news = loop.time()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not an assertion: uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.last_news = self._loop.time()
        *lines, self._buffer = (self._buffer + data).split(b"\r\n")
        for line in lines:
            self._lines.append(line)
            if line[3:4] != b"-":
                self._reply(self._lines)
                self._lines = []

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(f"connection lost: {exc or 'closed by the server'}")

    # What the load calls.

    @property
    def alive(self) -> bool:
        """Whether more can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Cut the connection; whoever waits for a reply gets a ConnectionError."""
        if self._transport is not None:
            self._transport.abort()

    async def greeted(self) -> None:
        """Wait for the greeting and say hello. Raises ConnectionError if the server does not want us now."""
        greeting = await self._ask(b"", 1)
        self._demand(greeting[0], 220)
        hello = await self._ask(b"LHLO load.example\r\n" if self._lmtp else b"EHLO load.example\r\n", 1)
        self._demand(hello[0], 250)
        self._pipelining = "PIPELINING" in hello[0].text.upper()

    async def transact(self, mail: Mail, recipients: list[str]) -> list[tuple[str, Answer]]:
        """Send a mail to some recipients; what the server said of each. Raises ConnectionError if that is unknown."""
        commands = [f"MAIL FROM:<{mail.sender}> SIZE={len(mail.data)}\r\n".encode()]
        commands += [f"RCPT TO:<{recipient}>\r\n".encode() for recipient in recipients]
        answers = await self._commands([*commands, b"DATA\r\n"])
        first, *said, data = answers
        taken = [recipient for recipient, answer in zip(recipients, said, strict=True) if answer.code == 250]
        if data.code != 354 or first.code != 250 or not taken:
            if data.code == 354:
                await self._ask(b".\r\n", 1)
            elif first.code == 250:
                await self._ask(b"RSET\r\n", 1)
            # The worst news decides: the envelope's, then the recipient's own, then that of DATA.
            return [
                (name, first if first.code != 250 else own if own.code != 250 else data)
                for name, own in zip(recipients, said, strict=True)
            ]
        content = _on_the_wire(mail.data)
        self.content_at = time.perf_counter()
        final = await self._ask(content, len(taken) if self._lmtp else 1)
        verdicts = deque(final if self._lmtp else final * len(taken))
        return [
            (name, verdicts.popleft() if own.code == 250 else own) for name, own in zip(recipients, said, strict=True)
        ]

    async def quit(self) -> None:
        """Take leave; what the server answers is not waited for long."""
        if self.alive and self._replies is None:
            try:
                await asyncio.wait_for(self._ask(b"QUIT\r\n", 1), 1.0)
            except (ConnectionError, TimeoutError):
                self.abort()
        if self._transport is not None:
            self._transport.close()

    # Inside.

    async def _commands(self, commands: list[bytes]) -> list[Answer]:
        if self._pipelining:
            return await self._ask(b"".join(commands), len(commands))
        answers: list[Answer] = []
        for command in commands:
            answers += await self._ask(command, 1)
        return answers

    async def _ask(self, data: bytes, wanted: int) -> list[Answer]:
        """Write, and wait for that many replies."""
        if self._transport is None:
            raise ConnectionError("not connected")
        self._replies = self._loop.create_future()
        self._wanted = wanted
        self.last_news = self._loop.time()
        if data:
            self._transport.write(data)
        elif len(self._got) >= wanted:
            self._deliver()
        try:
            return await self._replies
        finally:
            self._replies = None

    def _reply(self, lines: list[bytes]) -> None:
        code = lines[-1][:3]
        if not code.isdigit():
            self._fail(f"no reply of a mail server: {lines[-1][:80]!r}")
            self.abort()
            return
        self._got.append(Answer(int(code), "\n".join(line[4:].decode("utf-8", "replace") for line in lines)))
        if int(code) == 421:
            self._fail(f"421 {self._got[-1].text}")
            self.abort()
        elif self._replies is not None and len(self._got) >= self._wanted:
            self._deliver()

    def _deliver(self) -> None:
        got, self._got = self._got, []
        if self._replies is not None and not self._replies.done():
            self._replies.set_result(got)

    def _fail(self, reason: str) -> None:
        if self._replies is not None and not self._replies.done():
            self._replies.set_exception(ConnectionError(reason))

    def _demand(self, answer: Answer, code: int) -> None:
        if answer.code != code:
            self.abort()
            raise ConnectionError(f"{answer.code} {answer.text}")


def _on_the_wire(data: bytes) -> bytes:
    """A message with its dots doubled and the final dot (RFC 5321, section 4.5.2)."""
    stuffed = data.replace(b"\r\n.", b"\r\n..") if b"\r\n." in data else data
    return (b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n"
