"""What somebody wrote, without what they quoted and without their signature.

Works on lines of plain text. In order: the separator of a client ("-----Original Message-----", a block of From, Sent,
To, Subject) ends the text; an introduction ("On ... wrote:") goes with the quotation below it; lines with `>` go; a
signature ("-- ", "Sent from my ...") ends the text. Several languages are known; what is not recognised is kept,
because a handler can do more with too much than with too little.
"""

from __future__ import annotations

import re

__all__ = ["reply_text"]

#: Characters and lines that are looked at.
MAX_TEXT = 500_000
#: Longest line that is tried as an introduction, a separator or a header; longer ones are prose.
MAX_LINE = 500
#: Lines over which clients wrap an introduction.
MAX_INTRODUCTION = 4

_COLONS = (":", "：")
# First word and last words of an introduction, as clients write them; the date and the name stand between.
_INTRODUCTIONS = (
    (r"On", r"wrote|writes"),  # English
    (r"Am", r"schrieb.*|hat geschrieben"),  # German
    (r"Le", r"a [ée]crit"),  # French
    (r"El", r"escribi[óo]"),  # Spanish
    (r"Il|Da", r"ha scritto"),  # Italian
    (r"Em|No dia|Na", r"escreveu"),  # Portuguese
    (r"Op", r"schreef.*|het volgende geschreven"),  # Dutch
    (r"Den|På", r"skrev.*"),  # Swedish, Danish, Norwegian
    (r"W dniu|Dnia|\w{2,4}\.,", r"napisał(?:\(a\)|a)?|pisze"),  # Polish
    (r"Dne|D[ňn]a", r"nap[sí]+al(?:\(a\)|a)?"),  # Czech, Slovak
    (r"\d{1,4}|\w{2}, \d{1,2}", r"пишет|написал\(?а?\)?|пише|kirjoitti|yazdı|írta|ezt írta.*|wrote|a scris"),
    (r"在|于|於", r"写道|寫道"),  # Chinese
    (r"\d{4}", r"のメール|さんは書きました|님이 작성"),  # Japanese, Korean
)
_INTRODUCTION = re.compile(
    r"\s*(?:"
    + "|".join(rf"(?:{first})(?:\b|(?=\d)).{{0,400}}?(?:{last})" for first, last in _INTRODUCTIONS)
    + r")\s*[:：]\s*\Z",
    re.IGNORECASE,
)
# There is a date or an address in it: "On the other hand, as he wrote:" is prose.
_DATE_OR_ADDRESS = re.compile(r"[0-9@]")
# "Alice <alice@example.com> wrote:" begins with no word that is known, but has an address; a quotation must follow.
_NAMED = re.compile(r".{0,200}<[^<>@\s]{1,64}@[^<>@\s]{1,255}>.{0,40}[:：]\s*\Z")

_SEPARATORS = (
    "original message",
    "original appointment",
    "forwarded message",
    "reply message",
    "ursprüngliche nachricht",
    "urspruengliche nachricht",
    "weitergeleitete nachricht",
    "message d'origine",
    "message original",
    "message transféré",
    "mensaje original",
    "mensaje reenviado",
    "mensagem original",
    "messaggio originale",
    "messaggio inoltrato",
    "oorspronkelijk bericht",
    "origineel bericht",
    "ursprungligt meddelande",
    "original meddelelse",
    "opprinnelig melding",
    "alkuperäinen viesti",
    "wiadomość oryginalna",
    "původní zpráva",
    "исходное сообщение",
    "пересылаемое сообщение",
    "原始邮件",
    "原始郵件",
    "転送メッセージ",
    "원본 메시지",
)
_SEPARATOR = re.compile(rf"\s*[-_*=]{{2,}}\s*(?:{'|'.join(_SEPARATORS)})\s*[-_*=]{{2,}}\s*\Z", re.IGNORECASE)

# The header that Outlook puts above a quotation: a From line, and at least two others within the next five lines.
_FROM_NAMES = (
    "From",
    "Von",
    "De",
    "Da",
    "Van",
    "Från",
    "Fra",
    "Lähettäjä",
    "Od",
    "От",
    "发件人",
    "寄件者",
    "差出人",
    "보낸 사람",
)
_OTHER_NAMES = (
    "Sent",
    "Date",
    "To",
    "Cc",
    "Subject",
    "Gesendet",
    "Datum",
    "An",
    "Betreff",
    "Envoyé",
    "À",
    "A",
    "Objet",
    "Enviado",
    "Enviada",
    "Data",
    "Fecha",
    "Para",
    "Asunto",
    "Assunto",
    "Inviato",
    "Oggetto",
    "Verzonden",
    "Aan",
    "Onderwerp",
    "Skickat",
    "Till",
    "Ämne",
    "Sendt",
    "Til",
    "Emne",
    "Lähetetty",
    "Vastaanottaja",
    "Aihe",
    "Wysłano",
    "Do",
    "Temat",
    "Odesláno",
    "Komu",
    "Předmět",
    "Дата",
    "Отправлено",
    "Кому",
    "Тема",
    "发送时间",
    "收件人",
    "主题",
    "日期",
    "主旨",
    "送信日時",
    "宛先",
    "件名",
    "제목",
    "Enviado el",
    "Enviada em",
    "보낸 날짜",
    "받는 사람",
)
_FROM = re.compile(rf"[*\s]*(?:{'|'.join(_FROM_NAMES)})\s?[*]?\s?[:：]", re.IGNORECASE)
_OTHERS = re.compile(rf"[*\s]*(?:{'|'.join(_OTHER_NAMES)})\s?[*]?\s?[:：]", re.IGNORECASE)

