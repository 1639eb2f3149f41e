"""One link to another program, over which both sides may call.

    link = await connect("unix:run/api.sock", on_call=handle)
    await link.call("status")               # raises the errors of `monsal.errors` below RemoteError
    link.cast("log", {"text": "hello"})
    link.close()
    await link.wait_closed()

All methods are for the thread of the link's loop; `threaded.run` is there for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Sequence
from typing import Any, Final

from monsal.errors import Busy, CallExpired, ConnectionLost, UsageError
from monsal.transport.driver import Driver, Keeper
from monsal.transport.setup import LinkSetup
from monsal.wire.codes import INTERNAL_ERROR, MESSAGES, METHOD_NOT_FOUND, SHUTDOWN
from monsal.wire.events import Answered, Called, Expired, Failed, Lost
from monsal.wire.packets import Fault, Id, Meta, Params

__all__ = ["Link"]

log = logging.getLogger("monsal.transport")

_NOTHING: Final[dict[str, Any]] = {}
#: Each call has a deadline, which is told the other side (rpc.B4): this one, of thirty years, for those without.
_LONGEST: Final = 1e9


class Link(Driver):
    """A connection to another program.

    Made by `connect`, `listen`, `open_endpoint` or `link_pair`. For each call of the other side `on_call(link, called)`
    is run; it is answered by `answer` or `refuse`, now or later.
    """

    def __init__(self, setup: LinkSetup, *, name: str, greets: bool = False, keeper: Keeper | None = None) -> None:
        super().__init__(setup, name=name, greets=greets, keeper=keeper)
        self._pending: dict[Id, asyncio.Future[Any]] = {}

    # -- what we say ------------------------------------------------------------------------------------------

    async def call(
        self, method: str, params: Params | None = None, *, timeout: float | None = None, meta: Meta | None = None
    ) -> Any:
        """The result of `method` on the other side, within `timeout` seconds (by default those of the limits).

        To cancel the task gives the call up, and the other side is told. While that one does not read, calls wait.
        Raises CallExpired, ConnectionLost, EncodeError, or what was answered, below RemoteFault.
        """
        if self.is_choked:
            await self._wait_for_room(timeout)
        identifier, future = self.begin(method, params, timeout, meta)
        try:
            return await future
        except asyncio.CancelledError:
            self.give_up(identifier)
            raise

    def begin(
        self, method: str, params: Params | None = None, timeout: float | None = None, meta: Meta | None = None
    ) -> tuple[int, asyncio.Future[Any]]:
        """Make the call at once, whether the other side reads or not: its id and its future.

        For callers that do on their own what `call` does: look at `is_choked`, and `give_up` when they are cancelled.
        """
        if self._transport is None or self.peer.is_lost:
            self._check_open()
        if timeout == math.inf:
            timeout = _LONGEST
        outbox = self._outbox
        before = outbox.buffered
        identifier = self.peer.call(
            method, _NOTHING if params is None else params, now=self._now(), timeout=timeout, meta=meta
        )
        self._own += outbox.buffered - before
        if not self._flushing:
            self._wake()
        future = self._pending[identifier] = self._loop.create_future()
        return identifier, future

    def request(
        self, method: str, params: Params | None = None, *, timeout: float | None = None, meta: Meta | None = None
    ) -> asyncio.Future[Any]:
        """Make the call at once; the future of its result. To cancel that gives the call up.

        Raises Busy if the other side does not read, otherwise as `call`.
        """
        self._refuse_if_choked()
        identifier, future = self.begin(method, params, timeout, meta)
        future.add_done_callback(lambda done: self.give_up(identifier) if done.cancelled() else None)
        return future

    async def wait_writable(self, timeout: float | None = None) -> None:
        """Wait until the other side reads what it is told. Raises CallExpired after `timeout` seconds."""
        if self.is_choked:
            await self._wait_for_room(timeout)

    def batch(
        self, items: Sequence[tuple[str, Params, bool]], *, timeout: float | None = None
    ) -> list[asyncio.Future[Any] | None]:
        """Several in one frame: (method, params, whether it is a call). Futures of the calls, None for each cast."""
        self._refuse_if_choked()
        self._check_open()
        before = self.peer.buffered
        identifiers = self.peer.batch(items, now=self._now(), timeout=timeout)
        self._own += self.peer.buffered - before
        self._wake()
        return [None if identifier is None else self._expect(identifier) for identifier in identifiers]

    def cast(self, method: str, params: Params | None = None, *, meta: Meta | None = None) -> None:
        """Tell the other side something that is not answered. Raises as `request`."""
        self._refuse_if_choked()
        self._check_open()
        before = self.peer.buffered
        self.peer.cast(method, _NOTHING if params is None else params, now=self._now(), meta=meta)
        self._own += self.peer.buffered - before
        self._wake()

    def give_up(self, identifier: Id) -> None:
        """Forget a call of ours, and tell the other side if it understands that (rpc.B4)."""
        if self._pending.pop(identifier, None) is not None and isinstance(identifier, int):
            self.peer.give_up(identifier, now=self._now())
            self._wake()

    def answer(self, identifier: Id, result: Any) -> Fault | None:
        """Give the result of a call of theirs; the fault that went out instead, if it cannot be carried (rpc.R19)."""
        if self._transport is None:
            return None
        if not self._flushing:
            self._wake()
        return self.peer.reply(identifier, result, now=0.0)

    def refuse(self, identifier: Id, code: int, message: str, data: Any = None) -> Fault | None:
        """Answer a call of theirs with a fault; otherwise as `answer`."""
        if self._transport is None:
            return None
        self._wake()
        return self.peer.fault(identifier, code, message, data, now=0.0)

    def hold(self) -> None:
        """Take the room of one call, for a cast whose handler goes on: a flood of them is held back (rpc.B7)."""
        self.peer.hold()

    def release(self) -> None:
        """Give back what `hold` took; what waits for room is heard then."""
        self.peer.release()
        self._wake()

    # -- inside -----------------------------------------------------------------------------------------------

    def _expect(self, identifier: int) -> asyncio.Future[Any]:
        future = self._pending[identifier] = self._loop.create_future()
        future.add_done_callback(lambda done: self.give_up(identifier) if done.cancelled() else None)
        return future

    def _check_open(self) -> None:
        if not self.is_open:
            raise ConnectionLost(f"the link to {self.name} has ended: {self._reason or 'not connected'}", sent=False)

    def _refuse_if_choked(self) -> None:
        if self.is_choked:
            raise Busy(f"{self.name} does not read what it is told")

    async def _wait_for_room(self, timeout: float | None) -> None:
        patience = self._setup.limits.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(None if patience == math.inf else patience):
                while self.is_choked and self.is_open:
                    if self._room is None:
                        self._room = self._loop.create_future()
                    await asyncio.shield(self._room)
        except TimeoutError:
            raise CallExpired(f"{self.name} does not read; the call was not made") from None

    def _handle(self, event: Any) -> None:
        kind = type(event)
        if kind is Answered:
            future = self._pending.pop(event.id, None)
            if future is not None and not future.done():
                future.set_result(event.result)
        elif kind is Called:
            self._called(event)
        elif kind is Failed:
            self._fail(event.id, self._setup.error(event.fault))
        elif kind is Expired:
            self._fail(event.id, CallExpired(f"{self.name} did not answer in time"))
        elif kind is Lost:
            self._lost(event)
        else:
            self._tell(event)

    def _called(self, called: Called) -> None:
        handler = self._setup.on_call
        try:
            if self._refusing:
                if not called.is_cast:
                    self.refuse(called.id, SHUTDOWN, MESSAGES[SHUTDOWN])
            elif handler is not None:
                handler(self, called)
            elif not called.is_cast:
                self.refuse(called.id, METHOD_NOT_FOUND, MESSAGES[METHOD_NOT_FOUND])
        except Exception:
            # One bad call ends nothing but itself (rpc.B1), and even then it is answered (rpc.B8).
            log.exception("the handler of calls failed", extra={"action": "call_failed", "link": self.name})
            if not called.is_cast:
                with contextlib.suppress(UsageError):  # it was answered before that
                    self.refuse(called.id, INTERNAL_ERROR, MESSAGES[INTERNAL_ERROR])

    def _lost(self, lost: Lost) -> None:
        self._reason = self._reason or lost.reason
        self._may_answer = lost.may_answer
        for identifier, sent in lost.calls.items():
            self._fail(identifier, ConnectionLost(f"the link to {self.name} was lost: {self._reason}", sent))
        self._tell(lost)

    def _tell(self, event: object) -> None:
        if self._setup.on_event is not None:
            try:
                self._setup.on_event(self, event)
            except Exception:
                log.exception("the handler of events failed", extra={"action": "event_failed", "link": self.name})

    def _fail(self, identifier: Id, error: Exception) -> None:
        future = self._pending.pop(identifier, None)
        if future is not None and not future.done():
            future.set_exception(error)
