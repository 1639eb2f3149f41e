"""The content after DATA: where it ends, and what it is without dot-stuffing (RFC 5321, section 4.5.2).

Only `<CRLF>.<CRLF>` ends it. A bare CR or LF is content like any other octet and stays as it is: it is never an end
and never opens a line, so nobody can hide a second transaction behind `<LF>.<LF>` and its kin (SMTP smuggling).
"""

from __future__ import annotations

import re
from typing import Final

__all__: list[str] = []

_END = b"\r\n.\r\n"
#: The proper beginnings of _END, longest first: with one of these at its end a piece cannot be judged yet.
_BEGINNINGS = tuple(_END[:length] for length in range(len(_END) - 1, 0, -1))
#: Pieces are joined up to this size, so that a message that trickles in does not cost an object per packet.
_SMALL = 4096
#: In a piece of this many octets a stuffed dot is looked for in another way. `find` takes 0.9 us a kB for it, an
#: expression 0.4 to 0.7, for it goes from CR to CR; and a search for one octet, where base64 has no dot at all, 0.02.
_LARGE: Final = 16 * 1024
_STUFFED: Final = re.compile(rb"\r\n\.")


class ContentReader:
    """Reads one message's content: `feed` until `ended`, then `take`.

    The work per piece is one search for a line that starts with a dot, and a second pass only if there is one; there
    is no loop over lines. Of a large message each octet is copied once. Above `limit` octets nothing is kept any
    more (`size` still counts).
    """

    __slots__ = ("_chunks", "_first", "_keep", "_limit", "_tail", "ended", "size", "stored")

    def __init__(self, limit: int) -> None:
        self._chunks: list[bytes] = []
        self._first = True
        self._keep = True
        self._limit = limit
        self._tail = b""
        self.ended = False
        self.size = 0
        self.stored = 0

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was read yet."""
        return self._first and not self._tail

    @property
    def kept(self) -> bool:
        """Whether the content is still being kept."""
        return self._keep

    def discard(self) -> None:
        """Forget what was kept, and keep nothing more; the end is still looked for."""
        self._keep = False
        self._chunks.clear()
        self.stored = 0

    def take(self) -> tuple[bytes, ...]:
        """The content, which is no longer held here afterwards."""
        chunks = tuple(self._chunks)
        self._chunks.clear()
        self.stored = 0
        return chunks

    def feed(self, data: bytes, start: int) -> int:
        """Read `data` from `start` on; the position of the first octet that does not belong to the content."""
        shift = 0
        if self._tail:
            shift = start - len(self._tail)
            data = self._tail + data[start:]
            start = 0
            self._tail = b""
        if self._first:
            # The CRLF of the DATA line opens the first line (RFC 5321, section 4.1.1.4).
            opening = data[start : start + 3]
            if opening == b".\r\n":
                self.ended = True
                return start + 3 + shift
            if opening in (b"", b".", b".\r"):
                self._tail = opening
                return len(data) + shift
            self._first = False
            if opening[0] == 0x2E:
                start += 1
        return self._scan(data, start) + shift

    @staticmethod
    def whole(data: bytes, limit: int) -> tuple[bytes, int] | None:
        """A content that begins and ends in `data`, and the position after its end: most come in one piece.

        None if it does not, begins with a dot or is larger than `limit`: then `feed` judges it, which this agrees with.
        """
        dot = data.find(b"\r\n.")
        end = data.find(_END, dot) if dot >= 0 else -1
        if end < 0 or data[0] == 0x2E or end + 2 > limit:
            return None
        content = data[: end + 2]
        return content if dot == end else content.replace(b"\r\n.", b"\r\n"), end + 5

    def add(self, piece: bytes) -> None:
        """Take octets as they are: those of a BDAT chunk, which has no dots and no end of its own (RFC 3030)."""
        self._store(piece)

    def _scan(self, data: bytes, start: int) -> int:
        dot = data.find(b"\r\n.", start) if len(data) < _LARGE else _find_stuffed(data, start)
        end = data.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            stop, following = end + 2, end + 5
        else:
            stop, following = self._stop(data), len(data)
            self._tail = data[stop:]
        piece = data[start:stop]
        if 0 <= dot < stop - 2:
            piece = piece.replace(b"\r\n.", b"\r\n")
        self._store(piece)
        return following

    @staticmethod
    def _stop(data: bytes) -> int:
        """Where a piece without an end has to be cut, because its last octets may belong to one."""
        if data.endswith(_BEGINNINGS):
            for beginning in _BEGINNINGS:
                if data.endswith(beginning):
                    return len(data) - len(beginning)
        return len(data)

    def _store(self, piece: bytes) -> None:
        self.size += len(piece)
        if not self._keep or not piece:
            return
        if self.size > self._limit:
            self.discard()
            return
        self.stored += len(piece)
        chunks = self._chunks
        if chunks and len(chunks[-1]) + len(piece) <= _SMALL:
            chunks[-1] += piece
        else:
            chunks.append(piece)


def _find_stuffed(data: bytes, start: int) -> int:
    """The position of the first CRLF with a dot after it, or -1; quick in a large piece."""
    dot = data.find(b".", start)
    # The CRLF before the first dot may begin two octets earlier, and not before `start`.
    found = None if dot < 0 else _STUFFED.search(data, max(dot - 2, start))
    return -1 if found is None else found.start()
