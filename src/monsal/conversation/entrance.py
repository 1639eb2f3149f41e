"""The way in for programs: mail that a call brings, rows that it looks at, and what programs are told.

    deliver(to="help@example.com", sender="ann@example.net", text="It does not work.")     in a plain method
    await deliver_async(to=..., sender=..., text=...)                                       in an `async def` one
    notify(HelpdeskAPI).ticket_opened(ticket="...")                                         there, and in a handler

These find the application whose API method or handler runs here. Other code of an application asks the object itself:
`app.deliver(...)`. What is delivered is on the disk when they return (P1), a row like that of a mail, of source `call`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import msgspec

from monsal.address import split_address
from monsal.clock import Clock
from monsal.conversation.context import _current
from monsal.conversation.spool import CallMark, Spool
from monsal.errors import StoreError, TurnError, UsageError
from monsal.ids import new_token, stable_token
from monsal.mail import Draft, Envelope, ascii_domain
from monsal.routing import Router
from monsal.smtp.replies import MESSAGE_TOO_BIG, NO_ROUTES, UNKNOWN_RECIPIENT, Refused
from monsal.store.contract import Store

__all__ = ["Cast", "Delivery", "Entrance", "deliver", "deliver_async", "notify", "read", "read_async"]

log = logging.getLogger("monsal.entrance")

T = TypeVar("T")

#: A notification, ready to be sent on the sockets' loop.
Cast = Callable[[], object]
#: Makes one from the class of an API, the name of a call and its arguments; raises what is wrong with them.
Prepare = Callable[[type, str, tuple[Any, ...], dict[str, Any]], Cast]

#: The entrance of the application whose API method runs here.
_entrance: ContextVar[Entrance] = ContextVar("monsal_entrance")


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The receipt of a delivery: it is on the disk.

    `rows` are the ids of its rows, one for each address. `repeated` is true if all of them were there before, by an
    earlier delivery with the same key. `message_id` cannot be guessed; the handler sees the same.
    """

    rows: tuple[int, ...]
    repeated: bool
    message_id: str


