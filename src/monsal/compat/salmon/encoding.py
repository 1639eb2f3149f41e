"""`salmon.encoding`: a mail as headers, body and parts that can be read and changed, over the standard library's.

`from_string`, `from_message` and `from_file` make a `MailBase`; `to_message`, `to_string` and `to_file` write one.
Reading raises for nothing that a stranger wrote; EncodingError is for what an application puts together wrongly.
"""

from __future__ import annotations

import base64
import email
import email.utils
import quopri
import re
from collections.abc import Callable, Iterator, MutableMapping
from email.message import Message as EmailMessage
from email.mime.base import MIMEBase
from typing import IO, Any, TypeVar

from monsal.compat.salmon.charsets import (
    EncodingError,
    apply_charset_to_header,
    attempt_decoding,
    chardet,
    guess_encoding_and_decode,
    header_from_mime_encoding,
    header_to_mime_encoding,
    properly_decode_header,
    properly_encode_header,
)
from monsal.mail.charset import decode_text

__all__ = [
    "ADDRESS_HEADERS_WHITELIST",
    "CONTENT_ENCODING_KEYS",
    "CONTENT_ENCODING_REMOVED_PARAMS",
    "VALUE_IS_EMAIL_ADDRESS",
    "ContentEncoding",
    "EncodingError",
    "MIMEPart",
    "MailBase",
    "apply_charset_to_header",
    "attempt_decoding",
    "chardet",
    "from_file",
    "from_message",
    "from_string",
    "guess_encoding_and_decode",
    "header_from_mime_encoding",
    "header_to_mime_encoding",
    "normalize_header",
    "parse_parameter_header",
    "properly_decode_header",
    "properly_encode_header",
    "to_bytes",
    "to_file",
    "to_message",
    "to_string",
]

#: Headers whose values are addresses, so that only the names in them are encoded.
ADDRESS_HEADERS_WHITELIST = ["From", "To", "Delivered-To", "Cc", "Bcc"]
#: Headers that say how the body is to be read; `MailBase.content_encoding` has them taken apart.
CONTENT_ENCODING_KEYS = {"Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Mime-Version"}
#: Parameters of these headers that are made anew when a mail is written.
CONTENT_ENCODING_REMOVED_PARAMS = ["boundary"]

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+\Z")

T = TypeVar("T")

Value = tuple[str | None, dict[str, str]]


def VALUE_IS_EMAIL_ADDRESS(value: str) -> bool:
    """Whether the value of any other header is to be written as an address; may be replaced."""
    return "@" in value


def normalize_header(header: str) -> str:
    """The one spelling of a header's name: each word with a capital."""
    return "-".join(word.capitalize() for word in header.split("-"))


def parse_parameter_header(message: EmailMessage, header: str) -> Value:
    """The value of a header and its parameters by name, without those that are made anew."""
    found = message.get_params(header=header)
    if not found:
        return None, {}
    params = {}
    for name, value in found[1:]:
        if name.lower() not in CONTENT_ENCODING_REMOVED_PARAMS:
            params[name.lower()] = value if isinstance(value, str) else email.utils.collapse_rfc2231_value(value)
    # Types and encodings are the same in any case (RFC 2045, sections 5.1 and 6.1).
    return found[0][0].lower(), params


class ContentEncoding(dict[str, Value]):
    """Header -> (value, parameters), for each of CONTENT_ENCODING_KEYS; (None, {}) for one that is not there."""

    def __init__(self) -> None:
        super().__init__({key: (None, {}) for key in CONTENT_ENCODING_KEYS})

    def text(self, key: str) -> str:
        """The header as it is written."""
        value, params = self[key]
        part = EmailMessage()
        part[key] = value or ""
        for name, text in params.items():
            part.set_param(name, text, header=key)
        return str(part[key])


