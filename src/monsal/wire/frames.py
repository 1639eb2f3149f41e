"""Where one packet ends and the next begins: at a newline, which JSON never contains unescaped."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_FRAME", "LineFrames", "TooLong"]

#: Octets of one frame unless said otherwise (rpc.B7).
MAX_FRAME = 1024 * 1024


class TooLong:
    """Stands in the list of frames for one that was longer than allowed; its bytes are not kept."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "TooLong()"


_TOO_LONG: Final = TooLong()


class LineFrames:
    """Cuts a stream of bytes at its newlines, however it was chopped on the way.

    Feed it with `receive_data`. At most `limit` bytes are held; a longer frame is reported once as `TooLong`, as soon
    as that is known, and skipped up to its newline, so that the next one is read as if nothing had been (rpc.B1).
    Blank frames are left out (rpc.R31). The work is linear in the number of bytes (rpc.B7).
    """

    __slots__ = ("_held", "_limit", "_skipping")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._held = bytearray()
        self._skipping = False

    @property
    def held(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._held)

    def receive_data(self, data: bytes) -> list[bytes | TooLong]:
        """Take in `data`; the frames that it completes, without their newlines."""
        frames: list[bytes | TooLong] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._extend(data, start, end, frames)
            if self._skipping:
                self._skipping = False
            elif frame := bytes(self._held).strip():
                frames.append(frame)
            self._held.clear()
            start = end + 1
        self._extend(data, start, len(data), frames)
        return frames

    def _extend(self, data: bytes, start: int, end: int, frames: list[bytes | TooLong]) -> None:
        if self._skipping:
            return
        if len(self._held) + end - start > self._limit:
            self._held.clear()
            self._skipping = True
            frames.append(_TOO_LONG)
            return
        self._held += memoryview(data)[start:end]
