"""The envelope: what SMTP says about a message, beside its bytes (RFC 5321, section 2.3.1)."""

from __future__ import annotations

import msgspec

__all__ = ["Checks", "Envelope", "Verdict"]


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of one check in a word of RFC 8601, section 2.7, and the domain that it is about.

    Both are empty if nobody checked; the domain also if the check names none.
    """

    result: str = ""
    domain: str = ""


class Checks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The results of a check of our own: SPF (RFC 7208), DKIM (RFC 6376), DMARC (RFC 7489) and ARC (RFC 8617)."""

    spf: Verdict = Verdict()
    dkim: Verdict = Verdict()
    dmarc: Verdict = Verdict()
    arc: Verdict = Verdict()


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who sends to whom, and over which connection.

    `sender` is the reverse-path, empty for a bounce; `recipients` are bare addresses as the peer wrote them.
    `peer` is the other side's address and port, or a path; `hello` what it called itself; `protocol` is one of
    SMTP, ESMTP, LMTP, the latter two with S for TLS and A for a login (RFC 3848), or LOCAL; `user` the name proved by
    SMTP AUTH, `may_write` the addresses (or `@domain`) as which that user may write besides; `tls` whether the link was
    encrypted. `confirmed` says that the correspondent has confirmed the message; `checks` is what a check of our own
    found.
    """

    sender: str
    recipients: tuple[str, ...]
    peer: str = ""
    hello: str = ""
    protocol: str = "LOCAL"
    user: str | None = None
    tls: bool = False
    may_write: tuple[str, ...] = ()
    confirmed: bool = False
    checks: Checks | None = None
