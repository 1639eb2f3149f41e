"""A bus beside a model of it: every call, in any order, with listeners that fail, hang, end the process or come late.

The model knows the table `ASKED` and the rules of the contract, and none of the code: what is asked for, which
listeners are called in which order, what is raised, in which phase the bus is afterwards, and how `block` ends must be
the same each time. A listener that hangs has a fiftieth of a second; all others have the usual time, so that a busy
machine does not matter.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from monsal.bus import ASKED, WAYS, Action, Bus, ChannelFailures, Phase, State, TransitionError

CHANNELS = ("start", "graceful", "drain", "stop", "exit")
QUIET = ("nothing", "nothing", "nothing", "subscribes", "unsubscribes")
LOUD = ("fails", "interrupts", "ends 0", "ends 3")
ASKS = ("asks start", "asks stop", "asks exit", "asks restart")
#: What a listener does when it is called. Only where the bus minds the time may one hang.
DEEDS = dict.fromkeys(CHANNELS, (*QUIET, *LOUD, *ASKS, "asks graceful", "hangs")) | {"graceful": (*QUIET, *LOUD, *ASKS)}

#: Those that end a life come seldom, or there would be little to see before.
WISHES = (*("start", "stop", "graceful") * 3, "exit", "restart")
#: How long a hanging listener waits to be given up; only a failing test waits that long.
PATIENCE = 60.0

#: What a caller gets: nothing, or the name of what is raised with its code.
Outcome = tuple[str, Any]


@dataclass(eq=False)
class Part:
    """Something with listeners on some channels, each with its deed; it is started early and stopped late, or so."""

    number: int
    priority: int
    deeds: dict[str, str]

    def priority_on(self, channel: str) -> int:
        return 100 - self.priority if channel in ("drain", "stop") else self.priority


@dataclass
class Failed(Exception):
    """What ChannelFailures is in the model."""

    number: int


class Refused(Exception):
    """What TransitionError is in the model."""


@dataclass
class Model:
    """What a bus has to do."""

    phase: Phase = Phase.NEW
    execv: bool = False
    leaving: bool = False
    conducting: bool = False
    goal: Action | None = None
    reloads: int = 0
    listeners: dict[str, list[Part]] = field(default_factory=lambda: {name: [] for name in CHANNELS})
    never_started: list[Part] = field(default_factory=list)
    failed: int = 0
    start_failed: bool = False
    ended: BaseException | None = None
    called: list[tuple[str, int]] = field(default_factory=list)
    spare: dict[int, Part] = field(default_factory=dict)

    # What listeners and callers do with a bus

    def subscribe(self, channel: str, part: Part) -> None:
        if part not in self.listeners[channel]:
            self.listeners[channel].append(part)
            self.listeners[channel].sort(key=lambda one: one.priority_on(channel))

    def unsubscribe(self, channel: str, part: Part) -> None:
        if part in self.listeners[channel]:
            self.listeners[channel].remove(part)

    def ask(self, wish: str) -> None:
        if wish == "graceful":
            self._graceful()
        elif wish == "restart":
            if not self.leaving:
                self.execv = True
                self.ask("exit")
        elif wish == "start":
            self._ask("start")
            if self.start_failed:
                self.start_failed = False
                raise Failed(1)
        else:
            if wish == "exit":
                self.execv = self.execv and not self.leaving
                self.leaving = True
            before = self.failed
            if self._ask("exit" if wish == "exit" else "stop") and self.failed > before:
                raise Failed(self.failed - before)

    # How it does it

    def _ask(self, action: Action) -> bool:
        way = ASKED[self.phase][action]
        if way == "nothing":
            return False
        if way == "refused" or (self.conducting and action == "start"):
            raise Refused
        if self.conducting:
            if self.goal != "exit":
                self.goal = action
            return False
        self.conducting = True
        self.phase = way
        self.goal = "exit" if action == "exit" else None
        self.ended = None
        ended: BaseException | None = None
        more = True
        while more:
            before = self.phase
            try:
                more = {Phase.STARTING: self._start, Phase.STOPPING: self._stop, Phase.EXITING: self._exit}[before]()
            except (KeyboardInterrupt, SystemExit) as error:
                if isinstance(error, SystemExit) and not error.code and (self.failed_lately or self.start_failed):
                    error.code = 1
                ended = self.ended = ended or error
                self.phase = {Phase.STARTING: Phase.INTERRUPTED, Phase.EXITING: Phase.EXITED}.get(before, Phase.FAILED)
                more = True
            if self.goal is None or not isinstance(ASKED[self.phase][self.goal], Phase):
                more = False
            if more:
                self.phase = ASKED[self.phase][self.goal]  # type: ignore[assignment] - seen above
                if (self.goal, self.phase) in (("stop", Phase.STOPPING), ("exit", Phase.EXITING)):
                    self.goal = None
        self.goal = None
        self.conducting = False
        if ended is not None:
            raise ended
        return True

    def _start(self) -> bool:
        planned = list(self.listeners["start"])
        reached: list[Part] = []
        failures = 0
        try:
            for part in planned:
                if self.goal is not None or failures:
                    break
                reached.append(part)
                failures += self._call("start", part, failures)
        finally:
            self.never_started = [part for part in planned if part not in reached]
        if failures:
            self.start_failed = self.leaving = True
            self.goal = "exit"
        elif self.goal is None:
            self.phase = Phase.STARTED
        return True

    failed_lately: int = 0

    def _stop(self) -> bool:
        self.failed_lately = 0
        for channel in ("drain", "stop"):
            self._round(channel)
        self.phase = Phase.FAILED if self.failed_lately else Phase.STOPPED
        return True

    def _exit(self) -> bool:
        self._round("exit")
        self.phase = Phase.EXITED
        return True

    def _round(self, channel: str) -> None:
        failures = 0
        for part in list(self.listeners[channel]):
            if channel == "exit" or part not in self.never_started:
                failures += self._call(channel, part, failures)
        self.failed += failures
        self.failed_lately += failures

    def _graceful(self) -> None:
        if self.phase not in (Phase.NEW, Phase.STARTED, Phase.RELOADING, Phase.STOPPED):
            return
        self.reloads += 1
        if self.phase is Phase.STARTED:
            self.phase = Phase.RELOADING
        failures = 0
        try:
            for part in list(self.listeners["graceful"]):
                failures += self._call("graceful", part, failures)
        finally:
            self.reloads -= 1
            if self.phase is Phase.RELOADING and not self.reloads:
                self.phase = Phase.STARTED
        if failures:
            raise Failed(failures)

    def _call(self, channel: str, part: Part, earlier: int) -> int:
        """Call a listener; the number of failures."""
        self.called.append((channel, part.number))
        try:
            perform(part.deeds[channel], self, part)
        except SystemExit as error:
            if earlier and not error.code:
                error.code = 1
            raise
        except (ValueError, TimeoutError):
            return 1
        return 0

    def hang(self) -> None:
        raise TimeoutError


class Real:
    """The bus, with the same face as the model."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.called: list[tuple[str, int]] = []
        self.hanging = threading.Event()
        self.bus.subscribe("log", self._hear)
        self.spare: dict[int, Part] = {}
        self._owners: dict[int, Any] = {}

    def subscribe(self, channel: str, part: Part) -> None:
        self.bus.subscribe(channel, getattr(self._owner(part), channel), part.priority_on(channel))

    def unsubscribe(self, channel: str, part: Part) -> None:
        self.bus.unsubscribe(channel, getattr(self._owner(part), channel))

    def ask(self, wish: str) -> None:
        getattr(self.bus, wish)()

    def hang(self) -> None:
        """Until the bus has given it up, which it says; then the listener returns, late, and must not matter."""
        self.hanging = threading.Event()
        assert self.hanging.wait(PATIENCE), "the bus did not give up"

    def _hear(self, text: str, level: int) -> None:
        if "took more than" in text:
            self.hanging.set()

    def _owner(self, part: Part) -> Any:
        """The plugin of a part: an object with one method for each channel."""
        if part.number not in self._owners:
            methods = {channel: self._listener(channel, part) for channel in CHANNELS}
            self._owners[part.number] = type(f"Part{part.number}", (), methods)()
        return self._owners[part.number]

    def _listener(self, channel: str, part: Part) -> Callable[[object], None]:
        def listener(plugin: object) -> None:
            self.called.append((channel, part.number))
            perform(part.deeds[channel], self, part)

        if part.deeds[channel] == "hangs":
            listener.limit = 0.02  # type: ignore[attr-defined] - functions take attributes
        return listener


