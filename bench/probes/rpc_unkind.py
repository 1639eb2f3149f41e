"""A caller that means no good: `python -m bench.probes.rpc_unkind ADDRESS ATTACK SECONDS`, beside one that does.

It goes on for so many seconds, with a new connection whenever it is cut off, and prints how often it did what it does.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = ["ATTACKS", "main"]

#: Octets of what is too large, so that it is not refused for its length alone.
_LARGE = 1_000_000
#: Frames of garbage, and calls whose answers are not read, in one piece.
_GARBAGE = 1000
_CALLS = 100
#: Seconds that a write or read of an answer may take.
_PATIENCE = 0.05
#: Seconds from one piece to the next.
_PAUSE = 0.1


def _garbage(turn: int) -> bytes:
    drawn = random.Random(turn)
    return b"".join(drawn.randbytes(40).replace(b"\n", b"?") + b"\n" for _ in range(_GARBAGE))


def _calls(turn: int) -> bytes:
    call = b'{"jsonrpc":"2.0","method":"echo","params":{"value":{"text":"%s"}},"id":%d}\n'
    return b"".join(call % (b"x" * 10_000, number) for number in range(_CALLS))


def _batch(turn: int) -> bytes:
    return b"[" + b",".join([b'{"jsonrpc":"2.0","method":"x","id":1}'] * (_LARGE // 38)) + b"]\n"


def _nested(turn: int) -> bytes:
    return b'{"jsonrpc":"2.0","method":"echo","id":1,"params":' + b"[" * _LARGE + b"\n"


def _endless(turn: int) -> bytes:
    return b"x" * _LARGE


#: What is sent, and whether answers are read.
ATTACKS: dict[str, tuple[Callable[[int], bytes], bool]] = {
    "garbage": (_garbage, True),
    "never reads": (_calls, False),
    "batch bombs": (_batch, True),
    "deep nesting": (_nested, True),
    "a frame without end": (_endless, True),
}


def _connect(address: str) -> socket.socket:
    scheme, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    made = socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET)
    made.connect(rest if scheme == "unix" else (host, int(port)))
    made.settimeout(_PATIENCE)
    return made


def _send(connection: socket.socket, data: bytes, reads: bool) -> bool:
    """Send all of it, and read what is there; False if the other side hung up."""
    rest = memoryview(data)
    while rest:
        with suppress(TimeoutError):
            rest = rest[connection.send(rest) :]
            continue
        if not reads:
            return True
        if not _read(connection):
            return False
    return not reads or _read(connection)


def _read(connection: socket.socket) -> bool:
    with suppress(BlockingIOError):
        return bool(connection.recv(1 << 20, socket.MSG_DONTWAIT))
    return True


def main(address: str, attack: str, seconds: str) -> None:
    """Attack, again and again."""
    make, reads = ATTACKS[attack]
    pieces = [make(turn) for turn in range(10)]
    until = time.monotonic() + float(seconds)
    turns = cut = 0
    print("begun", flush=True)
    connection = _connect(address)
    while time.monotonic() < until:
        try:
            stays = _send(connection, pieces[turns % len(pieces)], reads)
        except OSError:
            stays = False
        turns += 1
        if not stays:
            cut += 1
            connection.close()
            connection = _connect(address)
        time.sleep(_PAUSE)
    connection.close()
    print(json.dumps({"turns": turns, "cut": cut}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
