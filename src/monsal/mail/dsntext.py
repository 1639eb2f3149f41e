"""Bounces without a form: what mail systems write for people, judged by evidence.

No list of mail systems. A text counts as a bounce by several signs together (who sends it, its subject, its words,
codes of SMTP, a mail that is returned in it), never by one. Its recipients are the addresses that stand where such
texts put them: alone on a line, before a colon or three dots, beside the words of a failure, below "the following
recipients". The mail that is returned below is cut off first: its addresses are nobody's failures.

Answers of people, of their holiday responders and of filters that ask for a proof are told apart by their own words.
"""

from __future__ import annotations

import re

import msgspec

from monsal.address import fold, is_address
from monsal.mail.addresses import first_address, mailboxes
from monsal.mail.charset import decode_header
from monsal.mail.dsnrecord import BouncedRecipient
from monsal.mail.dsnstatus import find_reply_code, find_status, reason_of
from monsal.mail.header import HeaderScan, scan
from monsal.mail.htmltext import html_to_text
from monsal.mail.late import LatePattern
from monsal.mail.mime import Part

__all__ = ["Notice", "evidence", "failed_recipients", "is_delay", "notice_of", "recipients_in"]

#: Characters of a notice that are read, and of one of its lines.
MAX_NOTICE = 20_000
MAX_LINE = 1000
#: Most addresses that are looked at.
MAX_ADDRESSES = 500

# Where the returned mail begins.
_CUT = LatePattern(
    r"^[ \t>*|]*(?:"
    r"-{2,} ?(?:this is a copy|below this line|(?:the )?(?:unsent|returned|original|undelivered|copy of)\b"
    r"|message header"
    r"|headers? of|enclosed|the header|beginning of|start of|included is|forwarded|below is|unsent|the body|attached)"
    r"|received: *(?:from|by|\(|via|with)|return-path: *<|x-envelope-from:|delivered-to: "
    r"|(?:the )?(?:headers?|text|body|contents?|copy) of (?:the |your )?(?:original |undelivered |returned )?"
    r"(?:message|mail)[^\n]{0,30}(?:follow|below|is|are|:)"
    r"|(?:your |the )?(?:original|undelivered|returned|unsent) (?:message|mail|header)s?(?: \w+)?(?: follows?"
    r"| below)?[.: ]*$"
    r"|message (?:headers?|text|body)(?: follows?| below)?[.: ]*$"
    r"|included below is|first \d+ bytes|the original message (?:was|is) (?:attached|included|follows)"
    r"|-{3,} ?(?:original|message header|header) ?"
    r")",
    re.IGNORECASE | re.MULTILINE,
)

_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\uffff-]{1,64}"
_ADDRESS = LatePattern(
    rf"(?<![A-Za-z0-9@=])(?:mailto:|smtp:|rfc822;\s?)?({_LOCAL}@[A-Za-z0-9\u0080-\uffff][A-Za-z0-9.\u0080-\uffff-]{{0,253}})",
    re.IGNORECASE,
)

# What X.400 and old gateways put before an address.
_PREFIX = LatePattern(r"^(?:smtp|rfc-?822|mail)=", re.IGNORECASE)

