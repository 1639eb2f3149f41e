"""Keep a connection: open it again whenever it ended, and make calls over whichever is there."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Unpack

from monsal.backoff import exponential
from monsal.errors import Busy, CallExpired, ConnectionLost, NotRunning, RemoteError
from monsal.transport.address import Address
from monsal.transport.connector import connect
from monsal.transport.endpoint import Endpoint, Single
from monsal.transport.link import Link
from monsal.transport.setup import LinkOptions, LinkSetup, merged
from monsal.wire.packets import Meta, Params

__all__ = ["Reconnecting", "reconnect"]

log = logging.getLogger("monsal.transport")

#: The first wait, in seconds; it doubles with each failure.
FIRST: Final = 0.1
#: An endpoint that lasted this many seconds did not fail at once: the waits begin anew.
STEADY: Final = 5.0


def reconnect(
    address: str | Address,
    setup: LinkSetup | None = None,
    *,
    longest: float = 30.0,
    jitter: Callable[[], float] = random.random,
    **options: Unpack[LinkOptions],
) -> Reconnecting:
    """A connection to `address` that comes back; `longest` seconds is the longest wait between two tries.

    `jitter` gives random numbers from 0 to 1, which spread the tries of many. Call it on a running loop; the first try
    begins at once, and `wait_connected` waits for it.
    """
    made = merged(setup, options)

    async def open_again() -> Endpoint:
        return Single(await connect(address, made))

    return Reconnecting(open_again, name=str(address), setup=made, longest=longest, jitter=jitter)


class Reconnecting:
    """An `Endpoint` that is opened again by `opener` whenever it ended, or could not be opened."""

    def __init__(
        self,
        opener: Callable[[], Awaitable[Endpoint]],
        *,
        name: str,
        setup: LinkSetup,
        longest: float,
        jitter: Callable[[], float] = random.random,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._opener = opener
        self._limits = setup.limits
        self._longest = longest
        self._jitter = jitter
        self._pause = pause
        self._loop = asyncio.get_running_loop()
        self._endpoint: Endpoint | None = None
        self._there: asyncio.Future[None] = self._loop.create_future()
        self._waiting = 0
        self._closing = False
        #: How many tries have failed since one did not.
        self.failures = 0
        self._task = self._loop.create_task(self._keep(), name=f"keep {name}")

    @property
    def links(self) -> Mapping[str, Link]:
        """The links of now; none while it is away."""
        return {} if self._endpoint is None else self._endpoint.links

    @property
    def addresses(self) -> Sequence[str]:
        return () if self._endpoint is None else self._endpoint.addresses

    async def wait_connected(self) -> Link | None:
        """Wait until it is there; its link, if it is one that has one only. Raises what ended it for good."""
        while self._endpoint is None:
            await asyncio.wait([self._there, self._task], return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                if not self._task.cancelled():
                    self._task.result()
                raise NotRunning(f"the connection to {self.name} was closed")
        return next(iter(self._endpoint.links.values()), None)

    async def call(
        self,
        method: str,
        params: Params | None = None,
        *,
        timeout: float | None = None,
        meta: Meta | None = None,
        repeatable: bool = False,
    ) -> Any:
        """The result of `method` on the other side. While that is away the call waits, within its `timeout`.

        A call that cannot have arrived is made again by itself, any other one only if it is `repeatable`: if it does no
        harm to do it twice. Otherwise ConnectionLost is raised. Raises as `Link.call`, NotRunning if the other side did
        not come back in time, Busy if too many wait for that.
        """
        patience = self._limits.timeout if timeout is None else timeout
        until = self._loop.time() + patience
        while True:
            link = next(iter(self.links.values()), None) or await self._wait_for_link(until)
            try:
                return await link.call(method, params, timeout=max(0.0, until - self._loop.time()), meta=meta)
            except ConnectionLost as error:
                if self._closing or (error.sent and not repeatable):
                    raise
                if self._loop.time() >= until:
                    raise CallExpired(f"{self.name} did not answer in time") from error
                # The end of the link is told to its calls first, and to us in one of the next turns.
                await link.wait_closed()
                await asyncio.sleep(0)

    def cast(self, method: str, params: Params | None = None, *, meta: Meta | None = None) -> None:
        """Tell the other side. Raises NotRunning if it is away; otherwise as `Link.cast`."""
        link = next(iter(self.links.values()), None)
        if link is None:
            raise NotRunning(f"{self.name} is not connected")
        link.cast(method, params, meta=meta)

    async def close(self, grace: float = 1.0) -> None:
        """End it for good."""
        self._closing = True
        endpoint = self._endpoint
        self._task.cancel()
        await asyncio.wait([self._task])
        if endpoint is not None:
            await endpoint.close(grace)

    async def wait_closed(self) -> None:
        """Wait until it was closed. Raises what ended it, if that is nothing that passes, such as a wrong setting."""
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    # -- inside -----------------------------------------------------------------------------------------------

    async def _wait_for_link(self, until: float) -> Link:
        if self._waiting >= self._limits.queue:
            raise Busy(f"{self._waiting} calls wait already until {self.name} is back")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(None if until == math.inf else until):
                while True:
                    link = await self.wait_connected()
                    if link is not None:
                        return link
                    await asyncio.sleep(0)
        except TimeoutError:
            raise NotRunning(f"{self.name} is not connected; the call was not made") from None
        finally:
            self._waiting -= 1

    async def _keep(self) -> None:
        while True:
            try:
                endpoint = await self._opener()
            except (OSError, RemoteError) as error:
                self._note(error)
            except ExceptionGroup as group:
                passing, lasting = group.split((OSError, RemoteError))
                if lasting is not None or passing is None:
                    raise
                self._note(passing)
            else:
                began = self._loop.time()
                self._endpoint = endpoint
                self._there.set_result(None)
                try:
                    await endpoint.wait_closed()
                finally:
                    self._endpoint = None
                    self._there = self._loop.create_future()
                self.failures = 1 if self._loop.time() - began >= STEADY else self.failures + 1
            await self._pause(
                exponential(self.failures, first=min(FIRST, self._longest), limit=self._longest, jitter=self._jitter())
            )

    def _note(self, error: Exception) -> None:
        self.failures += 1
        level = logging.WARNING if self.failures == 1 else logging.DEBUG
        log.log(level, "%s is away: %s", self.name, error, extra={"action": "connect_failed", "link": self.name})
