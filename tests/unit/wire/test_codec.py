"""JSON-RPC 2.0, single objects: the examples of the specification's section 7, and any other bytes."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.wire.codec import INVALID_REQUEST, MAX_NESTING, PARSE_ERROR, Malformed, decode, encode
from monsal.wire.jsonrpc import JsonRpc
from monsal.wire.msgpack import MsgPack
from monsal.wire.nesting import is_too_deep
from monsal.wire.packets import Batch, Call, Cast, EncodeError, Fault, Packet, Reply

EXAMPLES: list[tuple[str, Packet]] = [
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        Call(1, "subtract", [42, 23]),
    ),
    ('{"jsonrpc": "2.0", "result": 19, "id": 1}', Reply(1, 19)),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        Call(3, "subtract", {"subtrahend": 23, "minuend": 42}),
    ),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', Cast("update", [1, 2, 3, 4, 5])),
    ('{"jsonrpc": "2.0", "method": "foobar"}', Cast("foobar")),
    (
        '{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}',
        Fault("1", -32601, "Method not found"),
    ),
    ('{"jsonrpc": "2.0", "method": "a", "id": null}', Call(None, "a")),
    ('{"jsonrpc": "2.0", "method": "a", "id": 0}', Call(0, "a")),
    ('{"jsonrpc": "2.0", "result": null, "id": 0}', Reply(0)),
]

WRONG: list[tuple[bytes, int, Any]] = [
    (b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', PARSE_ERROR, None),
    (b'{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID_REQUEST, None),
    (b'{"jsonrpc": "2.0", "method": 1, "id": 5}', INVALID_REQUEST, 5),
    (b'{"jsonrpc": "1.0", "method": "a", "id": "x"}', INVALID_REQUEST, "x"),
    (b'{"method": "a", "id": 1}', INVALID_REQUEST, 1),
    (b'{"jsonrpc": "2.0", "method": "a", "params": 3, "id": 1}', INVALID_REQUEST, 1),
    (b'{"jsonrpc": "2.0", "method": "a", "result": 3, "id": 1}', INVALID_REQUEST, 1),
    (b'{"jsonrpc": "2.0", "result": 3}', INVALID_REQUEST, None),
    (b'{"jsonrpc": "2.0", "result": 3, "error": {"code": 1, "message": ""}, "id": 1}', INVALID_REQUEST, 1),
    (b'{"jsonrpc": "2.0", "id": 1}', INVALID_REQUEST, 1),
    (b'{"jsonrpc": "2.0", "method": "a", "id": true}', INVALID_REQUEST, None),
    (b'{"jsonrpc": "2.0", "method": "a", "id": {}}', INVALID_REQUEST, None),
    (b'{"jsonrpc": "2.0", "method": "a", "id": 1e999}', PARSE_ERROR, None),
    (b"[]", INVALID_REQUEST, None),
    (b"[1,2,3]", INVALID_REQUEST, None),
    (b'[{"jsonrpc": "2.0", "method": "a", "id": 1}]', INVALID_REQUEST, None),
    (b"1", INVALID_REQUEST, None),
    (b"null", INVALID_REQUEST, None),
    (b"", PARSE_ERROR, None),
    (b"\xff\xfe", PARSE_ERROR, None),
    (b'{"jsonrpc": "2.0", "method": "\xff"}', PARSE_ERROR, None),
    (b'{"jsonrpc": "2.0", "method": "\\ud800"}', PARSE_ERROR, None),
    (b'{"jsonrpc": "2.0", "method": "a"} x', PARSE_ERROR, None),
    (b"[" * 100_000, PARSE_ERROR, None),
    (b'{"a":' * 100_000, PARSE_ERROR, None),
]


@pytest.mark.rule("rpc.B8")
@pytest.mark.parametrize(("text", "packet"), EXAMPLES)
def test_an_example_of_the_specification_is_understood(text: str, packet: Packet) -> None:
    assert decode(text.encode()) == packet


@pytest.mark.parametrize(("text", "packet"), EXAMPLES)
def test_what_is_encoded_means_the_same_as_the_example(text: str, packet: Packet) -> None:
    frame = encode(packet)
    assert frame.endswith(b"\n")
    assert frame.count(b"\n") == 1
    assert {"params": {}, **json.loads(frame)} == {"params": {}, **json.loads(text)}


@pytest.mark.rule("rpc.B1", "rpc.B8")
@pytest.mark.parametrize(("frame", "code", "known"), WRONG)
def test_a_wrong_frame_gets_the_fault_it_is_owed(frame: bytes, code: int, known: Any) -> None:
    with pytest.raises(Malformed) as caught:
        decode(frame)
    assert (caught.value.fault.code, caught.value.fault.id) == (code, known)
    assert caught.value.fault.message


@pytest.mark.rule("rpc.B7")
def test_nesting_has_a_bound_and_brackets_in_text_do_not_count() -> None:
    def nested(depth: int, leaf: str = "1") -> bytes:
        inner = "[" * (depth - 1) + leaf + "]" * (depth - 1)
        return f'{{"jsonrpc":"2.0","result":{inner},"id":1}}'.encode()

    assert isinstance(decode(nested(MAX_NESTING)), Reply)
    assert isinstance(decode(nested(MAX_NESTING, '"' + r"[[{\"\\[" * 500 + '"')), Reply)
    assert isinstance(decode(nested(3, ",".join(["[]", "{}"] * 500))), Reply)
    with pytest.raises(Malformed, match="nested more than 64"):
        decode(nested(MAX_NESTING + 1))


@pytest.mark.quiet
@pytest.mark.rule("rpc.B7")
def test_a_megabyte_of_quotes_is_judged_in_linear_time() -> None:
    before = time.process_time()
    for frame in (b'[[[[["\\' * 150_000, b"[]" * 500_000, b'"[' * 500_000):
        with pytest.raises(Malformed):
            decode(frame)
    assert time.process_time() - before < 2.0


@pytest.mark.quiet
@pytest.mark.rule("rpc.B7")
def test_what_is_nearly_too_deep_everywhere_is_judged_in_linear_time() -> None:
    deep = b"[" * 60 + b"]" * 60
    frame = b'{"jsonrpc":"2.0","method":"m","id":1,"params":[' + b",".join([deep] * 8000) + b"]}"
    codec = JsonRpc(raw=True)
    before = time.process_time()
    for _ in range(10):
        assert isinstance(codec.decode(frame), Call)
    # It is 20 ms for each; to take the levels away one after the other was ten times that.
    assert time.process_time() - before < 1.0


@pytest.mark.rule("rpc.B7")
@settings(deadline=None, max_examples=300)
@given(
    st.recursive(
        st.sampled_from([1, "[[", '"[', "{", "\\", "\\["]),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "[", '"']), inner, max_size=3)
        ),
        max_leaves=60,
    ),
    st.integers(0, 12),
)
def test_how_deep_a_text_is(value: Any, depth: int) -> None:
    def levels(one: Any) -> int:
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else None
        return 0 if inner is None else 1 + max(map(levels, inner), default=0)

    # Longer than what is not looked at, and not deeper.
    text = json.dumps([value] * 5).encode()
    expected = levels(value) + 1 > depth
    assert is_too_deep(text, depth) == expected or (not expected and len(text) <= 2 * depth)


@pytest.mark.rule("rpc.B1", "rpc.B8")
def test_of_what_is_no_packet_nothing_is_made_but_its_id() -> None:
    tracemalloc.start()
    try:
        for codec, frame in (
            (JsonRpc(raw=True), b'{"id":7,"x":[' + b"[]," * 300_000 + b"[]]}"),
            (MsgPack(raw=True), b"\x93\x00\x07\xdd\x00\x0e\x00\x00" + b"\x90" * 0xE0000),
        ):
            tracemalloc.reset_peak()
            with pytest.raises(Malformed) as caught:
                codec.decode(frame)
            assert (caught.value.fault.code, caught.value.fault.id) == (INVALID_REQUEST, 7)
            assert tracemalloc.get_traced_memory()[1] < 8 * len(frame)
    finally:
        tracemalloc.stop()


@pytest.mark.rule("rpc.R10", "rpc.B8")
@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": ({"b": float("-inf")},)}])
def test_a_number_that_json_does_not_have_is_not_sent_as_null(value: Any) -> None:
    for packet in (Reply(1, value), Call(1, "m", [value]), Cast("m", {"a": value}), Fault(1, 2, "no", value)):
        with pytest.raises(EncodeError, match="is no number in JSON"):
            encode(packet)


@pytest.mark.rule("rpc.B7", "rpc.B8")
def test_what_the_other_side_would_find_too_deep_is_not_sent() -> None:
    value: Any = 1
    for _ in range(MAX_NESTING - 1):
        value = [value]
    assert decode(encode(Reply(1, value))) == Reply(1, value)
    # In a batch it is one deeper, and heard all the same.
    codec = JsonRpc()
    assert codec.decode(codec.join([codec.encode(Reply(1, value))])) == Batch((Reply(1, value),))
    for wide in (1, 10_000):
        with pytest.raises(EncodeError, match="nested more than 64"):
            encode(Reply(1, [[value]] * wide))


@pytest.mark.rule("rpc.R10")
def test_a_value_that_holds_itself_ends_in_an_error_and_many_are_carried() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(EncodeError):
        encode(Reply(1, ring))
    much = [{"data": {"of": b"\0"}} for _ in range(20_000)]
    assert decode(encode(Reply(1, much))) == Reply(1, [{"data": {"of": {"__bytes": "AA=="}}}] * 20_000)


def test_a_value_without_a_json_form_cannot_be_encoded() -> None:
    with pytest.raises(EncodeError):
        encode(Reply(1, object()))


def outcome(frame: bytes) -> Packet:
    try:
        return decode(frame)
    except Malformed as error:
        return error.fault


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ids = st.none() | st.integers(-(2**53), 2**53) | st.text()
params = st.dictionaries(st.text(), values, max_size=3) | st.lists(values, max_size=3)
packets = (
    st.builds(Call, ids, st.text(), params)
    | st.builds(Cast, st.text(), params)
    | st.builds(Reply, ids, values)
    | st.builds(Fault, ids, st.integers(-40000, 40000), st.text(), values)
)


@settings(deadline=None, max_examples=150)
@given(packets)
def test_every_packet_comes_back_as_it_was(packet: Packet) -> None:
    frame = encode(packet)
    assert b"\n" not in frame[:-1]
    assert decode(frame[:-1]) == packet


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=80) | st.text(alphabet='{}[]":,\\ntrue0.1-eE idjsonrpcmethd', max_size=80).map(str.encode))
@pytest.mark.rule("rpc.B1")
def test_any_bytes_are_a_packet_or_malformed(frame: bytes) -> None:
    assert isinstance(outcome(frame), Call | Cast | Reply | Fault)


@settings(deadline=None, max_examples=150)
@given(values)
def test_any_json_is_a_packet_or_malformed(value: Any) -> None:
    for said in (value, {"jsonrpc": "2.0", "method": value}, {"jsonrpc": "2.0", "id": value, "error": value}):
        assert encode(outcome(json.dumps(said).encode()))