class MailBase(MutableMapping[str, Any]):
    """A mail, or a part of one: headers by name without regard to case, `body`, `parts`, `content_encoding`.

    `m[name]` is the decoded text of the first header of that name, None if there is none; setting replaces all of
    them, and None takes them away. `body` is text for text/*, bytes for anything else. `mime_part` holds the headers as
    they were written.
    """

    def __init__(self, mime_part: EmailMessage | None = None, parent: MailBase | None = None) -> None:
        self.mime_part = EmailMessage() if mime_part is None else mime_part
        self.parent = parent
        self.parts: list[MailBase] = []
        self.body: Any = None
        self.content_encoding = ContentEncoding()

    def __getitem__(self, key: str) -> Any:
        name = normalize_header(key)
        if name in self.content_encoding and self.content_encoding[name][0] is not None:
            return self.content_encoding.text(name)
        return header_from_mime_encoding(self.mime_part.get(name))

    def __setitem__(self, key: str, value: Any) -> None:
        name = normalize_header(key)
        del self[name]
        if value is None:
            return
        self.mime_part[name] = value
        self._take_apart(name)
        if name == "Mime-Version" and "Content-Type" in self.mime_part:
            # It goes before what it explains.
            content_type = self.mime_part["Content-Type"]
            del self.mime_part["Content-Type"]
            self.mime_part["Content-Type"] = content_type

    def __delitem__(self, key: str) -> None:
        name = normalize_header(key)
        del self.mime_part[name]
        if name in self.content_encoding:
            self.content_encoding[name] = (None, {})

    def __contains__(self, key: object) -> bool:
        return str(key) in self.mime_part

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.mime_part)

    def __bool__(self) -> bool:
        return self.body is not None or len(self.mime_part) > 0 or bool(self.parts)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.items()!r:.200}>"

    def keys(self) -> list[str]:  # type: ignore[override]  # the ancestor's applications add such lists
        """The names of the headers in their order."""
        return [normalize_header(key) for key in self.mime_part]

    def items(self) -> list[tuple[str, Any]]:  # type: ignore[override]  # as above
        """Name and decoded text of each header, repeated ones too."""
        return [
            (name, self[name] if name in CONTENT_ENCODING_KEYS else header_from_mime_encoding(value))
            for name, value in ((normalize_header(key), value) for key, value in self.mime_part.items())
        ]

    def get_all(self, key: str) -> list[str]:
        """The decoded texts of all headers of that name."""
        return [header_from_mime_encoding(value) for value in self.mime_part.get_all(key, [])]

    def append_header(self, key: str, value: Any) -> None:
        """Add a header beside those of that name."""
        name = normalize_header(key)
        first = name not in self.mime_part
        self.mime_part[name] = value
        if first:
            self._take_apart(name)

    def _take_apart(self, name: str) -> None:
        if name in self.content_encoding:
            self.content_encoding[name] = parse_parameter_header(self.mime_part, name)

    def attach_file(self, filename: str, data: Any, ctype: str, disposition: str = "attachment") -> None:
        """Add a file as a part. Raises EncodingError for a content type that is none, or not in lower case."""
        _check_type(ctype)
        part = MailBase(parent=self)
        part.body = data
        name = filename.rpartition("/")[2] or filename
        part.content_encoding["Content-Type"] = (ctype, {"name": name})
        part.content_encoding["Content-Disposition"] = (disposition, {"filename": name})
        self.parts.append(part)

    def attach_text(self, data: Any, ctype: str = "text/plain") -> None:
        """Add text as a part. Raises EncodingError as `attach_file` does."""
        _check_type(ctype)
        part = MailBase(parent=self)
        part.body = data
        part.content_encoding["Content-Type"] = (ctype, {})
        self.parts.append(part)

    def walk(self) -> Iterator[MailBase]:
        """All parts below this one, from the top down."""
        for part in self.parts:
            yield part
            yield from part.walk()


def _check_type(ctype: str) -> None:
    if not ctype or not _TYPE.match(ctype):
        raise EncodingError(f"not a content type in lower case: {ctype!r}")


class MIMEPart(MIMEBase):
    """A part of the standard library's, made from its content type in one word."""

    def __init__(self, type_: str, **params: Any) -> None:
        main, slash, sub = type_.partition("/")
        if not slash:
            raise TypeError(f"a content type has two words, as in text/plain: {type_!r}")
        super().__init__(main, sub, **params)


# -- reading --------------------------------------------------------------------------------------------------------


def from_message(message: EmailMessage, parent: MailBase | None = None) -> MailBase:
    """A mail of the standard library as a MailBase."""
    mail = MailBase(message, parent)
    for key in CONTENT_ENCODING_KEYS:
        mail.content_encoding[key] = parse_parameter_header(message, key)
    payload = message.get_payload()
    if isinstance(payload, list):
        mail.parts = [from_message(part, mail) for part in payload if isinstance(part, EmailMessage)]
        if mail.parts:
            return mail
    mail.body = _read_body(message, mail)
    return mail


def _read_body(message: EmailMessage, mail: MailBase) -> Any:
    payload = message.get_payload()
    data = message.get_payload(decode=True)
    if isinstance(payload, str) and not payload.isascii() and not _has_surrogates(payload):
        # It was parsed from text, not from bytes, so there is nothing to decode.
        return payload
    if not isinstance(data, bytes):
        return payload if isinstance(payload, str) else ""
    value, params = mail.content_encoding["Content-Type"]
    if value is not None and not value.lower().startswith(("text/", "message/")):
        return data
    charset = params.get("charset")
    try:
        return data.decode(charset or "ascii")
    except (LookupError, ValueError):
        text = _guessed(charset, data)
        if value is not None:
            # It is written again in a character set that can hold it.
            mail.content_encoding["Content-Type"] = (value, {**params, "charset": "utf-8"})
        return text


