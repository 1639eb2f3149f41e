"""What the markup of a mail's HTML says beside its words: which elements are hidden, quoted, or a signature."""

from __future__ import annotations

import re

__all__ = ["Mark", "attributes", "is_hidden", "mark", "unescaped"]

#: Attributes of one tag that are looked at, and the characters of its markup.
MAX_ATTRIBUTES = 40
MAX_TAG = 4000

_ATTRIBUTE = re.compile(r"([A-Za-z][A-Za-z0-9_:\-]{0,40})(?:\s*+=\s*+(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]*+)))?")
_SPACE = re.compile(r"\s+")

# Of interest in a style that hides: what preheaders of newsletters have, and what no reader sees.
_HIDING = re.compile(r"(?:^|;)(?:display:none|visibility:hidden)")
_FLAT = re.compile(r"(?:^|;)max-height:0(?:px)?(?:;|!|$)")
# Outlook and Windows Mail draw a line above the header of what they quote.
_OUTLOOK_LINE = re.compile(r"border:none;border-top:(?:solid)?#[0-9a-f]{6}1\.0pt;|border-top-color:rgb\(229,229,229\)")

#: Classes and ids of elements that hold a quotation, its introduction, or both. In lower case.
_QUOTED = frozenset(
    {
        "gmail_attr", "moz-cite-prefix", "moz-forward-container", "moz-email-headers-table", "yahoo_quoted",
        "protonmail_quote", "tutanota_quote", "zmail_extra", "zmail_extra_hr", "hs_reply", "outlookmessageheader",
        "reply-intro", "replyintro", "forwardintro", "nylas-quote", "isforwardcontent", "isreplycontent",
    }
)  # fmt: skip
#: Those below which nothing is new: everything up to the end is quoted.
_REST = frozenset(
    {
        "appendonsend", "divrplyfwdmsg", "olk_src_body_section", "zwchr", "stopspelling",
        "mail-editor-reference-message-container", "ms-outlook-mobile-reference-message",
    }
)  # fmt: skip
#: Those that hold a signature.
_SIGNATURE = frozenset(
    {
        "gmail_signature", "gmail_signature_prefix", "moz-signature", "protonmail_signature_block",
        "protonmail_signature_block-user", "applemailsignature", "ms-outlook-mobile-signature", "signature",
    }
)  # fmt: skip


class Mark:
    """What an element is: the words that `mark` gives."""

    NONE = ""
    #: All in it is quoted.
    QUOTED = "quoted"
    #: All in it is quoted up to its first `blockquote`; people answer between several of them.
    INTRODUCTION = "introduction"
    #: It and all that follows is quoted.
    REST = "rest"
    SIGNATURE = "signature"


def attributes(markup: str, start: int, end: int) -> dict[str, str]:
    """The attributes between two places of the markup, names in lower case, the first of each name."""
    if start >= end:
        return {}
    found: dict[str, str] = {}
    for count, match in enumerate(_ATTRIBUTE.finditer(markup, start, min(end, start + MAX_TAG))):
        if count >= MAX_ATTRIBUTES:
            break
        name, double, single, bare = match.groups()
        value = double if double is not None else single if single is not None else bare
        found.setdefault(name.lower(), value or "")
    return found


def unescaped(text: str) -> str:
    """The text with the character for each reference (`&amp;`), as HTML says."""
    if "&" not in text:
        return text
    # Its table takes half a megabyte, and many a process never sees a reference.
    from html import unescape

    return unescape(text)


def is_hidden(given: dict[str, str]) -> bool:
    """Whether nobody sees this element: `hidden`, or a style that takes it away."""
    if "hidden" in given:
        return True
    style = given.get("style")
    if not style:
        return False
    style = _SPACE.sub("", style.lower())
    return _HIDING.search(style) is not None or ("overflow:hidden" in style and _FLAT.search(style) is not None)


def mark(tag: str, given: dict[str, str]) -> str:
    """What clients of mail mean by an element with these attributes."""
    names = [*unescaped(given.get("class", "")[:400]).lower().split(), *given.get("id", "")[:100].lower().split()]
    # Outlook puts "x_" before the names that it finds in what it quotes; ours may be nested as deep as that.
    words = {name.removeprefix("x_").removeprefix("x_") for name in names}
    if "gmail_quote" in words or "gmail_quote_container" in words:
        return Mark.NONE if tag == "blockquote" else Mark.INTRODUCTION
    if words & _REST or any(word.startswith("mail-editor-reference-message-container") for word in words):
        return Mark.REST
    if words & _QUOTED or (tag == "div" and given.get("name", "").lower() == "quote"):
        return Mark.QUOTED
    if words & _SIGNATURE or given.get("data-smartmail") == "gmail_signature":
        return Mark.SIGNATURE
    if tag == "div" and "border" in given.get("style", ""):
        style = _SPACE.sub("", given["style"].lower())
        if _OUTLOOK_LINE.search(style):
            return Mark.REST
    return Mark.NONE
