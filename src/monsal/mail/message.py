"""The message that a handler gets.

What reads reports, HTML and replies is loaded by the first message of which a handler asks that: it is a fifteenth of
what a process has to load before it can say 220, and many applications never ask.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from monsal.address import fold
from monsal.forks import FIRST_USE
from monsal.mail.addresses import first_address
from monsal.mail.attachment import Attachment
from monsal.mail.auth import Auth, Upstream, authenticate
from monsal.mail.automatic import automatic_reason, bounce_reason
from monsal.mail.dsnrecord import Bounce
from monsal.mail.envelope import Envelope
from monsal.mail.fields import Fields
from monsal.mail.header import HeaderScan, scan
from monsal.mail.mime import Part, parse

__all__ = ["Message"]


class Message(Fields):
    """A received mail: its bytes untouched, everything else read from them when it is asked for.

    `recipient` is the address it was sent to, of those in the envelope, in the sender's spelling. `sender` is the
    correspondent: who writes, folded, as it is the key of the conversation. `envelope_sender` is the return path,
    empty for a bounce, None without an envelope. `id` is the row in the spool, `source` how it came (mail, timer,
    bounce, call); the message of a timer is the one whose turn set it.

    Mail of strangers is never a reason for an exception here: what cannot be decoded is replaced, what is not there is
    empty or None. Only `message["X-Name"]` raises KeyError, as a mapping does.
    """

    __slots__ = (
        "__weakref__",
        "_auth",
        "_header",
        "_raw",
        "_received",
        "_root",
        "_text",
        "_upstream",
        "envelope",
        "id",
        "recipient",
        "sender",
        "source",
    )

    def __init__(
        self,
        *,
        raw: bytes | Callable[[], bytes],
        recipient: str,
        correspondent: str,
        envelope: Envelope | None = None,
        id: int = 0,  # noqa: A002 - the word of the store for a row
        source: str = "mail",
        received: float = 0.0,
        upstream: Upstream | None = None,
    ) -> None:
        """`raw` is the message or a function that loads it; `received` is in epoch seconds.

        `upstream` says whose Authentication-Results are believed.
        """
        self._raw = raw
        self.recipient = recipient
        self.sender = correspondent
        self.envelope = envelope
        self.id = id
        self.source = source
        self._received = received
        self._upstream = upstream or Upstream()
        self._header: HeaderScan | None = None
        self._root: Part | None = None
        self._auth: Auth | None = None
        self._text: str | None = None

    def __repr__(self) -> str:
        return f"<Message {self.id} from {self.sender!r} to {self.recipient!r}>"

    @property
    def raw(self) -> bytes:
        """The message as it came, header and body."""
        if not isinstance(self._raw, bytes):
            self._raw = self._raw()
        return self._raw

    @property
    def held(self) -> int:
        """Octets of the message that are in memory now; one that is in a file is read when it is first needed."""
        return len(self._raw) if isinstance(self._raw, bytes) else 0

    @property
    def envelope_sender(self) -> str | None:
        return None if self.envelope is None else self.envelope.sender

    @property
    def sender_address(self) -> str:
        """The correspondent's address in its owner's spelling, for writing to it: a local part may mind its case."""
        for written in (self.header.author, self.envelope_sender):
            if written and fold(written) == self.sender:
                return written
        return self.sender

    @property
    def reply_address(self) -> str:
        """Where its author wants the answer: the first valid address of Reply-To, else `sender_address`."""
        return first_address(self.header.get("reply-to") or "") or self.sender_address

    @property
    def received(self) -> datetime:
        """When it was accepted, in UTC."""
        return datetime.fromtimestamp(self._received, UTC)

    @property
    def header(self) -> HeaderScan:
        """The header as it stands, not decoded."""
        if self._header is None:
            self._header = scan(self.raw)
        return self._header

    @property
    def automatic(self) -> str | None:
        """Why this counts as sent by a machine, None if a person seems to have written it (DESIGN 4, *Loops*)."""
        return automatic_reason(self.header, self.envelope_sender)

    @property
    def is_automatic(self) -> bool:
        return self.automatic is not None

    @property
    def is_bounce(self) -> bool:
        """Whether this reports about mail that could not be delivered."""
        return bounce_reason(self.header, self.envelope_sender) is not None

    @property
    def bounce(self) -> Bounce | None:
        """What this reports about the delivery of another mail, read anew each time; None if it is no report."""
        with FIRST_USE:
            from monsal.mail.dsn import parse_bounce

        return parse_bounce(self.root, envelope_sender=self.envelope_sender)

    @property
    def auth(self) -> Auth:
        """What proves the correspondent."""
        if self._auth is None:
            self._auth = authenticate(self.header, self.envelope, self.sender, self._upstream)
        return self._auth

    @property
    def authenticated(self) -> bool:
        """Whether the correspondent is proved; without it From may be anybody's word."""
        return self.auth.authenticated

    @property
    def root(self) -> Part:
        """The message as a part: the outermost of `parts`."""
        if self._root is None:
            self._root = parse(self.raw, self.header)
        return self._root

    @property
    def parts(self) -> list[Part]:
        """All parts from the top down, containers and the parts of attached messages too."""
        return list(self.root.walk())

    @property
    def text(self) -> str:
        """The text to read, lines ending with LF: that of the plain parts, else of the HTML; empty if there is none."""
        if self._text is None:
            plain = [part.text for part in _bodies(self.root, "text/plain")]
            text = "\n".join(plain)
            if not text.strip():
                with FIRST_USE:
                    from monsal.mail.htmltext import html_to_text

                text = html_to_text(self.html or "") or text
            self._text = text
        return self._text

    @property
    def html(self) -> str | None:
        """The HTML of the body as its sender wrote it, None if there is none. Not fit for showing without cleaning."""
        found = _bodies(self.root, "text/html")
        return "\n".join(part.text for part in found) if found else None

    @property
    def reply_text(self) -> str:
        """What its sender wrote: without quotations, forwarded mail and signature; empty if nothing is new."""
        plain = "\n".join(part.text for part in _bodies(self.root, "text/plain"))
        with FIRST_USE:
            from monsal.mail.replytext import choose_reply

        return choose_reply(plain, self.html, self.sender_name)

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """Files and attached messages, without the texts of the body. Their data is decoded when asked for."""
        return tuple(
            Attachment(
                part.filename,
                part.content_type,
                partial(_data, part),
                charset=part.charset,
                content_id=part.content_id,
                inline=part.disposition == "inline" or (part.disposition == "" and part.content_id is not None),
            )
            for part in _own_leaves(self.root)
            if not _is_body(part)
        )


def _data(part: Part) -> bytes:
    return part.data


def _own_leaves(root: Part) -> list[Part]:
    """The parts that hold something, without those inside of an attached message, which counts as one."""
    leaves: list[Part] = []
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.is_multipart and part.children:
            waiting.extend(reversed(part.children))
        else:
            leaves.append(part)
    return leaves


def _is_body(part: Part) -> bool:
    """Whether this is text of the mail itself, rather than a file of text."""
    if part.content_type not in ("text/plain", "text/html"):
        return False
    return part.depth == 0 or not (part.disposition == "attachment" or part.filename)


def _bodies(root: Part, content_type: str) -> list[Part]:
    return [part for part in _own_leaves(root) if part.content_type == content_type and _is_body(part)]
