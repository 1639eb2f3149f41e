"""Supervision beside a model of it, over random trees, deaths and calls; and what holds whatever happens when.

The model is a supervisor that waits for each thing it does, as one writes it down: it has a mailbox, and calls
functions that return when a child has started or stopped. Ours never waits, and must write the same transcript.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from supervised import CAUSES, CRASH, Event, Judge, Ours, Transcript, Tree, Worker, random_script, tell

from monsal.actors import (
    BOOT_FAILURES,
    Backoff,
    Child,
    ChildPhase,
    Escalate,
    Exit,
    ExitKind,
    Phase,
    Policy,
    Refused,
    Start,
    Stop,
    Stopped,
    Supervisor,
    Up,
)


def unhurried(examples: int) -> settings:
    """Scripts are long, and a busy machine draws them slowly; that says nothing about them."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Model(Judge):
    """The world of the model."""

    def __init__(self, book: Transcript, tree: Tree) -> None:
        self.book = book
        self.now = 0.0
        self.supervisors: dict[str, Blocking] = {}
        self.root = Blocking(self, tree, None)
        self._came_up = self.root.begin()
        self.root.work()

    @property
    def came_up(self) -> bool:
        return self._came_up

    def happen(self, event: Event) -> str:
        if event[0] == "wait":
            self.now += event[1]
            return ""
        there = self.supervisors.get("s1" if event[0] == "stop" else event[1])
        if there is None:
            return "absent"
        if event[0] == "stop":
            there.end("")
            return "ok"
        if event[0] == "die":
            for victim, reason in event[2]:
                there.kill(victim, reason)
            result = ""
        else:
            result = there.call(event[0], event[2])
        there.work()
        return result

    def picture(self) -> str:
        return self.root.picture() if "s1" in self.supervisors else "down"


class Blocking:
    """A supervisor that waits for what it does. A place is None if nobody is there, `up`, or `again` (to be tried)."""

    def __init__(self, world: Model, tree: Tree, parent: Blocking | None) -> None:
        self.world = world
        self.tree = tree
        self.parent = parent
        self.specs = {child.id: child for child in tree.children}
        self.places: dict[str, str | None] = dict.fromkeys(self.specs)
        self.mailbox: deque[tuple[str, str]] = deque()
        self.alive: set[str] = set()
        self.restarts: list[float] = []

    def begin(self) -> bool:
        self.world.book.start(self.tree.id)
        self.world.supervisors[self.tree.id] = self
        if self.start_all(list(self.places)) is None:
            return True
        self.end("")
        return False

    def end(self, reason: str) -> None:
        """Stop all, the last one first; with a reason, the parent hears of it."""
        self.stop_all(list(self.places))
        del self.world.supervisors[self.tree.id]
        self.mailbox.clear()
        if reason and self.parent is not None:
            self.parent.kill(self.tree.id, reason)
            self.parent.work()

    def work(self) -> None:
        while self.mailbox:
            what, name = self.mailbox.popleft()
            if what == "again":
                if self.places.get(name) == "again":
                    self.restart(name)
            elif self.places.get(name) == "up":
                self.buried(name, what)

    def kill(self, name: str, reason: str) -> None:
        if name in self.alive:
            self.alive.remove(name)
            self.mailbox.append((reason, name))

    def buried(self, name: str, reason: str) -> None:
        spec = self.specs[name]
        in_order = reason in ("normal", "shutdown")
        if spec.restart == "permanent" or (spec.restart == "transient" and not in_order):
            self.restart(name)
            return
        self.places[name] = None
        self.forget_temporary(name)
        others = any(self.specs[other].significant and place for other, place in self.places.items())
        if spec.significant and (self.tree.auto == "any_significant" or not others):
            self.end("shutdown")

    def restart(self, name: str) -> None:
        self.restarts = [then for then in self.restarts if self.world.now - then <= self.tree.period]
        self.restarts.append(self.world.now)
        self.places[name] = None
        if len(self.restarts) > self.tree.intensity:
            self.forget_temporary(name)
            self.end("shutdown")
            return
        order = list(self.places)
        first, last = order.index(name), order.index(name) + 1
        if self.tree.strategy == "one_for_all":
            first, last = 0, len(order)
        elif self.tree.strategy == "rest_for_one":
            last = len(order)
        self.stop_all(order[first:last])
        failed = self.start_all(order[first:last])
        if failed is not None:
            self.places[failed] = "again"
            self.mailbox.append(("again", failed))

    def start_all(self, names: list[str]) -> str | None:
        """Start in order; the one that could not be started, if there was one."""
        return next((name for name in names if name in self.places and not self.start(name)), None)

    def start(self, name: str) -> bool:
        spec = self.specs[name]
        if isinstance(spec, Tree):
            came = Blocking(self.world, spec, self).begin()
            outcome = "ok" if came else "fail"
        else:
            count = self.world.book.start(name)
            for number, victim in spec.on_start:
                if number == count:
                    self.kill(victim, "crash")
            outcome = self.world.book.outcome(spec, count)
        if outcome == "ok":
            self.alive.add(name)
            self.places[name] = "up"
        elif outcome == "ignore":
            self.forget_temporary(name)
        return outcome != "fail"

    def stop_all(self, names: list[str]) -> None:
        for name in reversed(names):
            if name in self.places:
                self.stop(name)

    def stop(self, name: str) -> None:
        spec = self.specs[name]
        if name in self.alive:
            if isinstance(spec, Tree):
                self.world.supervisors[name].end("")
            elif spec.shutdown != 0:
                self.world.book.lines.append(f"stop {name}")
                for victim in spec.on_stop:
                    self.kill(victim, "crash")
            self.alive.remove(name)
        self.mailbox = deque(letter for letter in self.mailbox if letter[1] != name or letter[0] == "again")
        self.places[name] = None
        self.forget_temporary(name)

    def forget_temporary(self, name: str) -> None:
        if self.specs[name].restart == "temporary" and not self.places[name]:
            del self.places[name]

    def call(self, what: str, subject: Worker | str) -> str:
        name = subject if isinstance(subject, str) else subject.id
        if isinstance(subject, Worker):
            if name in self.places:
                return "running" if self.places[name] == "up" else "already_present"
            self.specs[name] = subject
            self.places[name] = None
            if self.start(name):
                return "ok"
            del self.places[name]
            return "start_failed"
        if name not in self.places:
            return "not_found"
        if what == "terminate":
            self.stop(name)
        elif self.places[name] is not None:
            return "running"
        elif what == "delete":
            del self.places[name]
        elif not self.start(name):
            return "start_failed"
        return "ok"

    def picture(self) -> str:
        return f"{self.tree.id}[{' '.join(self._look(name) for name in self.places)}]"

    def _look(self, name: str) -> str:
        if not self.places[name]:
            return f"-{name}"
        return self.world.supervisors[name].picture() if isinstance(self.specs[name], Tree) else name


