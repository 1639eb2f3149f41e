"""The server on several processes: whole turns with one and two workers, and taking up new code under load."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from tools.peers import environment

from bench.document import Column
from bench.harness import Absent, Contest, Failed, Goal, Sample, Suite, Table, TimesBetter, in_turn
from bench.processes import ROOT, cpu_seconds, family, our_environment, plain_environment

__all__ = ["SUITE"]

#: Mails a second, or requests, while code is taken up: a fraction of what each can do, so that only the reload shows.
_CALM: Final = 60
_CONNECTIONS: Final = 6
#: Seconds of load before and after a reload.
_AROUND: Final = 1.5
_PATIENCE: Final = 90.0

_HANDLERS: Final = """
{slow}
from monsal import reply, route

@route("help@(host)")
def START(message):
    reply("What would you like?", even_if_automatic=True)
    return NEXT

@route("help@(host)")
def NEXT(message):
    reply("What else?", even_if_automatic=True)
    return START
"""
_APP: Final = """
from monsal import App, literal
app = App("handlers", captures={"host": literal("example.com")}, ingress=["smtp://127.0.0.1:0"],
          relay="capture:run/sent", max_replies_per_hour=None, log_level="warning")
"""
_WSGI: Final = """
{slow}
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""
_ASGI: Final = """
{slow}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            said = await receive()
            await send({"type": said["type"] + ".complete"})
            if said["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""
_SLOW: Final = "import time; time.sleep(2)"
_BROKEN: Final = "import no_such_module"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + _PATIENCE
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"waited in vain for {what}")
        time.sleep(0.02)
    return found


@contextmanager
def _ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


def _monsal(*words: str) -> list[str]:
    return [sys.executable, "-m", "monsal.cli", *words]


@contextmanager
def _server(home: Path, workers: int) -> Iterator[subprocess.Popen[Any]]:
    (home / "app.py").write_text(_APP, encoding="utf-8")
    (home / "handlers.py").write_text(_HANDLERS.replace("{slow}", ""), encoding="utf-8")
    command = _monsal("run", "--dir", str(home), "--workers", str(workers))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=our_environment(), stdout=log, stderr=log)
    with _ended(process):
        _wait((home / "run" / "ready.json").exists, f"the server:\n{(home / 'log').read_text()[-500:]}")
        yield process


def _load(home: Path, *options: str) -> subprocess.Popen[Any]:
    command = [
        *(sys.executable, "-m", "bench.load", "--ready", str(home / "run" / "ready.json")),
        *("--recipient", "help@example.com", "--correspondents", "500", "--summary", str(home / "summary"), *options),
    ]
    return subprocess.Popen(command, cwd=ROOT, env=our_environment(), stderr=subprocess.DEVNULL)


def _summary(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "summary").read_text(encoding="utf-8"))
    return found


def _idle(home: Path) -> bool:
    told = subprocess.run(
        _monsal("status", "--dir", str(home), "--json"),
        env=our_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    with suppress(ValueError, KeyError):
        status = json.loads(told.stdout)
        return not (status["ledger"]["waiting"] + status["ledger"]["running"] + status["outbox"]["waiting"])
    return False


def _turns(workers: int, seconds: float, turn: int) -> Sample:
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place, _server(Path(place), workers) as server:
        home = Path(place)
        before = {pid: cpu_seconds(pid) for pid in family(server.pid)}
        began = time.monotonic()
        load = _load(home, "--connections", "10", "--seconds", str(seconds), "--seed", str(turn + 1))
        if load.wait(_PATIENCE):
            raise Failed(f"the load ended with {load.returncode}")
        _wait(partial(_idle, home), "the last turn")
        took = time.monotonic() - began
        cpu = sum(cpu_seconds(pid) - before.get(pid, 0.0) for pid in family(server.pid))
        mails = _summary(home)["acknowledged"]
    return {"rate": mails / took, "cpu_us": 1e6 * cpu / max(mails, 1)}


def _reload_ours(slow: str, turn: int) -> Sample:
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place, _server(Path(place), 2):
        home = Path(place)
        with _ended(_load(home, "--connections", str(_CONNECTIONS), "--rate", str(_CALM))) as load:
            time.sleep(_AROUND)
            (home / "handlers.py").write_text(_HANDLERS.replace("{slow}", slow), encoding="utf-8")
            done = subprocess.run(
                _monsal("reload", "--dir", place), env=our_environment(), capture_output=True, check=False
            )
            if bool(done.returncode) is not (slow == _BROKEN):
                raise Failed(f"reload ended with {done.returncode}")
            time.sleep(_AROUND)
            load.send_signal(signal.SIGTERM)
            load.wait(_PATIENCE)
        found = _summary(home)
        _wait(partial(_idle, home), "the last turn")
        status = json.loads(
            subprocess.run(
                _monsal("status", "--dir", place, "--json"), env=our_environment(), capture_output=True, check=False
            ).stdout
        )
    refused = sum(count for what, count in found["troubles"].items() if what.startswith("connect"))
    lost = max(0, found["acknowledged"] - status["ledger"]["done"])
    return {"refused": refused, "lost": lost, "gap_ms": found["gap_ms"]}


def _http(peer: str, slow: str, turn: int) -> Sample:
    try:
        python = str(environment(peer))
    except (OSError, RuntimeError) as reason:
        raise Absent(f"not installed: {str(reason).splitlines()[0]}") from reason
    code = _WSGI if peer == "gunicorn" else _ASGI
    port = _free_port()
    options = ["-w", "2", "-b", f"127.0.0.1:{port}"] if peer == "gunicorn" else ["--workers", "2", "--port", str(port)]
    variables = {**plain_environment(), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory(prefix="monsal-bench-") as place:
        module = Path(place) / "served.py"
        module.write_text(code.replace("{slow}", ""), encoding="utf-8")
        server = subprocess.Popen(
            [python, "-m", peer, *options, "served:app"],
            cwd=place,
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with _ended(server):
            _wait(partial(_answers, port), peer)
            command = [sys.executable, "-m", "bench.probes.reload_http", str(port), str(_CONNECTIONS), str(_CALM)]
            with _ended(subprocess.Popen(command, cwd=ROOT, env=our_environment(), stdout=subprocess.PIPE)) as load:
                time.sleep(_AROUND)
                module.write_text(code.replace("{slow}", slow), encoding="utf-8")
                os.kill(server.pid, signal.SIGHUP)
                # Nobody says when it is done: time for the import, and for what follows.
                time.sleep((3.0 if slow else 1.0) + _AROUND)
                load.send_signal(signal.SIGTERM)
                said, _ = load.communicate(timeout=_PATIENCE)
    found = json.loads(said)
    return {"refused": found["refused"], "lost": found["cut"], "gap_ms": found["gap_ms"]}


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


_RATE = Column(key="rate", heading="turns/s", spread=True, more_is_better=True)
_CPU = Column(key="cpu_us", heading="CPU us a mail")
_GAP = Column(key="gap_ms", heading="longest gap ms", digits=1, spread=True)
_REFUSED = Column(key="refused", heading="refused", digits=0)
_LOST = Column(key="lost", heading="lost", digits=0)
_CASES: Final = {"fast boot": "", "2 s import": _SLOW, "broken code": _BROKEN}
_ONE = "one process"


def _tables(seconds: float, peers: bool) -> Sequence[Table]:
    servers = {_ONE: 0, "1 worker": 1, "2 workers": 2}
    others = ("gunicorn", "uvicorn") if peers else ()
    return [
        Table(
            name="turns",
            title="Whole turns on one and several processes",
            text="SMTP in over 10 sessions, a stateful handler of 500 correspondents, its reply filed in a maildir; "
            "CPU is that of all\nprocesses of the server. The load has the same cores.",
            contestant="server",
            columns=(_RATE, _CPU),
            contests=[Contest("10 sessions", in_turn({n: partial(_turns, w, seconds) for n, w in servers.items()}))],
            ratios=(TimesBetter("2 workers are", "2 workers", _RATE),),
        ),
        Table(
            name="reload",
            title="New code under load",
            text=f"`monsal reload`, or SIGHUP, under {_CALM} mails or requests a second. `lost` are mails that were "
            "acknowledged and are not\nthere, or requests that were cut off; the gap is the longest time without an "
            "answer.",
            contestant="server",
            columns=(_REFUSED, _LOST, _GAP),
            contests=[
                Contest(
                    case,
                    in_turn({"monsal": partial(_reload_ours, slow), **{p: partial(_http, p, slow) for p in others}}),
                )
                for case, slow in _CASES.items()
            ],
            goals=[
                Goal(contest=case, contestant="monsal", of=key, at_most=most, always=True)
                for case in _CASES
                for key, most in (("refused", 0.0), ("lost", 0.0), ("gap_ms", 50.0))
            ],
        ),
    ]


SUITE = Suite(
    title="Several processes",
    about="whole turns with workers, and new code under load, against gunicorn and uvicorn",
    seconds=4.0,
    rounds=3,
    tables=_tables,
)
