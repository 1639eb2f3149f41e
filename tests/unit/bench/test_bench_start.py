"""The suite of start and memory: what it reads of a process, and that its servers and commands run."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.suites.start import AIOSMTPD, BARE, commands, family, memory_alone, proportional_set


def test_the_memory_of_a_process_is_that_of_the_kernel() -> None:
    # This process is an interpreter with the tests in it: some megabytes, and less than the machine has.
    assert 1 < proportional_set(os.getpid()) < 100_000


def test_a_family_is_a_process_and_all_below_it() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()  # both are there
        found = family(process.pid)
        assert found[0] == process.pid
        assert len(found) == 2
        process.communicate(b"\n")
    assert process.returncode == 0


def test_commands_and_a_server_are_measured() -> None:
    """As few and short as can be; what it finds is looked at by nobody, only that it finds it."""
    found = commands([BARE, "monsal status"], 0.001, 1)
    assert set(found["monsal status"]) == {"wall_ms", "cpu_ms", "over_ms"}
    assert set(memory_alone(AIOSMTPD, 0.05, 1)) == {"pss_mb"}