@pytest.mark.rule("mailbox.B10")
@given(st.randoms(use_true_random=False), st.booleans())
@unhurried(600)
def test_a_tree_does_what_the_model_does(draw: Random, waits: bool) -> None:
    script = random_script(draw, 0, waits=waits)
    note(script.erlang())
    assert tell(script, Ours) == tell(script, Model)


STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
ENDS = (CRASH, CAUSES["normal"], Exit(kind=ExitKind.IMPORT_ERROR, code=1))


class Owner:
    """Carries out actions late and in any order, as processes do, and looks whether each makes sense."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.now = 0.0
        self.starting: list[str] = []
        self.running: list[str] = []
        self.stopping: list[str] = []
        self.said: list[object] = []
        self.started_at: dict[str, float] = {}

    def see(self, actions: list[object]) -> None:
        for action in actions:
            match action:
                case Start(name):
                    assert name not in {*self.starting, *self.running, *self.stopping}, f"{name} is there already"
                    assert not any(isinstance(said, Stopped | Escalate) for said in self.said), "started after the end"
                    self.starting.append(name)
                    self.started_at[name] = self.now
                case Stop(name):
                    assert name in {*self.starting, *self.running}, f"{name} is not there"
                    for place in (self.starting, self.running):
                        if name in place:
                            place.remove(name)
                    self.stopping.append(name)
                case Up() | Stopped() | Escalate():
                    self.said.append(action)
                    if not isinstance(action, Up):
                        assert [*self.starting, *self.running, *self.stopping] == [], "somebody was left behind"
        if not self.supervisor.policy.at_once:
            # A stop of all does not wait for a start that is under way.
            begun = self.stopping if self.supervisor.phase is Phase.STOPPING else [*self.starting, *self.stopping]
            assert len(begun) <= 1, "one thing at a time"

    def choose(self, draw: Random) -> None:
        """Something happens."""
        if self.starting and draw.random() < 0.5:
            name = self.starting.pop(draw.randrange(len(self.starting)))
            if draw.random() < 0.75:
                self.running.append(name)
                self.see(self.supervisor.started(name, self.now))
            else:
                told = draw.choice((self.supervisor.start_failed, self.supervisor.died))
                self.see(told(name, draw.choice(ENDS), self.now, jitter=draw.random()))
        elif self.stopping and draw.random() < 0.5:
            name = self.stopping.pop(draw.randrange(len(self.stopping)))
            self.see(self.supervisor.died(name, CAUSES["shutdown"], self.now))
        elif self.running and draw.random() < 0.6:
            name = self.running.pop(draw.randrange(len(self.running)))
            self.see(self.supervisor.died(name, draw.choice(ENDS), self.now, jitter=draw.random()))
        else:
            self.now += draw.choice((0.0, 0.01, 1.0, 100.0))
            self.see(self.supervisor.tick(self.now))

    def settle(self) -> None:
        """All that was begun succeeds, and all waits pass."""
        for _ in range(1000):
            if self.starting:
                self.running.append(self.starting[0])
                self.see(self.supervisor.started(self.starting.pop(0), self.now))
            elif self.stopping:
                self.see(self.supervisor.died(self.stopping.pop(0), CAUSES["shutdown"], self.now))
            elif (due := self.supervisor.next_deadline()) is not None:
                self.now = max(self.now, due)
                self.see(self.supervisor.tick(self.now))
            else:
                return
        raise AssertionError("it does not come to rest")


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    at_once = draw(st.booleans())
    backoff = draw(st.sampled_from([None, Backoff(), Backoff(first=1, factor=3, limit=10, reset_after=50)]))
    return Policy(
        strategy="one_for_one" if at_once else draw(st.sampled_from(STRATEGIES)),
        intensity=draw(st.sampled_from([0, 1, 3, 10] if backoff is None else [None, None, 1, 10])),
        backoff=backoff,
        forgiven=draw(st.sampled_from([frozenset(), BOOT_FAILURES])) if backoff else frozenset(),
        at_once=at_once,
    )


def children(count: int, draw: Random) -> Iterator[Child]:
    for number in range(count):
        yield Child(f"c{number}", restart=draw.choice(("permanent", "permanent", "transient", "temporary")))


@pytest.mark.rule("mailbox.B10")
@given(policies(), st.integers(0, 5), st.randoms(use_true_random=False), st.integers(0, 60), st.booleans())
@unhurried(400)
def test_whatever_happens_when_it_comes_to_rest(
    policy: Policy, count: int, draw: Random, steps: int, stops: bool
) -> None:
    """No child is started twice or left behind, and each permanent one lives in the end, or the supervisor gave up."""
    known = list(children(count, draw))
    supervisor = Supervisor(known, policy)
    owner = Owner(supervisor)
    owner.see(supervisor.start(owner.now))
    calls = draw.choice((0, 0.1))
    called = False
    for number in range(steps):
        owner.choose(draw)
        if draw.random() < calls:
            called = True
            owner.see(_call(supervisor, draw, number, owner.now))
    if stops:
        owner.see(supervisor.stop(owner.now))
    owner.settle()
    statistics = supervisor.statistics()
    if supervisor.phase is Phase.DOWN:
        assert isinstance(owner.said[-1], Stopped | Escalate)
        assert supervisor.exit is not None
        assert not supervisor.living
    else:
        assert (supervisor.phase, stops) == (Phase.UP, False)
        assert sorted(supervisor.living) == sorted(owner.running)
        assert {child.phase for child in statistics.children} <= {ChildPhase.RUNNING, ChildPhase.ABSENT}
        permanent = {child.id for child in known if child.restart == "permanent"}
        assert called or permanent <= {*supervisor.living}


def _call(supervisor: Supervisor, draw: Random, number: int, now: float) -> list[object]:
    names = [child.id for child in supervisor.statistics().children] or ["nobody"]
    what = draw.choice(("add", "terminate", "restart", "delete", "remove"))
    if what == "add":
        return [*supervisor.add(Child(f"n{number}"), now)]
    return [*getattr(supervisor, what)(draw.choice(names), now)]


@pytest.mark.rule("mailbox.B10")
@unhurried(100)
@given(st.integers(0, 4), st.lists(st.sampled_from(range(4)), max_size=40))
def test_who_never_gives_up_has_all_permanent_children_in_the_end(count: int, deaths: list[int]) -> None:
    policy = Policy(intensity=None, backoff=Backoff(), at_once=True)
    supervisor = Supervisor([Child(f"c{number}") for number in range(count)], policy)
    owner = Owner(supervisor)
    owner.see(supervisor.start(owner.now))
    owner.settle()
    for number in deaths:
        name = f"c{number}"
        if name in owner.running:
            owner.running.remove(name)
            owner.see(supervisor.died(name, CRASH, owner.now))
    owner.settle()
    assert list(supervisor.living) == [f"c{number}" for number in range(count)]
    assert not any(isinstance(action, Escalate | Refused) for action in owner.said)