_FAILURE = LatePattern(
    r"user (?:is )?(?:unknown|not)|unknown (?:user|recipient|address|local|mailbox|account|host|domain|alias)|no such"
    r"|not (?:be )?(?:found|exist|known|deliver|valid|listed|a valid|our customer|accept|permitted|allowed"
    r"|recognized|reach"
    r"|received|available|active|local)|n't (?:exist|deliver|find|have|accept|valid|available|local|receive|list)"
    r"|(?:invalid|bad|illegal|unroutable|unrouteable|undeliverable) |undeliver|quota|full\b|mailbox|rejected|refused"
    r"|denied|fail(?:ed|ure|ing)|disabled|suspended|inactive|unavailable|expired|timed? ?out|exceed|returned|blocked"
    r"|spam|unable to|could ?(?:not|n't)|cannot|can't|error|over ?quota|nonexistent|too (?:large|big|long|many)"
    r"|bounced"
    r"|relay|permanent|deferred|delayed|unreachable|nie istnieje|unbekannt|inconnu|desconocid|sconosciut|onbekend"
    r"|unzustellbar|nicht zugestellt|no (?:mailbox|account|user|existe)|not in|has been|discard|terminated|closed"
    r"|deleted"
    r"|looping|loop\b|dropped|host|postponed|(?:not|no) (?:\w+ )?match",
    re.IGNORECASE,
)
_HEADING = LatePattern(
    r"(?:following|recipients?|addresse?s?|address\(es\)|addressees?|users?|deliver|reach|destinat|sent to|mailed to"
    r"|intended for|empf[aä]nger|destinatari|destinataire|odbiorc|mottagare|failed|unable)[^\n]{0,80}$",
    re.IGNORECASE,
)
# Lines whose addresses help, or belong to the sender.
_ELSEWHERE = LatePattern(
    r"contact|assist|help ?desk|questions?\b|postmaster|please (?:send|forward|visit|write|e-?mail|direct|reply|call"
    r"|notify)"
    r"|support|administrator|for (?:more|further)|if you (?:feel|believe|think|have|wish|need|do)|\bmail from\b"
    r"|mail from:"
    r"|your (?:message|mail|e-?mail)? ?from|^\W*(?:from|sender|reply-to|return-path|envelope-from|von|de|message-id"
    r"|cc|bcc|"
    r"x-[a-z-]+|date|subject|received)\s*:"
    r"|(?<!generated )from <|sent by|(?<!generated )\bfrom:? \S+@|originator|message.?id|whois|abuse@|visit http"
    r"|white ?list|resend|return path|try (?:sending|e-?mailing|writing)",
    re.IGNORECASE,
)
_BARE = LatePattern(
    r"^[\s>*+•\-\d.):(\"'\[]*<?(?:mailto:|smtp:"
    r"|rfc822;\s?)?(?P<a>[^\s<>\"',;:()\[\]]+@[^\s<>\"',;:()\[\]]+?)>?[\s.,;:)\]\"']*(?:\.\.\.)?\s*$",
    re.IGNORECASE,
)
_NAMED = LatePattern(r"^[\s>*-]*[\"'][^\"<>]{0,200}[\"']\s*<[^\s<>@]+@[^\s<>@]+>[\s.,;:]*$")
_INTRODUCED = LatePattern(
    r"(?:^|\b)(?:to|recipient|address|user|mailbox|addressee|deliver(?:y|ed)?(?: failed)? to|rcpt to|for"
    r"|failed (?:on|to|for)"
    r"|original-recipient|final-recipient|undeliverable to|unknown user|user unknown|unknown host|final recipient"
    r"|account|addressed|userid|generated from)"
    r"(?: is| was| address| name| mailbox)?\s*[:=,]?\s*[<\"'(\[]?(?:mailto:|smtp:)?$",
    re.IGNORECASE,
)

_NAME = LatePattern(r"^\s{1,20}<?([A-Za-z0-9][A-Za-z0-9._-]{2,63})>?\s*$")
_TO_LINE = LatePattern(r"^[\s>]*(?:to|cc|an|para|a)\s*:", re.IGNORECASE)
_OTHER_FIELD = LatePattern(r"^[\s>]*(?:subject|sent|date|from|message-id|betreff|objet|asunto)\s*:", re.IGNORECASE)

