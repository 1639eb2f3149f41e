"""PID files: whole, locked, taken over when stale, removed only by who has them (B14)."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monsal.bus import Bus, ChannelFailures, PIDFile, PIDFileHeld, PIDLock

PATIENCE = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.pid"


def program(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; it finds its arguments in `sys.argv`."""
    text = "import os, sys\nfrom monsal.bus import PIDFileHeld, PIDLock\n" + textwrap.dedent(code)
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def dead_pid() -> int:
    """The pid of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait(PATIENCE)
    return done.pid


def test_the_file_has_the_pid_and_a_newline_and_nobody_else_may_write_it(path: Path) -> None:
    lock = PIDLock(path)
    assert lock.take() is None
    assert path.read_bytes() == b"%d\n" % os.getpid()
    assert path.stat().st_mode & 0o133 == 0
    assert lock.held
    assert [path] == list(path.parent.iterdir()), "nothing is left beside it"
    assert lock.give_back() == "removed"
    assert not lock.held
    assert not list(path.parent.iterdir())


def test_taking_and_giving_back_twice_changes_nothing(path: Path) -> None:
    lock = PIDLock(path)
    assert lock.give_back() == "left"
    with lock:
        inode = path.stat().st_ino
        assert lock.take() is None
        assert path.stat().st_ino == inode
    assert lock.give_back() == "left"


def test_the_name_holds_when_the_directory_is_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    lock = PIDLock("server.pid")
    monkeypatch.chdir("/")
    with lock:
        assert path.exists()
    assert not path.exists()


@pytest.mark.rule("bus.B14")
def test_a_file_that_is_held_is_refused_with_the_pid_of_who_has_it(path: Path) -> None:
    code = """
        try:
            PIDLock(sys.argv[1]).take()
        except PIDFileHeld as error:
            print(error.pid, error)
    """
    with PIDLock(path):
        with pytest.raises(PIDFileHeld, match=f"server.pid is held by process {os.getpid()}$") as caught:
            PIDLock(path).take()
        assert (caught.value.pid, caught.value.path) == (os.getpid(), str(path))
        assert program(code, path).stdout == f"{os.getpid()} {path} is held by process {os.getpid()}\n"
    assert program(code, path).stdout == ""


@pytest.mark.rule("bus.B14")
@pytest.mark.parametrize("garbage", [b"", b"\n", b"nobody\n", b"-1\n", b"0\n", b"99999999999999999999\n", b"\xff"])
def test_a_file_that_nobody_holds_is_stale_whatever_it_says(path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    lock = PIDLock(path)
    assert lock.read() is None
    assert lock.take() == 0
    assert lock.read() == os.getpid()
    lock.give_back()


@pytest.mark.rule("bus.B14")
def test_a_stale_file_tells_the_pid_that_it_had(path: Path) -> None:
    lock = PIDLock(path)
    # By now a process may live that has the number, but not the file.
    for pid in (dead_pid(), os.getppid()):
        path.write_text(f"{pid}\n")
        assert lock.take() == pid
        lock.give_back()


def test_a_free_file_with_our_own_pid_is_simply_ours(path: Path) -> None:
    """It is from before an `exec`, or from before a container was started again, where pids repeat."""
    path.write_text(f"{os.getpid()}\n")
    inode = path.stat().st_ino
    with PIDLock(path) as lock:
        assert path.stat().st_ino == inode
        with pytest.raises(PIDFileHeld):
            PIDLock(path).take()
        assert lock.held


@pytest.mark.rule("bus.B14")
def test_a_file_that_is_not_ours_any_more_is_not_removed(path: Path) -> None:
    lock = PIDLock(path)
    lock.take()
    path.unlink()
    assert lock.give_back() == "left"
    lock.take()
    path.unlink()
    with PIDLock(path):
        assert lock.give_back() == "left"
        assert path.exists()


def test_a_link_is_not_followed(path: Path) -> None:
    target = path.with_name("target")
    path.symlink_to(target)
    with pytest.raises(OSError) as caught:
        PIDLock(path).take()
    assert caught.value.errno == errno.ELOOP
    assert not target.exists()


def test_a_directory_that_is_missing_is_told(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PIDLock(path.parent / "missing" / "server.pid").take()


def test_a_forked_child_neither_has_the_file_nor_removes_it(path: Path) -> None:
    done = program(
        """
        lock = PIDLock(sys.argv[1])
        lock.take()
        child = os.fork()
        if not child:
            try:
                lock.take()
            except PIDFileHeld as error:
                held = error.pid == os.getppid()
            os._exit(10 * held + (lock.give_back() == "left") + lock.held)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        try:
            PIDLock(sys.argv[1]).take()
        except PIDFileHeld:
            print("held")
        print(lock.give_back())
        """,
        path,
    )
    assert done.stdout == "11\nheld\nremoved\n", done.stderr


def test_a_child_that_outlives_who_took_the_file_still_holds_it(path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys\nfrom monsal.bus import PIDLock\nPIDLock(sys.argv[1]).take()\n"
            "if not os.fork():\n    print(flush=True)\n    sys.stdin.read()\n",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.wait(PATIENCE)
        with pytest.raises(PIDFileHeld, match="or rather by a child that outlived it") as caught:
            PIDLock(path).take()
        assert caught.value.pid == holder.pid
        assert holder.stdin is not None
        holder.stdin.close()
        holder.stdout.read()
    lock = PIDLock(path)
    assert lock.take() == holder.pid
    lock.give_back()


READ_ONLY = """
    # As a user for whom the directory is not writable; a PID file is there that was made for it.
    if os.getuid() == 0:
        os.setgid(65534)
        os.setgroups([])
        os.setuid(65534)
    path = sys.argv[1]
    try:
        print(PIDLock(path).take())
    except OSError as error:
        print(type(error).__name__)
    print(open(path).read() == f"{os.getpid()}\\n", len(os.listdir(os.path.dirname(path))))
    """


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can come to, other than those of pytest."""
    with tempfile.TemporaryDirectory(prefix="monsal-test-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.parametrize(
    ("mode", "says"), [(0o666, "4000000\nTrue 1\n"), (0o444, "PermissionError\nFalse 1\n")], ids=["writable", "not"]
)
def test_where_no_file_can_be_made_the_one_that_is_there_is_used(open_directory: Path, mode: int, says: str) -> None:
    path = open_directory / "server.pid"
    path.write_text("4000000\n")
    path.chmod(mode)
    open_directory.chmod(0o555)
    done = program(READ_ONLY, path)
    assert (done.stdout, done.stderr) == (says, "")


