"""Signals that come while a process replaces itself, at every moment of that: none kills it, and none is lost."""

from __future__ import annotations

import itertools
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bus_programs import BEGINNING, EXITED, Child, programs

#: SIGHUP restarts, and each image says which one it is.
RESTARTS = BEGINNING.replace(
    "    print(text, flush=True)",
    # Several threads speak at the same time.
    "    os.write(1, f'{text}\\n'.encode())",
).replace(
    "SignalHandler(bus).subscribe()",
    """
import signal
image = int(os.environ.get("IMAGE", "1"))
bus.execv_environ["IMAGE"] = str(image + 1)
signals = SignalHandler(bus)
signals.handlers["SIGHUP"] = bus.restart

def mask():
    return sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))
""",
)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    with programs(tmp_path) as runs:
        yield lambda code, **options: runs(code, beginning=RESTARTS, **options)


def storm(child: Child, numbers: tuple[signal.Signals, ...], until: Callable[[], bool]) -> None:
    """Send signals, one each millisecond, until the child has come so far; it must not end."""
    for number in itertools.cycle(numbers):
        child.signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            child.process.wait(0.001)
        if until():
            return


@pytest.mark.rule("bus.R18", "bus.B9", "bus.B10")
@pytest.mark.parametrize("threads", [0, 2])
def test_a_storm_of_signals_over_restarts_neither_kills_nor_is_it_in_the_way_of_the_end(
    run: Callable[..., Child], tmp_path: Path, threads: int
) -> None:
    child = run(
        f"""
        with open("images", "a") as images:
            images.write(f"{{image}}\\n")
        for _ in range({threads}):
            # They take signals, too, until the very last moment.
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        signals.subscribe()
        open("subscribed", "w").close()
        bus.start()
        bus.block()
        """,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    images = tmp_path / "images"
    signals = (signal.SIGUSR1, signal.SIGHUP)
    # The first image is not protected before it has subscribed.
    while not (tmp_path / "subscribed").exists():
        with pytest.raises(subprocess.TimeoutExpired):
            child.process.wait(0.01)
    storm(child, signals, lambda: len(images.read_text().splitlines()) >= 6)
    child.signal(signal.SIGTERM)
    assert child.process.wait(60) == 0


GAP = """
    say(f"image {{image}}")
    if image == 2:
        say("the gap")
        sys.stdin.readline()
    {subscribe}
    bus.start()
    say(f"{{bus.phase.value}} {{mask()}} {{'MONSAL_SIGNALS' in os.environ}}")
    if image == 1:
        bus.restart()
    bus.block()
"""


@pytest.mark.rule("bus.B10", "bus.B9", "bus.R18")
def test_what_comes_before_the_next_image_has_handlers_is_heard_when_it_has(run: Callable[..., Child]) -> None:
    """It was killed by any of them."""
    child = run(GAP.format(subscribe="signals.subscribe()"))
    child.until("the gap")
    for number in (signal.SIGUSR1, signal.SIGTERM):
        child.signal(number)
    child.tell()
    code, lines, errors = child.end()
    assert {"Caught signal SIGTERM.", "Caught signal SIGUSR1."} <= set(lines)
    assert [line for line in lines if line in EXITED] == EXITED
    assert [line for line in lines if line.endswith("[] False")]
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.R18")
def test_a_restart_that_is_asked_for_before_the_next_image_has_handlers_is_done(run: Callable[..., Child]) -> None:
    child = run(GAP.format(subscribe="signals.subscribe()"))
    child.until("the gap")
    child.signal(signal.SIGHUP)
    child.tell()
    assert "Caught signal SIGHUP." in child.until("image 3")
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    code, _, errors = child.end()
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.R18", "bus.B19")
@pytest.mark.parametrize("early", [True, False])
def test_an_image_without_a_handler_does_not_stay_deaf(run: Callable[..., Child], early: bool) -> None:
    child = run(GAP.format(subscribe="if image == 1: signals.subscribe()"))
    child.until("the gap")
    if early:
        child.signal(signal.SIGTERM)
        child.tell()
    else:
        child.tell()
        child.until("started [] False")
        child.signal(signal.SIGTERM)
    assert child.end()[0] == -signal.SIGTERM


@pytest.mark.rule("bus.R18")
def test_only_what_was_listened_to_is_held_back_and_each_until_it_has_its_own_handler(
    run: Callable[..., Child],
) -> None:
    child = run("""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        say(f"first {mask()}")
        signals.set_handler("SIGTERM", bus.exit)
        say(f"second {mask()}")
        signals.set_handler("SIGHUP", bus.restart)
        bus.start()
        say(f"third {mask()}")
        if image == 1:
            bus.restart()
        else:
            bus.exit()
        bus.block()
    """)
    code, lines, errors = child.end()
    masks = [line for line in lines if line.split()[0] in ("first", "second", "third")]
    assert masks == ["first [12]", "second [12]", "third [12]", "first [1, 12, 15]", "second [1, 12]", "third [12]"]
    assert (code, errors) == (0, "")


LATE = """
    import select
    import socket
    class Late(dict):
        # What the next image finds in its environment is looked up when nothing but exec follows.
        def keys(self):
            if image == 1:
                os.kill(os.getpid(), signal.{name})
                if {thread}:
                    # The other thread takes it; exec would end it in the midst of that.
                    reading, _ = bus._lobby.main_desk.pipe
                    assert select.select([reading], [], [], 60)[0]
            return super().keys()

        # Without it nobody asks for the keys of a dictionary.
        __iter__ = None

    from monsal.bus import listen_fds
    say(f"image {{image}} has {{sorted(listen_fds())}}")
    signals.subscribe()
    if {thread}:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    listening = socket.create_server(("127.0.0.1", 0))
    bus.subscribe("stop", lambda: bus.keep_for_restart({{"smtp": [listening] * 4}}))
    bus.start()
    if image == 1:
        bus.execv_environ = Late(bus.execv_environ)
        bus.restart()
    bus.block()
"""


@pytest.mark.rule("bus.B9", "bus.R18", "bus.B11")
@pytest.mark.parametrize("thread", [False, True])
def test_an_exit_in_the_last_moment_is_for_the_next_image(run: Callable[..., Child], thread: bool) -> None:
    """It was lost: the thread that was to do it ended with the image. Also if that thread took the signal itself."""
    child = run(LATE.format(name="SIGTERM", thread=thread))
    code, lines, errors = child.end()
    assert "image 2 has ['smtp']" in lines
    second = lines[lines.index("image 2 has ['smtp']") :]
    assert "Caught signal SIGTERM." in second
    assert [line for line in second if line in EXITED] == EXITED
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.R18", "bus.R14")
@pytest.mark.parametrize("thread", [False, True])
def test_a_second_restart_in_the_last_moment_is_done_by_the_next_image(run: Callable[..., Child], thread: bool) -> None:
    child = run(LATE.format(name="SIGHUP", thread=thread))
    child.until("image 3")
    child.until("Bus STARTED")
    child.signal(signal.SIGTERM)
    code, _, errors = child.end()
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.B11", "bus.R18")
def test_an_exit_just_before_that_is_an_exit(run: Callable[..., Child]) -> None:
    """(B11) It wins over the restart as long as there is somebody to hear it."""
    child = run("""
        def last_word(text, level):
            if text.startswith("Re-spawning"):
                os.kill(os.getpid(), signal.SIGTERM)

        signals.subscribe()
        bus.subscribe("log", last_word)
        bus.start()
        bus.restart()
        bus.block()
        say("main is over")
    """)
    code, lines, errors = child.end()
    assert "main is over" in lines
    assert "Not re-spawned: the exit was asked for meanwhile." in lines
    assert (code, errors) == (0, "")


@pytest.mark.rule("bus.R18")
def test_a_child_that_was_started_too_early_lets_go_of_what_it_inherited(run: Callable[..., Child]) -> None:
    """A mask is inherited; the environment tells of it, and goes the same way."""
    child = run("""
        import subprocess
        code = (
            "import signal; from monsal.bus import Bus;"
            "print('before', len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), flush=True);"
            "Bus().start();"
            "print('after', len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), flush=True);"
        )
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
        signals.subscribe()
        bus.start()
        if image == 1:
            bus.restart()
        else:
            bus.exit()
        bus.block()
    """)
    code, lines, errors = child.end()
    assert [line for line in lines if line.startswith(("before", "after"))] == [
        "before 0",
        "after 0",
        "before 4",
        "after 0",
    ]
    assert (code, errors) == (0, "")
