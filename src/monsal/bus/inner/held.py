"""Signals while the image of the process is replaced: none ends it, and none is lost (R18, B9).

exec(3) takes the handlers away, which makes the signals deadly again, and a fresh interpreter needs a moment until it
has new ones. A mask survives exec, and so do signals that wait behind it; so they are blocked before, and let go when
there is a handler. But only those wait that every thread has blocked: another thread, which lives up to the exec, can
still take one. The handler in C writes the number to the pipe of `signal.set_wakeup_fd`; so the next image inherits it.
What no mask of ours can help: a thread that exec ends between its taking of a signal and that write, some microseconds.

The mask is inherited by children, too. So it is told in the environment, which goes the same way.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import current_thread, main_thread
from typing import Final

from monsal.bus.inner.waiting import Desk

__all__ = ["held", "let_go"]

#: The signals that are blocked; then pid, descriptor and inode of the pipe with those that another thread took.
_MARK: Final = "MONSAL_SIGNALS"

#: What the image before left to this one, and was not let go yet; of these, those that other threads took there.
_blocked: Final[set[int]] = set()
_taken: Final[set[int]] = set()


@contextmanager
def held(numbers: Iterable[int], desk: Desk, above: int) -> Iterator[dict[str, str]]:
    """Hold signals back, for the next image; yields what to add to its environment.

    What came before has been handled when this yields, if the main thread calls. `desk` is where signals ring; its
    doorbell is moved above the descriptor `above`, because it may be in the way of what is handed over. If nothing is
    executed in the end all is as before.
    """
    with ExitStack() as stack:
        wanted = set(numbers)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        # What was blocked by others stays so in the next image, as it would without us.
        ours = (wanted - before) | _blocked
        if not ours:
            yield {}
            return
        text = ",".join(str(int(number)) for number in sorted(ours))
        if current_thread() is main_thread() and desk.lift(above):
            signal.set_wakeup_fd(desk.doorbell(), warn_on_full_buffer=False)
        if desk.pipe is not None:
            reading, _ = desk.pipe
            # Those have been handled: a signal is noted before it is written.
            desk.hush()
            os.set_inheritable(reading, True)
            stack.callback(os.set_inheritable, reading, False)
            text += f":{os.getpid()}:{reading}:{os.fstat(reading).st_ino}"
        stack.callback(os.environ.pop, _MARK, None)
        yield {_MARK: text}


def let_go(numbers: Iterable[int] | None = None) -> None:
    """Have those of `numbers` come now that the image before has held back; None means all that are left."""
    _read_mark()
    for number in sorted(_blocked if numbers is None else _blocked.intersection(numbers)):
        _blocked.discard(number)
        if number in _taken:
            _taken.discard(number)
            signal.raise_signal(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


def _read_mark() -> None:
    text = os.environ.pop(_MARK, "")
    if not text:
        return
    listed, *pipe = text.split(":")
    _blocked.update(map(int, listed.split(",")))
    if not pipe:
        return
    pid, reading, inode = map(int, pipe)
    if pid != os.getpid() or not _is(reading, inode):
        # A child has the mask only: what was sent to its parent is not for it.
        return
    try:
        while said := os.read(reading, 4096):
            _taken.update(said)
    except BlockingIOError:
        # That was all, but somebody has the other end still: a child of the image before.
        return
    finally:
        os.close(reading)


def _is(descriptor: int, inode: int) -> bool:
    """Whether the descriptor is open, and is the very pipe that was meant."""
    try:
        return os.fstat(descriptor).st_ino == inode
    except OSError:
        return False
