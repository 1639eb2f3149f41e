"""The header of the PROXY protocol: who it names, and what is none."""

from __future__ import annotations

import socket
import struct

import pytest

from monsal.smtp.proxy import ProxyHeader, ProxyReader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def binary(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def block4(source: str, port: int) -> bytes:
    return socket.inet_aton(source) + socket.inet_aton("198.51.100.1") + struct.pack("!HH", port, 25)


def block6(source: str, port: int) -> bytes:
    packed = [socket.inet_pton(socket.AF_INET6, each) for each in (source, "2001:db8::2")]
    return b"".join(packed) + struct.pack("!HH", port, 25)


GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n", ("192.0.2.1", 56324)),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n", ("2001:db8::1", 1)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (binary(0x21, 0x11, block4("192.0.2.1", 56324)), ("192.0.2.1", 56324)),
    (binary(0x21, 0x21, block6("2001:db8::1", 7)), ("2001:db8::1", 7)),
    (binary(0x21, 0x11, block4("192.0.2.1", 8) + b"\x01\x00\x02h2" * 20), ("192.0.2.1", 8)),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, block4("192.0.2.1", 8)), None),
    (binary(0x21, 0x00, b""), None),
    (binary(0x21, 0x31, b"/" * 216), None),
]

BAD = [
    b"EHLO x\r\n",
    b"\x16\x03\x01",
    b"PROXY\r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 99999\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 x 25\r\n",
    b"PROXY TCP4 here there 1 25\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 1 25\r\n",
    b"PROXY TCP9 192.0.2.1 198.51.100.1 1 25\r\n",
    b"PROXY TCP4  192.0.2.1 198.51.100.1 1 25\r\n",
    b"PROXY " + b"x" * 200,
    binary(0x11, 0x11, block4("192.0.2.1", 1)),
    binary(0x2F, 0x11, block4("192.0.2.1", 1)),
    binary(0x21, 0x11, b"short"),
    SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 65535),
]


@pytest.mark.parametrize(("header", "source"), GOOD)
def test_however_it_is_cut(header: bytes, source: tuple[str, int] | None) -> None:
    whole = ProxyReader()
    assert whole.feed(header + b"EHLO x\r\n") == ProxyHeader(source)
    assert whole.rest == b"EHLO x\r\n"

    single = ProxyReader()
    found = [single.feed(bytes([octet])) for octet in header]
    assert found == [None] * (len(header) - 1) + [ProxyHeader(source)]
    assert single.rest == b""


@pytest.mark.parametrize("data", BAD)
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(ValueError):
        ProxyReader().feed(data)
    single = ProxyReader()
    with pytest.raises(ValueError):
        any(single.feed(bytes([octet])) for octet in data)


def test_a_large_first_packet_is_kept() -> None:
    reader = ProxyReader()
    body = b"x" * 200_000

    assert reader.feed(GOOD[4][0] + body) == ProxyHeader(("192.0.2.1", 56324))
    assert reader.rest == body
