"""What can go wrong around several processes: kills at bad moments, frozen processes, threads and pages left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from harness import Server, make_application, monsal_command, wait_until
from test_faults import write, write_if_let_in
from test_life import QUIET, units
from test_workers import alive, by_name, monsal, serving

#: A handler that notes when it begins, and whether it is still at it, until there is a file `go`.
WAITS = """
import os, time
from pathlib import Path
from monsal import reply, route

here = Path(__file__).parent

@route("desk@(host)")
def START(message):
    with (here / "trace").open("a", 1) as trace:
        trace.write(f"{os.getpid()} {time.monotonic()}\\n")
        while not (here / "go").exists():
            time.sleep(0.01)
            trace.write(f"{os.getpid()} {time.monotonic()}\\n")
    reply("done", even_if_automatic=True)
"""


def spans(home: Path) -> list[tuple[int, float, float]]:
    """The processes that ran the handler: pid, begin and the last sign of it, in the order of their begin."""
    found: dict[int, tuple[float, float]] = {}
    text = (home / "trace").read_text("ascii") if (home / "trace").exists() else ""
    for line in text[: text.rfind("\n") + 1].splitlines():
        pid, _, at = line.partition(" ")
        found[int(pid)] = found.get(int(pid), (float(at), 0.0))[0], float(at)
    return [(pid, *span) for pid, span in found.items()]


def runs_in(home: Path, count: int, *, patience: float = 90.0) -> int:
    """The pid of the process that runs the handler as the `count`-th one."""
    return wait_until(
        lambda: found[-1][0] if len(found := spans(home)) == count else 0, f"turn {count}", patience=patience
    )


@contextmanager
def busy(home: Path, **settings: object) -> Iterator[tuple[Server, int]]:
    """A server with two workers, of which one runs a turn; and the pid of that."""
    make_application(home, WAITS, **settings)
    with serving(home) as server:
        assert write(server) == 250
        yield server, runs_in(home, 1)


def finish(server: Server) -> None:
    """Let the turn end; it has been committed once, and nothing is left in `run`."""
    (server.directory / "go").touch()
    server.wait_idle()
    assert len(server.rows("select 1 from v_turns")) == 1
    assert server.stop() == 0
    assert not list((server.directory / "run").glob("turns-*"))


@pytest.mark.parametrize("workers", [0, 2])
def test_code_that_does_not_load_is_told_alike_however_many_processes_there_are(home: Path, workers: int) -> None:
    make_application(home, f"{QUIET}\nimport nowhere\n")
    command = [*monsal_command(), "run", "--dir", str(home), "--workers", str(workers)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 64
    assert told.stderr.splitlines()[-1].endswith(
        "cannot import handlers: ModuleNotFoundError: No module named 'nowhere'"
    )
    assert 'handlers.py", line' in told.stderr
    assert "was destroyed" not in told.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_that_cannot_be_read_is_told_alike(home: Path, workers: int) -> None:
    make_application(home, QUIET)
    (home / "run").mkdir()
    (home / "run" / "monsal.db").write_bytes(b"no database" * 1000)
    command = [*monsal_command(), "run", "--dir", str(home), "--workers", str(workers)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 65
    assert "is damaged or is no store" in told.stderr.splitlines()[-1]
    assert "was destroyed" not in told.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_who_may_open_hardly_a_file_is_told_so_at_once(home: Path, workers: int) -> None:
    """It hung in its start, and could not be stopped."""
    make_application(home, QUIET)
    command = [*monsal_command(), "run", "--dir", str(home), "--workers", str(workers)]
    told = subprocess.run(
        ["bash", "-c", 'ulimit -n 30; exec "$@"', "bash", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert told.returncode == 69
    assert "may open 30 files, and needs at least 128" in told.stderr
    assert not (home / "run" / "ready.json").exists()


def test_a_thread_that_a_handler_leaves_behind_does_not_hold_up_the_end(home: Path) -> None:
    handlers = (
        "import threading\nfrom monsal import route\n"
        '@route("desk@(host)")\ndef START(message):\n'
        "    threading.Thread(target=threading.Event().wait, daemon=False).start()\n"
    )
    make_application(home, handlers)
    with serving(home) as server:
        assert write(server) == 250
        server.wait_idle()
        assert server.stop() == 0
        assert "ended by force" not in server.log()


@pytest.mark.parametrize("order", [("store", "worker"), ("worker", "store")])
def test_a_kill_counts_although_the_store_process_was_killed_with_the_worker(
    home: Path, order: tuple[str, str]
) -> None:
    with busy(home) as (server, worker):
        pids = {"store": by_name(server)["store-1"]["pid"], "worker": worker}
        for name in order:
            os.kill(pids[name], signal.SIGKILL)
        # Then the message runs in another one, and is known as one that was there when a worker was killed
        assert runs_in(home, 2) != worker
        # (Twice, if the store process died between the count and the removal of what it had counted.)
        assert server.rows("select kills from monsal_spool")[0][0] in (1, 2)
        finish(server)


def test_a_worker_that_dies_while_the_store_process_starts_is_not_waited_for(home: Path) -> None:
    with busy(home) as (server, worker):
        store = by_name(server)["store-1"]["pid"]
        os.kill(store, signal.SIGKILL)
        fresh = wait_until(
            lambda: row["pid"] if (row := by_name(server).get("store-1")) and row["pid"] != store else 0, "a store"
        )
        os.kill(fresh, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: worker not in [row["pid"] for row in server.workers()], "that it is known to be dead")
        os.kill(fresh, signal.SIGCONT)
        runs_in(home, 2)
        # (Twice, if the store process died between the count and the removal of what it had counted.)
        assert server.rows("select kills from monsal_spool")[0][0] in (1, 2)
        assert "did not come back" not in server.log()
        finish(server)


@pytest.mark.rule("state.B11")
def test_a_frozen_worker_keeps_its_correspondent_until_it_is_ended(home: Path) -> None:
    """Its lease may be as short as it likes: a turn that may go on is not run beside itself (P3)."""
    with busy(home, lease=1.0) as (server, worker):
        os.kill(worker, signal.SIGSTOP)
        runs_in(home, 2, patience=90.0)
        assert not alive(worker)
        finish(server)


def test_a_turn_that_outlasts_the_drain_of_a_reload_is_not_run_beside_itself(home: Path) -> None:
    with busy(home, drain=0.2) as (server, worker):
        assert monsal(server, "reload").returncode == 0
        runs_in(home, 2)
        (_, _, end), (_, begin, _) = spans(home)
        assert begin > end, "two turns of one correspondent at a time"
        # And its message is not blamed for it
        assert server.rows("select kills from monsal_spool") == [(0,)]
        wait_until(lambda: not alive(worker), "the end of the old worker")
        finish(server)


def test_a_stop_lets_the_turns_of_the_last_generation_end(home: Path) -> None:
    with busy(home) as (server, worker):
        # Given an old generation that drains
        assert monsal(server, "reload").returncode == 0
        wait_until(lambda: "serving no more connections" in server.log(), "a drain")
        assert alive(worker)
        # When the server is told to stop, and that turn then ends
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        # (Its idle companion may have ended before.)
        wait_until(lambda: units(server).get("store") == "stopping", "that the processes are told to end")
        assert alive(worker)
        (home / "go").touch()
        assert server.process.wait(60) == 0
        # Then it was committed
        assert len(server.rows("select 1 from v_turns")) == 1
        assert len(spans(home)) == 1
        assert "the hook `stopping`" not in server.log()


def test_a_stop_does_not_wait_for_code_that_is_being_loaded(home: Path) -> None:
    make_application(home, QUIET)
    with serving(home) as server:
        # Given a reload whose code never comes to its end, and says when it begins
        endless = (
            "import pathlib, threading\npathlib.Path(__file__).with_name('begun').touch()\nthreading.Event().wait()\n"
        )
        (home / "handlers.py").write_text(endless)
        command = [*monsal_command(), "reload", "--dir", str(home)]
        reload = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_until(lambda: (home / "begun").exists(), "the new code")
        # When the server is told to stop, then it does, at once, and says so to who wanted the reload
        assert server.stop() == 0
        said, _ = reload.communicate(timeout=90)
        assert reload.returncode != 0
        assert "cannot serve" not in said + server.log()


def test_a_reload_that_failed_is_no_end_of_those_that_serve(home: Path) -> None:
    make_application(home, QUIET)
    with serving(home) as server:
        (home / "handlers.py").write_text("import nowhere\n")
        assert monsal(server, "reload").returncode == 1
        assert [row["restarts"] for row in server.workers()] == [0, 0, 0, 0]
        # And a process that replaces the server's own counts on
        (home / "handlers.py").write_text(QUIET)
        assert monsal(server, "restart").returncode == 0
        wait_until(lambda: {row["generation"] for row in server.workers()} == {2}, "generation 2")
        assert monsal(server, "reload").returncode == 0
        numbers = {name: row["generation"] for name, row in by_name(server).items()}
        assert (numbers["store-1"], numbers["worker-1"], numbers["worker-2"]) == (2, 3, 3)
        assert server.stop() == 0


def test_a_store_process_that_cannot_write_is_named_and_recovers(home: Path) -> None:
    make_application(home, QUIET)
    with serving(home) as server:
        assert write(server, number=1) == 250
        server.wait_idle()
        # Given a store process that may write to no file; no worker is bound
        pid = by_name(server)["store-1"]["pid"]
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        # Then nothing is acknowledged, and who asks is told why (P1)
        assert write(server, number=2) == 451
        told = monsal(server, "status", "--json")
        facts = json.loads(told.stdout)
        assert (told.returncode, facts["ready"]) == (1, False)
        assert any("monsal.db" in line for line in facts["health"])
        # And a worker that is killed meanwhile is replaced, and all goes on
        os.kill(by_name(server)["worker-1"]["pid"], signal.SIGKILL)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        wait_until(lambda: write_if_let_in(server) == 250, "a store that takes mail again")
        server.wait_idle()
        wait_until(lambda: monsal(server, "status").returncode == 0, "a server that is well")
        assert server.stop() == 0


KILLS = """
import ctypes, os, time
from monsal import reply, route

