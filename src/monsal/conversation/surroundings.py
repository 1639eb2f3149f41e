"""What the passages of one worker share: the floors they use, and what they count."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from monsal.clock import Clock
from monsal.conversation.capabilities import Capabilities
from monsal.conversation.circles import Circles
from monsal.conversation.confirming import Confirming, Questions
from monsal.conversation.context import TurnTools
from monsal.conversation.orphans import UnknownState
from monsal.conversation.runner import Runner
from monsal.conversation.turn import Sign
from monsal.mail import Checks, Message, Upstream
from monsal.routing import Router
from monsal.store.budget import ReplyBudget
from monsal.store.contract import Store

__all__ = ["Counts", "Surroundings"]


class Counts(msgspec.Struct):
    """What happened since the start of the worker."""

    turns: int = 0
    failures: int = 0
    conflicts: int = 0
    fenced: int = 0
    suppressed: int = 0
    orphans: int = 0


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What every passage of one worker uses. `states` is a foreign storage of states, given beside the store.

    `checker` finds out about a message what the pinned upstream has not said, None if that is not wanted; it may wait.
    `announce` sends the notifications of a turn that was applied, once it is durable; `sign` signs what leaves.
    """

    store: Store
    router: Router
    runner: Runner
    clock: Clock
    budget: ReplyBudget
    tools: TurnTools
    announce: Callable[[Iterable[Callable[[], object]]], None]
    deadline: float
    capabilities: Capabilities
    confirming: Confirming
    unknown_state: UnknownState = "start"
    upstream: Upstream = msgspec.field(default_factory=Upstream)
    checker: Callable[[Message], Checks] | None = None
    sign: Sign | None = None
    states: Any = None
    counts: Counts = msgspec.field(default_factory=Counts)
    circles: Circles = msgspec.field(default_factory=Circles)
    questions: Questions = msgspec.field(default_factory=Questions)
