"""Calls, answers, deadlines, cancelling, hello and silence, between two peers and a time that the test tells."""

from __future__ import annotations

import json
from typing import Any

import pytest

from monsal.errors import UsageError
from monsal.wire import (
    Alive,
    Answered,
    Called,
    Cancelled,
    EncodeError,
    Expired,
    Failed,
    Fault,
    Greeted,
    HelloFacts,
    JsonRpc,
    LengthFrames,
    LineFrames,
    Lost,
    Meta,
    MsgPack,
    Peer,
    PeerLimits,
    Trouble,
)
from monsal.wire.codes import (
    CANCELLED,
    DEADLINE,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    TOO_LARGE,
)

from .conftest import Pair, taken, told

# -- calls ----------------------------------------------------------------------------------------------------------


@pytest.mark.rule("rpc.R9")
def test_ids_count_from_one_and_a_cast_has_none() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    assert [peer.call("a", {}, now=0.0), peer.call("b", {}, now=0.0)] == [1, 2]
    peer.cast("c", {}, now=0.0)
    assert [said.get("id") for said in told(peer)] == [1, 2, None]
    assert Peer(JsonRpc(), LineFrames(), first_id=7).call("a", {}, now=0.0) == 7


@pytest.mark.rule("rpc.R9")
def test_an_answer_finds_its_call_and_a_fault_too() -> None:
    pair = Pair()
    first, second = pair.call("a"), pair.call("b")
    pair.flow()
    pair.right.fault(second, -32010, "no", {"kind": "No"}, now=0.0)
    pair.right.reply(first, [1], now=0.0)
    assert pair.flow()[0] == [Failed(second, Fault(second, -32010, "no", {"kind": "No"})), Answered(first, [1])]
    assert (pair.left.pending, pair.right.in_flight) == (0, 0)


@pytest.mark.rule("rpc.R10")
def test_what_cannot_be_said_uses_no_id_and_sends_nothing() -> None:
    peer = Peer(JsonRpc(), LineFrames(), limits=PeerLimits(frame=100))
    for params in ({"a": object()}, {"a": "x" * 200}):
        with pytest.raises(EncodeError):
            peer.call("a", params, now=0.0)
    with pytest.raises(EncodeError):
        peer.batch([("a", {}, True), ("b", {"a": object()}, True)], now=0.0)
    with pytest.raises(EncodeError):
        peer.batch([], now=0.0)
    assert (peer.pending, peer.buffered, peer.next_deadline()) == (0, 0, None)
    assert peer.call("a", {}, now=0.0) == 1


@pytest.mark.rule("rpc.R19", "rpc.B8")
@pytest.mark.parametrize(("result", "code"), [({"a": object()}, INTERNAL_ERROR), ("x" * 10_000, TOO_LARGE)])
def test_a_result_that_cannot_be_said_becomes_a_fault(result: Any, code: int) -> None:
    pair = Pair(limits=(PeerLimits(frame=1000), PeerLimits()))
    call_id = pair.call()
    pair.flow()
    instead = pair.right.reply(call_id, result, now=0.0)
    assert instead is not None
    assert (instead.code, instead.id) == (code, call_id)
    [failed] = pair.flow()[0]
    assert isinstance(failed, Failed)
    assert failed.fault.code == code


@pytest.mark.rule("rpc.B8")
def test_a_result_in_a_batch_that_cannot_be_said_becomes_a_fault_of_its_own() -> None:
    pair = Pair(limits=(PeerLimits(frame=2000), PeerLimits()))
    ids = pair.left.batch([("a", {}, True), ("b", {}, True), ("c", {}, False), ("d", {}, True)], now=0.0)
    assert ids == [1, 2, None, 3]
    pair.flow()
    pair.right.reply(1, "x" * 1000, now=0.0)
    pair.right.reply(2, "x" * 1000, now=0.0)
    pair.right.reply(3, object(), now=0.0)
    events = pair.flow()[0]
    assert [type(event) for event in events] == [Answered, Failed, Failed]
    assert [event.fault.code for event in events if isinstance(event, Failed)] == [TOO_LARGE, INTERNAL_ERROR]


