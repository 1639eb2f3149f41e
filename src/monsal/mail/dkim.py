"""DKIM signatures (RFC 6376, RFC 8463): what is signed, and the header field that says so.

Pure: a key is a function, and the time an argument. Canonicalization is relaxed/relaxed, which survives what mail
servers do to white space. Both algorithms give the same signature for the same bytes, so a mail that is rendered
again is the same mail (P2).
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["DkimKey", "DkimSigner", "canonical_body", "canonical_field"]

#: Fields that are signed where they are, in this order (RFC 6376, section 5.4.1).
SIGNED = (
    *("from", "to", "cc", "reply-to", "subject", "date", "message-id", "in-reply-to", "references", "mime-version"),
    *("content-type", "content-transfer-encoding", "auto-submitted", "list-id", "list-unsubscribe"),
    *("list-unsubscribe-post", "list-post", "list-help", "list-archive"),
)
#: Signed once more than they are there, so that nobody can put another one in front (section 8.15).
ONCE_ONLY = ("from", "to", "subject", "date")

_SPACE = re.compile(rb"[ \t]+")
_SPACE_AT_END = re.compile(rb"[ \t]+(?=\r\n)")
_EMPTY_END = re.compile(rb"(?:\r\n)+\Z")


@dataclass(frozen=True, slots=True)
class DkimKey:
    """A private key: `sign` signs bytes (of ed25519 the SHA-256 of the fields, RFC 8463 section 3). `selector` names
    the public one in the DNS."""

    selector: str
    algorithm: Literal["rsa-sha256", "ed25519-sha256"]
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class DkimSigner:
    """Signs mail for `domain` and the domains below it; for any, with the sender's own, if it is None."""

    domain: str | None
    keys: Sequence[DkimKey]

    def __call__(self, raw: bytes, sender: str, now: float) -> bytes:
        """The mail with one signature for each key; as it is if its From address `sender` is of another domain."""
        domain = sender.rpartition("@")[2].lower()
        if self.domain is not None:
            if domain != self.domain and not domain.endswith("." + self.domain):
                return raw
            domain = self.domain
        if not domain.isascii():
            domain = domain.encode("idna").decode("ascii")
        head, mark, body = raw.partition(b"\r\n\r\n")
        digest = b64encode(hashlib.sha256(canonical_body(body if mark else b"")).digest()).decode("ascii")
        fields = _fields(head)
        names = [name for name in SIGNED if name in fields for _ in fields[name]]
        names += [name for name in ONCE_ONLY if name in fields]
        # Several fields of one name are counted from below (section 5.4.2); one too many is empty and adds nothing.
        left = {name: list(values) for name, values in fields.items()}
        signed = b"".join(left[name].pop() + b"\r\n" for name in names if left[name])
        signatures = [
            _signature(key, signed, domain=domain, names=names, digest=digest, now=int(now)) for key in self.keys
        ]
        return b"".join([*signatures, raw])


def canonical_field(field: bytes) -> bytes:
    """A header field in relaxed form, without its end (RFC 6376, section 3.4.2)."""
    name, _, value = field.partition(b":")
    value = _SPACE.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.strip(b" \t").lower() + b":" + value


def canonical_body(body: bytes) -> bytes:
    """A body in relaxed form (RFC 6376, section 3.4.4); an empty one stays empty."""
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    body = _SPACE.sub(b" ", _SPACE_AT_END.sub(b"", body))
    body = _EMPTY_END.sub(b"\r\n", body)
    return b"" if body == b"\r\n" else body


def _fields(head: bytes) -> dict[str, list[bytes]]:
    """The fields that may be signed by their names in lower case, each in relaxed form, in order."""
    found: dict[str, list[bytes]] = {}
    for field in re.split(rb"\r\n(?![ \t])", head):
        name = field.partition(b":")[0].strip(b" \t").lower().decode("ascii", "replace")
        if name in SIGNED:
            found.setdefault(name, []).append(canonical_field(field))
    return found


def _signature(key: DkimKey, signed: bytes, *, domain: str, names: Sequence[str], digest: str, now: int) -> bytes:
    """The header field with its line end."""
    listed = ":\r\n\t ".join(":".join(names[at : at + 6]) for at in range(0, len(names), 6))
    field = (
        f"DKIM-Signature: v=1; a={key.algorithm}; c=relaxed/relaxed; d={domain};\r\n"
        f"\ts={key.selector}; t={now};\r\n\th={listed};\r\n\tbh={digest};\r\n\tb="
    )
    data = signed + canonical_field(field.encode("ascii"))
    if key.algorithm == "ed25519-sha256":
        data = hashlib.sha256(data).digest()
    text = b64encode(key.sign(data)).decode("ascii")
    folded = "\r\n\t ".join(text[at : at + 72] for at in range(0, len(text), 72))
    return f"{field}{folded}\r\n".encode("ascii")