def _guessed(charset: str | None, data: bytes) -> str:
    try:
        return guess_encoding_and_decode(charset, data)
    except EncodingError:
        return decode_text(data, charset)


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def from_string(data: str | bytes) -> MailBase:
    """The mail that a text or bytes hold."""
    return from_message(email.message_from_bytes(data) if isinstance(data, bytes) else email.message_from_string(data))


def from_file(file: IO[Any]) -> MailBase:
    """The mail that an open file holds."""
    return from_string(file.read())


# -- writing --------------------------------------------------------------------------------------------------------


def to_message(mail: MailBase) -> EmailMessage:
    """The mail as one of the standard library. Raises EncodingError if its parts and its content type disagree."""
    value, params = mail.content_encoding["Content-Type"]
    if value is None:
        value = "multipart/mixed" if mail.parts else "text/plain" if isinstance(mail.body, str | None) else _BINARY
        made = mail.content_encoding["Content-Type"][0] is None and (mail.parts or mail.body is not None)
    else:
        made = "Content-Type" not in mail
    if mail.parts and not value.lower().startswith(("multipart/", "message/")):
        raise EncodingError(f"content type {value} cannot have parts, and there are {len(mail.parts)}")
    try:
        # What is no type counts as text (RFC 2045, section 5.2); the header is written as it was.
        part = MIMEPart(value if "/" in value else "text/plain")
    except TypeError as error:
        raise EncodingError(f"content type {value!r} with {params} cannot be written: {error}") from error
    for key in list(part.keys()):
        del part[key]
    _write_headers(mail, part, value if made else None)
    if mail.parts:
        for inner in mail.parts:
            part.attach(to_message(inner))
    elif mail.body is not None:
        _write_body(mail, part)
    return part


_BINARY = "application/octet-stream"


def _write_headers(mail: MailBase, part: EmailMessage, made: str | None) -> None:
    """The headers in their order; those about the content as `content_encoding` has them."""
    for key, value in mail.mime_part.items():
        name = normalize_header(key)
        if name in CONTENT_ENCODING_KEYS:
            if mail.content_encoding[name][0] is not None and name not in part:
                part[key] = mail.content_encoding.text(name)
            continue
        text = header_from_mime_encoding(value)
        part[key] = header_to_mime_encoding(text, not_email=not _is_address(name, text))
    if made is not None and "MIME-Version" not in part:
        part["MIME-Version"] = "1.0"
    for name in sorted(CONTENT_ENCODING_KEYS - {"Mime-Version"}):
        if name not in part and mail.content_encoding[name][0] is not None:
            part[name] = mail.content_encoding.text(name)
    if made is not None and "Content-Type" not in part:
        part["Content-Type"] = made


def _is_address(name: str, text: str) -> bool:
    return name in ADDRESS_HEADERS_WHITELIST or VALUE_IS_EMAIL_ADDRESS(text)


def _write_body(mail: MailBase, part: EmailMessage) -> None:
    """The body in the transfer encoding that the mail names; else as it is, or in one that keeps it whole."""
    data, given = mail.body, str(part.get("Content-Transfer-Encoding", "")).lower().strip()
    fresh = isinstance(data, bytes)
    if not isinstance(data, bytes):
        charset = part.get_param("charset")
        encoded = _encoded(str(data), charset if isinstance(charset, str) else "ascii")
        if encoded is None:
            encoded, fresh = str(data).encode("utf-8", "surrogateescape"), True
            part.set_param("charset", "utf-8")
        data = encoded
    if given == "base64":
        text = base64.encodebytes(data).decode("ascii")
    elif given == "quoted-printable":
        text = quopri.encodestring(data, quotetabs=True).decode("ascii")
    elif not given and fresh:
        part["Content-Transfer-Encoding"] = "base64"
        text = base64.encodebytes(data).decode("ascii")
    else:
        text = data.decode("ascii", "surrogateescape")
    part.set_payload(text)


def _encoded(text: str, charset: str) -> bytes | None:
    try:
        return text.encode(charset)
    except (LookupError, ValueError):
        return None


def to_string(mail: MailBase) -> str:
    """The mail as text that is all ASCII."""
    return _checked(to_message(mail).as_string)


def to_bytes(mail: MailBase) -> bytes:
    """The mail as bytes."""
    return _checked(to_message(mail).as_bytes)


def to_file(mail: MailBase, file: IO[str]) -> None:
    """Write the mail into a file that is open for text."""
    file.write(to_string(mail))


def _checked(write: Callable[[], T]) -> T:
    try:
        return write()
    except (LookupError, ValueError, TypeError) as error:
        raise EncodingError(f"the mail cannot be written: {error}") from error
