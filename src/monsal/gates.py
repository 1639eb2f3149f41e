"""How clients are let in, from the settings: certificates, users, trusted hosts."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

from monsal.config import Settings
from monsal.ingress import Gate, Hosts, Logins, Users, server_context

if TYPE_CHECKING:
    from monsal.engine import Engine

__all__ = ["certificate_of", "check_gate", "gate_of"]


def gate_of(settings: Settings, directory: Path, engine: Engine) -> Gate:
    """The gate of an engine's ingresses; paths are relative to the application's directory. Raises ConfigError."""
    tls = certificate_of(settings, directory)
    asks = engine.router.table.authenticator is not None
    logins = None
    if tls is not None and (settings.auth_users is not None or asks):
        users = Users() if settings.auth_users is None else Users.read(directory / settings.auth_users)
        asking = engine.asking
        logins = Logins(users, run=asking.check, ask=asking.authenticate if asks else None, now=time.monotonic)
    return Gate(
        tls=tls,
        logins=None if logins is None else logins.check,
        proxy=Hosts(settings.proxy_from, "proxy_from"),
        xclient=Hosts(settings.xclient_from, "xclient_from"),
    )


def check_gate(settings: Settings, directory: Path) -> None:
    """Whether certificates and users can be read; raises ConfigError. For a reload, before anything is replaced."""
    certificate_of(settings, directory)
    if settings.auth_users is not None:
        Users.read(directory / settings.auth_users)


def certificate_of(settings: Settings, directory: Path) -> ssl.SSLContext | None:
    """What TLS is spoken with, if the settings name a certificate. Raises ConfigError."""
    if settings.tls_cert is None:
        return None
    key = None if settings.tls_key is None else directory / settings.tls_key
    return server_context(directory / settings.tls_cert, key)
