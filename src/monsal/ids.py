"""Identifiers: short, safe in an address, and the keyed digests that prove that an identifier is ours.

Pure, but for `new_token` and `new_secret`, which draw from the operating system.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

__all__ = ["b32", "mac", "mac_matches", "new_secret", "new_token", "stable_token"]

#: Length of a token in characters; 16 of base 32 are 80 bits.
TOKEN_LENGTH = 16
#: Length of a mac in characters; 12 of base 32 are 60 bits, and each guess is a mail.
MAC_LENGTH = 12


def b32(data: bytes) -> str:
    """Base 32 in lower case without padding: it survives any folding of case on its way through mail systems."""
    return base64.b32encode(data).decode("ascii").lower().rstrip("=")


def new_token() -> str:
    """A fresh random token of 80 bits."""
    return b32(secrets.token_bytes(10))


def new_secret() -> bytes:
    """A fresh key of 256 bits."""
    return secrets.token_bytes(32)


def stable_token(key: bytes, *parts: str | int) -> str:
    """The token that belongs to `parts` under `key`: the same each time, unguessable without the key."""
    data = "\x00".join(str(part) for part in parts).encode("utf-8", "surrogatepass")
    return b32(hashlib.blake2b(data, key=key, digest_size=16).digest())[:TOKEN_LENGTH]


def mac(key: bytes, purpose: str, text: str) -> str:
    """A keyed digest of `text`, bound to a `purpose` so that one kind of proof cannot stand for another."""
    data = f"{purpose}\x00{text}".encode("utf-8", "surrogatepass")
    return b32(hashlib.blake2b(data, key=key, digest_size=16).digest())[:MAC_LENGTH]


def mac_matches(key: bytes, purpose: str, text: str, given: str) -> bool:
    """Whether `given` is the mac of `text`; compared in constant time and without regard to case."""
    return hmac.compare_digest(mac(key, purpose, text).encode(), given.lower().encode("utf-8", "surrogatepass"))
