"""Children that are forked from the process of a bus: they die as any other, and leave alone what is their parent's."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bus_programs import BEGINNING, EXITED, STOPPED, Child, programs

FORKS = BEGINNING.replace(
    "    print(text, flush=True)",
    # Several processes speak at the same time, and a child that ends at once must not say what its parent had buffered.
    "    os.write(1, f'{text}\\n'.encode())",
).replace(
    "SignalHandler(bus).subscribe()",
    """
import multiprocessing, signal
from monsal.bus import PIDFile
home = os.getpid()
SignalHandler(bus).subscribe()
PIDFile(bus, "program.pid").subscribe()
for channel in ("stop", "exit"):
    bus.subscribe(channel, lambda channel=channel: say(f"{channel} {'here' if os.getpid() == home else 'ABROAD'}"))
bus.subscribe("SIGTERM", lambda: say("heard" if os.getpid() == home else "HEARD ABROAD"), 10)

def code_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread
""",
)
ENDED = ["Caught signal SIGTERM.", "heard", *STOPPED, *EXITED]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    with programs(tmp_path) as runs:
        yield lambda code: runs(code, beginning=FORKS)


def ends_cleanly(child: Child, tmp_path: Path) -> list[str]:
    """Ends the parent; what it said last. Its own end is complete, and no child had one in its stead."""
    assert (tmp_path / "program.pid").read_text() == f"{child.process.pid}\n", "nobody has unlinked it"
    child.signal(signal.SIGTERM)
    code, lines, errors = child.end()
    assert [line for line in lines if "ABROAD" in line] == []
    assert [line for line in lines if line in ENDED] == ENDED
    assert ("stop here" in lines, "exit here" in lines) == (True, True)
    assert not (tmp_path / "program.pid").exists()
    assert (code, errors) == (0, "")
    return lines


@pytest.mark.rule("bus.B9", "bus.B19")
@pytest.mark.parametrize("where", ["the main thread", "a thread", "before the start"])
def test_a_worker_of_multiprocessing_dies_at_once_when_it_is_terminated(
    run: Callable[..., Child], tmp_path: Path, where: str
) -> None:
    """The signal was swallowed, or had the child run its parent's stop listeners."""
    child = run(f"""
        context = multiprocessing.get_context("fork")

        def work():
            say("working")
            threading.Event().wait()

        def end(worker):
            worker.terminate()
            worker.join()
            say(f"worker ended with {{worker.exitcode}}")

        def workers():
            # At once, and when it is at work: a signal may come before the child has looked round.
            for patient in range(20):
                worker = context.Process(target=work)
                worker.start()
                end(worker)
            reading, writing = context.Pipe()
            worker = context.Process(target=lambda: (writing.send("working"), threading.Event().wait()))
            worker.start()
            reading.recv()
            end(worker)

        if {where!r} == "before the start":
            workers()
        bus.start()
        if {where!r} == "the main thread":
            workers()
        elif {where!r} == "a thread":
            in_thread(workers).join()
        say("all ended")
        bus.block()
    """)
    lines = child.until("all ended")
    assert [line for line in lines if line.startswith("worker ended")] == ["worker ended with -15"] * 21
    ends_cleanly(child, tmp_path)


@pytest.mark.rule("bus.B9")
def test_a_child_dies_while_the_main_thread_of_its_parent_is_busy(run: Callable[..., Child], tmp_path: Path) -> None:
    child = run("""
        over = threading.Event()

        def forks():
            pid = os.fork()
            if not pid:
                threading.Event().wait()
            os.kill(pid, signal.SIGTERM)
            say(f"child ended with {code_of(pid)}")
            over.set()

        bus.start()
        in_thread(forks)
        while not over.is_set():
            sum(range(1000))
        say("busy no more")
        bus.block()
    """)
    assert "child ended with -15" in child.until("busy no more")
    ends_cleanly(child, tmp_path)


