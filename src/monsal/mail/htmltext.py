"""HTML of a mail as plain text: what a person would read, in lines.

A scanner of its own, one pass and linear in the size of what strangers send; parsers that build a tree give nothing for
10,000 nested elements, or recurse. It is no sanitiser: its result is text and must be escaped again before it is shown
as HTML. Quotations (`blockquote`) get a `>` in front of each line, so that they can be told from what was written;
hidden elements are left out; the target of a link stands behind its words if they do not say it; the cells of a row are
separated by a tab.
"""

from __future__ import annotations

import re

from monsal.mail.htmlmarks import Mark, attributes, is_hidden, mark, unescaped

__all__ = ["html_to_text", "marked_text"]

#: Characters of HTML that are looked at; newsletters have some 100,000.
MAX_HTML = 1_000_000
#: Deepest quotation that is marked.
MAX_QUOTES = 20
#: Longest target of a link that is shown.
MAX_LINK = 2000
#: Deepest list that is set in.
MAX_LISTS = 10

_NAME = re.compile(r"/?([A-Za-z][A-Za-z0-9:\-]{0,40})")
_TAG_SIGN = re.compile(r"[\"'>]")
_SPACE = re.compile(r"[ \t\r\n\f\u00a0]+")
_BLANK_LINES = re.compile(r"\n{3,}")
# `html.unescape` turns a decimal reference into an int, and Python refuses to read one of more than 4300 digits.
_HUGE_REFERENCE = re.compile(r"&#[0-9]{10,}")
_INVISIBLE = re.compile("[\u00ad\u034f\u200b-\u200f\u2060\ufeff]")
#: Stands for the edge of a cell until the line ends; mail cannot hold it, `add` takes it away.
_CELL = "\x1f"

# Elements whose text is not for reading.
_SILENT = frozenset({"script", "style", "head", "title", "template", "noscript", "svg", "object", "select", "textarea"})
_NEW_LINE = frozenset(
    {
        "address", "article", "aside", "body", "center", "dd", "details", "dir", "div", "dl", "dt", "fieldset",
        "figcaption", "figure", "footer", "form", "header", "hr", "html", "li", "main", "nav", "section", "summary",
        "tbody", "tfoot", "thead", "tr",
    }
)  # fmt: skip
_NEW_PARAGRAPH = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote", "pre"})
_BLOCKS = _NEW_LINE | _NEW_PARAGRAPH | {"td", "th"}
_VOID = frozenset({"hr", "br", "img", "input", "meta", "link", "col", "area", "base", "wbr"})


def html_to_text(markup: str) -> str:
    """The text of `markup`, of which the first MAX_HTML characters are looked at. Never raises."""
    return _Reader(markup[:MAX_HTML], marked=False).read()


def marked_text(markup: str) -> tuple[str, bool]:
    """The text with a `>` before all that a client's markup says is quoted, and whether it says so anywhere.

    What a client marks as a signature is left out. For `replytext.py`.
    """
    reader = _Reader(markup[:MAX_HTML], marked=True)
    return reader.read(), reader.found


class _Open:
    """An element that is not closed yet, and what ends with it."""

    __slots__ = ("hidden", "inlines", "kind", "quoted", "tag")

    def __init__(self, tag: str, *, hidden: bool, quoted: bool, kind: str, inlines: int) -> None:
        self.tag = tag
        self.hidden = hidden
        self.quoted = quoted
        self.kind = kind
        self.inlines = inlines