def perform(deed: str, target: Model | Real, part: Part) -> None:
    """What a listener does, on the bus or in the model."""
    verb, _, what = deed.partition(" ")
    if verb == "fails":
        raise ValueError(part.number)
    if verb == "interrupts":
        raise KeyboardInterrupt
    if verb == "ends":
        raise SystemExit(int(what))
    if verb == "hangs":
        target.hang()
    elif verb == "asks":
        with contextlib.suppress(TransitionError, ChannelFailures, Refused, Failed):
            target.ask(what)
    elif verb == "subscribes":
        for channel in CHANNELS:
            target.subscribe(channel, target.spare[part.number])
    elif verb == "unsubscribes":
        for channel in CHANNELS:
            target.unsubscribe(channel, part)


def outcome_of(call: Callable[[], object]) -> Outcome:
    try:
        call()
    except (TransitionError, Refused):
        return ("refused", None)
    except ChannelFailures as failures:
        return ("failed", None if failures else "empty")
    except Failed:
        return ("failed", None)
    except SystemExit as end:
        return ("ended", end.code)
    except KeyboardInterrupt:
        return ("interrupted", None)
    return ("done", None)


deeds = st.fixed_dictionaries({channel: st.sampled_from(DEEDS[channel]) for channel in CHANNELS})
#: Most start well, or there would be little to stop.
mostly_good = st.fixed_dictionaries(
    {channel: st.one_of(st.just("nothing"), st.sampled_from(DEEDS[channel])) for channel in CHANNELS}
)


