"""The bytes of outgoing mail: header fields, encoded bodies, multiparts. All lines end with CRLF.

Our own, because the composer of the standard library costs a hundred times as much as the rest of a turn (DESIGN 7).
Header values that come here were checked by `draft.py`.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from monsal.address import split_address
from monsal.errors import AddressError
from monsal.mail.attachment import Attachment
from monsal.mail.charset import encode_words

__all__ = [
    "Entity",
    "address_field",
    "addresses_field",
    "ascii_domain",
    "boundaries",
    "file_entity",
    "id_field",
    "ids_field",
    "multipart_entity",
    "text_entity",
    "text_field",
    "verbatim_field",
]

#: Advised and absolute length of a line without its CRLF (RFC 5322, section 2.1.1).
ADVISED = 78
MAX_LINE = 998
#: Longest address that shares the line with the name of its field.
MAX_ADDRESS_LINE = 60

#: A part of a message: its header, each line with CRLF, and its body.
Entity = tuple[str, bytes]

_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+)*\Z")
_WORD = re.compile(r" *[^ ]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&+.^_`{}~\-]+\Z")
_ASCII = bytes(range(128))
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._")


def _is_plain(value: str) -> bool:
    """Whether a value can stand in a header as it is, but for its length."""
    return value.isascii() and value.isprintable() and value.strip(" ") == value


def text_field(name: str, value: str) -> str:
    """A field of free text, folded; in encoded words (RFC 2047) where it is not plain ASCII."""
    if len(name) + len(value) <= ADVISED - 2 and _is_plain(value) and "=?" not in value:
        return f"{name}: {value}\r\n"
    if _is_plain(value) and "=?" not in value:
        folded = _fold(name, value, ADVISED)
        if folded is not None:
            return folded
    room = (ADVISED - 2 - len(name) - 2 - len("=?utf-8?b??=")) // 4 * 3
    words = "\r\n ".join(encode_words(value, room))
    return f"{name}: {words}\r\n" if room >= 4 else f"{name}:\r\n {words}\r\n"


def verbatim_field(name: str, value: str) -> str:
    """A field that the application wrote: as it is if it is ASCII, even if it looks encoded; folded at its spaces."""
    if _is_plain(value):
        if len(name) + len(value) <= ADVISED - 2:
            return f"{name}: {value}\r\n"
        folded = _fold(name, value, MAX_LINE)
        if folded is not None:
            return folded
    return text_field(name, value)


def _fold(name: str, value: str, longest: int) -> str | None:
    """The field folded at spaces to lines of ADVISED characters; None if one word alone is longer than `longest`."""
    lines = []
    line = f"{name}:"
    for word in _WORD.findall(f" {value}"):
        if len(line) + len(word) > ADVISED and line != f"{name}:":
            lines.append(line)
            line = word
        else:
            line += word
        if len(line) > longest:
            return None
    lines.append(line)
    return "\r\n".join(lines) + "\r\n"


def address_field(name: str, mailboxes: Sequence[tuple[str, str]]) -> str:
    """A field of addresses, each an address and the name shown with it, folded between them.

    The domain is written in ASCII. A local part beyond ASCII stays as it is (RFC 6532): there is no other way to write
    it, and the next hop takes it or refuses the recipient.
    """
    if len(mailboxes) == 1 and not mailboxes[0][1] and len(mailboxes[0][0]) <= MAX_ADDRESS_LINE:
        return f"{name}: {ascii_domain(mailboxes[0][0])}\r\n"
    words: list[str] = []
    for address, display in mailboxes:
        bare = ascii_domain(address)
        words += [*_phrase(display, len(name) + 2), f"<{bare}>,"] if display else [f"{bare},"]
    words[-1] = words[-1].removesuffix(",")
    return _fold(name, " ".join(words), MAX_LINE) or ""


def addresses_field(name: str, addresses: Sequence[str]) -> str:
    """The same for addresses without names."""
    if len(addresses) == 1 and len(addresses[0]) <= MAX_ADDRESS_LINE:
        return f"{name}: {ascii_domain(addresses[0])}\r\n"
    return address_field(name, [(address, "") for address in addresses])


def _phrase(display: str, column: int) -> list[str]:
    """A display name: atoms, a quoted string, or encoded words (RFC 5322 section 3.2.5, RFC 2047 section 5)."""
    if len(display) <= 60 and "=?" not in display:
        if _PHRASE.match(display):
            return display.split(" ")
        if display.isascii() and display.isprintable() and "  " not in display:
            escaped = display.replace("\\", "\\\\").replace('"', '\\"')
            return [f'"{escaped}"']
    return encode_words(display, (ADVISED - 2 - column - len("=?utf-8?b??=")) // 4 * 3)


def id_field(name: str, message_id: str) -> str:
    """A field of one Message-ID."""
    if len(name) + len(message_id) <= ADVISED - 2:
        return f"{name}: {message_id}\r\n"
    return ids_field(name, (message_id,))


def ids_field(name: str, ids: Iterable[str]) -> str:
    """A field of Message-IDs, folded between them; an id is never cut."""
    value = " ".join(ids)
    if len(name) + len(value) <= ADVISED - 2:
        return f"{name}: {value}\r\n"
    return _fold(name, value, len(value) + len(name) + 2) or ""


@lru_cache(maxsize=4096)  # asked a dozen times in a turn for the same few addresses
def ascii_domain(address: str) -> str:
    """The address with its domain in ASCII (RFC 3492, RFC 5891 without its tables of code points).

    Raises AddressError if it is no address, or its domain has no such form.
    """
    local, domain = split_address(address)
    if domain.isascii():
        return address
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", domain).lower())
    labels = []
    for label in re.split("[.\u3002]", folded):
        encoded = label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
        if len(encoded) > 63:
            raise AddressError(f"the domain of {address!r} has a label of more than 63 characters")
        labels.append(encoded)
    result = f"{local}@{'.'.join(labels)}"
    split_address(result)
    return result


def text_entity(subtype: str, text: str) -> Entity:
    """A part of text: as it is if it is ASCII in short lines, else quoted-printable or base 64, whichever is shorter.

    Lines end with CRLF, the last one too.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text and not text.endswith("\n"):
        text += "\n"
    encoding, body = _encode_text(text.replace("\n", "\r\n"))
    return (
        f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n',
        body,
    )


