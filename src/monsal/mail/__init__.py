"""Mail as bytes: what a received one says, and how one is written. Pure: no socket, clock, randomness or await.

May import: `monsal.errors`, `monsal.address`, `monsal.ids`, `monsal.backoff`, `monsal.clock`, msgspec and the standard
library, of which not its package `email`: that one recurses on nested parts and needs a millisecond for an answer.

    envelope                    what SMTP said about a message
    header  automatic           what is read before 250: one pass over at most 64 kB
    message  fields  mime       what a handler gets; parts are cut out when they are asked for
    dsn  dsnrecord  dsnreport  dsntext  dsnstatus  dsnwrite      reports of what could not be delivered
    replytext  replywords       what was written anew, in many languages
    htmltext  htmlmarks  flowed HTML as text, and what its clients mark; broken lines made whole
    auth                        who is proved
    draft  compose              what a handler writes, and its bytes
    addresses  charset  dates  attachment  filenames  late     the small things

Nothing that reads raises for what a stranger sent; everything that writes checks what it is given. Start reading at
`message.py` and `draft.py`.
"""

from __future__ import annotations

from monsal.mail.addresses import Mailbox, first_address, mailboxes, read_comment
from monsal.mail.attachment import Attachment, is_content_id
from monsal.mail.auth import Auth, Upstream, authenticate
from monsal.mail.automatic import HOPS, automatic_reason, bounce_reason, own_hops
from monsal.mail.charset import clean, decode_base64, decode_header, decode_quoted_printable, decode_text, encode_words
from monsal.mail.compose import (
    Entity,
    address_field,
    ascii_domain,
    boundaries,
    file_entity,
    ids_field,
    multipart_entity,
    text_entity,
    text_field,
    verbatim_field,
)
from monsal.mail.dates import format_date, parse_date
from monsal.mail.draft import PROTECTED_HEADERS, Draft, reply_draft
from monsal.mail.dsn import parse_bounce
from monsal.mail.dsnrecord import Bounce, BouncedRecipient, BounceKind
from monsal.mail.dsnwrite import delivery_report
from monsal.mail.envelope import Checks, Envelope, Verdict
from monsal.mail.fields import Fields
from monsal.mail.filenames import safe_filename
from monsal.mail.header import (
    MAX_FIELDS,
    MAX_HEADER,
    Glance,
    HeaderScan,
    digest_below_received,
    first_bytes,
    glance,
    scan,
)
from monsal.mail.htmltext import html_to_text
from monsal.mail.late import LatePattern
from monsal.mail.message import Message
from monsal.mail.mime import MAX_DEPTH, MAX_PARTS, Part, parameters, parse
from monsal.mail.replytext import reply_from_html, reply_text

__all__ = [
    "HOPS",
    "MAX_DEPTH",
    "MAX_FIELDS",
    "MAX_HEADER",
    "MAX_PARTS",
    "PROTECTED_HEADERS",
    "Attachment",
    "Auth",
    "Bounce",
    "BounceKind",
    "BouncedRecipient",
    "Checks",
    "Draft",
    "Entity",
    "Envelope",
    "Fields",
    "Glance",
    "HeaderScan",
    "LatePattern",
    "Mailbox",
    "Message",
    "Part",
    "Upstream",
    "Verdict",
    "address_field",
    "ascii_domain",
    "authenticate",
    "automatic_reason",
    "bounce_reason",
    "boundaries",
    "clean",
    "decode_base64",
    "decode_header",
    "decode_quoted_printable",
    "decode_text",
    "delivery_report",
    "digest_below_received",
    "encode_words",
    "file_entity",
    "first_address",
    "first_bytes",
    "format_date",
    "glance",
    "html_to_text",
    "ids_field",
    "is_content_id",
    "mailboxes",
    "multipart_entity",
    "own_hops",
    "parameters",
    "parse",
    "parse_bounce",
    "parse_date",
    "read_comment",
    "reply_draft",
    "reply_from_html",
    "reply_text",
    "safe_filename",
    "scan",
    "text_entity",
    "text_field",
    "verbatim_field",
]
