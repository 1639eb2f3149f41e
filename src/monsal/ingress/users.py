"""Who may log in: a file with a salted hash of each password, one user a line.

    ann@example.com:scrypt$16384$8$1$SALT$HASH
    robot:scrypt$16384$8$1$SALT$HASH:orders@example.com,@example.org

`monsal passwd NAME` makes such a line. Behind the hash are the addresses as which the user may write, besides the one
that is their name: `@domain` stands for all of a domain. Lines that begin with `#` are for people.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import unicodedata
from pathlib import Path

import msgspec

from monsal.address import fold
from monsal.errors import ConfigError

__all__ = ["Identity", "Users", "user_line"]

#: Cost, block size and parallelism (RFC 7914): 16 MB and some 50 ms for each try, which is what OWASP asks at least.
_N, _R, _P = 1 << 14, 8, 1
#: What a line of an operator may ask for, in octets of memory.
_MOST_MEMORY = 128 * 1024 * 1024
_SALT, _HASH = 16, 32
_NAME = re.compile(r"[^\s:#,\x00-\x1f\x7f][^\s:,\x00-\x1f\x7f]{0,254}\Z")
_FORM = re.compile(
    r"scrypt\$([0-9]{1,9})\$([0-9]{1,4})\$([0-9]{1,3})\$([A-Za-z0-9+/=]{1,200})\$([A-Za-z0-9+/=]{1,200})\Z"
)


class Identity(msgspec.Struct, frozen=True):
    """Who has logged in: the name, and as whom they may write besides (addresses, or `@domain`)."""

    user: str
    may_write: tuple[str, ...] = ()


class _Secret(msgspec.Struct, frozen=True):
    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes
    identity: Identity

    def matches(self, password: str) -> bool:
        return hmac.compare_digest(
            _scrypt(password, self.salt, (self.n, self.r, self.p), len(self.digest)), self.digest
        )


class Users:
    """The users of a file. `check` takes its time; call it on a thread of its own."""

    def __init__(self, text: str = "", name: str = "auth_users") -> None:
        self._users: dict[str, _Secret] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                user, secret = _parse(line.strip(), f"{name}, line {number}")
                if user in self._users:
                    raise ConfigError(f"{name}, line {number}: a user of that name is there already")
                self._users[user] = secret
        # For names that nobody has: to find that out must take as long as a wrong password.
        self._nobody = _Secret(_N, _R, _P, bytes(_SALT), bytes(_HASH), Identity(""))

    @classmethod
    def read(cls, path: Path) -> Users:
        """The users of a file. Raises ConfigError naming the line; what stands there is not repeated."""
        try:
            return cls(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"auth_users: {path} cannot be read: {error}") from None

    def knows(self, user: str) -> bool:
        """Whether there is a user of that name."""
        return fold(user) in self._users

    def check(self, user: str, password: str) -> Identity | None:
        """Who it is, or None; takes as long for a name that nobody has."""
        secret = self._users.get(fold(user), self._nobody)
        return secret.identity if secret.matches(password) and secret is not self._nobody else None


def user_line(user: str, password: str, may_write: tuple[str, ...] = ()) -> str:
    """A line for the file. Raises ValueError for a name, password or address that cannot stand there."""
    if _NAME.match(user) is None:
        raise ValueError(f"a name has no blanks, colons or commas and at most 255 characters, unlike {user!r}")
    if not 0 < len(password.encode("utf-8", "surrogatepass")) <= 255:
        raise ValueError("a password has from 1 to 255 octets")
    for address in may_write:
        if _NAME.match(address) is None or "@" not in address:
            raise ValueError(f"{address!r} is no address, nor @ and a domain")
    salt = os.urandom(_SALT)
    words = [base64.b64encode(each).decode() for each in (salt, _scrypt(password, salt, (_N, _R, _P), _HASH))]
    line = f"{user}:scrypt${_N}${_R}${_P}${words[0]}${words[1]}"
    return f"{line}:{','.join(may_write)}" if may_write else line


def _parse(line: str, where: str) -> tuple[str, _Secret]:
    user, _, rest = line.partition(":")
    form, _, may_write = rest.partition(":")
    found = _FORM.match(form)
    if _NAME.match(user) is None or found is None:
        raise ConfigError(f"{where}: expected NAME:scrypt$N$R$P$SALT$HASH as `monsal passwd NAME` makes it")
    n, r, p = (int(number) for number in found.groups()[:3])
    if n < 2 or n & (n - 1) or not r or not p or 128 * n * r * p > _MOST_MEMORY:
        raise ConfigError(f"{where}: scrypt with N={n}, r={r}, p={p} cannot be, or takes more than 128 MB")
    try:
        salt, digest = (base64.b64decode(each, validate=True) for each in found.groups()[3:])
    except binascii.Error:
        raise ConfigError(f"{where}: salt or hash is no base64") from None
    addresses = tuple(fold(address.strip()) for address in may_write.split(",") if address.strip())
    if any("@" not in address for address in addresses):
        raise ConfigError(f"{where}: behind the hash come addresses, or @ and a domain, with commas between them")
    return fold(user), _Secret(n, r, p, salt, digest, Identity(user, addresses))


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int], length: int) -> bytes:
    # Two ways to write an accented letter are one password (RFC 8265, section 4.2.2, of which this is the part that
    # differs between keyboards).
    octets = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    n, r, p = cost
    return hashlib.scrypt(octets, salt=salt, n=n, r=r, p=p, maxmem=2 * _MOST_MEMORY, dklen=length)