@pytest.mark.rule("rpc.B8")
def test_the_same_id_several_times_is_answered_as_often() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    call = b'{"jsonrpc":"2.0","method":"m","id":1}'
    peer.receive_data(b"%b\n[%b,%b]\n%b\n" % (call, call, call, call), 0.0)
    assert peer.in_flight == 4
    for number in range(4):
        peer.reply(1, number, now=0.0)
    answers = told(peer)
    assert sorted(len(answer) if isinstance(answer, list) else 0 for answer in answers) == [0, 0, 2]
    assert peer.in_flight == 0
    with pytest.raises(UsageError):
        peer.reply(1, None, now=0.0)


@pytest.mark.rule("rpc.B7", "rpc.B8")
@pytest.mark.parametrize("octets", range(100, 400, 10))
def test_the_answers_of_a_batch_are_together_within_the_limit(octets: int) -> None:
    peer = Peer(JsonRpc(), LineFrames(), limits=PeerLimits(frame=1500))
    peer.receive_data(b"[" + b",".join(b'{"jsonrpc":"2.0","method":"m","id":%d}' % n for n in range(4)) + b"]\n", 0.0)
    for number in range(4):
        peer.reply(number, "x" * octets, now=0.0)
    data = taken(peer)
    assert len(data) <= 1500 + 1
    assert len(json.loads(data)) == 4


@pytest.mark.rule("rpc.B7", "rpc.B8")
def test_a_batch_whose_mere_faults_are_too_long_is_answered_by_one() -> None:
    peer = Peer(JsonRpc(), LineFrames(), limits=PeerLimits(frame=1000))
    peer.receive_data(b"[" + b",".join(b'{"jsonrpc":"2.0","method":"m","id":%d}' % n for n in range(20)) + b"]\n", 0.0)
    for number in range(20):
        peer.reply(number, None, now=0.0)
    [answer] = told(peer)
    assert (answer["id"], answer["error"]["code"]) == (None, TOO_LARGE)


@pytest.mark.rule("rpc.B1", "rpc.B11")
@pytest.mark.parametrize("frame", [-5, 0, 1, 1e308])
def test_limits_that_nobody_can_keep_do_no_harm(frame: float) -> None:
    pair = Pair(MsgPack, LengthFrames, hello=False)
    pair.right._facts = HelloFacts()
    call_id = pair.left.call("m", {}, now=0.0)
    pair.flow()
    stranger = Peer(MsgPack(), LengthFrames())
    stranger.call("rpc.hello", {"limits": {"frame": frame, "timeout": -1}}, now=0.0)
    stranger.call("m", {}, now=0.0)
    greeted, called = pair.right.receive_data(taken(stranger), 0.0)
    assert isinstance(greeted, Greeted)
    assert isinstance(called, Called)
    assert called.deadline == float("inf")
    taken(pair.right)
    instead = pair.right.reply(call_id, "x" * 100, now=0.0)
    assert (instead is not None) is (frame == 1)
    assert pair.right.buffered > 0
    if frame == 1:
        with pytest.raises(EncodeError):
            pair.right.call("m", {}, now=0.0)


def test_thousands_of_deadlines_are_not_looked_at_one_by_one() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    for number in range(5000):
        peer.call("m", {}, now=0.0, timeout=1.0 + number * 1e-6)
    assert peer.next_deadline() == 1.0
    assert len(peer.on_time(1.0)) == 1
    assert 1.005 < (peer.next_deadline() or 0.0) < 1.05
    assert len(peer.on_time(1.05)) == 4999


def test_an_answer_to_nothing_is_a_mistake_of_ours() -> None:
    with pytest.raises(UsageError):
        Peer(JsonRpc(), LineFrames()).reply(1, None, now=0.0)


@pytest.mark.rule("rpc.R20", "rpc.R25")
def test_an_unknown_answer_is_trouble_and_is_not_answered() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    for said in (
        b'{"jsonrpc":"2.0","result":1,"id":7}',
        b'{"jsonrpc":"2.0","error":{"code":1,"message":"?"},"id":null}',
    ):
        [trouble] = peer.receive_data(said + b"\n", 0.0)
        assert isinstance(trouble, Trouble)
        assert not trouble.is_answered
    assert not peer.wants_to_write


# -- deadlines and cancelling ---------------------------------------------------------------------------------------


