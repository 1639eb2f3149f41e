"""What a daemon is made of, apart from the bus: two processes that stand by while it starts, and its streams.

The shell waits for the first process, so that one must stay until it is known how the start went. It waits for the
second, which leads the new session and is the daemon's parent, so it alone learns how the daemon ends. Both pass on to
the daemon what they are asked by signals, and then leave with its code.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from fcntl import F_DUPFD_CLOEXEC, fcntl

__all__ = ["FAILED", "STARTED", "daemonize", "is_daemon", "open_streams"]

#: What ends the report of a daemon: its start went well, or it failed. No text contains these bytes.
STARTED = b"\0"
FAILED = b"\1"

#: In the environment, the pid of the daemon. Its image may be replaced by `exec`, and it is a daemon still; its own
#: children inherit the variable, but have another pid.
_MARK = "MONSAL_DAEMON"

#: The signals by which an operator breaks off a start: Ctrl-C, Ctrl-\\, kill.
_ASKS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def is_daemon() -> bool:
    """Whether this process was made a daemon, also if it has replaced itself by `exec` since."""
    return os.environ.get(_MARK) == str(os.getpid())


def open_streams(stdin: str, stdout: str, stderr: str) -> tuple[int, int, int]:
    """Open the files that become the standard streams; output is appended. Raises OSError."""
    flags = (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_APPEND] * 2)
    opened: list[int] = []
    try:
        for path, flag in zip((stdin, stdout, stderr), flags, strict=True):
            opened.append(_above_streams(os.open(path, flag | os.O_CLOEXEC, 0o666)))
    except OSError:
        for descriptor in opened:
            os.close(descriptor)
        raise
    return (opened[0], opened[1], opened[2])


def _above_streams(descriptor: int) -> int:
    """The same file at a number above those of the streams, one of which may have been closed and so be free."""
    if descriptor > 2:
        return descriptor
    lifted = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return lifted


def daemonize(fork: Callable[[], int], streams: Sequence[int]) -> int:
    """Go on as a daemon, with `streams` as its standard streams; returns the descriptor for its report.

    The report is text for the standard error of the process that is waited for, and then STARTED or FAILED, which ends
    the waiting. The umask and the working directory are left as they are. Raises OSError if a fork is refused.
    """
    reading, writing = map(_above_streams, os.pipe())
    # Two processes with the same unwritten text would write it twice.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    # Held back until there is somebody in place who passes them on.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_ASKS, signal.SIGHUP, signal.SIGCHLD})
    try:
        child = fork()
        if child:
            os.close(writing)
            _leave(lambda: _stand_by(child, None, mask))
        _detach(fork, reading, writing, mask)
    except OSError:
        for descriptor in (reading, writing, *streams):
            os.close(descriptor)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(reading)
    os.environ[_MARK] = str(os.getpid())
    for target, descriptor in enumerate(streams):
        os.dup2(descriptor, target, inheritable=True)
        os.close(descriptor)
    return writing


def _detach(fork: Callable[[], int], reading: int, writing: int, mask: Iterable[int]) -> None:
    """Lead a new session and fork again; returns in the daemon. The process between never returns to the program."""
    daemons = False

    def between() -> int:
        nonlocal daemons
        os.setsid()
        # Not the leader of its session, the daemon cannot come by a terminal again (setsid(2), tty_ioctl(4)).
        child = fork()
        if not child:
            daemons = True
            return 0
        os.close(writing)
        return _stand_by(child, reading, mask)

    _leave(between, unless=lambda: daemons)


def _leave(stand_by: Callable[[], int], unless: Callable[[], bool] = lambda: False) -> None:
    """End with the code that `stand_by` returns, whatever happens there.

    By `os._exit`, because all that is done at the end of a program, exit handlers and the writing of what is buffered,
    is the daemon's to do: it has all of that, too, and must be the only one.
    """
    code = 1
    try:
        code = stand_by()
    except BaseException as error:  # noqa: BLE001 - it is told, and nothing of the program may go on in this process
        _tell(f"cannot become a daemon: {error!r}\n".encode())
    if not unless():
        os._exit(code)


def _stand_by(child: int, report: int | None, mask: Iterable[int]) -> int:
    """Pass on signals to `child` and its report to the standard error; the code to end with."""
    waking, waker = os.pipe()
    for end in (waking, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for heard in (*_ASKS, signal.SIGCHLD):
        # Their numbers come by the pipe, where none can come too early to be seen.
        signal.signal(heard, _wake)
    # The terminal may go: that is no reason not to start.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    poll = select.poll()
    poll.register(waking, select.POLLIN)
    if report is not None:
        poll.register(report, select.POLLIN)
    ended = _ended(child, report)
    while True:
        # What the child said before it ended is heard first.
        ready = [descriptor for descriptor, _ in poll.poll(0 if ended is not None else None)]
        if report is not None and report in ready:
            said = os.read(report, 65536)
            text = said.rstrip(STARTED + FAILED)
            _tell(text)
            if text != said:
                return 0 if said.endswith(STARTED) else 1
            if not said:
                poll.unregister(report)
        elif ended is not None:
            return ended
        if waking in ready:
            for number in os.read(waking, 4096):
                if number == signal.SIGCHLD:
                    ended = ended if ended is not None else _ended(child, report)
                elif ended is None:
                    os.kill(child, number)


def _wake(number: int, frame: object) -> None:
    """A signal that has a handler is written to the pipe by the interpreter; there is no more to it."""


def _tell(text: bytes) -> None:
    """Write to the standard error what is no error of this process; if nobody can read it there is nobody to tell."""
    while text:
        try:
            text = text[os.write(2, text) :]
        except OSError:
            return


def _ended(child: int, report: int | None) -> int | None:
    """The code of a child that has ended, as a shell gives it: its own, or 128 and the signal. None if it lives."""
    try:
        pid, status = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        # SIGCHLD was ignored when it ended, so nobody knows its code.
        pid, status = child, 256
    if not pid:
        return None
    code = os.waitstatus_to_exitcode(status)
    # The daemon's own parent knows that it ended without a word, so it was not STARTED, whatever its code.
    return 128 - code if code < 0 else code or (0 if report is None else 1)
