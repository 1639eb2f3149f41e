"""Addresses to listen on."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from monsal.errors import ConfigError
from monsal.ingress.listen import Bind, listening_sockets, parse_bind


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("smtp://127.0.0.1:8825", Bind(host="127.0.0.1", port=8825)),
        ("127.0.0.1:0", Bind(host="127.0.0.1")),
        ("lmtp://localhost:24", Bind(host="localhost", port=24)),
        ("smtp://[::1]:25", Bind(host="::1", port=25)),
        ("lmtp:run/lmtp.sock", Bind(path="run/lmtp.sock")),
        ("lmtp:///srv/app/run/lmtp.sock", Bind(path="/srv/app/run/lmtp.sock")),
        ("unix:/run/x.sock", Bind(path="/run/x.sock")),
        ("./x.sock", Bind(path="./x.sock")),
    ],
)
def test_addresses(text: str, bind: Bind) -> None:
    assert parse_bind(text) == bind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "smtp://",
        "8825",
        ":8825",
        "smtp://:25",
        "host",
        "host:",
        "host:x",
        "h:65536",
        "h:²",
        "http://127.0.0.1:8931",
        "HTTP://h:1",
        "http:run/x.sock",
        "smtp://127.0.0.1:8825/",
        "lmtp://run/x.sock",
        "imap://h:1/x",
    ],
)
def test_what_is_no_address(text: str) -> None:
    """P8: to listen everywhere has to be said."""
    with pytest.raises(ConfigError, match="no address to listen on"):
        parse_bind(text)


def test_replies_do_not_wait_for_acknowledgements() -> None:
    (made,) = listening_sockets(Bind(host="127.0.0.1"))
    with made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        made.listen()
        with socket.create_connection(made.getsockname()) as client:
            made.setblocking(True)
            accepted, _ = made.accept()
            with accepted, client:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_an_address_in_use_leaves_nothing_open() -> None:
    (made,) = listening_sockets(Bind(host="127.0.0.1"))
    with made:
        made.listen()
        with pytest.raises(OSError, match="in use"):
            listening_sockets(Bind(host="127.0.0.1", port=made.getsockname()[1]))


def test_a_living_process_that_accepts_nobody_keeps_its_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp.sock")
    (made,) = listening_sockets(Bind(path=path))
    with made, contextlib.ExitStack() as waiting:
        made.listen(0)
        # Its queue is full: who comes now is told to wait.
        for _ in range(2):
            one = waiting.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(path)
        with pytest.raises(OSError, match="another process listens"):
            listening_sockets(Bind(path=path))
        assert Path(path).is_socket()


def test_the_socket_of_a_process_that_is_gone_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp.sock")
    (gone,) = listening_sockets(Bind(path=path))
    gone.listen()
    gone.close()
    (made,) = listening_sockets(Bind(path=path))
    with made:
        made.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.connect(path)
