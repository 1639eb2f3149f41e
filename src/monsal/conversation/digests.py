"""The digest of a message that comes in, which tells a duplicate: a large one is not taken on the sockets' loop."""

from __future__ import annotations

import asyncio
from typing import Final

from monsal.mail import digest_below_received

__all__: list[str] = []

#: Octets from which a digest is taken on another thread. That of 20 MB takes 20 ms, for which no socket was read: mails
#: of 1 kB beside ten such senders had a p99 of 33 ms (P7). Below it, the hop to the thread and back costs as much.
LARGE: Final = 128 * 1024


class Digests:
    """Takes digests for one loop; of large messages one at a time, so that they do not take all processors.

    One that is given up meanwhile is still taken to its end, some milliseconds long, beside the next.
    """

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def of(self, body: tuple[bytes, ...], first: bytes) -> bytes:
        """The sha256 of `digest_below_received`; `first` is `first_bytes(body)`."""
        if sum(map(len, body)) < LARGE:
            return digest_below_received(body, first)
        # hashlib gives up the interpreter's lock for each piece, so the loop goes on meanwhile.
        async with self._turn:
            return await asyncio.to_thread(digest_below_received, body, first)
