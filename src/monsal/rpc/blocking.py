"""The transports of this house for blocking code: `api.transport = transport("tcp:localhost:8888")`.

Links live on the loop that all blocking code shares; what is heard is handled on the receiver thread of the transport,
calls and replies in the order in which they came (rpc.R21, rpc.R22). With `async_processing` calls run on one more.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from monsal.errors import UsageError
from monsal.rpc.bytewise import run_elsewhere
from monsal.rpc.classic import Transport
from monsal.rpc.context import CallContext
from monsal.rpc.ports import Owner
from monsal.rpc.promise import ActionQueue, Promise
from monsal.transport.address import Address, Mux, Nowhere, parse
from monsal.transport.endpoint import Endpoint
from monsal.transport.link import Link
from monsal.transport.mux import Several, open_endpoint
from monsal.transport.threaded import LoopThread, background
from monsal.wire.codes import MESSAGES, SHUTDOWN
from monsal.wire.events import Called, Cancelled
from monsal.wire.packets import Id

__all__ = ["LinkTransport", "transport"]

log = logging.getLogger("monsal.rpc")


def transport(text: str) -> Transport | None:
    """The transport for an expression such as `tcp:localhost:8888` (rpc.R5), not started; None for `null`.

    Raises ValueError for an unknown one.
    """
    address = parse(text)
    return None if isinstance(address, Nowhere) else LinkTransport(address)


class _Source:
    """A link, for threads that are not its own."""

    def __init__(self, link: Link, thread: LoopThread, unanswered: set[tuple[Link, Id]]) -> None:
        self.name = link.name
        self.credentials: Any = link.credentials
        self._link = link
        self._thread = thread
        self._unanswered = unanswered

    def answer(self, identifier: Id, result: Any) -> Any:
        self._thread.loop.call_soon_threadsafe(self._on_loop, identifier, self._link.answer, identifier, result)

    def hold(self) -> None:
        """Room is not counted here: one call at a time is handled anyway."""

    release = hold

    def refuse(self, identifier: Id, code: int, message: str, data: Any = None) -> Any:
        self._thread.loop.call_soon_threadsafe(
            self._on_loop, identifier, self._link.refuse, identifier, code, message, data
        )

    def _on_loop(self, identifier: Id, say: Callable[..., Any], *words: Any) -> None:
        # A call that was cancelled meanwhile was answered then.
        if (self._link, identifier) in self._unanswered:
            self._unanswered.discard((self._link, identifier))
            if (said := say(*words)) is not None:
                log.error("an answer to %s cannot be sent: %s", self.name, said.data)


class LinkTransport(Transport):
    """Opens an address for blocking code. It belongs to one API, and moves calls, not bytes."""

    def __init__(self, *addresses: str | Address) -> None:
        super().__init__()
        self._addresses = [parse(one) if isinstance(one, str) else one for one in addresses]
        self._api: Owner | None = None
        self._endpoint: Endpoint | None = None
        self._inbox: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._calls = ActionQueue("monsal-rpc-calls")
        self._handled: dict[tuple[Link, Id], CallContext] = {}
        #: For the loop only.
        self._unanswered: set[tuple[Link, Id]] = set()
        self._thread: LoopThread | None = None

    def __repr__(self) -> str:
        return f"transport({str(self._address)!r})"

    @property
    def _address(self) -> Address:
        return self._addresses[0] if len(self._addresses) == 1 else Mux(tuple(self._addresses))

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the ports that were chosen; empty if it does not."""
        return [] if self._endpoint is None else list(self._endpoint.addresses)

    # -- the contract's -------------------------------------------------------------------------------------

    def start(self, block: bool = True, timeout: float = 10.0) -> Any:
        """See `Transport.start`."""
        if self._api is None:
            raise UsageError("set it as the transport of a RemoteAPI first")
        if self.running:
            raise UsageError("this transport runs already")
        self.running = True
        self._inbox = queue.SimpleQueue()
        self.receiver_thread = threading.Thread(target=self._receive, name="monsal-rpc-receiver", daemon=True)
        self.receiver_thread.start()
        thread = self._thread = background()
        opened = Promise(self.receiver_thread, patience=timeout)
        setup = self._api._setup({"on_call": self._on_call, "on_event": self._on_event})
        future = thread.submit(open_endpoint(self._address, setup))

        def done(_: Any) -> None:
            error = future.exception()
            if error is not None:
                self.running = False
                self._inbox.put(None)
                opened._settle(None, error)
            else:
                self._endpoint = future.result()
                watch = thread.submit(self._endpoint.wait_closed())
                watch.add_done_callback(self._ended)
                if self._api is not None:
                    self._api._links.listening += bool(self._endpoint.addresses)
                opened._settle(True, None)

        future.add_done_callback(done)
        return opened.result(timeout) if block else opened

    def stop(self, block: bool = True) -> None:
        """Hang up on everybody, after answering for at most a second what runs."""
        endpoint, self._endpoint = self._endpoint, None
        if not self.running or endpoint is None or self._thread is None:
            return
        self.running = False
        if self._api is not None:
            self._api._links.listening -= bool(endpoint.addresses)
        future = self._thread.submit(endpoint.close(1.0))
        thread = self.receiver_thread
        if block and thread is not None and thread is not threading.current_thread():
            future.result()
            thread.join()

    def _ended(self, watch: Any) -> None:
        """It was closed, here or by the other side."""
        self.running = False
        self._inbox.put(None)
        if not watch.cancelled() and (error := watch.exception()) is not None:
            log.error("%r ended", self, exc_info=error, extra={"action": "transport_failed"})

    def send(self, data: bytes, receivers: list[str] | None = None) -> None:
        """It has no use for bytes. Raises UsageError."""
        raise UsageError("this transport moves calls, not bytes; give it to a RemoteAPI, or write a Transport")

    def close(self, name: str) -> None:
        """Hang up on one peer. Raises KeyError if it is not connected."""
        endpoint, thread = self._endpoint, self._thread
        if endpoint is None or thread is None:
            raise KeyError(name)
        link = endpoint.links[name]
        thread.loop.call_soon_threadsafe(link.close)

    def __iadd__(self, other: str | LinkTransport) -> LinkTransport:
        """Open one more (`mux:` at runtime)."""
        more = other._addresses if isinstance(other, LinkTransport) else [parse(other)]
        if self._endpoint is not None and self._thread is not None:
            several = self._several()
            for address in more:
                self._thread.run(several.add(address))
        self._addresses.extend(more)
        return self

    def __isub__(self, other: str | LinkTransport) -> LinkTransport:
        """Close one of them. Raises ValueError if it is not among these."""
        for address in other._addresses if isinstance(other, LinkTransport) else [parse(other)]:
            if self._endpoint is not None and self._thread is not None:
                self._thread.run(self._several().remove(address))
            self._addresses = [known for known in self._addresses if known != address]
        return self

    def _several(self) -> Several:
        if not isinstance(self._endpoint, Several):
            raise UsageError("only a mux: can be added to while it runs")
        return self._endpoint

    # -- for the API ----------------------------------------------------------------------------------------

    def attach(self, api: Owner | None) -> None:
        """Belong to this API from now on."""
        if api is not None and self._api is not None and self._api is not api:
            raise UsageError("this transport belongs to another API")
        self._api = api

    def hear(self, action: Callable[[], object]) -> None:
        """Have `action` run on the receiver thread."""
        self._inbox.put(action)

    def _receive(self) -> None:
        while (action := self._inbox.get()) is not None:
            try:
                action()
            except Exception:
                log.exception("handling what was received failed", extra={"action": "receive_failed"})

    def _on_call(self, link: Link, called: Called) -> None:
        api, thread = self._api, self._thread
        if api is None or thread is None:
            if not called.is_cast:
                link.refuse(called.id, SHUTDOWN, "nobody listens here any more")
            return
        source = _Source(link, thread, self._unanswered)
        known = (link, called.id)
        if called.is_cast:
            # A flood of them waits at the link, and not in our inbox.
            link.hold()
        else:
            self._unanswered.add(known)

        def handle() -> None:
            if not called.is_cast and known not in self._unanswered:
                return  # it was cancelled before it began
            try:
                context = api._dispatcher.admit(source, called)
                if context is not None:
                    if not called.is_cast:
                        self._handled[known] = context
                    api._dispatcher.run_inline(context, run_elsewhere)
                    self._handled.pop(known, None)
            finally:
                if called.is_cast:
                    thread.loop.call_soon_threadsafe(link.release)

        self._inbox.put((lambda: self._calls.put(handle)) if api.async_processing else handle)

    def _on_event(self, link: Link, event: Any) -> None:
        api = self._api
        if isinstance(event, Cancelled):
            known = (link, event.id)
            context = self._handled.get(known)
            if context is not None:
                context.cancelled = context.answered = True
            if known in self._unanswered:
                self._unanswered.discard(known)
                link.refuse(event.id, event.code, MESSAGES[event.code])
        elif api is not None:
            api._links.on_event(link, event, self)
