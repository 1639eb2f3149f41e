"""How a call is given up at sides of which nothing, or something, is known."""

from __future__ import annotations

import msgspec
import pytest

from monsal.wire import HelloFacts, JsonRpc, LineFrames, Peer


def said(peer: Peer) -> list[dict[str, object]]:
    return [msgspec.json.decode(frame) for frame in peer.data_to_send()]


@pytest.mark.rule("rpc.B4", "rpc.B11")
def test_a_side_that_said_no_hello_is_not_told() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    call_id = peer.call("slow", {}, now=0.0)
    said(peer)
    peer.give_up(call_id, now=1.0)
    assert said(peer) == []


@pytest.mark.rule("rpc.B4", "rpc.B12")
def test_a_side_that_said_hello_is_told_by_our_word() -> None:
    here = Peer(JsonRpc(), LineFrames(), hello=HelloFacts())
    there = Peer(JsonRpc(), LineFrames(), hello=HelloFacts())
    here.say_hello(0.0)
    there.receive_data(b"".join(here.data_to_send()), 0.0)
    here.receive_data(b"".join(there.data_to_send()), 0.0)
    call_id = here.call("slow", {}, now=0.0)
    said(here)
    here.give_up(call_id, now=1.0)
    assert said(here) == [{"jsonrpc": "2.0", "method": "rpc.cancel", "params": {"id": call_id}}]


@pytest.mark.rule("rpc.B4", "rpc.B12")
def test_a_side_known_to_understand_another_word_is_told_by_that_one() -> None:
    # Language Server Protocol 3.17: every side understands it, and leaves out what it does not know of `$/`.
    peer = Peer(JsonRpc(), LineFrames(), cancel="$/cancelRequest")
    call_id = peer.call("slow", {}, now=0.0)
    said(peer)
    peer.give_up(call_id, now=1.0)
    assert said(peer) == [{"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": call_id}}]
    # What is answered all the same is passed over.
    late = b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32800,"message":"given up"}}\n' % call_id
    assert peer.receive_data(late, 2.0) == []


@pytest.mark.rule("rpc.B4")
def test_a_call_that_expires_is_given_up_at_the_other_side_too() -> None:
    peer = Peer(JsonRpc(), LineFrames(), cancel="$/cancelRequest")
    call_id = peer.call("slow", {}, now=0.0, timeout=1.0)
    said(peer)
    peer.on_time(1.0)
    assert said(peer) == [{"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": call_id}}]
