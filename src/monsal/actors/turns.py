"""The turns of an actor: messages become calls of its commands, one at a time per key, and each is answered once.

A command that waits for nothing is run to its end where its message was read, without a task of its own: that is most
of what makes an ask cheap. One that waits goes on in a carrier, a task that is used again for later turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw

from monsal.actors.carrier import Carrier
from monsal.actors.errors import ActorStopping, AskExpired, CommandError, RemoteActorError, fault_of
from monsal.actors.message import CommandRequest, body_of
from monsal.actors.queueing import MessageQueue, Priority, Put
from monsal.actors.recorder import Recorder
from monsal.actors.refs import ActorRef
from monsal.actors.turn import Source, Turn, current_turn
from monsal.errors import Busy, MonsalError
from monsal.transport.link import Link
from monsal.wire.codes import CANCELLED, DEADLINE
from monsal.wire.packets import Id

__all__ = ["TurnStatistics", "Turns"]

log = logging.getLogger("monsal.actors")

_encode: Final = msgspec.msgpack.Encoder().encode
#: Results of these types can always be said.
_PLAIN: Final = frozenset({type(None), bool, float})


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
        self._idle: list[Carrier] = []
        self._carriers: set[Carrier] = set()
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
            carrier = Carrier(self, self._loop)
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

    def end(self, carrier: Carrier, turn: Turn) -> None:
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
