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

from typing import TYPE_CHECKING

from monsal.late import late

if TYPE_CHECKING:
    from monsal.mail.addresses import Mailbox as Mailbox
    from monsal.mail.addresses import first_address as first_address
    from monsal.mail.addresses import mailboxes as mailboxes
    from monsal.mail.addresses import read_comment as read_comment
    from monsal.mail.attachment import Attachment as Attachment
    from monsal.mail.attachment import is_content_id as is_content_id
    from monsal.mail.auth import Auth as Auth
    from monsal.mail.auth import Upstream as Upstream
    from monsal.mail.auth import authenticate as authenticate
    from monsal.mail.automatic import HOPS as HOPS
    from monsal.mail.automatic import automatic_reason as automatic_reason
    from monsal.mail.automatic import bounce_reason as bounce_reason
    from monsal.mail.automatic import own_hops as own_hops
    from monsal.mail.charset import clean as clean
    from monsal.mail.charset import decode_base64 as decode_base64
    from monsal.mail.charset import decode_header as decode_header
    from monsal.mail.charset import decode_quoted_printable as decode_quoted_printable
    from monsal.mail.charset import decode_text as decode_text
    from monsal.mail.charset import encode_words as encode_words
    from monsal.mail.compose import Entity as Entity
    from monsal.mail.compose import address_field as address_field
    from monsal.mail.compose import ascii_domain as ascii_domain
    from monsal.mail.compose import boundaries as boundaries
    from monsal.mail.compose import file_entity as file_entity
    from monsal.mail.compose import ids_field as ids_field
    from monsal.mail.compose import multipart_entity as multipart_entity
    from monsal.mail.compose import text_entity as text_entity
    from monsal.mail.compose import text_field as text_field
    from monsal.mail.compose import verbatim_field as verbatim_field
    from monsal.mail.dates import format_date as format_date
    from monsal.mail.dates import parse_date as parse_date
    from monsal.mail.draft import PROTECTED_HEADERS as PROTECTED_HEADERS
    from monsal.mail.draft import Draft as Draft
    from monsal.mail.draft import reply_draft as reply_draft
    from monsal.mail.dsn import parse_bounce as parse_bounce
    from monsal.mail.dsnrecord import Bounce as Bounce
    from monsal.mail.dsnrecord import BouncedRecipient as BouncedRecipient
    from monsal.mail.dsnrecord import BounceKind as BounceKind
    from monsal.mail.dsnwrite import delivery_report as delivery_report
    from monsal.mail.envelope import Checks as Checks
    from monsal.mail.envelope import Envelope as Envelope
    from monsal.mail.envelope import Verdict as Verdict
    from monsal.mail.fields import Fields as Fields
    from monsal.mail.filenames import safe_filename as safe_filename
    from monsal.mail.header import MAX_FIELDS as MAX_FIELDS
    from monsal.mail.header import MAX_HEADER as MAX_HEADER
    from monsal.mail.header import Glance as Glance
    from monsal.mail.header import HeaderScan as HeaderScan
    from monsal.mail.header import digest_below_received as digest_below_received
    from monsal.mail.header import first_bytes as first_bytes
    from monsal.mail.header import glance as glance
    from monsal.mail.header import scan as scan
    from monsal.mail.htmltext import html_to_text as html_to_text
    from monsal.mail.late import LatePattern as LatePattern
    from monsal.mail.message import Message as Message
    from monsal.mail.mime import MAX_DEPTH as MAX_DEPTH
    from monsal.mail.mime import MAX_PARTS as MAX_PARTS
    from monsal.mail.mime import Part as Part
    from monsal.mail.mime import parameters as parameters
    from monsal.mail.mime import parse as parse
    from monsal.mail.replytext import reply_from_html as reply_from_html
    from monsal.mail.replytext import reply_text as reply_text

# Most of those who come here need a few of them: what nobody asks for is not imported.
_HOME = {
    "HOPS": "monsal.mail.automatic",
    "MAX_DEPTH": "monsal.mail.mime",
    "MAX_FIELDS": "monsal.mail.header",
    "MAX_HEADER": "monsal.mail.header",
    "MAX_PARTS": "monsal.mail.mime",
    "PROTECTED_HEADERS": "monsal.mail.draft",
    "Attachment": "monsal.mail.attachment",
    "Auth": "monsal.mail.auth",
    "Bounce": "monsal.mail.dsnrecord",
    "BounceKind": "monsal.mail.dsnrecord",
    "BouncedRecipient": "monsal.mail.dsnrecord",
    "Checks": "monsal.mail.envelope",
    "Draft": "monsal.mail.draft",
    "Entity": "monsal.mail.compose",
    "Envelope": "monsal.mail.envelope",
    "Fields": "monsal.mail.fields",
    "Glance": "monsal.mail.header",
    "HeaderScan": "monsal.mail.header",
    "LatePattern": "monsal.mail.late",
    "Mailbox": "monsal.mail.addresses",
    "Message": "monsal.mail.message",
    "Part": "monsal.mail.mime",
    "Upstream": "monsal.mail.auth",
    "Verdict": "monsal.mail.envelope",
    "address_field": "monsal.mail.compose",
    "ascii_domain": "monsal.mail.compose",
    "authenticate": "monsal.mail.auth",
    "automatic_reason": "monsal.mail.automatic",
    "bounce_reason": "monsal.mail.automatic",
    "boundaries": "monsal.mail.compose",
    "clean": "monsal.mail.charset",
    "decode_base64": "monsal.mail.charset",
    "decode_header": "monsal.mail.charset",
    "decode_quoted_printable": "monsal.mail.charset",
    "decode_text": "monsal.mail.charset",
    "delivery_report": "monsal.mail.dsnwrite",
    "digest_below_received": "monsal.mail.header",
    "encode_words": "monsal.mail.charset",
    "file_entity": "monsal.mail.compose",
    "first_address": "monsal.mail.addresses",
    "first_bytes": "monsal.mail.header",
    "format_date": "monsal.mail.dates",
    "glance": "monsal.mail.header",
    "html_to_text": "monsal.mail.htmltext",
    "ids_field": "monsal.mail.compose",
    "is_content_id": "monsal.mail.attachment",
    "mailboxes": "monsal.mail.addresses",
    "multipart_entity": "monsal.mail.compose",
    "own_hops": "monsal.mail.automatic",
    "parameters": "monsal.mail.mime",
    "parse": "monsal.mail.mime",
    "parse_bounce": "monsal.mail.dsn",
    "parse_date": "monsal.mail.dates",
    "read_comment": "monsal.mail.addresses",
    "reply_draft": "monsal.mail.draft",
    "reply_from_html": "monsal.mail.replytext",
    "reply_text": "monsal.mail.replytext",
    "safe_filename": "monsal.mail.filenames",
    "scan": "monsal.mail.header",
    "text_entity": "monsal.mail.compose",
    "text_field": "monsal.mail.compose",
    "verbatim_field": "monsal.mail.compose",
}

__all__ = [*_HOME]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _HOME)
