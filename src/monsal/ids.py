"""Identifiers: short, safe in an address, and the keyed digests that prove that an identifier is ours.

They are hexadecimal digits in lower case, so they survive any folding of case on their way through mail systems; base
32 would be a fifth shorter, but is not written in C, and there are several of them in each turn.

Pure, but for `new_token`, `running_tokens` and `new_secret`, which draw from the operating system.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
from collections.abc import Iterator

__all__ = [
    "MAC_LENGTH",
    "TOKEN_LENGTH",
    "mac",
    "mac_matches",
    "new_secret",
    "new_token",
    "running_tokens",
    "stable_token",
]

#: Length of a token in characters: 80 bits.
TOKEN_LENGTH = 20
#: Length of a mac in characters: 64 bits, and each guess is a mail.
MAC_LENGTH = 16


def new_token() -> str:
    """A fresh random token of 80 bits."""
    return secrets.token_hex(TOKEN_LENGTH // 2)


def running_tokens() -> Iterator[str]:
    """Tokens without end that are never given twice, as long as `new_token`, but easy to guess: for names of ours.

    Each sorts after the one before, so that in an index they stand side by side: random ones would each have another
    page of it written.
    """
    start = new_token()[: TOKEN_LENGTH // 2]
    return (f"{start}{number:0{TOKEN_LENGTH // 2}x}" for number in itertools.count())


def new_secret() -> bytes:
    """A fresh key of 256 bits."""
    return secrets.token_bytes(32)


def stable_token(key: bytes, *parts: str | int) -> str:
    """The token that belongs to `parts` under `key`: the same each time, unguessable without the key."""
    data = "\x00".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, key=key, digest_size=TOKEN_LENGTH // 2).hexdigest()


def mac(key: bytes, purpose: str, text: str) -> str:
    """A keyed digest of `text`, bound to a `purpose` so that one kind of proof cannot stand for another."""
    data = f"{purpose}\x00{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, key=key, digest_size=MAC_LENGTH // 2).hexdigest()


def mac_matches(key: bytes, purpose: str, text: str, given: str) -> bool:
    """Whether `given` is the mac of `text`; compared in constant time and without regard to case."""
    return hmac.compare_digest(mac(key, purpose, text).encode(), given.lower().encode("utf-8", "surrogatepass"))
