"""Examples of a page: each block of Python, and what it prints; run as they are there, in a process of their own."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["DOCS", "examples", "run_example"]

DOCS = Path(__file__).resolve().parents[3] / "docs"

#: A heading; or a block of code, and what it prints if that follows at once.
_HEADING = r"^#+ (?P<heading>[^\n]*)$"
_EXAMPLE = r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?"

PATIENCE = 60.0


def examples(text: str) -> Iterator[object]:
    """(code, output) of each example as a parameter of a test, named by its heading and line."""
    heading = ""
    for found in re.finditer(rf"{_HEADING}|{_EXAMPLE}", text, re.DOTALL | re.MULTILINE):
        if found["heading"]:
            heading = found["heading"].lower().replace(" ", "-")
        else:
            line = text.count("\n", 0, found.start()) + 1
            yield pytest.param(found["code"], found["output"], id=f"{heading}-line-{line}")


def run_example(code: str, output: str | None, directory: Path) -> None:
    """Run an example in an empty directory, and wait for all processes that it starts; it prints what the page says."""
    program = directory / "example.py"
    program.write_text(code, encoding="utf-8")
    ours, theirs = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", program.name],
            cwd=directory,
            env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            pass_fds=[theirs],
            check=False,
        )
        os.close(theirs)
        # A daemon or a successor goes on; when the last one has ended nobody has the other end of the pipe.
        assert select.select([ours], [], [], PATIENCE)[0], "a process of the example did not end"
    finally:
        os.close(ours)
    assert done.returncode == 0, done.stderr
    if output is not None:
        assert done.stdout == output, done.stderr
