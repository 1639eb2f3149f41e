"""The bus and real signals: with a terminal and without, in every step, once, twice and three times."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bus_programs import BEGINNING, END, EXITED, IDLE, STOPPED, Child, programs


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    with programs(tmp_path) as runs:
        yield runs


@pytest.mark.rule("bus.B9", "bus.R17")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_process_cleanly(run: Callable[..., Child], number: signal.Signals) -> None:
    child = run(IDLE)
    child.until("Bus STARTED")
    child.signal(number)
    code, lines, errors = child.end()
    assert lines == [f"Caught signal {number.name}.", *END, "main is over"]
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.R17")
def test_an_interrupt_without_a_handler_of_ours_exits(run: Callable[..., Child]) -> None:
    child = run(
        """
        def main():
            bus.unsubscribe("main", main)
            say("blocking")

        bus.subscribe("main", main)
        bus.start()
        bus.block()
        say("main is over")
        """,
        beginning=BEGINNING.replace("SignalHandler(bus).subscribe()", ""),
    )
    child.until("blocking")
    child.signal(signal.SIGINT)
    code, lines, errors = child.end()
    assert lines == ["Keyboard Interrupt: shutting down bus", *END, "main is over"]
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.B10")
def test_a_signal_during_start_is_a_clean_stop(run: Callable[..., Child]) -> None:
    """(C2) The process ended with 70."""
    child = run("""
        def opens():
            say("opening")
            sys.stdin.readline()
            say("open")

        bus.subscribe("start", opens, 10)
        bus.subscribe("start", lambda: say("never"), 20)
        bus.subscribe("stop", lambda: say("closed"))
        bus.subscribe("SIGTERM", lambda: say("noted"), 90)
        bus.start()
        bus.block()
    """)
    child.until("opening")
    child.signal(signal.SIGTERM)
    assert child.until("noted") == ["Caught signal SIGTERM.", "noted"]
    child.tell()
    code, lines, errors = child.end()
    assert lines == ["open", "Bus STOPPING", "closed", "Bus STOPPED", *EXITED, END[-1]]
    assert (code, errors) == (0, "")


HANGS = """
    import signal, time

    def hangs():
        say("hanging")
        while True:
            time.sleep(1000)

    bus.limits = Limits(hurry=0.2)
    bus.subscribe("{channel}", hangs, 10)
    bus.subscribe("stop", lambda: say("stopped"), 20)
    bus.subscribe("exit", lambda: say("exited"))
    bus.start()
    bus.block()