@pytest.mark.rule("rpc.B4")
def test_a_call_that_is_not_answered_in_time_expires() -> None:
    pair = Pair(hello=False)
    assert pair.left.next_deadline() is None
    slow, quick = pair.call(), pair.call(timeout=2.0)
    assert pair.left.next_deadline() == 102.0
    assert pair.left.on_time(101.9) == []
    assert pair.left.on_time(102.0) == [Expired(quick)]
    assert pair.left.pending == 1
    assert pair.left.on_time(130.0) == [Expired(slow)]
    assert pair.left.next_deadline() is None
    _, heard = pair.flow()
    assert [type(event) for event in heard] == [Called, Called]  # no cancel without hello
    # Its answer comes all the same, and is no trouble, once.
    pair.right.reply(quick, None, now=0.0)
    assert pair.flow()[0] == []


@pytest.mark.rule("rpc.B4", "rpc.B11")
def test_a_deadline_is_sent_along_after_hello_and_stops_the_handler() -> None:
    pair = Pair()
    call_id = pair.call(timeout=2.0, meta=Meta(trace="00-1", key="k"))
    [called] = pair.flow()[1]
    assert isinstance(called, Called)
    assert called.deadline == pair.now + 2.0
    assert called.meta == Meta(2.0, "00-1", "k")
    assert pair.right.next_deadline() == pair.now + 2.0
    assert pair.right.on_time(pair.now + 2.0) == [Cancelled(call_id, DEADLINE)]
    assert pair.right.on_time(pair.now + 2.1) == []
    pair.right.fault(call_id, DEADLINE, "late", now=0.0)
    assert pair.right.in_flight == 0


@pytest.mark.rule("rpc.B4", "rpc.B11")
def test_a_deadline_that_both_know_is_not_repeated() -> None:
    pair = Pair(limits=(PeerLimits(timeout=5.0), PeerLimits()))
    pair.call()
    assert "meta" not in told_and_heard(pair)
    assert pair.right.next_deadline() == pair.now + 5.0


def told_and_heard(pair: Pair) -> dict[str, Any]:
    data = taken(pair.left)
    pair.right.receive_data(data, pair.now)
    said: dict[str, Any] = json.loads(data)
    return said


@pytest.mark.rule("rpc.B11")
def test_a_side_that_said_no_hello_hears_nothing_but_json_rpc() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    call_id = peer.call("a", {}, now=0.0, timeout=1.0, meta=Meta(key="k"))
    peer.cast("b", {}, now=0.0, meta=Meta(key="k"))
    peer.give_up(call_id, now=0.0)
    assert [set(said) for said in told(peer)] == [
        {"jsonrpc", "method", "params", "id"},
        {"jsonrpc", "method", "params"},
    ]


@pytest.mark.rule("rpc.B4", "rpc.B12")
def test_giving_up_reaches_the_handler_and_the_call_is_still_answered() -> None:
    pair = Pair()
    call_id = pair.call()
    pair.flow()
    pair.left.give_up(call_id, now=0.0)
    assert pair.flow()[1] == [Cancelled(call_id, CANCELLED)]
    pair.right.fault(call_id, CANCELLED, "cancelled", now=0.0)
    assert pair.flow()[0] == []
    assert (pair.left.pending, pair.right.in_flight) == (0, 0)


@pytest.mark.rule("rpc.B4", "rpc.B12")
@pytest.mark.parametrize("method", ["rpc.cancel", "$/cancelRequest"])
def test_a_call_that_waits_is_dropped_and_answered_when_it_is_cancelled(method: str) -> None:
    peer = Peer(JsonRpc(), LineFrames(), limits=PeerLimits(in_flight=1))
    for number in (1, 2, 3):
        peer.receive_data(b'{"jsonrpc":"2.0","method":"m","id":%d}\n' % number, 0.0)
    assert (peer.in_flight, peer.waiting) == (1, 2)
    assert peer.receive_data(b'{"jsonrpc":"2.0","method":"%b","params":{"id":2}}\n' % method.encode(), 0.0) == []
    assert [(said["id"], said["error"]["code"]) for said in told(peer)] == [(2, CANCELLED)]
    peer.reply(1, None, now=0.0)
    [called] = peer.next_calls(0.0)
    assert isinstance(called, Called)
    assert called.id == 3
    assert (peer.in_flight, peer.waiting) == (1, 0)


@pytest.mark.rule("rpc.B12")
def test_cancelling_as_a_call_is_answered_and_a_wrong_one_refused() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    peer.receive_data(b'{"jsonrpc":"2.0","method":"m","id":1}\n', 0.0)
    events = peer.receive_data(b'{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":1},"id":2}\n', 0.0)
    assert events == [Cancelled(1)]
    peer.receive_data(b'{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":9},"id":3}\n', 0.0)
    peer.receive_data(b'{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":[]},"id":4}\n', 0.0)
    said = told(peer)
    assert [answer.get("result") for answer in said] == [True, False, None]
    assert said[2]["error"]["code"] == INVALID_PARAMS


