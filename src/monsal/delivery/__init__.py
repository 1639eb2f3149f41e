"""Mail leaves: implementations of `conversation.ports.Relay`.

May import the floors below; nothing of ingress. Start reading at `relay.py` (SMTP and LMTP to the next hop) with
`connection.py` (one kept connection of it); `capture.py` files mail in a maildir instead of sending it.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from monsal.conversation.ports import Relay
from monsal.delivery.capture import CaptureRelay
from monsal.delivery.connection import RelaySettings
from monsal.delivery.relay import SmtpRelay
from monsal.errors import ConfigError

__all__ = ["CaptureRelay", "RelaySettings", "SmtpRelay", "open_relay"]


def open_relay(url: str, base: Path, *, connections: int = 4, name: str | None = None) -> Relay:
    """The relay that `url` names; nothing is opened or made before the first mail.

    `smtp://host:port`, `lmtp://host:port` and `lmtp:PATH` (or `smtp:PATH`, a unix socket) are the next hop, spoken to
    over up to `connections` connections under the `name` given in EHLO; `capture:DIR` files mail in the maildir DIR.
    PATH and DIR are relative to `base`. Raises ConfigError.
    """
    scheme, _, rest = url.partition(":")
    if scheme in ("smtp", "lmtp") and rest and not rest.startswith("//"):
        url = f"{scheme}://{quote(str(base.absolute() / rest))}"
    if scheme == "capture":
        if not rest:
            raise ConfigError("relay 'capture:' needs a directory, as in capture:run/sent")
        return CaptureRelay(base / rest)
    if connections < 1:
        raise ConfigError(f"a relay needs at least 1 connection, not {connections}")
    return SmtpRelay(url, RelaySettings(connections=connections, name=name))
