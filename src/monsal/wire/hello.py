"""What two peers tell each other before they do more than JSON-RPC 2.0 has (rpc.B11)."""

from __future__ import annotations

from typing import Any

import msgspec

from monsal.wire.limits import PeerLimits
from monsal.wire.packets import Id

__all__ = ["CancelParams", "HelloFacts", "our_facts"]


class HelloFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What one side tells of itself in `rpc.hello` (rpc.B11).

    `api` is the hash of its interface, `beat` after how many silent seconds it pings (None: never), `limits` how much
    it takes (`frame`, `in_flight`, `queue`, `batch`, and `timeout`, the deadline of calls that name none).
    """

    version: int = 1
    api: str | None = None
    beat: float | None = None
    features: tuple[str, ...] = ()
    limits: dict[str, float] = {}


class CancelParams(msgspec.Struct):
    """The params of `rpc.cancel` and `$/cancelRequest`."""

    id: Id


def our_facts(facts: HelloFacts, limits: PeerLimits) -> dict[str, Any]:
    """The params of our `rpc.hello`, and our answer to one; the limits are told as they are."""
    told: dict[str, Any] = msgspec.to_builtins(facts)
    ours: dict[str, float] = {
        "frame": limits.frame,
        "batch": limits.batch,
        "in_flight": limits.in_flight,
        "queue": limits.queue,
        "timeout": limits.timeout,
    }
    return {**told, "beat": limits.beat, "limits": {**facts.limits, **ours}}