@pytest.mark.rule("bus.B14")
def test_a_reader_never_sees_the_file_empty_or_half(path: Path) -> None:
    seen: set[bytes] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                seen.add(path.read_bytes())
            except FileNotFoundError:
                seen.add(b"none")

    reader = threading.Thread(target=read)
    reader.start()
    stale = b"4194303123\n"
    for turn in range(300):
        lock = PIDLock(path)
        if turn % 2:
            path.with_name("stale").write_bytes(stale)
            path.with_name("stale").rename(path)
        lock.take()
        lock.give_back()
    over.set()
    reader.join(PATIENCE)
    assert seen <= {b"none", stale, b"%d\n" % os.getpid()}


def at_once(count: int, work: Callable[[], object]) -> list[object]:
    """The results of threads that begin together."""
    results: list[object] = []
    together = threading.Barrier(count)

    def run() -> None:
        together.wait(PATIENCE)
        results.append(work())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return results


@pytest.mark.rule("bus.B14")
@pytest.mark.parametrize("before", [None, b"", b"4194303\n"], ids=["none", "empty", "stale"])
def test_of_many_takers_at_once_exactly_one_wins(path: Path, before: bytes | None) -> None:
    for _ in range(25):
        if before is not None:
            path.write_bytes(before)
        locks: list[PIDLock] = []

        def take() -> object:
            lock = PIDLock(path)
            try:
                lock.take()
            except PIDFileHeld as error:
                return error.pid
            locks.append(lock)  # noqa: B023 - the threads end within the turn of the loop
            return "won"

        assert sorted(map(str, at_once(6, take))) == sorted(["won", *[str(os.getpid())] * 5])
        assert len(locks) == 1
        assert locks[0].read() == os.getpid()
        assert locks[0].give_back() == "removed"


@pytest.mark.rule("bus.B14")
@pytest.mark.parametrize("stale", [False, True])
def test_of_many_processes_at_once_exactly_one_wins_and_the_others_name_it(path: Path, stale: bool) -> None:
    if stale:
        path.write_text(f"{dead_pid()}\n")
    code = (
        "import sys\nfrom monsal.bus import PIDFileHeld, PIDLock\n"
        "lock = PIDLock(sys.argv[1])\nprint(flush=True)\nsys.stdin.readline()\n"
        "try:\n    lock.take()\n    print('won', flush=True)\n"
        "except PIDFileHeld as error:\n    print(error.pid, flush=True)\n"
        "sys.stdin.readline()\nlock.give_back()\n"
    )
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]

    def tell(taker: subprocess.Popen[str]) -> None:
        assert taker.stdin is not None
        taker.stdin.write("\n")
        taker.stdin.flush()

    def hear(taker: subprocess.Popen[str]) -> str:
        assert taker.stdout is not None
        return taker.stdout.readline().strip()

    try:
        for taker in takers:
            hear(taker)
        for taker in takers:
            tell(taker)
        said = [hear(taker) for taker in takers]
        winner = takers[said.index("won")]
        assert sorted(said) == sorted(["won", *[str(winner.pid)] * 3])
        for taker in takers:
            tell(taker)
            assert taker.wait(PATIENCE) == 0
    finally:
        for taker in takers:
            taker.kill()
            taker.communicate()
    lock = PIDLock(path)
    assert lock.take() is None, "the winner gave it back"
    lock.give_back()


# From outside: wait and join


HOLDER = """
import sys
from monsal.bus import PIDLock
with PIDLock(sys.argv[1]):
    sys.stdin.read()
"""


