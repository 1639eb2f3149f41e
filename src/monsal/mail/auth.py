"""Is the correspondent who they say they are? (DESIGN 4, *Who writes*)

From can be forged by anybody. Two things are trusted: that the peer logged in (SMTP AUTH), and what the operator's own
upstream wrote into Authentication-Results (RFC 8601), if its authserv-id is pinned in the settings.

The upstream has to remove such fields with its own id from mail of strangers (RFC 8601, section 5, demands it). In case
it does not, only the topmost field of that id is believed: the upstream adds its own on top.
"""

from __future__ import annotations

import re

import msgspec

from monsal.address import fold
from monsal.mail.addresses import mailboxes, read_comment
from monsal.mail.envelope import Envelope
from monsal.mail.header import HeaderScan

__all__ = ["Auth", "authenticate"]

#: Longest Authentication-Results field that is read.
MAX_RESULTS = 16_384

# A quoted string that is never closed goes to the end: looked for from each quote, its end would take quadratic time.
_LEXICAL = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)(?:"|\\?\Z)|\(', re.DOTALL)
_NOT_PLAIN = re.compile(r"[^a-z0-9.@_\-]")
_RESULT = re.compile(r"([a-z0-9\-]{1,30})\s*(?:/\s*\d+\s*)?=\s*([a-z]{1,20})(.*)", re.DOTALL)
_PROPERTY = re.compile(r"([a-z]{1,30})\s*\.\s*([a-z0-9_\-]{1,60})\s*=\s*(\S+)")


class Auth(msgspec.Struct, frozen=True, kw_only=True):
    """What proves the correspondent.

    `method` is what was decisive: `smtp` (login), `dmarc`, `dkim` or `spf`, empty if nothing was. `user` is the name
    that logged in; that alone proves nothing, because a user may write any From. `dmarc`, `dkim`, `spf` are the words
    of the pinned upstream (RFC 8601, section 2.7), empty if it said nothing; of several DKIM signatures the one that
    proves, else the first.
    """

    method: str = ""
    user: str | None = None
    dmarc: str = ""
    dkim: str = ""
    spf: str = ""

    @property
    def authenticated(self) -> bool:
        """Whether the correspondent is proved."""
        return self.method != ""


def authenticate(scan: HeaderScan, envelope: Envelope | None, correspondent: str, authserv_id: str | None) -> Auth:
    """What proves `correspondent` (folded). `authserv_id` is the upstream's name for itself; None trusts none."""
    user = envelope.user if envelope is not None else None
    results = _results(scan, authserv_id) if authserv_id else []
    domain = correspondent.rpartition("@")[2]
    words = {"dmarc": "", "dkim": "", "spf": ""}
    proved: set[str] = set()
    for method, result, properties in results:
        if method not in words:
            continue
        proves = result == "pass" and _proves(method, properties, scan, correspondent, domain)
        if proves or not words[method]:
            words[method] = result
        if proves:
            proved.add(method)
    by_login = envelope is not None and user is not None and _may_write(user, envelope.may_write, correspondent)
    order = [method for method in ("dmarc", "dkim", "spf") if method in proved]
    return Auth(method="smtp" if by_login else (order[0] if order else ""), user=user, **words)


def _may_write(user: str, listed: tuple[str, ...], correspondent: str) -> bool:
    """Whether who has logged in may write as the correspondent: a name that is the address, or one that is listed."""
    domain = correspondent.rpartition("@")[2]
    return correspondent == fold(user) or any(each in (correspondent, f"@{domain}") for each in map(fold, listed))


def _proves(method: str, properties: dict[str, str], scan: HeaderScan, correspondent: str, domain: str) -> bool:
    """Whether a passed check is about the correspondent's domain."""
    if not domain:
        return False
    if scan.correspondent != correspondent:
        # The correspondent was taken from the envelope, of which only SPF says something.
        return method == "spf" and _aligned(_domain_of(properties, "smtp.mailfrom"), domain)
    if len(scan.get_all("from")) != 1 or len(mailboxes(scan.get("from") or "", 2)) != 1:
        # With two addresses in From it is not known which one was checked.
        return False
    if method == "dmarc":
        return properties.get("header.from", domain) == domain
    if method == "dkim":
        return _aligned(properties.get("header.d") or _domain_of(properties, "header.i"), domain)
    return _aligned(_domain_of(properties, "smtp.mailfrom"), domain)


def _domain_of(properties: dict[str, str], name: str) -> str:
    return properties.get(name, "").rpartition("@")[2]


def _aligned(authority: str, domain: str) -> bool:
    """Whether `authority` is the domain or a parent of it.

    Narrower than the relaxed alignment of RFC 7489, section 3.1: without a list of public suffixes a sibling or a
    child could be anybody.
    """
    return authority != "" and "." in authority and (domain == authority or domain.endswith("." + authority))


def _results(scan: HeaderScan, authserv_id: str) -> list[tuple[str, str, dict[str, str]]]:
    """Method, result and properties of each entry in the topmost field of that id; all in lower case."""
    for value in scan.get_all("authentication-results"):
        if len(value) > MAX_RESULTS:
            continue
        name, *entries = _bare(value.lower()).split(";")
        if (name.split() or [""])[0] == authserv_id.lower():
            return [found for entry in entries if (found := _entry(entry)) is not None]
    return []


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


def _entry(text: str) -> tuple[str, str, dict[str, str]] | None:
    match = _RESULT.match(text.strip())
    if match is None:
        return None
    found = {f"{kind}.{name}": fold(value.strip("<>,")) for kind, name, value in _PROPERTY.findall(match.group(3))}
    return match.group(1), match.group(2), found
