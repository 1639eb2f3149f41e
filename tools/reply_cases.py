"""Runs the tests of foreign libraries that cut replies out of mail, and writes down what they would compare.

Run by the interpreter of `requirements/peers/replies.txt`, which has neither monsal nor the libraries' own test tools:
what the tests import is made up here, and the functions that they test give a token back, by which the comparison
tells which input it is about. So a case is what the authors of a test wrote, whatever their library makes of it.

    python reply_cases.py PLACE > cases.json        PLACE has the unpacked source distributions
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

__all__ = ["main"]

_TOKEN = re.compile(r"CASE(\d+)CASE")


class Token(str):
    """Stands for what a function under test would have given."""

    __slots__ = ()

    def decode(self, *_: str) -> str:
        return self


class Recorder:
    """Collects inputs, and the expectations that are compared with their tokens."""

    def __init__(self) -> None:
        self.inputs: list[tuple[str, str]] = []
        self.cases: list[dict[str, str]] = []
        self.origin = ""

    def function(self, kind: str) -> Any:
        def under_test(text: Any, *_: object) -> Token:
            self.inputs.append((kind, text.decode("utf-8") if isinstance(text, bytes) else text))
            return Token(f"CASE{len(self.inputs) - 1}CASE")

        return under_test

    def equal(self, one: object, other: object, *_: object) -> None:
        for found, expected in ((other, one), (one, other)):
            match = _TOKEN.fullmatch(found) if isinstance(found, str) else None
            if match is not None and isinstance(expected, str):
                kind, text = self.inputs[int(match.group(1))]
                self.cases.append({"origin": self.origin, "kind": kind, "input": text, "expected": expected})
                return


def _nothing(*_: object) -> None:
    """Stands for what is of no interest here."""


def _module(name: str, **names: object) -> types.ModuleType:
    """A module of that name with these names in it."""
    module = types.ModuleType(name)
    vars(module).update(names)
    return module


def _talon(recorder: Recorder, place: Path) -> None:
    """talon's tests of quotations, in plain text and HTML."""
    quotations = _module(
        "talon.quotations",
        extract_from_plain=recorder.function("plain"),
        extract_from_html=recorder.function("html"),
    )
    utils = _module("talon.utils", html_to_text=Token)
    deaf = dict.fromkeys(("ok_", "assert_false", "assert_true", "assert_raises"), _nothing)
    sys.modules |= {
        "talon": _module("talon", init=_nothing, quotations=quotations, utils=utils),
        "talon.quotations": quotations,
        "talon.utils": utils,
        "nose": _module("nose"),
        "nose.tools": _module("nose.tools", eq_=recorder.equal, **deaf),
        "mock": mock,
    }
    os.chdir(place)
    sys.path.insert(0, str(place))
    for name in ("text_quotations_test", "html_quotations_test", "quotations_test"):
        recorder.origin = f"talon {name.partition('_')[0]}"
        _run(importlib.import_module(f"tests.{name}"), recorder)


def _run(module: types.ModuleType, recorder: Recorder) -> None:
    for name, test in inspect.getmembers(module, inspect.isfunction):
        if not name.startswith("test"):
            continue
        try:
            outcome = test()
            if inspect.isgenerator(outcome):
                for function, *arguments in list[Any](outcome):
                    function(*arguments)
        except Exception as error:  # noqa: BLE001 - foreign tests of what is not there: limits inside of the library
            print(f"not taken: {recorder.origin} {name}: {error!r:.80}", file=sys.stderr)


def _quotequail(recorder: Recorder, place: Path) -> None:
    """quotequail's parametrised tests: the parts that it would show, with the introduction counted as quoted."""
    sys.path.insert(0, str(place / "tests"))
    for name, kind in (("test_quote", "plain"), ("test_quote_html", "html")):
        module = importlib.import_module(name)
        for _, test in inspect.getmembers(module, inspect.isfunction):
            for given in getattr(test, "pytestmark", ()):
                if "expected_quote_intro_line" not in str(given.args[0]):
                    continue
                for text, _expected, parts in given.args[1]:
                    shown = "\n".join(part for is_shown, part in parts if is_shown)
                    recorder.cases.append(
                        {"origin": f"quotequail {kind}", "kind": kind, "input": text, "expected": shown}
                    )


def main(place: str) -> None:
    """Write the cases as JSON."""
    recorder = Recorder()
    for source in sorted(Path(place).resolve().iterdir()):
        if source.name.startswith("talon-") and source.is_dir():
            _talon(recorder, source)
        elif source.name.startswith("quotequail-") and source.is_dir():
            _quotequail(recorder, source)
    json.dump(recorder.cases, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
