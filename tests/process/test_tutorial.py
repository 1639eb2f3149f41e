"""docs/tutorial.md is done as a reader does it: each file written, each command run, each line of output seen."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
#: What the shell says between the commands.
MARK = "@@@ "


def script_of(page: str, files: Path) -> tuple[str, list[tuple[str, int, list[str]]]]:
    """The page as a script of the shell, and its commands: each with its exit code and the lines that it shows."""
    lines = ["set -u"]
    commands: list[tuple[str, int, list[str]]] = []
    for number, (language, block) in enumerate(re.findall(r"```(python|console)\n(.*?)```", page, re.DOTALL)):
        if language == "python":
            head, _, code = block.partition("\n")
            name = re.fullmatch(r"# ([a-z_]+\.py)(, below the rest)?", head)
            assert name, f"a file without a name: {head}"
            (files / str(number)).write_text(code)
            lines.append(f"cat {shlex.quote(str(files / str(number)))} {'>>' if name[2] else '>'} {name[1]}")
            continue
        for line in block.splitlines():
            if line.startswith("$ "):
                command, _, code = line.removeprefix("$ ").partition("      # exit code ")
                commands.append((command, int(code or 0), []))
                lines += [f"echo {shlex.quote(MARK)}", command, f"code=$?; echo; echo {shlex.quote(MARK)} $code"]
            else:
                commands[-1][2].append(line)
    return "\n".join(lines) + "\n", commands


@pytest.mark.timeout(600)  # on a machine with much else to do each of the commands takes some seconds to start
def test_the_tutorial_is_done_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    script, commands = script_of(PAGE.read_text(encoding="utf-8"), tmp_path / "files")
    assert len(commands) > 12
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MONSAL_", "PYTEST_"))}
    environ |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}",
        "MONSAL_INGRESS": "smtp://127.0.0.1:0",  # others may have the usual port
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    try:
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=500,
        )
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((tmp_path / "tea" / "run" / "server.pid").read_text()), signal.SIGKILL)
    said = ended.stdout.split(MARK)[1:]
    results = list(zip(said[::2], said[1::2], strict=True))
    assert len(results) == len(commands), ended.stdout
    for (command, code, lines), (output, returned) in zip(commands, results, strict=True):
        assert int(returned.split()[0]) == code, f"{command}\n{output}\n{ended.stdout}"
        for line in lines:
            assert line in output, f"{command} does not show {line!r}:\n{output}"
    assert not (tmp_path / "tea" / "run" / "ready.json").exists()
