"""What somebody wrote, without what they quoted, their signature and what their program added.

Works on lines of plain text, in one pass over each of these steps:

1. A line of the application itself ("write above this line") ends the text.
2. So does the separator of a client: "-----Original Message-----", or a block of From, Sent, To, Subject.
3. Lines with `>` are a quotation. An introduction ("On ... wrote:", over up to five lines) goes with it; one that has
   no marked quotation below it ends the text.
4. "-- " and what is below it is a signature; "Sent from my ..." is a line of a telephone.

HTML is read by `htmltext.py`, which puts `>` before what the markup of a client says is quoted; then the same steps
follow. What is not recognised is kept, because a handler can do more with too much than with too little.

Every step looks at a line a bounded number of times, and longer lines than MAX_LINE are prose: the time is linear in
the text, whatever is in it.
"""

from __future__ import annotations

import re

from monsal.mail.htmltext import marked_text
from monsal.mail.late import LatePattern
from monsal.mail.replywords import APPS, FIELDS, JOINED_VERBS, OPENERS, OUR_LINES, SENT_FROM, SEPARATORS, VERBS

__all__ = ["choose_reply", "reply_from_html", "reply_text"]

#: Characters that are looked at.
MAX_TEXT = 500_000
#: Longest line that is tried as an introduction, a separator or a header; longer ones are prose.
MAX_LINE = 500
#: Lines over which clients wrap an introduction.
MAX_INTRODUCTION = 5
#: Lines that may stand below "--" without its space, for it to be the start of a signature.
MAX_LOOSE_SIGNATURE = 8

_COLONS = (":", "：")
_DIGIT = LatePattern(r"\d")
_ADDRESS = LatePattern(r"[^\s<>@,;:\"()]{1,64}@[^\s<>@,;:\"()]{1,255}")
# A time, a date in digits, a year, or the day and month of CJK.
_DATE = LatePattern(
    r"\b\d{1,2}[:.]\d{2}\b|\b\d{1,4}[./\-]\s?\d{1,2}[./\-]\s?\d{1,4}\b|\b(?:19|20)\d\d\b|\d{1,2}\s?[月월]\s?\d{1,2}\s?[日일]"
)
_VERB = LatePattern(rf"(?<!\w)(?:{'|'.join(VERBS)})(?!\w)|{'|'.join(JOINED_VERBS)}", re.IGNORECASE)
_OPENER = LatePattern(
    rf"(?:[*_\"']{{0,2}}(?:{'|'.join(sorted(map(re.escape, OPENERS), key=len, reverse=True))})(?!\w)"
    # A date comes first in many languages: "21.11.2025 10:00, Alice пишет:", "pt., 21 lis 2025", "2025年11月21日".
    r"|\W{0,2}\d{1,4}(?!\w)|\W{0,2}\d{1,4}\s?[年년.\-/]|\w{1,12}[.,]{1,2}\s?\d)",
    re.IGNORECASE,
)
_CJK_OPENER = ("在", "于", "於")
# An introduction behind a text, on the same line.
_INNER = LatePattern(
    r"(?<=[\s\-])(?:On|Am|Le|El|Il|Em|Op|Den|W dniu)\s(?=\S{0,12}\d|\w{2,10}[.,]{1,2}\s)[^\n]{5,300}\Z"
)
_NAMED = LatePattern(r"[^<>]{0,200}<(?:mailto:)?[^<>@\s]{1,64}@[^<>@\s]{1,255}>[^<>]{0,40}[:：]\s*\Z")
_DATED = LatePattern(
    r"\W{0,2}\d{4}[./\-年]\s?\d{1,2}[./\-月]\s?\d{1,2}[^<>]{0,200}<[^<>@\s]{1,64}@[^<>@\s]{1,255}>:?\s*\Z"
)

