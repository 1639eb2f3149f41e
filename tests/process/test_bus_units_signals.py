"""Units and real signals: in the start, in the stop, at the end of the interpreter."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bus_programs import BEGINNING, END, EXITED, IDLE, Child, programs, switches
from harness import wait_until

UNITS = (
    BEGINNING
    + """
import asyncio
from monsal.bus import Unit, Units

units = Units(bus)
units.subscribe()
units.add(Unit("store", start=lambda: say("store"), stop=lambda: say("-store")))
"""
)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    with programs(tmp_path) as runs:
        yield lambda code: runs(code, beginning=UNITS)


@pytest.mark.rule("bus.B10", "bus.B8")
def test_a_signal_during_the_start_cancels_waits_and_stops_cleanly(run: Callable[..., Child]) -> None:
    """(C2) The process ended with 70. A signal is heard at once: the main thread waits where it rings."""
    child = run("""
        async def serve():
            say("serving")
            try:
                await asyncio.Event().wait()
            finally:
                say("cancelled")

        def index():
            sys.stdin.readline()
            say("indexed")

        units.add(Unit("index", start=index, stop=lambda: say("-index"), requires=("store",)))
        units.add(Unit("web", start=serve, stop=lambda: say("-web"), requires=("store",)))
        units.add(Unit("never", start=lambda: say("never"), requires=("web",)))
        bus.start()
        bus.block()
        say(f"broken: {units.broken}")
    """)
    child.until("serving")
    child.signal(signal.SIGTERM)
    assert child.until("cancelled") == ["Caught signal SIGTERM.", "cancelled"]
    child.tell()
    code, lines, errors = child.end()
    assert lines == [
        "indexed",
        "Bus STOPPING",
        "-index",
        "-store",
        "Bus STOPPED",
        *EXITED,
        END[-1],
        "broken: None",
    ]
    assert (code, errors) == (0, "")


HANGS = """
    def hang():
        say("hanging")
        while True:
            threading.Event().wait(1000)

    bus.limits = Limits(hurry=0.2)
    units.add(Unit("web", {channel}=hang, requires=("store",)))
    bus.start()
    bus.block()
"""


@pytest.mark.rule("bus.B9", "bus.B6")
@pytest.mark.parametrize("channel", ["start", "drain", "stop"])
def test_a_second_signal_gives_up_a_unit_that_hangs_and_stops_the_others(
    run: Callable[..., Child], channel: str
) -> None:
    """(C11) One hung listener hung the exit for ever."""
    child = run(HANGS.format(channel=channel))
    child.until("hanging" if channel == "start" else "Bus STARTED")
    child.signal(signal.SIGTERM)
    child.until("Caught signal SIGTERM." if channel == "start" else "hanging")
    child.signal(signal.SIGTERM)
    code, lines, errors = child.end()
    assert "Asked to exit again: the shutdown is hurried." in lines
    assert f"unit web: {channel} took more than" in "".join(lines)
    assert "threading.Event().wait(1000)" in "".join(lines)
    assert "-store" in lines
    assert "Bus EXITED" in lines
    assert code == 1
    assert "TimeoutError" in errors


@pytest.mark.rule("bus.B8", "bus.B4")
def test_a_unit_that_fails_ends_the_process_with_its_error(run: Callable[..., Child]) -> None:
    """(C1) The error of a start was never raised."""
    child = run("""
        def fail():
            raise OSError("port in use")

        units.add(Unit("web", start=fail, requires=("store",)))
        bus.start()
    """)
    code, lines, errors = child.end()
    assert code == 1
    assert "OSError: port in use" in errors
    assert [line for line in lines if line.startswith(("store", "-store", "Bus"))] == [
        "Bus STARTING",
        "store",
        "-store",
        "Bus STOPPING",
        "Bus STOPPED",
        *EXITED,
    ]


@pytest.mark.rule("bus.B18", "bus.B4")
def test_a_unit_that_breaks_ends_the_process_with_a_code_that_tells(run: Callable[..., Child]) -> None:
    """The stop is clean, but the exit raises what broke, and so does `block`."""
    child = run("""
        units.add(Unit("web", requires=("store",)))
        bus.start()
        units.failed("web", "its child died")
        try:
            bus.block()
        finally:
            say(f"broken: {units.broken}")
    """)
    code, lines, errors = child.end()
    said = [line for line in lines if line.startswith(("Bus", "Unit", "-", END[-1], "broken", "monsal.bus"))]
    assert said[said.index("Bus STARTED") :] == [
        "Bus STARTED",
        "Unit 'web' broke: its child died",
        "Bus STOPPING",
        "-store",
        "Bus STOPPED",
        EXITED[0],
        "monsal.bus.unit.UnitError: unit 'web' broke: its child died",
        EXITED[1],
        END[-1],
        "broken: ('web', 'its child died')",
    ]
    assert code == 1
    assert "UnitError: unit 'web' broke: its child died" in errors


@pytest.mark.rule("bus.R21")
def test_units_that_were_left_running_are_stopped_at_the_end_of_the_interpreter(run: Callable[..., Child]) -> None:
    child = run("""
        async def leave():
            say("-web")

        units.add(Unit("web", stop=leave, requires=("store",)))
        bus.start()
    """)
    code, lines, errors = child.end()
    assert lines[lines.index("Bus STARTED") :] == [
        "Bus STARTED",
        "Bus STOPPING",
        "-web",
        "-store",
        "Bus STOPPED",
        *EXITED,
    ]
    assert code == 0
    assert "RuntimeWarning" in errors


@pytest.mark.rule("bus.B7")
def test_started_units_wake_nobody(run: Callable[..., Child]) -> None:
    child = run(IDLE)
    child.until("Bus STARTED")
    child.until_asleep()
    wait_until(lambda: len(switches(child.process.pid)) == 1, "the end of the threads of the calls; none is to watch")
    child.signal(signal.SIGTERM)
    assert child.end()[0] == 0
