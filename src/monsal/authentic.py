"""Our own check of where a mail comes from, for servers that have no border doing it: SPF, DKIM, DMARC, ARC.

The verifying is done by dkimpy and pyspf, which the extra `auth` brings, with the list of public suffixes that comes
with authheaders. Here is what they leave open: one look-up for all of them, one deadline for all look-ups, and that
trouble with the DNS is never a result (RFC 8601, section 2.7: temperror).

It blocks, for as long as the deadline allows: call it where handlers run. Nothing is imported before it is needed.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from monsal.config import Settings
from monsal.errors import ConfigError
from monsal.mail import Checks, Envelope, Message, Verdict

__all__ = ["Lookup", "check", "checker", "dns_lookup", "organization"]

log = logging.getLogger("monsal.auth")

#: `lookup(name, type, seconds)` gives the answers, none if there are none: bytes for TXT, text for A, AAAA and PTR,
#: (preference, name) for MX. It raises OSError (TimeoutError among them) if it cannot know.
Lookup = Callable[[str, str, float], list[Any]]

#: Seconds for one look-up, at most.
_PATIENCE: Final = 5.0
#: Signatures of one mail that are verified: each costs a look-up and a verification (P7).
_MAX_SIGNATURES: Final = 5
_NEEDED: Final = ("dkim", "spf", "publicsuffix2", "authheaders", "dns")

# dkimpy logs what strangers wrote, on every level; what matters is in the result.
_silent = logging.Logger("monsal.auth.silent", logging.CRITICAL + 1)


def checker(settings: Settings, lookup: Lookup | None = None) -> Callable[[Message], Checks]:
    """What checks a message. Raises ConfigError if the extra `auth` is not installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError("check_auth needs the extra `auth`: pip install 'monsal[auth]'")
    return lambda message: check(message, lookup or dns_lookup, seconds=settings.check_auth_within)


def organization() -> Callable[[str], str] | None:
    """What gives the organizational domain of a domain (RFC 7489, section 3.2); None without the extra `auth`."""
    if find_spec("authheaders") is None or find_spec("publicsuffix2") is None:
        return None
    return _organization


@lru_cache(maxsize=4096)
def _organization(domain: str) -> str:
    return str(_suffixes().get_public_suffix(domain) or "")


@lru_cache(maxsize=1)
def _suffixes() -> Any:
    # Its place only: the package itself is not needed, and imports much.
    spec = find_spec("authheaders")
    assert spec is not None
    assert spec.origin is not None
    with (Path(spec.origin).parent / "public_suffix_list.txt").open(encoding="utf-8") as text:
        return import_module("publicsuffix2").PublicSuffixList(text)


def dns_lookup(name: str, kind: str, seconds: float) -> list[Any]:
    """Ask the system's resolvers. See `Lookup`."""
    resolver, errors = import_module("dns.resolver"), import_module("dns.exception")
    try:
        answers = resolver.resolve(name, kind, lifetime=seconds, search=False)
    except (resolver.NXDOMAIN, resolver.NoAnswer):
        return []
    except errors.Timeout as error:
        raise TimeoutError(f"the DNS did not answer for {name}") from error
    except errors.DNSException as error:
        raise OSError(f"the DNS cannot say anything about {name}: {error}") from error
    if kind == "TXT":
        return [b"".join(answer.strings) for answer in answers]
    if kind == "MX":
        return [(answer.preference, answer.exchange.to_text(True)) for answer in answers]
    if kind == "PTR":
        return [answer.target.to_text(True) for answer in answers]
    return [answer.address for answer in answers]


class _Resolver:
    """The look-ups of one message: one deadline for all, and what went wrong."""

    def __init__(self, lookup: Lookup, seconds: float) -> None:
        self._lookup = lookup
        self._ends = time.monotonic() + seconds
        self.trouble: OSError | None = None

    def ask(self, name: str, kind: str) -> list[Any]:
        left = self._ends - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError(f"no time was left to ask for {name}")
            return self._lookup(name.rstrip(".").lower(), kind, min(_PATIENCE, left))
        except OSError as error:
            self.trouble = error
            raise

    def txt(self, name: str | bytes, timeout: float = _PATIENCE) -> bytes | None:
        """As dkimpy asks: the record of a key."""
        try:
            text = name.decode("ascii") if isinstance(name, bytes) else name
        except UnicodeDecodeError:
            return None
        found = self.ask(text, "TXT")
        return found[0] if found else None


def check(message: Message, lookup: Lookup, *, seconds: float) -> Checks:
    """All that can be found out within `seconds`. Never raises for what a mail or the DNS says."""
    resolver = _Resolver(lookup, seconds)
    domain = (message.header.correspondent or "").rpartition("@")[2]
    spf = _guarded("spf", resolver, lambda: _spf(message.envelope, resolver))
    dkim = _guarded("dkim", resolver, lambda: _dkim(message.raw, domain, resolver))
    arc = _guarded("arc", resolver, lambda: _arc(message.raw, resolver))
    many = len(message.header.get_all("from")) != 1
    dmarc = (
        Verdict("permerror")
        if many or not domain
        else _guarded("dmarc", resolver, lambda: _dmarc(domain, spf, dkim, resolver))
    )
    return Checks(spf=spf, dkim=dkim, dmarc=dmarc, arc=arc)


