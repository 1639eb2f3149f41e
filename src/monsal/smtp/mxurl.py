"""Mail straight to the servers of its recipients: `mx:` and its parameters, read without opening anything."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal, cast
from urllib.parse import parse_qsl

import msgspec

from monsal.errors import ConfigError

__all__ = ["MxUrl", "parse_mx"]

_PARAMETERS = (
    "port=NUMBER, tls=off|opportunistic|require, verify=no, ca=FILE, private=yes, nameserver=ADDRESS or ADDRESS:PORT"
)
_CHOICES = {
    "tls": {"off", "opportunistic", "require"},
    "verify": {"yes", "no"},
    "private": {"yes", "no"},
}
_NAMESERVER = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+))(?::(?P<port>[0-9]{1,5}))?")


class MxUrl(msgspec.Struct, frozen=True, kw_only=True):
    """What `mx:` says: the port of all mail servers, how TLS is used, and who is asked for names.

    `private` allows addresses that are not public, those of this machine among them. An empty `nameserver` means
    those of the system, at `nameserver_port` otherwise.
    """

    port: int = 25
    tls: Literal["off", "opportunistic", "require"] = "opportunistic"
    verify: bool = True
    ca: str = ""
    private: bool = False
    nameserver: str = ""
    nameserver_port: int = 53


def parse_mx(url: str) -> MxUrl:
    """Read `mx:` or `mx:?port=25&tls=require`. Raises ConfigError."""
    scheme, colon, rest = url.partition(":")
    if scheme != "mx" or not colon or (rest and not rest.startswith("?")):
        raise ConfigError(f"relay {url!r} is not understood; expected mx: or mx:?PARAMETERS ({_PARAMETERS})")
    pairs = parse_qsl(rest[1:], keep_blank_values=True)
    options = dict(pairs)
    wrong = set(options) - {"port", "tls", "verify", "ca", "private", "nameserver"}
    wrong |= {name for name, allowed in _CHOICES.items() if name in options and options[name] not in allowed}
    if "port" in options and _port(options["port"]) is None:
        wrong.add("port")
    if not options.get("ca", "-") or "\0" in options.get("ca", ""):
        wrong.add("ca")
    server = _nameserver(options["nameserver"]) if "nameserver" in options else ("", 53)
    if server is None:
        wrong.add("nameserver")
    if wrong or server is None or len(options) != len(pairs) or (len(rest) > 1 and not pairs):
        raise ConfigError(f"relay {url!r}: {', '.join(sorted(wrong)) or repr(rest)} is not understood; {_PARAMETERS}")
    return MxUrl(
        port=_port(options.get("port", "25")) or 25,
        tls=cast(Literal["off", "opportunistic", "require"], options.get("tls", "opportunistic")),
        verify=options.get("verify") != "no",
        ca=options.get("ca", ""),
        private=options.get("private") == "yes",
        nameserver=server[0],
        nameserver_port=server[1],
    )


def _port(text: str) -> int | None:
    number = int(text) if re.fullmatch(r"[0-9]{1,5}", text) else 0
    return number if 0 < number < 65536 else None


def _nameserver(text: str) -> tuple[str, int] | None:
    """Address and port of a name server; None if the text is no such thing."""
    found = _NAMESERVER.fullmatch(text)
    if found is None:
        return None
    port = _port(found["port"]) if found["port"] else 53
    try:
        address = ip_address(found["six"] or found["four"])
    except ValueError:
        return None
    return None if port is None else (str(address), port)
