"""What is printed for people cannot steer their terminal, and is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.cli.output import clean, print_json, print_rows


@settings(deadline=None, max_examples=150)
@given(st.text())
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    assert clean(text).isprintable()


def test_values_in_words() -> None:
    assert clean(None) == ""
    assert (clean(True), clean(False), clean((True, 1))) == ("true", "false", "true, 1")
    assert clean(("a", 1)) == "a, 1"
    assert clean("a\nb\x1b") == r"a\nb\x1b"
    assert clean("für Ann") == "für Ann"


def test_json_takes_what_rows_may_hold(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"path": Path("/x"), "text": "a\nb"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"path": "/x", "text": "a\nb"}


def test_nothing_is_said_in_words_but_not_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], ("a",), as_json=False, empty="there is none")
    print_rows([], ("a",), as_json=True, empty="there is none")
    assert capsys.readouterr().out == "there is none\n"


def test_on_a_terminal_markup_and_escapes_of_strangers_are_text() -> None:
    program = (
        "from monsal.cli.output import print_rows\n"
        "print_rows([{'sender': '[bold]x[/bold] \\x1b]0;owned\\x07'}], ('sender',), as_json=False)\n"
    )
    terminal, other = os.openpty()
    try:
        subprocess.run([sys.executable, "-c", program], stdout=other, check=True, timeout=60)
        shown = os.read(terminal, 65536).decode()
    finally:
        os.close(terminal)
        os.close(other)
    assert r"[bold]x[/bold] \x1b]0;owned\x07" in shown
    assert "\x07" not in shown
    assert "\x1b]" not in shown
