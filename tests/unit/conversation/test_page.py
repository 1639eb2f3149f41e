"""The page of running turns survives what kills the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monsal.conversation.page import TurnPage


def test_what_was_left_is_found_once(tmp_path: Path) -> None:
    page = TurnPage(tmp_path / "run" / "page")
    first, second = page.enter(7), page.enter(8)
    page.leave(first)
    assert second != first
    again = TurnPage(tmp_path / "run" / "page")
    assert again.left_behind() == [8]
    assert again.left_behind() == []


def test_what_is_in_it_at_the_end_is_accused(tmp_path: Path) -> None:
    page = TurnPage(tmp_path / "page")
    page.leave(page.enter(7))
    page.enter(8)
    page.close()
    assert TurnPage(tmp_path / "page").left_behind() == [8]


def test_more_turns_than_slots_are_not_noted_but_run(tmp_path: Path) -> None:
    page = TurnPage(tmp_path / "page", slots=2)
    slots = [page.enter(row) for row in (1, 2, 3)]
    assert slots[2] == -1
    for slot in slots:
        page.leave(slot)
    assert page.enter(4) >= 0


def test_a_page_of_another_size_is_read_whole(tmp_path: Path) -> None:
    page = TurnPage(tmp_path / "page", slots=64)
    for row in range(1, 65):
        page.enter(row)
    assert sorted(TurnPage(tmp_path / "page", slots=8).left_behind()) == list(range(1, 65))


def test_kill_9_leaves_the_note(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, os, signal\n"
        "from monsal.conversation.page import TurnPage\n"
        "page = TurnPage(pathlib.Path(sys.argv[1]))\n"
        "page.enter(41); page.enter(42)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path / "page")], env=os.environ, check=False)
    assert process.returncode == -signal.SIGKILL
    assert sorted(TurnPage(tmp_path / "page").left_behind()) == [41, 42]


@pytest.mark.parametrize("path", [None])
def test_without_a_file_it_keeps_nothing(path: None) -> None:
    page = TurnPage(path)
    page.leave(page.enter(3))
    page.close()
