"""HTML of a mail as plain text: what a person would read, in lines.

A scanner of its own, one pass and linear in the size of what strangers send. It is no sanitiser: its result is text and
must be escaped again before it is shown as HTML. Quotations (`blockquote`) get a `>` in front of each line, so that
they can be told from what was written.
"""

from __future__ import annotations

import html
import re

__all__ = ["html_to_text"]

#: Characters of HTML that are looked at; newsletters have some 100,000.
MAX_HTML = 1_000_000
#: Deepest quotation that is marked.
MAX_QUOTES = 20

_NAME = re.compile(r"/?([A-Za-z][A-Za-z0-9:\-]{0,40})")
_TAG_SIGN = re.compile(r"[\"'>]")
_SPACE = re.compile(r"[ \t\r\n\f\u00a0]+")
_BLANK_LINES = re.compile(r"\n{3,}")
# `html.unescape` turns a decimal reference into an int, and Python refuses to read one of more than 4300 digits.
_HUGE_REFERENCE = re.compile(r"&#[0-9]{10,}")

# Elements whose text is not for reading.
_SILENT = frozenset({"script", "style", "head", "title", "template", "noscript", "svg", "object", "select"})
_NEW_LINE = frozenset(
    {
        "address",
        "article",
        "aside",
        "body",
        "center",
        "dd",
        "dir",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hr",
        "html",
        "li",
        "main",
        "nav",
        "section",
        "tbody",
        "tfoot",
        "thead",
        "tr",
    }
)
_NEW_PARAGRAPH = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote", "pre"})


def html_to_text(markup: str) -> str:
    """The text of `markup`, of which the first MAX_HTML characters are looked at. Never raises."""
    return _Reader(markup[:MAX_HTML]).read()


class _Reader:
    """Walks over the markup once, from `<` to `<`."""

    __slots__ = ("lines", "markup", "pre", "quotes", "text")

    def __init__(self, markup: str) -> None:
        self.markup = markup
        self.lines: list[str] = []
        self.text: list[str] = []
        self.quotes = 0
        self.pre = 0

    def read(self) -> str:
        markup = self.markup
        position = 0
        while True:
            start = markup.find("<", position)
            if start < 0:
                self.add(markup[position:])
                break
            self.add(markup[position:start])
            position = self.markup_at(start)
        self.end_line()
        return _BLANK_LINES.sub("\n\n", "\n".join(self.lines)).strip("\n")

    def markup_at(self, start: int) -> int:
        """Deal with the tag, comment or lone sign at `start`; where the text goes on."""
        markup = self.markup
        if markup.startswith("<!--", start):
            return self.after("-->", start + 4)
        if markup.startswith(("<!", "<?"), start):
            return self.after(">", start + 2)
        name = _NAME.match(markup, start + 1)
        if name is None:
            self.add("<")
            return start + 1
        end = self.tag_end(name.end())
        tag = name.group(1).lower()
        if markup.startswith("/", start + 1):
            self.close(tag)
        elif tag in _SILENT:
            return self.skip(tag, end)
        else:
            self.open(tag)
        return end

    def after(self, sign: str, position: int) -> int:
        found = self.markup.find(sign, position)
        return len(self.markup) if found < 0 else found + len(sign)

    def tag_end(self, position: int) -> int:
        """The end of a tag whose name ends at `position`; a quote that is never closed is no quote."""
        while True:
            sign = _TAG_SIGN.search(self.markup, position)
            if sign is None:
                return len(self.markup)
            if sign.group() == ">":
                return sign.end()
            closing = self.markup.find(sign.group(), sign.end())
            position = sign.end() if closing < 0 else closing + 1

    def skip(self, tag: str, position: int) -> int:
        """Where a silent element ends. A head that is never closed ends where the body starts."""
        closing = re.compile(rf"</{tag}\b" + (r"|<body\b" if tag == "head" else ""), re.IGNORECASE)
        found = closing.search(self.markup, position)
        if found is None:
            return len(self.markup)
        return found.start() if found.group().lower() == "<body" else self.after(">", found.end())

    def add(self, text: str) -> None:
        if not text:
            return
        if "&" in text:
            text = html.unescape(_HUGE_REFERENCE.sub("\ufffd", text))
        if self.pre:
            first, *others = text.replace("\r\n", "\n").split("\n")
            self.text.append(first)
            for line in others:
                self.end_line()
                self.text.append(line)
        else:
            self.text.append(_SPACE.sub(" ", text))

    def open(self, tag: str) -> None:
        if tag == "br":
            self.end_line(even_if_empty=True)
        elif tag in _NEW_PARAGRAPH:
            self.paragraph()
            self.quotes += tag == "blockquote"
            self.pre += tag == "pre"
        elif tag in _NEW_LINE:
            self.end_line()
            if tag == "li":
                self.text.append("- ")
        elif tag in ("td", "th"):
            self.text.append(" ")

    def close(self, tag: str) -> None:
        if tag in _NEW_PARAGRAPH:
            self.end_line()
            if tag == "blockquote":
                self.quotes = max(0, self.quotes - 1)
            elif tag == "pre":
                self.pre = max(0, self.pre - 1)
            self.paragraph()
        elif tag in _NEW_LINE:
            self.end_line()

    def paragraph(self) -> None:
        """End the line and leave one blank line, marked as quoted if both sides of it are."""
        self.end_line()
        mark = ">" * min(self.quotes, MAX_QUOTES)
        if self.lines and self.lines[-1].strip("> "):
            self.lines.append(mark)
        elif self.lines:
            self.lines[-1] = min(mark, self.lines[-1], key=len)

    def end_line(self, even_if_empty: bool = False) -> None:
        text = "".join(self.text)
        self.text.clear()
        text = text.rstrip() if self.pre else _SPACE.sub(" ", text).strip()
        if text or even_if_empty:
            mark = ">" * min(self.quotes, MAX_QUOTES)
            self.lines.append(f"{mark} {text}".strip() if mark else text)
