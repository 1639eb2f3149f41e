"""Instructions are counted in all threads, of what begins while they are counted, and by whose they are."""

from __future__ import annotations

import sys
import threading

import pytest
from bench.probes.bytecodes import Tracer, table


def work(times: int) -> int:
    found = 0
    for number in range(times):
        found += number
    return found


@pytest.fixture
def tracer() -> Tracer:
    return Tracer()


def counted(tracer: Tracer, times: int) -> int:
    """Let a thread of its own work while it is counted."""
    tracer.listen()
    try:
        tracer.is_on = True
        thread = threading.Thread(target=work, args=(times,))
        thread.start()
        thread.join()
        tracer.is_on = False
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]  # typeshed knows no None here
    return tracer.instructions[work.__code__]


def test_what_a_thread_does_is_counted(tracer: Tracer) -> None:
    assert counted(tracer, 1000) > counted(Tracer(), 10) + 990
    assert tracer.calls[work.__code__] == 1


def test_what_is_done_while_nothing_is_counted_is_not(tracer: Tracer) -> None:
    counted(tracer, 10)
    before = tracer.instructions[work.__code__]
    tracer.trace(sys._getframe(), "call", None)
    work(1000)
    assert tracer.instructions[work.__code__] == before


def test_the_lines_are_of_one_mail(tracer: Tracer) -> None:
    counted(tracer, 10)
    first, *lines = table(tracer, 2)
    instructions, calls = tracer.instructions.total() / 2, tracer.calls.total() / 2
    assert first == f"{instructions:9.1f} instructions and {calls:.1f} calls a mail, of 2 mails"
    assert any(line.endswith(f"{__file__} work") and " 0.50 " in line for line in lines)
