"""What can go wrong around a server: hostile code, lost directories, closed streams, planted links."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import Server, make_application, monsal_command, wait_until
from test_life import QUIET, hang_up, monsal, write

from monsal.errors import UsageError
from monsal.ownership import give_away, open_log, owner_to_be


@pytest.mark.rule("bus.B11")
@pytest.mark.parametrize("ending", ["import sys; sys.exit(0)", "import os; os._exit(0)", "import os; os.abort()"])
def test_code_that_ends_the_process_at_import_is_not_taken_up(home: Path, ending: str) -> None:
    """The exit code of the check could be 0; what counts is that it got to its end."""
    make_application(home, QUIET)
    with Server(home) as server:
        server.start()
        (home / "handlers.py").write_text(f"{QUIET}\n{ending}\n")
        failed = monsal("reload", "--dir", home)
        assert failed.returncode == 1
        assert "goes on with the old one" in failed.stderr
        write(server)
        server.wait_idle()
        assert "the reload at" in monsal("status", "--dir", home).stdout
        assert server.stop() == 0


def test_a_start_whose_code_exits_says_so(home: Path) -> None:
    make_application(home, "import sys\nsys.exit(0)\n")
    failed = monsal("run", "--dir", home)
    assert failed.returncode == 64
    assert "sys.exit(0)" in failed.stderr


@pytest.mark.rule("bus.B11")
def test_a_socket_file_that_was_removed_is_made_again_by_a_reload(home: Path) -> None:
    make_application(home, QUIET, ingress=["smtp://127.0.0.1:0", "lmtp:run/lmtp.sock"])
    with Server(home) as server:
        server.start()
        (home / "run" / "lmtp.sock").unlink()
        assert monsal("reload", "--dir", home).returncode == 0
        assert (home / "run" / "lmtp.sock").is_socket()
        assert server.stop() == 0
        assert not (home / "run" / "lmtp.sock").exists()


def test_the_end_comes_although_the_directory_is_gone_and_a_thread_is_left(home: Path) -> None:
    handlers = (
        "import threading\nfrom monsal import route\n"
        '@route("desk@(host)")\ndef START(message):\n'
        "    threading.Thread(target=threading.Event().wait, daemon=False).start()\n"
    )
    make_application(home, handlers)
    with Server(home) as server:
        server.start()
        write(server)
        server.wait_idle()
        (home / "run").rename(home / "away")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        assert "still running; leaving it behind" in server.log()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_harm_nobody(home: Path, closed: str) -> None:
    make_application(home, QUIET)
    program = " ".join(monsal_command())
    with Server(home) as server:
        server.process = subprocess.Popen(
            ["sh", "-c", f"exec {program} run --dir {home} {closed}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        server.wait_ready()
        write(server)
        server.wait_idle()
        assert server.stop() == 0


def test_a_stop_during_the_check_of_new_code_ends_the_check(home: Path) -> None:
    make_application(home, QUIET)
    with Server(home) as server:
        server.start()
        hangs = f"import threading\nopen({str(home / 'begun')!r}, 'w').close()\nthreading.Event().wait()\n"
        (home / "handlers.py").write_text(hangs + QUIET)
        assert server.process is not None
        hang_up(server)
        wait_until((home / "begun").exists, "the check")
        assert server.stop() == 0
        assert "still running" not in server.log()
        wait_until(lambda: not _checks(home), "the end of the check")


def _checks(home: Path) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if str(home) in line and "--check" in line:
            found.append(line)
    return found


@pytest.mark.rule("bus.B14")
def test_a_pid_file_of_another_server_is_told_in_a_sentence(home: Path) -> None:
    first, second = home / "first", home / "second"
    for place in (first, second):
        place.mkdir()
        make_application(place, QUIET)
    with Server(first) as server:
        server.start("--pid", str(home / "x.pid"))
        failed = monsal("run", "--dir", second, "--pid", home / "x.pid")
        assert failed.returncode == 75
        assert str(server.ready["pid"]) in failed.stderr
        assert "Traceback" not in failed.stderr
        assert server.stop() == 0
    missing = monsal("run", "--dir", second, "--pid", home / "nowhere" / "x.pid")
    assert missing.returncode == 64
    assert "there is no directory" in missing.stderr


@pytest.mark.parametrize("generation", ["9" * 5000, "-1", "x", ""])
def test_a_strange_generation_is_the_first(home: Path, generation: str) -> None:
    make_application(home, QUIET)
    with Server(home, environ={"MONSAL_GENERATION": generation}) as server:
        assert server.start()["generation"] == 1
        assert server.stop() == 0


@pytest.mark.parametrize("text", ["{}", '{"blame": 1}', '{"blame": {"start": 1}}', "no json"])
def test_a_damaged_note_of_the_last_stop(home: Path, text: str) -> None:
    make_application(home, QUIET)
    (home / "run").mkdir()
    (home / "run" / "last-stop.json").write_text(text)
    done = monsal("blame", "--dir", home)
    assert done.returncode == 75
    assert "Traceback" not in done.stderr


def test_options_end_at_two_dashes(home: Path) -> None:
    make_application(home, QUIET)
    with Server(home) as server:
        server.start("--")
        assert monsal("reload", "--dir", home).returncode == 0
        assert server.stop() == 0


class TestPlantedLinks:
    """Root in a directory of somebody else's (P8)."""

    def owner(self) -> tuple[int, int]:
        nobody = pwd.getpwnam("nobody")
        # Who is not root can give things to nobody but itself; the links are refused all the same.
        return (nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else (os.geteuid(), os.getegid())

    def test_a_link_in_place_of_run_is_refused(self, home: Path) -> None:
        victim = home / "victim"
        victim.mkdir()
        (home / "run").symlink_to(victim)
        with pytest.raises(UsageError, match="is a link"):
            give_away(home / "run", self.owner())
        assert victim.stat().st_uid == os.geteuid()

    def test_links_inside_are_not_followed_and_second_names_left_alone(self, home: Path) -> None:
        secret = home / "secret"
        secret.write_text("s")
        (home / "run").mkdir()
        (home / "run" / "link").symlink_to(secret)
        os.link(secret, home / "run" / "second")
        (home / "run" / "own").write_text("x")
        give_away(home / "run", self.owner())
        assert secret.stat().st_uid == os.geteuid()
        assert (home / "run" / "own").stat().st_uid == self.owner()[0]
        assert (home / "run").stat().st_uid == self.owner()[0]

    @pytest.mark.parametrize("plant", ["symlink", "hardlink", "directory"])
    def test_a_log_that_leads_elsewhere_is_refused(self, home: Path, plant: str) -> None:
        victim = home / "victim"
        victim.write_text("v")
        log = home / "run" / "monsal.log"
        if plant == "directory":
            (home / "elsewhere").mkdir()
            (home / "run").symlink_to(home / "elsewhere")
        else:
            (home / "run").mkdir()
            (log.symlink_to if plant == "symlink" else log.hardlink_to)(victim)
        with pytest.raises((UsageError, OSError)):
            open_log(log, self.owner())
        assert victim.read_text() == "v"

    def test_only_root_becomes_another(self) -> None:
        assert owner_to_be(None, None) is None
        if os.geteuid():
            assert owner_to_be("nobody", None) is None
        else:
            assert owner_to_be("nobody", None) == self.owner()


def test_a_command_in_a_directory_that_is_gone(home: Path) -> None:
    gone = home / "gone"
    gone.mkdir()

    def enter() -> None:
        os.chdir(gone)
        shutil.rmtree(gone)

    done: Any = subprocess.run(
        [*monsal_command(), "status"], capture_output=True, text=True, timeout=120, check=False, preexec_fn=enter
    )
    assert done.returncode == 64
    assert "Traceback" not in done.stderr


@pytest.mark.rule("bus.B11")
def test_a_reload_by_signal_that_fails_is_told_once(home: Path) -> None:
    """The log had it twice, and the second time as a fault of the bus, with its stack."""
    make_application(home, QUIET)
    with Server(home) as server:
        server.start()
        (home / "handlers.py").write_text("raise RuntimeError('half written')\n")
        hang_up(server)
        wait_until(lambda: "RuntimeError: half written" in server.log(), "the traceback")
        assert server.stop() == 0
        assert server.log().count("cannot serve; the server goes on") == 1
        assert "Exception Group" not in server.log()