"""


@pytest.mark.rule("bus.B9", "bus.B6")
def test_a_second_signal_gives_up_a_hanging_stop_listener(run: Callable[..., Child]) -> None:
    """(C11) It hung for ever, and swallowed every signal."""
    child = run(HANGS.format(channel="stop"))
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    child.until("hanging")
    child.signal(signal.SIGINT)
    code, lines, errors = child.end()
    assert lines[:2] == ["Caught signal SIGINT.", "Asked to exit again: the shutdown is hurried."]
    assert [line for line in lines if line in ("stopped", "exited", *EXITED)] == [
        "stopped",
        "Bus EXITING",
        "exited",
        "Bus EXITED",
    ]
    assert "time.sleep(1000)" in "".join(lines)
    assert code == 1
    assert "TimeoutError" in errors


@pytest.mark.rule("bus.B9")
@pytest.mark.parametrize("channel", ["start", "stop"])
def test_a_third_signal_ends_the_process_by_that_signal(run: Callable[..., Child], channel: str) -> None:
    child = run(HANGS.replace("hurry=0.2", "hurry=1000").format(channel=channel))
    if channel == "stop":
        child.until("Bus STARTED")
    else:
        child.until("hanging")
    child.signal(signal.SIGTERM)
    child.until("Caught signal SIGTERM." if channel == "start" else "hanging")
    child.until_asleep()
    child.signal(signal.SIGTERM)
    child.until("Asked to exit again")
    child.until_asleep()
    child.signal(signal.SIGTERM)
    code, _, _ = child.end()
    assert code == -signal.SIGTERM


@pytest.mark.rule("bus.B9")
def test_a_signal_is_not_lost_while_the_main_thread_is_elsewhere(run: Callable[..., Child]) -> None:
    child = run("""
        bus.start()
        sys.stdin.readline()
        say(bus.state)
    """)
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    assert child.until("Bus EXITED") == ["Caught signal SIGTERM.", *STOPPED, *EXITED]
    child.tell()
    assert child.end() == (0, ["states.EXITING"], "")


@pytest.mark.rule("bus.R15", "bus.B15")
@pytest.mark.parametrize(
    ("number", "lines"),
    [
        (signal.SIGUSR1, ["Caught signal SIGUSR1.", "Bus graceful"]),
        (signal.SIGHUP, ["Caught signal SIGHUP.", "SIGHUP caught without a terminal. Reloading.", "Bus graceful"]),
    ],
)
def test_a_signal_reloads_what_can_be_reloaded(
    run: Callable[..., Child], number: signal.Signals, lines: list[str]
) -> None:
    child = run(IDLE)
    child.until("Bus STARTED")
    child.signal(number)
    assert child.until("Bus graceful") == lines
    child.signal(signal.SIGTERM)
    assert child.end()[0] == 0


@pytest.mark.rule("bus.B15")
def test_a_hangup_on_a_terminal_exits(run: Callable[..., Child]) -> None:
    ours, theirs = pty.openpty()
    try:
        child = run(IDLE, stdin=theirs)
        child.until("Bus STARTED")
        child.signal(signal.SIGHUP)
        code, lines, _ = child.end()
    finally:
        os.close(ours)
        os.close(theirs)
    assert lines == ["Caught signal SIGHUP.", "SIGHUP caught on a terminal. Exiting.", *END, "main is over"]
    assert code == 0


@pytest.fixture
def terminal() -> Iterator[tuple[int, dict[str, Any]]]:
    """Our end of a terminal, and how to run a program that it controls."""
    ours, theirs = pty.openpty()
    ends = [ours, theirs]

    def take_it() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    try:
        yield ours, {"stdin": theirs, "start_new_session": True, "preexec_fn": take_it}
    finally:
        for end in ends:
            os.close(end)


@pytest.mark.rule("bus.B9", "bus.R17")
def test_an_interrupt_typed_on_the_terminal_exits(
    run: Callable[..., Child], terminal: tuple[int, dict[str, Any]]
) -> None:
    ours, options = terminal
    child = run(IDLE, **options)
    child.until("Bus STARTED")
    os.write(ours, b"\x03")
    code, lines, errors = child.end()
    assert lines == ["Caught signal SIGINT.", *END, "main is over"]
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.B15")
def test_a_terminal_that_goes_away_ends_what_runs_on_it(run: Callable[..., Child]) -> None:
    """The kernel sends the signal, and then nothing can be asked of the terminal any more."""
    ours, theirs = pty.openpty()
    try:
        child = run(IDLE, stdin=theirs, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        child.until("Bus STARTED")
    finally:
        os.close(theirs)
        os.close(ours)
    code, lines, _ = child.end()
    assert lines == ["Caught signal SIGHUP.", "SIGHUP caught on a terminal. Exiting.", *END, "main is over"]
    assert code == 0


@pytest.mark.rule("bus.B9", "bus.B6", "bus.B4")
def test_a_second_signal_goes_on_without_a_start_that_hangs(run: Callable[..., Child]) -> None:
    child = run(HANGS.format(channel="start"))
    child.until("hanging")
    child.signal(signal.SIGTERM)
    child.until("Caught signal SIGTERM.")
    child.until_asleep()
    child.signal(signal.SIGTERM)
    lines = child.until("Bus EXITED")
    assert "time.sleep(1000)" in "".join(lines)
    assert [line for line in lines if line in ("stopped", "exited")] == ["stopped", "exited"]
    # The thread that hangs is the main one, so only a third signal ends the process.
    child.until_asleep()
    child.signal(signal.SIGTERM)
    assert child.end()[0] == -signal.SIGTERM


@pytest.mark.rule("bus.B9")
def test_a_signal_is_heard_although_the_listener_of_another_one_hangs(run: Callable[..., Child]) -> None:
    child = run(HANGS.format(channel="graceful"))
    child.until("Bus STARTED")
    # In block, so that it hangs on the main thread.
    child.until_asleep()
    child.signal(signal.SIGUSR1)
    child.until("hanging")
    child.until_asleep()
    child.signal(signal.SIGTERM)
    lines = child.until("Bus EXITED")
    assert [line for line in lines if line in ("stopped", "exited")] == ["stopped", "exited"]
    for _ in range(2):
        child.until_asleep()
        child.signal(signal.SIGTERM)
    assert child.end()[0] == -signal.SIGTERM


@pytest.mark.rule("bus.B9")
def test_different_signals_are_all_done_one_after_the_other(run: Callable[..., Child]) -> None:
    child = run("""
        bus.subscribe("graceful", lambda: say("reloaded"))
        bus.start()
        bus.block()
    """)
    child.until("Bus STARTED")
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1):
        child.signal(number)
        child.until("reloaded")
    child.signal(signal.SIGTERM)
    assert child.end()[0] == 0


@pytest.mark.rule("bus.B19")
def test_in_a_program_that_owns_the_process_no_signal_is_touched(run: Callable[..., Child]) -> None:
    """Without the plugin the program's own handlers stay, and it shuts the bus down when it likes."""
    child = run(
        """
        import signal
        signal.signal(signal.SIGTERM, lambda number, frame: say("mine"))
        bus.start()
        sys.stdin.readline()
        bus.exit()
        """,
        beginning=BEGINNING.replace("SignalHandler(bus).subscribe()", ""),
    )
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    child.until("mine")
    child.tell()
    assert child.end() == (0, [*STOPPED, *EXITED], "")
