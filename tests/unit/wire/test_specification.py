"""The 15 examples of the specification of JSON-RPC 2.0, section 7, byte for byte, whole and cut after each byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from monsal.wire import Called, DelimiterFrames, JsonRpc, LineFrames, Peer
from monsal.wire.codes import MESSAGES, METHOD_NOT_FOUND

SUBTRACT_43_23 = '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}'
NOT_FOUND = '{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}'
PARSE_ERROR = '{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}'
INVALID = '{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}'

#: What the client sends, and what the server answers; None if nothing. In the order of the specification.
EXAMPLES: list[tuple[str, str | None]] = [
    (SUBTRACT_43_23, '{"jsonrpc": "2.0", "result": 19, "id": 1}'),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
        '{"jsonrpc": "2.0", "result": -19, "id": 2}',
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        '{"jsonrpc": "2.0", "result": 19, "id": 3}',
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        '{"jsonrpc": "2.0", "result": 19, "id": 4}',
    ),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', NOT_FOUND),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', PARSE_ERROR),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID),
    (
        '[ {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method" ]',
        PARSE_ERROR,
    ),
    ("[]", INVALID),
    ("[1]", f"[{INVALID}]"),
    ("[1,2,3]", f"[{INVALID}, {INVALID}, {INVALID}]"),
    (
        '[ {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},'
        ' {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},'
        ' {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},'
        ' {"foo": "boo"},'
        ' {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},'
        ' {"jsonrpc": "2.0", "method": "get_data", "id": "9"} ]',
        '[ {"jsonrpc": "2.0", "result": 7, "id": "1"},'
        ' {"jsonrpc": "2.0", "result": 19, "id": "2"},'
        ' {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},'
        ' {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},'
        ' {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"} ]',
    ),
    (
        '[ {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},'
        ' {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]} ]',
        None,
    ),
]


def compact(text: str) -> bytes:
    """The same JSON with its members in the same order, without spaces."""
    return json.dumps(json.loads(text), separators=(",", ":")).encode()


def run(peer: Peer, called: Called) -> None:
    """The server of the examples."""
    params: Any = peer.codec.value(called.params)
    if called.is_cast:
        return
    if called.method == "subtract":
        minuend, subtrahend = params if isinstance(params, list) else (params["minuend"], params["subtrahend"])
        peer.reply(called.id, minuend - subtrahend, now=0.0)
    elif called.method == "sum":
        peer.reply(called.id, sum(params), now=0.0)
    elif called.method == "get_data":
        peer.reply(called.id, ["hello", 5], now=0.0)
    else:
        peer.fault(called.id, METHOD_NOT_FOUND, MESSAGES[METHOD_NOT_FOUND], now=0.0)


def answers(peer: Peer, pieces: list[bytes]) -> bytes:
    for piece in pieces:
        for event in peer.receive_data(piece, 0.0):
            if isinstance(event, Called):
                run(peer, event)
    return b"".join(peer.data_to_send())


def test_there_are_fifteen() -> None:
    assert len(EXAMPLES) == 15


@pytest.mark.rule("rpc.B8")
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("by_byte", [False, True])
@pytest.mark.parametrize(("said", "answer"), EXAMPLES)
def test_an_example_is_answered_byte_for_byte(said: str, answer: str | None, by_byte: bool, raw: bool) -> None:
    frame = said.encode() + b"\n"
    pieces = [frame[index : index + 1] for index in range(len(frame))] if by_byte else [frame]
    expected = b"" if answer is None else compact(answer) + b"\n"
    assert answers(Peer(JsonRpc(raw=raw), LineFrames()), pieces) == expected


@pytest.mark.rule("rpc.B8", "rpc.B14", "rpc.R31")
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_all_examples_one_after_the_other_on_one_link(step: int) -> None:
    stream = b"".join(said.encode() + b"\0" for said, _ in EXAMPLES)
    expected = [compact(answer) for _, answer in EXAMPLES if answer is not None]
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    # What is wrong in itself is answered before the calls that came in the same piece have run.
    heard = answers(Peer(JsonRpc(raw=True), DelimiterFrames()), pieces).split(b"\0")
    assert sorted(heard) == sorted([*expected, b""])


@pytest.mark.rule("rpc.B8")
def test_the_client_says_what_the_examples_say() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    peer.call("subtract", [42, 23], now=0.0)
    peer.cast("update", [1, 2, 3, 4, 5], now=0.0)
    assert peer.data_to_send() == [
        compact(SUBTRACT_43_23) + b"\n",
        compact('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}') + b"\n",
    ]


@pytest.mark.rule("rpc.B8")
def test_a_call_with_the_id_null_is_answered_and_so_is_zero() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    for known in (b"null", b"null", b"0", b"1.0", b'""'):
        [event] = peer.receive_data(b'{"jsonrpc":"2.0","method":"m","id":%b}\n' % known, 0.0)
        assert isinstance(event, Called)
        assert not event.is_cast
    for known in (None, 0, None, 1.0, ""):
        peer.reply(known, None, now=0.0)
    assert [json.loads(frame)["id"] for frame in peer.data_to_send()] == [None, 0, None, 1.0, ""]
    assert peer.in_flight == 0


@pytest.mark.rule("rpc.B8")
def test_a_batch_is_answered_when_its_last_call_is() -> None:
    peer = Peer(JsonRpc(), LineFrames())
    events = peer.receive_data(
        b'[{"jsonrpc":"2.0","method":"a","id":1},{"jsonrpc":"2.0","method":"b","id":2},{"jsonrpc":"2.0","method":"c"}]\n',
        0.0,
    )
    assert [event.method for event in events if isinstance(event, Called)] == ["a", "b", "c"]
    peer.reply(2, "second", now=0.0)
    assert peer.data_to_send() == []
    peer.reply(1, "first", now=0.0)
    assert peer.data_to_send() == [
        b'[{"jsonrpc":"2.0","result":"first","id":1},{"jsonrpc":"2.0","result":"second","id":2}]\n'
    ]
