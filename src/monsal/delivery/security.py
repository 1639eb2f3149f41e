"""TLS for the next hop: what is demanded of it, and why a handshake failed, in words."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Literal

import msgspec

from monsal.errors import ConfigError
from monsal.smtp.endpoint import Credentials, Endpoint

__all__ = ["Security", "cause_of", "make_context", "security_of", "why_not"]


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """How one connection is protected. `context` is there if there may be a handshake; `name` is whose certificate
    is expected; `secured` says that the connection needs none: it does not leave this machine."""

    starttls: Literal["off", "opportunistic", "require"] = "off"
    implicit: bool = False
    secured: bool = False
    credentials: Credentials | None = None
    context: ssl.SSLContext | None = None
    name: str = ""


def make_context(endpoint: Endpoint) -> ssl.SSLContext:
    """The TLS context for an endpoint; reads the certificates that are trusted. Raises ConfigError."""
    try:
        context = ssl.create_default_context(cafile=endpoint.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"relay {endpoint}: no certificates can be read from {endpoint.ca!r}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if endpoint.effective_tls == "opportunistic" or not endpoint.verify:
        # RFC 7435, section 3: encryption that nobody has vouched for is better than none, which would be next.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def security_of(endpoint: Endpoint, context: ssl.SSLContext | None, *, in_clear: bool) -> Security:
    """How a connection to `endpoint` is protected; `in_clear` if its handshake failed and need not succeed."""
    tls = endpoint.effective_tls
    if tls == "off" or (tls == "opportunistic" and in_clear):
        return Security(secured=endpoint.is_local, credentials=endpoint.credentials)
    if context is None:
        context = await asyncio.get_running_loop().run_in_executor(None, make_context, endpoint)
    return Security(
        starttls="off" if tls == "implicit" else "require" if tls == "require" else "opportunistic",
        implicit=tls == "implicit",
        secured=tls == "implicit" or endpoint.is_local,
        credentials=endpoint.credentials,
        context=context,
        name=endpoint.host,
    )


def cause_of(error: Exception) -> str:
    """Why a handshake or a connection failed, in the words of a person who has to mend it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def why_not(error: OSError | ValueError) -> str:
    """Why no connection was made, in the system's words; asyncio's say only that it failed."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return cause_of(error)
