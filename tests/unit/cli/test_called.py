"""What is printed to be typed can be typed: the program by the name it was called by, paths quoted."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import Invoke

from monsal.cli.called import interpreter, program, typed


def test_inside_another_program_it_has_its_plain_name() -> None:
    assert program() == "monsal"


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_bare_name_only_if_the_shell_finds_this_very_program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = executable(home / "a b" / "bin" / "monsal"), executable(home / "other" / "monsal")
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "argv", [str(mine)])
    monkeypatch.setenv("PATH", str(mine.parent))
    assert typed("run") == "monsal run"
    monkeypatch.setenv("PATH", str(other.parent))
    assert shlex.split(typed("run")) == [str(mine), "run"]
    monkeypatch.setattr(sys, "argv", [os.path.join("a b", "bin", "monsal")])
    assert typed("run") == "'a b/bin/monsal' run"
    (home / "desk").mkdir()
    assert program(Path("desk")) == "'../a b/bin/monsal'"
    monkeypatch.chdir(mine.parent)
    monkeypatch.setattr(sys, "argv", ["monsal"])
    assert program() == "./monsal"


def test_words_and_directories_are_quoted() -> None:
    assert typed("say", "it's@x", directory=Path("a b")) == """monsal say 'it'"'"'s@x' --dir 'a b'"""
    assert typed("run", directory=Path()) == "monsal run"


def test_as_a_module_it_is_told_as_one_and_can_be_pasted(home: Path) -> None:
    command = [sys.executable, "-m", "monsal.cli"]
    made = subprocess.run([*command, "new", "a b"], cwd=home, capture_output=True, text=True, check=True, timeout=60)
    told = made.stdout.splitlines()[1].strip()
    assert shlex.split(told) == [*command, "run", "--dir", "a b"]
    readme = (home / "a b" / "README.md").read_text()
    assert f"$ {sys.executable} -m monsal.cli status" in readme
    assert f"$ {sys.executable} -m pytest" in readme
    pasted = shlex.split(told.replace(" run ", " config "))
    assert subprocess.run(pasted, cwd=home, capture_output=True, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ["stop"],
        ["say", "a@x.example", "hi"],
        ["config"],
        ["queue"],
        ["run"],
        ["send", "--to", "a@x.example", "--from", "b@x.example", "--body", "x"],
    ],
)
def test_where_no_application_is_nobody_is_sent_to_run_one(
    home: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(home)
    result = invoke(*command)
    assert result.exit_code == 64
    assert "--dir" in result.stderr
    assert "no server" not in result.stderr
    assert "monsal run" not in result.stderr


def test_the_interpreter_beside_the_program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert interpreter() == "python"
    executable(home / "bin" / "monsal")
    (home / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.chdir(home)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["bin/monsal"])
    assert interpreter(Path("desk")) == "../bin/python"
