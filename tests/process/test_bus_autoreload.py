"""A real process that restarts when its own files change, and a real one that sleeps between its tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bus_programs import sleeps
from harness import background

PATIENCE = 60.0

RELOADING = """
    import os, sys
    from monsal.bus import Autoreloader, Bus, SignalHandler

    try:
        from part import VALUE
    except ModuleNotFoundError:
        VALUE = "gone"

    bus = Bus()
    bus.subscribe("log", lambda text, level: print(text, flush=True))
    SignalHandler(bus).subscribe()
    reloader = Autoreloader(bus, 0.02, "part$")
    reloader.files.add("page.html")
    reloader.subscribe()
    bus.subscribe("start", lambda: print("value", VALUE, os.getpid(), flush=True), 90)
    bus.start()
    bus.block()
"""


@contextmanager
def program(directory: Path, code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a directory of its own, whose end is the end of the block."""
    script = directory / "program.py"
    script.write_text(textwrap.dedent(code), encoding="utf-8")
    # Compiled code is told from stale by size and whole seconds; a test is faster than that.
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with background([sys.executable, script], cwd=directory, env=environ, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            assert process.stdout is not None
            process.stdout.close()


def until(process: subprocess.Popen[bytes], wanted: str) -> list[str]:
    """Read up to the first line that begins with `wanted`; all lines read."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.decode().rstrip("\n"))
        if lines[-1].startswith(wanted):
            return lines
    raise AssertionError(f"ended without {wanted!r}: {lines}")


def written(path: Path) -> str:
    """In its place and in one step: half of it may be read in between."""
    with path.open("r+b", buffering=0) as file:
        file.write(b"VALUE = 'written'\n")
    return "written"


def replaced(path: Path) -> str:
    other = path.with_name("other.tmp")
    other.write_text("VALUE = 'two'\n", encoding="utf-8")
    facts = path.stat()
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(path)
    return "two"


def set_back(path: Path) -> str:
    """As by a checkout of an older version that keeps times."""
    other = path.with_name("other.tmp")
    other.write_text("VALUE = 'old'\n", encoding="utf-8")
    os.utime(other, (1, 1))
    other.replace(path)
    return "old"


def deleted(path: Path) -> str:
    path.unlink()
    return "gone"


@pytest.mark.rule("bus.B16", "bus.B11", "bus.R14", "bus.R18")
@pytest.mark.parametrize("change", [written, replaced, set_back, deleted])
def test_a_process_becomes_its_new_code(tmp_path: Path, change: Callable[[Path], str]) -> None:
    """A file set back in time was ignored by the original (C13)."""
    part = tmp_path / "part.py"
    part.write_text("VALUE = 'one'\n", encoding="utf-8")
    with program(tmp_path, RELOADING) as process:
        assert until(process, "value")[-1] == f"value one {process.pid}"
        until(process, "Bus STARTED")
        value = change(part)
        lines = until(process, "value")
        assert lines.count(f"Restarting because {part} changed.") == 1
        assert "Stopped thread 'Autoreloader'." in lines
        assert [line for line in lines if line.startswith("Re-spawning")]
        assert lines[-1] == f"value {value} {process.pid}"
        until(process, "Bus STARTED")
        process.terminate()
        assert process.wait(PATIENCE) == 0


@pytest.mark.rule("bus.R22")
def test_a_template_that_was_added_restarts_when_it_comes_and_when_it_goes(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    (tmp_path / "part.py").write_text("VALUE = 'one'\n", encoding="utf-8")
    with program(tmp_path, RELOADING) as process:
        until(process, "Bus STARTED")
        page.touch()
        assert f"Restarting because {page} changed." in until(process, "Bus STARTED")
        page.unlink()
        assert f"Restarting because {page} changed." in until(process, "Bus STARTED")
        process.terminate()
        assert process.wait(PATIENCE) == 0


IDLE = """
    from monsal.bus import Autoreloader, Bus, PeriodicTask, SignalHandler

    bus = Bus()
    bus.subscribe("log", lambda text, level: print(text, flush=True))
    SignalHandler(bus).subscribe()
    for frequency in (0, 3600):
        PeriodicTask(bus, print, frequency).subscribe()
        Autoreloader(bus, frequency).subscribe()
    bus.start()
    bus.block()
"""


@pytest.mark.quiet
@pytest.mark.rule("bus.B7")
def test_a_process_with_tasks_is_not_woken_between_them(tmp_path: Path) -> None:
    with program(tmp_path, IDLE) as process:
        until(process, "Bus STARTED")
        # The main thread and those of two tasks.
        assert sleeps(process.pid, 3)
        process.terminate()
        assert process.wait(PATIENCE) == 0


@pytest.mark.rule("bus.R6", "bus.B16")
def test_system_exit_in_a_task_is_the_exit_code_of_the_process(tmp_path: Path) -> None:
    code = """
        import threading
        from monsal.bus import Bus, PeriodicTask

        blocking = threading.Event()

        def leaves():
            blocking.wait()
            raise SystemExit(7)

        bus = Bus()
        bus.subscribe("log", lambda text, level: print(text, flush=True))
        bus.subscribe("main", blocking.set)
        PeriodicTask(bus, leaves, 0.001).subscribe()
        bus.start()
        bus.block()
    """
    with program(tmp_path, code) as process:
        until(process, "Bus EXITED")
        assert process.wait(PATIENCE) == 7
