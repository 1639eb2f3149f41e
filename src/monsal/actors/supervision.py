"""The words of supervision: what a child and a policy are, and what a `Supervisor` asks its owner to do."""

from __future__ import annotations

from enum import Enum
from typing import Literal

import msgspec

from monsal.actors.causes import Exit, ExitKind
from monsal.backoff import exponential

__all__ = [
    "BOOT_FAILURES",
    "Action",
    "AutoShutdown",
    "Backoff",
    "Child",
    "ChildPhase",
    "ChildStatistics",
    "Escalate",
    "Phase",
    "Policy",
    "Reason",
    "Refused",
    "Restart",
    "Start",
    "Stop",
    "Stopped",
    "Strategy",
    "SupervisorStatistics",
    "Up",
    "Wait",
]

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
#: Why a supervisor gave up.
Reason = Literal["intensity", "start_failed", "auto_shutdown"]

#: Ends of a child that has never been ready: its code is wrong or its place is, and starting it less often is all
#: that helps.
BOOT_FAILURES = frozenset({ExitKind.IMPORT_ERROR, ExitKind.START_FAILED})


class Child(msgspec.Struct, frozen=True):
    """One child: its id, and what becomes of it when it ends.

    restart: it is started again always (`permanent`), after an abnormal end (`transient`), or never (`temporary`; then
    it is forgotten). shutdown: seconds in which it has to stop, None for as long as it takes, as for a child that is a
    supervisor itself. significant: whether its end may end the supervisor (`Policy.auto_shutdown`). Defaults are those
    of OTP for a worker.
    """

    id: str
    restart: Restart = "permanent"
    shutdown: float | None = 5.0
    significant: bool = False

    def __post_init__(self) -> None:
        if self.restart not in ("permanent", "transient", "temporary"):
            raise ValueError(f"{self.id}: a child is permanent, transient or temporary, not {self.restart!r}")
        if self.shutdown is not None and self.shutdown < 0:
            raise ValueError(f"{self.id}: a child has 0 or more seconds to stop, or None for ever")
        if self.significant and self.restart == "permanent":
            raise ValueError(f"{self.id}: a permanent child never ends for good, so it cannot be significant")


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait before a child is started again, in seconds.

    The first time it is at once. Then the wait is `first` and grows by `factor` up to `limit`, until the child has
    lived for `reset_after`.
    """

    first: float = 0.1
    factor: float = 2.0
    limit: float = 30.0
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        if self.first <= 0 or self.factor < 1 or self.limit < self.first or self.reset_after < 0:
            raise ValueError(
                "a backoff begins with more than 0 seconds, does not shrink, and has a limit above its first"
            )

    def delay(self, failures: int, jitter: float = 0.0) -> float:
        """The wait after so many failures in a row; `jitter` from 0 to 1 is drawn by the caller."""
        if failures <= 1:
            return 0.0
        return exponential(failures - 1, first=self.first, factor=self.factor, limit=self.limit, jitter=jitter)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How children are supervised.

    strategy: who is started again with a child: nobody else, all, or those after it. intensity, period: more than so
    many restarts in so many seconds, and the supervisor stops all and gives up; None is never. The defaults are those
    of OTP: 1 in 5 seconds. backoff: the wait before a restart, None for none. forgiven: kinds of ends that do not
    count for the intensity. auto_shutdown: whether the supervisor ends when significant children did. at_once:
    children start and stop beside one another; for one_for_one only.

    Raises `ValueError` for combinations that cannot be.
    """

    strategy: Strategy = "one_for_one"
    intensity: int | None = 1
    period: float = 5.0
    backoff: Backoff | None = None
    forgiven: frozenset[ExitKind] = msgspec.field(default_factory=frozenset)
    auto_shutdown: AutoShutdown = "never"
    at_once: bool = False

    def __post_init__(self) -> None:
        if self.strategy not in ("one_for_one", "one_for_all", "rest_for_one"):
            raise ValueError(f"there is no strategy {self.strategy!r}; see one_for_one, one_for_all, rest_for_one")
        if self.auto_shutdown not in ("never", "any_significant", "all_significant"):
            raise ValueError(f"auto_shutdown is never, any_significant or all_significant, not {self.auto_shutdown!r}")
        if (self.intensity is not None and self.intensity < 0) or self.period <= 0:
            raise ValueError("an intensity is 0 or more restarts in more than 0 seconds")
        if self.backoff is None and (self.intensity is None or self.forgiven):
            raise ValueError("restarts that do not count need a backoff, or a child that cannot start would never rest")
        if self.at_once and self.strategy != "one_for_one":
            raise ValueError(f"children start and stop at once only if they are independent, not with {self.strategy}")


class Phase(Enum):
    """Where a supervisor is in its life."""

    NEW = "new"
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"
    DOWN = "down"


class ChildPhase(Enum):
    """Where a child is."""

    #: It is known, does not run, and nothing is about to start it.
    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    #: It ended, and what is to be done about that has not begun.
    DEAD = "dead"
    #: It is to be started again later.
    WAITING = "waiting"
    STOPPING = "stopping"


class Start(msgspec.Struct, frozen=True):
    """Start this child now; report `started`, `start_failed` or `ignored`."""

    id: str


class Stop(msgspec.Struct, frozen=True):
    """Stop this child, by force after `within` seconds (None: never); report `died` when it is gone.

    It may still be starting; then `start_failed` says the same. If its end was reported before this could be carried
    out, there is nothing to do.
    """

    id: str
    within: float | None


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do: this child will be started again at `until`, unless something else happens before."""

    id: str
    until: float


class Refused(msgspec.Struct, frozen=True):
    """A call was in vain: `add`, `restart`, `delete` or `terminate`. `cause` is there if a start failed."""

    id: str
    why: Literal["running", "restarting", "already_present", "not_found", "start_failed", "not_up"]
    cause: Exit | None = None


class Up(msgspec.Struct, frozen=True):
    """All children have started for the first time."""


class Stopped(msgspec.Struct, frozen=True):
    """All children are stopped, as was asked for by `stop`."""


class Escalate(msgspec.Struct, frozen=True):
    """The supervisor gave up, and all its children are stopped. To its own supervisor it has ended with `exit`.

    `id` is the child with which it began, `cause` how that one ended.
    """

    reason: Reason
    id: str
    cause: Exit
    exit: Exit


Action = Start | Stop | Wait | Refused | Up | Stopped | Escalate


class ChildStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One child. `restarts` counts how often it was started again, `failures` those in a row (see `Backoff`)."""

    id: str
    phase: ChildPhase
    restarts: int
    failures: int
    due: float | None
    last: Exit | None


class SupervisorStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A supervisor and its children in order; `recent` restarts counted in the period of the last one."""

    phase: Phase
    children: tuple[ChildStatistics, ...]
    restarts: int
    recent: int
