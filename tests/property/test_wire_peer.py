"""Two peers, whatever happens between them: every call ends exactly once, and nothing passes its bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from monsal.wire import (
    Answered,
    Called,
    Cancelled,
    Codec,
    Event,
    Expired,
    Failed,
    Frames,
    HelloFacts,
    Hmac,
    JsonRpc,
    LengthFrames,
    LineFrames,
    Lost,
    MsgPack,
    Peer,
    PeerLimits,
    Terse,
    Trouble,
)
from monsal.wire.codes import BUSY, CANCELLED, MESSAGES

LIMITS = PeerLimits(in_flight=2, queue=3, timeout=20.0, beat=5.0, write_buffer=2000, batch=4)
WIRES: list[tuple[Callable[[], Codec], Callable[[], Frames]]] = [
    (JsonRpc, LineFrames),
    (lambda: JsonRpc(raw=True), LineFrames),
    (lambda: MsgPack(raw=True), LengthFrames),
    (Terse, LineFrames),
]


class Side:
    """One end: its peer, what it has said but the other has not heard, and what became of its calls."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.wire = bytearray()
        self.made: set[int] = set()
        self.ended: Counter[Any] = Counter()
        self.running: list[Any] = []
        self.cancelled: list[Any] = []
        self.lost: Lost | None = None

    def hear(self, events: list[Event]) -> None:
        for event in events:
            # What had come before the end of the bytes may still be run, stopped and answered.
            is_late = self.lost is not None and self.lost.may_answer and isinstance(event, Called | Cancelled)
            assert self.lost is None or is_late, f"{event} after {self.lost}"
            if isinstance(event, Answered | Failed | Expired):
                self.ended[event.id] += 1
            elif isinstance(event, Called):
                if not event.is_cast:
                    self.running.append(event.id)
            elif isinstance(event, Cancelled):
                assert event.id in self.running
                self.cancelled.append(event.id)
            elif isinstance(event, Lost):
                self.lost = event
                self.ended.update(list(event.calls))
                assert sorted(event.running) == sorted(set(self.running))
            elif isinstance(event, Trouble):
                # The only trouble that two well-behaved sides can have is too much at once.
                assert event.fault.code == BUSY
        if isinstance(self.lost, Lost) and not self.lost.may_answer:
            self.running.clear()


