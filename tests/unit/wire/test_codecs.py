"""What goes through each codec and comes back: bytes, values of other kinds, batches, and what is no packet."""

from __future__ import annotations

import datetime
import enum
import time
from typing import Any

import msgspec
import pytest

from monsal.errors import UsageError
from monsal.wire import (
    Batch,
    Call,
    Cast,
    Codec,
    EncodeError,
    Fault,
    Hmac,
    JsonRpc,
    LineFrames,
    Malformed,
    Meta,
    MsgPack,
    Packet,
    Peer,
    Reply,
    Terse,
    bytes_of,
)
from monsal.wire.codes import INVALID_REQUEST, PARSE_ERROR, TOO_LARGE


class Point(msgspec.Struct):
    x: int
    blob: bytes = b""


class Colour(enum.IntEnum):
    RED = 1


PACKETS: list[Packet] = [
    Call(1, "a", {"b": [1, 2.5, None, True, "x"]}, Meta(1.5, "trace", "key")),
    Call(None, "a", [1, {"c": {}}]),
    Call("one", "ä.b/c", {}),
    Cast("a", {"b": 1}, Meta(key="k")),
    Cast("a", [1]),
    Reply(1, {"a": [[], {}]}),
    Reply(0.5),
    Fault(None, -32700, "Parse error"),
    Fault(3, -32010, 'no "way"\n', {"kind": "No"}),
]


@pytest.mark.rule("rpc.B14")
@pytest.mark.parametrize("codec", [JsonRpc(), MsgPack(), Terse()])
@pytest.mark.parametrize("packet", PACKETS)
def test_a_packet_comes_back(codec: Codec, packet: Packet) -> None:
    back = codec.decode(codec.encode(packet))
    if codec.name == "terse" and isinstance(packet, Call | Cast):
        packet = msgspec.structs.replace(packet, meta=None)
    assert back == packet


@pytest.mark.parametrize("codec", [JsonRpc(raw=True), MsgPack(raw=True)])
def test_raw_values_become_what_they_are_declared_to_be(codec: Codec) -> None:
    call = codec.decode(codec.encode(Call(1, "a", {"x": 1})))
    assert isinstance(call, Call)
    assert isinstance(call.params, msgspec.Raw)
    assert codec.value(call.params, Point) == Point(1)
    assert codec.value(call.params) == {"x": 1}
    with pytest.raises(msgspec.ValidationError):
        codec.value(call.params, list[int])
    reply = codec.decode(codec.encode(Reply(1, [1, 2])))
    assert isinstance(reply, Reply)
    assert codec.value(reply.result, tuple[int, int]) == (1, 2)
    # What was taken apart already is converted, and what is raw is passed on as it is.
    assert codec.value({"x": 1}, Point) == Point(1)
    assert codec.decode(codec.encode(Call(1, "a", call.params))) is not None


@pytest.mark.rule("rpc.R31", "rpc.B15")
def test_bytes_travel_in_an_object_and_only_a_declaration_brings_them_back() -> None:
    said = JsonRpc().encode(Reply(1, {"a": b"\xff\0", "b": [{"c": bytearray(b"x")}], "d": Point(1, b"y")}))
    assert b'{"a":{"__bytes":"/wA="},"b":[{"c":{"__bytes":"eA=="}}],"d":{"x":1,"blob":{"__bytes":"eQ=="}}}' in said
    reply = JsonRpc().decode(said)
    assert isinstance(reply, Reply)
    assert reply.result["a"] == {"__bytes": "/wA="}
    assert bytes_of(reply.result["a"]) == b"\xff\0"
    for other in ({"__bytes": "/wA=", "more": 1}, {"__bytes": 5}, {"__bytes": "?"}, "eA==", {}, None):
        with pytest.raises(ValueError, match=r"base 64|__bytes"):
            bytes_of(other)


def test_what_has_no_bytes_is_not_copied() -> None:
    value = {"a": [1, {"b": None}], "c": ({},)}
    assert JsonRpc().encode(Reply(1, value)).endswith(b'"result":{"a":[1,{"b":null}],"c":[{}]},"id":1}')


