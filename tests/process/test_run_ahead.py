"""`monsal run --workers N`: its processes begin before the application is loaded, and end with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from harness import Server, make_application, monsal_command

HANDLERS = """
from monsal import reply, route

@route("desk@(host)")
def START(message):
    reply("here")
"""
#: Of the process that imports it: those that it has started by then.
WHO_IS_THERE = """
import os
from pathlib import Path

children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
if children:
    Path(__file__).with_name("begun").write_text(" ".join(children))
"""


def begun(home: Path) -> list[int]:
    file = home / "begun"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def with_a_look(home: Path, rest: str = "") -> Path:
    application = make_application(home, HANDLERS)
    app = application / "app.py"
    app.write_text(WHO_IS_THERE + rest + app.read_text())
    return application


def test_they_begin_before_the_application_is_loaded(home: Path) -> None:
    # Given an application that looks who is there when it is imported
    with Server(with_a_look(home)) as server:
        # When it is served by one worker
        server.start("--workers", "1")
        # Then the store process and the worker ran already, and are those that serve
        serving = {row["pid"] for row in server.workers() if row["name"] in ("store-1", "worker-1")}
        assert len(begun(home)) == 2
        assert set(begun(home)) == serving
        assert server.stop() == 0


def test_one_process_begins_none(home: Path) -> None:
    with Server(with_a_look(home)) as server:
        server.start("--workers", "0")
        assert begun(home) == []
        assert server.stop() == 0


def test_they_end_with_an_application_that_cannot_be_loaded(home: Path) -> None:
    # Given an application that fails
    application = with_a_look(home, "raise ValueError('not today')\n")
    # When it is to be served by workers
    command = [*monsal_command(), "run", "--dir", str(application), "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    # Then that is told as ever, and nobody is left
    assert done.returncode == 64
    assert "not today" in done.stderr
    pids = begun(home)
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_what_a_log_file_takes_is_written_by_them_too(home: Path) -> None:
    # Given that the output is to go to a file, which the others inherit
    application = with_a_look(home)
    log = home / "served.log"
    with Server(application) as server:
        server.start("--workers", "1", "--log-file", str(log))
        # Then they begin when that is open
        assert begun(home) == []
        assert server.stop() == 0


@pytest.mark.parametrize("words", [("--check",), ("--check", "--workers", "2")])
def test_a_check_begins_none(home: Path, words: tuple[str, ...]) -> None:
    application = with_a_look(home)
    command = [*monsal_command(), "run", "--dir", str(application), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert begun(home) == []
