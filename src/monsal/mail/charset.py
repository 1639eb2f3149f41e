"""Text out of bytes that nobody vouches for, and words in headers (RFC 2047).

No encoding is trusted: what the sender declared is tried first, then UTF-8, then Windows-1252 with replacement, which
takes any byte. A declared set in which every byte is a character proves nothing by fitting: text that reads as UTF-8 is
UTF-8 then. No function here raises for what a foreigner sent.
"""

from __future__ import annotations

import binascii
import codecs
import re
from functools import lru_cache

__all__ = ["clean", "decode_base64", "decode_header", "decode_quoted_printable", "decode_text", "encode_words"]

# A codec's name may end up in an import of `encodings.<name>`: only plain words get there.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,39}\Z")

# Text codecs of Python that are no character sets of mail: they escape, normalise domain names, or always raise.
_REFUSED = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"})

# What senders write, and the codec that reads what they mean. The supersets are those of the WHATWG Encoding
# Standard: mail that says iso-8859-1 and holds curly quotes is Windows-1252.
_ALIASES = {
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "iso_8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "l1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "iso-8859-6-i": "iso-8859-6",
    "x-mac-roman": "mac-roman",
    "macintosh": "mac-roman",
    "utf8": "utf-8",
    "unicode-1-1-utf-7": "utf-7",
    "x-gbk": "gb18030",
    "gb_2312-80": "gb18030",
    "gb2312-80": "gb18030",
    "cn-big5": "big5",
    "big5-hkscs": "big5hkscs",
    "x-euc-jp": "euc_jp",
    "x-unknown": "utf-8",
    "unknown-8bit": "utf-8",
    "koi8": "koi8-r",
    "cp-850": "cp850",
    "x-cp1252": "cp1252",
    "x-cp1251": "cp1251",
    "ansi": "cp1252",
    "ascii": "us-ascii",
}

# Codecs that read bytes below 128 otherwise than ASCII.
_NOT_ASCII_BASED = (
    "utf-7",
    "utf-16",
    "utf-32",
    "iso2022",
    "hz",
    "cp037",
    "cp273",
    "cp424",
    "cp500",
    "cp875",
    "cp1026",
    "cp1140",
)

# Codecs of one byte per character, which fit almost any bytes. Not those of several bytes: short Chinese text can be
# valid in both.
_BYTEWISE = re.compile(
    r"(?:cp(?:125\d|437|85\d|86\d|866)|iso8859(?:-\d+)?|koi8-[rut]|mac-\w+|latin\w*|tis-620|cp874)\Z"
)
# Bytes that ISO-2022-JP switches its sets with (RFC 1468); nobody else writes them into mail.
_JAPANESE = (b"\x1b$B", b"\x1b$@", b"\x1b(J")

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@lru_cache(maxsize=256)
def _codec(charset: str) -> str | None:
    """The codec for a declared character set, or None if there is none that may be used."""
    name = charset.strip(" \t\"'").lower()
    if not _NAME.match(name):
        return None
    try:
        info = codecs.lookup(_ALIASES.get(name, name))
    except (LookupError, ValueError, ImportError):
        return None
    # base64, rot13, zlib and their like are registered as codecs too; the flag tells them from character sets.
    if info.name in _REFUSED or not getattr(info, "_is_text_encoding", True):
        return None
    return info.name


def decode_text(data: bytes, charset: str | None = None) -> str:
    """The text of `data`, which is said to be in `charset`. Never raises; holds no surrogates and no leading BOM."""
    codec = _codec(charset) if charset else None
    plain = data.isascii()
    if codec in (None, "ascii") and plain and b"\x1b" in data and any(escape in data for escape in _JAPANESE):
        codec = "iso2022_jp"
    if plain and (codec is None or not codec.startswith(_NOT_ASCII_BASED)):
        return data.decode("ascii")
    text = _attempt(data, "utf-8", "strict") if codec and _BYTEWISE.match(codec) else None
    if text is None:
        text = _attempt(data, codec, "strict") if codec else None
    if text is None and codec and plain:
        # Bytes below 128 would pass as UTF-8 and show their escape sequences.
        text = _attempt(data, codec, "replace")
    if text is None:
        text = _attempt(data, "utf-8", "strict")
    if text is None:
        text = data.decode("cp1252", "replace")
    if text.startswith("\ufeff"):
        text = text[1:]
    return _SURROGATE.sub("\ufffd", text)


def _attempt(data: bytes, codec: str, errors: str) -> str | None:
    try:
        return data.decode(codec, errors)
    except (ValueError, LookupError, OverflowError):
        return None


def clean(text: str) -> str:
    """Text fit for one line: control characters, line separators and surrogates become spaces.

    An encoded word can hold CR and LF; this keeps them out of every header that is copied into a reply.
    """
    return text if text.isprintable() else _UNFIT.sub(" ", text)


_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")


def decode_base64(data: bytes) -> bytes | None:
    """The bytes of base 64 with whatever else stands between; None if nothing can be made of it."""
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        digits = _NOT_BASE64.sub(b"", data)
    # The padding is wrong: as many whole octets as there are. One digit alone is none.
    digits = digits[: len(digits) - (len(digits) % 4 == 1)]
    try:
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
    except binascii.Error:
        return None


def decode_quoted_printable(data: bytes, *, header: bool = False) -> bytes:
    """The bytes of quoted-printable; what is malformed stays as it is (RFC 2045, section 6.7)."""
    return binascii.a2b_qp(data, header=header)


# An encoded word. Spaces in the encoded text are against RFC 2047 and common. Each group ends at the next question
# mark, so each character is looked at a bounded number of times.
_WORD = re.compile(r"=\?([^?\s*]{1,40})(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")


def decode_header(value: str) -> str:
    """The text of a header value with its encoded words decoded, fit for one line. Never raises.

    White space between encoded words is no text; neighbours in one character set are decoded together, because
    senders cut characters in two.
    """
    if "=?" not in value:
        return clean(value)
    out: list[str] = []
    charset = ""
    pending: list[bytes] = []
    position = 0
    for match in _WORD.finditer(value):
        data = _word_bytes(match.group(2), match.group(3))
        if data is None:
            continue
        between = value[position : match.start()]
        if pending and (between.strip() or match.group(1).lower() != charset):
            out.append(decode_text(b"".join(pending), charset))
            pending = []
        if between.strip() or position == 0:
            out.append(between)
        charset = match.group(1).lower()
        pending.append(data)
        position = match.end()
    if pending:
        out.append(decode_text(b"".join(pending), charset))
    out.append(value[position:])
    return clean("".join(out))


def _word_bytes(encoding: str, text: str) -> bytes | None:
    raw = text.encode("utf-8", "replace")
    if encoding in "qQ":
        return decode_quoted_printable(raw.replace(b" ", b"_"), header=True)
    return decode_base64(raw)


#: Octets of text in one encoded word: 60 of base 64, with its frame 72 of the 75 that are allowed.
_WORD_OCTETS = 45


def encode_words(text: str, first: int = _WORD_OCTETS) -> list[str]:
    """`text` as encoded words in UTF-8, none longer than 75 characters, none that cuts a character.

    `first` is how many octets the first word may hold, for the name that stands before it on the line.
    """
    data = text.encode("utf-8", "replace")
    words = []
    start, room = 0, max(4, min(first, _WORD_OCTETS))
    while start < len(data):
        end = min(start + room, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{binascii.b2a_base64(data[start:end], newline=False).decode('ascii')}?=")
        start, room = end, _WORD_OCTETS
    return words