@pytest.mark.rule("bus.R21")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_child_that_ends_as_a_program_does_runs_no_listener_of_its_parent(
    run: Callable[..., Child], tmp_path: Path, where: str
) -> None:
    """(R21) What the interpreter does at its end stopped the bus of the parent, and removed its PID file."""
    child = run(f"""
        def forks():
            pid = os.fork()
            if not pid:
                sys.exit(0)
            say(f"child ended with {{code_of(pid)}}")

        bus.start()
        if {where!r} == "main":
            forks()
        else:
            in_thread(forks).join()
        say("all ended")
        bus.block()
    """)
    assert "child ended with 0" in child.until("all ended")
    ends_cleanly(child, tmp_path)


@pytest.mark.rule("bus.R21", "bus.R6")
@pytest.mark.parametrize("way", ["sys.exit(3)", "1 / 0", "return"])
@pytest.mark.parametrize("channel", ["start", "graceful", "stop", "exit"])
def test_a_child_that_a_listener_forks_ends_by_itself(
    run: Callable[..., Child], tmp_path: Path, channel: str, way: str
) -> None:
    """What it raised ended the step in the child, which went on with the next one: the stop listeners."""
    child = run(f"""
        def forks():
            pid = os.fork()
            if not pid:
                {way if (channel, way) != ("start", "return") else "os._exit(0)"}
            else:
                say(f"child ended with {{code_of(pid)}}")

        bus.subscribe("{channel}", forks, 95)
        bus.start()
        say("started" if os.getpid() == home else "STARTED ABROAD")
        bus.block()
        say("over" if os.getpid() == home else "OVER ABROAD")
    """)
    before = child.until("started")
    child.signal(signal.SIGUSR1)
    before += child.until("child ended" if channel == "graceful" else "Bus graceful")
    child.signal(signal.SIGTERM)
    code, lines, errors = child.end()
    assert [line for line in lines if "ABROAD" in line] == []
    assert [line for line in lines if line in ENDED] == ENDED
    assert lines.count("stop here") == lines.count("exit here") == 1
    assert code == 0
    assert ("ZeroDivisionError" in "".join([*before, *lines, errors])) == (way == "1 / 0")


@pytest.mark.rule("bus.B14", "bus.B9")
def test_a_start_listener_may_make_the_process_a_daemon_on_its_own(run: Callable[..., Child], tmp_path: Path) -> None:
    """Not every framework's daemonizer knows ours: who returns from it in the child goes on with the bus there."""
    child = run("""
        def daemonizes():
            global home
            for _ in range(2):
                if os.fork():
                    os._exit(0)
                os.setsid() if os.getsid(0) != os.getpid() else None
            home = os.getpid()

        bus.subscribe("start", daemonizes, 10)
        bus.start()
        say(f"daemon {os.getpid()}")
        bus.block()
        say("over")
    """)
    line = child.until("daemon")[-1]
    assert child.process.wait(30) == 0
    pid = int(line.split()[1])
    assert (tmp_path / "program.pid").read_text() == f"{pid}\n"
    os.kill(pid, signal.SIGTERM)
    lines = child.until("over")
    assert [said for said in lines if said in ENDED] == ENDED
    assert not (tmp_path / "program.pid").exists()


DAEMONIZES = """
        def daemonizes():
            global home
            for _ in range(2):
                if os.fork():
                    os._exit(0)
                os.setsid() if os.getsid(0) != os.getpid() else None
            home = os.getpid()
"""


@pytest.mark.rule("bus.B14", "bus.B1")
@pytest.mark.parametrize("way", ["exit", "stop"])
def test_a_thread_of_a_daemon_may_end_it_before_the_listener_that_forked_returns(
    run: Callable[..., Child], tmp_path: Path, way: str
) -> None:
    """A listener that forks and then serves may be asked to exit at once: that was refused, and never done."""
    child = run(f"""
        {DAEMONIZES}
        def ends():
            waiting = in_thread(lambda: (bus.wait(bus.states.STOPPED), say("told")))
            bus.{way}()
            say("asked")

        def serves():
            daemonizes()
            in_thread(ends).join()

        bus.subscribe("start", serves, 10)
        bus.start()
        say(f"in {{bus.state}}")
        bus.exit()
        say("over")
    """)
    lines = child.until("over")
    assert child.process.wait(30) == 0
    assert "asked" in lines
    assert "told" in [*lines, *child.end()[1]]
    assert [line for line in lines if line in ENDED] == [*STOPPED, *EXITED]
    assert ("stop here" in lines, "exit here" in lines) == (True, True)
    assert f"in states.{'EXITING' if way == 'exit' else 'STOPPED'}" in lines


