"""`salmon.mail`: the mail that a handler gets, and the one it makes.

A request keeps the bytes it came in: `str(request)` and the queues give them back untouched as long as nobody changed
the request. Its `To` and `From` are bare addresses of the envelope, in the case they were written in; only without an
envelope they are those of the header.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping
from email.message import Message as EmailMessage
from email.utils import getaddresses, parseaddr
from pathlib import Path
from typing import Any

from monsal.compat.salmon import bounce, encoding
from monsal.compat.salmon.encoding import EncodingError, MailBase

__all__ = ["ROUTABLE_TO_HEADER", "MailRequest", "MailResponse", "split_addresses"]

#: The header that `To` is taken from if there is no envelope; set it to "Delivered-To" where that is the true one.
ROUTABLE_TO_HEADER = "to"


def _addresses(given: Any) -> list[str]:
    """The bare addresses in what a server says, each once, in their order. Raises EncodingError for no text."""
    if given is None:
        return []
    found: dict[str, None] = {}
    for each in given if isinstance(given, list | tuple | set | frozenset) else [given]:
        if isinstance(each, bytes):
            each = each.decode("utf-8", "replace")
        if not isinstance(each, str):
            raise EncodingError(f"an address is text, not {each!r}")
        address = parseaddr(each)[1]
        if address:
            found[address] = None
    return list(found)


def split_addresses(given: str | bytes) -> list[str]:
    """The bare addresses of one text, which may hold several."""
    text = given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given)
    return [address for _, address in getaddresses([text]) if address]


def _decode_header_randomness(given: Any) -> set[str]:
    """The same as a set, in lower case: the ancestor's own name for it."""
    return {address.lower() for address in _addresses(given)}


