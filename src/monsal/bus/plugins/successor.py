"""A reload without loss: a fresh process takes over the listening sockets, and only when it is ready this one drains.

    Successor(bus, lambda: {"smtp": server.sockets}, notifier=notifier).subscribe()      # `graceful` is that now
    successor.succeed()                                                                  # or asked for directly

Until the new process is ready this one serves on; whatever goes wrong ends the new one and nothing else (B11). No
connection is refused or lost: both have the same open sockets, and those that nobody has accepted yet wait in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from socket import socket
from threading import Lock

from monsal.bus.channels import ChannelFailures
from monsal.bus.core import Bus
from monsal.bus.inner.reexec import command_line, starting_directory
from monsal.bus.launching import Launched, LaunchFailed, launch
from monsal.bus.plugins.systemd import Notifier
from monsal.bus.states import Phase, TransitionError

__all__ = ["Successor"]

Sockets = Mapping[str, Sequence[socket]]


class Successor:
    """A plugin of the bus: with it `graceful` means a reload by a successor. Not for the process with the number 1.

    `sockets` are the listening sockets by name, or what returns them when they are needed; the successor finds them
    with `listen_fds`. It is started by the same command line in the same directory unless `command` is given, has
    `limit` seconds to send READY=1 (by its own `Notifier`), and goes on to report to our service manager. `check` is
    called before; what it raises prevents the launch.
    """

    def __init__(
        self,
        bus: Bus,
        sockets: Sockets | Callable[[], Sockets],
        command: Sequence[str] | None = None,
        *,
        limit: float = 30.0,
        check: Callable[[], object] | None = None,
        notifier: Notifier | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.bus = bus
        self._sockets = sockets
        self._command = command
        self._limit = limit
        self._check = check
        self._notifier = notifier
        self._environ = environ
        self._busy = Lock()
        self._changing = Lock()
        #: What ends the launch that is under way.
        self._cancel = -1

    def subscribe(self) -> None:
        """Have `graceful` reload by a successor, at priority 95: others reload their part before, or fail."""
        self.bus.subscribe("graceful", self.graceful, 95)
        self.bus.subscribe("phase", self._on_phase)

    def unsubscribe(self) -> None:
        """Undo `subscribe`."""
        self.bus.unsubscribe("graceful", self.graceful)
        self.bus.unsubscribe("phase", self._on_phase)

    def graceful(self) -> None:
        """`succeed`, while the bus runs; a bus that is stopped has nothing to hand over."""
        if self.bus.phase in (Phase.STARTED, Phase.RELOADING):
            self.succeed()

    def succeed(self) -> Launched:
        """Launch a successor, wait until it is ready, and have this process exit, beginning as this returns.

        Raises LaunchFailed with what the new process said, and whatever else hinders the launch; then all is as before.
        TransitionError if the bus is not STARTED, or has a successor already.
        """
        if not self._busy.acquire(blocking=False):
            raise TransitionError("a successor is being launched, or serves already")
        try:
            launched = self._launch()
        except BaseException as error:
            self._busy.release()
            if self._notifier is not None:
                self._notifier.reload_failed(str(error).partition("\n")[0])
            raise
        # Never released: there is one successor.
        if self._notifier is not None:
            self._notifier.succeeded_by(launched.pid)
        self.bus.log(f"Succeeded by process {launched.pid}, which was ready after {launched.seconds:.1f} seconds.")
        launched.let_go()
        self.bus.call_soon(self._leave)
        return launched

    def _launch(self) -> Launched:
        cancel = os.eventfd(0, os.EFD_CLOEXEC)
        with self._changing:
            self._cancel = cancel
        try:
            self._check_serving()
            if os.getpid() == 1:
                raise LaunchFailed("the process with the number 1 takes all others with it when it ends; restart it")
            if self._check is not None:
                self._check()
            if self._notifier is not None:
                self._notifier.reloading()
                self._notifier.extend(self._limit)
            launched = launch(
                self._command or command_line(),
                sockets=self._sockets() if callable(self._sockets) else self._sockets,
                environ=self._environ,
                cwd=starting_directory(),
                limit=self._limit,
                heir=True,
                cancel=cancel,
                on_status=lambda text: self.bus.log(f"The successor says: {text}"),
            )
        finally:
            with self._changing:
                self._cancel = -1
            os.close(cancel)
        try:
            self._check_serving()
        except TransitionError:
            # Who ended this process in the last moment meant the service.
            launched.process.terminate()
            launched.let_go()
            raise
        return launched

    def _check_serving(self) -> None:
        if self.bus.phase not in (Phase.STARTED, Phase.RELOADING):
            raise TransitionError(f"no successor can take over while the bus is {self.bus.phase.value}")

    def _on_phase(self, phase: Phase) -> None:
        """A bus that stops needs no successor any more."""
        if phase is Phase.STOPPING:
            with self._changing:
                if self._cancel >= 0:
                    os.eventfd_write(self._cancel, 1)

    def _leave(self) -> None:
        try:
            self.bus.exit()
        except ChannelFailures as failures:
            # Each was logged as it failed, and `block` raises them.
            self.bus.history.add("log", "the exit was not clean", cause=str(failures))
