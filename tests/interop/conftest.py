"""Foreign programs: found or the test fails, started on ports of their own, ended by their own pid."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness import Server, make_application
from line_program import LineProgram
from tools.peers import environment, npm_environment

RPC_PEERS = Path(__file__).resolve().parent / "rpc_peers"

HANDLERS = """
from monsal import reply, route, stateless


@route("desk@(host)")
def START(message):
    reply(f"Hello, your mail {message.subject!r} is here.")
    return AGAIN


@route("desk@(host)")
def AGAIN(message):
    reply("Hello again.", even_if_automatic=True)


@stateless
@route("quiet@(host)")
def QUIET(message):
    pass
"""


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """`program(name)` is the path of a foreign program. A missing one is a failure: make interop installs them."""

    def find(name: str) -> str:
        path = shutil.which(name, path=os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin:/sbin")
        assert path, f"{name} is not installed; run tools/install_peers.sh"
        return path

    return find


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on. It is taken again at once; nobody else is told of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., Server]]:
    """`serve(**settings)` starts a server of a small application; it files its replies unless told otherwise."""
    with ExitStack() as stack:

        def start(handlers: str = HANDLERS, **settings: Any) -> Server:
            server = stack.enter_context(Server(make_application(home, handlers, **settings)))
            server.start()
            return server

        yield start


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    """A started server with the settings of the harness."""
    return serve()


@pytest.fixture
def node() -> Iterator[Callable[..., LineProgram]]:
    """`node(script, *arguments)` runs one of rpc_peers/*.js."""
    with ExitStack() as stack:

        def start(script: str, *arguments: object) -> LineProgram:
            command = ["node", RPC_PEERS / script, *map(str, arguments)]
            return stack.enter_context(LineProgram(command, {"NODE_PATH": str(npm_environment("jsonrpc"))}))

        yield start


@pytest.fixture
def quickrpc() -> Iterator[Callable[..., LineProgram]]:
    """`quickrpc(*arguments)` runs rpc_peers/quickrpc_peer.py with the original library."""
    with ExitStack() as stack:

        def start(*arguments: object) -> LineProgram:
            command = [environment("quickrpc"), RPC_PEERS / "quickrpc_peer.py", *map(str, arguments)]
            return stack.enter_context(LineProgram(command))

        yield start