def _guarded(method: str, resolver: _Resolver, function: Callable[[], Verdict]) -> Verdict:
    """A check whose look-ups failed says nothing, whatever its library made of that; nor does one that broke."""
    resolver.trouble = None
    try:
        verdict = function()
    except OSError as error:
        log.warning("%s could not be checked: %s", method, error, extra={"action": "auth_trouble"})
        return Verdict("temperror")
    except Exception as error:  # noqa: BLE001 - foreign code, fed by strangers; what it raises is a result like others
        log.info("%s could not be checked: %r", method, error, extra={"action": "auth_error"})
        return Verdict("permerror")
    if resolver.trouble is not None and verdict.result != "pass":
        return Verdict("temperror", verdict.domain)
    return verdict


def _spf(envelope: Envelope | None, resolver: _Resolver) -> Verdict:
    """RFC 7208. What comes from this host or network has no address that anybody could have listed."""
    address = None if envelope is None else _address_of(envelope.peer)
    if envelope is None or address is None:
        return Verdict("none")
    spf = import_module("spf")

    def dns(query: Any, name: str, qtype: str, cnames: Any = None, ignore_void: bool = False) -> list[Any]:
        if not name or any(not 0 < len(label) < 64 for label in name.rstrip(".").split(".")):
            return []
        try:
            found = resolver.ask(name, qtype)
        except OSError as error:
            raise spf.TempError(f"DNS {error}") from error
        if not found and not ignore_void:
            query.void_lookups += 1
            if query.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError("too many look-ups without an answer")
        return [(item,) for item in found] if qtype in ("TXT", "SPF") else found

    # A subclass, because pyspf asks a resolver of its own choice; made here, because it is imported here.
    query = type("Query", (spf.query,), {"dns": dns})(
        address, envelope.sender, envelope.hello or "unknown", strict=1, timeout=_PATIENCE, querytime=0
    )
    result = str(query.check()[0])
    # Without an envelope sender the name of the host was checked, which says nothing about From.
    return Verdict(result, envelope.sender.rpartition("@")[2].lower())


def _address_of(peer: str) -> str | None:
    host = peer.rpartition(":")[0].strip("[]") if peer.count(":") != 0 else peer
    for text in (host, peer.strip("[]")):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        return str(address) if address.is_global else None
    return None


def _dkim(raw: bytes, domain: str, resolver: _Resolver) -> Verdict:
    """RFC 6376. Of several signatures the one that passes and is aligned with `domain`, else one that passes."""
    dkim = import_module("dkim")

    verifier = dkim.DKIM(raw, logger=_silent, minkey=1024)
    count = sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)
    found: list[Verdict] = []
    for number in range(min(count, _MAX_SIGNATURES)):
        resolver.trouble = None
        try:
            result = "pass" if verifier.verify(idx=number, dnsfunc=resolver.txt) else "fail"
        except OSError:
            result = "temperror"
        except dkim.ValidationError:
            result = "fail"
        except dkim.DKIMException:
            result = "permerror"
        fields = verifier.signature_fields
        if result == "pass" and b"l" in fields:
            # Whatever stands below the octets that were signed is anybody's (RFC 6376, section 8.2).
            result = "policy"
        if resolver.trouble is not None and result != "pass":
            result = "temperror"
        found.append(Verdict(result, fields.get(b"d", b"").decode("ascii", "replace").lower()))
    if not found:
        return Verdict("none")
    passed = [verdict for verdict in found if verdict.result == "pass"]
    aligned = [verdict for verdict in passed if _organization(verdict.domain) == _organization(domain)]
    resolver.trouble = None
    return [*aligned, *passed, *found][0]


def _arc(raw: bytes, resolver: _Resolver) -> Verdict:
    """RFC 8617: whether the chain is whole, and who sealed last. It proves nothing by itself."""
    dkim = import_module("dkim")

    verifier = dkim.ARC(raw, logger=_silent, minkey=1024)
    if not any(name.lower() == b"arc-seal" for name, _ in verifier.headers):
        return Verdict("none")
    state, sealed, _ = verifier.verify(dnsfunc=resolver.txt)
    domain = sealed[0].get("as-domain", b"") if sealed else b""
    return Verdict((state or b"none").decode("ascii"), domain.decode("ascii", "replace").lower())


def _dmarc(domain: str, spf: Verdict, dkim: Verdict, resolver: _Resolver) -> Verdict:
    """RFC 7489, section 6.6.2."""
    record = None
    for name in dict.fromkeys((domain, _organization(domain) or domain)):
        record = _record([text for text in resolver.ask(f"_dmarc.{name}", "TXT") if text.startswith(b"v=DMARC1")])
        if record is not None:
            break
    if record is None:
        return Verdict("none", domain)

    def passes(verdict: Verdict, strict: str) -> bool:
        if verdict.result != "pass" or not verdict.domain:
            return False
        if record.get(strict) == "s":
            return verdict.domain == domain
        return _organization(verdict.domain) == _organization(domain)

    if passes(dkim, "adkim") or passes(spf, "aspf"):
        return Verdict("pass", domain)
    return Verdict("temperror" if "temperror" in (dkim.result, spf.result) else "fail", domain)


def _record(texts: list[bytes]) -> dict[str, str] | None:
    """The tags of a policy; None if there is none, or not exactly one (RFC 7489, section 6.6.3)."""
    if len(texts) != 1:
        return None
    pairs = (part.partition("=") for part in texts[0].decode("ascii", "replace").split(";"))
    return {name.strip().lower(): value.strip().lower() for name, _, value in pairs}