_DAEMONS = LatePattern(
    r"^(?:mailer-?daemon|mail-?daemon|maildaemon|mailer|post_?master|mail-?deliver[a-z]*|mail-?system|mdaemon|daemon"
    r"|mailsystem"
    r"|autodaemon|bounce[sd]?|bounce-.*|.*-bounces?|mail\.?daemon.*|smtpd?|mta|mailsrv|microsoftexchange[0-9a-f]*"
    r"|no-?reply|"
    r"failure-notice|mailerdaemon|delivery|notification|.*anti-?virus.*|.*gateway.*|root|uucp|mmdf|server|system"
    r"|administrator)$",
    re.IGNORECASE,
)
_DAEMON_NAMES = LatePattern(
    r"mail ?deliver|mailer.?daemon|delivery (?:sub)?system|postmaster|system administrator|mail (?:system"
    r"|administrator)"
    r"|mail.?daemon|undeliver|internet mail|mail server|administrator",
    re.IGNORECASE,
)
_SUBJECT = LatePattern(
    r"undeliver|returned (?:mail|to sender|message|e-?mail)|deliver[a-z]* (?:status|fail|prob|error|report|notif"
    r"|delay|warn"
    r"|unsucc|has been|incomplete)|fail(?:ure|ed)? (?:notice|to deliver|mail|deliver|message)|(?:mail|message"
    r"|e-?mail|system)"
    r" ?(?:deliver[a-z]* )?(?:fail|error|status|undeliver|not deliver|could not|bounce|rejected|delay|returned)"
    r"|could ?n[o']t"
    r" (?:be )?(?:deliver|send)|non-?deliver|not delivered|unable to deliver|bounced? (?:mail|message)|rejected"
    r"|can(?:not|'t)"
    r" be delivered|nondeliverable|unzustellbar|nicht zugestellt|zustellung|no (?:se )?(?:ha )?(?:podido|entregad)"
    r"|non remis"
    r"|non[- ]distribu|mancata consegna|impossibile|onbestelbaar|nie dor|zwrot|undelivered|unknown (?:user|address"
    r"|recipient)"
    r"|user unknown|message (?:status|blocked|refused|delayed)|warning: |delayed|delay in|mail (?:failure|status"
    r"|report)"
    r"|エラー|配信|配送|не доставлен|недоставлен|возвращ|无法|退信|delivery|quota"
    r"|mailbox (?:full|is full)|mail refused|blocked|"
    r"address (?:unknown|not found)|server (?:error|report)",
    re.IGNORECASE,
)
_WORDS = LatePattern(
    r"(?:could|can|was|were|is|has|have|been|be|did|will|would) ?(?:not"
    r"|n'?t)\s+(?:be\s+)?(?:\w+\s+)?(?:been\s+)?(?:deliver"
    r"|reach|sent\b|accept|complete|relay|process)|cannot\s+(?:be\s+)?(?:deliver|send)|undeliver|returned\s+(?:to"
    r"|mail|your"
    r"|message)|(?:delivery|deliver|mail|message)[^\n.]{0,40}(?:fail|was\s+rejected|refused|unsuccessful|error"
    r"|not\s+deliver)"
    r"|(?:unable|wasn't\s+able|failed|failure|not\s+able|attempt(?:ed)?)\s+(?:to|in)\s+(?:\w+\s+)?(?:deliver|send"
    r"|reach|relay"
    r"|transmit)|not\s+(?:exactly\s+)?match|deliver[a-z]*\s+problem|postponed|delivery\s+attempts?"
    r"|permanent\s+(?:fatal\s+)?error|fatal\s+errors?|transcript\s+of\s+(?:the\s+)?session|following\s+(?:recipient|"
    r"address|error|destination|user)|user\s+unknown|no\s+such\s+(?:user|recipient|mailbox|person)|unknown\s+(?:user"
    r"|recipient|"
    r"host|address)|sorry\s+to\s+have\s+to\s+inform|did\s+not\s+reach|mailbox\s+(?:is\s+)?(?:full|unavailable)|quota"
    r"|not\s+"
    r"(?:yet\s+)?been\s+delivered|non-?deliver|bounced|rejected|nicht\s+zugestellt|unzustellbar|konnte\s+nicht"
    r"|no\s+se\s+pudo"
    r"|n'a\s+pas\s+pu|non\s+remis|impossibile\s+|no\s+pudo|kunde\s+inte|kon\s+niet|nie\s+(?:mog|istnieje)"
    r"|не\s+(?:может|удалось"
    r"|доставл)|配信|送信でき|届け|宛先|无法|does\s+not\s+exist|message\s+delayed|will\s+be\s+(?:tried|retried|attempt)",
    re.IGNORECASE,
)
_DELAY = LatePattern(
    r"warning message only|still (?:being )?(?:tr|queue)|will (?:be |continue |keep )+(?:to )?(?:be )?(?:retr|tr(?:y"
    r"|ied)|attempt)"
    r"|not yet been delivered|has been delayed|message delayed|delivery (?:has been |is |was )?delayed"
    r"|do(?:es)? not need to "
    r"(?:resend|re-?send)|no action is required|temporar(?:y|ily) (?:unable|delay)|continue (?:to )?(?:try|retry"
    r"|attempt)"
    r"|delivery will be|will keep trying|delivery attempts will|been postponed|you will be notified"
    r"|transient (?:non-fatal|failure)",
    re.IGNORECASE,
)
_GIVEN_UP = LatePattern(
    r"permanent|fatal errors -|giv(?:en|ing) up on|'ve given up|will not be (?:re)?tried|no longer be|has failed"
    r"|failed perm"
    r"|has been (?:returned|rejected|removed)",
    re.IGNORECASE,
)
_AWAY = LatePattern(
    r"out of (?:the |my )?office|on (?:vacation|holiday|leave|annual|maternity)|away from|vacation"
    r"|auto(?:matic(?:ally)?)?[- ]?"
    r"(?:reply|respon|answer)|will (?:be (?:back|out|away)|reply|return (?:to|on|from))|abwesen|urlaub|absence"
    r"|absent|en cong|fuori ufficio"
    r"|ausente|vacaciones|poza biurem|urlop|afwezig|semester|i am (?:currently )?(?:out|away|not in|on)|i'm (?:out"
    r"|away|on)"
    r"|thank you for (?:your|contact)|received your (?:message|e-?mail|mail)|autoodpowied|自動返信|不在",
    re.IGNORECASE,
)
_CHALLENGE = LatePattern(
    r"(?:confirm|verify|prove|click)[^\n]{0,60}(?:human|you are (?:the|a|real)|link|below to|real person"
    r"|not (?:a )?spam)|challenge"
    r"|approved senders?|guest list|not (?:yet )?(?:on|in) (?:my|his|her|their|the) (?:approved|guest|white|contact)"
    r"|one[- ]time"
    r"|waiting (?:list|for your)|to release|add you to|pending (?:approval|verification)|boxbe"
    r"|verification (?:message|request)"
    r"|whitelist(?:ed)? (?:your|you|request)",
    re.IGNORECASE,
)
_ANSWER = LatePattern(r"^\s*(?:re|fwd?|aw|wg|tr|rv|sv|vs|antw|odp)\s*(?:\[\d+\])?:", re.IGNORECASE)


