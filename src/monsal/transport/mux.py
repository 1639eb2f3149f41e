"""Open an address of any kind, and several as one.

endpoint = await open_endpoint("mux:(tcpserv::8888)(stdio:)", on_call=handle)
endpoint.links["127.0.0.1:40312"].cast("hello")
await endpoint.close()
"""

from __future__ import annotations

import asyncio
import random
from collections import ChainMap
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Unpack

from monsal.transport.acceptor import AcceptSetup, listen
from monsal.transport.address import (
    Address,
    Internal,
    Mux,
    Nowhere,
    Restart,
    Stdio,
    Tcp,
    TcpServer,
    Tls,
    Unix,
    UnixServer,
    parse,
)
from monsal.transport.connector import connect
from monsal.transport.endpoint import Endpoint, Single
from monsal.transport.link import Link
from monsal.transport.memory import join_bus
from monsal.transport.reconnector import Reconnecting
from monsal.transport.setup import LinkOptions, LinkSetup, merged

__all__ = ["Several", "open_endpoint"]


async def open_endpoint(
    address: str | Address,
    setup: LinkSetup | None = None,
    *,
    accept: AcceptSetup | None = None,
    jitter: Callable[[], float] = random.random,
    **options: Unpack[LinkOptions],
) -> Endpoint:
    """Open an address: connect, listen, take a place on a bus, or all of these together (`mux:`).

    `options` are the fields of a `LinkSetup`. Raises what `connect` and `listen` raise, an ExceptionGroup of these for
    `mux:`, ValueError for `null`. What is opened by `restart:` raises nothing, and is there when it is there.
    """
    target = parse(address) if isinstance(address, str) else address
    made = merged(setup, options)

    async def open_one(one: Address) -> Endpoint:
        match one:
            case Tcp() | Tls() | Unix() | Stdio():
                return Single(await connect(one, made))
            case TcpServer() | UnixServer():
                return await listen(one, made, accept=accept)
            case Internal():
                return join_bus(one, made)
            case Mux():
                several = Several(open_one)
                await several.add_all(one.members)
                return several
            case Restart():
                return Reconnecting(
                    lambda: open_one(one.address), name=str(one), setup=made, longest=one.seconds, jitter=jitter
                )
            case Nowhere():
                raise ValueError("null is no address that can be opened")

    return await open_one(target)


class Several:
    """Endpoints as one. They begin together; when one of them ends by a failure, all end (the contract's `mux:`).

    That the other side of one hung up is no failure: a server goes on when its standard input ends.
    """

    def __init__(self, opener: Callable[[Address], Awaitable[Endpoint]]) -> None:
        self._opener = opener
        self._watched: dict[asyncio.Task[None], tuple[Address, Endpoint]] = {}
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending: asyncio.Task[None] | None = None

    @property
    def links(self) -> Mapping[str, Link]:
        """The links of now of all of them."""
        return ChainMap(*(dict(endpoint.links) for _, endpoint in self._watched.values()))

    @property
    def addresses(self) -> Sequence[str]:
        return [address for _, endpoint in self._watched.values() for address in endpoint.addresses]

    async def add_all(self, addresses: Sequence[Address]) -> None:
        """Open these together. Raises an ExceptionGroup of every failure; then all that opened are closed again."""
        outcomes = await asyncio.gather(*(self._opener(address) for address in addresses), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for address, outcome in zip(addresses, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                self._watch(address, outcome)
        if failures:
            await self.close(0.0)
            raise BaseExceptionGroup(f"{len(failures)} of {len(addresses)} could not be opened", failures)

    async def add(self, address: str | Address) -> Endpoint:
        """Open one more. Raises what that raises; the others go on."""
        target = parse(address) if isinstance(address, str) else address
        endpoint = await self._opener(target)
        self._watch(target, endpoint)
        return endpoint

    async def remove(self, address: str | Address, grace: float = 1.0) -> None:
        """Close the one that was opened by this address. Raises ValueError if there is none."""
        target = parse(address) if isinstance(address, str) else address
        for task, (known, endpoint) in self._watched.items():
            if known == target:
                del self._watched[task]
                task.cancel()
                await endpoint.close(grace)
                return
        raise ValueError(f"{target} is not among these")

    async def close(self, grace: float = 1.0) -> None:
        """Close all of them. Raises an ExceptionGroup if some could not be closed."""
        failures = await self._close_all(grace)
        if not self._over.done():
            self._over.set_result(None)
        if failures:
            raise BaseExceptionGroup("not all could be closed", failures)

    async def wait_closed(self) -> None:
        """Wait until all have ended. Raises an ExceptionGroup of what ended them, if that was a failure."""
        await asyncio.shield(self._over)

    # -- inside -----------------------------------------------------------------------------------------------

    def _watch(self, address: Address, endpoint: Endpoint) -> None:
        task = asyncio.get_running_loop().create_task(endpoint.wait_closed(), name=f"watch {address}")
        self._watched[task] = address, endpoint
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._watched.pop(task, None) is None or task.cancelled():
            return
        error = task.exception()
        if error is not None and self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end(error), name="end all")
        elif error is None and not self._watched and not self._over.done():
            self._over.set_result(None)

    async def _end(self, error: BaseException) -> None:
        failures = [error, *await self._close_all(0.0)]
        if not self._over.done():
            self._over.set_exception(BaseExceptionGroup("one of several has failed, and all were closed", failures))

    async def _close_all(self, grace: float) -> list[BaseException]:
        watched, self._watched = self._watched, {}
        for task in watched:
            task.cancel()
        outcomes = await asyncio.gather(
            *(endpoint.close(grace) for _, endpoint in watched.values()), return_exceptions=True
        )
        return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
