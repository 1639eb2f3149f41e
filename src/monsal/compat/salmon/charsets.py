"""Text and header words out of bytes that nobody vouches for, as the ancestor's applications call it.

The declared character set is tried first, then a guess: that of `chardet` where the application has it installed, else
our own (`monsal.mail.charset`).
"""

from __future__ import annotations

import re
from email.header import Header
from importlib import import_module
from typing import Any

from monsal.mail.charset import decode_header, decode_text

__all__ = [
    "EncodingError",
    "apply_charset_to_header",
    "attempt_decoding",
    "chardet",
    "guess_encoding_and_decode",
    "header_from_mime_encoding",
    "header_to_mime_encoding",
    "properly_decode_header",
    "properly_encode_header",
]

#: Below this a guess of chardet counts as none.
_LEAST_CONFIDENCE = 0.2


class EncodingError(Exception):
    """Something cannot be decoded or encoded; the text says what."""


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


#: The detector of character sets, None if it is not installed.
chardet = _optional("chardet")


def attempt_decoding(charset: str | None, data: str | bytes) -> str:
    """The text of `data`: by the declared character set, else by a guess. Raises EncodingError."""
    if isinstance(data, str):
        return data
    try:
        return data.decode(charset or "ascii")
    except (LookupError, ValueError):
        return guess_encoding_and_decode(charset, data)


def guess_encoding_and_decode(original: str | None, data: str | bytes, errors: str = "strict") -> str:
    """The text of `data` by a guess; `original` is the character set that did not do. Raises EncodingError."""
    if not isinstance(data, bytes):
        raise EncodingError(f"cannot guess the character set of {type(data).__name__}; it is no longer bytes")
    if chardet is None:
        return decode_text(data, original)
    guess = chardet.detect(data)
    charset = guess.get("encoding")
    if not charset or (guess.get("confidence") or 0.0) < _LEAST_CONFIDENCE:
        raise EncodingError(f"it is not {original}, and no guess is good enough: {guess}")
    try:
        text: str = data.decode(charset, errors)
    except (LookupError, ValueError) as error:
        raise EncodingError(f"it is neither {original} nor {charset}, which was the guess: {error}") from error
    return text


# -- headers --------------------------------------------------------------------------------------------------------

_WORD = re.compile(r"=\?[^?\s]+\?[bq]\?[^?]*\?=", re.IGNORECASE)
#: An encoded word that a careless program has folded within, or wrote blanks into.
_LOOSE_WORD = re.compile(r"=\?([^?\s]+)\?([bq])\?([^?]*)\?=", re.IGNORECASE)
#: A display name before an address in angle brackets.
_NAMED = re.compile(r"\A(?P<name>[^<>]*?)(?P<gap>\s*)(?P<address><[^<>]*>)\s*\Z", re.DOTALL)


def header_from_mime_encoding(header: Any) -> Any:
    """The text of a header, or of each of a list, with its encoded words decoded; None stays None."""
    if header is None:
        return None
    if isinstance(header, list):
        return [properly_decode_header(each) for each in header]
    return properly_decode_header(header)


def properly_decode_header(header: str | bytes | Header) -> str:
    """The text of one header. It raises nothing for what a stranger wrote."""
    text = header.decode("utf-8", "replace") if isinstance(header, bytes) else str(header)
    if "=?" not in text:
        return text
    # Blanks within a word are no part of it (RFC 2047, section 2), and are what stops others from reading it.
    text = _LOOSE_WORD.sub(lambda word: f"=?{word[1]}?{word[2]}?{re.sub(chr(92) + 's+', '', word[3])}?=", text)
    return decode_header(text)


def header_to_mime_encoding(value: str | None, not_email: bool = False) -> str:
    """A header's text as it may be written: what is not ASCII becomes encoded words, an address stays readable."""
    if not value:
        return ""
    if value.isascii():
        return value
    if not not_email and "@" in value:
        return properly_encode_header(value)
    return Header(value, "utf-8").encode()


def properly_encode_header(value: str, *_: object) -> str:
    """The text of a header that is an address: its name encoded, between quotes if it stood there."""
    found = _NAMED.match(value)
    if found is None:
        return apply_charset_to_header("utf-8", "q", value)
    name, gap, address = found["name"], found["gap"], found["address"]
    quoted = len(name) >= 2 and name[0] == name[-1] == '"'
    if not name.isascii():
        word = Header(name.strip('"') if quoted else name, "utf-8").encode()
        name = f'"{word}"' if quoted else word
    if not address.isascii():
        address = address.encode("ascii", "backslashreplace").decode("ascii")
    return f"{name}{gap}{address}"


def apply_charset_to_header(charset: str, encoding: str, data: str | bytes) -> str:
    """`data` as encoded words of that character set. `encoding` is b or q; raises EncodingError for any other."""
    if encoding.lower() not in ("b", "q"):
        raise EncodingError(f"an encoded word is of encoding b or q (RFC 2047, section 4), not {encoding!r}")
    try:
        text = data.decode(charset) if isinstance(data, bytes) else data
        return Header(text, charset).encode()
    except (LookupError, ValueError) as error:
        raise EncodingError(f"cannot be written in {charset}: {error}") from error
