"""Where a relay connects to: one fixed next hop, or what a domain's DNS says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from monsal.smtp.endpoint import Endpoint

__all__ = ["FixedRoute", "NoRoute", "Route", "Target"]


class Target(msgspec.Struct, frozen=True):
    """A place to connect to: an endpoint and, if its name was looked up already, the address."""

    endpoint: Endpoint
    address: str = ""

    def __str__(self) -> str:
        return f"{self.endpoint} ({self.address})" if self.address else str(self.endpoint)


class NoRoute(Exception):
    """There is nowhere to connect to. `final` says that trying again is of no use."""

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


class Route(Protocol):
    """Finds where to connect to."""

    async def targets(self) -> Sequence[Target]:
        """The places to try, in this order; at least one. Raises NoRoute."""
        ...


class FixedRoute:
    """Always the same next hop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._targets = (Target(endpoint),)

    async def targets(self) -> Sequence[Target]:
        return self._targets
