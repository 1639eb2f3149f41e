"""Mail leaves: implementations of `conversation.ports.Relay`.

May import the floors below; nothing of ingress. Start reading at `relay.py` (SMTP and LMTP to the next hop) with
`connection.py` (one kept connection of it); `mx.py` has one for each domain, and `mxroute.py` asks the DNS where that
is; `capture.py` files mail in a maildir instead of sending it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from monsal.conversation.ports import Relay
from monsal.errors import ConfigError
from monsal.late import late
from monsal.smtp.endpoint import Credentials, Endpoint, parse_endpoint
from monsal.smtp.mxurl import parse_mx

if TYPE_CHECKING:
    from monsal.delivery.capture import CaptureRelay as CaptureRelay
    from monsal.delivery.connection import RelaySettings as RelaySettings
    from monsal.delivery.mx import MxRelay as MxRelay
    from monsal.delivery.relay import SmtpRelay as SmtpRelay

# An application has one relay: what the others need is not imported.
_HOME = {
    "CaptureRelay": "monsal.delivery.capture",
    "MxRelay": "monsal.delivery.mx",
    "RelaySettings": "monsal.delivery.connection",
    "SmtpRelay": "monsal.delivery.relay",
}

__all__ = [*_HOME, "open_relay"]

#: Seconds that a connection to a domain's server is kept without use: there may be many domains.
_MX_IDLE = 10.0

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)


def open_relay(url: str, base: Path, *, connections: int = 4, name: str | None = None) -> Relay:
    """The relay that `url` names; nothing is opened or made before the first mail.

    `smtp://host:port`, `smtps://host`, `smtp+starttls://host`, `lmtp://host:port` and `lmtp:PATH` (or `smtp:PATH`, a
    unix socket) are the next hop (`monsal.smtp.parse_endpoint` has their parameters), spoken to over up to
    `connections` connections under the `name` given in EHLO; `mx:` is no next hop but the servers of each domain
    (`monsal.smtp.parse_mx`; extra `mx`), with as many connections for each; `capture:DIR` files mail in the maildir
    DIR. PATH, DIR and files of passwords and certificates are relative to `base`. Raises ConfigError; a file with a
    password is read here, so that a missing one is known at once.
    """
    scheme, _, rest = url.partition(":")
    if scheme in ("smtp", "lmtp") and rest and not rest.startswith("//"):
        url = f"{scheme}://{quote(str(base.absolute() / rest))}"
    if scheme == "capture":
        if not rest:
            raise ConfigError("relay 'capture:' needs a directory, as in capture:run/sent")
        from monsal.delivery.capture import CaptureRelay

        return CaptureRelay(base / rest)
    if connections < 1:
        raise ConfigError(f"a relay needs at least 1 connection, not {connections}")
    from monsal.delivery.connection import RelaySettings

    settings = RelaySettings(connections=connections, name=name)
    if scheme == "mx":
        from monsal.delivery.mx import MxRelay

        found = parse_mx(url)
        if found.ca:
            found = msgspec.structs.replace(found, ca=str(base / found.ca))
        return MxRelay(found, msgspec.structs.replace(settings, idle_timeout=_MX_IDLE))
    from monsal.delivery.relay import SmtpRelay

    return SmtpRelay(_with_files(parse_endpoint(url), base), settings)


def _with_files(endpoint: Endpoint, base: Path) -> Endpoint:
    """The same with the password out of its file, and the path of its certificates from `base`."""
    if endpoint.ca:
        endpoint = msgspec.structs.replace(endpoint, ca=str(base / endpoint.ca))
    if not endpoint.password_file or endpoint.credentials is None:
        return endpoint
    path = base / endpoint.password_file
    try:
        password = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"relay {endpoint}: password_file {path} cannot be read: {error}") from None
    if not password or "\n" in password or "\0" in password:
        raise ConfigError(f"relay {endpoint}: password_file {path} should have one line, the password")
    credentials = Credentials(endpoint.credentials.username, password)
    return msgspec.structs.replace(endpoint, credentials=credentials)
