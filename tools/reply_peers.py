"""Asks the libraries of `requirements/peers/replies.txt` what is new in each case; run by that interpreter.

python reply_peers.py < cases.json > answers.json       null where a library does not read such a text
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["main"]


def _peers() -> dict[str, Callable[[str, str], str | None]]:
    """By name, what takes the kind of a text (plain, html) and the text."""
    extractor: Any = importlib.import_module("email_reply_extractor")
    parser: Any = importlib.import_module("email_reply_parser")
    mailparser: Any = importlib.import_module("mailparser_reply")
    quotequail: Any = importlib.import_module("quotequail")
    languages = ["en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "pl", "cs", "ja", "ko", "zh"]

    def reply_extractor(kind: str, text: str) -> str | None:
        return str(extractor.extract_new_text(*((text,) if kind == "plain" else (None, None, text))).text)

    def reply_parser(kind: str, text: str) -> str | None:
        return str(parser.EmailReplyParser.parse_reply(text)) if kind == "plain" else None

    def parser_reply(kind: str, text: str) -> str | None:
        if kind != "plain":
            return None
        return str(mailparser.EmailReplyParser(languages=languages).parse_reply(text=text) or "")

    def quail(kind: str, text: str) -> str | None:
        quote = quotequail.quote if kind == "plain" else quotequail.quote_html
        return "\n".join(part for shown, part in quote(text, quote_intro_line=True) if shown)

    return {
        "quotequail": quail,
        "email-reply-extractor": reply_extractor,
        "email-reply-parser": reply_parser,
        "mail-parser-reply": parser_reply,
    }


def main() -> None:
    """Write the answers as JSON: by library one for each case; an error is the answer of its name."""
    cases = json.load(sys.stdin)
    answers: dict[str, list[str | None]] = {}
    for name, ask in _peers().items():
        answers[name] = []
        for case in cases:
            try:
                answers[name].append(ask(case["kind"], case["input"]))
            except Exception as error:  # noqa: BLE001 - a foreign library on text that it may not expect
                answers[name].append(f"\0{type(error).__name__}")
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
