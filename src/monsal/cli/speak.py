"""SMTP and LMTP as the commands speak them: one mail, blocking, every reply kept (RFC 5321, RFC 2033)."""

from __future__ import annotations

import contextlib
import os
import smtplib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monsal.address import split_address
from monsal.cli.exits import DATA, OK, TRY_AGAIN
from monsal.errors import MonsalError, UsageError
from monsal.transport.unix import socket_name

__all__ = ["Answer", "Door", "Unreachable", "deliver", "door", "worst_code"]

#: Seconds for each answer; RFC 5321, section 4.5.3.2, grants minutes, which nobody waits at a prompt.
TIMEOUT = 30.0


class Unreachable(MonsalError):
    """Nobody took the connection: nothing was sent."""


@dataclass(frozen=True)
class Answer:
    """What the server said about the mail, for one recipient. Code 0 stands for a connection that broke."""

    code: int
    text: str

    @property
    def exit_code(self) -> int:
        if 200 <= self.code < 300:
            return OK
        return DATA if 500 <= self.code < 600 else TRY_AGAIN

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip() if self.code else self.text


@dataclass(frozen=True)
class Door:
    """Where a server takes mail: a host and port, or the path of a socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None
    lmtp: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        return str(self.path) if self.path is not None else f"{self.host}:{self.port}"


def door(text: str, directory: Path, *, lmtp: bool = False) -> Door:
    """The door that an address of ready.json means: `127.0.0.1:25`, `[::1]:25` or a path. Raises UsageError."""
    text = text.removeprefix("unix:")
    host, colon, port = text.rpartition(":")
    if "/" not in text and colon and port.isdigit() and int(port) < 65536:
        return Door(host.strip("[]"), int(port), lmtp=lmtp)
    if "/" not in text:
        raise UsageError(f"{text!r} is no address of a server; expected HOST:PORT or a path")
    return Door(path=directory / text, lmtp=lmtp)


def worst_code(answers: Sequence[Answer]) -> int:
    """One exit code for several recipients: try again if any may still succeed, else refused, else fine."""
    codes = {answer.exit_code for answer in answers}
    return next((code for code in (TRY_AGAIN, DATA) if code in codes), OK)


def deliver(
    target: Door,
    sender: str,
    recipients: Sequence[str],
    message: bytes,
    report: Callable[[str, Answer], None] = lambda command, answer: None,
) -> list[Answer]:
    """Send one mail; for each recipient what became of it. `report` is told each command with its answer.

    Raises Unreachable if nobody takes the connection, AddressError for an address that is none.
    """
    for address in (*([sender] if sender else []), *recipients):
        split_address(address)
    mail = _Mail(sender, tuple(recipients), message)
    session = _Session(target, report)
    try:
        return session.deliver(mail)
    except smtplib.SMTPNotSupportedError as error:
        return [Answer(553, str(error))] * len(recipients)
    except (OSError, smtplib.SMTPException) as error:
        # After the connection was there: the server keeps its promise (P1), so without an answer nothing is sure.
        return [Answer(0, f"the connection broke: {error}")] * len(recipients)


class _UnixSMTP(smtplib.LMTP):
    """SMTP on a unix socket, which smtplib has for LMTP only."""

    ehlo_msg = "ehlo"


@dataclass(frozen=True)
class _Mail:
    sender: str
    recipients: tuple[str, ...]
    message: bytes


class _Session:
    """One connection, one mail; each answer is heard by `report`."""

    def __init__(self, target: Door, report: Callable[[str, Answer], None]) -> None:
        self._target = target
        self._report = report
        kind = smtplib.LMTP if target.lmtp else _UnixSMTP if target.path is not None else smtplib.SMTP
        # A name is given, because without one smtplib asks the resolver for ours, which can hang.
        self._connection = kind(local_hostname="localhost", timeout=TIMEOUT)

    def deliver(self, mail: _Mail) -> list[Answer]:
        """What became of the mail, for each recipient."""
        try:
            for step in (self._connect, self._hello, lambda: self._mail(mail)):
                answer = step()
                if answer.exit_code != OK:
                    return [answer] * len(mail.recipients)
            answers = [self._hear(f"RCPT TO:<{each}>", self._connection.rcpt(each)) for each in mail.recipients]
            taken = [place for place, answer in enumerate(answers) if answer.exit_code == OK]
            if taken:
                for place, answer in zip(taken, self._data(mail.message, len(taken)), strict=True):
                    answers[place] = answer
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._connection.docmd("QUIT")  # the mail is settled already, whatever becomes of the connection
            return answers
        finally:
            self._connection.close()

    def _hear(self, command: str, reply: tuple[int, bytes]) -> Answer:
        answer = Answer(reply[0], reply[1].decode("utf-8", "replace").replace("\n", " / "))
        self._report(command, answer)
        return answer

    def _connect(self) -> Answer:
        target = self._target
        try:
            if target.path is not None:
                # An absolute name is what smtplib takes for the path of a socket.
                with socket_name(os.fspath(target.path.absolute())) as name:
                    return self._hear("", self._connection.connect(name, 0))
            return self._hear("", self._connection.connect(target.host, target.port))
        except (OSError, smtplib.SMTPServerDisconnected) as error:
            raise Unreachable(f"nobody takes mail at {target}: {error}") from None

    def _hello(self) -> Answer:
        return self._hear("LHLO" if self._target.lmtp else "EHLO", self._connection.ehlo())

    def _mail(self, mail: _Mail) -> Answer:
        options = [] if all(part.isascii() for part in (mail.sender, *mail.recipients)) else ["SMTPUTF8"]
        if self._connection.has_extn("size"):
            options.append(f"SIZE={len(mail.message)}")
        if not mail.message.isascii() and self._connection.has_extn("8bitmime"):
            options.append("BODY=8BITMIME")
        return self._hear(f"MAIL FROM:<{mail.sender}>", self._connection.mail(mail.sender, options))

    def _data(self, message: bytes, count: int) -> list[Answer]:
        """The answers to the message: one with SMTP, one for each recipient with LMTP (RFC 2033, section 4.2)."""
        try:
            first = self._hear("DATA", self._connection.data(message))
        except smtplib.SMTPDataError as error:
            text = error.smtp_error
            refusal = (error.smtp_code, text if isinstance(text, bytes) else text.encode())
            return [self._hear("DATA", refusal)] * count
        if not self._target.lmtp:
            return [first] * count
        return [first, *(self._hear("DATA", self._connection.getreply()) for _ in range(count - 1))]
