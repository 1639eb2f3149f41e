"""The main program of an actor's process: `python -c ... LINK DOOR PAGE STACKS STDERR PARENT [MODULE ...] TITLE`.

interpreter.py starts it. It imports the modules, connects, and then does as its parent says: boot, start, take what is
handed over, stop. It ends when the parent is gone: the link ends, the parent-death signal comes, and a thread watches
that it does so even if the loop is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from monsal.actors.life import PARENT_LOST, Life
from monsal.actors.process import DUMP
from monsal.actors.recorder import Recorder
from monsal.loops import new_loop

__all__ = ["import_all", "main"]

_PR_SET_PDEATHSIG: Final = 1
#: Signals that stop an actor, with their number as exit code (mailbox.R24).
_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT)

#: Seconds that threads get that an actor leaves behind.
_LEFT_BEHIND: Final = 3.0
#: A child that does not beat for so many times the time after which it is missed, and some seconds, ends by itself.
_TIMES: Final = 2.0
_MARGIN: Final = 5.0


def main() -> None:
    """Run the actor; never returns."""
    link, door, page, stacks, final, parent = map(int, sys.argv[1:7])
    for descriptor in (link, door, page, stacks, final):
        os.set_inheritable(descriptor, False)
    _die_with(parent)
    # Written by the kernel's signal handler, whatever Python is doing: this is what is left of a crash (mailbox.B11).
    faulthandler.enable(stacks)
    faulthandler.register(DUMP, stacks, all_threads=True)
    recorder = Recorder(page)
    os.close(page)
    import_all(sys.argv[7:-1])
    with asyncio.Runner(loop_factory=new_loop) as runner:
        code = runner.run(_live(recorder, (link, door, stacks, final), parent))
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def import_all(modules: Sequence[str]) -> None:
    """Import modules. What is wrong with one is told when it is needed, to whoever needs it."""
    # What they define stays: to look for garbage among it takes a fifteenth of the time that its import takes.
    was_on = gc.isenabled()  # else whoever set this Python up knows better
    gc.disable()
    try:
        for module in modules:
            with contextlib.suppress(ImportError):
                import_module(module)
    finally:
        if was_on:
            gc.enable()


def _die_with(parent: int) -> None:
    """Have the kernel tell us when the parent is gone, and end if it is gone already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(PARENT_LOST)


async def _live(recorder: Recorder, descriptors: tuple[int, int, int, int], parent: int) -> int:
    link, door, stacks, final = descriptors
    loop = asyncio.get_running_loop()

    def ready() -> None:
        # What was said so far told why it did not start; from now on it goes where that of the parent goes.
        sys.stderr.flush()
        os.dup2(final, 2)
        os.close(final)

    def beaten(timeout: float) -> None:
        # A thread of C ends the process, stacks first, if no beat follows: the parent does so earlier, but it may be
        # gone, and our own watching thread waits for ever for code that does not let go of the interpreter.
        faulthandler.dump_traceback_later(_TIMES * timeout + _MARGIN, exit=True, file=stacks)

    life = Life(recorder, door=socket.socket(fileno=door), ready=ready, beaten=beaten)
    for number in _STOPS:
        loop.add_signal_handler(number, _stopped_by, life, number, parent)
    await life.connect(socket.socket(fileno=link))
    threading.Thread(target=_watch, args=(life, loop, parent), name="watches the parent", daemon=True).start()
    code = await life.ended
    # Python waits for the threads that the actor's code leaves behind, for ever if it must.
    impatience = threading.Timer(_LEFT_BEHIND, os._exit, [code])
    impatience.daemon = True
    impatience.start()
    return code


def _stopped_by(life: Life, number: int, parent: int) -> None:
    life.leave(PARENT_LOST if os.getppid() != parent else number)


def _watch(life: Life, loop: asyncio.AbstractEventLoop, parent: int) -> None:
    """End the process when its parent is gone: in order if the loop can, else by force once the grace is over."""
    try:
        watched = os.pidfd_open(parent)
        if os.getppid() != parent:  # it was gone, and its number is another one's by now
            os._exit(PARENT_LOST)
    except (AttributeError, OSError):
        while os.getppid() == parent:
            time.sleep(1.0)
    else:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        while not poll.poll():
            pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(life.leave, PARENT_LOST)
    grace = life.grace
    deadline = time.monotonic() + (grace if grace is not None else 60.0)
    while time.monotonic() < deadline:
        time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
    os._exit(PARENT_LOST)
