"""The links of one API: who is connected, how a call goes out over them, and what is heard over them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from monsal.errors import ConnectionLost
from monsal.rpc.bound import OutgoingCall, Terms
from monsal.rpc.errors import DecodeError
from monsal.rpc.ports import Owner
from monsal.rpc.promise import GRACE, Promise, PromiseDeadlockError
from monsal.transport.driver import Connected, Disconnected
from monsal.transport.link import Link
from monsal.wire.events import Cancelled, Greeted, Lost, Trouble
from monsal.wire.packets import Meta

if TYPE_CHECKING:
    from monsal.rpc.dispatch import Dispatcher

__all__ = ["Ear", "Links", "Way", "load_result"]

log = logging.getLogger("monsal.rpc")


class Ear(Protocol):
    """Where what is heard over links is handled, if not on their loop: the receiver thread of blocking code."""

    receiver_thread: threading.Thread | None

    def hear(self, action: Callable[[], object]) -> None: ...


class Way(NamedTuple):
    """A link, the loop that it lives on, and who hears what comes over it."""

    link: Link
    loop: asyncio.AbstractEventLoop
    ear: Ear | None


class Links:
    """All links of one API, of whatever loops."""

    def __init__(self, api: Owner, dispatcher: Dispatcher) -> None:
        self._api = api
        self._dispatcher = dispatcher
        self._by_name: dict[str, Way] = {}
        #: How many endpoints listen: with one of them, a word to all may be heard by nobody.
        self.listening = 0
        #: The only link, as long as there is one: most programs have one.
        self._only: Way | None = None

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def names(self) -> list[str]:
        """The names of all peers that are connected."""
        return list(self._by_name)

    # -- what is heard ----------------------------------------------------------------------------------------

    def on_event(self, link: Link, event: Any, ear: Ear | None = None) -> None:
        """Something happened on a link that is no call and no answer."""
        hear = _at_once if ear is None else ear.hear
        match event:
            case Connected():
                self._by_name[link.name] = Way(link, asyncio.get_running_loop(), ear)
                self._choose()
                hear(lambda: self._api.peer_connected(link.name))
            case Disconnected():
                self._dispatcher.on_gone(link)
                self.remove(link)
                hear(lambda: self._api.peer_disconnected(link.name, event.reason))
            case Cancelled():
                self._dispatcher.on_cancelled(link, event.id, event.code)
            case Lost() if not event.may_answer:
                self._dispatcher.on_gone(link)
            case Trouble():
                error = self._api._errors.error(event.fault)
                hear(lambda: self._dispatcher.hook(link.name, error))
            case Greeted():
                self._api._compare(link, event.facts.api, hear)

    def remove(self, link: Link) -> None:
        """Have no more to do with a link."""
        if (known := self._by_name.get(link.name)) is not None and known.link is link:
            del self._by_name[link.name]
            self._choose()

    def remove_all(self, ear: Ear) -> None:
        """Have no more to do with the links of a transport."""
        for way in [way for way in self._by_name.values() if way.ear is ear]:
            self.remove(way.link)

    def _choose(self) -> None:
        self._only = next(iter(self._by_name.values())) if len(self._by_name) == 1 else None

    # -- what is said -----------------------------------------------------------------------------------------

    def one(self, to: tuple[str, ...] | None) -> Way:
        """The link for a call with one answer. Raises ConnectionLost if there is none, ValueError if several are."""
        if to is None and self._only is not None:
            return self._only
        chosen = self.chosen(to)
        if len(chosen) != 1:
            raise ValueError(f"{len(chosen)} peers are connected; say which one: .with_(to=name)")
        return chosen[0]

    def chosen(self, to: tuple[str, ...] | None) -> list[Way]:
        """The links to the named peers, or to all. Raises ConnectionLost if one is not there, or none at all."""
        names = list(self._by_name) if to is None else to
        found = [self._by_name[name] for name in names if name in self._by_name]
        if len(found) < len(names):
            missing = ", ".join(name for name in names if name not in self._by_name)
            raise ConnectionLost(f"not connected to {missing}", sent=False)
        if not found:
            raise ConnectionLost("nobody is connected", sent=False)
        return found

    async def ask(self, call: OutgoingCall, kwargs: dict[str, Any], terms: Terms) -> Any:
        """The result of a call to one peer."""
        only = self._only
        link, loop, _ = only if only is not None and terms.to is None else self.one(terms.to)
        meta = Meta(None, terms.trace, terms.key) if terms.trace or terms.key else None
        is_here = loop is asyncio.get_running_loop()
        if not is_here or link.is_choked:
            work = link.call(call.__name__, kwargs, timeout=terms.timeout, meta=meta)
            result = await (work if is_here else asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop)))
            return load_result(call, link, result)
        # `Link.call` without a coroutine of its own: each between the caller and the link costs half a microsecond.
        identifier, future = link.begin(call.__name__, kwargs, terms.timeout, meta)
        try:
            result = await future
        except asyncio.CancelledError:
            link.give_up(identifier)
            raise
        return load_result(call, link, result)

    def wait(self, call: OutgoingCall, args: tuple[Any, ...], kwargs: dict[str, Any], terms: Terms) -> Any:
        """`ask` for threads. Raises PromiseDeadlockError on the thread of the link itself (rpc.R23)."""
        loop = self.one(terms.to).loop
        if _is_here(loop):
            raise PromiseDeadlockError(f"this thread runs the links; await api.call.{call.__name__}(...) here")

        async def work() -> Any:
            given = await call.prepare_async(None if terms.to is None else list(terms.to), args, kwargs)
            return await self.ask(call, given, terms)

        future = asyncio.run_coroutine_threadsafe(work(), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def tell(self, call: OutgoingCall, kwargs: dict[str, Any], terms: Terms) -> None:
        """Send a call that is not answered to all chosen peers."""
        if terms.to is None and self.listening and not self._by_name:
            return
        meta = Meta(None, terms.trace, terms.key) if terms.trace or terms.key else None
        for link, loop, _ in self.chosen(terms.to):
            _on(loop, lambda link=link: link.cast(call.__name__, kwargs, meta=meta))  # type: ignore[misc] # a bound default

    def post(self, call: OutgoingCall, kwargs: dict[str, Any], terms: Terms) -> Promise:
        """Send a call; the promise of its first answer."""
        meta = Meta(None, terms.trace, terms.key) if terms.trace or terms.key else None
        chosen = self.chosen(terms.to)
        promise = Promise(patience=(terms.timeout or self._api.limits.timeout) + GRACE)
        promise.setter_thread = _setter(chosen[0])
        left = len(chosen)
        futures: list[tuple[asyncio.Future[Any], asyncio.AbstractEventLoop]] = []

        def settle(link: Link, future: asyncio.Future[Any]) -> None:
            nonlocal left
            left -= 1
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                try:
                    promise._settle(load_result(call, link, future.result()), None)
                except DecodeError as trouble:
                    promise._settle(None, trouble)
            elif not left:
                promise._settle(None, error)

        def begin(way: Way) -> asyncio.Future[Any]:
            hear = _at_once if way.ear is None else way.ear.hear
            future = way.link.request(call.__name__, kwargs, timeout=terms.timeout, meta=meta)
            future.add_done_callback(lambda done: hear(lambda: settle(way.link, done)))
            return future

        for way in chosen:
            futures.append((_on(way.loop, lambda way=way: begin(way)), way.loop))  # type: ignore[misc] # a bound default

        def give_up() -> None:
            for future, loop in futures:
                loop.call_soon_threadsafe(future.cancel)

        promise._on_cancel = give_up
        return promise


def load_result(call: OutgoingCall, link: Link, result: Any) -> Any:
    """The result as it is declared. Raises DecodeError if it does not fit."""
    shape = call.signature.result
    try:
        if not isinstance(result, msgspec.Raw):
            return shape.load(result)
        if link.peer.codec.name == "msgpack":
            return shape.load(link.peer.codec.value(result))
        return shape.load_json(result)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"the answer to {call.__name__} is not what it is declared to be: {error}") from None


def _at_once(action: Callable[[], object]) -> None:
    action()


def _setter(way: Way) -> threading.Thread | None:
    """The thread that brings answers over a link: whoever waits on it waits for ever (rpc.R23)."""
    if way.ear is not None:
        return way.ear.receiver_thread
    return threading.current_thread() if _is_here(way.loop) else None


def _is_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _on(loop: asyncio.AbstractEventLoop, action: Callable[[], Any]) -> Any:
    """What `action` gives, run on the thread of the loop; its errors are raised here."""
    if _is_here(loop):
        return action()

    async def run() -> Any:
        return action()

    return asyncio.run_coroutine_threadsafe(run(), loop).result()
