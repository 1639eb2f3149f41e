"""The steps of a bus: start, stop, exit, and who conducts them.

`_take` asks the table in `states.py` under a lock (`inner/phases.py`). The caller that gets it conducts the bus from
phase to phase (`_conduct`) and holds no lock while listeners run. Whatever is asked for meanwhile, by another thread or
by a listener, is noted as the goal and done by the conductor next; who asked returns at once. So no call of `stop` or
`exit` can dead-lock with a listener that waits for the caller.

Where listeners run: those of `start` on the thread that called `start`, because some must fork, change the user or
install signal handlers. Those of `drain`, `stop` and `exit` on the thread that asked for it, because they look which it
is (`inner/lent.py`); but if that is the main thread on a thread of the bus, because the main thread must be able to go
on without one that hangs. All others on the thread that publishes. `async def` listeners run on the owner loop, while
that thread waits.
"""

from __future__ import annotations

import atexit
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from time import monotonic
from types import MethodType

from monsal.bus.channels import ChannelFailures, Listener
from monsal.bus.inner.held import let_go
from monsal.bus.inner.lent import Lent
from monsal.bus.inner.phases import Phases
from monsal.bus.inner.rounds import Call, Round, current_call
from monsal.bus.inner.waiting import Desk, is_held_here, spawn
from monsal.bus.limits import Hurry, Limits
from monsal.bus.states import Action, Phase, State, TransitionError

__all__ = ["Steps"]