def _encode_text(text: str) -> tuple[str, bytes]:
    if text.isascii():
        data = text.encode("ascii")
        if _is_7bit(data):
            return "7bit", data
    else:
        data = text.encode("utf-8", "replace")
    high = len(data.translate(None, _ASCII))
    if high * 6 <= len(data):
        # Mostly ASCII: three times the length for the rest, and people can read the source.
        return "quoted-printable", binascii.b2a_qp(data, istext=True)
    return "base64", _base64(data)


def _is_7bit(data: bytes) -> bool:
    """Whether bytes of ASCII with CRLF line ends fit RFC 5322, section 2.1.1: no NUL, no long line."""
    return b"\0" not in data and (len(data) <= MAX_LINE or max(map(len, data.split(b"\r\n"))) <= MAX_LINE)


def _base64(data: bytes) -> bytes:
    """Base 64 in lines of 76 characters (RFC 2045, section 6.8)."""
    encoded = binascii.b2a_base64(data, newline=False)
    lines = [encoded[start : start + 76] for start in range(0, len(encoded), 76)]
    lines.append(b"")
    return b"\r\n".join(lines)


def file_entity(attachment: Attachment) -> Entity:
    """A part that holds a file."""
    data = attachment.data
    content_type = attachment.content_type
    encoding = "base64"
    if content_type.startswith("multipart/"):
        content_type = "application/octet-stream"
    elif content_type.startswith("message/"):
        # RFC 2046 section 5.2.1: these must not be encoded. What cannot stand as it is goes as a plain file.
        fits = data.isascii() and _is_7bit(data) and data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")
        encoding = "7bit" if fits else "base64"
        content_type = content_type if fits else "application/octet-stream"
    if attachment.charset:
        content_type += f'; charset="{attachment.charset}"'
    kind = "inline" if attachment.inline else "attachment"
    header = (
        f"Content-Type: {content_type}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n"
        f"Content-Disposition: {kind}{_filename(attachment.filename)}\r\n"
    )
    if attachment.content_id:
        header += f"Content-ID: <{attachment.content_id}>\r\n"
    return header, data if encoding == "7bit" else _base64(data)


def _filename(name: str) -> str:
    """The filename parameter, each on a line of its own: quoted, or in the sections of RFC 2231."""
    if not name:
        return ""
    if _is_plain(name) and len(name) <= 60 and "=?" not in name:
        if _TOKEN.match(name):
            return f"; filename={name}"
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n filename="{escaped}"'
    octets = name.encode("utf-8", "replace")
    sections = [_percent(octets[start : start + 15]) for start in range(0, len(octets), 15)]
    if len(sections) == 1:
        return f";\r\n filename*=utf-8''{sections[0]}"
    sections[0] = f"utf-8''{sections[0]}"
    return "".join(f";\r\n filename*{number}*={section}" for number, section in enumerate(sections))


def _percent(octets: bytes) -> str:
    """Octets as RFC 2231 writes them: letters and digits as they are, the rest in hexadecimal."""
    return "".join(chr(octet) if octet in _UNRESERVED else f"%{octet:02X}" for octet in octets)


def multipart_entity(subtype: str, entities: Sequence[Entity], boundary: str) -> Entity:
    """Several parts as one."""
    pieces: list[bytes] = []
    for header, body in entities:
        pieces.append(f"--{boundary}\r\n{header}\r\n".encode())
        pieces.append(body)
        pieces.append(b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode("ascii"))
    return f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n', b"".join(pieces)


def boundaries(message_id: str, bodies: Iterable[bytes], count: int) -> list[str]:
    """`count` boundaries that occur in none of the bodies; the same each time for the same mail (P2).

    `=_` at the start cannot occur in quoted-printable or base 64 (RFC 2045, section 6.7).
    """
    bodies = list(bodies)
    attempt = 0
    while True:
        digest = hashlib.sha256(f"{attempt}{message_id}".encode("utf-8", "replace")).hexdigest()[:24]
        found = [f"=_{number}_{digest}" for number in range(count)]
        token = digest.encode("ascii")
        if not any(token in body for body in bodies):
            return found
        attempt += 1
