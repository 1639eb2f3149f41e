"""Tells the service manager how the bus is: ready, reloading, stopping, alive (systemd.service(5), Type=notify).

    notifier = Notifier(bus, progress=server.what_stalls)
    notifier.subscribe()

Own code over NOTIFY_SOCKET, see `manager.py`; without that variable nothing is done and nothing is started. A process
that was launched (see `launching.py`) tells its launcher by the same way.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence

from monsal.bus.core import Bus
from monsal.bus.inner.launched import settle_manager, settle_stderr
from monsal.bus.inner.outcomes import limit_of, minds_itself
from monsal.bus.inner.watchdog import Progress, Watchdog, stacks
from monsal.bus.manager import ManagerSocket
from monsal.bus.states import Phase

__all__ = ["Notifier"]

#: Seconds granted to a listener that minds its own time, as the bus does without end.
TRUSTED = 86400.0
#: A listener that minds its own time stands for many calls when these are hurried.
MANY = 50
#: How long the end of the old process waits until the service manager knows of the new one.
BARRIER = 5.0


class Notifier:
    """A plugin of the bus. Every method may be called from every thread; none fails if the manager cannot be reached.

    READY=1 is sent when the bus is STARTED, and with `hold` not before `ready()` was called as well. `status` is asked
    for the STATUS= line of a bus that is STARTED, then and with each beat of the watchdog.

    The watchdog is on if the unit has WatchdogSec=. It is fed at half of that time, and only if `progress` finds
    nothing that stalls: it is asked on a thread of its own, and no answer is taken as a bad one. While the bus starts
    or shuts down its own limits are the proof of progress.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        status: Callable[[], str] | None = None,
        progress: Progress | None = None,
        hold: bool = False,
        environ: MutableMapping[str, str] = os.environ,
    ) -> None:
        self.bus = bus
        self.manager = ManagerSocket(environ)
        self._environ = environ
        self._status = status
        self._progress = progress
        self._pid, self._lock = os.getpid(), threading.RLock()
        self._held = hold
        self._said = ""
        self._mute = False
        self._lost = False
        self._trouble = ""
        self._stalled: list[str] = []
        self._watchdog: Watchdog | None = None

    def subscribe(self) -> None:
        """Follow the bus, if there is somebody to tell."""
        if self.manager.address and not self.manager.supported:
            self.bus.log(f"NOTIFY_SOCKET={self.manager.address} cannot be reached from here; nobody is told.", 30)
        elif self.manager.address:
            self._mute = False
            self.bus.subscribe("phase", self._on_phase)
            self.bus.subscribe("extended", self.extend)

    def unsubscribe(self) -> None:
        """Undo `subscribe`; the watchdog is fed no more."""
        self.bus.unsubscribe("phase", self._on_phase)
        self.bus.unsubscribe("extended", self.extend)
        self._end_watchdog()
        with self._lock:
            # A beat that is under way comes too late.
            self._mute = True
            self.manager.close()

    # What can be said

    def ready(self) -> None:
        """Say READY=1 if the bus is STARTED, else as soon as it is. Said once, and again after each reload."""
        with self._lock:
            self._held = False
            if self.bus.phase is not Phase.STARTED or self._said in ("READY", "STOPPING"):
                return
            self._said = "READY"
            try:
                settle_stderr(self._environ)
            except (OSError, ValueError) as error:
                self.bus.log(f"Standard error of a launched process cannot be settled: {error}", 40)
            self._send("READY=1", f"STATUS={self._line()}")
            settle_manager(self._environ)

    def reloading(self) -> None:
        """Say RELOADING=1 with the time, which systemd matches with its own request; `ready` ends it."""
        with self._lock:
            if self._said not in ("RELOADING", "STOPPING"):
                self._said = "RELOADING"
                self._trouble = ""
                now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                self._send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")

    def reload_failed(self, why: str) -> None:
        """Say READY=1 again, and in STATUS= that and why all is as before; to be called when `reloading` was."""
        with self._lock:
            self._trouble = f" (the last reload failed: {_first_line(why)})"
            self.ready()

    def stopping(self) -> None:
        """Say STOPPING=1, once: whatever comes then is part of the end."""
        with self._lock:
            if self._said != "STOPPING":
                self._said = "STOPPING"
                self._send("STOPPING=1", "STATUS=stopping")

    def tell(self, text: str) -> None:
        """Say STATUS=, the first line of `text`."""
        self._send(f"STATUS={_first_line(text)}")

    def extend(self, seconds: float) -> None:
        """Ask the manager to wait so many seconds from now for the next message, beyond what the unit allows."""
        self._send(_timeout(seconds + self._allowance()))

    def succeeded_by(self, pid: int) -> None:
        """Say MAINPID=: another process, which is ready, is the service from now on. Nothing is said after that.

        Returns when the manager knows it, or after 5 seconds: the end of this process is not that of the service then.
        """
        with self._lock:
            self._send(f"MAINPID={pid}", "READY=1")
            self._mute = True
        self._end_watchdog()
        try:
            self.manager.barrier(BARRIER)
        except (OSError, TimeoutError) as error:
            self.bus.log(f"The service manager does not confirm MAINPID={pid}: {error}", 30)

    def notify(self, *assignments: str, fds: Sequence[int] = ()) -> None:
        """Say anything else, with descriptors if it is FDSTORE=1; see `monsal.bus.notify`."""
        self._send(*assignments, fds=fds)

    # What the bus tells

    def _on_phase(self, phase: Phase) -> None:
        if self._pid != os.getpid():
            # A daemonizer forked, and a thread that held the lock then is not here to give it back.
            self._pid, self._lock = os.getpid(), threading.RLock()
        with self._lock:
            if phase is Phase.STARTING:
                # After a mere stop the bus is ready anew.
                self._said = ""
                self._send("STATUS=starting", _timeout(self._allowance()))
                self._begin_watchdog()
            elif phase is Phase.STARTED:
                self._begin_watchdog()
                if not self._held:
                    self.ready()
            elif phase is Phase.RELOADING and self._said == "READY":
                self.reloading()
            elif phase in (Phase.STOPPING, Phase.EXITING):
                self._on_end(phase)
            elif phase is Phase.DRAINING:
                self.tell("draining")

    def _on_end(self, phase: Phase) -> None:
        """A restart is a reload for the manager, a mere stop has no word there, and an exit may override both."""
        if self.bus.execv:
            self.reloading()
            self.tell("restarting")
        elif self.bus.leaving:
            self.stopping()
        else:
            self.tell("stopping")
        if phase is Phase.STOPPING:
            self._send(_timeout(self._allowance()))

    def _allowance(self) -> float:
        """How many seconds the bus may need for the step it is in."""
        limits = self.bus.limits
        if self.bus.phase is Phase.STARTING:
            calls = list(self.bus.listeners.get("start", ()))
            return sum(TRUSTED if minds_itself(call) else limit_of(call, limits.start) for call in calls)
        calls = [call for channel in ("drain", "stop", "exit") for call in self.bus.listeners.get(channel, ())]
        hurried = sum(MANY if minds_itself(call) else 1 for call in calls)
        return limits.whole + limits.exit + limits.hurry * hurried

    # The watchdog

    def _begin_watchdog(self) -> None:
        if self._watchdog is None:
            interval = self._interval()
            if not interval:
                return
            if self._progress is None:
                self.bus.log("The watchdog is fed without a proof of progress: the Notifier was given none.", 30)
            self._watchdog = Watchdog(interval, self._ask, self._beat)
        self._watchdog.start()

    def _interval(self) -> float:
        """Half of WATCHDOG_USEC in seconds; 0 if the watchdog is off, or if it is that of another process."""
        usec, pid = self._environ.get("WATCHDOG_USEC", ""), self._environ.get("WATCHDOG_PID", "")
        if not usec or (pid and pid != str(os.getpid())):
            return 0.0
        if not usec.isdecimal() or not int(usec):
            self.bus.log(f"WATCHDOG_USEC={usec} is no time; the watchdog is not fed.", 40)
            return 0.0
        return int(usec) / 2e6

    def _end_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()

    def _ask(self) -> Iterable[str] | str | None:
        """What stalls. Only a bus that is STARTED is asked for it: the steps to and from there have limits."""
        if self._progress is None or self.bus.phase not in (Phase.STARTED, Phase.RELOADING):
            return None
        return self._progress()

    def _beat(self, stalled: list[str]) -> None:
        """Feed the watchdog, or say why not: by STATUS= each time, and once in the log, with all stacks."""
        if self.bus.phase is Phase.EXITED:
            # Who waits for a thread now has no limit, so the manager's counts.
            return
        before, self._stalled = self._stalled, stalled
        if stalled:
            reasons = "; ".join(map(_first_line, stalled))
            if not before:
                self.bus.log(f"The watchdog is not fed, because nothing moves: {reasons}\n{stacks()}", 40)
            self.tell(f"stalled: {reasons}")
            return
        if before:
            self.bus.log("There is progress again; the watchdog is fed.", 30)
        with self._lock:
            news = self._said == "READY" and (before or self._status is not None)
            self._send("WATCHDOG=1", *([f"STATUS={self._line()}"] if news else []))

    # How it is said

    def _line(self) -> str:
        """The STATUS= of a bus that is STARTED."""
        try:
            return ("ready" if self._status is None else _first_line(self._status())) + self._trouble
        except Exception as error:  # noqa: BLE001 - a status that cannot be told must not stop the bus
            self.bus.log("Error in the status for the service manager", 40, True)
            return f"ready; its status cannot be told: {_first_line(repr(error))}"

    def _send(self, *assignments: str, fds: Sequence[int] = ()) -> None:
        with self._lock:
            if self._mute:
                return
            try:
                self.manager.send(*assignments, fds=fds)
            except OSError as error:
                if not self._lost:
                    self.bus.log(f"The service manager cannot be told {assignments[0]}: {error}", 30)
                self._lost = True
            else:
                self._lost = False


def _first_line(text: str) -> str:
    return text.partition("\n")[0].replace("\0", "")


def _timeout(seconds: float) -> str:
    """EXTEND_TIMEOUT_USEC=; it never shortens what the unit says, and there is no word for for ever."""
    return f"EXTEND_TIMEOUT_USEC={round(min(seconds, 365 * TRUSTED) * 1e6)}"
