"""What a store knows of mail that came back: which of ours it was, what is said of it, who is not written to."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

__all__ = ["Bounced", "SentMail", "Suppressions"]


class SentMail(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A mail that a turn sent, found by the token in its envelope sender.

    `handler` is that of the turn, `key` and `sender` name its conversation, `lease_key` is the queue of the row that
    it handled, `correspondent` who had written and `address` to which of our addresses. `recipients` are those of the
    mail.
    """

    token: str
    message_id: str
    handler: str
    key: str
    sender: str
    lease_key: str
    correspondent: str
    address: str
    recipients: tuple[str, ...]


class Bounced(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a report says of one recipient of a mail of ours; kept once for each row and address.

    `hard` puts the address on the list of those that are not written to. Failures that are not hard do so for a while
    when they are many (`EngineSettings.soft_limit`).
    """

    address: str
    token: str
    kind: Literal["failure", "delay", "success", "complaint"]
    hard: bool
    reason: str = ""
    status: str = ""
    detail: str = ""


class Suppressions(Protocol):
    """The part of a store that is about mail which came back."""

    async def sent(self, token: str) -> SentMail | None:
        """The mail with this token, None if no turn of this store made it, or that is forgotten by now."""
        ...

    async def suppress(self, address: str, reason: str, now: float, until: float | None = None) -> None:
        """Do not write to an address any more, until a time or for good."""
        ...

    async def unsuppress(self, address: str) -> bool:
        """Write to an address again, and forget its soft failures; whether it was on the list."""
        ...
