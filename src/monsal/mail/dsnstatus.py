"""What the numbers and words of a failed delivery mean: enhanced status codes (RFC 3463, RFC 5248) and reply texts.

A status code says where something went wrong; what servers write beside it is often more exact (5.7.1 and 5.0.0 stand
for anything), so the words are asked first, then the code, then the three digits of the SMTP reply.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from monsal.mail.late import LatePattern

__all__ = [
    "Reason",
    "find_reply_code",
    "find_status",
    "reason_of",
    "reason_text",
    "status_class_text",
    "status_detail_text",
    "status_subject_text",
]

#: Why a mail did not arrive. `other` when nobody says.
Reason = Literal[
    "unknown_user",
    "mailbox_full",
    "mailbox_disabled",
    "moved",
    "host_unknown",
    "network",
    "relay_denied",
    "blocked",
    "spam",
    "authentication",
    "policy",
    "too_large",
    "content",
    "expired",
    "loop",
    "rate_limited",
    "system",
    "syntax",
    "complaint",
    "other",
]

_CLASSES: Final = {"2": "Success", "4": "Persistent transient failure", "5": "Permanent failure"}

_SUBJECTS: Final = {
    0: "Other or undefined status",
    1: "Addressing status",
    2: "Mailbox status",
    3: "Mail system status",
    4: "Network and routing status",
    5: "Mail delivery protocol status",
    6: "Message content or media status",
    7: "Security or policy status",
}

# The registry of RFC 5248 as far as servers use it: subject.detail -> what it says, and the reason that it names.
_DETAILS: Final[dict[tuple[int, int], tuple[str, Reason]]] = {
    (1, 0): ("Other address status", "other"),
    (1, 1): ("Bad destination mailbox address", "unknown_user"),
    (1, 2): ("Bad destination system address", "host_unknown"),
    (1, 3): ("Bad destination mailbox address syntax", "syntax"),
    (1, 4): ("Destination mailbox address ambiguous", "unknown_user"),
    (1, 5): ("Destination address valid", "other"),
    (1, 6): ("Destination mailbox has moved, no forwarding address", "moved"),
    (1, 7): ("Bad sender's mailbox address syntax", "policy"),
    (1, 8): ("Bad sender's system address", "policy"),
    (1, 9): ("Message relayed to a system that makes no reports", "other"),
    (1, 10): ("Recipient address has null MX", "host_unknown"),
    (2, 0): ("Other or undefined mailbox status", "mailbox_disabled"),
    (2, 1): ("Mailbox disabled, not accepting messages", "mailbox_disabled"),
    (2, 2): ("Mailbox full", "mailbox_full"),
    (2, 3): ("Message length exceeds administrative limit", "too_large"),
    (2, 4): ("Mailing list expansion problem", "system"),
    (3, 0): ("Other or undefined mail system status", "system"),
    (3, 1): ("Mail system full", "system"),
    (3, 2): ("System not accepting network messages", "system"),
    (3, 3): ("System not capable of selected features", "system"),
    (3, 4): ("Message too big for system", "too_large"),
    (3, 5): ("System incorrectly configured", "system"),
    (4, 0): ("Other or undefined network or routing status", "network"),
    (4, 1): ("No answer from host", "network"),
    (4, 2): ("Bad connection", "network"),
    (4, 3): ("Directory server failure", "system"),
    (4, 4): ("Unable to route", "host_unknown"),
    (4, 5): ("Mail system congestion", "system"),
    (4, 6): ("Routing loop detected", "loop"),
    (4, 7): ("Delivery time expired", "expired"),
    (5, 0): ("Other or undefined protocol status", "other"),
    (5, 1): ("Invalid command", "syntax"),
    (5, 2): ("Syntax error", "syntax"),
    (5, 3): ("Too many recipients", "rate_limited"),
    (5, 4): ("Invalid command arguments", "syntax"),
    (5, 5): ("Wrong protocol version", "syntax"),
    (6, 0): ("Other or undefined media error", "content"),
    (6, 1): ("Media not supported", "content"),
    (6, 2): ("Conversion required and prohibited", "content"),
    (6, 3): ("Conversion required but not supported", "content"),
    (6, 4): ("Conversion with loss performed", "content"),
    (6, 5): ("Conversion failed", "content"),
    (6, 7): ("Non-ASCII addresses not permitted for that recipient", "content"),
    (6, 9): ("UTF-8 header message cannot be transferred", "content"),
    (7, 0): ("Other or undefined security status", "policy"),
    (7, 1): ("Delivery not authorized, message refused", "policy"),
    (7, 2): ("Mailing list expansion prohibited", "policy"),
    (7, 7): ("Message integrity failure", "authentication"),
    (7, 8): ("Authentication credentials invalid", "authentication"),
    (7, 13): ("User account disabled", "mailbox_disabled"),
    (7, 20): ("No passing DKIM signature found", "authentication"),
    (7, 21): ("No acceptable DKIM signature found", "authentication"),
    (7, 22): ("No valid author-matched DKIM signature found", "authentication"),
    (7, 23): ("SPF validation failed", "authentication"),
    (7, 24): ("SPF validation error", "authentication"),
    (7, 25): ("Reverse DNS validation failed", "blocked"),
    (7, 26): ("Multiple authentication checks failed", "authentication"),
    (7, 27): ("Sender address has null MX", "policy"),
    (7, 28): ("Mail flood detected", "rate_limited"),
    (7, 29): ("ARC validation failure", "authentication"),
    (7, 509): ("DMARC validation failed", "authentication"),
    (7, 606): ("Sender is blocked", "blocked"),
    (7, 708): ("Sending limit reached", "rate_limited"),
}

# What the subject of a code says, where its detail is not in the registry.
_BY_SUBJECT: Final[dict[int, Reason]] = {
    1: "unknown_user",
    2: "mailbox_disabled",
    3: "system",
    4: "network",
    6: "content",
    7: "policy",
}

# Three digits alone (RFC 5321, section 4.2.3), as the weakest sign.
_REPLIES: Final[dict[str, Reason]] = {
    "421": "system",
    "450": "mailbox_disabled",
    "452": "system",
    "500": "syntax",
    "501": "syntax",
    "530": "authentication",
    "535": "authentication",
    "550": "unknown_user",
    "551": "moved",
    "552": "mailbox_full",
    "553": "unknown_user",
    "556": "host_unknown",
}

# What servers write, the more exact first. Each is looked for in the words of the failure, in lower case.
_PATTERNS: Final[tuple[tuple[Reason, str], ...]] = (
    (
        "loop",
        r"too many hops|mail loop|routing loop|loops? back to|hop ?count exceeded|mail-loop|looping",
    ),
    (
        "mailbox_full",
        r"quota|mailbox (?:size|.{0,20}exceeds?)|mailbox (?:is )?full|mailbox .{0,40}\bfull\b|over ?quota"
        r"|insufficient (?:disk|system) space"
        r"|exceeded? (?:the |its |his |their )?(?:storage|disk|allocated|space)|storage (?:space|allocation)"
        r"|not enough"
        r" (?:storage|disk|space)|out of (?:disk )?space|full mailbox|mailfolder is full|inbox is full|disk full|一杯",
    ),
    (
        "too_large",
        r"message (?:size|length)|size limit|maximum (?:message )?size|exceeds? (?:the |our )?(?:maximum|fixed"
        r"|size)"
        r"|too (?:large|big)|larger than|larger? message|message is over|exceeded? .{0,30}\bsize\b"
        r"|entity too large",
    ),
    (
        "authentication",
        r"\bspf\b|\bdkim\b|\bdmarc\b|sender policy framework|unauthenticated|not authenticated|5\.7\.26",
    ),
    (
        "relay_denied",
        r"relay(?:ing)? (?:access )?(?:denied|prohibited|not (?:permitted|allowed))|unable to relay|not a relay"
        r"|relay not|rcpthosts|cannot relay|do(?:es)? not relay|not permitted to relay|relaying|no relay"
        r"|we do not relay",
    ),
    (
        "spam",
        r"\bspam|junk ?mail|unsolicited|bulk ?mail|looks like|content (?:rejected|filter|denied)|bayes|surbl"
        r"|uribl"
        r"|spamassassin|blacklisted url|message content|bogus email|score of|\bube\b",
    ),
    (
        "blocked",
        r"block(?:ed|list)|black ?list|\brbl\b|dnsbl|spamhaus|spamcop|banned|reputation|poor .{0,12}reputation"
        r"|client host .{0,60}reject|access denied|(?:ip|host|domain|server) .{0,40}(?:denied|rejected|refused)"
        r"|reverse dns|\bptr\b|dynamic ip|denied access|senderblock|not accept(?:ing)? mail from|refused (?:by"
        r"|mail)"
        r"|barracuda|sorbs|cloudmark|deny list|denylist",
    ),
    (
        "rate_limited",
        r"rate limit|too many (?:messages|connections|recipients|errors|emails)|throttl|try again later.*limit"
        r"|limit exceeded|greylist|gr[ae]y-?list|deferred due to",
    ),
    (
        "mailbox_disabled",
        r"disabled|deactivat|inactive|suspended|not (?:currently )?active|no longer (?:valid|active|available"
        r"|with|"
        r"employed|works)|account (?:has )?expired|account .{0,30}(?:closed|terminated|locked)"
        r"|not accepting (?:mail|"
        r"messages)|discontinued|temporarily unavailable|is not allowed to"
        r" receive",
    ),
    (
        "unknown_user",
        r"user (?:is )?(?:unknown|not (?:known|found|listed|exist))|unknown (?:user|recipient|address|mailbox"
        r"|local|"
        r"account|alias)|no such (?:user|recipient|mailbox|address|person|account|local|name|id|customer"
        r"|subscriber)"
        r"|(?:does|do|did) ?n[o']t (?:exist|have an? .{0,30}(?:account|mailbox))|(?:does|do) not exist|not exist"
        r"|(?:invalid|bad|illegal|unroutable|undeliverable|unrouteable) (?:recipient|address|mailbox|user|alias"
        r"|mail)"
        r"|recipient (?:address )?(?:rejected|unknown|not found|invalid|not recognized|.{0,60}unknown)"
        r"|(?:address|mailbox|account|recipient|user|addressee|name) .{0,70}(?:unknown|not (?:be )?found"
        r"|not listed"
        r"|invalid|not valid|not recogni[sz]ed|rejected|nonexistent|non-existent|unavailable|unreachable)"
        r"|no mailbox|mailbox not|not our customer|(?:isn't|is not|not) (?:a )?(?:valid|known|registered|local)"
        r"|not listed in|couldn't be found|not in (?:our|the|my)|unknown-|no account|not a (?:user|member|valid)"
        r"|recipnotfound|unknown:|address error|mailbox unavailable|this user doesn't have|unbekannt|inconnu"
        r"|desconocid"
        r"|nie istnieje"
        r"|見つかりません|リストにありません"
        r"|no user|is not (?:a|an) .{0,20}(?:address|account|user)|couldn't find|cannot find"
        r"|not find"
        r"|can't be found|badrcpt|no valid recipients|has been deleted|bad destination",
    ),
    (
        "host_unknown",
        r"host (?:or domain )?(?:name )?(?:unknown|not found|lookup)|unknown (?:host|domain|mail host)"
        r"|no such (?:host|"
        r"domain)|domain (?:name )?(?:not found|.{0,40}does not exist|is not valid)|name (?:server"
        r"|service) (?:error|"
        r"failure)|host unknown|nxdomain|no mx|no route to host|dns (?:error|lookup|failure|record)|non-?existent"
        r" domain|couldn't find any host|unrouteable mail domain|cannot resolve|malformed .{0,20}dns"
        r"|host not found"
        r"|bad (?:host|domain)|domain lookup|isn't valid|no dns",
    ),
    (
        "expired",
        r"(?:delivery|queue|message) time(?:d out| expired)|expired|too old|retry time(?:out| not)|retry timeout"
        r"|been in the queue too long|for (?:the last )?\d+ (?:days|hours)|could not be delivered for|giving up"
        r"|time ?out|timed out|queue lifetime|failing for a long time|over \d+ (?:days|hours)|past \d+",
    ),
    (
        "network",
        r"connection (?:refused|timed|reset|dropped|lost|died)|no answer|unable to connect"
        r"|could ?n[o']t (?:connect|"
        r"establish)|network|unreachable|cannot connect|not responding|lost connection|did not respond",
    ),
    (
        "policy",
        r"polic(?:y|ies)|not authorized|not permitted|permission|rejected|refused|denied|not allowed|prohibited"
        r"|delivery not authorized|rejects|administrative|closed list|verification",
    ),
    ("content", r"attachment|virus|mime|8-?bit|content|executable|infected|format|encod"),
    ("syntax", r"syntax|bad command|protocol error|invalid command|unrecognized"),
    (
        "system",
        r"local error|internal|system|resources|disk|i/o error|configuration|service|server error|can't create",
    ),
)
_WORDS: Final = tuple((reason, LatePattern(pattern)) for reason, pattern in _PATTERNS)

_STATUS: Final = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d]|\.\d)")
_REPLY: Final = re.compile(r"(?<![\d.:/-])([45][0-5]\d)(?=[\s\-,;:)\]>.]|#|\Z)(?!\.\d)")
# Numbers that tell nothing more than "it failed".
_VAGUE: Final = frozenset({(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (7, 1), (5, 1)})


def find_status(text: str) -> str:
    """The first enhanced status code in a text, empty if there is none."""
    match = _STATUS.search(text)
    return match.group(0) if match is not None else ""


def find_reply_code(text: str) -> str:
    """The first three digits of an SMTP refusal in a text, empty if there are none."""
    match = _REPLY.search(text)
    return match.group(1) if match is not None else ""


def _digits(status: str) -> tuple[int, int] | None:
    match = _STATUS.fullmatch(status)
    return None if match is None else (int(match.group(2)), int(match.group(3)))


def reason_of(status: str, words: str) -> Reason:
    """Why a delivery failed, by its status code and what was written beside it. Never raises."""
    digits = _digits(status)
    exact = None if digits is None or digits in _VAGUE else _DETAILS.get(digits)
    text = " ".join(words[:2000].lower().split())
    found = next((reason for reason, pattern in _WORDS if pattern.search(text)), None)
    if exact is not None and (
        found is None or found in ("policy", "content", "system", "syntax", "network", "expired")
    ):
        return exact[1]
    if found is not None:
        return found
    if digits is not None and digits in _DETAILS:
        return _DETAILS[digits][1]
    if digits is not None:
        return _BY_SUBJECT.get(digits[0], "other")
    return _REPLIES.get(find_reply_code(text), "other")


def status_class_text(status: str) -> str:
    """The first number of a status code in words (RFC 3463, section 3.1), empty if it is none."""
    return _CLASSES.get(status[:1], "") if _digits(status) is not None else ""


def status_subject_text(status: str) -> str:
    """The second number in words (RFC 3463, section 3.2), empty if it is none."""
    digits = _digits(status)
    return "" if digits is None else _SUBJECTS.get(digits[0], "Unknown subject")


def status_detail_text(status: str) -> str:
    """Second and third number together in words (RFC 3463, sections 3.2 to 3.8, and RFC 5248)."""
    digits = _digits(status)
    if digits is None:
        return ""
    known = _DETAILS.get(digits)
    return known[0] if known is not None else f"{_SUBJECTS.get(digits[0], 'Unknown subject')}, detail {digits[1]}"


_FOR_PEOPLE: Final[dict[Reason, str]] = {
    "unknown_user": "there is no such mailbox",
    "mailbox_full": "the mailbox is full",
    "mailbox_disabled": "the mailbox is disabled or takes no mail",
    "moved": "the mailbox has moved",
    "host_unknown": "the domain takes no mail or does not exist",
    "network": "the mail server could not be reached",
    "relay_denied": "the server does not take mail for this address",
    "blocked": "the server blocks mail from here",
    "spam": "the server took it for spam",
    "authentication": "the server wants a proof of the sender (SPF, DKIM, DMARC)",
    "policy": "the server's rules forbid it",
    "too_large": "the mail is too large",
    "content": "the server does not take what is in it",
    "expired": "it could not be delivered in time",
    "loop": "it went in circles",
    "rate_limited": "too much mail came at once",
    "system": "the server had trouble of its own",
    "syntax": "the servers did not understand each other",
    "complaint": "the recipient called it unwanted",
    "other": "the server gave no reason that is known",
}


def reason_text(reason: Reason) -> str:
    """A reason in words for people."""
    return _FOR_PEOPLE[reason]