class Life(RuleBasedStateMachine):
    """Random calls; after each one bus and model agree."""

    parts = Bundle("parts")

    def __init__(self) -> None:
        super().__init__()
        self.real = Real()
        self.model = Model()
        self.numbers = iter(range(1000))

    @initialize(several=st.lists(st.tuples(st.integers(0, 3), mostly_good), max_size=3))
    def begin(self, several: Sequence[tuple[int, dict[str, str]]]) -> None:
        for priority, given in several:
            self.come(priority, given)

    @rule(target=parts, priority=st.integers(0, 3), given=mostly_good)
    def come(self, priority: int, given: dict[str, str]) -> Part:
        """A part comes, early or late; it knows one more that comes only when it says so, and does nothing."""
        part = Part(next(self.numbers), 10 + 20 * priority, given)
        other = Part(next(self.numbers), 10 + 20 * (3 - priority), dict.fromkeys(CHANNELS, "nothing"))
        for target in (self.real, self.model):
            target.spare[part.number] = other
            for channel in CHANNELS:
                target.subscribe(channel, part)
        return part

    @rule(part=parts, channel=st.sampled_from(CHANNELS))
    def leave(self, part: Part, channel: str) -> None:
        for target in (self.real, self.model):
            target.unsubscribe(channel, part)

    @rule(part=parts, channel=st.sampled_from(CHANNELS))
    def come_again(self, part: Part, channel: str) -> None:
        for target in (self.real, self.model):
            target.subscribe(channel, part)

    @rule()
    def hurry(self) -> None:
        """It leaves each listener less time, and changes nothing else."""
        self.real.bus.hurry.set()

    @rule(wish=st.sampled_from(WISHES), elsewhere=st.booleans())
    def ask(self, wish: str, elsewhere: bool) -> None:
        """On this thread or on another one."""
        expected = outcome_of(lambda: self.model.ask(wish))
        got: list[Outcome] = []

        def call() -> None:
            got.append(outcome_of(lambda: self.real.ask(wish)))

        if elsewhere:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        else:
            call()
        assert got == [expected]

    @invariant()
    def phase_and_flag_are_those_of_the_table(self) -> None:
        bus = self.real.bus
        assert bus.phase is self.model.phase
        assert bus.state is self.model.phase.state
        assert bus.execv is self.model.execv
        assert bus.history.last()[-1:] == () or bus.statistics().running == ""

    @invariant()
    def the_same_listeners_were_called_in_the_same_order(self) -> None:
        assert self.real.called == self.model.called

    @invariant()
    def each_way_is_in_the_table(self) -> None:
        phases = [event.cause.rpartition(": ")[2] for event in self.real.bus.history.last() if event.kind == "phase"]
        for before, after in pairwise(phases):
            assert Phase(after) in WAYS[Phase(before)]

    def teardown(self) -> None:
        """Whatever happened: the end is reached by asking for it, and how `block` ends follows from the history."""
        if self.model.phase is not Phase.EXITED:
            self.ask("exit", elsewhere=False)
        self.phase_and_flag_are_those_of_the_table()
        self.the_same_listeners_were_called_in_the_same_order()
        assert self.real.bus.state is State.EXITING
        executed: list[Outcome] = []
        self.real.bus._do_execv = lambda: executed.append(("executed", None))  # type: ignore[method-assign]
        blocked = outcome_of(self.real.bus.block)
        assert (executed or [blocked])[0] == self._end_of_block()

    def _end_of_block(self) -> Outcome:
        ended = self.model.ended
        if isinstance(ended, SystemExit):
            return ("ended", ended.code)
        if ended is not None:
            return ("interrupted", None)
        if self.model.execv:
            return ("executed", None)
        return ("failed", None) if self.model.failed_lately else ("done", None)


Life.TestCase.settings = settings(deadline=None, max_examples=120, stateful_step_count=12)


@pytest.mark.rule("bus.B1", "bus.B2", "bus.B4", "bus.B6", "bus.R6", "bus.R12", "bus.R13", "bus.R14", "bus.R16")
class TestLife(Life.TestCase):  # type: ignore[misc] - made by Hypothesis
    """The machine above, run by Hypothesis."""
