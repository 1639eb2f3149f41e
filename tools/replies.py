"""How often the reply text is what others expect, beside the libraries that do the same: docs/content.md says how.

    python -m tools.replies            a table
    python -m tools.replies --failed   and each case that we answer otherwise

The cases are those of the tests in the source distributions of talon and quotequail, fetched into `.peers/` and never
copied into the project, and those of our own tests.
"""

from __future__ import annotations

import html
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from monsal.mail import reply_from_html, reply_text
from tools.peers import PLACE, ROOT, environment

__all__ = ["main"]

#: Source distributions whose tests hold cases.
SOURCES = ("talon==1.4.4", "quotequail==0.5.4")

_UNREAD = re.compile(r"<(style|head|title|script)\b.*?</\1>", re.IGNORECASE | re.DOTALL)
_SPACE = re.compile(r"[\s\xa0]+")

Case = dict[str, str]


def main(arguments: list[str]) -> None:
    """Fetch, ask everybody, and print the table."""
    python = environment("replies")
    cases = _foreign_cases(python) + _own_cases()
    answers = {
        "monsal": [_ours(case, inline_quotes=False) for case in cases],
        "monsal, inline_quotes": [_ours(case, inline_quotes=True) for case in cases],
        **json.loads(_run([str(python), str(ROOT / "tools" / "reply_peers.py")], json.dumps(cases))),
    }
    origins = list(dict.fromkeys(case["origin"] for case in cases))
    print(f"{'as expected of':24}", *(f"{origin} ({_count(cases, origin)})" for origin in origins), sep=" | ")
    for name, given in answers.items():
        print(f"{name:24}", *(_score(cases, given, origin) for origin in origins), sep=" | ")
    if "--failed" in arguments:
        for case, answer in zip(cases, answers["monsal"], strict=True):
            if not _same(case, answer):
                print(f"\n=== {case['origin']}\n{case['input']}\n--- expected\n{case['expected']}\n--- given\n{answer}")


def _run(command: list[str], given: str = "") -> str:
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=True).stdout


def _foreign_cases(python: Path) -> list[Case]:
    place = PLACE / "reply-cases"
    pip = [str(python), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if not place.exists():
        _run([*pip, "--no-binary", ":all:", "--no-build-isolation", "--dest", str(place), *SOURCES])
        for archive in place.glob("*.tar.gz"):
            _run(["tar", "-xzf", str(archive), "-C", str(place)])
    found: list[Case] = json.loads(_run([str(python), str(ROOT / "tools" / "reply_cases.py"), str(place)]))
    return found


def _own_cases() -> list[Case]:
    """Those of tests/property/reply_samples.py: ours, so the others' figures on them say less."""
    sys.path.insert(0, str(ROOT / "tests" / "property"))
    samples: Any = importlib.import_module("reply_samples")
    new = "My answer.\n\nSecond line."
    plain = [f"{new}\n\n{text.partition(' ')[2]}\n\n> old\n> text\n" for text in samples.INTRODUCTIONS]
    plain += [f"{new}\n\n{text.partition(' ')[2]}\n\nold text\n" for text in samples.SEPARATORS]
    plain += [f"{new}\n\n{text}\n" for text in samples.PHONES]
    cases = [_case("own plain", "plain", text, new) for text in plain]
    cases += [_case("own plain", "plain", text, text) for text in samples.PROSE]
    return cases + [_case("own html", "html", markup, "Two pears") for _, markup in samples.MARKUP]


def _case(origin: str, kind: str, text: str, expected: str) -> Case:
    return {"origin": origin, "kind": kind, "input": text, "expected": expected}


def _ours(case: Case, *, inline_quotes: bool) -> str:
    read = reply_text if case["kind"] == "plain" else reply_from_html
    return read(case["input"], inline_quotes=inline_quotes)


def _words(case: Case, text: str) -> str:
    """What is compared: no white space, and of HTML no tags, because each library wraps and indents as it likes."""
    if case["kind"] == "html" and "<" in text:
        text = html.unescape(re.sub(r"<[^>]*>", "", _UNREAD.sub("", text)))
    return _SPACE.sub("", text)


def _same(case: Case, answer: str | None) -> bool:
    return answer is not None and _words(case, answer) == _words(case, case["expected"])


def _count(cases: list[Case], origin: str) -> int:
    return sum(case["origin"] == origin for case in cases)


def _score(cases: list[Case], given: list[str | None], origin: str) -> str:
    pairs = [(case, answer) for case, answer in zip(cases, given, strict=True) if case["origin"] == origin]
    if all(answer is None for _, answer in pairs):
        return "-"
    return str(sum(_same(case, answer) for case, answer in pairs))


if __name__ == "__main__":
    main(sys.argv[1:])