class _Reader:
    """Walks over the markup once, from `<` to `<`."""

    __slots__ = (
        "blocks", "counts", "found", "hidden", "inlines", "item", "lines", "lists", "marked", "markup", "pre", "quotes",
        "rest", "target", "text", "words",
    )  # fmt: skip

    def __init__(self, markup: str, *, marked: bool) -> None:
        self.markup = markup
        self.marked = marked
        self.found = False
        self.lines: list[str] = []
        self.text: list[str] = []
        self.blocks: list[_Open] = []
        self.inlines: list[_Open] = []
        self.counts: dict[str, int] = {}
        self.lists: list[int | None] = []
        self.item = ""
        self.target = ""
        self.words = 0
        self.quotes = 0
        self.hidden = 0
        self.pre = 0
        self.rest = False

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
            self.open(tag, attributes(markup, name.end(), end - 1))
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
        if not text or self.hidden:
            return
        if "&" in text:
            text = unescaped(_HUGE_REFERENCE.sub("\ufffd", text))
        if not text.isascii():
            text = _INVISIBLE.sub("", text)
        text = text.replace(_CELL, " ")
        if self.pre:
            first, *others = text.replace("\r\n", "\n").split("\n")
            self.text.append(first)
            for line in others:
                self.end_line(even_if_empty=True)
                self.text.append(line)
        else:
            self.text.append(_SPACE.sub(" ", text))

    def open(self, tag: str, given: dict[str, str]) -> None:
        if tag == "br":
            if not self.hidden:
                self.end_line(even_if_empty=True)
        elif tag == "img":
            self.picture(given)
        elif tag in _BLOCKS:
            self.open_block(tag, given)
        elif tag not in _VOID and (given or self.counts.get(tag)):
            self.enter(self.inlines, tag, given)
            if tag == "a" and not self.hidden:
                # Another link ends the one that was not closed.
                self.target = unescaped(given.get("href", "")[: MAX_LINK + 1]).strip()
                self.words = len(self.text)

    def picture(self, given: dict[str, str]) -> None:
        """What stands for a picture; clients write small ones for emoji, whose text is one."""
        text = _SPACE.sub(" ", unescaped(given.get("alt", "")[:200])).strip()
        if text and not is_hidden(given) and given.get("width") not in ("0", "1"):
            shown = text if len(text) <= 8 and not text.isascii() else f"[{text}]"
            # `add` reads references once more.
            self.add(shown.replace("&", "&amp;"))

    def open_block(self, tag: str, given: dict[str, str]) -> None:
        if tag in _NEW_PARAGRAPH and not (tag in ("ul", "ol") and self.lists):
            self.paragraph()
        elif tag in ("td", "th"):
            self.text.append(_CELL)
        else:
            self.end_line()
        if tag in _VOID:
            if self.marked and mark(tag, given) == Mark.REST:
                self.rest = self.found = True
            return
        if tag == "blockquote" and self.marked:
            self.found = True
            self.answer_between()
        self.enter(self.blocks, tag, given)
        self.pre += tag == "pre"
        if tag in ("ul", "ol"):
            self.lists.append(None if tag == "ul" else 0)
        elif tag == "li":
            self.item = self.bullet()

    def bullet(self) -> str:
        """The sign before an item: its number in a list that counts."""
        indent = "  " * min(len(self.lists) - 1, MAX_LISTS)
        if not self.lists or self.lists[-1] is None:
            return f"{indent}- "
        self.lists[-1] += 1
        return f"{indent}{self.lists[-1]}. "

    def answer_between(self) -> None:
        """A quotation opens: what comes after it, in an element that introduced it, may be an answer."""
        if self.blocks and self.blocks[-1].kind == Mark.INTRODUCTION and self.blocks[-1].quoted:
            self.blocks[-1].quoted = False
            self.quotes -= 1

    def enter(self, stack: list[_Open], tag: str, given: dict[str, str]) -> None:
        kind = mark(tag, given) if self.marked and given else Mark.NONE
        hidden = kind == Mark.SIGNATURE or (bool(given) and is_hidden(given))
        if kind == Mark.REST:
            self.end_line()
            self.rest = True
        quoted = tag == "blockquote" or kind in (Mark.QUOTED, Mark.INTRODUCTION)
        if quoted and kind:
            self.end_line()
        self.found = self.found or (self.marked and (quoted or self.rest))
        element = _Open(tag, hidden=hidden, quoted=quoted, kind=kind, inlines=len(self.inlines))
        stack.append(element)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.hidden += hidden
        self.quotes += quoted

    def leave(self, stack: list[_Open]) -> _Open:
        element = stack.pop()
        self.counts[element.tag] -= 1
        self.hidden -= element.hidden
        self.quotes -= element.quoted
        if element.tag == "pre":
            self.pre -= 1
        elif element.tag in ("ul", "ol"):
            self.lists.pop()
        return element

    def close(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.close_block(tag)
        elif self.counts.get(tag):
            self.close_inline(tag)

    def close_inline(self, tag: str) -> None:
        """End an inline element, not beyond the block that it is in."""
        if tag == "a" and self.target:
            self.link()
        floor = self.blocks[-1].inlines if self.blocks else 0
        for position in range(len(self.inlines) - 1, max(floor, len(self.inlines) - 20) - 1, -1):
            if self.inlines[position].tag == tag:
                while len(self.inlines) > position:
                    element = self.leave(self.inlines)
                if element.quoted:
                    self.end_line()
                return

    def link(self) -> None:
        """The target of a link behind its words, unless they are the same or it leads nowhere."""
        target, self.target = self.target, ""
        shown = target.partition(":")[2].partition("?")[0] if target.lower().startswith("mailto:") else target
        words = "".join(self.text[self.words :]).strip()
        if self.hidden or not words or not shown or " " in shown or len(target) > MAX_LINK:
            return
        if target.lower().startswith(("http://", "https://", "mailto:")) and _bare(shown) not in _bare(words):
            self.text.append(f" <{shown}>")

    def close_block(self, tag: str) -> None:
        if self.counts.get(tag):
            quotes = self.quotes
            while True:
                # What is inside and was not closed ends with it. The line belongs to the element it stands in.
                if self.blocks[-1].quoted or self.blocks[-1].hidden or tag not in ("td", "th"):
                    self.end_line()
                inlines = self.blocks[-1].inlines
                while len(self.inlines) > inlines:
                    self.leave(self.inlines)
                if self.leave(self.blocks).tag == tag:
                    break
            if self.quotes < quotes or tag in _NEW_PARAGRAPH:
                self.paragraph() if not (tag in ("ul", "ol") and self.lists) else self.end_line()
        elif tag in _NEW_PARAGRAPH:
            self.paragraph()
        elif tag not in ("td", "th"):
            self.end_line()

    def mark(self) -> str:
        return ">" * min(self.quotes or self.rest, MAX_QUOTES)

    def paragraph(self) -> None:
        """End the line and leave one blank line, marked as quoted if both sides of it are."""
        self.end_line()
        mark = self.mark()
        if self.lines and self.lines[-1].strip("> "):
            self.lines.append(mark)
        elif self.lines:
            self.lines[-1] = min(mark, self.lines[-1], key=len)

    def end_line(self, even_if_empty: bool = False) -> None:
        text = "".join(self.text)
        self.text.clear()
        self.words = 0
        if self.pre:
            text = text.replace(_CELL, "").rstrip()
        elif _CELL in text:
            text = "\t".join(cell for cell in (_SPACE.sub(" ", cell).strip() for cell in text.split(_CELL)) if cell)
        else:
            text = _SPACE.sub(" ", text).strip()
        if text and self.item:
            text, self.item = f"{self.item}{text}", ""
        if text or even_if_empty:
            mark = self.mark()
            self.lines.append(f"{mark} {text}".rstrip() if mark else text)


def _bare(text: str) -> str:
    """An address of the web as people write it."""
    return text.lower().removeprefix("https://").removeprefix("http://").removeprefix("www.").rstrip("/")
