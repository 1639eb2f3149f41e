"""Links inside this process: pairs, and buses on which each place is linked to each other (`internal:BUS:NAME`)."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from monsal.transport.address import Internal
from monsal.transport.link import Link
from monsal.transport.pipes import MemoryTransport
from monsal.transport.setup import LinkSetup

__all__ = ["Place", "join_bus", "link_pair"]


def link_pair(left: LinkSetup, right: LinkSetup, *, names: tuple[str, str] = ("left", "right")) -> tuple[Link, Link]:
    """Two links that are each other's other side, on the running loop; `names` are what each is called by the other."""
    loop = asyncio.get_running_loop()
    ends = MemoryTransport.pair(loop, loop)
    links = Link(left, name=names[1], greets=True), Link(right, name=names[0])
    for link, end in zip(links, ends, strict=True):
        end.attach(link)
    return links


class Place:
    """A place on a bus: an `Endpoint` with a link to each other place there, by its name."""

    addresses: Sequence[str] = ()

    def __init__(self, bus: str, name: str, setup: LinkSetup) -> None:
        self.bus = bus
        self.name = name
        self._setup = setup
        self._loop = asyncio.get_running_loop()
        self._links: dict[str, Link] = {}
        self._over: asyncio.Future[None] = self._loop.create_future()

    @property
    def links(self) -> Mapping[str, Link]:
        """The links of now, by the names of the other places."""
        return self._links

    async def close(self, grace: float = 1.0) -> None:
        """Leave the bus; calls that run may be answered within `grace` seconds."""
        _leave(self)
        await asyncio.gather(*(link.leave(grace) for link in list(self._links.values())))
        if not self._over.done():
            self._over.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until it was closed."""
        await asyncio.shield(self._over)

    # -- called by links and by the bus -----------------------------------------------------------------------

    def link_made(self, link: Any) -> None:
        self._links[link.name] = link

    def link_gone(self, link: Any) -> None:
        name = link.name
        if self._links.get(name) is link:
            del self._links[name]

    def meet(self, other: Place) -> None:
        """Link this place, on its own loop, to one that is there already. RuntimeError if that one's loop is closed."""
        end, theirs = MemoryTransport.pair(self._loop, other._loop)
        if other._loop is self._loop:
            other._welcome(theirs, self.name)
        else:
            other._loop.call_soon_threadsafe(other._welcome, theirs, self.name)
        end.attach(Link(self._setup, name=other.name, greets=True, keeper=self))

    def _welcome(self, end: MemoryTransport, name: str) -> None:
        end.attach(Link(self._setup, name=name, keeper=self))


_lock = threading.Lock()
#: The places of each bus that has some, by name.
_buses: Final[dict[str, dict[str, Place]]] = {}


def join_bus(address: Internal, setup: LinkSetup) -> Place:
    """Take a place on a bus of this process; an empty name becomes `BUS.1`, `BUS.2` and so on.

    The places may be on loops of different threads. Raises OSError if the name is taken.
    """
    with _lock:
        bus = _buses.get(address.bus, {})
        name = address.name
        if not name:
            number = 1
            while (name := f"{address.bus}.{number}") in bus:
                number += 1
        if name in bus:
            raise OSError(errno.EADDRINUSE, f"somebody called {name} is on the bus {address.bus} already")
        place = Place(address.bus, name, setup)
        others = list(bus.values())
        bus[name] = place
        _buses[address.bus] = bus
    for other in others:
        try:
            place.meet(other)
        except RuntimeError:  # its loop was closed without it: it will not come back
            _leave(other)
    return place


def _leave(place: Place) -> None:
    with _lock:
        bus = _buses.get(place.bus, {})
        if bus.get(place.name) is place:
            del bus[place.name]
            if not bus:
                del _buses[place.bus]
