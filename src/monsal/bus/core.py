"""The bus: one object that holds the state of the process and takes it from step to step.

    bus.subscribe("start", store.open, 20)
    bus.subscribe("stop", store.close, 80)
    bus.start()
    bus.block()                              # until bus.exit() is called on any thread

Publishing is in `hub.py`, start, stop and exit are in `steps.py`; here is what the threads of a process do with them:
wait for a state, block until the end, leave work for the main thread, become a fresh process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any

from monsal.bus.channels import Channel, ChannelFailures
from monsal.bus.events import BusStatistics, History
from monsal.bus.inner.children import child_threads
from monsal.bus.inner.held import held
from monsal.bus.inner.reexec import command_line, execute_again
from monsal.bus.inner.waiting import Desk, Waiter
from monsal.bus.limits import Limits
from monsal.bus.states import Phase, State
from monsal.bus.steps import Steps

if TYPE_CHECKING:
    # Only for its name: it costs more to load than all of this package.
    from socket import socket

__all__ = ["Bus"]


class Bus(Steps):
    """The life of one process. Every method may be called from every thread, unless it says otherwise."""

    def __init__(self, *, limits: Limits | None = None) -> None:
        super().__init__(limits=limits)
        #: What the image after a restart finds in its environment, beside what is there now.
        self.execv_environ: dict[str, str] = {}
        self._kept: dict[str, list[socket]] = {}

    def wait(
        self,
        state: State | Phase | Iterable[State | Phase],
        interval: float = 0.1,
        channel: str | None = None,
    ) -> None:
        """Return when the bus is in `state`, or in one of several; at once if it is there, never missing a short one.

        While `channel` has listeners it is published each `interval` seconds; their failures are only logged.
        Waiting is by event. Raises TransitionError if the bus exits, so that the state cannot come any more.
        """
        wanted = (state,) if isinstance(state, State | Phase) else tuple(state)
        for one in wanted:
            if not isinstance(one, State | Phase):
                raise TypeError(f"the bus is never in {one!r}; wait for states.STARTED, Phase.DRAINING and the like")
        name = channel or ""

        def has_tick() -> bool:
            # Asked for each time before it waits: a listener that was called here may have forked, and returned.
            self._check_home()
            return bool(name and self.listeners.get(name))

        self._lobby.wait(wanted, interval, has_tick, lambda: self._tick(name))

    def _tick(self, channel: str) -> None:
        try:
            self.publish(channel)
        except ChannelFailures as failures:
            # Each was logged as it failed, and must not end the waiting (B4).
            self.history.add("log", "a listener failed", channel=channel, cause=str(failures))

    def block(self, interval: float = 0.1) -> None:
        """On the main thread: wait until the bus has exited, join all non-daemon threads, re-execute if asked for.

        The workers of executors are not joined: the interpreter has them finish their work in the end, but a
        re-execution does not.
        A daemon thread that asked for the exit has a moment to end, as long as a listener has in a hurry.
        The channel `main` is published each `interval` seconds while it has listeners. Raises ChannelFailures in the
        end if the shutdown was not clean, so that the process does not end with code 0.
        """
        self._check_home()
        try:
            self._block(interval)
        finally:
            self._rest()

    def _block(self, interval: float) -> None:
        while self.phase is not Phase.EXITED:
            try:
                self.wait(Phase.EXITED, interval, "main")
            except (KeyboardInterrupt, InterruptedError):
                if self._abroad:
                    raise
                self.log("Keyboard Interrupt: shutting down bus")
                self._quietly(self.exit)
            except SystemExit:
                if self._abroad:
                    # A listener has forked, and this is the end of the child: of it, not of the bus.
                    raise
                self.log("SystemExit raised: shutting down bus")
                self._quietly(self.exit)
                self.wait(Phase.EXITED)
                raise
        self.log("Waiting for child threads to terminate...")
        if self._lent is not None:
            # The one that asked for the exit may be a daemon that has an answer to give, for example a server's.
            self._lent.linger(self.limits.hurry)
        while left := child_threads():
            for thread in left:
                self.log(f"Waiting for thread {thread.name}.")
                thread.join()
        if self._ended is not None:
            # A listener raised it where somebody else had called `exit`; there it ended a thread only (R6).
            raise self._ended
        if self.execv:
            self._do_execv()
        self._raise_failed()

    def _rest(self) -> None:
        """At the end of `block`: a signal that asks for what is done must not spoil the exit code now.

        If there is still a thread to wait for, in the end of the interpreter, that may have to be broken off.
        """
        others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
        if self._has_ended() and all(thread.daemon for thread in others):
            for ears in tuple(self._ears):
                ears.rest()

    def start_with_callback(
        self, func: Callable[..., object], args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> threading.Thread:
        """Start, and call `func` on a new thread when the bus is STARTED; returns that thread.

        If the start fails the thread ends without calling it (B16).
        """
        waiter = Waiter((State.STARTED,), Desk())
        self._lobby.enter(waiter)

        def call() -> None:
            while not waiter.over:
                waiter.desk.wait()
            self._lobby.leave(waiter)
            if waiter.seen:
                func(*(args or ()), **(kwargs or {}))

        thread = threading.current_thread()

        def begin() -> None:
            nonlocal thread
            thread = threading.Thread(target=call)
            thread.name = f"Bus Callback {thread.name}"
            thread.start()

        begin()
        # A daemonizer may fork while the bus starts, and then the thread is not there any more.
        waiter.again = begin
        try:
            self.start()
        except BaseException:
            waiter.over = True
            waiter.desk.knock()
            raise
        return thread

    def call_soon(self, work: Callable[[], object]) -> None:
        """Have `work` done by the bus: on the main thread if it waits in the bus, else on a short-lived thread.

        May be called in a signal handler: it takes no lock that the interrupted code can hold (B9).
        """
        self._lobby.call_soon(work)

    def doorbell(self) -> int:
        """A descriptor that wakes the main thread where it waits in the bus; call this there.

        It is for `signal.set_wakeup_fd`, without which a signal may come unnoticed when a thread just goes to sleep.
        """
        return self._lobby.main_desk.doorbell()

    @contextmanager
    def forking(self) -> Iterator[Callable[[], int]]:
        """Fork so that the bus goes on in the child: `with bus.forking() as fork:`, where `fork()` is `os.fork()`.

        Only the thread that forks lives in the child. So the bus has no thread of its own meanwhile: nobody watches the
        start listener that is running, however long the parent stays, until the child leaves the `with` block. The
        threads of `start_with_callback` begin anew in the child, and a loop of the bus's own with the next coroutine.
        Call it before the start, or in a start listener; raises RuntimeError anywhere else.
        """
        turn = self._round
        self._check_may_fork()
        self._close_own_loop(join=True)
        if turn is not None and self._watcher is not None:
            turn.dismissed = True
            turn.desk.knock()
            self._watcher.join()
            # In the last moment it may have given this call up, and gone on in its stead.
            self._check_may_fork()
        began_in = os.getpid()
        try:
            yield self._fork
        finally:
            if os.getpid() != began_in:
                self._go_on_in_child(turn)
            elif turn is not None:
                self._have_watched(turn)

    def _check_may_fork(self) -> None:
        if self._conductor not in (None, threading.get_ident()):
            raise RuntimeError("only a start listener, or who has not started yet, can have the bus go on in a child")

    def _fork(self) -> int:
        # Locks that another thread holds while one forks stay locked in the child, and what they protect half done.
        with ExitStack() as held:
            held.enter_context(self._lock)
            held.enter_context(self._lobby._lock)
            for channel in list(self.listeners.values()):
                if isinstance(channel, Channel):
                    held.enter_context(channel._lock)
            self._forker = threading.get_ident()
            try:
                child = os.fork()
            finally:
                self._forker = None
            if not child and self._home is not None:
                self._home = os.getpid()
            return child

    def statistics(self) -> BusStatistics:
        """Where the bus stands."""
        turn = self._round
        call = turn.current if turn is not None else None
        return BusStatistics(
            state=self.state.name,
            phase=self.phase.value,
            seconds=monotonic() - self._since,
            listeners={name: len(found) for name, found in list(self.listeners.items())},
            running=History.name_of(call.listener) if call is not None else "",
            events=self.history.last(),
        )

    def keep_for_restart(self, sockets: Mapping[str, Sequence[socket]]) -> None:
        """Have the image after a restart inherit listening sockets, by name, as systemd hands them over.

        Call it in a listener of `drain` or `stop`, before the sockets are closed: connections wait in them until the
        next image accepts, and none is refused. Does nothing if no restart is under way.
        """
        if self.execv:
            for name, several in sockets.items():
                self._kept.setdefault(name, []).extend(one.dup() for one in several)

    def _do_execv(self) -> None:
        """Replace the process by a fresh one of the same command line (R18).

        Returns only if the exit was asked for in the last moment. From then on signals wait for the next image.
        """
        command = command_line()
        self.log(f"Re-spawning {' '.join(command)}")
        numbers = {number for ears in self._ears for number in ears.numbers}
        # `hand_over_by_exec` uses the descriptors from 3 on.
        above = 3 + sum(map(len, self._kept.values()))
        with held(numbers, self._lobby.main_desk, above) as environ:
            # What a signal has left to be done, perhaps an exit.
            self._lobby.main_desk.clear()
            if not self.execv:
                self.log("Not re-spawned: the exit was asked for meanwhile.")
                return
            environ.update(self.execv_environ)
            if self._kept:
                # Loaded only now: it needs sockets, which cost more to load than all of this package.
                environ.update(import_module("monsal.bus.inherited").hand_over_by_exec(self._kept))
            execute_again(command, environ)
