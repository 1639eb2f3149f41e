"""The envelope: what SMTP says about a message, beside its bytes (RFC 5321, section 2.3.1)."""

from __future__ import annotations

import msgspec

__all__ = ["Envelope"]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who sends to whom, and over which connection.

    `sender` is the reverse-path, empty for a bounce; `recipients` are bare addresses as the peer wrote them.
    `peer` is the other side's address and port, or a path; `hello` what it called itself; `protocol` is one of
    SMTP, ESMTP, LMTP, LOCAL (RFC 3848); `user` the name proved by SMTP AUTH; `tls` whether the link was encrypted.
    `confirmed` says that the correspondent has confirmed the message.
    """

    sender: str
    recipients: tuple[str, ...]
    peer: str = ""
    hello: str = ""
    protocol: str = "LOCAL"
    user: str | None = None
    tls: bool = False
    confirmed: bool = False
