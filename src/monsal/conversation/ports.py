"""What a conversation needs from outside: something that sends mail, and how it says what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["Begun", "Deferred", "Delivered", "EarlyRelay", "Failed", "LanedRelay", "Outcome", "Relay", "RelayMail"]


class RelayMail(msgspec.Struct, frozen=True, kw_only=True):
    """One mail for a relay: `body` is the rendered message with CRLF line ends, or a file of it."""

    sender: str
    recipients: tuple[str, ...]
    message_id: str
    body: bytes | Path


class Delivered(msgspec.Struct, frozen=True):
    """The next hop took the mail for this recipient. `reply` is its last answer, for example `250 2.0.0 queued`."""

    reply: str = ""


class Deferred(msgspec.Struct, frozen=True):
    """Not now. With `whole_relay` nothing can be sent at all (no connection, refused before RCPT): health turns red.

    `retry_after` is how long, in seconds, the relay will not even try; 0 if it does not say.
    """

    reason: str
    whole_relay: bool = False
    retry_after: float = 0.0


class Failed(msgspec.Struct, frozen=True):
    """Refused for good: a 5xx to RCPT or after DATA, and nothing else (DESIGN 4, *Relay*)."""

    reason: str


Outcome = Delivered | Deferred | Failed


class Relay(Protocol):
    """Sends rendered mail to the outside."""

    async def send(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        """Try each mail once; for each mail one outcome per recipient, in order. Raises nothing but cancellation."""
        ...

    async def close(self) -> None:
        """Give back all connections."""
        ...


class Begun(Protocol):
    """A mail whose envelope the next hop was told. One of `release` and `abandon` follows, once."""

    def release(self) -> None:
        """Let its content leave."""
        ...

    def abandon(self) -> None:
        """See to it that its content never leaves."""
        ...

    async def outcomes(self) -> list[Outcome]:
        """After `release`: one outcome per recipient, in order. Raises nothing but cancellation."""
        ...


@runtime_checkable
class EarlyRelay(Relay, Protocol):
    """A relay that can be told of a mail before it may leave, so that it loses no time then."""

    def begin(self, mail: RelayMail) -> Begun | None:
        """Prepare the sending of a mail; None if it cannot. Nothing of its content leaves before `Begun.release`."""
        ...


@runtime_checkable
class LanedRelay(Relay, Protocol):
    """A relay that has no one next hop: what happens in one lane has no effect on another.

    The outbox gives it the recipients of one lane at a time, and settles each lane by itself.
    """

    @property
    def reason(self) -> str:
        """Why nothing can be sent in any lane, as it seems; empty if something can."""
        ...

    def lane(self, recipient: str) -> str:
        """The lane of a recipient."""
        ...