_RULER = LatePattern(r"\s*[-_=*#~+]{2,}")
_INSIDE = LatePattern(r"[\s\-_=*#~+>]*(.*?)[\s\-_=*#~+:：]*\Z")
_SEPARATORS = frozenset(SEPARATORS)
_DRAWN = " \t\r_-=*~\u2013\u2014\u2500"

_LABEL = LatePattern(r"[*_\s>]{0,6}([^\W\d_](?:[\w’' \-]|[()]){0,24}?)[*_\s\xa0]{0,3}[:：][*_]{0,2}(?!//)")

_SENT_FROM = LatePattern(
    rf"[\s\-_*\[(]{{0,4}}(?:{'|'.join(SENT_FROM)}"
    rf"|(?:sent|gesendet|envoyé|enviado|verzonden|skickat|sendt)"
    rf" (?:via|with|using|by|from|from the|von|mit|avec|con|met|med)"
    rf" (?:my |the |a )?.{{0,30}}(?:{'|'.join(map(re.escape, APPS))})\b.{{0,60}})\s*[\])*_.]{{0,3}}\s*\Z",
    re.IGNORECASE,
)
_LINK = LatePattern(r"\s*[<(\[]?\s*(?:https?://|mailto:)[^\s<>]{1,400}\s*[>)\]]?")


def reply_text(text: str, *, sender_name: str = "", delimiter: str = "", inline_quotes: bool = False) -> str:
    """The lines of `text` that its sender wrote anew. Never raises; empty if nothing but a quotation is there.

    `sender_name` lets a last line such as "- Alice" count as a signature. `delimiter` is a line of the application's
    own above which answers are written, in addition to those that are known. With `inline_quotes` the quotations of an
    answer between them are kept, where several are answered one by one; otherwise no word of somebody else is.
    """
    return _extract(text, sender_name, delimiter, inline_quotes)[0]


def reply_from_html(markup: str, *, sender_name: str = "", delimiter: str = "", inline_quotes: bool = False) -> str:
    """The same for HTML, whose clients mark what they quote."""
    marked, _ = marked_text(markup)
    return _extract(marked, sender_name, delimiter, inline_quotes)[0]


def choose_reply(plain: str, markup: str | None, sender_name: str) -> str:
    """What is new in a mail that has a plain text, HTML, or both.

    The plain text is what counts, because its lines are as they were written. But if no quotation is seen in it and
    the HTML marks one, it is of a client that marks none in plain text, in a language that is not known here.
    """
    if not plain.strip():
        return reply_from_html(markup, sender_name=sender_name) if markup else ""
    text, found = _extract(plain, sender_name, "", False)
    if not found and markup:
        marked, quoted = marked_text(markup)
        if quoted:
            return _extract(marked, sender_name, "", False)[0]
    return text


def _extract(text: str, sender_name: str, delimiter: str, inline_quotes: bool) -> tuple[str, bool]:
    """The new text, and whether anything was taken for a quotation."""
    lines = text[:MAX_TEXT].replace("\r\n", "\n").split("\n")
    upper = _before_our_line(lines, delimiter)
    upper = _before_separator(upper)
    kept, found = _without_quotations(upper, inline_quotes)
    found = found or len(upper) < len(lines)
    kept = _before_signature(kept, sender_name)
    start, end = 0, len(kept)
    while end > start and not kept[end - 1].strip():
        end -= 1
    while start < end and not kept[start].strip():
        start += 1
    return "\n".join(line.rstrip() for line in kept[start:end]), found


def _before_our_line(lines: list[str], delimiter: str) -> list[str]:
    """What stands above the first line that the application wrote for that."""
    for index, line in enumerate(lines):
        if delimiter and delimiter in line:
            return _without_last_introduction(lines[:index])
        if not 8 < len(line) <= MAX_LINE or _is_quoted(line):
            continue
        if _RULER.match(line) or line.rstrip()[-2:] in ("--", "==", "##", "**", "__"):
            lower = line.lower()
            if any(phrase in lower for phrase in OUR_LINES):
                return _without_last_introduction(lines[:index])
    return lines