@pytest.mark.rule("bus.B14", "bus.B1")
def test_a_handler_of_a_daemon_may_end_it_before_the_listener_that_forked_returns(
    run: Callable[..., Child], tmp_path: Path
) -> None:
    """What it raised went to where it interrupted the listener, and the signal was lost."""
    child = run(f"""
        {DAEMONIZES}
        def listens():
            daemonizes()
            signal.signal(signal.SIGUSR2, lambda number, frame: bus.exit())
            signal.raise_signal(signal.SIGUSR2)

        bus.subscribe("start", listens, 10)
        bus.start()
        bus.block()
        say("over")
    """)
    lines = child.until("over")
    assert child.process.wait(30) == 0
    assert [line for line in lines if line in ENDED] == [*STOPPED, *EXITED]


@pytest.mark.rule("bus.B14")
def test_who_hears_that_the_bus_is_starting_may_make_the_process_a_daemon(
    run: Callable[..., Child], tmp_path: Path
) -> None:
    """So does a bus of other states on ours, which enters its own when it hears of ours."""
    child = run(f"""
        {DAEMONIZES}
        bus.subscribe("log", lambda msg, level: daemonizes() if msg == "Bus STARTING" else None)
        bus.subscribe("start", lambda: say(f"watched by {{[thread.name for thread in threading.enumerate()]}}"), 90)
        bus.subscribe("start", bus.exit, 95)
        bus.start()
        bus.block()
        say("over")
    """)
    lines = child.until("over")
    assert child.process.wait(30) == 0
    assert "watched by ['MainThread', 'monsal-bus-watch']" in lines
    assert [line for line in lines if line in ENDED] == [*STOPPED, *EXITED]
    assert not (tmp_path / "program.pid").exists()


@pytest.mark.rule("bus.B14", "bus.B9")
def test_a_daemon_may_have_closed_all_descriptors(run: Callable[..., Child], tmp_path: Path) -> None:
    """As PEP 3143 wants it. The bell of the signals is among them, and its number soon that of another file."""
    child = run(f"""
        {DAEMONIZES}
        def closes():
            global others
            daemonizes()
            os.closerange(3, 256)
            others = [os.open("others.txt", os.O_RDWR | os.O_CREAT) for _ in range(20)]

        bus.subscribe("start", closes, 10)
        bus.start()
        say(f"daemon {{os.getpid()}}")
        bus.block()
        say("over")
    """)
    pid = int(child.until("daemon")[-1].split()[1])
    assert child.process.wait(30) == 0
    os.kill(pid, signal.SIGUSR1)
    child.until("Bus graceful")
    os.kill(pid, signal.SIGTERM)
    lines = child.until("over")
    assert [line for line in lines if line in ENDED] == ENDED
    assert (tmp_path / "others.txt").read_bytes() == b""


@pytest.mark.rule("bus.B1", "bus.R21")
def test_what_is_asked_in_a_child_that_never_returns_is_not_done(run: Callable[..., Child], tmp_path: Path) -> None:
    child = run("""
        def forks():
            pid = os.fork()
            if not pid:
                in_thread(bus.exit).join()
                bus.stop()
                try:
                    bus.wait(bus.states.STARTED)
                except RuntimeError:
                    say("refused")
                sys.exit(3)
            say(f"child ended with {code_of(pid)}")

        bus.subscribe("start", forks, 75)
        bus.start()
        say("started")
        bus.block()
    """)
    lines = child.until("started")
    assert "child ended with 3" in lines
    for asked in ("exit", "stop"):
        assert f"The {asked} is for when the start listener that forked returns in this process" in lines
    assert "refused" in lines
    ends_cleanly(child, tmp_path)


