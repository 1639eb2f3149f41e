"""What an address becomes when it is opened: links by their names, and an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from monsal.errors import NotRunning
from monsal.transport.link import Link

__all__ = ["Endpoint", "Single", "link_to"]


class Endpoint(Protocol):
    """An open address: a link, a server with its links, a place on a bus, or several of these."""

    @property
    def links(self) -> Mapping[str, Link]:
        """The links of now, by the names of the other sides (rpc.R6)."""
        ...

    @property
    def addresses(self) -> Sequence[str]:
        """Where it listens, with the ports that were chosen; empty if it does not."""
        ...

    async def close(self, grace: float = 1.0) -> None:
        """End it: calls that run may be answered within `grace` seconds."""
        ...

    async def wait_closed(self) -> None:
        """Wait until it has ended. Raises what ended it, if that was no other side's hanging up."""
        ...


class Single:
    """An endpoint with one link."""

    addresses: Sequence[str] = ()

    def __init__(self, link: Link) -> None:
        self.link = link

    @property
    def links(self) -> Mapping[str, Link]:
        return {self.link.name: self.link} if self.link.is_open else {}

    async def close(self, grace: float = 1.0) -> None:
        await self.link.leave(grace)

    async def wait_closed(self) -> None:
        await self.link.wait_closed()


def link_to(endpoint: Endpoint, name: str) -> Link:
    """The link to the other side of this name. Raises NotRunning, which is an OSError, if there is none."""
    link = endpoint.links.get(name)
    if link is None:
        raise NotRunning(f"nobody called {name!r} is connected")
    return link
