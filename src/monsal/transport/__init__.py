"""Sockets and what stands in their place: the shell that gives a `wire.Peer` its bytes, its clock and its futures.

    link = await connect("unix:run/api.sock")
    acceptor = await listen("tcp://127.0.0.1:8888", on_call=handle)
    endpoint = await open_endpoint("mux:(tcpserv::8888)(stdio:)", on_call=handle)

May import: `monsal.wire`, the ground floor, asyncio. It knows nothing of methods, objects and promises: it hands calls
up and answers down. Names come when they are first asked for, because to read an address takes no socket.
Start reading at `address.py` (where the other side is), then `driver.py` and `link.py` (what goes over a link).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monsal.late import late

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
    "CONNECT_TIMEOUT": "monsal.transport.connector",
    "MAX_CHUNKS": "monsal.transport.pipes",
    "NEWLINE_JSON": "monsal.transport.setup",
    "AcceptSetup": "monsal.transport.acceptor",
    "Acceptor": "monsal.transport.acceptor",
    "AcceptorStatistics": "monsal.transport.acceptor",
    "Address": "monsal.transport.address",
    "Connected": "monsal.transport.driver",
    "Credentials": "monsal.transport.unix",
    "DescriptorTransport": "monsal.transport.pipes",
    "Disconnected": "monsal.transport.driver",
    "Driver": "monsal.transport.driver",
    "Endpoint": "monsal.transport.endpoint",
    "Internal": "monsal.transport.address",
    "Keeper": "monsal.transport.driver",
    "Link": "monsal.transport.link",
    "LinkOptions": "monsal.transport.setup",
    "LinkSetup": "monsal.transport.setup",
    "LinkStatistics": "monsal.transport.driver",
    "LoopThread": "monsal.transport.threaded",
    "MemoryTransport": "monsal.transport.pipes",
    "Mux": "monsal.transport.address",
    "Nowhere": "monsal.transport.address",
    "Place": "monsal.transport.memory",
    "Reconnecting": "monsal.transport.reconnector",
    "Restart": "monsal.transport.address",
    "Several": "monsal.transport.mux",
    "Single": "monsal.transport.endpoint",
    "Stdio": "monsal.transport.address",
    "Tcp": "monsal.transport.address",
    "TcpServer": "monsal.transport.address",
    "Tls": "monsal.transport.address",
    "Unix": "monsal.transport.address",
    "UnixServer": "monsal.transport.address",
    "Wiring": "monsal.transport.setup",
    "background": "monsal.transport.threaded",
    "client_context": "monsal.transport.tls",
    "connect": "monsal.transport.connector",
    "credentials_of": "monsal.transport.unix",
    "error_of": "monsal.transport.faults",
    "join_bus": "monsal.transport.memory",
    "link_pair": "monsal.transport.memory",
    "link_to": "monsal.transport.endpoint",
    "listen": "monsal.transport.acceptor",
    "listening_unix_socket": "monsal.transport.unix",
    "merged": "monsal.transport.setup",
    "open_endpoint": "monsal.transport.mux",
    "open_stdio": "monsal.transport.stdio",
    "parse": "monsal.transport.address",
    "reconnect": "monsal.transport.reconnector",
    "remove_socket_file": "monsal.transport.unix",
    "run": "monsal.transport.threaded",
    "server_context": "monsal.transport.tls",
    "socket_name": "monsal.transport.unix",
    "wiring": "monsal.transport.setup",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