@pytest.mark.rule("rpc.B4")
def test_what_waited_beyond_its_deadline_is_answered_and_not_run() -> None:
    pair = Pair(limits=(PeerLimits(), PeerLimits(in_flight=1)))
    first, late = pair.call(timeout=9.0), pair.call(timeout=2.0)
    pair.flow()
    pair.now += 3.0
    pair.right.reply(first, None, now=pair.now)
    assert pair.right.next_calls(pair.now) == []
    events = pair.flow()[0]
    assert isinstance(events[1], Failed)
    assert (events[1].id, events[1].fault.code) == (late, DEADLINE)


# -- hello and silence ----------------------------------------------------------------------------------------------


@pytest.mark.rule("rpc.B11")
@pytest.mark.parametrize("codec", [JsonRpc, MsgPack])
@pytest.mark.parametrize("raw", [False, True])
def test_hello_tells_each_side_of_the_other(codec: Any, raw: bool) -> None:
    limits = (PeerLimits(frame=5000, beat=3.0), PeerLimits(frame=7000, beat=None))
    pair = Pair(lambda: codec(raw=raw), hello=False, limits=limits)
    pair.left._facts, pair.right._facts = HelloFacts(api="one", features=("streams",)), HelloFacts(api="two")
    pair.left.say_hello(0.0)
    [left], [right] = pair.flow()
    assert isinstance(left, Greeted)
    assert isinstance(right, Greeted)
    assert (left.facts.api, left.facts.beat, left.facts.limits["frame"]) == ("two", None, 7000)
    assert (right.facts.api, right.facts.beat, right.facts.features) == ("one", 3.0, ("streams",))
    pair.call("a", {"x": "y" * 6000})
    pair.flow()
    assert pair.right.reply(1, "y" * 6000, now=0.0) is not None  # the left side takes 5000 octets
    assert pair.left.next_deadline() == 130.0  # no beat, since one side wants none


@pytest.mark.rule("rpc.B11")
def test_a_strict_peer_that_knows_no_hello_is_a_peer_without_features() -> None:
    pair = Pair(hello=False)
    pair.left._facts = HelloFacts()
    pair.left.say_hello(0.0)
    assert pair.flow() == ([], [])
    assert pair.left.theirs is None
    assert pair.left.next_deadline() is None
    with pytest.raises(UsageError):
        pair.right.say_hello(0.0)


@pytest.mark.rule("rpc.B11")
def test_a_hello_that_is_none_is_refused() -> None:
    pair = Pair()
    pair.right.receive_data(b'{"jsonrpc":"2.0","method":"rpc.hello","params":{"beat":"x"},"id":1}\n', 0.0)
    assert told(pair.right)[0]["error"]["code"] == INVALID_PARAMS
    strict = Peer(JsonRpc(), LineFrames())
    strict.receive_data(b'{"jsonrpc":"2.0","method":"rpc.hello","params":{},"id":1}\n', 0.0)
    assert told(strict)[0]["error"] == {"code": METHOD_NOT_FOUND, "message": "Method not found"}
    pair = Pair(hello=False)
    pair.left._facts = HelloFacts()
    pair.left.say_hello(0.0)
    [trouble] = pair.left.receive_data(b'{"jsonrpc":"2.0","result":5,"id":"rpc.hello"}\n', 0.0)
    assert isinstance(trouble, Trouble)
    assert trouble.fault.code == INVALID_REQUEST
    assert pair.left.theirs is None


@pytest.mark.rule("rpc.B3")
def test_a_silent_side_is_pinged_and_lost_after_the_second_beat() -> None:
    pair = Pair()
    start, beat = pair.now, 10.0
    call_id = pair.call(timeout=100.0)
    pair.flow()
    assert pair.left.next_deadline() == start + beat
    assert pair.left.on_time(start + beat) == []
    assert [said["method"] for said in told(pair.left)] == ["rpc.ping"]
    [lost] = pair.left.on_time(start + 2 * beat)
    assert isinstance(lost, Lost)
    assert lost.calls == {call_id: True}
    assert not lost.may_answer
    assert pair.left.on_time(start + 100.0) == []


