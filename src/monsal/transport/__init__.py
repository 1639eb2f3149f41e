"""Sockets and what stands in their place: the shell around `monsal.wire`.

May import: `monsal.wire`, the ground floor, asyncio. Knows nothing of methods, objects or promises: it hands calls up.
Start reading at `address.py` (where the other side is).
"""

from monsal.transport.address import (
    Address,
    Internal,
    Mux,
    Nowhere,
    Restart,
    Stdio,
    Tcp,
    TcpServer,
    Tls,
    Unix,
    UnixServer,
    parse,
)

__all__ = [
    "Address",
    "Internal",
    "Mux",
    "Nowhere",
    "Restart",
    "Stdio",
    "Tcp",
    "TcpServer",
    "Tls",
    "Unix",
    "UnixServer",
    "parse",
]
