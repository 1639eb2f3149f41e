"""Is the correspondent who they say they are? (DESIGN 4, *Who writes*)

From can be forged by anybody. These are trusted: that the peer logged in (SMTP AUTH); what the operator's own border
wrote into Authentication-Results (RFC 8601), if its authserv-id is pinned in the settings; a check of our own, where
that is switched on; and the correspondent's own word, given by mail to an address that only they were told.

The border has to remove such fields with its own id from all mail that it takes (RFC 8601, section 5, demands it). In
case it does not: only fields above the first Received line of a stranger are read, and of several the topmost one that
speaks of a method, because the border adds its own on top.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from monsal.address import fold
from monsal.mail.addresses import mailboxes, read_comment
from monsal.mail.envelope import Checks, Envelope, Verdict
from monsal.mail.header import HeaderScan

__all__ = ["Auth", "Upstream", "authenticate"]

#: Longest Authentication-Results field that is read, and the most of them.
MAX_RESULTS = 16_384
MAX_FIELDS = 20

# A quoted string that is never closed goes to the end: looked for from each quote, its end would take quadratic time.
_LEXICAL = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)(?:"|\\?\Z)|\(', re.DOTALL)
_NAME = re.compile(rb"[ \t\r\n]*+([^ \t\r\n;(\"]++)(?=[ \t\r\n;(]|\Z)")
_NOT_PLAIN = re.compile(r"[^a-z0-9.@_\-]")
_RESULT = re.compile(r"([a-z0-9\-]{1,30})\s*(?:/\s*\d+\s*)?=\s*([a-z]{1,20})(.*)", re.DOTALL)
_PROPERTY = re.compile(r"([a-z]{1,30})\s*\.\s*([a-z0-9_\-]{1,60})\s*=\s*(\S+)")

_METHODS = ("dmarc", "dkim", "spf", "arc")


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Whose word is believed: `authserv_id` is the border's name for itself (None: nobody's), `hops` how many Received
    lines from the top are those of our own machines.

    `organization(domain)` gives the organizational domain (RFC 7489, section 3.2); without it a domain is aligned with
    itself and with the domains below it, which is narrower than relaxed alignment and needs no list.
    """

    authserv_id: str | None = None
    hops: int = 1
    organization: Callable[[str], str] | None = None


class Auth(msgspec.Struct, frozen=True, kw_only=True):
    """What proves the correspondent.

    `method` is what was decisive: `smtp` (login), `dmarc`, `dkim`, `spf` or `confirmed`, empty if nothing was. `user`
    is the name that logged in; that alone proves nothing, because a user may write any From. `spf`, `dkim`, `dmarc`,
    `arc` are what was found of each; of several DKIM signatures the one that proves, else the first. `source` says
    whose word that is: "smtp auth", "authentication-results of NAME", "own check", "confirmation", or "none". `refuted`
    is the method by which the correspondent's own domain says that it is not from there; empty if none does.
    """

    method: str = ""
    user: str | None = None
    spf: Verdict = Verdict()
    dkim: Verdict = Verdict()
    dmarc: Verdict = Verdict()
    arc: Verdict = Verdict()
    source: str = "none"
    refuted: str = ""

    @property
    def authenticated(self) -> bool:
        """Whether the correspondent is proved."""
        return self.method != ""


class _Entry(msgspec.Struct, frozen=True):
    """One result; the domain is that which the method authenticates, `field` tells those of one field from others."""

    method: str
    result: str
    domain: str
    field: int = 0


def authenticate(scan: HeaderScan, envelope: Envelope | None, correspondent: str, upstream: Upstream) -> Auth:
    """What proves `correspondent` (folded). Never raises, whatever stands in the header."""
    user = envelope.user if envelope is not None else None
    entries, source = _results(scan, upstream), f"authentication-results of {upstream.authserv_id}"
    if not entries and envelope is not None and envelope.checks is not None:
        entries, source = _own(envelope.checks), "own check"
    found: dict[str, Verdict] = {}
    proved: set[str] = set()
    for entry in entries:
        proves = entry.result == "pass" and _proves(entry, entries, scan, correspondent, upstream)
        if entry.method not in found or (proves and entry.method not in proved):
            found[entry.method] = Verdict(entry.result, entry.domain)
        if proves:
            proved.add(entry.method)
    if "dmarc" in found and found["dmarc"].result == "fail":
        # The domain's own policy, which may ask for strict alignment, has the last word.
        proved.clear()
    method = next((method for method in ("dmarc", "dkim", "spf") if method in proved), "")
    if envelope is not None and user is not None and _may_write(user, envelope.may_write, correspondent):
        method, source = "smtp", "smtp auth"
    elif not method and envelope is not None and envelope.confirmed:
        method, source = "confirmed", "confirmation"
    refuted = "" if method else _refuted(entries, found, correspondent, upstream)
    return Auth(method=method, user=user, source=source if found or method else "none", refuted=refuted, **found)


def _refuted(entries: list[_Entry], found: dict[str, Verdict], correspondent: str, upstream: Upstream) -> str:
    """The method by which the domain of `correspondent` says that it has not sent this; empty if none does.

    DMARC has the last word (RFC 7489, section 6.6.2); where the domain has no policy, that of its own SPF (`fail`, not
    `softfail`: RFC 7208, section 8.4) or DKIM counts, if nothing of the same method has passed for it.
    """
    if "dmarc" in found and found["dmarc"].result in ("pass", "fail"):
        return "dmarc" if found["dmarc"].result == "fail" else ""
    domain = correspondent.rpartition("@")[2]
    for method in ("spf", "dkim"):
        results = {each.result for each in entries if each.method == method and _aligned(each.domain, domain, upstream)}
        if "fail" in results and "pass" not in results:
            return method
    return ""


