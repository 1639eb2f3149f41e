"""The parts of a message (RFC 2045, 2046, 2183, 2231), cut out of its raw bytes without a copy.

Own code, because mail comes from strangers: the parser of the standard library recurses once per level and holds
eight times the message. Here the number of parts, their depth and the work are bounded, and what lies beyond a bound
stays in one piece as the last part that was understood. Nothing raises for any bytes, and nothing is decoded until it
is asked for.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from monsal.mail.attachment import is_content_id
from monsal.mail.charset import decode_base64, decode_header, decode_quoted_printable, decode_text
from monsal.mail.fields import Fields
from monsal.mail.filenames import safe_filename
from monsal.mail.flowed import unflow
from monsal.mail.header import MAX_HEADER, HeaderScan, scan

__all__ = ["MAX_DEPTH", "MAX_PARTS", "Part", "parameters", "parse"]

#: Most parts of one message, containers counted.
MAX_PARTS = 1000
#: Deepest nesting; mail of people has five or six levels.
MAX_DEPTH = 30
#: Most lines that look like a boundary and are none, before the search is given up.
MAX_NEAR_MISSES = 20_000
#: Longest boundary that is searched for; RFC 2046 allows 70.
MAX_BOUNDARY = 256
#: Most parameters read from one Content-Type or Content-Disposition.
MAX_PARAMETERS = 100

_TYPE = re.compile(r"[a-z0-9!#$&^_.+\-]{1,100}/[a-z0-9!#$&^_.+\-]{1,100}")
_PARAMETER = re.compile(r';\s*+([^\s=;"]++)\s*+=\s*+(?:"([^"\\]*+(?:\\.[^"\\]*+)*)"|([^;]*+))', re.DOTALL)
_COMMENT = re.compile(r"\s\([^()]*\)\Z")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
# name*, name*0, name*0* of RFC 2231.
_SECTION = re.compile(r"([^*]+)\*(?:(\d{1,3})(\*)?)?\Z")
_CHARSET = re.compile(r"[A-Za-z0-9._:\-]{1,40}\Z")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_END_OF_DELIMITER = re.compile(rb"(--)?[ \t]*\r?\Z")
_LINE_ENDS = re.compile(r"\r\n|\r")


class Part(Fields):
    """A part of a message, or the message itself as the outermost one.

    `content_type` is in lower case; a multipart that cannot be taken apart has none of its own and is text/plain, so
    that people can still read it. `children` are the parts of a multipart, or the one message inside a message/rfc822.
    """

    __slots__ = ("_disposition", "_end", "_header", "_raw", "_start", "children", "content_type", "depth", "params")

    def __init__(self, raw: bytes, start: int, end: int, *, depth: int, default_type: str, header: HeaderScan) -> None:
        self._raw = raw
        self._start = start
        self._end = max(start, end)
        self.depth = depth
        self._header = header
        self.children: list[Part] = []
        self._disposition: tuple[str, dict[str, str]] | None = None
        value = header.get("content-type")
        self.content_type, self.params = (default_type, {}) if value is None else _content_type(value)

    @property
    def header(self) -> HeaderScan:
        """The part's own header; for the outermost part that of the message."""
        return self._header

    @property
    def is_multipart(self) -> bool:
        return self.content_type.startswith("multipart/")

    @property
    def is_message(self) -> bool:
        """Whether this is a whole message inside of another one."""
        return self.content_type in ("message/rfc822", "message/global", "message/news")

    @property
    def charset(self) -> str | None:
        """The declared character set, None if there is none or it is no word; whether it exists is not checked."""
        value = self.params.get("charset")
        return value if value and _CHARSET.match(value) else None

    @property
    def encoding(self) -> str:
        """The Content-Transfer-Encoding in lower case; 7bit if there is none."""
        value = self.header.get("content-transfer-encoding")
        return value.partition(";")[0].partition("(")[0].strip().lower() if value else "7bit"

    @property
    def disposition(self) -> str:
        """`attachment`, `inline`, another word, or empty if the part does not say."""
        return self._content_disposition()[0]

    @property
    def filename(self) -> str:
        """The name of the file, fit for a folder: no path, no control character; empty if the part has none."""
        name = self._content_disposition()[1].get("filename") or self.params.get("name") or ""
        return safe_filename(decode_header(name)) if name else ""

    @property
    def content_id(self) -> str | None:
        """The Content-ID without its angle brackets, as `cid:` links have it."""
        value = (self.header.get("content-id") or "").strip("<> ")
        return value if is_content_id(value) else None

    @property
    def raw_body(self) -> bytes:
        """The body as it came, still encoded."""
        return self._raw[self._start : self._end]

    @property
    def data(self) -> bytes:
        """The body with its transfer encoding undone; as it came if that cannot be."""
        return _decode(self.raw_body, self.encoding)

    @property
    def text(self) -> str:
        """The body as text: lines end with LF, no NUL; lines that were broken on the way are whole (RFC 3676)."""
        text = decode_text(self.data, self.charset)
        if "\r" in text:
            text = _LINE_ENDS.sub("\n", text)
        text = text.replace("\0", "")
        if self.content_type == "text/plain" and self.params.get("format", "").strip().lower() == "flowed":
            text = unflow(text, delsp=self.params.get("delsp", "").strip().lower() == "yes")
        return text

    def walk(self) -> Iterator[Part]:
        """This part and all below it, from the top down."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(reversed(part.children))

    def _content_disposition(self) -> tuple[str, dict[str, str]]:
        if self._disposition is None:
            value = self.header.get("content-disposition") or ""
            self._disposition = (value.partition(";")[0].strip().lower(), parameters(value))
        return self._disposition


def parse(raw: bytes, header: HeaderScan | None = None) -> Part:
    """Take a raw message apart. Never raises. `header` is the scan of it, if it is at hand."""
    if header is None:
        header = scan(raw)
    root = Part(raw, header.body_offset, len(raw), depth=0, default_type="text/plain", header=header)
    _Splitter().split(root)
    return root


class _Splitter:
    """Splits parts until there is nothing left to split or a bound is reached."""

    __slots__ = ("near_misses", "parts")

    def __init__(self) -> None:
        self.parts = 1
        self.near_misses = 0

    def split(self, root: Part) -> None:
        waiting = [root]
        while waiting:
            part = waiting.pop()
            if part.depth >= MAX_DEPTH or self.parts >= MAX_PARTS:
                continue
            if part.is_multipart:
                part.children = self._children(part)
                if not part.children:
                    part.content_type = "text/plain"
            elif part.is_message:
                part.children = [self._inner_message(part)]
            waiting.extend(reversed(part.children))

    def _inner_message(self, part: Part) -> Part:
        self.parts += 1
        if part.encoding in ("base64", "quoted-printable"):
            # RFC 2046 section 5.2.1 forbids it; it is done all the same.
            data = part.data
            return _part(data, 0, len(data), depth=part.depth + 1, default_type="text/plain")
        return _part(part._raw, part._start, part._end, depth=part.depth + 1, default_type="text/plain")

    def _children(self, part: Part) -> list[Part]:
        boundary = part.params.get("boundary", "").rstrip()
        if not 0 < len(boundary) <= MAX_BOUNDARY:
            return []
        raw, end = part._raw, part._end
        default = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
        children: list[Part] = []
        opened: int | None = None
        same = 0
        for line, after, final in self._delimiters(part, b"--" + boundary.encode("utf-8", "replace")):
            if opened is not None and line >= opened:
                child = _part(raw, opened, line, depth=part.depth + 1, default_type=default)
                if child.is_multipart and child.params.get("boundary", "").rstrip() == boundary:
                    # Old clients gave the inner multipart the boundary of the outer one: its parts are taken as ours.
                    same += 1
                else:
                    children.append(child)
                self.parts += 1
            elif opened is not None:
                # Two delimiters in a row: no part, but work.
                self.near_misses += 1
            opened = None if final else after
            if final and same == 0:
                break
            same -= final
            if self.parts >= MAX_PARTS - 1 or self.near_misses > MAX_NEAR_MISSES:
                # One part is left: it takes all that follows.
                break
        if opened is not None and (opened < end or not children):
            children.append(_part(raw, opened, end, depth=part.depth + 1, default_type=default))
            self.parts += 1
        return children

    def _delimiters(self, part: Part, delimiter: bytes) -> Iterator[tuple[int, int, bool]]:
        """Each delimiter line: where the text before it ends, where the text after it starts, whether it is the last.

        The line end before the delimiter belongs to it (RFC 2046, section 5.1.1).
        """
        raw, start, end = part._raw, part._start, part._end
        needle = b"\n" + delimiter
        position = start if raw.startswith(delimiter, start, end) else _after(raw.find(needle, start, end))
        while position is not None:
            tail = position + len(delimiter)
            line_end = raw.find(b"\n", tail, end)
            if line_end < 0:
                line_end = end
            match = _END_OF_DELIMITER.match(raw[tail : min(line_end, tail + 200)])
            if match is not None:
                before = max(start, position - 1)
                if before > start and raw[before - 1] == 0x0D:
                    before -= 1
                yield before, min(line_end + 1, end), match.group(1) is not None
            else:
                self.near_misses += 1
                if self.near_misses > MAX_NEAR_MISSES:
                    return
            position = _after(raw.find(needle, tail, end))


def _after(found: int) -> int | None:
    """The position after the line end that was found, None if none was."""
    return None if found < 0 else found + 1


def _part(raw: bytes, start: int, end: int, *, depth: int, default_type: str) -> Part:
    """A part whose header starts at `start`."""
    # One octet more than is read, so that the scan knows whether it saw all.
    header = scan(raw[start : min(end, start + MAX_HEADER + 1)])
    return Part(raw, start + header.body_offset, end, depth=depth, default_type=default_type, header=header)


def _decode(data: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        decoded = decode_base64(data)
        return data if decoded is None else decoded
    if encoding == "quoted-printable":
        return decode_quoted_printable(data)
    if encoding in ("x-uuencode", "uuencode", "x-uue", "uue"):
        return _decode_uu(data)
    return data


def _decode_uu(data: bytes) -> bytes:
    """Undo uuencode; as it came if there is no beginning line."""
    lines = iter(data.splitlines())
    for line in lines:
        if line.startswith(b"begin "):
            break
    else:
        return data
    out = []
    for line in lines:
        if line.rstrip() in (b"end", b""):
            break
        try:
            out.append(binascii.a2b_uu(line))
        except binascii.Error:
            # Some encoders pad the last group with too much: take the octets that the line's length sign counts.
            count = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                out.append(binascii.a2b_uu(line[:count]))
            except binascii.Error:
                continue
    return b"".join(out)


def _content_type(value: str) -> tuple[str, dict[str, str]]:
    """Type and parameters of a Content-Type; text/plain for what is none (RFC 2045, section 5.2)."""
    match = _TYPE.match(value.strip().lower())
    return ("text/plain" if match is None else match.group(0)), parameters(value)


def parameters(value: str) -> dict[str, str]:
    """The parameters after the first word of a structured field, names in lower case, RFC 2231 undone."""
    found: dict[str, str] = {}
    sections: dict[str, list[tuple[int, str, bool]]] = {}
    for count, match in enumerate(_PARAMETER.finditer(value)):
        if count >= MAX_PARAMETERS:
            break
        name = match.group(1).lower()
        quoted = match.group(2)
        text = _ESCAPED.sub(r"\1", quoted) if quoted is not None else _unquoted(match.group(3))
        section = _SECTION.match(name)
        if section is None:
            found.setdefault(name, text)
        else:
            number, star = section.group(2), section.group(3)
            extended = number is None or star is not None
            sections.setdefault(section.group(1), []).append((int(number or 0), text, extended))
    for name, pieces in sections.items():
        found[name] = _join_sections(sorted(pieces, key=lambda piece: piece[0]))
    return found


def _unquoted(text: str) -> str:
    """A value without quotes, or whose closing quote is missing, without a comment at its end. Spaces are kept."""
    return _COMMENT.sub("", text.strip()).strip(' "')


def _join_sections(pieces: list[tuple[int, str, bool]]) -> str:
    """The value of a parameter in sections (RFC 2231, section 4.1)."""
    charset: str | None = None
    data = b""
    for index, (_, text, extended) in enumerate(pieces):
        if extended and index == 0 and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)
        raw = text.encode("utf-8", "replace")
        data += _PERCENT.sub(lambda match: bytes([int(match.group(1), 16)]), raw) if extended else raw
    return decode_text(data, charset)