@pytest.mark.rule("rpc.R10")
@pytest.mark.parametrize("codec", [JsonRpc(), MsgPack(), Terse()])
def test_records_times_and_numbers_of_other_kinds_are_said_plainly(codec: Codec) -> None:
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    back = codec.decode(
        codec.encode(Reply(1, {"p": {"x": 1, "blob": None}, "c": Colour.RED, "when": str(when), "s": (1,)}))
    )
    assert isinstance(back, Reply)
    assert back.result == {"p": {"x": 1, "blob": None}, "c": 1, "when": str(when), "s": [1]}
    assert codec.encode(Reply(1, [when, Point(1), {3}]))
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in (object(), deep, 1 << 70_000 if codec.name == "terse" else "\ud800"):
        with pytest.raises(EncodeError):
            codec.encode(Reply(1, value))


@pytest.mark.rule("rpc.B8")
@pytest.mark.parametrize("codec", [JsonRpc(), JsonRpc(raw=True), MsgPack(), MsgPack(raw=True)])
def test_a_batch_is_taken_apart_item_by_item(codec: Codec) -> None:
    parts = [codec.encode(Cast("a", {})), b"\x01" if codec.name == "msgpack" else b"1", codec.encode(Fault(1, 2, "x"))]
    batch = codec.decode(codec.join(parts))
    assert isinstance(batch, Batch)
    first, wrong, last = batch.items
    assert isinstance(first, Cast)
    assert isinstance(wrong, Malformed)
    assert wrong.fault.code == INVALID_REQUEST
    assert last == Fault(1, 2, "x")
    with pytest.raises(Malformed) as caught:
        codec.decode(codec.join([]))
    assert caught.value.fault.code == INVALID_REQUEST
    with pytest.raises(Malformed) as caught:
        codec.decode(codec.join([parts[0]] * 101))
    assert caught.value.fault.code == TOO_LARGE
    assert isinstance(codec.decode(codec.join([parts[0]] * 100)), Batch)


@pytest.mark.quiet
@pytest.mark.rule("rpc.B1", "rpc.B7")
@pytest.mark.parametrize("bomb", [b"[" * 500_000, b'{"a":' * 200_000, b"[1," * 300_000, b"[[]," * 200_000])
def test_a_deep_bomb_is_refused_before_it_costs(bomb: bytes) -> None:
    before = time.process_time()
    with pytest.raises(Malformed):
        JsonRpc().decode(bomb)
    with pytest.raises(Malformed):
        MsgPack().decode(b"\x91" * 500_000)
    assert time.process_time() - before < 2.0


@pytest.mark.rule("rpc.B8")
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b'{"jsonrpc":"2.0","method":"a","params":"x","id":1}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"a","params":null,"id":1}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"a","params":{"b":"\xff"},"id":1}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","result":"\xff","id":1}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"a","params":{"b":"\\ud800"},"id":1}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"a","params":{"b":01},"id":1}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"a","params":[1,],"id":1}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"a","id":1}{}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","result":1,"error":null,"id":1}', INVALID_REQUEST),
        (b"", PARSE_ERROR),
        (b"   ", PARSE_ERROR),
    ],
)
def test_raw_or_not_the_same_is_wrong(said: bytes, code: int, raw: bool) -> None:
    with pytest.raises(Malformed) as caught:
        JsonRpc(raw=raw).decode(said)
    assert caught.value.fault.code == code
    assert caught.value.detail


@pytest.mark.rule("rpc.B11")
def test_a_member_called_meta_that_is_not_ours_disturbs_nobody() -> None:
    for meta in (b"5", b"null", b'{"deadline_ms":"x"}', b'"\xc3\xa4"', b"[[]]"):
        call = JsonRpc().decode(b'{"jsonrpc":"2.0","method":"a","id":1,"meta":%b,"other":1}' % meta)
        assert call == Call(1, "a", {})
    endless = JsonRpc().decode(JsonRpc().encode(Call(1, "a", {}, Meta(float("inf")))))
    assert isinstance(endless, Call)
    assert endless.meta is not None
    assert endless.meta.deadline is not None
    assert endless.meta.deadline > 1e8


# -- terse ----------------------------------------------------------------------------------------------------------


