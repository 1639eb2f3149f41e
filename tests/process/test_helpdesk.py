"""The help desk and its client program, as their reader would run them, with a crash between."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import PATIENCE, ROOT, Server, background, monsal_command, wait_until

EXAMPLE = ROOT / "examples" / "helpdesk"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Server]:
    home = tmp_path / "helpdesk"
    shutil.copytree(EXAMPLE, home, ignore=shutil.ignore_patterns("run", "__pycache__", ".pytest_cache"))
    (home / "run").mkdir()
    with Server(home, environ={"MONSAL_INGRESS": "smtp://127.0.0.1:0"}) as server:
        server.start()
        yield server


def _client(desk: Server, *arguments: str) -> list[str]:
    return [sys.executable, str(desk.directory / "client.py"), *arguments]


def _run(desk: Server, *arguments: str) -> str:
    ended = subprocess.run(
        _client(desk, *arguments), capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=desk.directory
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.strip()


def _programs(desk: Server) -> int:
    """How many programs are connected, as the server says it."""
    command = [*monsal_command(), "status", "--json", "--dir", str(desk.directory)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    programs: int = json.loads(found.stdout)["rpc"]["programs"]
    return programs


def test_the_client_says_what_it_can_do(desk: Server) -> None:
    said = _run(desk, "--help")
    for word in ("tickets", "open", "close", "watch", "examples:"):
        assert word in said


def test_a_ticket_from_the_client_outlives_a_crash_and_is_opened_once(desk: Server, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    with heard.open("wb") as out, background(_client(desk, "watch"), stdout=out, cwd=desk.directory):
        wait_until(lambda: _programs(desk) == 1, "the watcher")
        # Killed at the moment at which the client has its answer.
        first = _run(desk, "open", "ann@example.net", "My modem", "It does not work.")
        desk.kill()

        # While nobody is there, the next client asks again and again.
        words = ("open", "bob@example.net", "My phone", "Nor does this.")
        said = tmp_path / "said"
        with said.open("wb") as file, background(_client(desk, *words), stdout=file, cwd=desk.directory) as second:
            desk.start()
            assert second.wait(PATIENCE) == 0
        address = said.read_text().strip()
        desk.wait_idle()
        assert sorted(desk.rows("select customer, subject, status from ticket")) == [
            ("ann@example.net", "My modem", "open"),
            ("bob@example.net", "My phone", "open"),
        ]
        assert desk.ledger("call")["done"] == 2

        wait_until(lambda: _programs(desk) == 1, "the watcher, which comes back")
        third = _run(desk, "open", "cat@example.net", "My desk", "It is too high.")
        wait_until(lambda: f"{third}  cat@example.net  My desk" in heard.read_text(), "the news of a ticket")

        listed = _run(desk, "tickets", "--state", "open").splitlines()
        assert [line.split()[0] for line in listed] == [third, address, first]
        assert _run(desk, "close", first) == "closed"
        wait_until(lambda: first not in _run(desk, "tickets", "--state", "open"), "the end of a ticket")


def test_the_client_says_what_is_wrong(desk: Server) -> None:
    for arguments, word in (
        (("close", "ticket-0123456789@example.com"), "there is no ticket"),
        (("open", "nobody", "x", "y"), "nobody"),
        (("--at", "unix:run/none.sock", "tickets"), "nobody listens"),
    ):
        ended = subprocess.run(
            _client(desk, *arguments), capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=desk.directory
        )
        assert ended.returncode == 1
        assert word in ended.stderr
        assert "Traceback" not in ended.stderr
