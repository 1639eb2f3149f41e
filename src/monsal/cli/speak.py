"""SMTP and LMTP as the commands speak them: one mail, blocking, every reply kept (RFC 5321, RFC 2033)."""

from __future__ import annotations

import contextlib
import smtplib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from monsal.address import split_address
from monsal.cli.exits import DATA, OK, TRY_AGAIN
from monsal.control import socket_name
from monsal.errors import MonsalError, UsageError

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
    said = Answer(0, "")

    def hear(command: str, reply: tuple[int, bytes]) -> Answer:
        nonlocal said
        said = Answer(reply[0], reply[1].decode("utf-8", "replace").replace("\n", " / "))
        report(command, said)
        return said

    try:
        with _connection(target, hear) as connection:
            if said.exit_code != OK:
                return [said] * len(recipients)
            return _transaction(connection, target, sender, recipients, message, hear)
    except smtplib.SMTPNotSupportedError as error:
        return [Answer(553, str(error))] * len(recipients)
    except (OSError, smtplib.SMTPException) as error:
        # After the connection was there: the server keeps its promise (P1), so without an answer nothing is sure.
        return [Answer(0, f"the connection broke: {error}")] * len(recipients)


class _UnixSMTP(smtplib.LMTP):
    """SMTP on a unix socket, which smtplib has for LMTP only."""

    ehlo_msg = "ehlo"


_Hear = Callable[[str, tuple[int, bytes]], Answer]


@contextmanager
def _connection(target: Door, hear: _Hear) -> Iterator[smtplib.SMTP]:
    kind = smtplib.LMTP if target.lmtp else _UnixSMTP if target.path is not None else smtplib.SMTP
    # A name is given, because without one smtplib asks the resolver for ours, which can hang.
    connection = kind(local_hostname="localhost", timeout=TIMEOUT)
    try:
        _connect(connection, target, hear)
        yield connection
    finally:
        connection.close()


def _connect(connection: smtplib.SMTP, target: Door, hear: _Hear) -> None:
    try:
        if target.path is not None:
            # An absolute name is what smtplib takes for the path of a socket.
            with socket_name(target.path.absolute()) as name:
                greeting = connection.connect(name, 0)
        else:
            greeting = connection.connect(target.host, target.port)
    except (OSError, smtplib.SMTPServerDisconnected) as error:
        raise Unreachable(f"nobody takes mail at {target}: {error}") from None
    hear("", greeting)


def _transaction(
    connection: smtplib.SMTP, target: Door, sender: str, recipients: Sequence[str], message: bytes, hear: _Hear
) -> list[Answer]:
    hello = hear("LHLO" if target.lmtp else "EHLO", connection.ehlo())
    if hello.exit_code != OK:
        return [hello] * len(recipients)
    options = [] if all(part.isascii() for part in (sender, *recipients)) else ["SMTPUTF8"]
    if connection.has_extn("size"):
        options.append(f"SIZE={len(message)}")
    if not message.isascii() and connection.has_extn("8bitmime"):
        options.append("BODY=8BITMIME")
    mail = hear(f"MAIL FROM:<{sender}>", connection.mail(sender, options))
    if mail.exit_code != OK:
        return [mail] * len(recipients)
    answers = [hear(f"RCPT TO:<{recipient}>", connection.rcpt(recipient)) for recipient in recipients]
    taken = [place for place, answer in enumerate(answers) if answer.exit_code == OK]
    if taken:
        for place, answer in zip(taken, _data(connection, target, len(taken), message, hear), strict=True):
            answers[place] = answer
    with contextlib.suppress(OSError, smtplib.SMTPException):
        connection.docmd("QUIT")  # the mail is settled already, whatever becomes of the connection
    return answers


def _data(connection: smtplib.SMTP, target: Door, count: int, message: bytes, hear: _Hear) -> list[Answer]:
    """The answers to the message: one with SMTP, one for each recipient with LMTP (RFC 2033, section 4.2)."""
    try:
        first = hear("DATA", connection.data(message))
    except smtplib.SMTPDataError as error:
        text = error.smtp_error
        return [hear("DATA", (error.smtp_code, text if isinstance(text, bytes) else text.encode()))] * count
    if not target.lmtp:
        return [first] * count
    return [first, *(hear("DATA", connection.getreply()) for _ in range(count - 1))]
