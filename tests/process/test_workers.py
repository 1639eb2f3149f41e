"""`monsal run --workers N`, as an operator sees it: real processes, looked at from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from evidence import DeskEvidence
from harness import ROOT, Server, background, make_application, monsal_command, wait_until
from proof import desk

ANN = "ann@example.net"
HANDLERS = """
from monsal import current, reply, route

@route("desk@(host)")
def START(message):
    reply("first", headers={"X-Seq": message["Subject"]})
    return NEXT

@route("desk@(host)")
def NEXT(message):
    reply("next", headers={"X-Seq": message["Subject"]})
"""


def monsal(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*monsal_command(), words[0], "--dir", str(server.directory), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def say(server: Server, text: str, sender: str = ANN) -> str:
    told = monsal(server, "say", "desk@example.com", "--from", sender, "--wait", "60", text)
    assert told.returncode == 0, told.stderr
    return told.stdout


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def serving(application: Path, workers: int = 2) -> Iterator[Server]:
    with Server(application) as server:
        server.start("--workers", str(workers))
        yield server


def by_name(server: Server) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in server.workers()}


def test_a_conversation_over_processes_and_a_clean_end(home: Path) -> None:
    # Given an application on two workers
    with serving(make_application(home, HANDLERS)) as server:
        # Then there are processes for the store and for each worker, and one in reserve
        rows = by_name(server)
        assert set(rows) == {"store-1", "worker-1", "worker-2", "worker-spare"}
        assert {row["generation"] for row in rows.values()} == {1}
        assert all(0 < row["memory"] < 80e6 for row in rows.values())
        # When somebody writes twice, then the state of the first turn is that of the second, wherever it runs
        assert "first" in say(server, "one")
        assert "next" in say(server, "two")
        status = json.loads(monsal(server, "status", "--json").stdout)
        assert status["ready"] is True
        assert status["ledger"]["done"] == 2
        assert status["worker"]["turns"] == 2
        assert server.stop() == 0
        # And no process is left
        wait_until(lambda: not any(alive(row["pid"]) for row in rows.values()), "the end of all processes")
        assert not list((home / "run").glob("turns-*.page"))


@pytest.mark.rule("mailbox.B10", "mailbox.B2")
def test_the_spare_takes_the_place_of_a_worker_that_was_killed(home: Path) -> None:
    with serving(make_application(home, HANDLERS), workers=1) as server:
        before = by_name(server)
        os.kill(before["worker-1"]["pid"], signal.SIGKILL)
        after = wait_until(
            lambda: rows if len(rows := by_name(server)) == 3 and rows["worker-1"]["restarts"] else None, "a new spare"
        )
        assert after["worker-1"]["pid"] == before["worker-spare"]["pid"]
        assert "SIGKILL" in after["worker-1"]["last_end"]
        assert "first" in say(server, "one")


def test_code_is_taken_up_under_load_and_broken_code_changes_nothing(home: Path) -> None:
    # Given a server under load
    application = desk(home)
    good = (home / "handlers.py").read_text(encoding="utf-8")
    files = {name: home / f"{name}.jsonl" for name in ("acknowledged", "sent", "summary")}
    load_command = [
        *(sys.executable, "-m", "bench.load", "--ready", home / "run" / "ready.json"),
        *("--recipient", DeskEvidence.RECIPIENT, "--correspondents", "100", "--connections", "8", "--rate", "100"),
        *("--out", files["acknowledged"], "--json-sent", files["sent"], "--summary", files["summary"]),
    ]
    with serving(application) as server, background([str(part) for part in load_command], cwd=ROOT) as load:
        _wait_for_mail(server)
        # When new code is taken up, then broken code, then good code again
        for text, code, generation in ((good, 0, 2), ("import nowhere\n", 1, 2), (good, 0, 3)):
            (home / "handlers.py").write_text(text, encoding="utf-8")
            told = monsal(server, "reload")
            assert told.returncode == code, told.stderr + server.log()
            assert ("No module named 'nowhere'" in told.stderr) is bool(code)
            # Then those that serve are of the last good generation
            assert {row["generation"] for row in server.workers() if row["name"].startswith("worker")} >= {generation}
            _wait_for_mail(server)
        load.send_signal(signal.SIGTERM)
        assert load.wait(60) == 0
        server.wait_idle(patience=60)
        assert server.stop() == 0
    # And nobody was refused, and nothing was lost
    [summary] = [json.loads(line) for line in files["summary"].read_text(encoding="utf-8").splitlines()]
    assert not [what for what in summary["troubles"] if "connect" in what.lower() and "refused" in what], summary
    assert summary["refused"] == 0
    sent, acknowledged = (
        [json.loads(line) for line in files[name].read_text(encoding="utf-8").splitlines()]
        for name in ("sent", "acknowledged")
    )
    captured = [path.read_bytes() for path in sorted((home / "run" / "sent").glob("new/*"))]
    assert len(captured) >= len(acknowledged)
    assert DeskEvidence(server, sent, acknowledged, summary, _identified(captured)).contradictions() == {}


def _wait_for_mail(server: Server) -> None:
    before = server.ledger()["accepted"]
    wait_until(lambda: server.ledger()["accepted"] > before, "mail")


def _identified(captured: list[bytes]) -> list[tuple[str, bytes]]:
    from email.parser import BytesHeaderParser

    return [(BytesHeaderParser().parsebytes(raw)["Message-ID"], raw) for raw in captured]


CUTS = """
import gc
from pathlib import Path
from monsal import reply, route
from monsal.store.remote import RemoteStore

CUT = Path(__file__).with_name("was_cut")

