"""Text whose sender left it to the reader where lines are broken (RFC 3676, format=flowed)."""

from __future__ import annotations

__all__ = ["unflow"]


def unflow(text: str, *, delsp: bool = False) -> str:
    """The text with its soft line breaks taken out, each paragraph on one line; what is quoted stays marked.

    `delsp` is the parameter DelSp=yes: the space before a soft break is no part of the text, as languages without
    spaces need it. Lines end with LF.
    """
    out: list[str] = []
    paragraph: list[str] = []
    depth = 0
    for line in text.split("\n"):
        bare = line.lstrip(">")
        level = len(line) - len(bare)
        # Section 4.4: a space was put before what begins with a space, "From " or ">".
        bare = bare.removeprefix(" ")
        signature = bare == "-- "
        if paragraph and (level != depth or signature):
            # Section 4.5: a paragraph that is cut off by another level of quotation ends there.
            out.append(_quoted(depth, paragraph))
            paragraph = []
        depth = level
        if bare.endswith(" ") and not signature:
            paragraph.append(bare[:-1] if delsp else bare)
        else:
            paragraph.append(bare)
            out.append(_quoted(depth, paragraph))
            paragraph = []
    if paragraph:
        out.append(_quoted(depth, paragraph))
    return "\n".join(out)


def _quoted(depth: int, pieces: list[str]) -> str:
    text = "".join(pieces)
    return f"{'>' * depth} {text}" if depth else text