class Steps(Phases):
    """What takes a process from state to state. Every method may be called from every thread."""

    def __init__(self, *, limits: Limits | None = None) -> None:
        super().__init__()
        self.limits = limits or Limits()
        #: Set it to have a shutdown end soon; listeners may watch it.
        self.hurry = Hurry(self._changed)
        self._restarting = False
        self._round: Round | None = None
        self._lent: Lent | None = None
        self._watcher: threading.Thread | None = None
        self._never_started: dict[int, object] = {}
        self._start_error: ChannelFailures | None = None
        self._failed: list[ChannelFailures] = []
        #: What ended the last step that was conducted, if it was no failure but an interrupt or SystemExit.
        self._ended: BaseException | None = None
        self._rush = math.inf
        self._reloads = 0
        self._checked_at_end = False

    @property
    def leaving(self) -> bool:
        """Whether the bus is on its way to the exit, or there; a mere `stop` is not that."""
        return self._leaving

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.phase.value}>"

    # What one may ask for

    def start(self) -> None:
        """Start what listens on `start`, in order, on this thread.

        Does nothing if that is done or under way. If a listener fails, the rest is not started, what was started is
        stopped, the exit listeners run, and ChannelFailures is raised. If `stop` or `exit` was asked for meanwhile,
        for example by a signal, that is done and `start` returns: `state` tells. So it does if a signal has ended the
        bus before. Raises TransitionError in all other cases while the bus is stopping or has ended.
        """
        self._check_home()
        let_go()
        try:
            if not self._take("start"):
                return
        except TransitionError:
            if self._early_signal and self.leaving:
                # B10: it is the same to whoever sent it whether that was a moment before the start or after.
                return
            raise
        self._early_signal = False
        for ears in self._ears:
            ears.come_back()
        self.hurry.clear()
        if not self._checked_at_end:
            self._checked_at_end = True
            atexit.register(self._clean_exit)
        ended = self._conduct()
        if ended is not None:
            raise ended
        error, self._start_error = self._start_error, None
        if error is not None:
            raise error

    def stop(self) -> None:
        """Stop what listens on `stop`; the bus can be started again. Does nothing if that is done or under way.

        Raises ChannelFailures after all have been called if some failed; then the state stays STOPPING.
        """
        self._check_home(asks=True)
        if self._put_off(self.stop):
            return
        self._shut_down("stop")

    def exit(self) -> None:
        """Stop, then run the exit listeners; the process ends when `block` returns.

        From two threads, or twice, it is done once: the second call returns at once. After `restart` it wins over it.
        Raises ChannelFailures at the end if listeners failed; that keeps none of the others from running.
        """
        self._check_home(asks=True)
        if self._put_off(self.exit):
            return
        with self._lock:
            if self._leaving:
                self.execv = False
            self._leaving = True
        self._shut_down("exit")

    def restart(self) -> None:
        """Exit, and have `block` replace the process on the main thread. Does nothing if the bus is leaving already."""
        self._check_home(asks=True)
        if self._put_off(self.restart):
            return
        with self._lock:
            # Of two threads that restart only one goes on, or its exit would look like one that comes after a restart.
            if self._leaving or self._restarting:
                return
            self.execv = self._restarting = True
        self.exit()

    def graceful(self) -> None:
        """Reload what can be reloaded; the state does not change. Not while the bus starts, stops or exits."""
        self._check_home(asks=True)
        if self._put_off(self.graceful):
            return
        with self._lock:
            ready = self.phase in (Phase.NEW, Phase.STARTED, Phase.RELOADING, Phase.STOPPED)
            if ready:
                self._reloads += 1
                if self.phase is Phase.STARTED:
                    self._enter(Phase.RELOADING, "graceful")
        if not ready:
            self.log(f"Bus graceful: not while {self.phase.value}", 30)
            return
        back = False
        try:
            self.log("Bus graceful")
            self._announce("phase", self.phase)
            self.publish("graceful")
        finally:
            with self._lock:
                self._reloads -= 1
                back = not self._reloads and self.phase is Phase.RELOADING and not self._abroad
                if back:
                    self._enter(Phase.STARTED, "graceful")
            if back:
                self._announce("phase", Phase.STARTED)

    def extend(self, seconds: float) -> None:
        """In a listener of `start`, `drain`, `stop` or `exit`: take at least so many seconds more from now.

        Raises RuntimeError anywhere else.
        """
        call = current_call.get()
        if call is None:
            raise RuntimeError("extend() is for a listener that is being called under a deadline")
        call.deadline = max(call.deadline, monotonic() + seconds)
        self._announce("extended", seconds)

    def _put_off(self, method: Callable[[], None]) -> bool:
        """Whether this thread is in the middle of the bus itself; then `method` is called a moment later.

        So it is when a signal handler of the program calls, or a finalizer: it would wait for what it holds itself, or
        find things half done. What fails then is logged, and raised at the end of `block`.
        """
        if not (is_held_here(self._lock) or self._lobby.interrupted):
            return False
        self._lobby.call_soon(partial(self._quietly, method))
        return True

    def _quietly(self, method: Callable[[], None]) -> None:
        """For who has nobody to tell: failures were logged, and those of an exit are raised at the end of `block`."""
        try:
            method()
        except ChannelFailures as failures:
            self.history.add("log", "it was not clean", channel=method.__name__, cause=str(failures))

    # From phase to phase

    def _shut_down(self, action: Action) -> None:
        told = tuple(self._failed)
        if not self._take(action):
            if self._abroad:
                self.log(f"The {action} is for when the start listener that forked returns in this process", 30)
            return
        # The owner loop must run while async listeners are awaited, so who asks on it has another thread conduct (B5).
        if not (self._on_owner_loop() and spawn(f"monsal-bus-{action}-all", self._conduct_here)):
            ours = threading.current_thread() is threading.main_thread()
            self._lent = lent = None if ours else Lent(self._conduct_here)
            ended = self._conduct() if lent is None else lent.lend()
            if ended is not None:
                raise ended
            self._raise_failed(told)

    def _conduct_here(self) -> BaseException | None:
        """Conduct in the stead of the thread that was to do so."""
        with self._lock:
            self._conductor = threading.get_ident()
        return self._conduct()

    def _conduct(self, first: Callable[[], bool] | None = None) -> BaseException | None:
        """Go from phase to phase until the goal is reached; one thread at a time does this.

        An interrupt or SystemExit ends the step where it is (R6, R11) and is returned, to be raised where the step was
        asked for; an exit goes on with its next step, so that the exit listeners run.
        """
        self._ended = None
        steps = {Phase.STARTING: self._run_start, Phase.STOPPING: self._run_stop, Phase.EXITING: self._run_exit}
        step = first or steps[self.phase]
        fatal: BaseException | None = None
        while True:
            try:
                more = step()
            except BaseException as error:
                if self._abroad:
                    # A listener has forked, and this is the end of the child: of it, not of the bus.
                    raise
                if isinstance(error, SystemExit) and error.code in (None, 0) and (self._failed or self._start_error):
                    # "If an earlier listener had failed and the exit code is 0, it becomes 1" (R6), in any step.
                    error.code = 1
                fatal = self._ended = fatal or error
                more = self._break_off(error)
            if not more:
                return fatal
            self._go_on()
            step = steps[self.phase]

    def _break_off(self, error: BaseException) -> bool:
        """Leave the phase of a step that was interrupted. False if no goal is left; `exit` can still be called."""
        if self._conductor != threading.get_ident():
            return False
        after = {
            Phase.STARTING: Phase.INTERRUPTED,
            Phase.STOPPING: Phase.FAILED,
            Phase.DRAINING: Phase.FAILED,
            Phase.EXITING: Phase.EXITED,
        }
        # Anywhere else the step was over, and a log listener that heard of it raised.
        return self._arrive(after.get(self.phase), type(error).__name__)

    def _run_start(self) -> bool:
        """The start listeners. False if the step ends here, or if another thread goes on instead of this one."""
        self.log("Bus STARTING")
        self._announce("phase", Phase.STARTING)
        if self._abroad:
            # One who heard that has made the process a daemon, as a listener may, see `_in_child`.
            self._move_in()
            self._go_on_in_child(None)
        listeners = self._plan("start")
        turn = Round(self, "start", listeners, Desk(), enough=self._asked_to_leave, first_failure_ends=True)
        self._round = turn
        if listeners:
            self._have_watched(turn)
        if turn.run():
            return self._started(turn)
        # This thread hung too long in a listener, and the watcher shuts the bus down in its stead.
        self._lobby.wait_for(Phase.EXITED, Phase.INTERRUPTED)
        if self._ended is not None:
            raise self._ended
        return False

    def _in_child(self, turn: Round, call: Call) -> None:
        """A listener has forked on its own, and the call has ended in the child.

        If it was to start and returns, it has made the process a daemon, and the bus goes on here. What it raises is
        raised, and ends the child.
        """
        if call.error is not None:
            raise call.error
        if turn is not self._round or turn.channel != "start":
            self._check_home()
        self._move_in()
        self._go_on_in_child(turn)

    def _go_on_in_child(self, turn: Round | None) -> None:
        """The threads that the bus had in the parent begin anew here."""
        self._lobby.forked()
        if turn is not None:
            self._have_watched(turn)

    def _have_watched(self, turn: Round) -> None:
        turn.dismissed = False
        self._watcher = spawn("monsal-bus-watch", partial(self._watch_start, turn))

    def _watch_start(self, turn: Round) -> None:
        """On a thread of its own: if a start listener takes too long, go on from there instead of its thread."""

        def take_over() -> None:
            with self._lock:
                self._conductor = threading.get_ident()
            turn.run()

        turn.watch(take_over)
        if self._conductor == threading.get_ident():
            self._conduct(partial(self._started, turn))

    def _started(self, turn: Round) -> bool:
        """What follows the start listeners: STARTED, or the way out (R11, B10). True if there is more to do."""
        self._round = None
        reached = _owners(turn.called)
        self._never_started = {key: owner for key, owner in _owners(turn.left()).items() if key not in reached}
        error = turn.outcome()
        if error is not None:
            try:
                raise error
            except ChannelFailures:
                self.log("Shutting down due to error in start listener:", 40, True)
            with self._lock:
                self._start_error = error
                self._leaving = True
                self._goal = "exit"
            return True
        with self._lock:
            if self._goal is not None:
                return True
        more = self._arrive(Phase.STARTED, "start")
        self.log("Bus STARTED")
        self._announce("phase", Phase.STARTED)
        return more

    def _run_stop(self) -> bool:
        fatal = self._begin(Phase.STOPPING, "Bus STOPPING")
        self._failed = []
        self._rush = monotonic() + self.limits.whole
        if self.listeners.get("drain"):
            with self._lock:
                self._enter(Phase.DRAINING, "stop")
            meanwhile = self._begin(Phase.DRAINING)
            fatal = fatal or meanwhile
            self._run_round("drain")
            with self._lock:
                self._enter(Phase.STOPPING, "stop")
        self._run_round("stop")
        if fatal is not None:
            raise fatal
        if self._failed:
            return self._arrive(Phase.FAILED, "stop")
        more = self._arrive(Phase.STOPPED, "stop")
        self.log("Bus STOPPED")
        return more

    def _run_exit(self) -> bool:
        fatal = self._begin(Phase.EXITING, "Bus EXITING")
        # An exit long after a stop has its own time.
        self._rush = max(self._rush, self._since + self.limits.exit)
        try:
            self._run_round("exit")
        finally:
            self._close_own_loop()
            atexit.unregister(self._clean_exit)
        if fatal is not None:
            raise fatal
        self.log("Bus EXITED")
        return self._arrive(Phase.EXITED, "exit")

    def _begin(self, phase: Phase, text: str = "") -> BaseException | None:
        """Say that a step begins; what ends more than the saying is returned, for the end of the step.

        An interrupt that comes just then, or SystemExit of who hears it, must not keep the step's own listeners from
        being called: nobody calls them later.
        """
        fatal: BaseException | None = None
        says = [partial(self.log, text)] if text else []
        for say in (*says, partial(self._announce, "phase", phase)):
            try:
                say()
            except BaseException as error:
                if self._abroad:
                    raise
                fatal = fatal or error
        return fatal

    def _run_round(self, channel: str) -> None:
        """Call the listeners of a channel on the thread that is lent or on one of the bus, watched by this one."""
        listeners = self._plan(channel)
        if not listeners:
            return
        turn = self._round = Round(self, channel, listeners, self._lobby.own_desk(), rush=self._rush)
        context, lent = copy_context(), self._lent

        def run() -> bool:
            if lent is not None:
                lent.give_up()
            return spawn(f"monsal-bus-{channel}", partial(context.copy().run, turn.run)) is not None

        # An interpreter that is ending starts no thread any more (Python 3.12): then without a watcher.
        if (lent is not None and lent.call(turn.run)) or run():
            turn.watch(run)
        else:
            turn.run()
        self._round = None
        try:
            error = turn.outcome()
            if error is not None:
                self._failed.append(error)
        finally:
            turn.desk.clear()

    def _plan(self, channel: str) -> list[Listener]:
        """The listeners to call now; a plugin that a start never reached is not drained or stopped after it (B4)."""
        listeners = self._channel(channel).order() if channel in self.listeners else ()
        if channel not in ("drain", "stop"):
            return list(listeners)
        return [listener for listener in listeners if not _owners([listener]).keys() & self._never_started.keys()]

    def _announce(self, channel: str, fact: object) -> None:
        """Publish what concerns onlookers only; those that fail are logged and stop nobody (B4).

        On `phase` each phase but the last: others who act on it at the same time may be ahead, as `bus.phase` tells. On
        `extended` the seconds that a listener asked for.
        """
        try:
            self.publish(channel, fact)
        except ChannelFailures as failures:
            self.history.add("log", "a listener failed", channel=channel, cause=str(failures))

    def _raise_failed(self, told: Sequence[ChannelFailures] = ()) -> None:
        """Raise what failed while the bus was stopped, but not what an earlier call has raised already."""
        failed = [failures for failures in self._failed if failures not in told]
        if len(failed) == 1:
            raise failed[0]
        if failed:
            raise ChannelFailures(
                "listeners failed",
                [error for failures in failed for error in failures.exceptions],
                [result for failures in failed for result in failures.results],
            )

    def _clean_exit(self) -> None:
        """At the end of the interpreter (R21): a bus that was left running is shut down, with a warning."""
        # In a forked child that ends as a process does nothing is said: even its log is the parent's.
        if self.state is not State.EXITING and not self._abroad:
            warnings.warn(
                f"the interpreter ends while the bus is in {self.state!r}, so it is shut down now; "
                "call block() after start(), or exit() before the end",
                RuntimeWarning,
                stacklevel=2,
            )
            self.exit()

    def _changed(self) -> None:
        """Listeners have changed, it is time to hurry, or there is a new goal: whoever waits looks again."""
        turn = self._round
        if turn is not None:
            turn.knock()
        self._lobby.knock()


def _owners(listeners: Iterable[Listener]) -> dict[int, object]:
    """The plugins whose methods these are, by identity; kept, so that no other gets it."""
    return {id(one.__self__): one.__self__ for one in listeners if type(one) is MethodType}