@route("desk@(host)")
def START(message):
    if "cut" in message["Subject"] and not CUT.exists():
        CUT.touch()
        (store,) = [each for each in gc.get_objects() if isinstance(each, RemoteStore)]
        store._link._loop.call_soon_threadsafe(store._link.abort, "cut by the test")
    else:
        reply("still here")
"""


def test_a_worker_that_is_cut_off_from_a_living_store_is_replaced(home: Path) -> None:
    with serving(make_application(home, CUTS), workers=1) as server:
        before = by_name(server)
        # When the connection between a worker and the store breaks, and both live
        sent = monsal(
            server,
            "send",
            "--to",
            "desk@example.com",
            "--from",
            ANN,
            "--subject",
            "cut",
            "--body",
            "x",
            "--host",
            "127.0.0.1",
            "--port",
            str(server.port),
        )
        assert sent.returncode == 0, sent.stderr
        # Then another worker takes its place, for that one can do nothing any more
        wait_until(
            lambda: (row := by_name(server).get("worker-1")) and row["pid"] != before["worker-1"]["pid"],
            "another worker",
            patience=90,
        )
        assert by_name(server)["store-1"]["pid"] == before["store-1"]["pid"]
        wait_until(lambda: not alive(before["worker-1"]["pid"]), "the end of the one that was cut off", patience=90)
        assert "still here" in say(server, "one", "ben@example.net")
        wait_until(lambda: "has given this one up" in server.log(), "what became of it")


def test_a_setting_that_only_the_supervisor_can_take_up_is_told_at_a_reload(home: Path) -> None:
    with serving(make_application(home, HANDLERS), workers=1) as server:
        (home / "monsal.toml").write_text('ingress = ["smtp://127.0.0.1:0", "lmtp:run/lmtp.sock"]\n', encoding="utf-8")
        told = monsal(server, "reload")
        assert told.returncode == 0, told.stderr
        assert "the setting ingress was changed; `monsal restart` takes that up" in told.stderr
        assert "ingress was changed" in monsal(server, "status").stdout
        assert monsal(server, "restart").returncode == 0
        assert json.loads(server.ready_file.read_bytes())["lmtp"] == ["run/lmtp.sock"]
        assert "was changed" not in monsal(server, "status").stdout


ACTORS = """
from monsal.actors import Actor, command

class Counter(Actor):
    def __init__(self, first=0):
        self.total = first

    @command()
    def add(self, request, number):
        self.total += number
        return self.total
"""
ASKS = """
from monsal import reply, route
from monsal.actors import ask

@route("desk@(host)")
async def START(message):
    reply(f"the total is {await ask('counter', 'add', 5)}")
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_handlers_ask_actors_of_the_application(home: Path, workers: int) -> None:
    # Given an application with an actor of its own
    make_application(home, ASKS)
    (home / "counting.py").write_text(ACTORS, encoding="utf-8")
    text = (home / "app.py").read_text(encoding="utf-8")
    text = text.replace(
        "from monsal import App, literal", "from monsal import App, literal\nfrom monsal.actors import ActorSpec"
    )
    text = text.replace(
        'App("handlers",',
        'App("handlers", actors=[ActorSpec(name="counter", actor="counting:Counter", args={"first": 10})],',
    )
    (home / "app.py").write_text(text, encoding="utf-8")
    with serving(home, workers) as server:
        # When handlers ask it, wherever they run, then it answers, and it is one and the same
        assert "the total is 15" in say(server, "one")
        assert "the total is 20" in say(server, "two", "ben@example.net")
        assert "counter-1" in by_name(server)
        # When its code is broken, then a reload says so and changes nothing
        (home / "counting.py").write_text("broken(", encoding="utf-8")
        failed = monsal(server, "reload")
        assert (failed.returncode, "counting.py" in failed.stderr) == (1, True)
        (home / "counting.py").write_text(ACTORS.replace("first", "begin"), encoding="utf-8")
        failed = monsal(server, "reload")
        assert (failed.returncode, "unexpected keyword argument 'first'" in failed.stderr) == (1, True)
        assert "the total is 25" in say(server, "three", "cleo@example.net")
        assert server.stop() == 0


HANGS = """
import time
from monsal import reply, route

@route("desk@(host)")
def START(message):
    if "hang" in message["Subject"]:
        time.sleep(3600)
    reply("not hung")
"""


@pytest.mark.rule("mailbox.B11")
@pytest.mark.timeout(300)
def test_a_worker_in_which_handlers_hang_is_replaced_and_its_message_is_not_run_for_ever(home: Path) -> None:
    # Given a server whose turns may take two seconds
    with serving(make_application(home, HANDLERS, deadline=2.0), workers=1) as server:
        (home / "handlers.py").write_text(HANGS, encoding="utf-8")
        assert monsal(server, "reload").returncode == 0
        first = by_name(server)["worker-1"]["pid"]
        # When a handler hangs for ever
        assert (
            monsal(
                server,
                "send",
                "--to",
                "desk@example.com",
                "--from",
                ANN,
                "--subject",
                "hang",
                "--body",
                "x",
                "--host",
                "127.0.0.1",
                "--port",
                str(server.port),
            ).returncode
            == 0
        )
        # Then others are served beside it
        assert "not hung" in say(server, "one", "ben@example.net")
        # And in the end its process is replaced, and its message, which hangs in each, is a dead letter
        wait_until(lambda: server.ledger()["dead"] == 1, "a dead letter", patience=200)
        wait_until(lambda: (row := by_name(server).get("worker-1")) and row["pid"] != first, "another worker")
        assert "not hung" in say(server, "two", "ben@example.net")
        assert "hang" in server.log()
