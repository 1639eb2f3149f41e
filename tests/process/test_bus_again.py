"""A restart of the bus in real processes: the same command again, by the main thread, in the same process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bus_programs import PATIENCE, Child, programs


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    with programs(tmp_path) as runs:
        yield runs


AGAIN = """
import os, sys
from monsal.bus import Bus

mark = os.environ["MARK"]
print(sys.argv[1:], sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions, os.getcwd(), os.getpid(), flush=True)
if not os.path.exists(mark):
    open(mark, "w").close()
    bus = Bus()
    bus.subscribe("log", lambda msg, level: None)
    import threading
    os.chdir("/")
    bus.start()
    threading.Thread(target=bus.restart).start()
    bus.block()
"""


@pytest.mark.rule("bus.R18", "bus.R14", "bus.B11")
@pytest.mark.parametrize(
    "arguments",
    [
        ["script.py", "a b", "*"],
        ["-O", "-X", "dev", "-W", "error", "script.py"],
        ["-m", "package", "x"],
        ["-m", "package.inner"],
        ["package", "x"],
        ["-c", AGAIN, "a b"],
    ],
    ids=["script", "options", "package", "module", "directory", "code"],
)
def test_a_restart_runs_the_same_command_again_in_the_same_process(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "package").mkdir()
    for name in ("script.py", "package/__init__.py", "package/__main__.py", "package/inner.py"):
        (tmp_path / name).write_text("" if name.endswith("__init__.py") else AGAIN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={**os.environ, "MARK": str(tmp_path / "mark")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first == second
    assert str(tmp_path) in first


@pytest.mark.rule("bus.B11")
def test_an_exit_during_a_restart_wins(run: Callable[..., Child]) -> None:
    child = run("""
        def stops():
            say("stopping")
            sys.stdin.readline()

        bus.subscribe("stop", stops)
        bus.subscribe("SIGTERM", lambda: say("noted"), 90)
        bus.start()
        bus.restart()
        bus.block()
    """)
    child.until("stopping")
    child.signal(signal.SIGTERM)
    child.until("noted")
    child.tell()
    code, lines, _ = child.end()
    assert code == 0
    assert not any(line.startswith("Re-spawning") for line in lines)


@pytest.mark.rule("bus.R18", "bus.B11")
def test_a_restart_does_not_care_how_many_files_may_be_open(run: Callable[..., Child]) -> None:
    """No sweep over all numbers, which took seconds with a high limit and closed what was meant to be inherited."""
    child = run("""
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        high = (most if most != resource.RLIM_INFINITY else 1 << 20) - 1
        if "AGAIN" in os.environ:
            say(f"inherited {os.fstat(high).st_ino == os.fstat(0).st_ino}")
            try:
                os.fstat(int(os.environ["AGAIN"]))
            except OSError:
                say("the other one is closed")
            sys.exit()
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        os.dup2(0, high, inheritable=True)
        os.environ["AGAIN"] = str(os.dup(0))
        bus.start()
        bus.restart()
        bus.block()
    """)
    child.until("Re-spawning")
    code, lines, errors = child.end()
    assert lines[-2:] == ["inherited True", "the other one is closed"]
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.R17", "bus.R18")
def test_a_restart_does_not_wait_for_the_idle_workers_of_an_executor(run: Callable[..., Child]) -> None:
    child = run("""
        from concurrent.futures import ThreadPoolExecutor

        if "AGAIN" in os.environ:
            say("again")
            sys.exit()
        os.environ["AGAIN"] = "1"
        pool = ThreadPoolExecutor(1)
        pool.submit(say, "worked").result()
        bus.subscribe("stop", lambda: pool.submit(say, "worked to the end").result())
        bus.start()
        bus.restart()
        bus.block()
    """)
    child.until("worked to the end")
    code, lines, errors = child.end()
    assert (code, errors) == (0, "")
    assert lines[-1] == "again"


@pytest.mark.rule("bus.R14", "bus.R18")
def test_of_many_threads_that_restart_one_is_enough_and_the_main_thread_does_it(run: Callable[..., Child]) -> None:
    """(M6) The process was replaced by whichever thread came first."""
    child = run("""
        if "AGAIN" in os.environ:
            say("again")
            sys.exit()
        os.environ["AGAIN"] = "1"
        together = threading.Barrier(8)
        done = bus._do_execv

        def restart():
            together.wait()
            bus.restart()

        def again():
            say(threading.current_thread() is threading.main_thread())
            done()

        bus._do_execv = again
        bus.start()
        for _ in range(8):
            threading.Thread(target=restart).start()
        bus.block()
    """)
    assert child.until("True")[-1] == "True"
    code, lines, _ = child.end()
    assert code == 0
    assert lines[-1] == "again"
