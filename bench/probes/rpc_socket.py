"""A blocking socket with a codec and nothing else: no ids, no loop, one connection; what is in flight is one write."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import msgspec

from bench.probes.rpc_clock import VALUE, in_batches, main, one_by_one, ready

__all__ = ["drive", "listening", "serve"]

_READ = 1 << 18


class Request(msgspec.Struct):
    method: str
    params: Any
    id: int


class Response(msgspec.Struct):
    result: Any
    id: int


def listening(address: str) -> tuple[socket.socket, str]:
    """A socket that listens at the address, and the address with its port."""
    scheme, _, rest = address.partition(":")
    made = socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET)
    made.bind(rest if scheme == "unix" else ("127.0.0.1", 0))
    made.listen()
    return made, address if scheme == "unix" else f"tcp:127.0.0.1:{made.getsockname()[1]}"


def serve(address: str) -> None:
    found, address = listening(address)
    ready(address)
    while True:
        connection, _ = found.accept()
        with connection:
            _answer(connection)


def _answer(connection: socket.socket) -> None:
    decode, encode = msgspec.json.Decoder(Request).decode, msgspec.json.Encoder().encode
    rest = b""
    while data := connection.recv(_READ):
        *lines, rest = (rest + data).split(b"\n")
        out = []
        for line in lines:
            request = decode(line)
            out.append(encode(Response(request.params, request.id)))
        connection.sendall(b"\n".join([*out, b""]))


def drive(address: str, pid: int, flight: int, seconds: float) -> dict[str, float]:
    scheme, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    connection = socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET)
    connection.connect(rest if scheme == "unix" else (host, int(port)))
    decode, encode = msgspec.json.Decoder(Response).decode, msgspec.json.Encoder().encode

    def calls(number: int) -> Sequence[object]:
        connection.sendall(b"".join([encode(Request("echo", VALUE, one)) + b"\n" for one in range(number)]))
        found: list[object] = []
        held = b""
        while len(found) < number:
            *lines, held = (held + connection.recv(_READ)).split(b"\n")
            found += [decode(line).result for line in lines]
        return found

    if flight == 1:
        return one_by_one(lambda: calls(1)[0], pid, seconds)
    return in_batches(calls, pid, flight, seconds)


if __name__ == "__main__":
    main(serve, drive)
