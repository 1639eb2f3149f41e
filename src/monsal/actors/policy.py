"""Supervision as a pure state machine, with the semantics of an OTP supervisor (mailbox.B10).

Events go in with the time at which they happened, actions come out; the owner carries them out and reports back:

    supervisor = Supervisor([Child("a"), Child("b")])
    supervisor.start(now)                     # [Start("a")]
    supervisor.started("a", now)              # [Start("b")]
    supervisor.started("b", now)              # [Up()]
    supervisor.died("a", cause, now)          # [Start("a")]

Children start in order, each when the one before it has started, and stop in reverse. One thing is done at a time, what
happens meanwhile waits its turn: so it is in OTP, and so the tests compare it with OTP. For like children that do not
depend on one another `Policy(at_once=True)` lets each start and stop by itself.

Beyond OTP: a backoff, and causes that do not count for the intensity. `supervision.py` has the words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal

from monsal.actors.causes import Exit, ExitKind
from monsal.actors.states import StateError
from monsal.actors.supervision import (
    Action,
    Child,
    ChildPhase,
    ChildStatistics,
    Escalate,
    Phase,
    Policy,
    Reason,
    Refused,
    Start,
    Stop,
    Stopped,
    SupervisorStatistics,
    Up,
    Wait,
)

__all__ = ["Supervisor"]

#: Why a child is being started: what a failure means depends on it.
_Purpose = Literal["initial", "restart", "added", "by hand"]
#: What came and waits its turn: a child that died, one that is to be tried again, or a call.
_Event = tuple[Literal["death", "retry", "add", "terminate", "remove", "restart", "delete"], str, Child | None]
#: A part of what is being done; the number is the time of a wait.
_Step = tuple[Literal["stop", "start", "by hand", "added", "initial", "wait"], str, float]


class _Kid:
    """A child and what is known of it."""

    __slots__ = (
        "cause",
        "due",
        "failures",
        "forget",
        "jitter",
        "phase",
        "purpose",
        "recount",
        "restarts",
        "since",
        "spec",
    )

    def __init__(self, spec: Child) -> None:
        self.spec = spec
        self.phase = ChildPhase.ABSENT
        self.purpose: _Purpose = "initial"
        self.since = 0.0
        self.cause: Exit | None = None
        self.jitter = 0.0
        self.failures = 0
        self.restarts = 0
        self.due: float | None = None
        #: Whether the next try counts for the intensity: after a failed start, as in OTP, but not after a wait.
        self.recount = False
        self.forget = spec.restart == "temporary"


class Supervisor:
    """One supervisor and its children. Each method that takes `now` returns what is to be done.

    `now` is in monotonic seconds and does not go back. `jitter`, from 0 to 1, is a random number for the backoff.
    Raises `ValueError` for two children of one name, `KeyError` for a report about a child that is not known, and
    `StateError` for one that cannot be true.
    """

    def __init__(self, children: Iterable[Child] = (), policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.phase = Phase.NEW
        self._children: dict[str, _Kid] = {}
        for child in children:
            if child.id in self._children:
                raise ValueError(f"two children are called {child.id}")
            self._check(child)
            self._children[child.id] = _Kid(child)
        self._plan: deque[_Step] = deque()
        self._pending: deque[_Event] = deque()
        #: The child that is being started or stopped, for which everything else waits.
        self._current: str | None = None
        self._recent: list[float] = []
        self._restarts = 0
        self._final: Action = Stopped()
        self._actions: list[Action] = []

    def _check(self, child: Child) -> None:
        if child.significant and self.policy.auto_shutdown == "never":
            raise ValueError(f"{child.id}: a significant child means nothing without auto_shutdown")

    # What the owner wants.

    def start(self, now: float) -> list[Action]:
        """Start all children, in order; `Up` comes when all have. If one fails the others are stopped again."""
        if self.phase is not Phase.NEW:
            raise StateError(f"a supervisor starts once; this one is {self.phase.value}")
        self.phase = Phase.STARTING
        self._plan.extend(("initial", name, 0.0) for name in self._children)
        return self._go(now)

    def stop(self, now: float) -> list[Action]:
        """Stop all children, the last one first; `Stopped` comes when all are. Nothing is started any more."""
        if self.phase is Phase.DOWN or (self.phase is Phase.STOPPING and isinstance(self._final, Stopped)):
            return []
        if self.phase is Phase.STOPPING:
            self._final = Stopped()
        else:
            self._end(Stopped())
        return self._go(now)

    def add(self, child: Child, now: float) -> list[Action]:
        """Start another child, after those that there are. If it cannot be started it is forgotten."""
        self._check(child)
        return self._ask(("add", child.id, child), now)

    def terminate(self, name: str, now: float) -> list[Action]:
        """Stop one child; it stays known unless it is temporary, and `restart` starts it again."""
        return self._ask(("terminate", name, None), now)

    def restart(self, name: str, now: float) -> list[Action]:
        """Start one child that is absent."""
        return self._ask(("restart", name, None), now)

    def delete(self, name: str, now: float) -> list[Action]:
        """Forget one child that is absent."""
        return self._ask(("delete", name, None), now)

    def remove(self, name: str, now: float) -> list[Action]:
        """Stop one child and forget it."""
        return self._ask(("remove", name, None), now)

    def _ask(self, event: _Event, now: float) -> list[Action]:
        if self.phase in (Phase.STOPPING, Phase.DOWN):
            return [Refused(event[1], "not_up")]
        if self.phase is Phase.NEW:
            raise StateError("a supervisor is started before its children are changed")
        self._pending.append(event)
        return self._go(now)

    # What the owner reports.

    def started(self, name: str, now: float) -> list[Action]:
        """The child is ready."""
        kid = self._reported(name, ChildPhase.STARTING, ChildPhase.STOPPING)
        if kid.phase is ChildPhase.STARTING:
            kid.phase = ChildPhase.RUNNING
            kid.since = now
            kid.restarts += kid.purpose == "restart"
            self._over(name)
        return self._go(now)

    def ignored(self, name: str, now: float) -> list[Action]:
        """The child says that there is nothing to start (`ignore` in OTP): it stays known, and absent."""
        kid = self._reported(name, ChildPhase.STARTING, ChildPhase.STOPPING)
        self._settle(kid)
        self._over(name)
        return self._go(now)

    def start_failed(self, name: str, cause: Exit, now: float, *, jitter: float = 0.0) -> list[Action]:
        """The child was to be started, and is not there."""
        kid = self._reported(name, ChildPhase.STARTING, ChildPhase.STOPPING)
        kid.cause = cause
        kid.jitter = jitter
        self._over(name)
        if kid.phase is ChildPhase.STOPPING or self.phase is Phase.STOPPING:
            self._settle(kid)
        elif kid.purpose == "restart":
            self._plan.clear()
            kid.recount = True
            self._wait(kid, now + self._delay(kid, now), now)
        else:
            kid.phase = ChildPhase.ABSENT
            if kid.purpose == "initial":
                self._give_up("start_failed", kid)
            else:
                if kid.purpose == "added":
                    del self._children[name]
                self._actions.append(Refused(name, "start_failed", cause))
        return self._go(now)

    def died(self, name: str, cause: Exit, now: float, *, jitter: float = 0.0) -> list[Action]:
        """The child has ended: by itself, because of a `Stop`, or before it was ready."""
        kid = self._reported(name, ChildPhase.STARTING, ChildPhase.STOPPING, ChildPhase.RUNNING)
        if kid.phase is ChildPhase.STARTING:
            return self.start_failed(name, cause, now, jitter=jitter)
        kid.cause = cause
        kid.jitter = jitter
        if kid.phase is ChildPhase.STOPPING or self.phase is Phase.STOPPING:
            self._settle(kid)
            self._over(name)
        else:
            kid.phase = ChildPhase.DEAD
            self._pending.append(("death", name, None))
        return self._go(now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed: children whose wait is over are started again. Early calls do nothing."""
        for name, kid in self._children.items():
            if kid.due is not None and kid.due <= now:
                kid.due = None
                self._pending.append(("retry", name, None))
        return self._go(now)

    def _reported(self, name: str, *phases: ChildPhase) -> _Kid:
        kid = self._children[name]
        if kid.phase not in phases:
            raise StateError(f"the child {name} is {kid.phase.value}; what was reported of it cannot be")
        return kid

    # What others may see.

    def next_deadline(self) -> float | None:
        """When `tick` has something to do, or None."""
        return min((kid.due for kid in self._children.values() if kid.due is not None), default=None)

    @property
    def living(self) -> tuple[str, ...]:
        """The children that run, in their order."""
        return tuple(name for name, kid in self._children.items() if kid.phase is ChildPhase.RUNNING)

    @property
    def exit(self) -> Exit | None:
        """How the supervisor ended, for its own supervisor; None while it is not down."""
        if self.phase is not Phase.DOWN:
            return None
        return self._final.exit if isinstance(self._final, Escalate) else Exit(kind=ExitKind.SHUTDOWN)

    def statistics(self) -> SupervisorStatistics:
        """What became of each child, in order, and how many restarts there were."""
        return SupervisorStatistics(
            phase=self.phase,
            children=tuple(
                ChildStatistics(
                    id=name,
                    phase=kid.phase,
                    restarts=kid.restarts,
                    failures=kid.failures,
                    due=kid.due,
                    last=kid.cause,
                )
                for name, kid in self._children.items()
            ),
            restarts=self._restarts,
            recent=len(self._recent),
        )

    # How it goes on.

    def _go(self, now: float) -> list[Action]:
        """Do what can be done: the steps of what was begun, then, one after another, what came meanwhile."""
        while self._current is None:
            if self._plan:
                self._step(self._plan.popleft(), now)
            elif self.phase is Phase.STOPPING:
                if all(kid.phase is ChildPhase.ABSENT for kid in self._children.values()):
                    self.phase = Phase.DOWN
                    self._actions.append(self._final)
                break
            elif self.phase is Phase.STARTING and not self._is_starting():
                self.phase = Phase.UP
                self._actions.append(Up())
            elif self._pending:
                self._handle(self._pending.popleft(), now)
            else:
                break
        actions, self._actions = self._actions, []
        return actions

    def _is_starting(self) -> bool:
        return any(kid.phase is ChildPhase.STARTING and kid.purpose == "initial" for kid in self._children.values())

    def _over(self, name: str) -> None:
        if self._current == name:
            self._current = None

    def _step(self, step: _Step, now: float) -> None:
        what, name, when = step
        kid = self._children.get(name)
        if kid is None:
            return  # it was temporary, and is stopped for good
        if what == "stop":
            self._stop(kid)
        elif what == "wait":
            self._wait(kid, when, now)
        else:
            kid.phase = ChildPhase.STARTING
            kid.purpose = "restart" if what == "start" else what
            kid.due = None
            self._actions.append(Start(name))
            self._hold(name)

    def _hold(self, name: str) -> None:
        if not self.policy.at_once:
            self._current = name

    def _stop(self, kid: _Kid) -> None:
        if kid.phase in (ChildPhase.RUNNING, ChildPhase.STARTING):
            kid.phase = ChildPhase.STOPPING
            self._actions.append(Stop(kid.spec.id, kid.spec.shutdown))
            self._hold(kid.spec.id)
        elif kid.phase is not ChildPhase.STOPPING:
            self._settle(kid)

    def _settle(self, kid: _Kid) -> None:
        """It is not there, and nothing is about to start it; its death, if that waits to be handled, is forgotten."""
        if kid.phase is ChildPhase.DEAD:
            self._pending = deque(event for event in self._pending if event[:2] != ("death", kid.spec.id))
        kid.phase = ChildPhase.ABSENT
        kid.due = None
        if kid.forget:
            del self._children[kid.spec.id]

    def _wait(self, kid: _Kid, due: float, now: float) -> None:
        """Try it again at `due`; if that is now, after what came meanwhile, such as a stop."""
        kid.phase = ChildPhase.WAITING
        if due > now:
            kid.due = due
            self._actions.append(Wait(kid.spec.id, due))
        else:
            self._pending.append(("retry", kid.spec.id, None))

    def _end(self, final: Action) -> None:
        """Stop all, the last one first, and then say `final`."""
        self.phase = Phase.STOPPING
        self._final = final
        self._plan.clear()
        self._pending.clear()
        for kid in list(self._children.values()):
            if kid.phase in (ChildPhase.DEAD, ChildPhase.WAITING):
                self._settle(kid)
        if self._current is not None and self._children[self._current].phase is ChildPhase.STARTING:
            self._current = None  # nobody waits for it: it is stopped when its turn comes
        self._plan.extend(("stop", name, 0.0) for name in reversed(self._children))

    def _give_up(self, reason: Reason, kid: _Kid) -> None:
        cause = kid.cause or Exit(kind=ExitKind.NORMAL)
        detail = f"{_GAVE_UP[reason]}: {kid.spec.id} {cause}"
        kind = ExitKind.START_FAILED if reason == "start_failed" else ExitKind.SHUTDOWN
        self._end(Escalate(reason, kid.spec.id, cause, Exit(kind=kind, detail=detail)))

    # What is done about what came.

    def _handle(self, event: _Event, now: float) -> None:
        what, name, child = event
        if what == "add" and child is not None:
            self._add(child)
            return
        kid = self._children.get(name)
        if what == "death":
            if kid is not None and kid.phase is ChildPhase.DEAD:
                self._bury(kid, now)
        elif what == "retry":
            # It may have been stopped or started meanwhile, or wait for another time.
            if kid is not None and kid.phase is ChildPhase.WAITING and kid.due is None:
                self._restart(kid, now, counts=kid.recount, due=now)
        elif kid is None:
            self._actions.append(Refused(name, "not_found"))
        elif what in ("terminate", "remove"):
            kid.forget = kid.forget or what == "remove"
            self._plan.append(("stop", name, 0.0))
        elif kid.phase is ChildPhase.ABSENT:
            if what == "restart":
                self._plan.append(("by hand", name, 0.0))
            else:
                del self._children[name]
        else:
            self._actions.append(Refused(name, "restarting" if kid.phase is ChildPhase.WAITING else "running"))

    def _add(self, child: Child) -> None:
        kid = self._children.get(child.id)
        if kid is not None:
            known = kid.phase in (ChildPhase.ABSENT, ChildPhase.WAITING)
            self._actions.append(Refused(child.id, "already_present" if known else "running"))
            return
        self._children[child.id] = _Kid(child)
        self._plan.append(("added", child.id, 0.0))

    def _bury(self, kid: _Kid, now: float) -> None:
        """A child has died: start it again, or not, as its kind says."""
        abnormal = kid.cause is not None and kid.cause.is_abnormal
        if kid.spec.restart == "permanent" or (kid.spec.restart == "transient" and abnormal):
            self._restart(kid, now, counts=True, due=now + self._delay(kid, now))
            return
        self._settle(kid)
        if kid.spec.significant and (
            self.policy.auto_shutdown == "any_significant"
            or not any(
                other.spec.significant and other.phase is not ChildPhase.ABSENT for other in self._children.values()
            )
        ):
            self._give_up("auto_shutdown", kid)

    def _delay(self, kid: _Kid, now: float) -> float:
        backoff = self.policy.backoff
        if backoff is None:
            return 0.0
        if kid.phase is ChildPhase.DEAD and now - kid.since >= backoff.reset_after:
            kid.failures = 0
        kid.failures += 1
        return backoff.delay(kid.failures, kid.jitter)

    def _restart(self, kid: _Kid, now: float, *, counts: bool, due: float) -> None:
        """Stop what the strategy ties to this child, and start that and the child again, not before `due`."""
        forgiven = kid.cause is not None and kid.cause.kind in self.policy.forgiven
        if counts and not forgiven and not self._count(now):
            self._settle(kid)
            self._give_up("intensity", kid)
            return
        name = kid.spec.id
        order = list(self._children)
        tied = {
            "one_for_one": [name],
            "one_for_all": order,
            "rest_for_one": order[order.index(name) :],
        }[self.policy.strategy]
        kid.phase = ChildPhase.ABSENT
        self._plan.extend(("stop", other, 0.0) for other in reversed(tied) if other != name)
        if due > now:
            kid.recount = False
            self._plan.append(("wait", name, due))
        else:
            self._restarts += 1
            self._plan.extend(("start", other, 0.0) for other in tied)

    def _count(self, now: float) -> bool:
        """One more restart; False if that is more than the policy bears. The ends of the period belong to it."""
        self._recent = [then for then in self._recent if now <= then + self.policy.period]
        self._recent.append(now)
        return self.policy.intensity is None or len(self._recent) <= self.policy.intensity


_GAVE_UP = {
    "intensity": "too many restarts in too short a time",
    "start_failed": "a child could not be started",
    "auto_shutdown": "a significant child has ended",
}