def _no_api(api: type, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Cast:
    raise UsageError(f"{api.__name__} is not exposed by this application; app.expose(...) does that")


class Entrance:
    """One application's way in. Made and used on the sockets' loop; `deliver`, `read` and `notify` on any other thread.

    `max_size` is the largest mail in octets that is taken.
    """

    def __init__(self, store: Store, spool: Spool, router: Router, clock: Clock, *, max_size: int) -> None:
        self._store = store
        self._spool = spool
        self._router = router
        self._clock = clock
        self._max_size = max_size
        self._loop: asyncio.AbstractEventLoop | None = None
        self._casts: deque[Cast] = deque()
        self._telling: asyncio.Task[None] | None = None
        #: Set by whoever serves the exposed APIs.
        self.prepare: Prepare = _no_api

    def open(self) -> None:
        """Bind to the running loop."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Tell nobody anything more."""
        self._loop = None
        self._casts.clear()
        if self._telling is not None:
            self._telling.cancel()

    def enter(self) -> None:
        """Make this the entrance of the code that runs in the present context."""
        _entrance.set(self)

    # -- in ---------------------------------------------------------------------------------------------------

    async def accept(
        self,
        *,
        to: str | Sequence[str],
        sender: str,
        subject: str = "",
        text: str | None = None,
        html: str | None = None,
        raw: bytes | None = None,
        key: str | None = None,
    ) -> Delivery:
        """Store a mail from a program; returns when it is on the disk (P1). On the sockets' loop."""
        recipients = (to,) if isinstance(to, str) else tuple(to)
        if not recipients:
            raise ValueError("a mail needs a recipient")
        sender = ascii_domain(sender)
        for recipient in recipients:
            # Of a whole message only its own header says who writes; it is looked at when it is handled.
            self._check(recipient, None if raw is not None else sender)
        host = ascii_domain(recipients[0]).rpartition("@")[2]
        secret = self._store.secret
        token = new_token() if key is None else stable_token(secret, "call", sender, key)
        mark = CallMark(
            message_id=f"<{token}@{host}>",
            digest=None if key is None else hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest(),
        )
        if raw is None:
            draft = Draft(to=recipients, sender=sender, subject=subject, text=text or "", html=html)
            raw = draft.render(message_id=mark.message_id, date=self._clock.now())
        elif subject or text is not None or html is not None:
            raise TypeError("raw is the whole message: there is no use for subject, text or html beside it")
        if len(raw) > self._max_size:
            raise Refused(MESSAGE_TOO_BIG)
        envelope = Envelope(sender=sender, recipients=recipients, peer="call")
        receipt = await self._spool.accept(envelope, (raw,), call=mark)
        return Delivery(rows=receipt.ids, repeated=all(receipt.duplicates), message_id=mark.message_id)

    def _check(self, recipient: str, sender: str | None) -> None:
        """Raises AddressError for what is no address, Refused for one that no route has, and for a capability that is
        forged, has expired or was made for somebody else: nobody would handle it."""
        split_address(recipient)
        if not self._router.is_loaded:
            raise Refused(NO_ROUTES)
        if not self._router.accepts(recipient):
            raise Refused(UNKNOWN_RECIPIENT)
        if self._router.table.capable:
            found = self._spool.capabilities.screen(
                self._router.match(recipient), recipient, at=self._clock.now(), correspondent=sender
            )
            if found.refusal:
                raise Refused(UNKNOWN_RECIPIENT)

    def deliver(self, **mail: Any) -> Delivery:
        """`accept` from a thread; waits for it."""
        return self._wait(lambda: self.accept(**mail), "deliver_async")

    async def deliver_async(self, **mail: Any) -> Delivery:
        """`accept` from any loop."""
        return await self._bring(self.accept(**mail))

    # -- look -------------------------------------------------------------------------------------------------

    def read(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a reading statement, as of the last applied turn, for threads. Raises StatementError."""
        return self._wait(lambda: self._store.read(sql, params), "read_async")

    async def read_async(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The same from any loop."""
        return await self._bring(self._store.read(sql, params))

    # -- out --------------------------------------------------------------------------------------------------

    def tell(self, cast: Cast) -> None:
        """Send a notification now; from any thread."""
        self._open_loop().call_soon_threadsafe(self._send, (cast,))

    def announce(self, casts: Iterable[Cast]) -> None:
        """Send the notifications of a turn that was applied, as soon as it is on the disk; on the sockets' loop.

        What a crash could still undo is told nobody. Nothing here is durable: whoever is not connected misses it.
        """
        self._casts.extend(casts)
        if self._telling is None and self._casts:
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())

    async def settle(self) -> None:
        """Wait until all that was announced was told."""
        if self._telling is not None:
            await self._telling

    async def _tell_all(self) -> None:
        try:
            while self._casts:
                casts = tuple(self._casts)
                # Of nothing at all: it answers when everything that was applied before is durable.
                await self._store.settle(())
                for _ in casts:
                    self._casts.popleft()
                self._send(casts)
        except StoreError as error:
            # The turns may have been undone; then they run again, and tell it again.
            self._casts.clear()
            log.warning("notifications are dropped: %s", error, extra={"action": "casts_dropped"})
        finally:
            self._telling = None

    def _send(self, casts: Sequence[Cast]) -> None:
        for cast in casts:
            try:
                cast()
            except Exception:
                log.exception("a notification cannot be sent", extra={"action": "cast_failed"})

    # -- from one thread to another ---------------------------------------------------------------------------

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._loop.is_closed():
            raise UsageError("the application is not open here: it is served by `monsal run`, or used by a test client")
        return self._loop

    def _wait(self, work: Callable[[], Coroutine[Any, Any, T]], instead: str) -> T:
        loop = self._open_loop()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            if not loop.is_running():
                raise UsageError("a test client runs its application only while a method of it is called") from None
            return asyncio.run_coroutine_threadsafe(work(), loop).result()
        raise TurnError(f"this would block a loop: use `await {instead}(...)` in an `async def`")

    async def _bring(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            loop = self._open_loop()
        except UsageError:
            work.close()
            raise
        if loop is asyncio.get_running_loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def _here() -> Entrance:
    if _current.get(None) is not None:
        raise TurnError("a turn writes by reply and send, and reads by current().read: all of it is one commit")
    try:
        return _entrance.get()
    except LookupError:
        raise TurnError("no method of an exposed API runs here; other code uses app.deliver and app.read") from None


def deliver(
    *,
    to: str | Sequence[str],
    sender: str,
    subject: str = "",
    text: str | None = None,
    html: str | None = None,
    raw: bytes | None = None,
    key: str | None = None,
) -> Delivery:
    """Send a mail into a conversation of this application, in a plain API method; returns when it is on the disk (P1).

    It is handled like a mail from `sender` to `to`. Give `text`, `html` or both, or all of the message as `raw`. A
    second delivery by the same sender to the same address with the same `key` within three days is the first one,
    whatever it says, and gives the same receipt: so whoever got no answer may try again.

    Raises AddressError for what is no address, Refused if no route takes mail for it, if it has a capability that is
    not valid or not the sender's, or if the mail is too large,
    StoreUnavailable if nothing was stored, ValueError or TypeError as a Draft does, TurnError inside a handler.
    """
    return _here().deliver(to=to, sender=sender, subject=subject, text=text, html=html, raw=raw, key=key)


async def deliver_async(
    *,
    to: str | Sequence[str],
    sender: str,
    subject: str = "",
    text: str | None = None,
    html: str | None = None,
    raw: bytes | None = None,
    key: str | None = None,
) -> Delivery:
    """`deliver` for `async def` API methods."""
    entrance = _here()
    return await entrance.deliver_async(to=to, sender=sender, subject=subject, text=text, html=html, raw=raw, key=key)


def read(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Rows of the application's tables, as of the last applied turn, in a plain API method. Raises StatementError."""
    return _here().read(sql, params)


async def read_async(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """`read` for `async def` API methods."""
    return await _here().read_async(sql, params)


class _Notifier:
    """The outgoing calls of an exposed API; see `notify`."""

    def __init__(self, api: type, prepare: Prepare, pass_on: Callable[[Cast], object]) -> None:
        self._api = api
        self._prepare = prepare
        self._pass_on = pass_on

    def __getattr__(self, name: str) -> Callable[..., None]:
        def told(*args: Any, **kwargs: Any) -> None:
            self._pass_on(self._prepare(self._api, name, args, kwargs))

        return told


def notify(api: type) -> Any:
    """Tell all programs that are connected to an exposed API something: `notify(HelpdeskAPI).ticket_opened(...)`.

    In a handler it belongs to the turn: it is sent when the turn has been committed and is on the disk, and not at
    all if the turn fails. In an API method it is sent at once. It is not durable: who is not connected then misses it.

    The call raises AttributeError if the API has no such outgoing call, TypeError for wrong arguments.
    """
    turn = _current.get(None)
    if turn is not None:
        return _Notifier(api, turn.tools.prepare, turn.add_cast)
    entrance = _here()
    return _Notifier(api, entrance.prepare, entrance.tell)
