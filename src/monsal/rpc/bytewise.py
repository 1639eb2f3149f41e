"""An API over a transport that somebody else wrote, and that only moves bytes (contract 2.2, rpc.R11).

The codec cuts and decodes, calls run on the thread that received them or on one extra thread (rpc.R21), ids are counted
here. There is no hello, no heart-beat and no cancelling on such a transport; the deadline of a call still holds.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from monsal.errors import CallExpired, ConnectionLost, MonsalError, UsageError
from monsal.rpc.bound import OutgoingCall, Terms
from monsal.rpc.classic import Codec, ErrorReply, Message, MessageBatch, Reply
from monsal.rpc.errors import DecodeError, InvalidRequest
from monsal.rpc.ports import Owner
from monsal.rpc.promise import GRACE, ActionQueue, Promise
from monsal.rpc.security import classic_ways
from monsal.rpc.wirecodec import WireCodec
from monsal.transport.threaded import background
from monsal.wire.events import Called
from monsal.wire.packets import Fault, Id

if TYPE_CHECKING:
    from monsal.rpc.dispatch import Dispatcher

__all__ = ["ByteEnd", "run_elsewhere"]

log = logging.getLogger("monsal.rpc")


def run_elsewhere(work: Awaitable[Any]) -> Any:
    """What a coroutine gives, run on the shared loop while this thread waits."""

    async def run() -> Any:
        return await work

    return background().run(run())


class _Sender:
    """One sender of such a transport, to be answered."""

    credentials = None

    def __init__(self, end: ByteEnd, name: str, gathered: list[Any] | None = None) -> None:
        self.name = name
        self._end = end
        self._gathered = gathered

    def answer(self, identifier: Id, result: Any) -> None:
        if self._gathered is not None:
            self._gathered.append(Reply(result, identifier))
            return
        end = self._end
        end.send(end.codec.encode_reply(Message("", {}, identifier), result, end.sec_out), [self.name])

    def hold(self) -> None:
        """Room is not counted here: one call at a time is handled anyway."""

    release = hold

    def refuse(self, identifier: Id, code: int, message: str, data: Any = None) -> None:
        if self._gathered is not None:
            self._gathered.append(ErrorReply(message, identifier, code, {}, data))
            return
        end = self._end
        told = _Told(message, data)
        end.send(end.codec.encode_error(Message("", {}, identifier), told, code, end.sec_out), [self.name])


class _Told(Exception):
    """The words of a fault, for `encode_error`."""

    def __init__(self, message: str, data: Any) -> None:
        super().__init__(message)
        self.data = data


class _Pending(msgspec.Struct):
    promise: Promise
    call: OutgoingCall
    deadline: float


class ByteEnd:
    """The end of an API that speaks over a transport of bytes."""

    def __init__(self, api: Owner, dispatcher: Dispatcher) -> None:
        self._api = api
        self._dispatcher = dispatcher
        self._lock = threading.Lock()
        self._pending: dict[Any, _Pending] = {}
        self._last_id = 0
        self._queue = ActionQueue("monsal-rpc-calls")
        self._look_at = math.inf

    @property
    def codec(self) -> Codec:
        """The codec of this moment (rpc.R5)."""
        codec: Codec = self._api.codec
        return codec

    @property
    def sec_out(self) -> Any:
        """What seals a payload, None if nothing does."""
        return classic_ways(self._api.security)[0]

    def send(self, data: bytes, receivers: list[str] | None) -> None:
        """Send bytes over the transport of this moment (rpc.R5, rpc.R6)."""
        transport = self._api.transport
        if transport is None:
            raise UsageError("this API has no transport; set one first")
        transport.send(data, receivers)

    # -- what is said -----------------------------------------------------------------------------------------

    def post(self, call: OutgoingCall, kwargs: dict[str, Any], terms: Terms, wants_reply: bool) -> Promise | None:
        """Send a call on this thread; the promise of its reply, if it has one (rpc.R9)."""
        receivers = None if terms.to is None else list(terms.to)
        if not wants_reply:
            self.send(self.codec.encode(call.__name__, kwargs, 0, self.sec_out), receivers)
            return None
        patience = terms.timeout or self._api.limits.timeout
        promise = Promise(patience=patience + GRACE)
        transport = self._api.transport
        promise.setter_thread = None if transport is None else transport.receiver_thread
        with self._lock:
            # An id is used up only by what can be said (rpc.R8).
            known = self._last_id + 1
            data = self.codec.encode(call.__name__, kwargs, known, self.sec_out)
            self._last_id = known
            deadline = time.monotonic() + patience
            self._pending[known] = _Pending(promise, call, deadline)
        promise._on_cancel = lambda: self._pending.pop(known, None)
        try:
            self.send(data, receivers)
        except BaseException:
            self._pending.pop(known, None)
            raise
        self._watch(deadline)
        return promise

    async def ask(self, call: OutgoingCall, kwargs: dict[str, Any], terms: Terms) -> Any:
        """The result of a call, awaited."""
        promise = self.post(call, kwargs, terms, True)
        assert promise is not None
        return await promise

    def lost(self, reason: str) -> None:
        """No reply will come any more (rpc.B3)."""
        with self._lock:
            pending, self._pending = self._pending, {}
        for one in pending.values():
            one.promise._settle(None, ConnectionLost(reason, sent=True))

    def _watch(self, deadline: float) -> None:
        """See to it that a call without a reply fails at its deadline: one timer for all of them."""
        if deadline < self._look_at:
            self._look_at = deadline
            loop = background().loop
            loop.call_soon_threadsafe(
                lambda: loop.call_later(max(0.0, deadline - time.monotonic()), self._expire, deadline)
            )

    def _expire(self, due: float) -> None:
        now = time.monotonic()
        with self._lock:
            late = {known: one for known, one in self._pending.items() if one.deadline <= now}
            for known in late:
                del self._pending[known]
            following = min((one.deadline for one in self._pending.values()), default=math.inf)
        if due <= self._look_at:
            self._look_at = math.inf
            if following < math.inf:
                self._watch(following)
        for one in late.values():
            one.promise._settle(None, CallExpired(f"no reply to {one.call.__name__} in time"))

    # -- what is heard ----------------------------------------------------------------------------------------

    def received(self, sender: str, data: bytes) -> bytes:
        """Handle what came from a sender; the bytes that are to stand before its next ones (rpc.R11)."""
        codec = self.codec
        try:
            sec_in = classic_ways(self._api.security)[1]
            if isinstance(codec, WireCodec):
                items, remainder = codec.decode_undeclared(data, sec_in)
            else:
                items, remainder = codec.decode(data, sec_in)
        except Exception as error:  # noqa: BLE001 - a codec should not raise, and harms only this sender if it does (rpc.B1)
            items, remainder = [error], b""
        for item in items:
            self._hear(sender, item)
        if len(remainder) > self._api.limits.frame + 4096:
            self._hear(sender, DecodeError(f"more than {self._api.limits.frame} octets without an end"))
            return b""
        return remainder

    def _hear(self, sender: str, item: Any) -> None:
        match item:
            case Message():
                self._soon(lambda: self._called(_Sender(self, sender), item))
            case MessageBatch():
                self._soon(lambda: self._called_together(sender, item))
            case Reply() | ErrorReply():
                self._replied(sender, item)
            case Exception():
                self._garbage(_Sender(self, sender), item)
            case _:
                self._garbage(_Sender(self, sender), DecodeError(f"the codec gave a {type(item).__name__}"))

    def _soon(self, action: Callable[[], object]) -> None:
        if self._api.async_processing:
            while len(self._queue) >= self._api.limits.queue and self._queue.thread is not None:
                # Whoever calls faster than it is answered is read no faster (rpc.B7).
                self._queue.wait_for_room()
            self._queue.put(action)
        else:
            action()

    def _called(self, source: _Sender, message: Message) -> None:
        if not isinstance(message.method, str):
            self._garbage(source, InvalidRequest("a method has a name"))
            return
        called = Called(message.id, message.method, message.kwargs, message.is_cast, secinfo=message.secinfo or {})
        context = self._dispatcher.admit(source, called)
        if context is not None:
            self._dispatcher.run_inline(context, run_elsewhere)

    def _called_together(self, sender: str, batch: MessageBatch) -> None:
        gathered: list[Any] = []
        source = _Sender(self, sender, gathered)
        for item in batch.items:
            if isinstance(item, Message):
                self._called(source, item)
            elif isinstance(item, Reply | ErrorReply):
                self._replied(sender, item)
            else:
                self._garbage(source, item)
        codec = self.codec
        if gathered and isinstance(codec, WireCodec):
            try:
                self.send(codec.encode_batch(gathered), [sender])
            except (MonsalError, OSError) as error:
                log.error("the answer to a batch of %s cannot be sent", sender, exc_info=error)

    def _garbage(self, source: _Sender, error: Exception) -> None:
        """Tell the hook; a sender whose words could not be read is told so with the id null (JSON-RPC 2.0, 5)."""
        self._dispatcher.hook(source.name, error)
        fault = getattr(error, "fault", None)
        if isinstance(fault, Fault):
            try:
                source.refuse(fault.id, fault.code, fault.message, fault.data)
            except Exception as trouble:  # noqa: BLE001 - a codec and a transport may be anybody's
                log.error("%s cannot be told of its error: %s", source.name, trouble)

    def _replied(self, sender: str, item: Reply | ErrorReply) -> None:
        try:
            with self._lock:
                pending = self._pending.pop(item.id, None)
        except TypeError:
            pending = None
        if pending is None:
            log.warning("%s replied to %r, which nobody asked", sender, item.id, extra={"action": "unknown_reply"})
            return
        if isinstance(item, ErrorReply):
            pending.promise._settle(None, self._error(item))
            return
        try:
            pending.promise._settle(pending.call.signature.result.load(item.result), None)
        except msgspec.ValidationError as error:
            name = pending.call.__name__
            pending.promise._settle(None, DecodeError(f"the reply to {name} is not what it is declared to be: {error}"))

    def _error(self, item: ErrorReply) -> Exception:
        if isinstance(item.exception, MonsalError):
            return item.exception
        code = item.errorcode if isinstance(item.errorcode, int) else 0
        return self._api._errors.error(Fault(item.id, code, str(item.exception), item.data))