@pytest.mark.rule("bus.B14", "bus.B9")
@pytest.mark.parametrize("way", ["os.fork()", "fork()"])
def test_a_program_may_fork_before_it_starts_the_bus(run: Callable[..., Child], tmp_path: Path, way: str) -> None:
    child = run(f"""
        def double():
            with bus.forking() as fork:
                return {way}

        pid = double()
        if pid:
            code = code_of(pid)
            say(f"child ended with {{code}}")
            sys.exit(code)
        home = os.getpid()
        bus.start()
        say(f"child {{os.getpid()}}")
        bus.block()
        say("over")
    """)
    line = child.until("child")[-1]
    os.kill(int(line.split()[1]), signal.SIGTERM)
    code, lines, errors = child.end()
    assert [said for said in lines if said in ENDED] == ENDED
    assert "child ended with 0" in lines
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.B1", "bus.R21")
def test_in_a_child_the_bus_of_the_parent_says_what_it_is(run: Callable[..., Child], tmp_path: Path) -> None:
    child = run("""
        bus.start()
        pid = os.fork()
        if not pid:
            for name in ("start", "stop", "exit", "restart", "graceful", "block"):
                try:
                    getattr(bus, name)()
                except RuntimeError as error:
                    said = str(error).replace(str(home), "HOME")
                    say(f"{name}: {said}")
            # One of its own is as good as any.
            mine = Bus()
            mine.subscribe("stop", lambda: say("mine is stopped"))
            SignalHandler(mine).subscribe()
            mine.start()
            os.kill(os.getpid(), signal.SIGTERM)
            mine.block()
            sys.exit(7)
        say(f"child ended with {code_of(pid)}")
        bus.block()
    """)
    lines = child.until("child ended")
    text = (
        "the bus belongs to process HOME, and this is a child that was forked from it; "
        "make a bus of its own, or fork with bus.forking() to have it go on in the child"
    )
    names = ("start", "stop", "exit", "restart", "graceful", "block")
    assert [line for line in lines if "HOME" in line] == [f"{name}: {text}" for name in names]
    assert "mine is stopped" in lines
    assert lines[-1] == "child ended with 7"
    ends_cleanly(child, tmp_path)


@pytest.mark.rule("bus.B9")
def test_what_was_there_before_is_there_in_the_child(run: Callable[..., Child], tmp_path: Path) -> None:
    """The handlers, also under those of another SignalHandler; and no bell that rings in the parent."""
    child = run("""
        signal.signal(signal.SIGUSR2, lambda number, frame: say("former"))
        SignalHandler(bus).set_handler("SIGUSR2", lambda: say("parent"))
        SignalHandler(Bus()).set_handler("SIGUSR2", lambda: say("parent"))
        bell = bus.doorbell()
        bus.start()
        pid = os.fork()
        if not pid:
            os.kill(os.getpid(), signal.SIGUSR2)
            say(f"bell {signal.set_wakeup_fd(-1)} mask {len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))}")
            say(f"interrupt {signal.getsignal(signal.SIGINT) is signal.default_int_handler}")
            say(f"pipe {os.fstat(bell).st_ino}")
            os._exit(0)
        code_of(pid)
        say(f"mask {len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))}")
        say(f"ends {os.fstat(bell).st_ino}")
        bus.block()
    """)
    lines = child.until("ends")
    assert "former" in lines
    assert "parent" not in lines
    assert "bell -1 mask 0" in lines
    assert "interrupt True" in lines
    assert "mask 0" in lines
    [theirs], [ours] = ([line.split()[1] for line in lines if line.startswith(name)] for name in ("pipe", "ends"))
    assert theirs != ours
    ends_cleanly(child, tmp_path)