def _may_write(user: str, listed: tuple[str, ...], correspondent: str) -> bool:
    """Whether who has logged in may write as the correspondent: a name that is the address, or one that is listed."""
    domain = correspondent.rpartition("@")[2]
    return correspondent == fold(user) or any(each in (correspondent, f"@{domain}") for each in map(fold, listed))


def _proves(entry: _Entry, entries: list[_Entry], scan: HeaderScan, correspondent: str, upstream: Upstream) -> bool:
    """Whether a passed check is about the correspondent's domain.

    DMARC passes for the domain of one From field (RFC 7489, section 3), which `header.from` names (section 11.1; RFC
    8601, section 2.3, has the properties). Where a border leaves it out, nobody knows which From it looked at, so that
    counts no more than the DKIM or SPF of the same field do: those are what DMARC rests on (RFC 7489, section 4.2).
    """
    domain = correspondent.rpartition("@")[2]
    if not domain:
        return False
    if scan.correspondent != correspondent:
        # The correspondent was taken from the envelope, of which only SPF says something.
        return entry.method == "spf" and _aligned(entry.domain, domain, upstream)
    if len(scan.get_all("from")) != 1 or len(mailboxes(scan.get("from") or "", 2)) != 1:
        # With two addresses in From it is not known which one was checked.
        return False
    if entry.method == "dmarc" and entry.domain:
        return entry.domain == domain
    if entry.method == "dmarc":
        beside = [other for other in entries if other.field == entry.field and other.method in ("dkim", "spf")]
        return any(other.result == "pass" and _aligned(other.domain, domain, upstream) for other in beside)
    return entry.method in ("dkim", "spf") and _aligned(entry.domain, domain, upstream)


def _domain_of(properties: dict[str, str], name: str) -> str:
    return properties.get(name, "").rpartition("@")[2]


def _aligned(authority: str, domain: str, upstream: Upstream) -> bool:
    """Whether `authority` speaks for the domain (RFC 7489, section 3.1)."""
    if "." not in authority:
        return False
    if upstream.organization is not None:
        own = upstream.organization(domain)
        return own != "" and upstream.organization(authority) == own
    return domain == authority or domain.endswith("." + authority)


def _own(checks: Checks) -> list[_Entry]:
    return [
        _Entry(method, verdict.result, fold(verdict.domain))
        for method in _METHODS
        if (verdict := getattr(checks, method)).result
    ]


def _results(scan: HeaderScan, upstream: Upstream) -> list[_Entry]:
    """The entries of the fields that count, in lower case: for each method those of one field."""
    if not upstream.authserv_id:
        return []
    found: list[_Entry] = []
    known: set[str] = set()
    for number, value in enumerate(_fields_above(scan, upstream.authserv_id, upstream.hops)[:MAX_FIELDS]):
        _, *texts = _bare(value.lower()).split(";")
        read = (_entry(text, number) for text in texts)
        entries = [entry for entry in read if entry is not None and entry.method not in known]
        known |= {entry.method for entry in entries}
        found += entries
    return found


def _is_named(raw: bytes, authserv_id: str) -> bool:
    """Whether a field has the name of the border, octet by octet but for the case of ASCII letters.

    A border removes what has its own name; what only becomes the same when it is decoded, as U+212A is a k in small
    letters, U+00A0 a blank, and a comment in the middle nothing, was left where a stranger had put it.
    """
    match = _NAME.match(raw)
    return match is not None and match.group(1).lower() == authserv_id.encode("utf-8", "surrogateescape").lower()


def _fields_above(scan: HeaderScan, authserv_id: str, hops: int) -> list[str]:
    """The Authentication-Results of the border above the first Received line that is not of our own machines."""
    values = scan.get_all("authentication-results")
    found: list[str] = []
    received = count = 0
    for name, raw in scan.raw_fields:
        key = name.lower()
        if key == b"received":
            received += 1
            if received > hops:
                break
        elif key == b"authentication-results":
            if _is_named(raw, authserv_id):
                found.append(values[count])
            count += 1
    return [value for value in found if len(value) <= MAX_RESULTS]


def _bare(text: str) -> str:
    """Without comments, and with quoted strings as bare words: what they hide cannot pass for an entry."""
    out: list[str] = []
    position = 0
    while match := _LEXICAL.search(text, position):
        out.append(text[position : match.start()])
        if match.group() == "(":
            _, position = read_comment(text, match.end())
        else:
            out.append(_NOT_PLAIN.sub("_", match.group(1)))
            position = match.end()
    out.append(text[position:])
    return "".join(out)


def _entry(text: str, field: int) -> _Entry | None:
    match = _RESULT.match(text.strip())
    if match is None or match.group(1) not in _METHODS:
        return None
    method = match.group(1)
    found = {f"{kind}.{name}": fold(value.strip("<>,")) for kind, name, value in _PROPERTY.findall(match.group(3))}
    if method == "dkim":
        domain = found.get("header.d") or _domain_of(found, "header.i")
    elif method == "spf":
        domain = _domain_of(found, "smtp.mailfrom")
    else:
        domain = _domain_of(found, "header.from")
    return _Entry(method, match.group(2), domain, field)
