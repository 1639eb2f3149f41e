"""A real server, as an operator has it: run, look, speak, ingest, stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Server, wait_until

ENVIRON = {**os.environ, "MONSAL_INGRESS": "smtp://127.0.0.1:0,lmtp:run/lmtp.sock"}
ANN = "ann@example.net"
DESK = "order@example.com"


def monsal(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monsal.cli", *arguments]
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, capture_output=True, text=True, check=False, timeout=120, env=ENVIRON, **options
    )


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    assert monsal("new", str(home / "desk")).returncode == 0
    with Server(home / "desk", environ=ENVIRON) as server:
        yield server


def test_a_day_of_an_operator(server: Server) -> None:
    where = ("--dir", str(server.directory))
    assert monsal("status", *where).returncode == 1
    early = monsal("ingest", "--to", DESK, "--from", "eve@example.net", *where, input="Subject: hi\n\nHello\n")
    assert early.returncode == 0, early.stderr
    assert "when the server starts" in early.stdout
    refused = monsal("ingest", "--to", "nobody@example.com", *where, input="Subject: hi\n\nHello\n")
    assert refused.returncode == 65

    server.start()
    hint = f' say {DESK} --dir {server.directory.resolve()} "Hello"'
    wait_until(lambda: hint in server.log(), f"the hint what to type next; the server says:\n{server.log()}")
    said = monsal("say", DESK, "Hello", "--from", ANN, "--wait", "60", *where)
    assert said.returncode == 0, said.stderr
    assert "What would you like?" in said.stdout
    piped = monsal("ingest", "--to", DESK, "--from", ANN, *where, input=f"From: {ANN}\nSubject: hi\n\nSome tea\n")
    assert piped.returncode == 0, piped.stderr
    server.wait_idle()
    status = monsal("status", "--json", *where)
    assert status.returncode == 0
    assert json.loads(status.stdout)["ledger"]["done"] == 3
    [ann] = monsal("states", "show", ANN, "--json", *where).stdout.splitlines()
    assert json.loads(ann)["state"] == "CONFIRMING"

    second = monsal("run", *where)
    assert second.returncode == 75
    assert str(server.ready["pid"]) in second.stderr
    assert f" -m monsal.cli stop --dir {server.directory.resolve()}` ends it" in second.stderr
    astray = monsal("say", "nobody@example.com", "Hello", *where)
    assert astray.returncode == 65
    assert "550 5.1.1" in astray.stdout
    assert "routes --test nobody@example.com" in astray.stderr
    assert monsal("run", "--workers", "300", *where).returncode == 64

    assert monsal("stop", *where).returncode == 0
    assert server.process is not None
    assert server.process.wait(60) == 0
    assert monsal("stop", *where).returncode == 75
    [again] = monsal("states", "show", ANN, "--json", *where).stdout.splitlines()
    assert again == ann


def test_a_taken_port_is_told_without_a_traceback(server: Server) -> None:
    server.start()
    other = server.directory.with_name("other")
    assert monsal("new", str(other)).returncode == 0
    taken = {**ENVIRON, "MONSAL_INGRESS": f"smtp://{server.ready['smtp'][0]}"}
    ended = subprocess.run(
        [sys.executable, "-m", "monsal.cli", "run", "--dir", str(other)],
        capture_output=True, text=True, check=False, timeout=120, env=taken,
    )  # fmt: skip
    assert ended.returncode == 69
    url = taken["MONSAL_INGRESS"]
    place, _, port = url.rpartition(":")
    free = f"{place}:{int(port) + 1}"
    assert ended.stderr.splitlines()[-1] == (
        f"monsal: {url} is in use: another monsal? Stop it, or choose a port: "
        f'ingress = ["{free}"] in monsal.toml, or MONSAL_INGRESS={free}'
    )
