"""What a server says of itself: when its process began, as far as anybody tells."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monsal.account import process_began


def test_a_process_knows_when_it_began() -> None:
    program = "from monsal.account import process_began; print(process_began())"
    before = time.time()
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    # The system counts in hundredths of a second.
    assert before - 0.02 <= float(told.stdout) <= time.time()


def test_an_image_of_the_program_began_when_the_one_before_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    # One of a version that says nothing, or a server that one of its handlers started.
    assert process_began(2) is None
    monkeypatch.setenv("MONSAL_BEGAN", f"{os.getppid()} 1234.5")
    assert process_began(2) is None
    monkeypatch.setenv("MONSAL_BEGAN", f"{os.getpid()} 1234.5")
    assert process_began(2) == 1234.5


@pytest.mark.parametrize(
    "text", [None, "", "1 (python) S", f"1 (a) b) {'0 ' * 50}", f"1 (python) S {'x ' * 50}"], ids=str
)
def test_where_nobody_tells_it_is_not_known(tmp_path: Path, text: str | None) -> None:
    stat = tmp_path / "stat"
    if text is not None:
        stat.write_text(text)
    assert process_began(stat=stat) is None
