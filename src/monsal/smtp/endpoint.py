"""Where the next hop is and how it is spoken to: the URL of a relay, read without opening anything."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from monsal.errors import ConfigError

__all__ = ["Credentials", "Endpoint", "Tls", "is_loopback", "parse_endpoint"]

#: `implicit` begins with the handshake (RFC 8314), `require` demands STARTTLS (RFC 3207), `opportunistic` takes it
#: where it is offered and goes on without where it fails, `auto` is `opportunistic` to other machines and `off` here.
Tls = Literal["auto", "off", "opportunistic", "require", "implicit"]

#: Scheme -> port by default (RFC 5321, RFC 2033, RFC 8314, RFC 6409), what it says of TLS, whether it is LMTP.
_SCHEMES: dict[str, tuple[int, Tls, bool]] = {
    "smtp": (25, "auto", False),
    "lmtp": (24, "auto", True),
    "smtps": (465, "implicit", False),
    "smtp+starttls": (587, "require", False),
}
_TLS = {"off", "opportunistic", "require"}
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1", re.IGNORECASE)
_SHAPE = "smtp://host:port, smtps://host, smtp+starttls://user:password@host, lmtp://host:port or lmtp:path/of/a.sock"
_PARAMETERS = "tls=off|opportunistic|require, verify=no, ca=FILE, password_file=FILE"


class Credentials(msgspec.Struct, frozen=True):
    """A name and a password, which does not show when this is printed."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, '***')"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the next hop is: host and port, or the path of a unix socket; and how it is spoken to.

    With `verify` the peer's certificate has to be one for `host`, issued by who the system trusts or who is in the
    file `ca`; an opportunistic connection does not ask, since it would go on without any. The password may be in
    `password_file` instead of `credentials`, which then has an empty one.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    lmtp: bool = False
    tls: Tls = "auto"
    verify: bool = True
    ca: str = ""
    credentials: Credentials | None = None
    password_file: str = ""

    @property
    def is_local(self) -> bool:
        """Whether what is said to it cannot be heard on a wire: a unix socket, or the loopback interface."""
        return bool(self.path) or is_loopback(self.host)

    @property
    def effective_tls(self) -> Tls:
        """What `auto` means here."""
        if self.tls != "auto":
            return self.tls
        return "off" if self.is_local else "opportunistic"

    def __str__(self) -> str:
        scheme = "lmtp" if self.lmtp else "smtps" if self.tls == "implicit" else "smtp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{self.path}" if self.path else f"{scheme}://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address; nothing is looked up."""
    return _LOOPBACK.fullmatch(host) is not None


def parse_endpoint(url: str) -> Endpoint:
    """Read `smtp://host:port`, `lmtp://host:port`, `smtp:///path` or `lmtp:///path`; ports 25 and 24 by default.

    `smtps://` is TLS from the first byte (port 465), `smtp+starttls://` demands STARTTLS (port 587). A name and a
    password stand before the host, percent-encoded; parameters are `tls`, `verify`, `ca` and `password_file`.
    Raises ConfigError, which repeats no password.
    """
    shown = url.rpartition("@")[2] if "@" in url else url
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"relay {shown!r}: {error}; expected {_SHAPE}") from None
    if parts.scheme not in _SCHEMES or parts.fragment:
        raise ConfigError(f"relay {shown!r} is not understood; expected {_SHAPE}")
    default_port, tls, lmtp = _SCHEMES[parts.scheme]
    options = _options(shown, parts.query)
    if "tls" in options:
        if tls != "auto":
            raise ConfigError(f"relay {shown!r}: {parts.scheme}:// says already that TLS is used; leave tls= out")
        tls = cast(Tls, options["tls"])
    plain = Endpoint(lmtp=lmtp, tls=tls, verify=options.get("verify") != "no", ca=options.get("ca", ""))
    if not parts.hostname:
        path = unquote(parts.path)
        if port is not None or len(path) < 2 or parts.netloc or tls not in ("auto", "off"):
            raise ConfigError(f"relay {shown!r} has neither host nor path; expected {_SHAPE}")
        return msgspec.structs.replace(plain, path=path)
    if parts.path not in ("", "/") or port == 0:
        raise ConfigError(f"relay {shown!r} is not understood; expected {_SHAPE}")
    credentials = _credentials(shown, parts, options)
    found = msgspec.structs.replace(
        plain,
        host=parts.hostname,
        port=port or default_port,
        credentials=credentials,
        password_file=options.get("password_file", ""),
    )
    if credentials is not None and not found.is_local:
        return _protected(shown, found)
    return found


def _protected(shown: str, found: Endpoint) -> Endpoint:
    """The same, sure to tell the password to nobody but the next hop (RFC 8314, section 3)."""
    if found.tls == "auto":
        return msgspec.structs.replace(found, tls="require")
    if found.tls in ("off", "opportunistic"):
        raise ConfigError(f"relay {shown!r}: a password goes over TLS only; use tls=require, or smtps://")
    return found


def _credentials(shown: str, parts: SplitResult, options: dict[str, str]) -> Credentials | None:
    user, password = parts.username, parts.password
    in_file = options.get("password_file", "")
    if not user:
        if password or in_file:
            raise ConfigError(f"relay {shown!r} has a password, but no name before it")
        return None
    if bool(password) == bool(in_file):
        raise ConfigError(f"relay {shown!r} needs one password: user:password@, or user@ and password_file=FILE")
    found = Credentials(unquote(user), unquote(password or ""))
    if "\0" in found.username or "\0" in found.password:
        raise ConfigError(f"relay {shown!r}: a name or password cannot have a NUL (RFC 4616)")
    return found


def _options(shown: str, query: str) -> dict[str, str]:
    """The parameters behind the question mark, checked."""
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    known = {"tls", "verify", "ca", "password_file"}
    wrong = (set(options) - known) | {name for name in options if not options[name]}
    if options.get("tls", "off") not in _TLS:
        wrong.add("tls")
    if options.get("verify", "no") not in ("yes", "no"):
        wrong.add("verify")
    if wrong or len(options) != len(pairs) or (query and not pairs):
        raise ConfigError(
            f"relay {shown!r}: {', '.join(sorted(wrong)) or repr(query)} is not understood; {_PARAMETERS}"
        )
    for name in ("ca", "password_file"):
        if "\0" in options.get(name, "") or (name in options and not PurePath(options[name]).name):
            raise ConfigError(f"relay {shown!r}: {name} is no file")
    return options