class Notice(msgspec.Struct, frozen=True):
    """What a mail says before it returns another one.

    `text` is that, `original` the header of the returned mail as far as there is one, `is_cut` whether a line announced
    that mail.
    """

    text: str
    original: HeaderScan | None
    is_cut: bool


def notice_of(root: Part) -> Notice:
    """Part the notice from what is returned with it."""
    texts: list[str] = []
    original: HeaderScan | None = None
    html: list[str] = []
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.is_message and part.children:
            original = original or part.children[0].header
        elif part.content_type in (
            "text/rfc822-headers",
            "message/rfc822-headers",
            "text/rfc822",
            "message/global-headers",
        ):
            original = original or scan(part.data[:65_536].lstrip(b"\r\n"))
        elif part.children:
            waiting.extend(reversed(part.children))
        elif part.content_type == "text/html":
            html.append(html_to_text(part.text[: MAX_NOTICE * 4]))
        elif (part.content_type.startswith("text/") and part.disposition != "attachment") or part.depth == 0:
            texts.append(part.text[: MAX_NOTICE * 4])
    text = "\n\n".join(texts)
    if not text.strip():
        text = "\n\n".join(html)
    cut = next((match for match in _CUT.finditer(text) if text[: match.start()].strip()), None)
    if cut is not None:
        if original is None:
            original = _header_in(text[cut.start() :])
        text = text[: cut.start()]
    return Notice(text[:MAX_NOTICE], original, cut is not None)


def _header_in(text: str) -> HeaderScan | None:
    """The header of the mail that a text returns, None if there is none."""
    lines = [line.lstrip("> \t|") if line[:1] in ">|" else line for line in text[:65_536].split("\n")]
    for start, line in enumerate(lines[:60]):
        if re.match(r"[A-Za-z][A-Za-z-]{1,30}: ", line):
            header = scan("\n".join(lines[start:]).encode("utf-8", "replace"))
            if len(header.names) >= 2:
                return header
    return None


