"""The codecs and securities under the names of contract 2.2 (rpc.R5, R31 to R33), and the examples of JSON-RPC 2.0."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monsal.errors import UsageError
from monsal.rpc import (
    Codec,
    DecodeError,
    EncodeError,
    ErrorReply,
    InvalidSignatureError,
    Message,
    MessageBatch,
    RemoteAPI,
    Reply,
    Security,
    SecurityError,
    Transport,
    WireCodec,
    codec,
    incoming,
)
from monsal.rpc.security import classic_ways, security_of
from monsal.wire.security import Token

MEANT = Message("m", {}, 5)

#: On a machine that has much else to do, nothing is said by how long an example takes.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.rule("rpc.R31")
def test_what_goes_out() -> None:
    plain = codec("jrpc")
    assert plain.encode("m", {"a": 1}, 3) == b'{"jsonrpc":"2.0","method":"m","params":{"a":1},"id":3}\0'
    assert plain.encode("m", {"a": 1}) == b'{"jsonrpc":"2.0","method":"m","params":{"a":1}}\0'
    assert plain.encode_reply(MEANT, [1]) == b'{"jsonrpc":"2.0","result":[1],"id":5}\0'
    assert plain.encode_error(MEANT, ValueError("no"), 7) == (
        b'{"jsonrpc":"2.0","error":{"code":7,"message":"no"},"id":5}\0'
    )
    assert plain.encode("m", {"b": b"xy"}).count(b'{"__bytes":"eHk="}') == 1
    assert codec("jrpc:\n").encode("m").endswith(b"}\n")
    with pytest.raises(EncodeError):
        codec("jrpc:x").encode("mx")
    with pytest.raises(EncodeError):
        plain.encode("m", {"a": object()})


@pytest.mark.rule("rpc.R31")
def test_what_comes_in() -> None:
    plain = codec("jrpc")
    frames = [
        plain.encode("m", {"b": b"xy"}, 3),
        plain.encode("note", {}),
        plain.encode_reply(MEANT, {"x": [b"z"]}),
        plain.encode_error(MEANT, "no", 7),
    ]
    items, rest = plain.decode(b"\0".join(frames) + b"\0\0" + frames[0][:9])
    call, note, reply, error = items
    assert (call.method, call.kwargs, call.id, call.is_cast) == ("m", {"b": b"xy"}, 3, False)
    assert note.is_cast
    assert (reply.result, reply.id) == ({"x": [b"z"]}, 5)
    assert (error.exception, error.id, error.errorcode) == ("no", 5, 7)
    assert rest == frames[0][:9]


@pytest.mark.rule("rpc.R31", "rpc.B1")
def test_what_is_no_message_is_an_exception_in_the_list() -> None:
    plain = codec("jrpc")
    items, rest = plain.decode(b'{no}\0[]\0{"method":5}\0' + plain.encode("m"))
    assert [type(item) for item in items] == [DecodeError] * 3 + [Message]
    assert [item.fault.code for item in items[:3]] == [-32700, -32600, -32600]
    assert rest == b""


@pytest.mark.rule("rpc.B8")
def test_a_batch_is_one_item() -> None:
    plain = WireCodec("jrpc:\n")
    items, _ = plain.decode(b'[{"jsonrpc":"2.0","method":"m","params":{"b":{"__bytes":"eHk="}}},1]\n')
    (batch,) = items
    assert isinstance(batch, MessageBatch)
    assert batch.items[0].kwargs == {"b": b"xy"}
    assert isinstance(batch.items[1], DecodeError)
    said = plain.encode_batch([Reply(1, 2), ErrorReply("no", None, -32600)])
    assert msgspec.json.decode(said) == [
        {"jsonrpc": "2.0", "result": 1, "id": 2},
        {"jsonrpc": "2.0", "error": {"code": -32600, "message": "no"}, "id": None},
    ]


@pytest.mark.rule("rpc.R31", "rpc.B1")
@patient
@given(st.binary(max_size=80), st.integers(0, 80))
def test_any_cut_of_any_bytes_gives_the_same(data: bytes, cut: int) -> None:
    plain = codec("jrpc")
    whole, rest = plain.decode(data)
    first, held = plain.decode(data[:cut])
    second, left = plain.decode(held + data[cut:])
    assert [str(item) for item in whole] == [str(item) for item in [*first, *second]]
    assert rest == left


class Sum(Security):
    def sec_out(self, payload: bytes) -> tuple[dict[str, Any], bytes | None]:
        return {"sum": sum(payload) % 100}, None

    def sec_in(self, payload: bytes, secinfo: dict[str, Any]) -> bytes | None:
        if secinfo["sum"] != sum(payload) % 100:
            raise InvalidSignatureError("the sum is wrong")
        return None


@pytest.mark.rule("rpc.R32")
def test_secinfo_goes_before_its_payload_and_waits_for_it() -> None:
    plain, security = codec("jrpc"), Sum()
    sealed = plain.encode("m", {}, 1, security.sec_out)
    header, payload, nothing = sealed.split(b"\0")
    assert msgspec.json.decode(header)["method"] == "rpc.secinfo"
    assert nothing == b""
    items, rest = plain.decode(header + b"\0", security.sec_in)
    assert (items, rest) == ([], header + b"\0")
    items, rest = plain.decode(rest + payload[:5], security.sec_in)
    assert items == []
    ((message,), rest) = plain.decode(rest + payload[5:] + b"\0", security.sec_in)
    assert message.secinfo == msgspec.json.decode(header)["params"]
    assert rest == b""


@pytest.mark.rule("rpc.R32")
def test_a_peer_without_security_passes_over_the_header() -> None:
    plain = codec("jrpc")
    ((message,), _) = plain.decode(plain.encode("m", {}, 1, Sum().sec_out))
    assert (message.method, message.secinfo) == ("m", {})
    assert plain.encode("m", {}, 1, lambda payload: ({}, None)) == plain.encode("m", {}, 1)


@pytest.mark.rule("rpc.B6", "rpc.B1")
def test_the_unsigned_and_the_wrongly_signed_are_refused() -> None:
    plain, security = codec("jrpc"), Sum()
    wrong = b'{"jsonrpc":"2.0","method":"rpc.secinfo","params":{"sum":0}}\0' + plain.encode("mm", {}, 1)
    odd = b'{"jsonrpc":"2.0","method":"rpc.secinfo","params":{}}\0' + plain.encode("mm", {}, 1)
    items, _ = plain.decode(plain.encode("m", {}, 1) + wrong + odd, security.sec_in)
    assert len(items) == 3
    assert all(isinstance(item, SecurityError) for item in items)


@pytest.mark.rule("rpc.R33", "rpc.B14")
def test_terse_under_these_names() -> None:
    terse = codec("terse:")
    said = terse.encode("move", {"to": [1, 2.5], "by": "x\n", "raw": b"\0"}, 4)
    ((message,), rest) = terse.decode(said + b"\n\n" + said[:5])
    assert (message.method, message.kwargs, message.id) == ("move", {"to": [1, 2.5], "by": "x\n", "raw": b"\0"}, 4)
    assert rest == said[:5]
    ((reply,), _) = terse.decode(terse.encode_reply(message, None))
    assert (reply.result, reply.id) == (None, 4)
    ((error,), _) = terse.decode(terse.encode_error(message, "no"))
    assert (error.exception, error.id) == ("no", 4)


@pytest.mark.rule("rpc.R5", "rpc.B15")
def test_expressions() -> None:
    assert isinstance(WireCodec.fromstring("jrpc:\n"), WireCodec)
    assert repr(codec("jrpc")) == "codec('jrpc')"
    assert security_of("null").name == "null"
    for unknown in ("json", "Codec", "WireCodec", ""):
        with pytest.raises(ValueError):
            codec(unknown)
    for unknown in ("trust", "blindly_believe_everything", "Security"):
        with pytest.raises(ValueError):
            security_of(unknown)

    class Loose(Codec): ...

    # A class that is merely there is not found by a text.
    with pytest.raises(ValueError):
        codec("Loose")
    assert isinstance(Loose.fromstring("x"), Loose)
    assert isinstance(Transport.fromstring(""), Transport)
    assert isinstance(Sum.fromstring(""), Sum)


def test_what_a_base_class_lacks_it_says() -> None:
    loose = Codec()
    for call in (
        lambda: loose.encode("m"),
        lambda: loose.encode_reply(MEANT, 1),
        lambda: loose.encode_error(MEANT, "x"),
        lambda: loose.decode(b""),
    ):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(OSError):
        Transport().send(b"x")
    assert Transport().received("x", b"data") == b""
    assert Security().sec_out(b"x") == ({}, None)
    assert Security().sec_in(b"x", {}) is None
    with pytest.raises(UsageError, match="link"):
        classic_ways(Token("secret"))


# -- the examples of the specification, section 7, at a RemoteAPI ------------------------------------------------


class Examples(RemoteAPI):
    @incoming(allow_positional_args=True)
    async def subtract(self, sender: str, minuend: int, subtrahend: int) -> int:
        return minuend - subtrahend

    @incoming(allow_positional_args=True)
    async def sum(self, sender: str, a: int, b: int, c: int) -> int:
        return a + b + c

    @incoming(allow_positional_args=True)
    async def update(self, sender: str, a: int, b: int, c: int, d: int, e: int) -> None: ...

    @incoming(allow_positional_args=True)
    async def notify_hello(self, sender: str, number: int) -> None: ...

    @incoming(allow_positional_args=True)
    async def notify_sum(self, sender: str, a: int, b: int, c: int) -> None: ...

    @incoming
    async def foobar_(self, sender: str) -> None: ...

    @incoming
    async def get_data(self, sender: str) -> list[Any]:
        return ["hello", 5]


E_PARSE = '{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}'
E_REQUEST = '{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}'
EXAMPLES = [
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        '{"jsonrpc": "2.0", "result": 19, "id": 1}',
    ),
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
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', ""),
    ('{"jsonrpc": "2.0", "method": "foobar"}', ""),
    (
        '{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
        '{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}',
    ),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', E_PARSE),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', E_REQUEST),
    ('[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]', E_PARSE),
    ("[]", E_REQUEST),
    ("[1]", f"[{E_REQUEST}]"),
    ("[1,2,3]", f"[{E_REQUEST},{E_REQUEST},{E_REQUEST}]"),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},'
        '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},'
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},'
        '{"foo": "boo"},'
        '{"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},'
        '{"jsonrpc": "2.0", "method": "get_data", "id": "9"}]',
        '[{"jsonrpc": "2.0", "result": 7, "id": "1"},'
        '{"jsonrpc": "2.0", "result": 19, "id": "2"},'
        f"{E_REQUEST},"
        '{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},'
        '{"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"}]',
    ),
    (
        '[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},'
        '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]',
        "",
    ),
]


def _sorted(answer: Any) -> Any:
    """The answers of a batch may be in any order (section 6)."""
    return sorted(answer, key=str) if isinstance(answer, list) else answer


@pytest.mark.rule("rpc.B8")
@pytest.mark.parametrize("pieces", ["whole", "byte by byte"])
@pytest.mark.parametrize(("said", "answered"), EXAMPLES)
def test_the_examples_of_the_specification_over_a_socket(said: str, answered: str, pieces: str) -> None:
    async def scenario() -> list[Any]:
        async with Examples(codec="jrpc:\n") as api:
            acceptor = await api.listen("tcp://127.0.0.1:0")
            host, _, port = acceptor.addresses[0].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            data = said.replace("\n", " ").encode() + b"\n"
            for piece in [data] if pieces == "whole" else [data[at : at + 1] for at in range(len(data))]:
                writer.write(piece)
                if pieces != "whole":
                    await asyncio.sleep(0)
            # The answer to this one is the last.
            writer.write(b'{"jsonrpc": "2.0", "method": "get_data", "id": "end"}\n')
            lines = []
            async with asyncio.timeout(60):
                while b'"end"' not in (line := await reader.readline()):
                    lines.append(msgspec.json.decode(line))
            writer.close()
            return lines

    expected = [msgspec.json.decode(answered)] if answered else []
    assert [_sorted(line) for line in asyncio.run(scenario())] == [_sorted(line) for line in expected]


@pytest.mark.rule("rpc.B8")
@pytest.mark.parametrize(("said", "answered"), EXAMPLES)
def test_the_examples_of_the_specification_over_a_transport_of_ones_own(said: str, answered: str) -> None:
    class Wire(Transport):
        sent = b""

        def send(self, data: bytes, receivers: list[str] | None = None) -> None:
            self.sent += data

    wire = Wire()
    api = Examples(transport=wire)
    assert api._handle_received("x", said.encode() + b"\0") == b""
    lines = [msgspec.json.decode(line) for line in wire.sent.split(b"\0") if line]
    assert [_sorted(line) for line in lines] == ([_sorted(msgspec.json.decode(answered))] if answered else [])