def _without_last_introduction(lines: list[str]) -> list[str]:
    """Without an introduction at the end, in whatever language: our own line is below it, so that it must be one."""
    end = len(lines)
    while end > 0 and not lines[end - 1].strip(" \t\r>"):
        end -= 1
    if end == 0 or not lines[end - 1].rstrip().endswith(_COLONS):
        return lines[:end]
    length = _foreign_introduction(lines, end - 1) or (1 if _DATE.search(lines[end - 1][-MAX_LINE:]) else 0)
    return lines[: end - length]


def _before_separator(lines: list[str]) -> list[str]:
    for index, line in enumerate(lines):
        if not 2 < len(line) <= MAX_LINE or _is_quoted(line):
            continue
        if _is_separator(line) or _is_header_block(lines, index):
            end = index
            # Outlook draws a line above its header.
            while end > 0 and not lines[end - 1].strip(_DRAWN):
                end -= 1
            return lines[:end]
    return lines


def _is_separator(line: str) -> bool:
    """Whether a line says, between dashes or before a colon, that an older message follows."""
    ruled = _RULER.match(line) is not None
    if not ruled and not line.rstrip().endswith(_COLONS):
        return False
    inside = _INSIDE.match(line)
    words = "" if inside is None else inside.group(1).lower()
    if words in _SEPARATORS or words.startswith("original message processed by"):
        return True
    # "---- Alice wrote ----", "------On 12/29/2025, Alice wrote-----".
    closed = line.rstrip(" \t:：").endswith(("--", "==", "__"))
    return ruled and closed and len(words) > 5 and _VERB.search(words) is not None


def _label(line: str) -> str | None:
    """Which field of a header a line begins with."""
    if len(line) > MAX_LINE:
        return None
    match = _LABEL.match(line)
    return None if match is None else FIELDS.get(" ".join(match.group(1).lower().split()))


def _is_header_block(lines: list[str], index: int) -> bool:
    """Whether fields of a header start here, as Outlook and others put them above a quotation.

    People write "From: Berlin, To: Paris, Date: Friday" too. So there must be an address, a subject, words in bold as
    Outlook has them, or a line drawn above; and three fields, two below a line that is drawn.
    """
    first = _label(lines[index])
    if first is None:
        return False
    kinds = {first}
    sender = lines[index] if first == "from" else ""
    misses = 0
    for line in lines[index + 1 : index + 12]:
        if not line.strip():
            continue
        kind = _label(line)
        if kind is None:
            # A list of recipients goes over several lines.
            misses += 1
            if misses > 2:
                break
            continue
        kinds.add(kind)
        if kind == "from":
            sender = line
    if "from" not in kinds or len(kinds) < 2:
        return False
    above = index - 1
    while above >= 0 and not lines[above].strip():
        above -= 1
    drawn = above >= 0 and len(lines[above].strip()) >= 3 and not lines[above].strip(_DRAWN)
    sure = drawn or "@" in sender or "subject" in kinds or lines[index].lstrip().startswith("*")
    return sure and len(kinds) >= (2 if drawn else 3)


def _is_quoted(line: str) -> bool:
    return line.lstrip(" \t").startswith(">")


