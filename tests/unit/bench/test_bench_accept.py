"""What the bench of accepting reckons with: CPU of many processes, quantiles, a server that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import bench.postfix
import pytest
from bench.harness import Absent
from bench.processes import family, family_cpu, probe_module, thread_cpu, ticks
from bench.receivers import receiver
from bench.suites.accept import quantile

#: proc_pid_stat(5): the 14th to 17th fields are utime, stime, cutime and cstime.
STAT = "4321 (a) R 1 (x) S 1 4321 4321 0 -1 4194304 100 200 0 0 31 12 250 74 20 0 1 0 99 0 0"
#: Burns CPU in a child that ends and is waited for, then waits for the end of its input.
FAMILY = """
import subprocess, sys
burn = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", burn], check=True)
print("done", flush=True)
sys.stdin.read()
"""
KINDS = ("content", "mail", "all")


def test_the_ticks_of_a_process_whose_name_has_brackets_and_spaces() -> None:
    assert ticks(STAT) == (43, 324)


def test_a_child_that_has_ended_still_counts() -> None:
    # Given a process whose child worked for 0.3 s and has ended
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"done\n"
        # Then the family has used that, though there is only one left
        assert family(process.pid) == [process.pid]
        assert family_cpu(process.pid) >= 0.25  # ticks are whole ones
        process.stdin.close()


def test_a_child_that_lives_counts_though_it_used_less_than_a_tick() -> None:
    # Given a process whose child has worked for a moment and waits
    command = [sys.executable, "-c", "import subprocess; subprocess.run(['cat'])"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        end = time.monotonic() + 30
        used = 0.0
        while not used:
            assert time.monotonic() < end, "the child did not come"
            used = sum(map(thread_cpu, family(process.pid)[1:]))
        # Then it counts for what its thread used, to the nanosecond
        own = thread_cpu(process.pid)
        assert family_cpu(process.pid) >= own + used
        process.stdin.close()


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0), ([*map(float, range(100))], 0.99, 99.0)],
)
def test_a_quantile(values: list[float], part: float, expected: float) -> None:
    assert quantile(values, part) == expected


def test_a_postfix_that_is_not_installed_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.postfix, "_MASTER", tmp_path / "no" / "master")
    with pytest.raises(Absent, match="not installed"), bench.postfix.postfix(tmp_path, bench.postfix.HOLD):
        raise AssertionError("it ran")
    assert list(tmp_path.iterdir()) == []


def test_a_postfix_without_root_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.postfix, "_MASTER", Path(sys.executable))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Absent, match="only root"), bench.postfix.postfix(tmp_path, bench.postfix.HOLD):
        raise AssertionError("it ran")


def test_one_mail_at_a_time_and_small_mails_beside_large_ones(tmp_path: Path) -> None:
    """Very short, against the product's own door; what is found is looked at by nobody, only that it is found."""
    with receiver("accept", tmp_path) as (port, _):
        found = probe_module("light", port, 3, 0.0, "anew")
        assert {name: len(values) for name, values in found.items()} == {"mail": 3, "content": 3, "all": 3}
        assert all(0 < one < mail < whole for one, mail, whole in zip(*(found[kind] for kind in KINDS), strict=True))
        found = probe_module("large", port, 0.01, 2, 1)
        assert min(found["quiet"] + found["beside"]) > 0
        assert found["large"] > 0
