"""Addresses to listen on."""

from __future__ import annotations

import socket

import pytest

from monsal.errors import ConfigError
from monsal.ingress.listen import Bind, display_address, listening_sockets, parse_bind


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


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("127.0.0.1", 25), "127.0.0.1:25"),
        (("::1", 25, 0, 0), "[::1]:25"),
        ("run/lmtp.sock", "run/lmtp.sock"),
        (b"/run/\xff.sock", "/run/\udcff.sock"),
    ],
)
def test_addresses_for_people(address: object, shown: str) -> None:
    assert display_address(address) == shown