def _without_quotations(lines: list[str], inline_quotes: bool) -> tuple[list[str], bool]:
    """Without quoted lines and their introductions; whether there were any."""
    kept: list[str] = []
    blocks: list[tuple[int, list[str]]] = []
    colons = [line.rstrip().endswith((*_COLONS, ">")) for line in lines]
    index, found, inside, gap = 0, False, False, False
    while index < len(lines):
        line = lines[index]
        if _is_quoted(line):
            if not inside:
                blocks.append((len(kept), []))
            blocks[-1][1].append(line)
            found = inside = gap = True
            index += 1
            continue
        before = _before_inner_introduction(lines, index) if colons[index] else None
        introduced = before is None and any(colons[index : index + MAX_INTRODUCTION])
        length = _introduction(lines, index) if introduced else 0
        if length == 0:
            inside = inside and not line.strip()
            found = found or before is not None
            # The blank lines on both sides of what is gone are one.
            if line.strip() or not gap or not kept or kept[-1].strip():
                kept.append(line if before is None else before)
            gap = gap and not line.strip()
            index += 1
            continue
        index += length
        found = gap = True
        while index < len(lines) and not lines[index].strip():
            index += 1
        if index < len(lines) and not _is_quoted(lines[index]):
            break
    return (_with_answered(kept, blocks) if inline_quotes else kept), found


def _with_answered(kept: list[str], blocks: list[tuple[int, list[str]]]) -> list[str]:
    """With the quotations that are answered, if there are several of them: then they are needed to understand."""
    if len(blocks) < 2:
        return kept
    edges = [*(position for position, _ in blocks[1:]), len(kept)]
    answered = [
        block for block, edge in zip(blocks, edges, strict=True) if any(line.strip() for line in kept[block[0] : edge])
    ]
    if len(answered) < 2:
        return kept
    out: list[str] = []
    before = 0
    for position, block in answered:
        out += kept[before:position] + block
        before = position
    return out + kept[before:]


def _introduction(lines: list[str], index: int) -> int:
    """How many lines from `index` on are the introduction of a quotation; 0 if they are none."""
    joined = ""
    for length in range(1, MAX_INTRODUCTION + 1):
        if index + length > len(lines):
            return 0
        line = lines[index + length - 1].strip()
        if _is_quoted(line) or len(joined) + len(line) > MAX_LINE:
            # "> wrote:" is how a client wraps "<address\n> wrote:".
            if not joined or not line.startswith(">") or not line.endswith(_COLONS) or len(line) > 40:
                return 0
        elif not line:
            # One blank line before the address is how another one wraps it.
            if (
                not joined
                or not lines[index + length : index + length + 1]
                or not lines[index + length].startswith("<")
            ):
                return 0
            continue
        joined = f"{joined} {line}".strip()
        if line.endswith((*_COLONS, ">")):
            if _opens_quotation(joined, lines, index + length) or (length == 1 and _names_first(joined)):
                return length
            if line.endswith(_COLONS):
                break
    end = index + length
    return length if _by_what_follows(lines, index, end) else 0


def _opens_quotation(joined: str, lines: list[str], after: int) -> bool:
    """Whether these words are an introduction as the known clients write them."""
    if not _OPENER.match(joined):
        return False
    if joined.endswith(_COLONS):
        dated = _DATE.search(joined) is not None
        addressed = _ADDRESS.search(joined) is not None
        if _VERB.search(joined):
            return dated or addressed or (_DIGIT.search(joined) is not None and _quotation_follows(lines, after))
        return dated and addressed
    return _DATED.match(joined) is not None and _quotation_follows(lines, after)


def _names_first(line: str) -> bool:
    """Whether a line says who wrote when, in this order: "Alice <address> schrieb am Fr., 21. Nov. 2025, 10:00:"."""
    if not line.endswith(_COLONS) or not _VERB.search(line):
        return False
    dates = sum(1 for _ in _DATE.finditer(line))
    return dates >= 2 or (dates == 1 and _ADDRESS.search(line) is not None)


def _by_what_follows(lines: list[str], start: int, end: int) -> bool:
    """Whether lines that no client is known to write are one, because a quotation follows."""
    if not lines[end - 1].rstrip().endswith(_COLONS) or not _quotation_follows(lines, end):
        return False
    if end - start == 1 and len(lines[start].split()) <= 5 and _VERB.search(lines[start]):
        return True  # "Alice Example wrote:"
    return end - start == _foreign_introduction(lines, end - 1)


