"""How a process ends that has a bus: its exit code, what it leaves behind, and that it sleeps until then."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bus_programs import BEGINNING, IDLE, Child, programs, sleeps


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    with programs(tmp_path) as runs:
        yield runs


@pytest.mark.rule("bus.R11", "bus.B4")
def test_a_failed_start_raises_its_error_and_the_interpreter_ends_properly(run: Callable[..., Child]) -> None:
    """(C1) The process was ended with 70 instead: no error raised, nothing flushed, nothing done at the end.

    (M4) Or the error was swallowed, and the code was 0.
    """
    child = run("""
        def fails():
            raise OSError("no such disk")

        atexit.register(say, "at exit")
        bus.subscribe("start", fails)
        bus.subscribe("exit", lambda: say("exited"))
        sys.stdout.write("not flushed\\n")
        bus.start()
    """)
    code, lines, errors = child.end()
    assert code == 1
    assert "OSError: no such disk" in errors
    assert "in fails" in errors
    assert "not flushed" in lines
    assert lines[-3:] == ["exited", "Bus EXITED", "at exit"]


@pytest.mark.rule("bus.B4")
def test_a_failing_stop_listener_shows_in_the_exit_code_only(run: Callable[..., Child]) -> None:
    child = run("""
        def fails():
            raise OSError("no such disk")

        bus.subscribe("stop", fails)
        bus.subscribe("exit", lambda: say("exited"))
        bus.start()
        bus.block()
    """)
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    code, lines, errors = child.end()
    assert code == 1
    assert "exited" in lines
    assert "OSError: no such disk" in errors


@pytest.mark.rule("bus.R6", "bus.R17")
def test_system_exit_of_a_listener_is_the_exit_code(run: Callable[..., Child]) -> None:
    child = run("""
        bus.subscribe("SIGUSR2", lambda: sys.exit(7))
        bus.subscribe("exit", lambda: say("exited"))
        signals = SignalHandler(bus)
        signals.set_handler("SIGUSR2")
        bus.start()
        bus.block()
    """)
    child.until("Bus STARTED")
    child.signal(signal.SIGUSR2)
    code, lines, _ = child.end()
    assert code == 7
    assert "SystemExit raised: shutting down bus" in lines
    assert "exited" in lines


@pytest.mark.rule("bus.R21")
def test_a_bus_that_was_forgotten_is_shut_down_at_the_end_with_a_warning(run: Callable[..., Child]) -> None:
    child = run("""
        for channel in ("stop", "exit"):
            bus.subscribe(channel, lambda channel=channel: say(channel))
        bus.start()
        bus.stop()
        bus.start()
    """)
    code, lines, errors = child.end()
    assert code == 0
    assert lines[-6:] == ["Bus STOPPING", "stop", "Bus STOPPED", "Bus EXITING", "exit", "Bus EXITED"]
    assert lines.count("exit") == 1
    assert errors.count("RuntimeWarning") == 1
    assert "states.STARTED" in errors


@pytest.mark.quiet
@pytest.mark.rule("bus.B7")
def test_an_idle_process_is_never_woken(run: Callable[..., Child]) -> None:
    child = run(IDLE)
    child.until("Bus STARTED")
    # The first waiting is reached when a signal has been answered and the process sleeps again.
    child.signal(signal.SIGUSR1)
    child.until("Bus graceful")
    assert sleeps(child.process.pid)
    child.signal(signal.SIGTERM)
    assert child.end()[0] == 0


@pytest.mark.rule("bus.R21")
def test_a_killed_process_leaves_nothing_in_the_way_of_the_next(run: Callable[..., Child], tmp_path: Path) -> None:
    """kill -9 in each step: no process of its group is left, no file, and the next one starts."""
    code = """
        def step(name):
            def listener():
                say("in " + name)
                sys.stdin.readline()
            return listener

        async def background():
            return None

        bus.subscribe("start", background, 10)
        for channel in ("start", "stop", "exit"):
            bus.subscribe(channel, step(channel))
        bus.start()
        say("running")
        bus.block()
    """
    for steps in (1, 2, 3):
        child = run(code, start_new_session=True)
        child.until("in start")
        if steps > 1:
            child.tell()
            child.until("running")
        if steps > 2:
            child.signal(signal.SIGTERM)
            child.until("in stop")
        child.process.kill()
        assert child.end()[0] == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            os.killpg(child.process.pid, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]
    child = run(IDLE)
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    assert child.end()[0] == 0


@pytest.mark.rule("bus.R6", "bus.B4")
def test_system_exit_of_a_stop_listener_is_the_exit_code_whoever_asked_for_the_exit(run: Callable[..., Child]) -> None:
    child = run("""
        bus.subscribe("stop", lambda: sys.exit(7))
        bus.subscribe("exit", lambda: say("exited"))
        bus.start()
        threading.Thread(target=bus.exit).start()
        bus.block()
    """)
    code, lines, _ = child.end()
    assert code == 7
    assert [line for line in lines if line in ("exited", "Bus EXITED")] == ["exited", "Bus EXITED"]


#: The program subscribes on its own.
WITHOUT = BEGINNING.replace("SignalHandler(bus).subscribe()", "import signal")

AFTER = """
    if {where!r} == "in a destructor":
        class Last:
            def __del__(self, kill=os.kill, pid=os.getpid(), number={number}):
                # The interpreter has taken all handlers away.
                kill(pid, number)
        last = Last()
    elif {where!r} == "at exit":
        # Registered first, so called last.
        atexit.register(lambda: (say("it ends"), sys.stdin.readline()))
    SignalHandler(bus).subscribe()
    bus.start()
    bus.block()
    if {where!r} == "after block":
        say("it ends")
        sys.stdin.readline()
