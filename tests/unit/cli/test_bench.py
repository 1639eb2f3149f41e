"""`monsal bench`: figures that belong together, nothing left behind, and words for a server that will not start."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from cli_world import Invoke

from monsal.cli.measure import Load, Times, _send, measure_flush, measure_server
from monsal.errors import MonsalError


def test_figures_of_a_short_run_are_complete_and_nothing_stays(home: Path, invoke: Invoke) -> None:
    (home / "run").mkdir()
    result = invoke("bench", "--seconds", "0.2", "--connections", "3", "--json", "--dir", home)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["directory"] == str(home.resolve())
    assert found["accept"]["count"] >= 3
    # Every mail that was taken had its turn.
    assert found["turn"]["count"] == found["accept"]["count"]
    for name in ("flush", "accept", "turn"):
        assert 0 <= found[name]["p50_ms"] <= found[name]["p99_ms"]
        assert found[name]["per_second"] > 0
    assert [path.name for path in home.rglob("*")] == ["run"]


def test_people_read_a_line_for_each_figure(home: Path, invoke: Invoke) -> None:
    result = invoke("bench", "--seconds", "0.1", "--connections", "1", "--dir", home)
    assert [line.split()[0] for line in result.stdout.splitlines()[1:4]] == ["flush", "accept", "turn"]
    assert f"store in {home.resolve()}" in result.stdout


def test_times_are_ranked() -> None:
    found = Times.of([0.001 * number for number in range(100, -1, -1)], 2.0)
    assert found == Times(count=101, per_second=50.5, p50_ms=50.0, p99_ms=99.0)
    with pytest.raises(MonsalError, match="nothing was done"):
        Times.of([], 1.0)


def test_a_flush_is_measured_at_least_once(tmp_path: Path) -> None:
    assert measure_flush(tmp_path, 0.0).count == 1
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "monsal.db").mkdir()
    with pytest.raises(MonsalError, match="did not start: monsal: the store cannot be made"):
        measure_server(tmp_path, Load(seconds=0.1, connections=1))


def test_a_refusal_of_the_server_is_quoted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:

        def refuse() -> None:
            peer, _ = door.accept()
            with peer:
                peer.sendall(b"421-not\r\n421 now\r\n")

        server = threading.Thread(target=refuse)
        server.start()
        with pytest.raises(MonsalError, match="the server answered 421 now"):
            _send(door.getsockname()[1], Load(seconds=0.1, connections=1))
        server.join(30)


@pytest.mark.parametrize("wrong", [("--seconds", "0"), ("--connections", "0"), ("--dir", "/nowhere")])
def test_wrong_options_are_refused(invoke: Invoke, wrong: tuple[str, str]) -> None:
    assert invoke("bench", *wrong).exit_code == 64
