"""Sockets and what stands in their place: the shell that gives a `wire.Peer` its bytes, its clock and its futures.

    link = await connect("unix:run/api.sock")
    acceptor = await listen("tcp://127.0.0.1:8888", on_call=handle)
    endpoint = await open_endpoint("mux:(tcpserv::8888)(stdio:)", on_call=handle)

May import: `monsal.wire`, the ground floor, asyncio. It knows nothing of methods, objects and promises: it hands calls
up and answers down. Names come when they are first asked for, because to read an address takes no socket.
Start reading at `address.py` (where the other side is), then `driver.py` and `link.py` (what goes over a link).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monsal.transport.acceptor import Acceptor as Acceptor
    from monsal.transport.acceptor import AcceptorStatistics as AcceptorStatistics
    from monsal.transport.acceptor import AcceptSetup as AcceptSetup
    from monsal.transport.acceptor import listen as listen
    from monsal.transport.address import Address as Address
    from monsal.transport.address import Internal as Internal
    from monsal.transport.address import Mux as Mux
    from monsal.transport.address import Nowhere as Nowhere
    from monsal.transport.address import Restart as Restart
    from monsal.transport.address import Stdio as Stdio
    from monsal.transport.address import Tcp as Tcp
    from monsal.transport.address import TcpServer as TcpServer
    from monsal.transport.address import Tls as Tls
    from monsal.transport.address import Unix as Unix
    from monsal.transport.address import UnixServer as UnixServer
    from monsal.transport.address import parse as parse
    from monsal.transport.connector import CONNECT_TIMEOUT as CONNECT_TIMEOUT
    from monsal.transport.connector import connect as connect
    from monsal.transport.driver import Connected as Connected
    from monsal.transport.driver import Disconnected as Disconnected
    from monsal.transport.driver import Driver as Driver
    from monsal.transport.driver import Keeper as Keeper
    from monsal.transport.driver import LinkStatistics as LinkStatistics
    from monsal.transport.endpoint import Endpoint as Endpoint
    from monsal.transport.endpoint import Single as Single
    from monsal.transport.endpoint import link_to as link_to
    from monsal.transport.faults import error_of as error_of
    from monsal.transport.link import Link as Link
    from monsal.transport.memory import Place as Place
    from monsal.transport.memory import join_bus as join_bus
    from monsal.transport.memory import link_pair as link_pair
    from monsal.transport.mux import Several as Several
    from monsal.transport.mux import open_endpoint as open_endpoint
    from monsal.transport.pipes import MAX_CHUNKS as MAX_CHUNKS
    from monsal.transport.pipes import DescriptorTransport as DescriptorTransport
    from monsal.transport.pipes import MemoryTransport as MemoryTransport
    from monsal.transport.reconnector import Reconnecting as Reconnecting
    from monsal.transport.reconnector import reconnect as reconnect
    from monsal.transport.setup import NEWLINE_JSON as NEWLINE_JSON
    from monsal.transport.setup import LinkOptions as LinkOptions
    from monsal.transport.setup import LinkSetup as LinkSetup
    from monsal.transport.setup import Wiring as Wiring
    from monsal.transport.setup import merged as merged
    from monsal.transport.setup import wiring as wiring
    from monsal.transport.stdio import open_stdio as open_stdio
    from monsal.transport.threaded import LoopThread as LoopThread
    from monsal.transport.threaded import background as background
    from monsal.transport.threaded import run as run
    from monsal.transport.tls import client_context as client_context
    from monsal.transport.tls import server_context as server_context
    from monsal.transport.unix import Credentials as Credentials
    from monsal.transport.unix import credentials_of as credentials_of
    from monsal.transport.unix import listening_unix_socket as listening_unix_socket
    from monsal.transport.unix import remove_socket_file as remove_socket_file
    from monsal.transport.unix import socket_name as socket_name

_HOME = {
    "CONNECT_TIMEOUT": "connector",
    "MAX_CHUNKS": "pipes",
    "NEWLINE_JSON": "setup",
    "AcceptSetup": "acceptor",
    "Acceptor": "acceptor",
    "AcceptorStatistics": "acceptor",
    "Address": "address",
    "Connected": "driver",
    "Credentials": "unix",
    "DescriptorTransport": "pipes",
    "Disconnected": "driver",
    "Driver": "driver",
    "Endpoint": "endpoint",
    "Internal": "address",
    "Keeper": "driver",
    "Link": "link",
    "LinkOptions": "setup",
    "LinkSetup": "setup",
    "LinkStatistics": "driver",
    "LoopThread": "threaded",
    "MemoryTransport": "pipes",
    "Mux": "address",
    "Nowhere": "address",
    "Place": "memory",
    "Reconnecting": "reconnector",
    "Restart": "address",
    "Several": "mux",
    "Single": "endpoint",
    "Stdio": "address",
    "Tcp": "address",
    "TcpServer": "address",
    "Tls": "address",
    "Unix": "address",
    "UnixServer": "address",
    "Wiring": "setup",
    "background": "threaded",
    "client_context": "tls",
    "connect": "connector",
    "credentials_of": "unix",
    "error_of": "faults",
    "join_bus": "memory",
    "link_pair": "memory",
    "link_to": "endpoint",
    "listen": "acceptor",
    "listening_unix_socket": "unix",
    "merged": "setup",
    "open_endpoint": "mux",
    "open_stdio": "stdio",
    "parse": "address",
    "reconnect": "reconnector",
    "remove_socket_file": "unix",
    "run": "threaded",
    "server_context": "tls",
    "socket_name": "unix",
    "wiring": "setup",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'monsal.transport' has no attribute {name!r}")
    value = getattr(import_module(f"monsal.transport.{home}"), name)
    globals()[name] = value
    return value
