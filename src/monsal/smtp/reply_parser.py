"""The replies of a peer, read from bytes as they come (RFC 5321, section 4.2)."""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache

from monsal.errors import ProtocolError
from monsal.smtp.replies import Reply

__all__ = ["ReplyParser"]

#: One line without its end: the code, whether more lines follow, the text. A code alone is allowed (section 4.2.1).
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?\Z", re.DOTALL)
#: An enhanced status code in front of the text (RFC 2034, section 4).
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |\Z)")


class ReplyParser:
    """Turns the peer's bytes into `Reply` records, however the bytes are cut.

    Order of use: `feed` what arrived, then `next_reply` until it gives None. It holds at most one unfinished reply:
    `max_line` octets a line (four times what RFC 5321 section 4.5.3.1.5 allows, because living systems write long
    ones) and `max_lines` lines.
    """

    __slots__ = ("_lines", "_max_line", "_max_lines", "_rest", "_waiting")

    def __init__(self, *, max_line: int = 2048, max_lines: int = 128) -> None:
        self._rest = b""  # a line that has no end yet
        self._waiting: deque[bytes] = deque()  # lines that are whole, without their LF
        self._lines: list[tuple[bytes, bytes]] = []
        self._max_line = max_line
        self._max_lines = max_lines

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        self._waiting.extend(lines)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of what was fed."""
        return not (self._lines or self._waiting or self._rest)

    def next_reply(self) -> Reply | None:
        """The next whole reply, or None if more bytes are needed.

        Raises ProtocolError for what is no reply or is longer than the bounds; the parser is of no use after that.
        """
        while self._waiting:
            line = self._waiting.popleft()
            if len(line) >= self._max_line:
                raise self._too_long()
            if not self._lines and (single := _single(line)) is not None:
                return single
            code, mark, text = _parts(line)
            self._continue(code, text)
            if mark != b"-":
                return self._finish(code)
        if len(self._rest) > self._max_line:
            raise self._too_long()
        return None

    def _too_long(self) -> ProtocolError:
        return ProtocolError(f"a reply line is longer than {self._max_line} octets")

    def _continue(self, code: bytes, text: bytes) -> None:
        if self._lines and self._lines[0][0] != code:
            raise ProtocolError(f"one reply with two codes: {self._lines[0][0].decode()} and {code.decode()}")
        if len(self._lines) >= self._max_lines:
            raise ProtocolError(f"a reply has more than {self._max_lines} lines")
        self._lines.append((code, text))

    def _finish(self, code: bytes) -> Reply:
        parts = [_reply(int(code), _printable(text)) for _, text in self._lines]
        self._lines.clear()
        enhanced = next((part.enhanced for part in parts if part.enhanced), None)
        return Reply(int(code), enhanced, tuple(part.lines[0] for part in parts))


@lru_cache(maxsize=256)  # a peer says the same to each mail; what holds the id of a mail only passes through
def _single(line: bytes) -> Reply | None:
    """The reply of one line; None if that line has others after it. Raises ProtocolError."""
    code, mark, text = _parts(line)
    return None if mark == b"-" else _reply(int(code), _printable(text))


def _parts(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Code, mark and text of a line. Raises ProtocolError."""
    found = _LINE.match(line.removesuffix(b"\r"))
    if found is None:
        raise ProtocolError(f"not a reply: {line[:80]!r}")
    code, mark, text = found.groups(b"")
    return code, mark, text


def _reply(code: int, text: str) -> Reply:
    # Two of three replies carry an enhanced code; the look at one character spares the others the expression.
    if text[1:2] == "." and (found := _ENHANCED.match(text)) and text[0] == str(code)[0]:
        return Reply(code, found[1], text[found.end() :])
    return Reply(code, None, text)


def _printable(text: bytes) -> str:
    """The text for people's eyes and logs: what steers a terminal is shown as `?` (P8)."""
    decoded = text.decode("utf-8", "replace")
    if decoded.isprintable():
        return decoded
    return "".join(char if char.isprintable() else "?" for char in decoded)
