"""Connect to another program."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Final, Unpack

from monsal.errors import NotRunning, RemoteError
from monsal.transport.address import Address, Stdio, Tcp, Tls, Unix, parse
from monsal.transport.link import Link
from monsal.transport.setup import LinkOptions, LinkSetup, merged
from monsal.transport.stdio import open_stdio
from monsal.transport.tls import client_context
from monsal.transport.unix import socket_name

__all__ = ["CONNECT_TIMEOUT", "connect"]

#: Seconds until a connection must be there, that of the contract's `tcp:`.
CONNECT_TIMEOUT: Final = 10.0
#: How often a unix socket whose queue is full is tried again: the kernel tells nobody when there is room.
RETRY: Final = 0.05


async def connect(
    address: str | Address,
    setup: LinkSetup | None = None,
    *,
    timeout: float = CONNECT_TIMEOUT,
    **options: Unpack[LinkOptions],
) -> Link:
    """A link to `address`, made within `timeout` seconds; `options` are the fields of a `LinkSetup`.

    Raises NotRunning if nobody answers there, RemoteError if TLS or a permission stands in the way, ValueError if the
    address is none that one can connect to, ConfigError if a certificate cannot be read.
    """
    target = parse(address) if isinstance(address, str) else address
    made = merged(setup, options)
    if isinstance(target, Stdio):
        return open_stdio(made)
    if not isinstance(target, Tcp | Tls | Unix):
        raise ValueError(f"{target} is no address to connect to; open_endpoint() opens those of any kind")
    name = target.path if isinstance(target, Unix) else str(Tcp(target.host, target.port)).removeprefix("tcp:")
    link = Link(made, name=name, greets=True)
    try:
        with _reaching(name, timeout):
            async with asyncio.timeout(timeout):
                await _attach(link, target, timeout)
    except BaseException:
        # uvloop may have connected by then, and would leave it so.
        link.abort("connecting was given up")
        raise
    return link


async def _attach(link: Link, target: Tcp | Tls | Unix, timeout: float) -> None:
    loop = asyncio.get_running_loop()
    if isinstance(target, Unix):
        await loop.create_unix_connection(lambda: link, sock=await _unix_socket(target.path))
    elif isinstance(target, Tls):
        await loop.create_connection(
            lambda: link,
            target.host,
            target.port,
            ssl=client_context(target),
            server_hostname=target.name or target.host,
            ssl_handshake_timeout=timeout,
        )
    else:
        await loop.create_connection(lambda: link, target.host, target.port)


async def _unix_socket(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        with socket_name(path) as name:
            while True:
                try:
                    connection.connect(name)
                    return connection
                except BlockingIOError:
                    await asyncio.sleep(RETRY)
    except BaseException:
        connection.close()
        raise


@contextlib.contextmanager
def _reaching(name: str, timeout: float) -> Iterator[None]:
    """Foreign errors on the way to `name` become ours."""
    try:
        yield
    except TimeoutError:
        raise NotRunning(f"{name} takes no connection within {timeout:g} seconds") from None
    except ssl.SSLCertVerificationError as error:
        raise RemoteError(f"{name} cannot be trusted: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise RemoteError(f"no TLS with {name}: {error.reason or error}") from None
    except PermissionError as error:
        raise RemoteError(f"this user may not connect to {name}: {error.strerror}") from None
    except OSError as error:
        raise NotRunning(f"nobody listens at {name}: {error.strerror or error}") from None