"""


@pytest.mark.rule("bus.B9", "bus.R17")
@pytest.mark.parametrize("where", ["after block", "at exit", "in a destructor"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_after_a_complete_stop_does_not_spoil_the_exit_code(
    run: Callable[..., Child], number: signal.Signals, where: str
) -> None:
    child = run(AFTER.format(number=int(number), where=where), beginning=WITHOUT)
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    if where != "in a destructor":
        child.until("it ends")
        for _ in range(4):
            child.signal(number)
        child.tell()
    code, _, errors = child.end()
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.B9")
@pytest.mark.parametrize("kind", ["a thread", "a worker"])
def test_what_does_not_end_after_the_exit_is_ended_by_the_third_signal(run: Callable[..., Child], kind: str) -> None:
    child = run(f"""
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1)
        if {kind!r} == "a worker":
            pool.submit(threading.Event().wait)
        else:
            threading.Thread(target=threading.Event().wait).start()
        bus.start()
        bus.block()
    """)
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    child.until("Waiting for child threads")
    for _ in range(2):
        child.until_asleep()
        child.signal(signal.SIGTERM)
    assert child.end()[0] == -signal.SIGTERM


@pytest.mark.rule("bus.B9", "bus.B19")
def test_after_the_end_signals_can_be_given_back(run: Callable[..., Child]) -> None:
    child = run(
        """
        def handlers(*names):
            say([name + f" {int(signal.getsignal(getattr(signal, name)))}" for name in names])

        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup(1) has it ignored, and its children inherit that
        signals = SignalHandler(bus)
        signals.subscribe()
        signals.set_handler("SIGUSR2", lambda: say("somebody is there"))
        bus.start()
        bus.exit()
        bus.block()
        handlers("SIGTERM", "SIGHUP", "SIGUSR1")
        # Not what else it listens to.
        os.kill(os.getpid(), signal.SIGUSR2)
        signals.unsubscribe()
        handlers("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
        os.kill(os.getpid(), signal.SIGTERM)
        """,
        beginning=WITHOUT,
    )
    child.until("Waiting for child threads")
    ignored = child.until("[")[-1]
    default = child.until("[")[-1]
    code, _, _ = child.end()
    assert ignored == str(["SIGTERM 1", "SIGHUP 1", "SIGUSR1 1"])
    assert default == str(["SIGTERM 0", "SIGHUP 0", "SIGUSR1 0", "SIGUSR2 0"])
    assert code == -signal.SIGTERM
