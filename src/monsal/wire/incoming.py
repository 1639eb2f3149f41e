"""The calls of the other side: started while there is room, held back, refused, cancelled, and each answered once."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Final

from monsal.wire.codec import Codec
from monsal.wire.codes import BUSY, CANCELLED, DEADLINE, MESSAGES, TOO_LARGE
from monsal.wire.events import Called, Cancelled, Event, Trouble
from monsal.wire.limits import PeerLimits
from monsal.wire.outbox import Outbox
from monsal.wire.packets import Call, Cast, EncodeError, Fault, Id, Reply
from monsal.wire.waiting import Gathering, Held, HeldBack, Slot

__all__ = ["Incoming"]

#: Octets kept free for each call of a batch, so that it can at least be told that its result was too large.
_SHORT: Final = 256
#: Seconds after which a call that was refused may be tried again.
_RETRY_AFTER: Final = 1.0
_NOT_THERE: Final = object()


class Incoming:
    """`in_flight` calls run, `waiting` more are held back; `soonest` is when the deadlines are worth a look."""

    __slots__ = ("_encode", "_held", "_join", "_limits", "_out", "_put", "in_flight", "running", "soonest", "waiting")

    def __init__(self, codec: Codec, out: Outbox, limits: PeerLimits) -> None:
        self.in_flight = self.waiting = 0
        self.soonest = math.inf
        self._encode = codec.encode
        self._join = codec.join
        self._out, self._put = out, out.put
        self._limits = limits
        #: The deadline of each call that runs, or its slot; a list of them if several have the same id.
        self.running: dict[Id, Any] = {}
        self._held = HeldBack()

    def hold_back(self, held: Held, events: list[Event]) -> None:
        """Hold a call or cast back, or refuse it (rpc.B7)."""
        limits = self._limits
        if self.waiting < limits.queue and self._held.octets + held.octets <= limits.held:
            self._held.push(held)
            self.waiting += 1
        elif isinstance(held.packet, Call):
            self.answer(Fault(held.packet.id, BUSY, MESSAGES[BUSY], {"retry_after": _RETRY_AFTER}), held.slot)
        else:
            events.append(Trouble(Fault(None, BUSY, MESSAGES[BUSY], f"{held.packet.method[:100]} was not taken")))

    def start(
        self,
        packet: Call | Cast,
        deadline: float | None,
        secinfo: dict[str, Any],
        slot: Slot | None,
        events: list[Event],
    ) -> None:
        """Have a call run."""
        if isinstance(packet, Cast):
            events.append(Called(None, packet.method, packet.params, True, deadline, packet.meta, secinfo))
            return
        known = packet.id
        entry: Any = deadline
        if slot is not None:
            slot.deadline = deadline
            entry = slot
        running = self.running
        if known in running:
            # The same id twice is the other side's affair: each is answered, and what is whose it cannot tell.
            before = running[known]
            entry = [*before, entry] if type(before) is list else [before, entry]
        running[known] = entry
        self.in_flight += 1
        if deadline is not None and deadline < self.soonest:
            self.soonest = deadline
        events.append(Called(known, packet.method, packet.params, False, deadline, packet.meta, secinfo))

    def next_calls(self, now: float, events: list[Event]) -> None:
        """Start what was held back, as far as there is room. What comes too late is answered, not run (rpc.B4)."""
        while self.waiting and self.in_flight < self._limits.in_flight:
            held = self._held.pop()
            self.waiting -= 1
            if held.deadline is None or held.deadline > now:
                self.start(held.packet, held.deadline, held.secinfo, held.slot, events)
            elif isinstance(held.packet, Call):
                self.answer(Fault(held.packet.id, DEADLINE, MESSAGES[DEADLINE]), held.slot)

    def hold(self) -> None:
        """Take the room of one call, for a cast whose handler goes on."""
        self.in_flight += 1

    def release(self) -> None:
        """Give back what `hold` took."""
        self.in_flight -= 1

    def finish(self, answer: Reply | Fault) -> Fault | None:
        """A call that is in `running` has ended: send its answer, as `answer` does."""
        known = answer.id
        entry = self.running.pop(known)
        self.in_flight -= 1
        if type(entry) is list:
            first, *rest = entry
            self.running[known] = rest if len(rest) > 1 else rest[0]
            entry = first
        if type(entry) is Slot:
            return self.answer(answer, entry)
        try:
            self._put(self._encode(answer))
        except EncodeError as error:
            return self._answer_instead(answer, error, None)
        return None

    def cancel(self, known: Id, events: list[Event]) -> bool:
        """The other side gave a call up. One that waits is answered at once and never run; whether it was found."""
        held = self._held.drop(known)
        if held is not None:
            self.waiting -= 1
            self.answer(Fault(known, CANCELLED, MESSAGES[CANCELLED]), held.slot)
            return True
        if known not in self.running:
            return False
        events.append(Cancelled(known))
        return True

    def stop_late(self, now: float, events: list[Event]) -> None:
        """Tell of the calls whose deadline has passed, each once."""
        soonest = math.inf
        for known, entry in list(self.running.items()):
            several = entry if type(entry) is list else [entry]
            for index, one in enumerate(several):
                deadline = one.deadline if type(one) is Slot else one
                if deadline is None:
                    continue
                if deadline > now:
                    soonest = min(soonest, deadline)
                    continue
                events.append(Cancelled(known, DEADLINE))
                if type(one) is Slot:
                    one.deadline = None
                elif entry is several:
                    several[index] = None
                else:
                    self.running[known] = None
        self.soonest = soonest

    def answer(self, answer: Reply | Fault, slot: Slot | None) -> Fault | None:
        """Send an answer, or lay it into its slot. The fault that went out instead, if it cannot be said (rpc.B8)."""
        try:
            payload = self._encode(answer)
            if slot is None:
                self._put(payload)
            else:
                self._lay(payload, slot)
        except EncodeError as error:
            return self._answer_instead(answer, error, slot)
        return None

    def close_batch(self, gathering: Gathering) -> None:
        """All of a batch was read: its answers go out as soon as the last one is there. None at all is nothing."""
        gathering.is_closed = True
        self._send_gathered(gathering)

    def clear(self) -> None:
        """Forget everything."""
        self.running.clear()
        self._held.clear()
        self.in_flight = self.waiting = 0
        self.soonest = math.inf

    def _answer_instead(self, answer: Reply | Fault, error: EncodeError, slot: Slot | None) -> Fault:
        bare = Fault(answer.id, error.code, MESSAGES[error.code])
        if slot is None:
            self._put_fault(bare)
        else:
            self._fill(self._encode(bare), slot)
        return Fault(answer.id, error.code, MESSAGES[error.code], str(error))

    def _put_fault(self, fault: Fault) -> None:
        # An id is no longer than the frame in which it came, and without it the fault would help nobody.
        with contextlib.suppress(EncodeError):  # a delimiter that is in everything: `answer` tells the shell
            self._out.put(self._encode(fault), is_short=True)

    def _lay(self, payload: bytes, slot: Slot) -> None:
        gathering = slot.gathering
        if gathering.size + len(payload) + _SHORT * len(gathering.payloads) > self._out.limit:
            raise EncodeError("the answers of the batch are together longer than the other side takes", TOO_LARGE)
        self._fill(payload, slot)

    def _fill(self, payload: bytes, slot: Slot) -> None:
        slot.fill(payload)
        self._send_gathered(slot.gathering)

    def _send_gathered(self, gathering: Gathering) -> None:
        if gathering.is_complete and gathering.payloads:
            try:
                self._out.put(self._join(gathering.payloads))
            except EncodeError as error:
                self._put_fault(Fault(None, error.code, MESSAGES[error.code]))
