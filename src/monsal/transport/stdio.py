"""A link over standard input and output, or any two descriptors."""

from __future__ import annotations

import asyncio

from monsal.transport.link import Link
from monsal.transport.pipes import DescriptorTransport
from monsal.transport.setup import LinkSetup

__all__ = ["open_stdio"]


def open_stdio(setup: LinkSetup, *, source: int = 0, sink: int = 1, name: str = "stdio") -> Link:
    """A link that reads from `source` and writes to `sink`, which stay open. On a running loop.

    Nothing else must write to standard output meanwhile: the other side would take it for a packet.
    """
    link = Link(setup, name=name, greets=False)
    DescriptorTransport(asyncio.get_running_loop(), link, source, sink).start()
    return link
