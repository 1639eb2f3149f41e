"""What one peer may use of us, and what we ask of it."""

from __future__ import annotations

import msgspec

__all__ = ["PeerLimits"]


class PeerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds for one link (rpc.B7). Sizes are in octets, times in seconds.

    `frame`, `depth` (of JSON, and of each item of a batch; msgpack goes as deep as the stack) and `batch` bound one
    frame; frames and codec are given the same when they are made. `in_flight` calls of the other side run at a
    time, `queue` more, of together `held` octets, are held back, and above that they are answered Busy. Reading
    stops while more than `write_buffer` octets wait to be sent.
    `timeout` is the deadline of a call that is given none; after `beat` seconds of silence a ping is sent, after
    twice that the peer is lost. `garbage` frames in a row without a good one end the link: a person at a keyboard
    errs a dozen times, and a program that was wrong a hundred times will not be right.
    """

    frame: int = 1024 * 1024
    depth: int = 64
    batch: int = 100
    in_flight: int = 64
    queue: int = 1024
    held: int = 8 * 1024 * 1024
    write_buffer: int = 1024 * 1024
    timeout: float = 30.0
    beat: float | None = 10.0
    garbage: int = 100
