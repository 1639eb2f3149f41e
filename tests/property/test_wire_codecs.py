"""Any packet comes back from any codec as it was, and any bytes are a packet, a batch or Malformed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monsal.wire import Batch, Call, Cast, Codec, Fault, JsonRpc, Malformed, Meta, MsgPack, Packet, Reply, Terse

CODECS: list[Codec] = [JsonRpc(), JsonRpc(raw=True), MsgPack(), MsgPack(raw=True), Terse()]
NOTHING = st.none()
texts = st.text(max_size=8)
whole = st.integers(-(2**62), 2**62)
simple = st.none() | st.booleans() | whole | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    simple,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
with_bytes = st.recursive(
    simple | st.binary(max_size=6) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
ids = st.none() | whole | texts | st.floats(allow_nan=False, allow_infinity=False)
metas = st.none() | st.builds(Meta, st.none() | st.integers(0, 10**6).map(lambda ms: ms / 1000), texts, texts)


def packets(inner: st.SearchStrategy[Any], about: st.SearchStrategy[Any] = NOTHING) -> st.SearchStrategy[Packet]:
    params = st.dictionaries(texts, inner, max_size=3) | st.lists(inner, min_size=1, max_size=3)
    return (
        st.builds(Call, ids, texts, params, about)
        | st.builds(Cast, texts, params, about)
        | st.builds(Reply, ids, inner)
        | st.builds(Fault, ids, st.integers(-40000, 40000), texts, inner)
    )


def opened(codec: Codec, packet: Any) -> Any:
    """The packet with its raw values taken apart."""
    if isinstance(packet, Call | Cast):
        return msgspec.structs.replace(packet, params=codec.value(packet.params))
    return msgspec.structs.replace(packet, result=codec.value(packet.result)) if isinstance(packet, Reply) else packet


def same(one: Any, two: Any) -> bool:
    """Equal, and of the same kinds: 1 is not 1.0 nor true."""
    return one == two and repr(one) == repr(two)


@pytest.mark.rule("rpc.B14")
@settings(deadline=None, max_examples=300)
@given(st.sampled_from([*CODECS[:4]]), packets(values, metas))
def test_json_and_msgpack_bring_everything_back(codec: Codec, packet: Packet) -> None:
    payload = codec.encode(packet)
    assert codec.name == "msgpack" or b"\n" not in payload
    assert opened(codec, codec.decode(payload)) == packet


@pytest.mark.rule("rpc.R33", "rpc.B14")
@settings(deadline=None, max_examples=400)
@given(packets(with_bytes))
@example(Reply(1, float("inf")))
@example(Reply(1, {"nan-x": -0.0, "inf": 1e300, "true": 10**400}))
def test_terse_brings_everything_back_and_stays_on_its_line(packet: Packet) -> None:
    line = Terse().encode(packet)
    assert b"\n" not in line
    assert same(Terse().decode(line), packet)


@pytest.mark.rule("rpc.R10", "rpc.B14")
@settings(deadline=None, max_examples=200)
@given(packets(with_bytes.filter(lambda value: "inf" not in repr(value))))
def test_msgpack_carries_bytes_as_they_are(packet: Packet) -> None:
    assert MsgPack().decode(MsgPack().encode(packet)) == packet


@pytest.mark.rule("rpc.B8")
@settings(deadline=None, max_examples=100)
@given(st.sampled_from([*CODECS[:4]]), st.lists(packets(values), min_size=1, max_size=5))
def test_a_batch_brings_all_its_packets_back(codec: Codec, said: list[Packet]) -> None:
    batch = codec.decode(codec.join([codec.encode(packet) for packet in said]))
    assert isinstance(batch, Batch)
    assert [opened(codec, item) for item in batch.items] == said


def is_declared(codec: Codec, payload: bytes) -> bool:
    try:
        said = codec.decode(payload)
    except Malformed as error:
        return isinstance(error.fault, Fault) and bool(codec.encode(error.fault))
    items = said.items if isinstance(said, Batch) else (said,)
    return all(isinstance(item, Call | Cast | Reply | Fault | Malformed) for item in items)


@pytest.mark.rule("rpc.B1")
@settings(deadline=None, max_examples=500)
@given(
    st.sampled_from(CODECS),
    st.binary(max_size=60)
    | st.text(alphabet='{}[]":,\\ntrue0.1-eE idjsonrpcmethd', max_size=60).map(str.encode)
    | st.text(alphabet="[]{}:!'\"\\ na1.e-+\t=", max_size=30).map(str.encode)
    | st.lists(st.integers(0x80, 0xFF) | st.integers(0, 6), max_size=20).map(bytes),
)
@example(MsgPack(), b"\x93\x05\x80\xc4\x00")
@example(MsgPack(raw=True), b"\x92\x04\x91\x92\x04\x90")
@example(JsonRpc(), b" [1]")
def test_any_bytes_are_a_packet_or_malformed(codec: Codec, payload: bytes) -> None:
    assert is_declared(codec, payload)
    codec.split_secinfo(payload)


@pytest.mark.rule("rpc.B1")
@settings(deadline=None, max_examples=200)
@given(st.sampled_from(CODECS), packets(values), st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_a_packet_with_a_hole_is_a_packet_or_malformed(codec: Codec, packet: Packet, at: int, hole: bytes) -> None:
    payload = codec.encode(packet)
    at %= len(payload)
    assert is_declared(codec, payload[:at] + hole + payload[at + len(hole) :])
    assert is_declared(codec, payload[:at])
