"""The relay that sends nothing: it files each mail in a maildir, for development and tests.

A file holds what would have been sent, byte for byte, below two lines with its envelope: `X-Envelope-From` (`<>` for
the empty sender) and `X-Envelope-To`. There is one file per recipient.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from monsal.conversation.ports import Deferred, Delivered, Outcome, RelayMail

__all__ = ["CaptureRelay", "CaptureStatistics"]


class CaptureStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Since the start: files written and mails that could not be. `reason` says why the last one could not."""

    delivered: int
    deferred: int
    reason: str


class CaptureRelay:
    """A `Relay` that files mail in the maildir `directory`, which is made when the first mail comes.

    The name of a file follows from Message-ID and recipient, so a mail that is sent again after a crash replaces
    itself and is not there twice. A mail is in `new` only when it reached the disk.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._executor: ThreadPoolExecutor | None = None
        self._delivered = 0
        self._deferred = 0
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why mail cannot be filed at the moment; empty if it can."""
        return self._reason

    @property
    def healthy(self) -> bool:
        """Whether the last mail could be filed."""
        return not self._reason

    def statistics(self) -> CaptureStatistics:
        return CaptureStatistics(delivered=self._delivered, deferred=self._deferred, reason=self._reason)

    async def send(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        """File each mail; for each mail one outcome per recipient, in order. Raises nothing but cancellation."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="monsal-capture")
        loop = asyncio.get_running_loop()
        outcomes = await loop.run_in_executor(self._executor, self._file_all, mails)
        for outcome in (outcome for row in outcomes for outcome in row):
            if isinstance(outcome, Delivered):
                self._delivered += 1
                self._reason = ""
            else:
                self._deferred += 1
                self._reason = outcome.reason
        return outcomes

    async def close(self) -> None:
        """Give the thread back."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None

    # In the thread

    def _file_all(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        try:
            for name in ("tmp", "new", "cur"):
                (self.directory / name).mkdir(parents=True, exist_ok=True)
            outcomes = [self._file(mail) for mail in mails]
            _sync(self.directory / "new")  # once for all of them
        except OSError as error:
            failed = _deferred(error)
            return [[failed] * len(mail.recipients) for mail in mails]
        return outcomes

    def _file(self, mail: RelayMail) -> list[Outcome]:
        try:
            body = mail.body if isinstance(mail.body, bytes) else mail.body.read_bytes()
            return [self._write(mail, recipient, body) for recipient in mail.recipients]
        except OSError as error:
            return [_deferred(error)] * len(mail.recipients)

    def _write(self, mail: RelayMail, recipient: str, body: bytes) -> Outcome:
        name = _name(mail.message_id, recipient)
        # No Path of each: it would intern the name, and the table of such texts only ever grows.
        partial = os.path.join(self.directory, "tmp", name)
        with open(partial, "wb") as file:
            file.write(_envelope(mail.sender, recipient))
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, os.path.join(self.directory, "new", name))
        return Delivered(f"filed as {name}")


def _name(message_id: str, recipient: str) -> str:
    digest = hashlib.sha256(f"{message_id}\0{recipient}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"{digest[:32]}.monsal"


def _envelope(sender: str, recipient: str) -> bytes:
    lines = f"X-Envelope-From: {_plain(sender) or '<>'}\r\nX-Envelope-To: {_plain(recipient)}\r\n"
    return lines.encode("utf-8", "replace")


def _plain(address: str) -> str:
    """Without what would end the line: a captured address must not forge a header."""
    return "".join(char if char.isprintable() else "?" for char in address)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _deferred(error: OSError) -> Deferred:
    return Deferred(f"cannot be filed: {error}", whole_relay=True)