@pytest.mark.rule("rpc.R33", "rpc.B14")
@pytest.mark.parametrize(
    ("line", "packet"),
    [
        ("status", Cast("status")),
        ("status[1]", Call(1, "status")),
        ('  add[ 7 ]  a:1   b: -2.5 c :"x y"\r', Call(7, "add", {"a": 1, "b": -2.5, "c": "x y"})),
        ("add[7] 1 [2 3] {a:4}", Call(7, "add", [1, [2, 3], {"a": 4}])),
        ('say["x"] text:"a \\"b\\" \\\\ \\n"', Call("x", "say", {"text": 'a "b" \\ \n'})),
        ("put[null] blob:'AP8='", Call(None, "put", {"blob": b"\0\xff"})),
        ("f a:true b:false c:null d:[] e:{}", Cast("f", {"a": True, "b": False, "c": None, "d": [], "e": {}})),
        ("[7]:12345678", Reply(7, 12345678)),
        ("[7]:3.141592653589793", Reply(7, 3.141592653589793)),
        ("[7]:{a:[1 2] 'x y':1}".replace("'", '"'), Reply(7, {"a": [1, 2], "x y": 1})),
        ('[7]! message:"no" details:"line 3"', Fault(7, 0, "no", "line 3")),
        ('[null]! code:-32700 message:"Parse error"', Fault(None, -32700, "Parse error")),
        ("add [1 2] [3]", Cast("add", [[1, 2], [3]])),
        ('store.get[1] "a" true', Call(1, "store.get", ["a", True])),
        ("$/cancelRequest id:1", None),
        ('"$/cancelRequest" id:1', Cast("$/cancelRequest", {"id": 1})),
    ],
)
def test_terse_lines_as_they_are_typed(line: str, packet: Packet | None) -> None:
    if packet is None:
        with pytest.raises(Malformed):
            Terse().decode(line.encode())
        return
    assert Terse().decode(line.encode()) == packet


@pytest.mark.rule("rpc.R33")
def test_terse_lines_as_they_are_written() -> None:
    terse = Terse()
    assert terse.encode(Call(7, "add", {"a": 1.5, "b": ["x", b"\0"]})) == b"""add[7] a:1.5 b:["x" 'AA==']"""
    assert terse.encode(Reply(7, {"sum": True, "two words": None})) == b'[7]:{sum:true "two words":null}'
    assert terse.encode(Fault(7, -32602, "no", [1])) == b'[7]! message:"no" code:-32602 details:[1]'
    assert terse.encode(Cast("true", [1, 2])) == b'"true" 1 2'


NO_LINES = [
    '"',
    'f a:"',
    "f a:",
    "f [",
    "f {",
    "[",
    "[1",
    "[1]",
    "[1]?",
    "[1]! code:1",
    "[true]:1",
    "f a:1 2",
    "f a:1 a:2",
]
NO_LINES += ["[1]:1 2", "f a:nope", "f a:'x'", "f[1] {a:1 a:2}", "\xff", "\u00e9:", 'f a:"\\q"', 'f a:"\\ud800"', "1"]
NO_LINES += ['[1]! message:"x" code:1.5', "f [" + "[" * 100_000, "f 1" + "0" * 5000, "f " + "[" * 100 + "]" * 100]


@pytest.mark.rule("rpc.B1", "rpc.B14")
@pytest.mark.parametrize("line", NO_LINES, ids=lambda line: ascii(line[:20]))
def test_what_is_no_terse_line_is_malformed(line: str) -> None:
    with pytest.raises(Malformed) as caught:
        Terse().decode(line.encode("latin-1"))
    assert caught.value.fault.code in (PARSE_ERROR, INVALID_REQUEST)


@pytest.mark.rule("rpc.B14", "rpc.R33")
def test_blank_lines_are_passed_over_and_terse_has_no_batch_and_no_security() -> None:
    peer = Peer(Terse(), LineFrames())
    assert peer.receive_data(b"\n\r\n  \n", 0.0) == []
    with pytest.raises(EncodeError, match="no batches"):
        peer.batch([("a", {}, True)], now=0.0)
    with pytest.raises(UsageError, match="no security"):
        Peer(Terse(), LineFrames(), security=Hmac(b"k" * 16), nonce=b"n" * 16)