class TwoPeers(RuleBasedStateMachine):
    """What two programs and the network between them may do, in any order."""

    @initialize(wire=st.sampled_from(WIRES), hello=st.booleans(), signed=st.booleans())
    def connect(self, wire: Any, hello: bool, signed: bool) -> None:
        codec, frames = wire
        security = Hmac(b"0123456789abcdef") if signed and codec is not Terse else None
        facts = HelloFacts() if hello else None
        self.sides = [
            Side(Peer(codec(), frames(), limits=LIMITS, hello=facts, security=security, nonce=bytes([number]) * 16))
            for number in (0, 1)
        ]
        self.has_batches = codec is not Terse
        self.now = 0.0
        if hello:
            self.sides[0].peer.say_hello(self.now)

    def alive(self, which: int) -> Side | None:
        side = self.sides[which]
        return None if side.lost is not None else side

    @rule(which=st.integers(0, 1), timeout=st.none() | st.sampled_from([0.5, 3.0, 50.0]), size=st.integers(0, 200))
    def call(self, which: int, timeout: float | None, size: int) -> None:
        if side := self.alive(which):
            made = side.peer.call("m", {"a": "x" * size}, now=self.now, timeout=timeout)
            assert made not in side.made
            side.made.add(made)

    @rule(which=st.integers(0, 1))
    def cast(self, which: int) -> None:
        if side := self.alive(which):
            side.peer.cast("m", {}, now=self.now)

    @rule(which=st.integers(0, 1), kinds=st.lists(st.booleans(), min_size=1, max_size=4))
    def batch(self, which: int, kinds: list[bool]) -> None:
        if (side := self.alive(which)) and self.has_batches:
            ids = side.peer.batch([("m", {}, kind) for kind in kinds], now=self.now)
            side.made.update(known for known in ids if known is not None)

    @rule(which=st.integers(0, 1), number=st.integers(0, 20))
    def give_up(self, which: int, number: int) -> None:
        side = self.sides[which]
        waiting = sorted(side.made - set(side.ended))
        if waiting and side.lost is None:
            known = waiting[number % len(waiting)]
            side.peer.give_up(known, now=self.now)
            side.ended[known] += 1

    @rule(which=st.integers(0, 1), number=st.integers(0, 20), is_fault=st.booleans())
    def answer(self, which: int, number: int, is_fault: bool) -> None:
        side = self.sides[which]
        if side.running:
            known = side.running.pop(number % len(side.running))
            if is_fault or known in side.cancelled:
                side.peer.fault(known, CANCELLED, MESSAGES[CANCELLED], now=self.now)
            else:
                side.peer.reply(known, {"ok": True}, now=self.now)
            side.hear(side.peer.next_calls(self.now))

    @rule(which=st.integers(0, 1), octets=st.sampled_from([1, 10, 100, 10_000]))
    def carry(self, which: int, octets: int) -> None:
        speaker, hearer = self.sides[which], self.sides[1 - which]
        frames = speaker.peer.data_to_send()
        speaker.wire += b"".join(frames)
        piece = bytes(speaker.wire[:octets])
        del speaker.wire[:octets]
        speaker.peer.sent(len(piece))
        if hearer.lost is None and hearer.peer.reading:
            hearer.hear(hearer.peer.receive_data(piece, self.now))
        else:
            speaker.wire[:0] = piece
            speaker.peer.sent(-len(piece))

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for side in self.sides:
            due = side.peer.next_deadline()
            if due is not None and due <= self.now:
                side.hear(side.peer.on_time(self.now))
                later = side.peer.next_deadline()
                assert later is None or later > self.now

    @precondition(lambda self: self.now > 10)
    @rule(which=st.integers(0, 1))
    def die(self, which: int) -> None:
        side = self.sides[which]
        side.hear(side.peer.receive_eof(self.now))

    @invariant()
    def bounds_hold(self) -> None:
        for side in getattr(self, "sides", ()):
            assert side.peer.in_flight == len(side.running) <= LIMITS.in_flight
            assert side.peer.waiting <= LIMITS.queue
            assert side.peer.buffered >= 0
            assert side.peer.pending == len(side.made) - len(side.ended)
            assert all(count == 1 for count in side.ended.values()), side.ended

    def teardown(self) -> None:
        """In the end both hang up: then every call has ended, once."""
        for side in getattr(self, "sides", ()):
            side.hear(side.peer.receive_eof(self.now))
            assert side.ended == Counter(side.made)
            assert side.peer.pending == 0


TestTwoPeers = pytest.mark.rule("rpc.R9", "rpc.B3", "rpc.B4", "rpc.B7")(TwoPeers.TestCase)
TestTwoPeers.settings = settings(
    deadline=None, max_examples=120, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.rule("rpc.B1", "rpc.R11")
@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(WIRES),
    st.lists(
        st.binary(max_size=30) | st.sampled_from([b"\n", b'{"jsonrpc":"2.0","method":"m","id":1}\n']), max_size=20
    ),
    st.booleans(),
)
def test_any_bytes_are_events(wire: Any, pieces: list[bytes], signed: bool) -> None:
    codec, frames = wire
    security = Hmac(b"0123456789abcdef") if signed and codec is not Terse else None
    peer = Peer(codec(), frames(), security=security, nonce=b"n" * 16, limits=LIMITS, hello=HelloFacts())
    for piece in pieces:
        for event in peer.receive_data(piece, 0.0):
            if isinstance(event, Called) and not event.is_cast:
                assert not signed or codec is Terse
                peer.reply(event.id, None, now=0.0)
        peer.on_time(100.0)
        peer.data_to_send()


@pytest.mark.rule("rpc.R11", "rpc.B8")
@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=50))
def test_any_cut_of_a_conversation_is_heard_the_same(steps: list[int]) -> None:
    speaker = Peer(JsonRpc(), LineFrames(), hello=HelloFacts())
    speaker.say_hello(0.0)
    for number in range(3):
        speaker.call("m", {"n": number}, now=0.0)
    speaker.batch([("a", {}, True), ("b", [1], False)], now=0.0)
    stream = b"".join(speaker.data_to_send()) + b'?\n[]\n{"jsonrpc":"2.0","result":1,"id":99}\n'
    whole = Peer(JsonRpc(), LineFrames(), hello=HelloFacts()).receive_data(stream, 0.0)
    hearer = Peer(JsonRpc(), LineFrames(), hello=HelloFacts())
    events: list[Event] = []
    start = turn = 0
    while start < len(stream):
        step = steps[turn % len(steps)]
        events += hearer.receive_data(stream[start : start + step], 0.0)
        start, turn = start + step, turn + 1
    assert events == whole