@pytest.fixture
def holder(path: Path) -> Any:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_wait_gives_the_pid_as_soon_as_a_living_process_is_named(path: Path) -> None:
    path.write_text(f"{dead_pid()}\n")
    assert PIDLock(path).wait(0) is None
    assert PIDLock(path).wait(0.02, 0.01) is None
    found: list[int | None] = []
    waiter = threading.Thread(target=lambda: found.append(PIDLock(path).wait(PATIENCE, 0.01)))
    waiter.start()
    with PIDLock(path):
        waiter.join(PATIENCE)
    assert found == [os.getpid()]


@pytest.mark.parametrize("pidfd", [True, False])
def test_join_waits_for_the_end_of_the_process_that_is_named(
    path: Path, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, pidfd: bool
) -> None:
    if not pidfd:

        def refuse(pid: int) -> int:
            raise OSError(errno.ENOSYS, "not on this system")

        monkeypatch.setattr(os, "pidfd_open", refuse)
    plugin = PIDFile(Bus(), path)
    assert plugin.wait(PATIENCE) == holder.pid
    assert not plugin.join(0)
    assert not plugin.join(0.02, 0.01)
    ended: list[bool] = []
    joiner = threading.Thread(target=lambda: ended.append(plugin.join(PATIENCE, 0.01)))
    joiner.start()
    assert holder.stdin is not None
    holder.stdin.close()
    holder.wait(PATIENCE)
    joiner.join(PATIENCE)
    assert ended == [True]
    assert plugin.join(), "no file, nobody to wait for"


def test_join_of_a_process_that_ended_long_ago_or_of_oneself(path: Path) -> None:
    path.write_text(f"{dead_pid()}\n")
    assert PIDLock(path).join()
    with PIDLock(path) as lock, pytest.raises(RuntimeError, match="its own end"):
        lock.join()


# The plugin


@pytest.fixture
def bus() -> Bus:
    made = Bus()
    made.said = []  # type: ignore[attr-defined] - free attributes are part of the contract
    made.subscribe("log", lambda msg, level: made.said.append(msg))  # type: ignore[attr-defined] - as above
    return made


@pytest.mark.rule("bus.B14", "bus.B19", "mailbox.R25")
def test_the_plugin_takes_the_file_at_70_and_gives_it_back_at_the_exit(bus: Bus, path: Path) -> None:
    there: list[bool] = []
    PIDFile(bus, str(path)).subscribe()
    for priority in (69, 71):
        bus.subscribe("start", lambda priority=priority: there.append(path.exists()), priority)
    bus.start()
    bus.stop()
    assert path.exists()
    bus.start()
    bus.exit()
    assert there == [False, True, True, True]
    assert not path.exists()
    assert f"PID {os.getpid()} written to {path}." in bus.said  # type: ignore[attr-defined] - free attribute


@pytest.mark.rule("bus.B14")
def test_a_stale_file_is_logged_with_the_dead_pid(bus: Bus, path: Path) -> None:
    pid = dead_pid()
    path.write_text(f"{pid}\n")
    PIDFile(bus, path).subscribe()
    bus.start()
    bus.exit()
    text = f"The stale PID file {path} of process {pid}, which has ended is taken over."
    assert text in bus.said  # type: ignore[attr-defined] - free attribute


@pytest.mark.rule("bus.B14")
def test_a_held_file_fails_the_start_and_is_left_alone(bus: Bus, path: Path) -> None:
    PIDFile(bus, path).subscribe()
    with PIDLock(path):
        with pytest.raises(ChannelFailures) as caught:
            bus.start()
        assert isinstance(caught.value.exceptions[0], PIDFileHeld)
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.rule("bus.B14")
def test_the_file_is_removed_although_a_stop_listener_failed(bus: Bus, path: Path) -> None:
    """(C18)"""

    def fails() -> None:
        raise ValueError("broken")

    PIDFile(bus, path).subscribe()
    bus.subscribe("stop", fails)
    bus.start()
    with pytest.raises(ChannelFailures):
        bus.exit()
    assert not path.exists()


def test_a_file_that_was_replaced_is_left_with_a_line_in_the_log(bus: Bus, path: Path) -> None:
    PIDFile(bus, path).subscribe()
    bus.start()
    path.unlink()
    path.write_text("1\n")
    bus.exit()
    assert path.read_text() == "1\n"
    assert any(f"{path} left" in text for text in bus.said)  # type: ignore[attr-defined] - free attribute


def test_what_goes_wrong_at_the_exit_is_only_logged(bus: Bus, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    PIDFile(bus, path).subscribe()
    bus.start()
    monkeypatch.setattr(os, "unlink", broken)
    bus.exit()
    assert any("the disk is gone" in text for text in bus.said)  # type: ignore[attr-defined] - free attribute


def test_a_restart_keeps_the_file_because_the_pid_stays(bus: Bus, path: Path) -> None:
    plugin = PIDFile(bus, path)
    plugin.subscribe()
    bus.start()
    bus.restart()
    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(PIDFileHeld):
        PIDLock(path).take()
    plugin.lock.give_back()