def evidence(header: HeaderScan, notice: Notice, envelope_sender: str | None) -> int:
    """How much speaks for a bounce: 4 is enough. `envelope_sender` is None if there was no envelope."""
    subject = decode_header(header.subject or "")[:MAX_LINE]
    sender = header.correspondent or ""
    text = notice.text[:MAX_NOTICE]
    name = " ".join(box.name for box in mailboxes(header.get("from") or "", 2))
    return_path = (header.get("return-path") or "").strip()
    points = 0
    written = header.get("from") or ""
    is_daemon = (
        bool(_DAEMONS.match(sender.partition("@")[0]))
        or bool(_DAEMON_NAMES.search(name or ("" if sender else written)))
        or (not sender and "<>" in written)
    )
    words = bool(_WORDS.search(text))
    signs = (
        2 * is_daemon,
        2 * (envelope_sender == "" or return_path == "<>"),
        int(bool(_FAILURE.search(text)) and bool(find_status(text) or find_reply_code(text))),
        int(notice.original is not None or notice.is_cut),
        int("x-failed-recipients" in header),
    )
    points += sum(signs)
    points += 2 * bool(_SUBJECT.search(subject))
    points += 2 if words else int(bool(_FAILURE.search(text)))
    if not any(signs):
        # A person who writes of a parcel that was not delivered.
        points -= 2
    if _ANSWER.match(subject) and not is_daemon:
        points -= 4
    if "in-reply-to" in header and not is_daemon and header.auto_submitted in ("", "no"):
        points -= 1
    if _AWAY.search(subject) or (_AWAY.search(text) and not (find_status(text) or find_reply_code(text))):
        points -= 3
    if _CHALLENGE.search(text) and not find_status(text):
        points -= 3
    if not (words or (is_daemon and _FAILURE.search(text)) or find_status(text) or find_reply_code(text)):
        # Whatever its sender and subject are: it does not say that something failed.
        points -= 2
    if not is_daemon and ("list-id" in header or "list-unsubscribe" in header):
        points -= 2
    return points


def is_delay(subject: str, text: str) -> bool:
    """Whether a notice says that the mail is still being tried."""
    return bool(_DELAY.search(subject + "\n" + text)) and not _GIVEN_UP.search(text)


# -- recipients -----------------------------------------------------------------------------------------------------


def recipients_in(header: HeaderScan, notice: Notice, *, action: str) -> list[BouncedRecipient]:
    """The recipients that a notice reports about, best guess first; empty if it names none."""
    lines = [line[:MAX_LINE].rstrip() for line in notice.text.split("\n")]
    ours = _not_recipients(header, notice)
    scores: dict[str, tuple[int, str, str]] = {}
    count = 0
    for number, line in enumerate(lines):
        for match in _ADDRESS.finditer(line):
            address = _PREFIX.sub("", match.group(1).rstrip(".-'").lstrip("'*/`"))
            count += 1
            if count > MAX_ADDRESSES or not is_address(address):
                continue
            points = _points(lines, number, line.find(address, match.start(1)), address, ours)
            key = fold(address)
            if key not in scores or points > scores[key][0]:
                scores[key] = (points, address, _words_about(lines, number))
    best = max((points for points, _, _ in scores.values()), default=0)
    chosen = [found for found in scores.values() if found[0] >= max(3, best - 4)]
    if not chosen:
        chosen = _by_name(header, notice, lines, ours)
    return [_record(address, words, notice.text, action) for _, address, words in chosen]


def _record(address: str, words: str, text: str, action: str) -> BouncedRecipient:
    status = find_status(words) or find_status(text)
    reason = reason_of(status, words)
    if reason == "other":
        reason = reason_of(status, text)
    return BouncedRecipient(
        address=address,
        final=address,
        action=action,
        status=status,
        diagnostic=" ".join(words.split())[:2000],
        reason=reason,
    )


def _not_recipients(header: HeaderScan, notice: Notice) -> frozenset[str]:
    """Addresses that are named in every bounce: of whoever it went to, and of whoever wrote it."""
    values = [header.get(name) for name in ("to", "delivered-to", "x-original-to", "from", "reply-to", "cc")]
    if notice.original is not None:
        values += [notice.original.get(name) for name in ("from", "sender", "return-path", "reply-to")]
    return frozenset(fold(box.address) for value in values if value for box in mailboxes(value, 20))


