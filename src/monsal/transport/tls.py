"""TLS: a context for the side that connects, and one for the side that listens.

Nothing older than TLS 1.2 is spoken (RFC 8996), and the server is always verified: there is no switch for that off. A
certificate that nobody signed is trusted by naming it as `ca`, and a name that differs from the host by `name`.
"""

from __future__ import annotations

import ssl

from monsal.errors import ConfigError
from monsal.transport.address import Tls

__all__ = ["client_context", "server_context"]


def client_context(address: Tls) -> ssl.SSLContext:
    """For a client: it trusts `ca`, by default the system's, and shows `cert`, if there is one.

    Raises ConfigError if a file cannot be used.
    """
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=address.ca or None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the certificates in {address.ca} cannot be used: {error}") from None
    if address.cert:
        _load_own(context, address)
    return _modern(context)


def server_context(address: Tls) -> ssl.SSLContext:
    """For a server, which needs `cert`. With `ca`, clients must show a certificate that is signed by it.

    Raises ConfigError if a file is missing or cannot be used.
    """
    if not address.cert:
        raise ConfigError(f"{address} cannot be listened on without a certificate: add ?cert=FILE&key=FILE")
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=address.ca or None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the certificates in {address.ca} cannot be used: {error}") from None
    if address.ca:
        context.verify_mode = ssl.CERT_REQUIRED
    _load_own(context, address)
    return _modern(context)


def _load_own(context: ssl.SSLContext, address: Tls) -> None:
    def no_password() -> str:
        # Without this the library would ask on the terminal, and wait.
        raise ConfigError(f"the key {address.key or address.cert} is encrypted; give one that is not")

    try:
        context.load_cert_chain(address.cert, address.key or None, no_password)
    except (OSError, ValueError) as error:
        names = f"{address.cert} and {address.key}" if address.key else address.cert
        raise ConfigError(f"{names} cannot be used as certificate and key: {error}") from None


def _modern(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
