"""What is not signed, signed wrongly, or said twice is not heard (rpc.B6)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from monsal.errors import UsageError
from monsal.wire import (
    Answered,
    Called,
    Codec,
    DelimiterFrames,
    Failed,
    Frames,
    Hmac,
    InvalidSignatureError,
    JsonRpc,
    LengthFrames,
    LineFrames,
    Lost,
    MsgPack,
    Null,
    Peer,
    Security,
    Token,
    Tokens,
    Trouble,
    UnknownUserError,
)
from monsal.wire.codes import UNAUTHENTICATED

from .conftest import Pair, taken

KEY = b"0123456789abcdef"
WIRES: list[tuple[Callable[[], Codec], Callable[[], Frames]]] = [(JsonRpc, LineFrames), (MsgPack, LengthFrames)]


def signed(codec: Callable[[], Codec] = JsonRpc, frames: Callable[[], Frames] = LineFrames) -> Pair:
    pair = Pair(codec, frames, hello=False, security=(Hmac(KEY, "ann"), Hmac(KEY, "ann")))
    pair.flow()
    return pair


@pytest.mark.rule("rpc.B6", "rpc.R32")
@pytest.mark.parametrize(("codec", "frames"), WIRES)
def test_two_sides_with_one_key_understand_each_other(codec: Any, frames: Any) -> None:
    pair = signed(codec, frames)
    for number in range(1, 4):
        call_id = pair.call("add", {"a": number})
        _, [called] = pair.flow()
        assert isinstance(called, Called)
        assert (called.method, called.secinfo) == ("add", {"user": "ann"})
        pair.right.reply(called.id, number, now=0.0)
        assert pair.flow()[0] == [Answered(call_id, number)]
    assert pair.left.buffered == pair.right.buffered == 0


@pytest.mark.rule("rpc.R32")
def test_a_signature_travels_in_a_notification_before_its_packet() -> None:
    pair = signed()
    pair.call("add", {"a": 1})
    header, packet, end = taken(pair.left).split(b"\n")
    assert json.loads(header)["method"] == "rpc.secinfo"
    assert set(json.loads(header)["params"]) == {"key", "seq", "mac"}
    assert "id" not in json.loads(header)
    assert packet == b'{"jsonrpc":"2.0","method":"add","params":{"a":1},"id":1}'
    assert end == b""


@pytest.mark.rule("rpc.R32")
def test_a_header_without_its_payload_waits_for_it() -> None:
    pair = signed()
    pair.call("add", {"a": 1})
    header, packet, _ = taken(pair.left).split(b"\n")
    assert pair.right.receive_data(header + b"\n", 0.0) == []
    [called] = pair.right.receive_data(packet + b"\n", 0.0)
    assert isinstance(called, Called)


@pytest.mark.rule("rpc.R32")
def test_a_peer_without_security_passes_headers_over() -> None:
    pair = signed()
    pair.call("add", {"a": 1})
    [called] = Peer(JsonRpc(), LineFrames()).receive_data(taken(pair.left), 0.0)
    assert isinstance(called, Called)
    assert called.secinfo == {}


@pytest.mark.rule("rpc.R32")
def test_without_secinfo_it_is_plain_json_rpc() -> None:
    peer = Peer(JsonRpc(), DelimiterFrames(), security=Null())
    peer.call("a", {}, now=0.0)
    assert taken(peer) == b'{"jsonrpc":"2.0","method":"a","params":{},"id":1}\0'


@pytest.mark.rule("rpc.B6")
@pytest.mark.parametrize(("codec", "frames"), WIRES)
def test_an_unsigned_call_on_a_signed_link_is_refused_and_not_run(codec: Any, frames: Any) -> None:
    pair = signed(codec, frames)
    stranger = Peer(codec(), frames())
    stranger.call("add", {"a": 1}, now=0.0)
    [trouble] = pair.right.receive_data(taken(stranger), 0.0)
    assert isinstance(trouble, Trouble)
    assert trouble.is_answered
    assert trouble.fault.code == UNAUTHENTICATED
    assert trouble.in_reply_to is not None
    assert trouble.in_reply_to.method == "add"
    assert pair.right.in_flight == 0
    # The refusal itself is signed, so that nobody can forge one.
    [told] = [event for event in pair.flow()[0] if isinstance(event, Trouble | Failed)]
    assert told.fault.code == UNAUTHENTICATED


@pytest.mark.rule("rpc.B6")
def test_an_unsigned_cast_or_answer_is_passed_over_without_a_word() -> None:
    pair = signed()
    call_id = pair.call()
    pair.flow()
    stranger = Peer(JsonRpc(), LineFrames())
    stranger.cast("add", {}, now=0.0)
    [trouble] = pair.right.receive_data(taken(stranger), 0.0)
    assert isinstance(trouble, Trouble)
    assert not trouble.is_answered
    [trouble] = pair.left.receive_data(b'{"jsonrpc":"2.0","result":"forged","id":%d}\n' % call_id, 0.0)
    assert isinstance(trouble, Trouble)
    assert pair.left.pending == 1
    assert not pair.left.wants_to_write
    assert not pair.right.wants_to_write


@pytest.mark.rule("rpc.B6")
@pytest.mark.parametrize("where", ["payload", "mac", "seq", "key"])
def test_a_changed_frame_is_refused(where: str) -> None:
    pair = signed()
    pair.call("pay", {"amount": 1})
    header, packet, _ = taken(pair.left).split(b"\n")
    secinfo = json.loads(header)
    if where == "payload":
        packet = packet.replace(b'"amount":1', b'"amount":9')
    else:
        secinfo["params"][where] = {"mac": "00" * 32, "seq": 2, "key": "bob"}[where]
    [trouble] = pair.right.receive_data(json.dumps(secinfo).encode() + b"\n" + packet + b"\n", 0.0)
    assert isinstance(trouble, Trouble)
    assert trouble.fault.code == UNAUTHENTICATED


@pytest.mark.rule("rpc.B6")
@pytest.mark.parametrize(("codec", "frames"), WIRES)
def test_what_was_said_once_is_not_heard_twice(codec: Any, frames: Any) -> None:
    pair = signed(codec, frames)
    pair.call("pay", {"amount": 1})
    recorded = taken(pair.left)
    [called] = pair.right.receive_data(recorded, 0.0)
    assert isinstance(called, Called)
    [trouble] = pair.right.receive_data(recorded, 0.0)
    assert isinstance(trouble, Trouble)
    # Nor on another link, nor by who said it.
    other = Peer(codec(), frames(), security=Hmac(KEY, "ann"), nonce=b"2" * 16)
    replayed = Peer(codec(), frames(), security=Hmac(KEY, "ann"), nonce=b"\0" * 16)
    assert other.receive_data(taken(replayed), 0.0) == []
    assert [type(event) for event in other.receive_data(recorded, 0.0)] == [Trouble]
    assert [type(event) for event in pair.left.receive_data(recorded, 0.0)] == [Trouble]


@pytest.mark.rule("rpc.B6")
def test_our_own_greeting_sent_back_is_refused() -> None:
    peer = Peer(JsonRpc(), LineFrames(), security=Hmac(KEY), nonce=b"n" * 16)
    assert [type(event) for event in peer.receive_data(taken(peer), 0.0)] == [Trouble]
    peer.call("a", {}, now=0.0)
    assert not peer.wants_to_write
    assert peer.buffered > 0


@pytest.mark.rule("rpc.B3")
def test_what_could_not_be_signed_yet_counts_as_unsent() -> None:
    peer = Peer(JsonRpc(), LineFrames(), security=Hmac(KEY), nonce=b"n" * 16)
    call_id = peer.call("a", {}, now=0.0)
    taken(peer)
    [lost] = peer.receive_eof(1.0)
    assert isinstance(lost, Lost)
    assert lost.calls == {call_id: False}


@pytest.mark.rule("rpc.B6")
def test_the_window_bears_another_order_but_no_repetition() -> None:
    one, two = Hmac(KEY).session(b"1" * 16), Hmac(KEY).session(b"2" * 16)
    assert one.greeting is not None
    assert two.greeting is not None
    assert one.greeted(two.greeting)
    assert two.greeted(one.greeting)
    sealed = [one.seal(b"x")[0] for _ in range(200)]
    for number in (5, 3, 4, 67, 10, 199, 136):
        assert two.open(b"x", sealed[number])[0] == b"x"
    for number in (5, 3, 199, 136, 135, 0):
        with pytest.raises(InvalidSignatureError):
            two.open(b"x", sealed[number])


@pytest.mark.rule("rpc.B6")
def test_a_token_is_shown_once_and_opens_its_scopes() -> None:
    pair = Pair(hello=False, security=(Token("hunter2"), Tokens({"other": (), "hunter2": ["read", "write"]})))
    pair.call()
    wire = taken(pair.left)
    assert wire.count(b"hunter2") == 1
    [called] = pair.right.receive_data(wire, 0.0)
    assert isinstance(called, Called)
    assert called.secinfo == {"scopes": ["read", "write"]}
    pair.call()
    wire = taken(pair.left)
    assert b"hunter2" not in wire
    [called] = pair.right.receive_data(wire, 0.0)
    assert isinstance(called, Called)
    assert called.secinfo == {"scopes": ["read", "write"]}
    pair.right.reply(1, "yes", now=0.0)
    assert b"secinfo" not in taken(pair.right)


@pytest.mark.rule("rpc.B6")
@pytest.mark.parametrize("mine", [Token("wrong"), None, Hmac(KEY)])
def test_without_a_token_that_is_known_nothing_is_dispatched(mine: Security | None) -> None:
    pair = Pair(hello=False, security=(mine, Tokens({"hunter2": ()})))
    pair.right.receive_data(b'{"jsonrpc":"2.0","method":"m","id":1}\n', 0.0)
    assert pair.right.in_flight == 0
    answer = taken(pair.right)
    assert json.loads(answer)["error"]["code"] == UNAUTHENTICATED
    assert json.loads(answer)["id"] == 1
    assert b"hunter2" not in answer


def test_no_secret_is_shown() -> None:
    shown = repr([Token("hunter2"), Tokens({"hunter2": ()}), Hmac(b"hunter2hunter2hunter2", "ann")])
    shown += repr([vars(Peer(JsonRpc(), LineFrames(), security=Token("hunter2")))])
    assert "hunter2" not in shown
    assert "ann" in shown


@pytest.mark.parametrize(
    "make", [lambda: Hmac(b"short"), lambda: Token(""), lambda: Tokens({}), lambda: Hmac(KEY).session(b"")]
)
def test_secrets_that_are_none_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        make()


def test_a_key_that_is_not_known_here() -> None:
    one, two = Hmac(KEY, "ann").session(b"1" * 16), Hmac(KEY, "bob", {"cleo": KEY}).session(b"2" * 16)
    assert one.greeting is not None
    assert two.greeting is not None
    assert one.greeted(two.greeting)
    assert two.greeted(one.greeting)
    with pytest.raises(UnknownUserError):
        two.open(b"x", one.seal(b"x")[0])