_SENT_FROM_LINES = (
    "Sent from (?:my|Mail for|Outlook|Yahoo)",
    "Get Outlook for",
    "Von meinem .{1,40} gesendet",
    "Gesendet von (?:meinem|Mail)",
    "Envoyé de(?:puis)? mon",
    "Enviado (?:desde|do) m[ei]",
    "Inviato da(?:l mio)? ",
    "Verzonden vanaf mijn",
    "Skickat från min",
    "Sendt fra min",
    "Lähetetty ",
    "Отправлено с ",
    "Wysłano z ",
)
_SENT_FROM = re.compile(rf"\s*(?:{'|'.join(_SENT_FROM_LINES)}).{{0,60}}\Z", re.IGNORECASE)


def reply_text(text: str) -> str:
    """The lines of `text` that its sender wrote anew. Never raises; empty if nothing but a quotation is there."""
    lines = text[:MAX_TEXT].split("\n")
    lines = _before_separator(lines)
    kept = _without_quotations(lines)
    kept = _before_signature(kept)
    start, end = 0, len(kept)
    while end > start and not kept[end - 1].strip():
        end -= 1
    while start < end and not kept[start].strip():
        start += 1
    return "\n".join(line.rstrip() for line in kept[start:end])


def _before_separator(lines: list[str]) -> list[str]:
    for index, line in enumerate(lines):
        if len(line) > MAX_LINE or not line:
            continue
        if _SEPARATOR.match(line) or (_FROM.match(line) and _is_header_block(lines, index)):
            end = index
            # Outlook draws a line above its header.
            while end > 0 and not lines[end - 1].strip(" _-\r\t"):
                end -= 1
            return lines[:end]
    return lines


def _is_header_block(lines: list[str], index: int) -> bool:
    following = [line for line in lines[index + 1 : index + 8] if line.strip()][:5]
    return sum(1 for line in following if len(line) <= MAX_LINE and _OTHERS.match(line)) >= 2


def _is_quoted(line: str) -> bool:
    return line.lstrip(" \t").startswith(">")


def _without_quotations(lines: list[str]) -> list[str]:
    """Without quoted lines and their introductions; an introduction with an unmarked quotation ends the text."""
    kept: list[str] = []
    colons = [line.rstrip().endswith(_COLONS) for line in lines]
    index = 0
    while index < len(lines):
        line = lines[index]
        if _is_quoted(line):
            index += 1
            continue
        length = _introduction(lines, index) if any(colons[index : index + MAX_INTRODUCTION]) else 0
        if length == 0:
            kept.append(line)
            index += 1
            continue
        index += length
        while index < len(lines) and not lines[index].strip():
            index += 1
        if index < len(lines) and not _is_quoted(lines[index]):
            break
    return kept


def _introduction(lines: list[str], index: int) -> int:
    """How many lines from `index` on are the introduction of a quotation; 0 if it is none."""
    joined = ""
    for length in range(1, MAX_INTRODUCTION + 1):
        if index + length > len(lines):
            return 0
        line = lines[index + length - 1].strip()
        if not line or _is_quoted(line) or len(joined) + len(line) > MAX_LINE:
            return 0
        joined = f"{joined} {line}".strip()
        if line.endswith(_COLONS):
            if _INTRODUCTION.match(joined) and _DATE_OR_ADDRESS.search(joined):
                return length
            return 1 if length == 1 and _NAMED.match(joined) and _quotation_follows(lines, index + 1) else 0
    return 0


def _quotation_follows(lines: list[str], index: int) -> bool:
    """Whether the next line that is not blank, one of three, is quoted."""
    following = [line for line in lines[index : index + 3] if line.strip()]
    return bool(following) and _is_quoted(following[0])


def _before_signature(lines: list[str]) -> list[str]:
    for index, line in enumerate(lines):
        # RFC 3676 section 4.3: two hyphens and a space; the space is lost on many ways.
        if line.rstrip() == "--" or (len(line) <= MAX_LINE and _SENT_FROM.match(line)):
            return lines[:index]
    return lines
