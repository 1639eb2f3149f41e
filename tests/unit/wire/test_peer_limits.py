"""What is too much: calls, octets, batches, garbage (rpc.B7)."""

from __future__ import annotations

import pytest

from monsal.errors import ProtocolError
from monsal.wire import (
    Called,
    Failed,
    JsonRpc,
    LineFrames,
    Lost,
    Peer,
    PeerLimits,
    Trouble,
)
from monsal.wire.codes import (
    BUSY,
    INVALID_REQUEST,
    TOO_LARGE,
)

from .conftest import Pair, told


@pytest.mark.rule("rpc.B7")
def test_calls_above_the_limits_are_held_back_in_order_and_then_refused() -> None:
    pair = Pair(limits=(PeerLimits(), PeerLimits(in_flight=2, queue=3)))
    ids = [pair.call() for _ in range(6)]
    heard, started = pair.flow()
    assert [event.id for event in started if isinstance(event, Called)] == ids[:2]
    assert (pair.right.in_flight, pair.right.waiting) == (2, 3)
    [refused] = heard
    assert isinstance(refused, Failed)
    assert (refused.id, refused.fault.code) == (ids[5], BUSY)
    assert refused.fault.data["retry_after"] > 0
    pair.right.reply(ids[0], None, now=0.0)
    pair.right.reply(ids[1], None, now=0.0)
    assert [event.id for event in pair.right.next_calls(0.0) if isinstance(event, Called)] == ids[2:4]


@pytest.mark.rule("rpc.B5", "rpc.B7")
def test_a_cast_does_not_overtake_what_waits_and_can_take_room() -> None:
    pair = Pair(limits=(PeerLimits(), PeerLimits(in_flight=1, queue=2)))
    pair.call("first")
    pair.call("second")
    pair.left.cast("third", {}, now=0.0)
    pair.left.cast("lost", {}, now=0.0)
    events = pair.flow()[1]
    assert [type(event) for event in events] == [Called, Trouble]
    pair.right.reply(1, None, now=0.0)
    assert [event.method for event in pair.right.next_calls(0.0) if isinstance(event, Called)] == ["second"]
    pair.right.reply(2, None, now=0.0)
    [third] = pair.right.next_calls(0.0)
    assert isinstance(third, Called)
    assert third.is_cast
    pair.right.hold()
    pair.call("fourth")
    assert pair.flow()[1] == []
    pair.right.release()
    assert [type(event) for event in pair.right.next_calls(0.0)] == [Called]


@pytest.mark.rule("rpc.B7")
def test_what_is_held_back_is_bounded_in_octets() -> None:
    peer = Peer(JsonRpc(), LineFrames(), limits=PeerLimits(in_flight=1, queue=1000, held=1000))
    for number in range(20):
        peer.receive_data(b'{"jsonrpc":"2.0","method":"m","params":["%b"],"id":%d}\n' % (b"x" * 250, number), 0.0)
    assert peer.waiting == 3
    assert all(said["error"]["code"] == BUSY for said in told(peer))


@pytest.mark.rule("rpc.B7")
def test_reading_stops_while_answers_are_left_unread() -> None:
    peer = Peer(JsonRpc(), LineFrames(), limits=PeerLimits(write_buffer=1000))
    assert peer.reading
    for number in range(50):
        peer.receive_data(b'{"jsonrpc":"2.0","method":"m","id":%d}\n' % number, 0.0)
        peer.reply(number, "x" * 20, now=0.0)
    assert not peer.reading
    octets = sum(map(len, peer.data_to_send()))
    assert peer.buffered == octets
    assert not peer.reading  # handed out, but not gone
    peer.sent(octets)
    assert peer.reading
    assert peer.buffered == 0


@pytest.mark.rule("rpc.B1", "rpc.B7")
def test_a_frame_that_is_too_long_is_answered_and_the_next_is_heard() -> None:
    limits = PeerLimits(frame=100)
    peer = Peer(JsonRpc(), LineFrames(limits.frame), limits=limits)
    events = peer.receive_data(b"x" * 1000 + b'\n{"jsonrpc":"2.0","method":"m","id":1}\n', 0.0)
    assert [type(event) for event in events] == [Trouble, Called]
    assert told(peer)[0]["error"] == {"code": TOO_LARGE, "message": "Too large"}


@pytest.mark.rule("rpc.B7")
def test_a_batch_bomb_is_refused_at_its_first_item_too_many() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    [trouble] = peer.receive_data(b"[" + b"1," * 400_000 + b"1]\n", 0.0)
    assert isinstance(trouble, Trouble)
    assert trouble.fault.code == TOO_LARGE
    assert len(told(peer)) == 1


@pytest.mark.rule("rpc.B1", "rpc.B7")
def test_garbage_without_end_ends_the_link_and_a_good_frame_forgives() -> None:
    peer = Peer(JsonRpc(), LineFrames(), limits=PeerLimits(garbage=10))
    good = b'{"jsonrpc":"2.0","method":"m"}\n'
    for _ in range(5):
        assert all(isinstance(event, Trouble) for event in peer.receive_data(b"?\n" * 9, 0.0))
        peer.receive_data(good, 0.0)
    events = peer.receive_data(b"?\n" * 50 + good, 0.0)
    assert [type(event) for event in events] == [Trouble] * 10 + [Lost]
    assert events[-1] == Lost("too much garbage", {})
    assert peer.receive_data(good, 0.0) == []
    assert not peer.reading
    with pytest.raises(ProtocolError):
        peer.call("a", {}, now=0.0)


@pytest.mark.rule("rpc.B1", "rpc.B8")
def test_a_batch_of_which_nothing_is_right_is_answered_item_by_item() -> None:
    peer = Peer(JsonRpc(), LineFrames(), limits=PeerLimits(garbage=10))
    for _ in range(9):
        events = peer.receive_data(b"[" + b"1," * 99 + b"1]\n", 0.0)
        assert [type(event) for event in events] == [Trouble] * 100
        [answers] = told(peer)
        assert [answer["error"]["code"] for answer in answers] == [INVALID_REQUEST] * 100
    assert isinstance(peer.receive_data(b"[1,2]\n", 0.0)[1], Lost)


@pytest.mark.rule("rpc.B11", "rpc.R25")
def test_garbage_is_explained_to_who_said_hello_and_always_to_ourselves() -> None:
    for hello in (False, True):
        pair = Pair(hello=hello)
        [trouble] = pair.right.receive_data(b'{"jsonrpc":"2.0","method":1,"id":4}\n', 0.0)
        assert isinstance(trouble, Trouble)
        assert "method" in trouble.fault.data
        [said] = told(pair.right)
        assert said["id"] == 4
        assert ("data" in said["error"]) is hello
