"""The envelope: what SMTP says about a message, beside its bytes (RFC 5321, section 2.3.1)."""

from __future__ import annotations

import msgspec

__all__ = ["Envelope"]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends to whom, and over which connection.

    `sender` is the reverse-path, empty for a bounce; `recipients` are bare addresses as the peer wrote them.
    `peer` is the other side's address and port, or a path; `hello` what it called itself; `protocol` is one of
    SMTP, ESMTP, LMTP, the latter two with S for TLS and A for a login (RFC 3848), or LOCAL; `user` the name proved by
    SMTP AUTH, `may_write` the addresses (or `@domain`) as which that user may write besides; `tls` whether the link was
    encrypted.
    """

    sender: str
    recipients: tuple[str, ...]
    peer: str = ""
    hello: str = ""
    protocol: str = "LOCAL"
    user: str | None = None
    tls: bool = False
    may_write: tuple[str, ...] = ()