@route("desk@(host)")
def START(message):
    time.sleep(0.05)  # others run beside it
    if message.subject == "exit":
        os._exit(7)
    if message.subject == "crash":
        ctypes.string_at(0)
    reply("fine")
"""


@pytest.mark.rule("mailbox.B11")
def test_messages_that_kill_their_workers_become_dead_letters_and_no_others_do(home: Path) -> None:
    make_application(home, KILLS)
    with serving(home) as server:
        # Given mail of many, some of which ends the worker that handles it
        for count, subject in enumerate(("exit", "crash", *["fine"] * 40)):
            wait_until(partial(_is_taken, server, subject, count), "a worker that takes a mail", patience=60)
        # Then those two are dead letters, after three workers each, and all others are handled
        server.wait_idle(patience=90)
        assert server.rows("select kills from monsal_spool where status = 3") == [(3,), (3,)]
        ledger = server.ledger()
        assert (ledger["done"], ledger["dead"]) == (40, 2)
        assert server.rows("select count(distinct sender) from v_turns") == [(40,)]
        assert server.stop() == 0
        assert not list((home / "run").glob("turns-*"))


def _is_taken(server: Server, subject: str, number: int) -> bool:
    """Whether a mail is acknowledged; the worker at the other end may be killed at any time."""
    try:
        return write(server, subject, number=number, sender=f"p{number}@example.net") == 250
    except (smtplib.SMTPException, OSError):
        return False


@pytest.mark.rule("mailbox.B12")
def test_a_turn_ends_although_the_supervisor_is_killed(home: Path) -> None:
    with busy(home) as (server, worker):
        pids = [row["pid"] for row in server.workers()]
        server.kill()
        # When the handler then ends, it is committed: the store process waits for that
        wait_until(lambda: "worker server is gone" in server.log(), "a store process that knows it")
        (home / "go").touch()
        wait_until(lambda: not any(map(alive, pids)), "the end of all processes")
        assert "cannot commit" not in server.log()
        assert [pid for pid, _, _ in spans(home)] == [worker]
        # And the next server has nothing to do
        server.start("--workers", "2")
        server.wait_idle()
        assert server.ledger()["done"] == 1
        assert [pid for pid, _, _ in spans(home)] == [worker]
        assert server.stop() == 0
        assert not list((home / "run").glob("turns-*"))


@pytest.mark.rule("mailbox.B12")
def test_no_process_outlives_a_supervisor_that_is_killed_with_the_store_process(home: Path) -> None:
    with busy(home, drain=300.0) as (server, _):
        pids = {row["name"]: row["pid"] for row in server.workers()}
        os.kill(pids["store-1"], signal.SIGKILL)
        server.kill()
        # Then the others end long before the time of a drain, for nobody is left who could give them a store
        wait_until(lambda: not any(map(alive, pids.values())), "the end of all processes", patience=90.0)
        # And whoever is started next has the message
        server.start("--workers", "2")
        finish(server)


@pytest.mark.rule("bus.B12")
def test_who_connects_during_a_drain_is_refused_and_not_left_waiting(home: Path) -> None:
    with busy(home) as (server, _):
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)

        def is_refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", server.port), timeout=60).close()
            except ConnectionRefusedError:
                return True
            return False

        # While a turn still runs, no process keeps the address, the spare as little as those that serve
        wait_until(is_refused, "a closed door")
        assert server.process.poll() is None
        (home / "go").touch()
        assert server.process.wait(60) == 0
        assert server.ledger()["done"] == 1