@pytest.mark.rule("rpc.B3")
def test_a_busy_side_that_answers_pings_is_not_lost() -> None:
    pair = Pair(limits=(PeerLimits(), PeerLimits(in_flight=1, queue=0)))
    pair.call(timeout=100.0)
    pair.flow()
    for _ in range(3):
        pair.now = pair.left.next_deadline() or 0.0
        assert pair.left.on_time(pair.now) == []
        assert pair.flow()[0] == [Alive()]
    assert pair.left.pending == 1


@pytest.mark.rule("rpc.B3")
def test_pings_that_are_answered_late_are_all_known() -> None:
    pair = Pair()
    for _ in range(3):
        pair.now += 10.0
        assert pair.left.on_time(pair.now) == []
        pair.left.receive_data(b"\n", pair.now)  # it speaks, but has not come to the ping
    assert pair.flow()[0] == [Alive(), Alive(), Alive()]
    assert pair.left.statistics().troubles == 0
    [trouble] = pair.left.receive_data(b'{"jsonrpc":"2.0","result":null,"id":"rpc.ping"}\n', pair.now)
    assert isinstance(trouble, Trouble)


@pytest.mark.rule("rpc.B3")
def test_whoever_slept_pings_first_and_what_speaks_is_not_pinged() -> None:
    pair = Pair()
    pair.now += 9.0
    pair.right.cast("news", {}, now=pair.now)
    pair.flow()
    assert pair.left.on_time(110.0) == []
    assert not pair.left.wants_to_write
    assert pair.left.next_deadline() == 119.0
    assert pair.left.on_time(100_000.0) == []  # we were stopped, not the other side
    assert pair.left.wants_to_write
    assert pair.left.next_deadline() == 100_010.0


@pytest.mark.rule("rpc.B3", "rpc.B7")
def test_whom_we_do_not_read_is_not_called_silent() -> None:
    pair = Pair(limits=(PeerLimits(write_buffer=10), PeerLimits()))
    pair.left.cast("much", {"a": "x" * 100}, now=pair.now)
    assert not pair.left.reading
    for late in (10.0, 20.0, 30.0, 40.0):
        assert pair.left.on_time(pair.now + late) == []
    assert len(told(pair.left)) == 1


@pytest.mark.rule("rpc.B3")
def test_a_death_fails_all_calls_and_tells_which_may_have_been_heard() -> None:
    pair = Pair()
    sent = pair.call()
    pair.flow()
    unsent = pair.call()
    assert pair.left.receive_eof(0.0) == [Lost("the other side hung up", {sent: True, unsent: False})]
    assert pair.left.receive_eof(0.0) == []
    assert pair.left.pending == 0


def test_who_only_stopped_speaking_still_gets_its_answers() -> None:
    peer = Peer(JsonRpc(), LineFrames(), limits=PeerLimits(in_flight=1))
    peer.receive_data(b'{"jsonrpc":"2.0","method":"m","id":1}\n{"jsonrpc":"2.0","method":"m","id":2}\n', 0.0)
    [lost] = peer.receive_eof(0.0)
    assert lost == Lost("the other side hung up", {}, running=(1,), may_answer=True)
    peer.reply(1, "a", now=0.0)
    assert [type(event) for event in peer.next_calls(0.0)] == [Called]
    peer.reply(2, "b", now=0.0)
    assert [said["result"] for said in told(peer)] == ["a", "b"]
    assert (peer.in_flight, peer.waiting) == (0, 0)


def test_an_answer_after_the_end_is_dropped() -> None:
    peer = Peer(JsonRpc(), LineFrames(), limits=PeerLimits(garbage=1))
    peer.receive_data(b'{"jsonrpc":"2.0","method":"m","id":1}\n', 0.0)
    [_, lost] = peer.receive_data(b"?\n", 0.0)
    assert isinstance(lost, Lost)
    assert lost.running == (1,)
    assert peer.reply(1, None, now=0.0) is None
    assert peer.fault(1, -1, "", now=0.0) is None


def test_a_peer_reports_itself() -> None:
    pair = Pair(limits=(PeerLimits(), PeerLimits(in_flight=1)))
    pair.call()
    pair.call()
    pair.left.receive_data(b"?\n", 0.0)
    pair.flow()
    left, right = pair.left.statistics(), pair.right.statistics()
    assert (left.made, left.pending, left.troubles, left.buffered) == (2, 2, 1, 0)
    assert (right.heard, right.in_flight, right.waiting, right.troubles) == (2, 1, 1, 1)
