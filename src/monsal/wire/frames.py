"""Where one packet ends and the next begins: at a delimiter, after a number of octets, or after a header (rpc.B14)."""

from __future__ import annotations

import re
from typing import Final, Protocol

from monsal.wire.packets import EncodeError

__all__ = ["MAX_FRAME", "DelimiterFrames", "Frames", "HeaderFrames", "LengthFrames", "LineFrames", "TooLong"]

#: Octets of one frame unless said otherwise (rpc.B7).
MAX_FRAME = 1024 * 1024


class TooLong:
    """Stands in the list of frames for one that was longer than allowed; its bytes are not kept."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "TooLong()"


_TOO_LONG: Final = TooLong()


class Frames(Protocol):
    """Cuts a stream of bytes into frames, however it was chopped on the way, and marks the end of our own.

    A frame above the limit is reported once as `TooLong`, as soon as that is known, and passed over, so that the next
    one is read as if nothing had been (rpc.B1). At most the limit is held; the work is linear in the bytes (rpc.B7).
    """

    @property
    def held(self) -> int:
        """How many bytes of an unfinished frame are held."""
        ...

    def receive_data(self, data: bytes) -> list[bytes | TooLong]:
        """Take in `data`; the frames that it completes, without what marks their ends."""
        ...

    def wrap(self, payload: bytes) -> bytes:
        """The frame of `payload`. Raises EncodeError if it cannot be told from its end."""
        ...


class DelimiterFrames:
    """Each frame is followed by `delimiter`, NUL for the original's `jrpc` (rpc.R31). Blank frames are left out.

    White space around a frame does not belong to it. Raises ValueError for an empty delimiter.
    """

    __slots__ = ("_delimiter", "_held", "_limit", "_mark", "_skipping", "_tail")

    def __init__(self, delimiter: bytes = b"\0", limit: int = MAX_FRAME) -> None:
        if not delimiter:
            raise ValueError("a delimiter has at least one octet")
        self._delimiter = delimiter
        # Looking for a number in bytes takes a fifth of the time of looking for bytes in bytes.
        self._mark = delimiter[0]
        self._limit = limit
        self._held = bytearray()
        self._skipping = False
        self._tail = len(delimiter) - 1

    @property
    def held(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._held)

    def receive_data(self, data: bytes) -> list[bytes | TooLong]:
        """Take in `data`; the frames that it completes, without their delimiters."""
        held = self._held
        frames: list[bytes | TooLong] = []
        if not held and not self._skipping:
            # One whole frame is what comes most of the time: it is cut without the lists and calls of the others.
            end = data.find(self._delimiter)
            if 0 <= end <= self._limit and end == len(data) - self._tail - 1:
                return [frame] if (frame := data[:end].strip()) else frames
        if held:
            searched = max(0, len(held) - self._tail)
            held += data
            end = held.find(self._delimiter, searched)
            if end < 0:
                self._bound(frames)
                return frames
            self._add(bytes(memoryview(held)[:end]), frames)
            # What follows the first delimiter came with `data`, all of it.
            data = data[len(data) - (len(held) - end - self._tail - 1) :]
            self._held = held = bytearray()
        *whole, rest = data.split(self._delimiter)
        if self._skipping or len(data) > self._limit:
            for frame in whole:
                self._add(frame, frames)
        else:
            frames += [frame for each in whole if (frame := each.strip())]
        if rest:
            held += rest
            self._bound(frames)
        return frames

    def wrap(self, payload: bytes) -> bytes:
        """The payload with its delimiter. Raises EncodeError if the delimiter is in it (rpc.R31)."""
        frame = payload + self._delimiter
        # A longer delimiter may also begin in the payload and end in itself.
        if self._mark in payload if not self._tail else frame.find(self._delimiter) < len(payload):
            raise EncodeError(f"the delimiter {self._delimiter!r} is in what is to be sent")
        return frame

    def _add(self, frame: bytes, frames: list[bytes | TooLong]) -> None:
        if self._skipping:
            self._skipping = False
        elif len(frame) > self._limit:
            frames.append(_TOO_LONG)
        elif frame := frame.strip():
            frames.append(frame)

    def _bound(self, frames: list[bytes | TooLong]) -> None:
        """Let go of the start of a frame that is too long, but not of what may be the start of its delimiter."""
        if self._skipping or len(self._held) > self._limit + self._tail:
            if not self._skipping:
                frames.append(_TOO_LONG)
            self._skipping = True
            del self._held[: max(0, len(self._held) - self._tail)]


class LineFrames(DelimiterFrames):
    """Each frame is a line: at a newline, which JSON never contains unescaped. Blank lines are left out (rpc.R31)."""

    __slots__ = ()

    def __init__(self, limit: int = MAX_FRAME) -> None:
        super().__init__(b"\n", limit)


class LengthFrames:
    """Each frame is preceded by its length in four octets, highest first."""

    __slots__ = ("_held", "_limit", "_skip")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._held = bytearray()
        self._skip = 0

    @property
    def held(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._held)

    def receive_data(self, data: bytes) -> list[bytes | TooLong]:
        """Take in `data`; the frames that it completes, without their lengths. Empty ones are left out."""
        frames: list[bytes | TooLong] = []
        if self._held:
            self._held += data
            data = bytes(self._held) if self._is_whole() else b""
            if not data:
                return frames
            self._held.clear()
        start, end = 0, len(data)
        while start < end:
            if self._skip:
                passed = min(self._skip, end - start)
                self._skip -= passed
                start += passed
                continue
            body = start + 4
            if body > end:
                break
            length = int.from_bytes(data[start:body], "big")
            if length > self._limit:
                frames.append(_TOO_LONG)
                self._skip = length
            elif body + length > end:
                break
            elif length:
                frames.append(data[body : body + length])
            start = body if self._skip else body + length
        self._held += memoryview(data)[start:]
        return frames

    def wrap(self, payload: bytes) -> bytes:
        """The payload after its length. Raises EncodeError if it has 4 GiB or more."""
        if len(payload) >> 32:
            raise EncodeError("a frame has less than 4 GiB")
        return len(payload).to_bytes(4, "big") + payload

    def _is_whole(self) -> bool:
        """Whether the frame that is held can be cut, so that its bytes are copied once and not at each piece."""
        if len(self._held) < 4:
            return False
        length = int.from_bytes(self._held[:4], "big")
        return length > self._limit or len(self._held) >= 4 + length


#: Octets of a header; the Language Server Protocol has two lines of it.
_MAX_HEADER: Final = 4096
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?:\A|\r\n)content-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n|\Z)", re.IGNORECASE)


class HeaderFrames:
    """Each frame is preceded by lines of header with its Content-Length (Language Server Protocol 3.17, base protocol).

    A header without that line is given out as if it were a frame: no codec will take it, and its sender is told so.
    """

    __slots__ = ("_held", "_limit", "_need", "_skip", "_skipping")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._held = bytearray()
        self._need = -1
        self._skip = 0
        self._skipping = False

    @property
    def held(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._held)

    def receive_data(self, data: bytes) -> list[bytes | TooLong]:
        """Take in `data`; the frames that it completes, without their headers. Empty ones are left out."""
        frames: list[bytes | TooLong] = []
        searched = max(0, len(self._held) - 3)
        held = self._held
        held += data
        while True:
            if self._skip:
                passed = min(self._skip, len(held))
                del held[:passed]
                self._skip -= passed
                searched = 0
            if self._need >= 0:
                if len(held) < self._need:
                    return frames
                if self._need:
                    frames.append(bytes(memoryview(held)[: self._need]))
                del held[: self._need]
                self._need, searched = -1, 0
            end = held.find(_END, searched)
            if end < 0 or end > _MAX_HEADER:
                if not self._pass_over(end, frames):
                    return frames
            else:
                self._read_header(bytes(memoryview(held)[:end]), frames)
                del held[: end + 4]
            searched = 0

    def wrap(self, payload: bytes) -> bytes:
        """The payload after its header."""
        return b"Content-Length: %d\r\n\r\n%b" % (len(payload), payload)

    def _read_header(self, header: bytes, frames: list[bytes | TooLong]) -> None:
        if self._skipping:  # the end of a header that was too long already
            self._skipping = False
            return
        found = _LENGTH.search(header)
        if found is None:
            if header := header.strip():
                frames.append(header)
        elif (length := int(found[1])) > self._limit:
            frames.append(_TOO_LONG)
            self._skip = length
        else:
            self._need = length

    def _pass_over(self, end: int, frames: list[bytes | TooLong]) -> bool:
        """Let go of a header that is too long; whether its end is known."""
        if end < 0 and not self._skipping and len(self._held) <= _MAX_HEADER + 3:
            return False
        if not self._skipping:
            frames.append(_TOO_LONG)
        self._skipping = end < 0
        del self._held[: max(0, len(self._held) - 3) if end < 0 else end + 4]
        return end >= 0
