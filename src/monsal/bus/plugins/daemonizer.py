"""Going to the background, in a way that whoever started the program learns whether it runs.

It is for programs that want to be daemons in the old way. A service manager wants none of it: it wants a process that
stays in the foreground and says when it is ready (`systemd.py`).
"""

from __future__ import annotations

import os
import threading

from monsal.bus.core import Bus
from monsal.bus.events import Event
from monsal.bus.inner.daemon import FAILED, STARTED, daemonize, is_daemon, open_streams
from monsal.bus.plugins.simple import SimplePlugin
from monsal.bus.states import Phase

__all__ = ["Daemonizer"]


class Daemonizer(SimplePlugin):
    """Makes the process a daemon when the bus starts, before all else: two forks, a session of its own, new streams.

    The process that was started stays until the daemon's bus is STARTED, and then ends with code 0. If the start fails
    it ends with code 1, and what was logged as an error is on its standard error; if the daemon dies meanwhile, with
    its code, or 128 and the number of the signal. Ctrl-C and SIGTERM are passed on to the daemon (B14).

    The priority is 0 where the original has 65: threads that start listeners of the default priority had started did
    not survive the fork (C15). The umask is left as configured, where the original ended with 000; the working
    directory is left alone. `stdin`, `stdout` and `stderr` are files, opened before the fork, so that a wrong name is
    told; output is appended. Make it, and start the bus, on the main thread.

    It is done once. After `bus.restart()` the process is still the daemon, with the same pid.
    """

    def __init__(self, bus: Bus, stdin: str = os.devnull, stdout: str = os.devnull, stderr: str = os.devnull) -> None:
        super().__init__(bus)
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        #: Whether it is done.
        self.finalized = False

    def start(self) -> None:
        """Go on as a daemon; raises OSError if a stream cannot be opened or a fork is refused, RuntimeError if this is
        not the main thread."""
        if self.finalized or is_daemon():
            self.finalized = True
            self.bus.log("This is a daemon already.")
            return
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("only the main thread can become a daemon: the others do not live in the new process")
        streams = open_streams(self.stdin, self.stdout, self.stderr)
        with self.bus.forking() as fork:
            self._warn_of_threads()
            report = daemonize(fork, streams)
        self.finalized = True
        _Report(self.bus, report)
        self.bus.log(f"Daemonized: the process is {os.getpid()} now.")

    start.priority = 0  # type: ignore[attr-defined]  # functions take attributes

    def _warn_of_threads(self) -> None:
        # Those of `start_with_callback` begin anew in the daemon.
        lost = [
            thread.name
            for thread in threading.enumerate()
            if thread is not threading.current_thread() and not thread.name.startswith("Bus Callback ")
        ]
        if lost:
            self.bus.log(f"These threads do not survive the fork, start them later: {', '.join(lost)}.", 30)


class _Report:
    """Tells the processes that stand by how the start goes. It listens to the log until that is decided."""

    def __init__(self, bus: Bus, descriptor: int) -> None:
        self._bus = bus
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()
        self._told = False
        bus.subscribe("log", self.hear)

    def hear(self, msg: object, level: int) -> None:
        """One message of the log; the texts that matter are part of the contract (R10, R13)."""
        if level >= 40:
            # The failure itself has been logged, with its traceback, by then.
            text = str(msg)
            self._say(text.splitlines()[0] if text.startswith("Shutting down due to error") else text)
        if msg == "Bus STARTED":
            self._end(STARTED)
        elif msg == "Bus EXITED":
            self._give_up()

    def _give_up(self) -> None:
        events = self._bus.history.last()
        if not self._told:
            self._say("The bus was stopped before it was STARTED" + "".join(f": {cause}" for cause in _causes(events)))
        # After SystemExit the code is that of the process, which ends by it; so its end is waited for.
        if not any(event.kind == "phase" and event.name == Phase.INTERRUPTED.value for event in events):
            self._end(FAILED)

    def _say(self, text: str) -> None:
        self._told = True
        self._write(text.encode(errors="replace").translate(None, STARTED + FAILED) + b"\n")

    def _end(self, verdict: bytes) -> None:
        self._bus.unsubscribe("log", self.hear)
        self._write(verdict)
        self._close()

    def _write(self, data: bytes) -> None:
        with self._lock:
            while data and self._descriptor is not None:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BrokenPipeError:
                    # Who stood by was killed; there is nobody to tell.
                    data = b""

    def _close(self) -> None:
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)


def _causes(events: tuple[Event, ...]) -> list[str]:
    """Why start listeners failed."""
    return [event.cause for event in events if event.kind == "call" and event.channel == "start" and event.cause]
