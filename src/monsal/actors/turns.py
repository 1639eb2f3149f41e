"""The turns of an actor: messages become calls of its commands, one at a time per key, and each is answered once.

A command that waits for nothing is run to its end where its message was read, without a task of its own: that is most
of what makes an ask cheap. One that waits goes on in a carrier, a task that is used again for later turns.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from asyncio import tasks
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar, copy_context
from types import CoroutineType, coroutine
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from monsal.actors.commands import Command
from monsal.actors.errors import ActorStopping, AskExpired, CommandError, RemoteActorError, fault_of
from monsal.actors.message import CommandRequest, body_of
from monsal.actors.queueing import MessageQueue, Priority, Put
from monsal.actors.recorder import Recorder
from monsal.actors.refs import ActorRef
from monsal.errors import Busy, MonsalError
from monsal.transport.link import Link
from monsal.wire.codes import CANCELLED, DEADLINE
from monsal.wire.packets import Fault, Id

__all__ = ["Source", "Turn", "TurnStatistics", "Turns", "current_turn"]

log = logging.getLogger("monsal.actors")

_encode: Final = msgspec.msgpack.Encoder().encode
#: Results of these types can always be said.
_PLAIN: Final = frozenset({type(None), bool, float})


#: In Python 3.11 the function asks the system for the process id each time, to look up the loop that is known here.
_current_task: Final[Callable[[asyncio.AbstractEventLoop], Any]] = (
    tasks._current_tasks.get  # type: ignore[attr-defined] # it is there in 3.11
    if sys.version_info < (3, 12)
    else asyncio.current_task
)


class Source(Protocol):
    """Where the answer of a turn goes: a `transport.Link`, or an asker in this process."""

    def answer(self, identifier: Id, result: Any) -> Fault | None: ...
    def refuse(self, identifier: Id, code: int, message: str, data: Any = None) -> Fault | None: ...


class Turn:
    """One message, from the moment it is taken in until it is answered."""

    __slots__ = (
        "answered",
        "asks",
        "body",
        "cancelled",
        "chain",
        "command",
        "deadline",
        "id",
        "is_open",
        "key",
        "sender",
        "slot",
        "source",
        "station",
        "stop",
        "ticket",
        "trace",
    )

    def __init__(
        self, station: Any, command: Command, source: Source | None, identifier: Id, *, sender: str, key: str, body: Any
    ) -> None:
        self.station = station
        self.command = command
        self.source = source
        self.id = identifier
        self.sender = sender
        self.key = key
        self.body = body
        #: In the time of the loop; None if the asker waits for ever.
        self.deadline: float | None = None
        #: The turns that wait for this one, as actor, key, actor, key and so on.
        self.chain: tuple[str, ...] = ()
        self.trace = ""
        self.answered = source is None
        #: Whether it is among those that can be given up.
        self.is_open = False
        #: The code with which it was given up; 0 if it was not.
        self.cancelled = 0
        self.slot = self.ticket = -1
        #: The asks of its own that it waits for, with whom they ask and under which key.
        self.asks: dict[asyncio.Future[Any], tuple[str, str]] = {}
        self.stop: Callable[[], object] | None = None

    @property
    def time_left(self) -> float | None:
        """Seconds until the asker gives up; None if it never does."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


#: The turn that this code is part of; ambient state of the actors' room, and its only one but for `here`.
current_turn: ContextVar[Turn | None] = ContextVar("monsal_actor_turn", default=None)


class TurnStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Turns of an actor: since its start begun and failed, and now running, waiting (with octets) and parked.

    Parked ones have senders that wait for room in the mailbox; refused ones were told Busy.
    """

    begun: int
    failed: int
    running: int
    waiting: int
    octets: int
    parked: int
    refused: int


class Turns:
    """Takes messages in, and runs them. Everything happens on the loop of the actor."""

    def __init__(self, queue: MessageQueue[Turn], recorder: Recorder, loop: asyncio.AbstractEventLoop) -> None:
        self._queue = queue
        self._recorder = recorder
        self._loop = loop
        self._now = loop.time
        self._idle: list[_Carrier] = []
        self._carriers: set[_Carrier] = set()
        #: Those that can be given up, by where they came from.
        self._open: dict[tuple[Source, Id], Turn] = {}
        self._parked: deque[tuple[Turn, Priority, int]] = deque()
        self._pumping = False
        self._begun = self._failed = self._running = self._refused = 0
        #: Set while the actor stops: why no turn is begun any more.
        self._closed = ""
        self.is_over = False
        self._quiet: asyncio.Future[None] | None = None
        self._limit = 0
        self._on_limit: Callable[[], object] | None = None

    # -- in ---------------------------------------------------------------------------------------------------

    def receive(self, turn: Turn, octets: int, is_tell: bool) -> bool:
        """Take a message in: it runs when its turn comes. One that is not taken is answered at once.

        Whether it waits now.
        """
        if self._closed and not turn.command.control:
            self._reject(turn, ActorStopping(self._closed))
            return False
        command = turn.command
        priority = Priority.CONTROL if command.control else Priority.USER
        ticket = self._queue.begin(turn.key, priority)
        if not ticket:
            return self._put(turn, priority, octets, is_tell)
        turn.ticket = ticket
        if (is_tell or not command.ack) and turn.source is not None:
            self._acknowledge(turn)
        self._begin(turn)
        return False

    def _put(self, turn: Turn, priority: Priority, octets: int, is_tell: bool) -> bool:
        put = self._queue.put(turn, octets, key=turn.key, priority=priority)
        if put is Put.WAIT and len(self._parked) < self._queue.bounds.count:
            self._parked.append((turn, priority, octets))
        elif put is not Put.ACCEPTED:
            self._refused += 1
            self._reject(turn, Busy("its mailbox is full"))
            return False
        if turn.source is not None:
            if put is Put.ACCEPTED and (is_tell or not turn.command.ack):
                self._acknowledge(turn)
            else:
                self.expose(turn)
        return True

    def expose(self, turn: Turn) -> None:
        """The turn takes a while, and can be given up."""
        if not turn.answered and turn.source is not None:
            turn.is_open = True
            self._open[turn.source, turn.id] = turn

    def give_up(self, source: Source, identifier: Id, code: int) -> None:
        """The asker has given up, or its time has passed: a turn that runs is cancelled, one that waits never runs."""
        turn = self._open.get((source, identifier))
        if turn is None:
            return
        turn.cancelled = code or CANCELLED
        self._recorder.give_up(turn.slot, self._now())
        if turn.stop is not None:
            turn.stop()
        else:
            # It waits: it is answered now, and passed over when its time comes.
            self._fail(turn, asyncio.CancelledError())

    def lose(self, source: Source) -> None:
        """Nobody waits for answers there any more."""
        for known, identifier in list(self._open):
            if known is source:
                self._open[known, identifier].answered = True
                self.give_up(known, identifier, CANCELLED)

    def when_begun(self, count: int, call: Callable[[], object]) -> None:
        """Call a function once, when so many turns have begun."""
        self._limit, self._on_limit = count, call

    def running(self, key: str) -> Turn | None:
        """The turn of a key that runs, and holds up the messages of that key."""
        for carrier in self._carriers:
            turn = carrier.turn
            if turn is not None and turn.key == key and not turn.command.control:
                return turn
        return None

    async def drain(self, why: str, within: float | None) -> int:
        """Begin no turn any more, and wait for those that run; how many had to be cancelled after `within` seconds."""
        self._closed = why
        for turn in self._queue.drain():
            self._reject(turn, ActorStopping(why))
        while self._parked:
            self._reject(self._parked.popleft()[0], ActorStopping(why))
        own = current_turn.get()
        mine = 1 if own is not None and own.slot != -2 and own.stop is not None else 0
        if self._running > mine:
            self._quiet = self._loop.create_future()
            await asyncio.wait([self._quiet], timeout=within)
            self._quiet = None
        left = [carrier for carrier in self._carriers if carrier.turn is not None and carrier.turn is not own]
        for carrier in left:
            carrier.cancel(CANCELLED)
        return len(left)

    async def close(self) -> None:
        """End the carriers."""
        self.is_over = True
        carriers = [carrier.task for carrier in self._carriers if carrier.task is not asyncio.current_task()]
        for task in carriers:
            task.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)

    def statistics(self) -> TurnStatistics:
        queue = self._queue.statistics()
        return TurnStatistics(
            begun=self._begun,
            failed=self._failed,
            running=self._running,
            waiting=queue.waiting,
            octets=queue.octets,
            parked=len(self._parked),
            refused=self._refused,
        )

    # -- inside -----------------------------------------------------------------------------------------------

    def _acknowledge(self, turn: Turn) -> None:
        turn.answered = True
        assert turn.source is not None
        turn.source.answer(turn.id, None)

    def _pump(self) -> None:
        """Begin what may run."""
        self._pumping = True
        take = self._queue.take
        try:
            while (taken := take()) is not None:
                turn = taken.item
                turn.ticket = taken.ticket
                if turn.cancelled:
                    self._queue.done(turn.ticket)
                else:
                    self._begin(turn)
                if self._parked:
                    self._unpark()
        finally:
            self._pumping = False

    def _unpark(self) -> None:
        while self._parked:
            turn, priority, octets = self._parked[0]
            if not turn.cancelled:
                if self._queue.put(turn, octets, key=turn.key, priority=priority) is not Put.ACCEPTED:
                    return
                if not turn.command.ack and not turn.answered:
                    self._open.pop((turn.source, turn.id), None)  # type: ignore[arg-type] # it has a source
                    self._acknowledge(turn)
            self._parked.popleft()

    def _begin(self, turn: Turn) -> None:
        self._begun += 1
        self._running += 1
        if self._begun == self._limit and self._on_limit is not None:
            self._on_limit()
        turn.slot = self._recorder.begin(turn.command.name, turn.key, turn.sender, self._now(), turn.deadline)
        if self._idle:
            carrier = self._idle.pop()
        else:
            carrier = _Carrier(self, self._loop)
            self._carriers.add(carrier)
        carrier.begin(turn)

    def start(self, turn: Turn) -> Any:
        """Call the command: its result, or what is to be awaited for it."""
        station = turn.station
        args, kwargs = body_of(turn.body)
        source = turn.source
        caller = ActorRef(aid=turn.sender) if turn.sender else None
        request = CommandRequest(station.actor, caller, source if isinstance(source, Link) else None)
        command = turn.command
        if command.is_method:
            return command.function(station.actor, request, *args, **kwargs)
        return command.function(request, *args, **kwargs)

    def end(self, carrier: _Carrier, turn: Turn) -> None:
        """A turn has been answered."""
        self._running -= 1
        self._idle.append(carrier)
        self._recorder.end(turn.slot)
        self._queue.done(turn.ticket)
        if self._queue.waiting and not self._pumping:
            self._pump()
        if self._quiet is not None and not self._running and not self._quiet.done():
            self._quiet.set_result(None)

    def finish(self, turn: Turn, value: Any) -> None:
        """Answer with a result."""
        if turn.answered:
            return
        source = turn.source
        assert source is not None
        if turn.is_open:
            self._open.pop((source, turn.id), None)
        if type(value) not in _PLAIN:
            try:
                value = Raw(_encode(value))
            except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
                self._fail(turn, TypeError(f"the result of {turn.command.name} cannot be sent: {error}"))
                return
        turn.answered = True
        if (said := source.answer(turn.id, value)) is not None:
            log.error("the answer to %s of %s cannot be sent: %s", turn.command.name, turn.sender, said.data)

    def fail(self, turn: Turn, error: BaseException) -> None:
        """Answer with an error; one of the code is logged with its traceback (mailbox.R16)."""
        if not isinstance(error, asyncio.CancelledError):
            self._failed += 1
            if isinstance(error, ActorStopping):
                # Of one that was asked on the way: to our asker it would say that nothing was done.
                error = RemoteActorError(str(error), kind=type(error).__name__, details=error.details)
            words = (turn.command.name, turn.station.name, turn.sender or "nobody")
            if isinstance(error, CommandError):
                log.warning("%s in %s for %s was refused: %s", *words, error)
            elif not isinstance(error, MonsalError):
                log.error("%s in %s for %s failed", *words, exc_info=error, extra={"action": "command_failed"})
            if hasattr(error, "exit_code"):
                turn.station.leave_with(error)
        self._fail(turn, error)

    def _fail(self, turn: Turn, error: BaseException) -> None:
        if turn.answered:
            return
        turn.answered = True
        source = turn.source
        assert source is not None
        if turn.is_open:
            self._open.pop((source, turn.id), None)
        if isinstance(error, asyncio.CancelledError):
            code = turn.cancelled or CANCELLED
            words = "its time was over" if code == DEADLINE else "it was given up"
            error = AskExpired(f"{turn.command.name} was stopped: {words}")
        source.refuse(turn.id, *fault_of(error))

    def _reject(self, turn: Turn, error: MonsalError) -> None:
        self._fail(turn, error)


class _Carrier:
    """A task that carries turns: one at a time, each begun outside of it and taken over if it waits."""

    __slots__ = ("_context", "_loop", "_todo", "_turns", "_wake", "task", "turn")

    def __init__(self, turns: Turns, loop: asyncio.AbstractEventLoop) -> None:
        self._turns = turns
        self._loop = loop
        self._todo: Awaitable[Any] | None = None
        self._wake: asyncio.Future[None] | None = None
        self.turn: Turn | None = None
        self._context = copy_context()
        self.task = loop.create_task(self._work(), name="turns", context=self._context)

    def begin(self, turn: Turn) -> None:
        """Run the first steps of a turn as if in this task, so that its task is the same later on."""
        self.turn = turn
        turn.stop = self._cancel_now
        if _current_task(self._loop) is not None:
            self._hand(turn, _first(self._turns, turn))
            return
        tasks._enter_task(self._loop, self.task)
        try:
            waits = self._context.run(self._first_step, turn)
        finally:
            tasks._leave_task(self._loop, self.task)
        if waits is not None:
            self._hand(turn, waits)
        else:
            self.turn = turn.stop = None
            self._turns.end(self, turn)

    def cancel(self, code: int) -> None:
        if self.turn is not None:
            self.turn.cancelled = code
            self._cancel_now()

    def _cancel_now(self) -> None:
        # By then the task waits for what the command waits for, so that this is cancelled, too.
        self._loop.call_soon(self._cancel, self.turn)

    def _cancel(self, turn: Turn | None) -> None:
        if turn is not None and self.turn is turn:
            self.task.cancel()

    def _first_step(self, turn: Turn) -> Awaitable[Any] | None:
        """Answer the turn, or give what remains to be awaited."""
        turns = self._turns
        current_turn.set(turn)
        try:
            value = turns.start(turn)
            if type(value) is CoroutineType:
                try:
                    pending = value.send(None)
                except StopIteration as end:
                    value = end.value
                else:
                    return _go_on(value, pending)
            elif hasattr(value, "__await__"):
                return value  # type: ignore[no-any-return] # it can be awaited
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is told to the asker
            turns.fail(turn, error)
            return None
        turns.finish(turn, value)
        return None

    def _hand(self, turn: Turn, todo: Awaitable[Any]) -> None:
        self._todo = todo
        if not turn.is_open:
            self._turns.expose(turn)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _work(self) -> None:
        turns = self._turns
        # Not until it is cancelled: that could come together with the end of a turn that was given up.
        while not turns.is_over:
            if self._todo is None:
                self._wake = self._loop.create_future()
                await self._wake
                continue
            turn, todo = self.turn, self._todo
            self._todo = None
            assert turn is not None
            current_turn.set(turn)
            try:
                value = await todo
            except asyncio.CancelledError as error:
                turns.fail(turn, error)
                if not turn.cancelled:
                    raise
            except Exception as error:  # noqa: BLE001 - it is told to the asker
                turns.fail(turn, error)
            else:
                turns.finish(turn, value)
            while self.task.cancelling():
                self.task.uncancel()
            self.turn = turn.stop = None
            turns.end(self, turn)


async def _first(turns: Turns, turn: Turn) -> Any:
    value = turns.start(turn)
    return await value if hasattr(value, "__await__") else value


@coroutine
def _go_on(work: Coroutine[Any, Any, Any], pending: Any) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine that waits for `pending`."""
    while True:
        step: Callable[[Any], Any] = work.send
        try:
            value = yield pending
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it is for the coroutine to judge
            value, step = error, work.throw
        try:
            pending = step(value)
        except StopIteration as end:
            return end.value
