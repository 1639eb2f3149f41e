"""What `monsal doctor` looks at outside of this machine: the relay, names, certificates."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from monsal.cli.findings import Case, Finding, Level
from monsal.delivery.names import DnsNames, NamesUnavailable, NameUnknown
from monsal.errors import ConfigError
from monsal.smtp.mxurl import parse_mx

if TYPE_CHECKING:
    from monsal.routing import Table

__all__ = ["certificates", "names", "relay"]

#: Seconds that a relay has to greet, and a name to be found.
_PATIENCE: Final = 5.0
_DAY: Final = 86400.0


def relay(case: Case) -> Iterator[Finding]:
    """Whether the next hop greets; nothing is sent."""
    url = case.settings.relay
    scheme, _, rest = url.partition(":")
    if scheme == "capture":
        yield Finding(check="relay", level="ok", text=f"outgoing mail is filed in {rest}; nothing leaves")
        return
    if scheme == "mx":
        yield _by_mx(url, case.settings.hostname)
        return
    if not rest or scheme not in ("smtp", "lmtp"):
        yield Finding(check="relay", level="ok", text=f"{scheme} was not tried")
        return
    address: Any
    if rest.startswith("//") and not rest.startswith("///"):
        parts = urlsplit(url)
        address = (parts.hostname, parts.port or 25)
        family = None
    else:
        path = unquote(rest.removeprefix("//"))
        address, family = str(case.directory / path), socket.AF_UNIX
    try:
        with _connected(family, address) as connection:
            greeting = connection.recv(1000).decode("utf-8", "backslashreplace").splitlines()
    except OSError as error:
        yield Finding(
            check="relay",
            level="error",
            text=f"{_shown(address)} cannot be reached: {error.strerror or error}",
            advice="start the relay, or set relay to one that runs; until then mail waits in the outbox",
        )
        return
    said = greeting[0] if greeting else ""
    if said.startswith("2"):
        yield Finding(check="relay", level="ok", text=f"{_shown(address)} greets: {said}")
    else:
        text = f"{_shown(address)} does not greet as a mail server: {said or 'it said nothing'}"
        yield Finding(check="relay", level="error", text=text, advice="see what listens there")


def _by_mx(url: str, name: str) -> Finding:
    """Whether the DNS answers; servers of others are left alone."""
    found = parse_mx(url)
    try:
        names = DnsNames(found, patience=_PATIENCE)
        asyncio.run(_ask(names, name))
    except ConfigError as error:
        advice = "install it, or set relay to a mail server"
        return Finding(check="relay", level="error", text=str(error), advice=advice)
    except NamesUnavailable as error:
        advice = "see the name servers of this machine; until they answer mail waits in the outbox"
        return Finding(check="relay", level="error", text=f"the DNS does not answer: {error}", advice=advice)
    text = f"mail goes straight to the servers of each domain; the DNS answers, their port {found.port} was not tried"
    return Finding(check="relay", level="ok", text=text)


async def _ask(names: DnsNames, name: str) -> None:
    with suppress(NameUnknown):  # that is an answer, too
        await names.exchanges(name)


def _connected(family: int | None, address: Any) -> socket.socket:
    if family is None:
        return socket.create_connection(address, timeout=_PATIENCE)
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(_PATIENCE)
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made


def _shown(address: Any) -> str:
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


def names(case: Case) -> Iterator[Finding]:
    name = case.settings.hostname
    leaves = not case.settings.relay.startswith("capture:")
    if "." not in name or name.startswith("localhost"):
        level: Level = "warning" if leaves else "ok"
        advice = "set hostname to a name that the world finds, such as mail.example.com" if leaves else ""
        yield Finding(check="names", level=level, text=f"this server calls itself {name}", advice=advice)
    elif leaves and not _resolves(name):
        yield Finding(
            check="names",
            level="warning",
            text=f"{name}, as this server calls itself, is not found",
            advice="give it an address record, or set hostname; many servers refuse a HELO that is not found",
        )
    else:
        yield Finding(check="names", level="ok", text=f"this server calls itself {name}")
    guarded = [] if case.table is None else _guarded(case.table)
    if guarded and not case.settings.authserv_id:
        yield Finding(
            check="names",
            level="warning",
            text=f"{guarded[0]} asks for a proven sender, and without authserv_id only SMTP AUTH proves one",
            advice="set authserv_id to the name that your mail server puts into Authentication-Results",
        )


def _resolves(name: str) -> bool:
    """Whether a name is found within some seconds; a look-up cannot be given a time, so another process does it."""
    code = "import socket, sys; socket.getaddrinfo(sys.argv[1], None)"
    try:
        ended = subprocess.run([sys.executable, "-c", code, name], capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


def _guarded(table: Table) -> list[str]:
    handlers = (handler for route in table.routes for handler in route.handlers)
    return [handler.id for handler in handlers if handler.requires_authenticated]


def certificates(case: Case) -> Iterator[Finding]:
    """Certificates that the settings name, by whatever setting: how long each is still good."""
    for name in case.settings.__struct_fields__:
        value = getattr(case.settings, name)
        if "cert" not in name or not isinstance(value, str) or not value:
            continue
        path = case.directory / value
        end = _end_of(path)
        if end is None:
            text = f"{name}: {path} cannot be read as a certificate"
            yield Finding(check="certificates", level="error", text=text, advice="name a file in PEM format")
            continue
        left = (end - case.now) / _DAY
        level: Level = "error" if left < 3 else "warning" if left < 21 else "ok"
        text = f"{path} is good for {left:.0f} days" if left >= 0 else f"{path} has expired"
        advice = "" if level == "ok" else f"renew it, then `{case.typed('restart')}`"
        yield Finding(check="certificates", level=level, text=text, advice=advice)


def _end_of(path: Path) -> float | None:
    """When the first certificate of a PEM file ends, in epoch seconds; None if there is none that can be read."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
        found = re.search(f"{re.escape(ssl.PEM_HEADER)}.*?{re.escape(ssl.PEM_FOOTER)}", text, re.DOTALL)
        return None if found is None else _not_after(ssl.PEM_cert_to_DER_cert(found[0]))
    except (OSError, ValueError, IndexError):
        return None


def _not_after(certificate: bytes) -> float:
    """The end of a certificate's validity (RFC 5280, section 4.1). Raises ValueError, IndexError if it is none."""
    fields = _parts(_parts(_parts(certificate)[0][1])[0][1])
    if fields[0][0] == 0xA0:  # the version, which may be left out
        fields = fields[1:]
    # serialNumber, signature, issuer, validity
    kind, text = _parts(fields[3][1])[1]
    # UTCTime has two digits of the year: 50 to 99 are of the last century (section 4.1.2.5.1).
    year = text.decode("ascii") if kind == 0x18 else ("19" if text[0] >= 0x35 else "20") + text.decode("ascii")
    return datetime.strptime(year, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """The values that follow one another in DER: tag and content of each (X.690, section 8.1)."""
    found = []
    place = 0
    while place < len(data):
        tag, length = data[place], data[place + 1]
        place += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[place : place + size], "big")
            place += size
        found.append((tag, data[place : place + length]))
        place += length
    return found
