"""What goes into `client.ClientProtocol` and what comes out of it: records without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from monsal.errors import ProtocolError
from monsal.smtp.endpoint import Credentials
from monsal.smtp.replies import Reply

__all__ = [
    "BodyWanted",
    "ClientEvent",
    "ClientReady",
    "ClientSettings",
    "ConnectionGivenUp",
    "RecipientResult",
    "Stage",
    "TlsWanted",
    "Transaction",
    "TransactionDone",
]

#: Where a recipient's result was decided. `address`, `size`, `utf8` and `8bit` are our own word before anything was
#: sent; `lost` means that the connection ended when part of the transaction was answered.
Stage = Literal["address", "size", "utf8", "8bit", "mail", "rcpt", "data", "body", "lost"]


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`hello` is our name in EHLO, a domain or an address literal such as `[192.0.2.1]`; with `lmtp` the peer speaks
    LMTP; `pipelining=False` goes in lock-step even if the peer could do more. The last two bound its replies.

    `starttls` says whether the connection is to be secured in mid-dialogue; `secured` that nobody else hears it from
    the beginning (TLS, loopback, a unix socket). With `credentials` the client says who it is, on a secured one only.
    """

    hello: str = "localhost"
    lmtp: bool = False
    starttls: Literal["off", "opportunistic", "require"] = "off"
    secured: bool = False
    credentials: Credentials | None = None
    pipelining: bool = True
    max_line: int = 2048
    max_lines: int = 128


class Transaction(msgspec.Struct, kw_only=True, eq=False):
    """One mail for one or more recipients (RFC 5321, section 3.3), to be extended by what its owner knows of it.

    `body` is the message; None if it comes in pieces after `BodyWanted`, then `size` says how long it is (in octets,
    for the peer's SIZE; 0 if not known). Of one that is `held` the peer gets the envelope, and the content only after
    `release`. The client changes nothing of it, and names it in its events.
    """

    sender: str
    recipients: tuple[str, ...]
    body: bytes | None
    size: int = 0
    held: bool = False


class RecipientResult(msgspec.Struct, frozen=True):
    """What became of one recipient: where that was decided, and the peer's reply or, without one, a reason."""

    stage: Stage
    reply: Reply | None
    reason: str = ""

    def __str__(self) -> str:
        return self.reason if self.reply is None else str(self.reply)


class ClientReady(msgspec.Struct, frozen=True):
    """Greeting and hello are done. `extensions` has the peer's EHLO keywords in upper case and their parameters."""

    extensions: Mapping[str, str]


class TlsWanted(msgspec.Struct, frozen=True):
    """The peer waits for the handshake: make it, then call `tls_started`."""


class BodyWanted(msgspec.Struct, frozen=True):
    """The peer waits for the content of this transaction: call `send_body` for each piece, then `end_body`."""

    transaction: Any


class TransactionDone(msgspec.Struct, frozen=True):
    """A transaction is over; `results` has one entry per recipient, in order."""

    transaction: Any
    results: tuple[RecipientResult, ...]


class ConnectionGivenUp(msgspec.Struct, frozen=True):
    """The last event: send what `data_to_send` still gives and close.

    `untouched` lists the transactions of which the peer answered nothing and got no content, so that they may be sent
    over another connection without risk; `error` is set if the peer broke the protocol; `clean` after our QUIT.
    """

    reason: str
    untouched: tuple[Any, ...] = ()
    reply: Reply | None = None
    error: ProtocolError | None = None
    clean: bool = False


ClientEvent = ClientReady | TlsWanted | BodyWanted | TransactionDone | ConnectionGivenUp