def _foreign_introduction(lines: list[str], last: int) -> int:
    """How many lines up to `last`, which ends with a colon, are an introduction in an unknown language; 0 if none.

    It names an address, or a date and more than that. It begins in the middle of its paragraph if that is where a line
    has both.
    """
    joined = ""
    for length in range(1, MAX_INTRODUCTION + 1):
        if last - length + 1 < 0:
            return 0
        line = lines[last - length + 1].strip()
        if not line or _is_quoted(line) or len(joined) + len(line) > MAX_LINE:
            return 0
        joined = f"{line} {joined}".strip()
        if _VERB.search(joined) and (_ADDRESS.search(joined) or _DATE.search(joined)):
            wrapped = _NAMED.match(joined) and not _DATE.search(joined)
            return length + _wrapped_date(lines, last - length) if wrapped else length
        if _ADDRESS.search(joined) and _DATE.search(joined):
            return length
        if _NAMED.match(joined):
            return length + _wrapped_date(lines, last - length)
    return 0


def _wrapped_date(lines: list[str], index: int) -> int:
    """1 if the line at `index` is the first half of an introduction: a date in a line that opens as one does."""
    if index < 0 or not lines[index].strip() or len(lines[index]) > MAX_LINE or _is_quoted(lines[index]):
        return 0
    return 1 if _DATE.search(lines[index]) and _OPENER.match(lines[index].strip()) else 0


def _before_inner_introduction(lines: list[str], index: int) -> str | None:
    """What stands on a line before an introduction that begins in it, if a quotation follows; None otherwise."""
    line = lines[index].rstrip()
    if len(line) > MAX_LINE or not line.endswith(_COLONS) or not _quotation_follows(lines, index + 1):
        return None
    match = _INNER.search(line)
    if match is None or not _VERB.search(match.group()) or not _DIGIT.search(match.group()):
        return None
    return line[: match.start()].rstrip(" -")


def _quotation_follows(lines: list[str], index: int) -> bool:
    """Whether the next line that is not blank, one of four, is quoted."""
    following = [line for line in lines[index : index + 4] if line.strip()]
    return bool(following) and _is_quoted(following[0])


def _before_signature(lines: list[str], sender_name: str) -> list[str]:
    """Without the line of a telephone, and without what stands below two dashes (RFC 3676, section 4.3)."""
    kept: list[str] = []
    for index, line in enumerate(lines):
        bare = line.rstrip()
        if bare in ("--", "—", "––") and (line.startswith("-- ") or _is_loose(lines, index)):
            break
        if 6 < len(bare) <= 200 and _stands_alone(lines, index) and _SENT_FROM.match(_LINK.sub("", bare)):
            continue
        kept.append(line)
    return _without_name(kept, sender_name)


def _is_loose(lines: list[str], index: int) -> bool:
    """Whether so little stands below two dashes without the space that it is a signature, not a second part."""
    below = [line for line in lines[index + 1 : index + MAX_LOOSE_SIGNATURE + 9] if line.strip()]
    return len(lines) - index <= MAX_LOOSE_SIGNATURE + 8 and len(below) <= MAX_LOOSE_SIGNATURE


def _stands_alone(lines: list[str], index: int) -> bool:
    """Whether the line above is blank, drawn, or not there."""
    return index == 0 or not lines[index - 1].strip(_DRAWN)


def _without_name(lines: list[str], sender_name: str) -> list[str]:
    """Without a last line "- Alice", if that is how the sender is called."""
    end = len(lines)
    while end > 0 and not lines[end - 1].strip():
        end -= 1
    last = lines[end - 1].strip() if end else ""
    if not sender_name or len(last) > 80 or not last.startswith(("-", "–", "—", "~")):
        return lines
    words = last.strip("-–—~ .").lower().split()
    return lines[: end - 1] if words and set(words) <= set(sender_name.lower().split()) else lines
