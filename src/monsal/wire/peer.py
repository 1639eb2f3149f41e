"""One end of a link, without its socket, clock and randomness: bytes and times in, events and bytes out.

    peer = Peer(JsonRpc(raw=True), LineFrames(), limits=PeerLimits(), hello=HelloFacts(beat=10.0))
    peer.say_hello(now)                         # the side that connected; the other one only answers
    call_id = peer.call("add", {"a": 1, "b": 2}, now=now, timeout=5.0)
    write(peer.data_to_send())                  # and peer.sent(octets) when they are gone

    events = peer.receive_data(data, now)
    while events:
        for event in events:
            ...                                 # Called -> peer.reply(event.id, result, now=now) or peer.fault(...)
        events = peer.next_calls(now)           # calls that were held back and have room now
    if not peer.reading: ...                    # too much is unread by the other side: read no more for now
    wake_at(peer.next_deadline())               # -> events = peer.on_time(now)

`next_calls` is also asked after each later answer while `waiting` is not 0. A handler that goes on in the background
without a call to answer (of a cast) may take room by `hold()` and give it back by `release()`.
With `JsonRpc(raw=True)` or `MsgPack(raw=True)`, `Called.params` and `Answered.result` are `msgspec.Raw`: `codec.value(
raw, type)` makes them what they are declared to be. `nonce` is 16 random octets, for a signed link.
`cancel` is the cast by which a call is given up, for a side that is known to understand it without hello.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from monsal.errors import ProtocolError, UsageError
from monsal.wire.codec import Codec
from monsal.wire.codes import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    MESSAGES,
    METHOD_NOT_FOUND,
    TOO_LARGE,
    UNAUTHENTICATED,
)
from monsal.wire.events import Alive, Answered, Event, Expired, Failed, Greeted, Heard, Lost, PeerStatistics, Trouble
from monsal.wire.frames import Frames, TooLong
from monsal.wire.gate import Gate
from monsal.wire.hello import CancelParams, HelloFacts, our_facts
from monsal.wire.incoming import Incoming
from monsal.wire.limits import PeerLimits
from monsal.wire.outbox import Outbox
from monsal.wire.packets import Batch, Call, Cast, EncodeError, Fault, Id, Malformed, Meta, Packet, Params, Reply
from monsal.wire.security import Null, Security, SecurityError
from monsal.wire.silence import Silence, Verdict
from monsal.wire.waiting import Gathering, Held, Slot

__all__ = ["Peer"]

#: Ids of our own calls; those of the shell are numbers.
_HELLO: Final = "rpc.hello"
_PING: Final = "rpc.ping"
_CANCEL: Final = "rpc.cancel"
_RESERVED: Final = frozenset({_HELLO, _PING, _CANCEL, "$/cancelRequest", "rpc.secinfo"})
#: How many calls that were given up are known as such, when their answers come after all.
_GIVEN_UP: Final = 4096


class Peer:
    """Knows ids, pending calls, deadlines, limits and keep-alive of one link. The top of the module shows its use.

    `theirs` is what the other side said in hello, None if it said none; `is_lost` whether Lost was told.
    """

    def __init__(
        self,
        codec: Codec,
        frames: Frames,
        *,
        security: Security | None = None,
        limits: PeerLimits | None = None,
        first_id: int = 1,
        hello: HelloFacts | None = None,
        nonce: bytes = b"",
        cancel: str = "",
    ) -> None:
        self.codec = codec
        self.limits = limits or PeerLimits()
        self.theirs: HelloFacts | None = None
        self.is_lost = False
        session = (security or Null()).session(nonce)
        self._gate = None if session is None else Gate(codec, session)
        #: What waits to be sent, and the calls of the other side: whoever drives the peer looks at them in each turn.
        self.outbox = out = Outbox(codec, frames, session, self.limits.frame)
        self.incoming = Incoming(codec, out, self.limits)
        self._running = self.incoming.running
        self._silence = Silence()
        self._facts = hello
        self._cancel = cancel
        self._decode, self._encode = codec.decode, codec.encode
        self._cut, self._put, self._unsent = frames.receive_data, out.put, out.unsent
        self._timeout, self._most = self.limits.timeout, self.limits.in_flight
        self._pending: dict[Id, float] = {}
        self._given_up: dict[Id, None] = {}
        # How often each of these was asked and not answered: a second ping may go out before the first is answered.
        self._asked: dict[Id, int] = {}
        self._first_id = self._next_id = first_id
        self._heard_calls = self._troubles = self._garbage = 0
        self._their_timeout = math.inf
        # A lower bound: the next time at which it is worth to look at all deadlines.
        self._soonest = math.inf
        #: The frames that wait; they are given once, and reported as `sent(octets)` when they are gone.
        self.data_to_send = out.data_to_send
        self.sent = out.sent
        #: Take the room of one call, for a cast whose handler goes on, and give it back.
        self.hold, self.release = self.incoming.hold, self.incoming.release

    # -- what we say ------------------------------------------------------------------------------------------

    def call(
        self, method: str, params: Params, *, now: float, timeout: float | None = None, meta: Meta | None = None
    ) -> int:
        """Make a call; its id. `timeout` is that of the limits if not given (rpc.B4).

        Raises EncodeError if it cannot be said, and then no id is used; ProtocolError if the other side is lost.
        """
        if self.is_lost:
            raise _lost()
        call_id = self._next_id
        if self.theirs is None:
            meta = None
        elif timeout is not None:
            meta = Meta(timeout) if meta is None else Meta(timeout, meta.trace, meta.key)
        self._put(self._encode(Call(call_id, method, params, meta)))
        self._next_id = call_id + 1
        deadline = now + (self._timeout if timeout is None else timeout)
        self._pending[call_id] = deadline
        if deadline < self._soonest:
            self._soonest = deadline
        self._unsent.append(call_id)
        return call_id

    def cast(self, method: str, params: Params, *, now: float, meta: Meta | None = None) -> None:
        """Say something that is not answered. Raises as `call`."""
        if self.is_lost:
            raise _lost()
        self._put(self._encode(Cast(method, params, None if self.theirs is None else meta)))

    def batch(
        self, items: Sequence[tuple[str, Params, bool]], *, now: float, timeout: float | None = None
    ) -> list[int | None]:
        """Say several (method, params, is it a call) in one frame; their ids, None for casts. Raises as `call`."""
        if self.is_lost:
            raise _lost()
        if not 0 < len(items) <= self.limits.batch:
            raise EncodeError(f"a batch has from 1 to {self.limits.batch} items, not {len(items)}", TOO_LARGE)
        meta = None if self.theirs is None or timeout is None else Meta(timeout)
        ids: list[int | None] = []
        payloads: list[bytes] = []
        next_id = self._next_id
        for method, params, is_call in items:
            ids.append(next_id if is_call else None)
            packet = Call(next_id, method, params, meta) if is_call else Cast(method, params, meta)
            payloads.append(self._encode(packet))
            next_id += is_call
        self._put(self.codec.join(payloads))
        self._next_id = next_id
        deadline = now + (self._timeout if timeout is None else timeout)
        self._soonest = min(self._soonest, deadline)
        for call_id in ids:
            if call_id is not None:
                self._pending[call_id] = deadline
                self._unsent.append(call_id)
        return ids

    def give_up(self, call_id: int, *, now: float) -> None:
        """Forget a call of ours, and tell the other side if it knows of that (rpc.B4). Its answer is passed over."""
        if self._pending.pop(call_id, None) is None:
            return
        self._given_up[call_id] = None
        if len(self._given_up) > _GIVEN_UP:
            del self._given_up[next(iter(self._given_up))]
        if self._cancel or self.theirs is not None:
            self._put(self._encode(Cast(self._cancel or _CANCEL, {"id": call_id})), is_short=True)

    def reply(self, call_id: Id, result: Any, *, now: float) -> Fault | None:
        """Answer a call. If its result cannot be said, a fault goes out instead, which is given back (rpc.R19, B8).

        Raises UsageError if no call with this id runs. After the link was lost nothing is done.
        """
        if call_id in self._running:
            return self.incoming.finish(Reply(call_id, result))
        return self._too_late(call_id)

    def fault(self, call_id: Id, code: int, message: str, data: Any = None, *, now: float) -> Fault | None:
        """Answer a call with a fault; otherwise as `reply`."""
        if call_id in self._running:
            return self.incoming.finish(Fault(call_id, code, message, data))
        return self._too_late(call_id)

    def say_hello(self, now: float) -> None:
        """Tell the other side of us and learn of it: Greeted comes, or nothing if it knows no hello (rpc.B11).

        Raises UsageError if the peer was made without facts.
        """
        if self._facts is None:
            raise UsageError("a peer that says hello is made with hello=HelloFacts(...)")
        self._ask(_HELLO, our_facts(self._facts, self.limits))
        # Whoever never answers it may be frozen already; a strict peer says that it does not know it.
        if self.limits.beat is not None:
            self._silence.start(self.limits.beat, now)

    # -- what we hear -----------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take in bytes of the other side; what they mean."""
        heard = Heard(now)
        self._silence.heard_at = now
        for frame in self._cut(data):
            if self.is_lost:
                break
            if isinstance(frame, TooLong):
                detail = f"a frame of more than {self.limits.frame} octets"
                self._hear_garbage(Malformed(Fault(None, TOO_LARGE, MESSAGES[TOO_LARGE]), detail), None, heard)
                continue
            try:
                if self._gate is not None:
                    opened = self._gate.open(frame)
                    if opened is None:
                        continue
                    frame, heard.secinfo = opened
                packet = self._decode(frame)
            except SecurityError as error:
                self._hear_unauthenticated(str(error), heard)
                continue
            except Malformed as error:
                self._hear_garbage(error, None, heard)
                continue
            if isinstance(packet, Reply) and packet.id in self._pending:
                # What most frames are, for whoever calls, has a way of its own.
                del self._pending[packet.id]
                self._garbage = 0
                heard.events.append(Answered(packet.id, packet.result))
                continue
            heard.octets = len(frame)
            if isinstance(packet, Batch):
                self._hear_batch(packet, heard)
            else:
                self._hear(packet, None, heard)
        return heard.events

    def receive_eof(self, now: float) -> list[Event]:
        """The other side will say no more."""
        events: list[Event] = []
        self._lose("the other side hung up", events, may_answer=True)
        return events

    def next_calls(self, now: float) -> list[Event]:
        """Calls that were held back and have room now. Those whose time has passed are answered, not run (rpc.B4)."""
        events: list[Event] = []
        if self.incoming.waiting:
            self.incoming.next_calls(now, events)
        return events

    def next_deadline(self) -> float | None:
        """When to come with `on_time` at the latest; None if nothing waits."""
        soonest = min(self._soonest, self.incoming.soonest, self._silence.due)
        return None if soonest == math.inf else soonest

    def is_due_before(self, when: float) -> bool:
        """Whether `next_deadline` is before that."""
        return self._soonest < when or self.incoming.soonest < when or self._silence.due < when

    def on_time(self, now: float) -> list[Event]:
        """What the time alone brings: calls that expire, silence."""
        events: list[Event] = []
        if now >= self._soonest:
            self._expire(now, events)
        if now >= self.incoming.soonest:
            self.incoming.stop_late(now, events)
        if now >= self._silence.due:
            verdict = self._silence.look(now, self.reading)
            if verdict is Verdict.PING:
                self._ask(_PING, {})
            elif verdict is Verdict.LOST:
                self._lose("nothing was heard for two beats", events)
        return events

    @property
    def reading(self) -> bool:
        """Whether to read on. Not while the other side leaves unread what we say (rpc.B7)."""
        return self.outbox.buffered <= self.limits.write_buffer and not self.is_lost

    @property
    def wants_to_write(self) -> bool:
        """Whether `data_to_send` has something."""
        return self.outbox.wants_to_write

    @property
    def buffered(self) -> int:
        """Octets that are not yet sent."""
        return self.outbox.buffered

    @property
    def pending(self) -> int:
        """Calls of ours that are not answered."""
        return len(self._pending)

    @property
    def in_flight(self) -> int:
        """Calls of the other side that run."""
        return self.incoming.in_flight

    @property
    def waiting(self) -> int:
        """Calls of the other side that are held back."""
        return self.incoming.waiting

    def statistics(self) -> PeerStatistics:
        return PeerStatistics(
            made=self._next_id - self._first_id,
            heard=self._heard_calls,
            troubles=self._troubles,
            pending=self.pending,
            in_flight=self.in_flight,
            waiting=self.waiting,
            buffered=self.buffered,
        )

    # -- inside -----------------------------------------------------------------------------------------------

    def _ask(self, method: str, params: dict[str, Any]) -> None:
        """A call of the peer itself; its id is its name, so that those of the shell have no gaps."""
        self._asked[method] = self._asked.get(method, 0) + 1
        self._put(self._encode(Call(method, method, params)), is_short=True)

    def _too_late(self, call_id: Id) -> Fault | None:
        if not self.is_lost:
            raise UsageError(f"no call with the id {call_id!r} waits for an answer")
        return None

    def _expire(self, now: float, events: list[Event]) -> None:
        for known in [known for known, deadline in self._pending.items() if deadline <= now]:
            assert isinstance(known, int)
            self.give_up(known, now=now)
            events.append(Expired(known))
        # A look costs about 0.1 us a call; with thousands pending it is not taken for each of them alone.
        rest = now + len(self._pending) * 2e-6
        self._soonest = max(min(self._pending.values(), default=math.inf), rest) if self._pending else math.inf

    def _hear_unauthenticated(self, why: str, heard: Heard) -> None:
        """Refuse what security does not let in, before anything is dispatched (rpc.B6)."""
        assert self._gate is not None
        try:
            packet: Packet | Batch | None = self._decode(self._gate.payload)
        except Malformed:
            packet = None
        call = packet if isinstance(packet, Call) else None
        fault = Fault(call.id if call else None, UNAUTHENTICATED, MESSAGES[UNAUTHENTICATED])
        # What asks for no answer gets none: two sides that do not trust each other must not go on about it for ever.
        is_owed = call is not None or isinstance(packet, Batch)
        self._trouble(fault, why, heard.events, in_reply_to=call, is_answered=is_owed)
        if is_owed:
            self.incoming.answer(fault, None)

    def _hear_garbage(self, error: Malformed, slot: Slot | None, heard: Heard) -> None:
        fault = error.fault
        # A batch is one frame, and weighs as one, however much in it is wrong.
        self._trouble(fault, error.detail, heard.events, is_answered=True, weight=slot is None or not slot.index)
        # The detail is an extra, for those who said hello (rpc.B11).
        said = fault if self.theirs is None else Fault(fault.id, fault.code, fault.message, error.detail[:1000])
        self.incoming.answer(said, slot)

    def _trouble(
        self,
        fault: Fault,
        detail: str,
        events: list[Event],
        *,
        in_reply_to: Call | None = None,
        is_answered: bool = False,
        weight: int = 1,
    ) -> None:
        self._troubles += 1
        self._garbage += weight
        events.append(Trouble(Fault(fault.id, fault.code, fault.message, detail), in_reply_to, is_answered))
        if self._garbage >= self.limits.garbage:
            self._lose("too much garbage", events)

    def _hear_batch(self, batch: Batch, heard: Heard) -> None:
        gathering = Gathering()
        heard.octets //= len(batch.items)
        for item in batch.items:
            if self.is_lost:
                return
            if type(item) is Malformed:
                self._hear_garbage(item, gathering.slot(), heard)
            else:
                self._hear(item, gathering.slot() if type(item) is Call else None, heard)
        self.incoming.close_batch(gathering)

    def _hear(self, packet: Packet, slot: Slot | None, heard: Heard) -> None:
        if isinstance(packet, (Call, Cast)):  # a union of them would be made at each frame
            if packet.method in _RESERVED:
                self._hear_reserved(packet, slot, heard)
                return
            self._garbage = 0
            self._heard_calls += 1
            deadline = None
            if self.theirs is not None:
                said = packet.meta.deadline if packet.meta is not None else None
                deadline = heard.now + (self._their_timeout if said is None else said)
            incoming = self.incoming
            if incoming.waiting or incoming.in_flight >= self._most:
                incoming.hold_back(Held(packet, deadline, heard.secinfo, slot, octets=heard.octets), heard.events)
            else:
                incoming.start(packet, deadline, heard.secinfo, slot, heard.events)
        elif self._pending.pop(packet.id, None) is not None:
            self._garbage = 0
            if isinstance(packet, Fault):
                heard.events.append(Failed(packet.id, packet))
            else:
                heard.events.append(Answered(packet.id, packet.result))
        elif packet.id in self._given_up:
            del self._given_up[packet.id]
        elif packet.id in self._asked:
            self._hear_own_answer(packet, heard)
        else:
            # A fault without id is theirs about a frame of ours; none of these is answered, or it would never end.
            fault = (
                packet if isinstance(packet, Fault) else Fault(packet.id, INVALID_REQUEST, MESSAGES[INVALID_REQUEST])
            )
            self._trouble(fault, f"an answer to no call of ours: {packet!r:.200}", heard.events)

    def _hear_reserved(self, packet: Call | Cast, slot: Slot | None, heard: Heard) -> None:
        """What the peer itself answers. It never waits for room, so that a busy peer is not taken for a frozen one."""
        try:
            result = self._reserved(packet, heard)
            answer: Reply | Fault = Reply(None, result)
        except msgspec.ValidationError as error:
            answer = Fault(None, INVALID_PARAMS, MESSAGES[INVALID_PARAMS], str(error))
        except LookupError:
            answer = Fault(None, METHOD_NOT_FOUND, MESSAGES[METHOD_NOT_FOUND])
        if isinstance(packet, Call):
            self.incoming.answer(msgspec.structs.replace(answer, id=packet.id), slot)

    def _reserved(self, packet: Call | Cast, heard: Heard) -> Any:
        if packet.method == _HELLO:
            if self._facts is None:
                raise LookupError(_HELLO)
            theirs = self.codec.value(packet.params, HelloFacts)
            if isinstance(packet, Call):
                self._agree(theirs, heard)
            return our_facts(self._facts, self.limits)
        if packet.method in (_CANCEL, "$/cancelRequest"):
            return self.incoming.cancel(self.codec.value(packet.params, CancelParams).id, heard.events)
        return None

    def _hear_own_answer(self, packet: Reply | Fault, heard: Heard) -> None:
        left = self._asked.pop(packet.id) - 1
        if left:
            self._asked[packet.id] = left
        self._garbage = 0
        if packet.id == _PING:
            heard.events.append(Alive())
        elif isinstance(packet, Fault):
            self._silence.stop()
        else:
            try:
                self._agree(self.codec.value(packet.result, HelloFacts), heard)
            except msgspec.ValidationError as error:
                fault = Fault(packet.id, INVALID_REQUEST, MESSAGES[INVALID_REQUEST])
                self._trouble(fault, f"its hello is none: {error}", heard.events)

    def _agree(self, theirs: HelloFacts, heard: Heard) -> None:
        """Take over what the other side said of itself (rpc.B11)."""
        self.theirs = theirs
        frame, timeout = theirs.limits.get("frame", 0), theirs.limits.get("timeout", 0)
        if 0 < frame < math.inf:
            self.outbox.limit = int(frame)
        self._their_timeout = timeout if timeout > 0 else math.inf
        if self.limits.beat is not None and theirs.beat is not None:
            self._silence.start(self.limits.beat, heard.now)
        else:
            self._silence.stop()
        heard.events.append(Greeted(theirs))

    def _lose(self, reason: str, events: list[Event], *, may_answer: bool = False) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        unsent = set(self._unsent)
        calls = {known: known not in unsent for known in self._pending if isinstance(known, int)}
        running = tuple(self._running)
        may_answer = may_answer and bool(running or self.incoming.waiting)
        events.append(Lost(reason, calls, running, may_answer))
        self._pending.clear()
        self._given_up.clear()
        self._soonest = self._silence.due = math.inf
        if not may_answer:
            self.incoming.clear()


def _lost() -> ProtocolError:
    return ProtocolError("the other side is lost")
