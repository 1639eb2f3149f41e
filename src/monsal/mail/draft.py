"""A mail that is being written, and the answer to one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec.structs import force_setattr

from monsal.address import fold
from monsal.mail.attachment import Attachment, is_content_id
from monsal.mail.compose import (
    Entity,
    address_field,
    addresses_field,
    ascii_domain,
    boundaries,
    file_entity,
    id_field,
    ids_field,
    multipart_entity,
    text_entity,
    text_field,
    verbatim_field,
)
from monsal.mail.dates import format_date
from monsal.mail.message import Message

__all__ = ["PROTECTED_HEADERS", "Draft", "reply_draft"]

#: Most Message-IDs in the References of an answer: the first, which names the thread, and the latest.
MAX_REFERENCES = 20
#: Characters of a subject that an answer repeats.
MAX_SUBJECT = 500

#: Fields that `Draft.headers` cannot set, in lower case: those that a Draft writes itself, and those that only the way
#: of a mail may add. So are all that begin with `content-` or `resent-`.
PROTECTED_HEADERS = frozenset(
    {
        "authentication-results",
        "auto-submitted",
        "bcc",
        "cc",
        "date",
        "delivered-to",
        "dkim-signature",
        "from",
        "in-reply-to",
        "message-id",
        "mime-version",
        "received",
        "references",
        "reply-to",
        "return-path",
        "sender",
        "subject",
        "to",
        "x-original-to",
    }
)

_HEADER_NAME = re.compile(r"[!-9;-~]{1,70}\Z")
_FORBIDDEN = re.compile(r"[\r\n\0]")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>\Z")
_PARAMETER = r'[ \t]*;[ \t]*[A-Za-z0-9\-]+=(?:[A-Za-z0-9!#$&+.^_`~\-]+|"[ !#-\[\]-~]*")'
_CONTENT_TYPE = re.compile(rf"[A-Za-z0-9!#$&^_.+\-]+/[A-Za-z0-9!#$&^_.+\-]+(?:{_PARAMETER}){{0,10}}\Z")
_CHARSET = re.compile(r"[A-Za-z0-9._:\-]{1,40}\Z")
# "Re:" and what clients of other languages write for it, however often: German, Scandinavian, Finnish, Dutch, Polish,
# Portuguese, Italian, Turkish, Greek, Hungarian, Russian, Latvian, Indonesian, Chinese, Japanese, Korean.
_REPLY_WORDS = (
    "re|aw|sv|vs|antw|odp|res|rif|ynt|yan|απ|σχετ|vá|отв|ответ|відп|atb|bls|ré|回复|回覆|答复|答覆|返信|회신|답장"
)
_REPLY_PREFIX = re.compile(rf"\s*+(?:(?:{_REPLY_WORDS})(?:[\[(]\d{{1,3}}[\])])?\s*+[:：]\s*+)+", re.IGNORECASE)


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A mail as the application means it; `render` makes its bytes.

    `to`, `cc`, `bcc`, `reply_to` and `sender` are bare addresses; who is in `bcc` is in the envelope alone; `sender` is
    kept with its domain in ASCII. `text`, `html` or both are the body. `attachments` are `Attachment`s or (filename,
    data, content type); those that are inline and have a content id are put beside the HTML that shows them.
    `auto_submitted` is the keyword of RFC 3834, None for mail that a person wrote. `headers` are further fields, none
    of PROTECTED_HEADERS. With `null_sender` the envelope's sender is to be empty, as a bounce needs it.
    `envelope_sender` is one that the application gives, so that bounces come to an address of its own.

    All of it is checked when it is made, so that a wrong value fails in the handler that gave it (DESIGN 4, *Relay*):
    `render` raises nothing for a Draft that could be made.

    Raises TypeError for a value of another type; ValueError for CR, LF or NUL in a value of a header, a protected or
    malformed name of a header, no recipient, or a malformed Message-ID or content type; AddressError for what is no
    address.
    """

    to: tuple[str, ...]
    sender: str
    sender_name: str = ""
    subject: str = ""
    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment | tuple[str, bytes, str], ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: str | None = None
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()
    auto_submitted: Literal["auto-replied", "auto-generated"] | None = None
    headers: Mapping[str, str] = {}
    null_sender: bool = False
    envelope_sender: str | None = None

    def __post_init__(self) -> None:
        # What nearly all are is asked first, here and below: to ask an abstract class takes ten times as long.
        if not (type(self.sender) is type(self.sender_name) is type(self.subject) is str):
            for name in ("sender", "sender_name", "subject"):
                _check_text(name, getattr(self, name))
        if not (
            type(self.text) is str
            and self.html is self.reply_to is None
            and (self.in_reply_to is None or type(self.in_reply_to) is str)
        ):
            for name in ("text", "html", "reply_to", "in_reply_to"):
                if (value := getattr(self, name)) is not None:
                    _check_text(name, value)
        if not _is_one_text(self.to):
            force_setattr(self, "to", _texts("to", self.to))
        if self.cc != () or self.bcc != ():
            force_setattr(self, "cc", _texts("cc", self.cc))
            force_setattr(self, "bcc", _texts("bcc", self.bcc))
        if self.references != () and not _is_one_text(self.references):
            force_setattr(self, "references", _texts("references", self.references))
        if type(self.headers) is not dict and not isinstance(self.headers, Mapping):
            raise TypeError(f"headers must be a mapping of names to values, not {type(self.headers).__name__}")
        # A copy: what was checked is what will be written.
        force_setattr(self, "headers", dict(self.headers))
        self._check_header()
        if self.attachments != ():
            if not isinstance(self.attachments, Iterable) or isinstance(self.attachments, str | bytes):
                raise TypeError(f"attachments must be a tuple of them, not {type(self.attachments).__name__}")
            force_setattr(self, "attachments", tuple(_attachment(given) for given in self.attachments))

    def _check_header(self) -> None:
        """What all the fields hold; the types are known to be right."""
        if not self.to and not self.cc and not self.bcc:
            raise ValueError("a mail needs a recipient")
        force_setattr(self, "sender", ascii_domain(self.sender))
        for address in (*self.to, *self.cc, *self.bcc):
            ascii_domain(address)
        if self.reply_to is not None:
            ascii_domain(self.reply_to)
        _check_value("Subject", self.subject)
        _check_value("From", self.sender_name)
        for message_id in self.references if self.in_reply_to is None else (self.in_reply_to, *self.references):
            if not _MESSAGE_ID.match(message_id):
                raise ValueError(f"not a Message-ID: {message_id!r}; expected <...> of ASCII without spaces")
        if self.auto_submitted not in (None, "auto-replied", "auto-generated"):
            raise ValueError(f"auto_submitted is auto-replied, auto-generated or None, not {self.auto_submitted!r}")
        for name, value in self.headers.items():
            _check_name(name)
            _check_text(name, value)
            _check_value(name, value)

    def stamped(self, name: str, value: str) -> Draft:
        """The same with a field of our own, which needs no check; to make the Draft anew would check all of it."""
        other: Draft = self.__copy__()  # type: ignore[attr-defined]  # the stubs of msgspec lack it
        force_setattr(other, "headers", {**self.headers, name: value})
        return other

    @property
    def recipients(self) -> tuple[str, ...]:
        """The addresses for the envelope, each once, domains in ASCII."""
        if len(self.to) == 1 and not self.cc and not self.bcc:
            return (ascii_domain(self.to[0]),)
        found: dict[str, str] = {}
        for address in map(ascii_domain, (*self.to, *self.cc, *self.bcc)):
            found.setdefault(fold(address), address)
        return tuple(found.values())

    def render(self, *, message_id: str, date: float) -> bytes:
        """The mail with this Message-ID and this Date (epoch seconds); the same bytes for the same arguments.

        Raises ValueError if `message_id` is none.
        """
        if not _MESSAGE_ID.match(message_id):
            raise ValueError(f"not a Message-ID: {message_id!r}; expected <...> of ASCII without spaces")
        lines = [
            address_field("From", ((self.sender, self.sender_name),)),
            addresses_field("To", self.to) if self.to else "",
            addresses_field("Cc", self.cc) if self.cc else "",
            addresses_field("Reply-To", (self.reply_to,)) if self.reply_to else "",
            text_field("Subject", self.subject),
            f"Date: {format_date(date)}\r\n",
            id_field("Message-ID", message_id),
            id_field("In-Reply-To", self.in_reply_to) if self.in_reply_to else "",
            ids_field("References", self.references) if self.references else "",
            f"Auto-Submitted: {self.auto_submitted}\r\n" if self.auto_submitted else "",
        ]
        for name, value in self.headers.items():
            lines.append(verbatim_field(name, value))
        header, body = self._content(message_id)
        lines.append(f"MIME-Version: 1.0\r\n{header}\r\n")
        return "".join(lines).encode("utf-8") + body

    def _content(self, message_id: str) -> Entity:
        """The body: text, HTML or both, beside the pictures it shows, before the files."""
        if self.html is None and not self.attachments:
            return text_entity("plain", self.text or "")
        texts = []
        if self.text is not None or self.html is None:
            texts.append(text_entity("plain", self.text or ""))
        if self.html is not None:
            texts.append(text_entity("html", self.html))
        if len(texts) == 1 and not self.attachments:
            return texts[0]
        pictures: list[Entity] = []
        files: list[Entity] = []
        for attachment in self.attachments:
            if isinstance(attachment, Attachment):
                shown = self.html is not None and attachment.inline and attachment.content_id
                (pictures if shown else files).append(file_entity(attachment))
        outer, middle, inner = boundaries(message_id, (body for _, body in (*texts, *pictures, *files)), 3)
        content = texts[-1]
        if pictures:
            content = multipart_entity("related", [content, *pictures], inner)
        if len(texts) == 2:
            content = multipart_entity("alternative", [texts[0], content], middle)
        return multipart_entity("mixed", [content, *files], outer) if files else content