def _points(lines: list[str], number: int, position: int, address: str, ours: frozenset[str]) -> int:
    """How much speaks for an address in a line being a recipient."""
    line = lines[number]
    before, after = line[:position], line[position + len(address) :]
    heading = next((text for text in reversed(lines[max(0, number - 4) : number]) if text.strip()), "")
    following = _following(lines, number)
    points = 0
    is_bare = _BARE.match(line) is not None or _NAMED.match(line) is not None
    points += 3 * is_bare
    points += 2 * bool(re.match(r">?\)?\s*(?::|\.\.\.|;|,? (?:was|is|has|could|can|does|not|user)\b)", after))
    points += 3 * bool(_INTRODUCED.search(before) or (before.rstrip(" <\"'").endswith(":") and _FAILURE.search(before)))
    points += 2 * bool(_FAILURE.search(before + " " + after))
    points += 2 * bool(find_status(line) or find_reply_code(before + " " + after))
    points += bool(_FAILURE.search(following)) + bool(find_reply_code(following) or find_status(following))
    is_first = not before.strip(" \t<>\"'*-")
    points += is_first and after.startswith(">:")
    points += (1 + (is_bare or is_first)) * bool(_HEADING.search(heading))
    if _ELSEWHERE.search(line) or _is_quoted_header(lines, number):
        points -= 4
    if is_bare and _ELSEWHERE.search(heading) and not _HEADING.search(heading):
        points -= 2
    if fold(address) in ours:
        points -= 2
    if _DAEMONS.match(address.partition("@")[0]) or address.partition("@")[0].lower() in (
        "abuse",
        "support",
        "help",
        "info",
    ):
        points -= 2
    return points


def _is_quoted_header(lines: list[str], number: int) -> bool:
    """Whether a line is the To of the mail that came back, as some notices repeat it."""
    if not _TO_LINE.match(lines[number]):
        return False
    return any(_OTHER_FIELD.match(line) for line in lines[max(0, number - 2) : number + 4])


def _following(lines: list[str], number: int) -> str:
    """The lines that explain the address of a line: up to an empty one or the next address, at most three."""
    found: list[str] = []
    for line in lines[number + 1 : number + 5]:
        if len(found) >= 3 or (not line.strip() and found) or _BARE.match(line):
            break
        found.append(line)
    return " ".join(found)


def _words_about(lines: list[str], number: int) -> str:
    return f"{lines[number].strip()} {_following(lines, number).strip()}".strip()


def _by_name(header: HeaderScan, notice: Notice, lines: list[str], ours: frozenset[str]) -> list[tuple[int, str, str]]:
    """The recipients of a notice that names no address: those of the returned mail whose local part it names, else
    names alone on a line below "the following recipients", which are then of the domain that writes."""
    to = [] if notice.original is None else notice.original.get_all("to")
    candidates = dict.fromkeys(box.address for value in to for box in mailboxes(value, 50))
    found = [
        (1, address, notice.text[:500])
        for address in candidates
        if fold(address) not in ours and _names_local_part(notice.text, address)
    ]
    domain = (header.correspondent or "").partition("@")[2]
    if found or not domain:
        return found
    heading = ""
    for number, line in enumerate(lines):
        alone = _NAME.match(line)
        if alone is not None and _HEADING.search(heading) and is_address(f"{alone.group(1)}@{domain}"):
            found.append((1, f"{alone.group(1)}@{domain}", _words_about(lines, number)))
        elif line.strip():
            heading = line
    return found


def _names_local_part(text: str, address: str) -> bool:
    local = address.partition("@")[0]
    return len(local) >= 3 and re.search(rf"(?<![\w.-]){re.escape(local)}(?![\w.@-])", text, re.IGNORECASE) is not None


def failed_recipients(header: HeaderScan) -> list[str]:
    """The addresses of X-Failed-Recipients, as Exim and Gmail write it."""
    values = header.get_all("x-failed-recipients")[:100]
    found = [address for value in values for piece in value.split(",")[:1000] if (address := first_address(piece))]
    return list(dict.fromkeys(found))