class _Mail:
    """What requests and responses share: headers by name, over a MailBase."""

    base: MailBase

    def __contains__(self, key: str) -> bool:
        return key in self.base

    def __getitem__(self, key: str) -> Any:
        return self.base[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.base[key] = value

    def __delitem__(self, key: str) -> None:
        del self.base[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def keys(self) -> list[str]:
        return self.base.keys()

    def items(self) -> list[tuple[str, Any]]:
        return self.base.items()

    def get_all(self, key: str) -> list[str]:
        """The decoded texts of all headers of that name."""
        return self.base.get_all(key)


class MailRequest(_Mail):
    """A received mail.

    `Peer` is who brought it, `From` and `To` are the bare addresses of the envelope, `Data` is the mail as it was
    given, text or bytes. Of several recipients `To` is the first. Headers `from` and `to` that are missing are added.
    `bounce` is None until `is_bounce` was asked.
    """

    def __init__(self, Peer: Any, From: Any, To: Any, Data: Any) -> None:
        self.Peer = Peer
        self.Data = Data
        self.base = encoding.from_string(Data)
        self._received = _snapshot(self.base)
        self.bounce: bounce.BounceAnalyzer | None = None
        #: Its key in a queue that holds it until it was handled.
        self.held: str | None = None
        #: Who writes, as a server counts: None for a request that came another way.
        self.correspondent: str | None = None
        senders, recipients = _addresses(From), _addresses(To)
        if "from" not in self and senders:
            self["from"] = senders[0]
        if "to" not in self and recipients:
            self["to"] = recipients[0]
        self.From: str = senders[0] if senders else _first(self["from"])
        self.To: str = recipients[0] if recipients else _first(self[ROUTABLE_TO_HEADER])

    def __repr__(self) -> str:
        return f"From: {[self.Peer, self.From, self.To]!r:.300}"

    def __str__(self) -> str:
        data = self.Data
        if isinstance(data, bytes):
            data = data.decode("ascii") if data.isascii() else None
        return encoding.to_string(self.base) if data is None or self._is_changed() else str(data)

    def __bytes__(self) -> bytes:
        data = self.Data
        if self._is_changed():
            return encoding.to_bytes(self.base)
        return data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogateescape")

    def _is_changed(self) -> bool:
        """Whether header or body are no longer as they came: only then are they written anew, which breaks a signature
        and may lose what is malformed."""
        return _snapshot(self.base) != self._received

    @property
    def original(self) -> Any:
        """The mail as it was given: `Data` by its former name."""
        return self.Data

    def all_parts(self) -> list[MailBase]:
        """The parts of a multipart mail; none for any other."""
        return self.base.parts

    def body(self) -> Any:
        """The body, or that of the first part."""
        return self.base.parts[0].body if self.base.parts else self.base.body

    def walk(self) -> Iterator[MailBase]:
        """All parts of all parts."""
        yield from self.base.walk()

    def to_message(self) -> EmailMessage:
        """The mail as one of the standard library."""
        return encoding.to_message(self.base)

    def is_bounce(self, threshold: float = 0.3) -> bool:
        """Whether this reports that a mail could not be delivered; from then on `bounce` says what is known of it."""
        if self.bounce is None:
            self.bounce = bounce.detect(self)
        return self.bounce.score > threshold


def _first(header: Any) -> str:
    return next(iter(_addresses(header)), "")


def _snapshot(mail: MailBase) -> tuple[Any, ...]:
    """What a mail holds, to be compared later."""
    headers = tuple((key, str(value)) for key, value in mail.mime_part.items())
    about = tuple((key, value, tuple(params.items())) for key, (value, params) in sorted(mail.content_encoding.items()))
    return headers, about, mail.body, tuple(_snapshot(part) for part in mail.parts)


class MailResponse(_Mail):
    """A mail to be sent: text in `Body`, markup in `Html`, files by `attach`; headers are set by name.

    `to_message` makes it: one part, or alternatives, or with attachments a mixed mail. Date and Message-ID are added
    when it is sent.
    """

    def __init__(
        self,
        To: Any = None,
        From: Any = None,
        Subject: Any = None,
        Body: Any = None,
        Html: Any = None,
    ) -> None:
        self.Body = Body
        self.Html = Html
        self.base = MailBase()
        for name, value in (("To", To), ("From", From), ("Subject", Subject)):
            if value is not None:
                self.base[name] = value
        self.multipart = bool(Body and Html)
        self.attachments: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        return f"<MailResponse {self.items()!r:.200}>"

    def __str__(self) -> str:
        return encoding.to_string(self._made())

    def __bytes__(self) -> bytes:
        return encoding.to_bytes(self._made())

    def attach(
        self,
        filename: str | None = None,
        content_type: str | None = None,
        data: Any = None,
        disposition: str | None = None,
    ) -> None:
        """Add a file: its data, or the name of one that is there and is read when the mail is made.

        Raises TypeError if there is neither, ValueError if its content type is not given and cannot be guessed.
        """
        if data is None and (filename is None or not Path(filename).is_file()):
            raise TypeError(f"there is nothing to attach: no data, and no file {filename!r}")
        content_type = content_type or (mimetypes.guess_type(filename)[0] if filename else None)
        if not content_type:
            raise ValueError(f"say what content type {filename!r} has; it cannot be guessed")
        self.multipart = True
        self.attachments.append(
            {"filename": filename, "content_type": content_type, "data": data, "disposition": disposition}
        )

    def attach_part(self, part: MailBase) -> None:
        """Add a part of another mail as it is."""
        self.multipart = True
        self.attachments.append({"part": part})

    def attach_all_parts(self, request: MailRequest) -> None:
        """Add all parts of a request, or its body if it has none; what kind of multipart it is stays the same."""
        self.multipart = True
        self.base.content_encoding = _copied(request.base.content_encoding)
        for part in request.all_parts():
            self.attach_part(part)
        if not request.all_parts():
            self.Body = self.Body or request.body()

    def clear(self) -> None:
        """Take all attachments away."""
        self.attachments = []
        self.base.parts = []
        self.multipart = bool(self.Body and self.Html)

    def update(self, message: Mapping[str, Any]) -> None:
        """Set all headers of a mapping, or of another mail."""
        for name in message.keys():  # noqa: SIM118 - a mail is no mapping
            self.base[name] = message[name]

    def to_message(self) -> EmailMessage:
        """The mail as one of the standard library."""
        return encoding.to_message(self._made())

    def all_parts(self) -> list[MailBase]:
        """The parts that the mail has when it is made now."""
        return self._made().parts

    def _made(self) -> MailBase:
        """A MailBase with all of it; making it again changes nothing."""
        made = MailBase()
        for key, value in self.base.mime_part.items():
            made.append_header(key, value)
        made.content_encoding = _copied(self.base.content_encoding)
        if not self.multipart:
            self._fill_single(made)
            return made
        if made.content_encoding["Content-Type"][0] is None:
            kind = "multipart/mixed" if self.attachments else "multipart/alternative"
            made.content_encoding["Content-Type"] = (kind, {})
        for text, kind in ((self.Body, "text/plain"), (self.Html, "text/html")):
            if text:
                made.attach_text(text, kind)
        if self.Body and self.Html and self.attachments:
            _nest(made)
        for attachment in self.attachments:
            _attach(made, **attachment)
        return made

    def _fill_single(self, made: MailBase) -> None:
        body, kind = (self.Html, "text/html") if self.Html and not self.Body else (self.Body, "text/plain")
        made.body = body or ""
        if made.content_encoding["Content-Type"][0] is None:
            made.content_encoding["Content-Type"] = (kind, {})


def _copied(given: encoding.ContentEncoding) -> encoding.ContentEncoding:
    made = encoding.ContentEncoding()
    made.update({key: (value, dict(params)) for key, (value, params) in given.items()})
    return made


def _nest(made: MailBase) -> None:
    """Text and markup are alternatives also beside files (RFC 2046, section 5.1.4)."""
    inner = MailBase(parent=made)
    inner.content_encoding["Content-Type"] = ("multipart/alternative", {})
    inner.parts, made.parts = made.parts, [inner]


def _attach(
    made: MailBase,
    *,
    part: MailBase | None = None,
    filename: str | None = None,
    content_type: str = "",
    data: Any = None,
    disposition: str | None = None,
) -> None:
    if part is not None:
        made.parts.append(part)
        return
    if data is None:
        assert filename is not None
        data = Path(filename).read_bytes()
        if content_type.startswith("text/"):
            # Text stays text: it is written in a character set that can hold it, with its lines as they are.
            data = encoding.attempt_decoding("utf-8", data)
    if filename:
        made.attach_file(filename, data, content_type, disposition or "attachment")
    else:
        made.attach_text(data, content_type)
