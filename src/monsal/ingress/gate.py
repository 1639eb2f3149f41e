"""What an ingress asks of who comes, and whom it believes: TLS, logins, PROXY and XCLIENT."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import msgspec

from monsal.ingress.hosts import Hosts
from monsal.ingress.users import Identity
from monsal.smtp.events import Login

__all__ = ["CheckLogin", "Gate"]

#: Checks a login: who it is, or None. `peer` is by what its tries are counted, None for this host's own. Raises
#: LoginUnavailable if it cannot be checked now. Called on the ingress' loop.
CheckLogin = Callable[[Login, str | None], Awaitable[Identity | None]]


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """How clients are let in.

    With `tls` STARTTLS is offered, or with `implicit` the connection begins with TLS (RFC 8314). With `logins`
    AUTH is offered, over TLS. Connections from `proxy` begin with a PROXY header; clients at `xclient` may say XCLIENT.
    """

    tls: ssl.SSLContext | None = None
    implicit: bool = False
    logins: CheckLogin | None = None
    proxy: Hosts = msgspec.field(default_factory=Hosts)
    xclient: Hosts = msgspec.field(default_factory=Hosts)