def reply_draft(
    message: Message,
    *,
    to: str | None = None,
    text: str | None = None,
    html: str | None = None,
    subject: str | None = None,
    sender_name: str = "",
    attachments: Sequence[Attachment | tuple[str, bytes, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Draft:
    """The answer to `message`: to its correspondent unless `to` says otherwise, from the address it was sent to, in its
    thread (RFC 5322, section 3.6.4).

    The subject is that of the message with one "Re: " before it, unless `subject` is given. It counts as
    `auto-replied` (RFC 3834, section 5), so that no other program answers it. Raises as Draft does.
    """
    message_id = message.message_id
    thread = _thread_of(message) if message.header.has_any(_THREADED) else ()
    if message_id is not None:
        thread = (*[known for known in thread if known != message_id], message_id) if thread else (message_id,)
    if len(thread) > MAX_REFERENCES:
        thread = (thread[0], *thread[1 - MAX_REFERENCES :])
    return Draft(
        to=(to or message.sender_address,),
        sender=message.recipient,
        sender_name=sender_name,
        subject=_reply_subject(message.subject) if subject is None else subject,
        text=text,
        html=html,
        attachments=tuple(attachments),
        in_reply_to=message_id,
        references=thread,
        auto_submitted="auto-replied",
        headers=headers or {},
    )


#: What the mail of a thread has, and the first one has not.
_THREADED = frozenset({b"in-reply-to", b"references"})


def _thread_of(message: Message) -> tuple[str, ...]:
    """The Message-IDs of the mails that one answers."""
    in_reply_to = message.in_reply_to
    # Of several that it answers none is the parent that the thread goes on from.
    parent = in_reply_to if in_reply_to and (message.get("in-reply-to") or "").count("<") == 1 else None
    return message.references or ((parent,) if parent else ())


def _reply_subject(subject: str) -> str:
    subject = subject[:MAX_SUBJECT]
    # At the start only: "Order more: pears" has no such prefix.
    prefix = _REPLY_PREFIX.match(subject) if ":" in subject or "：" in subject else None
    return f"Re: {subject[prefix.end() if prefix else 0 :].strip()}".rstrip()


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")


def _is_one_text(value: object) -> bool:
    return type(value) is tuple and len(value) == 1 and type(value[0]) is str


def _texts(name: str, value: object) -> tuple[str, ...]:
    """One string or several, as a tuple."""
    if isinstance(value, str):
        return (value,)
    if type(value) is not tuple and (not isinstance(value, Iterable) or isinstance(value, bytes | bytearray)):
        raise TypeError(f"{name} must be a string or a tuple of strings, not {type(value).__name__}")
    found = tuple(value)
    for each in found:
        _check_text(f"each of {name}", each)
    return found


def _check_value(name: str, value: str) -> None:
    if not value.isprintable() and _FORBIDDEN.search(value):
        raise ValueError(f"the value of {name} holds CR, LF or NUL: {value[:80]!r}")


def _check_name(name: str) -> None:
    _check_text("the name of a header", name)
    lower = name.lower()
    if not _HEADER_NAME.match(name):
        raise ValueError(f"not a name of a header: {name!r}")
    if lower in PROTECTED_HEADERS or lower.startswith(("content-", "resent-")):
        raise ValueError(f"{name} cannot be given in headers: a Draft writes it itself or nobody does")


def _attachment(given: object) -> Attachment:
    if isinstance(given, Attachment):
        attachment = given
    elif isinstance(given, tuple | list) and len(given) == 3:
        attachment = Attachment(given[0], given[2], given[1])
    else:
        raise TypeError(f"an attachment is an Attachment or (filename, data, content type), not {type(given).__name__}")
    for name in ("filename", "content_type"):
        _check_text(f"an attachment's {name}", getattr(attachment, name))
    for name in ("charset", "content_id"):
        if getattr(attachment, name) is not None:
            _check_text(f"an attachment's {name}", getattr(attachment, name))
    # Loads what is still to be loaded: it fails here, or not at all.
    _ = attachment.data
    _check_value("filename", attachment.filename)
    if not _CONTENT_TYPE.match(attachment.content_type):
        raise ValueError(f"not a content type: {attachment.content_type!r}")
    if attachment.charset is not None and not _CHARSET.match(attachment.charset):
        raise ValueError(f"not a character set: {attachment.charset!r}")
    if attachment.content_id is not None and not is_content_id(attachment.content_id):
        raise ValueError(f"not a content id: {attachment.content_id!r}")
    return attachment
