"""The probes of remote calls: their clocks, and that each way of calling counts what was called."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.harness import run_contest
from bench.probes import rpc_unkind
from bench.probes.rpc_clock import VALUE, Meter, cpu_time, flood, in_batches, main, one_by_one, percentile, sliding
from bench.probes.rpc_unkind import ATTACKS
from bench.suites.rpc import CONTESTANTS, OURS, SUITE

ME = os.getpid()


class Callee:
    """Counts, and says what it was told to."""

    def __init__(self, says: object = VALUE) -> None:
        self.says = says
        self.calls = 0
        self.most = self.open = 0

    def call(self) -> object:
        self.calls += 1
        return self.says

    async def call_async(self) -> object:
        self._begin()
        await asyncio.sleep(0)
        self.open -= 1
        return self.call()

    def _begin(self) -> None:
        self.open += 1
        self.most = max(self.most, self.open)

    def begin(self) -> int:
        self._begin()
        return self.open

    def finish(self, begun: int) -> object:
        self.open -= 1
        return self.call()

    def batch(self, number: int) -> list[object]:
        self.most = number
        return [self.call() for _ in range(number)]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.995, 100), (1.0, 100)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], share) == value
    assert percentile([7.0], share) == 7.0


def test_the_clock_of_a_process_is_that_which_it_reads_itself() -> None:
    before, clock, after = time.process_time(), cpu_time(ME), time.process_time()
    assert before <= clock <= after


def test_cpu_is_that_of_both_sides() -> None:
    # Given a client that is its own server
    meter = Meter(ME)
    until = time.process_time() + 0.01
    while time.process_time() < until:
        pass
    # When it has made 10 calls
    found = meter.over(10, [1e-6, 2e-6, 3e-6])
    # Then each of its microseconds counts on both sides
    assert found["cpu_us"] == pytest.approx(found["client_us"] + found["server_us"])
    assert found["server_us"] >= 1000
    assert (found["p50_us"], found["p99_us"]) == (pytest.approx(2.0), pytest.approx(3.0))


def test_a_call_at_a_time_has_its_waits() -> None:
    found = one_by_one(Callee().call, ME, 0.001)
    assert set(found) == {"rate", "cpu_us", "client_us", "server_us", "p50_us", "p99_us"}


def test_a_window_is_kept_full_and_emptied_at_the_end() -> None:
    callee = Callee()
    found = sliding(callee.begin, callee.finish, ME, 8, 0.001)
    assert (callee.most, callee.open) == (8, 0)
    assert "p99_us" not in found


def test_batches_and_tasks_have_so_many_in_flight() -> None:
    batched, flooded = Callee(), Callee()
    in_batches(batched.batch, ME, 8, 0.001)
    assert batched.most == 8
    asyncio.run(flood(flooded.call_async, ME, 8, 0.001))
    assert (flooded.most, flooded.open) == (8, 0)
    assert "p50_us" in asyncio.run(flood(Callee().call_async, ME, 1, 0.001))


@pytest.mark.parametrize(
    "measure",
    [
        lambda callee: one_by_one(callee.call, ME, 0.001),
        lambda callee: in_batches(callee.batch, ME, 4, 0.001),
        lambda callee: sliding(callee.begin, callee.finish, ME, 4, 0.001),
        lambda callee: asyncio.run(flood(callee.call_async, ME, 4, 0.001)),
    ],
)
def test_an_echo_that_is_none_is_not_measured(measure: Callable[[Callee], object]) -> None:
    with pytest.raises(ValueError, match="the echo is"):
        measure(Callee(says={"worker": "w1"}))


def test_a_probe_serves_or_calls(capsys: pytest.CaptureFixture[str]) -> None:
    served: list[str] = []
    main(served.append, lambda *given: {}, ["serve", "unix:x"])
    main(served.append, lambda *given: {"flight": float(given[2])}, ["call", "unix:x", "7", "64", "0.5"])
    assert served == ["unix:x"]
    assert json.loads(capsys.readouterr().out) == {"flight": 64.0}


def test_each_peer_is_to_be_beaten_on_each_carrier_that_it_has() -> None:
    tables = SUITE.tables(0.1, True)[:2]
    for carrier, table in zip(("unix", "tcp"), tables, strict=True):
        peers = {name for name, one in CONTESTANTS.items() if one.peer is not None and carrier in one.carriers}
        assert {goal.contestant for goal in table.goals} == peers | {OURS}
    assert not any(one.peer for one in CONTESTANTS.values() if "tcp" not in one.carriers)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_goes_on_until_its_time_is_over(
    attack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a server that takes one connection and hangs up at the first bytes
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "echo.sock"))
        listener.listen()

        def hang_up() -> None:
            while len(heard) < 2:
                connection, _ = listener.accept()
                with connection:
                    heard.append(connection.recv(100))

        server = threading.Thread(target=hang_up)
        server.start()
        # When it is attacked
        rpc_unkind.main(f"unix:{tmp_path / 'echo.sock'}", attack, "0.15")
        server.join()
    # Then the attacker comes again
    begun, told = capsys.readouterr().out.splitlines()
    assert begun == "begun"
    assert json.loads(told)["cut"] >= 1
    assert heard[0]


def test_our_side_of_the_suite_runs() -> None:
    """Very short and without peers; what it finds is looked at by nobody, only that it finds it."""
    table = SUITE.tables(0.01, False)[0]
    for contest in table.contests:
        rows = {row.contestant: row for row in run_contest(table, contest, 1, 1)}
        assert list(rows) == ["socket", "protocol", OURS, f"{OURS} msgpack"]
        assert {row.note for row in rows.values()} == {""}
        assert {"cpu_us", "client_us", "server_us", "rate"} <= set(rows[OURS].figures)
