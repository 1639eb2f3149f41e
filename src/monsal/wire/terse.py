"""The codec `terse`: one line a packet, to be typed by hand (rpc.R33, rpc.B14).

    method[7] name:1.5 words:["a" "b"] text:"say \\"hi\\""     a call with the id 7; without [7] a cast
    method[7] 1 2                                            the same with arguments by position
    [7]:{"sum":3}                                            its result
    [7]! message:"no" code:-32602 details:null               its fault

Values are numbers, true, false, null, "text" with the escapes of JSON, 'base64' for bytes, [a b], {k:v}. A name or
method that is no plain word is quoted. An id may be any number, text or null. There is no batch and no security.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from monsal.wire.codes import INVALID_REQUEST, MESSAGES, PARSE_ERROR
from monsal.wire.packets import Batch, Call, Cast, EncodeError, Fault, Id, Malformed, Packet, Params, Reply

__all__ = ["Terse"]

#: Lists and mappings within each other (rpc.B7).
_DEPTH: Final = 64
_WORD: Final = re.compile(r"[^\W\d][\w.$/-]*+")
_TOKEN: Final = re.compile(
    r"""[ \t\r]*+(?:
      (?P<text>"(?:[^"\\\n]|\\.)*+")
    | (?P<bytes>'[A-Za-z0-9+/=]*+')
    | (?P<number>[+-]?(?:\d++(?:\.\d*+)?+(?:[eE][+-]?\d++)?+|inf(?![\w.$/-]))|nan(?![\w.$/-]))
    | (?P<word>[^\W\d][\w.$/-]*+)
    | (?P<mark>[\[\]{}:!])
    | (?P<end>\Z))""",
    re.VERBOSE,
)
_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None}


class Terse:
    """`raw` codecs leave values undecoded; this one always decodes them."""

    name = "terse"

    def encode(self, packet: Packet) -> bytes:
        """The line of a packet. Raises EncodeError if a value in it cannot be written."""
        try:
            return self._line(packet).encode()
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise EncodeError(f"it has no terse form: {error}") from error

    def join(self, payloads: Sequence[bytes]) -> bytes:
        """There are no batches. Raises EncodeError."""
        raise EncodeError("terse has no batches")

    def decode(self, payload: bytes) -> Packet | Batch:
        """The packet in a line. Raises Malformed, and nothing else, for any other bytes (rpc.B1)."""
        try:
            return _Reader(payload.decode()).packet()
        except (ValueError, OverflowError, RecursionError) as error:
            raise Malformed(Fault(None, PARSE_ERROR, MESSAGES[PARSE_ERROR]), str(error)) from None

    def value(self, raw: Any, kind: Any = Any) -> Any:
        """Params or a result as a value of the type `kind`. Raises msgspec.ValidationError if it does not fit."""
        return raw if kind is Any else msgspec.convert(raw, kind)

    def with_secinfo(self, secinfo: dict[str, Any], payload: bytes | None) -> list[bytes]:
        """There is no security. Raises EncodeError."""
        raise EncodeError("terse has no security")

    def split_secinfo(self, payload: bytes) -> tuple[dict[str, Any], bytes | None] | None:
        """Never any."""
        return None

    def _line(self, packet: Packet) -> str:
        if isinstance(packet, Reply):
            return f"[{_written(packet.id)}]:{_written(packet.result)}"
        if isinstance(packet, Fault):
            line = f"[{_written(packet.id)}]! message:{_written(packet.message)} code:{_written(packet.code)}"
            return line if packet.data is None else f"{line} details:{_written(packet.data)}"
        known = f"[{_written(packet.id)}]" if isinstance(packet, Call) else ""
        params = packet.params
        if isinstance(params, dict):
            said = [f"{_name(name)}:{_written(value)}" for name, value in params.items()]
        else:
            said = [_written(value) for value in params]
        return " ".join([f"{_name(packet.method)}{known}", *said])


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a name is a text, not {name!r:.100}")
    return name if _WORD.fullmatch(name) and name not in _WORDS and name not in ("inf", "nan") else _text(name)


def _text(text: str) -> str:
    # The escapes of JSON, of which those of the contract are a part; a lone surrogate has no UTF-8.
    text.encode()
    return json.dumps(text, ensure_ascii=False)


def _spoken(quoted: str) -> str:
    text = json.loads(quoted, strict=False)
    assert isinstance(text, str)
    text.encode()
    return text


def _written(value: Any, depth: int = 0) -> str:
    if depth > _DEPTH:
        raise ValueError(f"nested more than {_DEPTH} deep")
    if value is None or value is True or value is False:
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if type(value) in (int, float):
        return repr(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"'{base64.b64encode(value).decode()}'"
    if isinstance(value, dict):
        return "{" + " ".join(f"{_name(name)}:{_written(item, depth + 1)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + " ".join(_written(item, depth + 1) for item in value) + "]"
    return _written(msgspec.to_builtins(value, builtin_types=(bytes, bytearray)), depth + 1)


class _Reader:
    """Reads one line from left to right; raises ValueError where it cannot go on, Malformed where it knows more."""

    __slots__ = ("_at", "_has_gap", "_kind", "_line", "_said", "_start")

    def __init__(self, line: str) -> None:
        self._line = line
        self._at = 0
        self._next()

    def packet(self) -> Packet:
        if self._is("["):
            return self._answer()
        method = self._named("a method")
        # With a space before it, a list is the first argument.
        is_call = self._is("[") and not self._has_gap
        known = self._known() if is_call else None
        params = self._params()
        return Call(known, method, params) if is_call else Cast(method, params)

    def _answer(self) -> Reply | Fault:
        known = self._known()
        if self._is(":"):
            self._next()
            result = self._value(0)
            self._finish()
            return Reply(known, result)
        self._take("!")
        said = self._params()
        if not isinstance(said, dict) or not isinstance(message := said.get("message"), str):
            raise _malformed("a fault has a message", known)
        code = said.get("code", 0)
        if type(code) is not int:
            raise _malformed("the code of a fault is a whole number", known)
        return Fault(known, code, message, said.get("details"))

    def _known(self) -> Id:
        self._take("[")
        known = self._value(0)
        if isinstance(known, bool) or not isinstance(known, int | float | str | None):
            raise _malformed("an id is a number, a text or null", None)
        self._take("]")
        return known

    def _params(self) -> Params:
        """Values up to the end of the line, all of them with names or none."""
        named: dict[str, Any] = {}
        listed: list[Any] = []
        while self._kind != "end":
            kind, said = self._kind, self._said
            if kind in ("word", "text"):
                self._next()
                if self._is(":"):
                    self._next()
                    self._put(named, said if kind == "word" else _spoken(said), 0)
                else:
                    listed.append(self._plain(kind, said))
            else:
                listed.append(self._value(0))
        if named and listed:
            raise ValueError("arguments are all by name or all by position")
        return listed or named

    def _put(self, into: dict[str, Any], name: str, depth: int) -> None:
        if name in into:
            raise ValueError(f"{name!r:.100} is given twice")
        into[name] = self._value(depth)

    def _value(self, depth: int) -> Any:
        if depth > _DEPTH:
            raise ValueError(f"nested more than {_DEPTH} deep")
        kind, said = self._kind, self._said
        if kind != "mark":
            self._next()
            return self._plain(kind, said)
        if said == "[":
            self._next()
            items = []
            while not self._is("]"):
                items.append(self._value(depth + 1))
            self._next()
            return items
        self._take("{")
        mapping: dict[str, Any] = {}
        while not self._is("}"):
            name = self._named("a name")
            self._take(":")
            self._put(mapping, name, depth + 1)
        self._next()
        return mapping

    def _plain(self, kind: str, said: str) -> Any:
        if kind == "number":
            return float(said) if set(said) & set(".eEn") else int(said)
        if kind == "text":
            return _spoken(said)
        if kind == "bytes":
            try:
                return base64.b64decode(said[1:-1], validate=True)
            except binascii.Error as error:
                raise ValueError(f"no base 64: {error}") from None
        if kind == "word" and said in _WORDS:
            return _WORDS[said]
        raise ValueError(f"{said!r:.100} is no value, at {self._start}")

    def _named(self, what: str) -> str:
        kind, said = self._kind, self._said
        if kind not in ("word", "text"):
            raise ValueError(f"{what} is expected at {self._start}")
        self._next()
        return said if kind == "word" else _spoken(said)

    def _is(self, mark: str) -> bool:
        return self._kind == "mark" and self._said == mark

    def _take(self, mark: str) -> None:
        if not self._is(mark):
            raise ValueError(f"{mark!r} is expected at {self._start}")
        self._next()

    def _finish(self) -> None:
        if self._kind != "end":
            raise ValueError(f"the end of the line is expected at {self._start}")

    def _next(self) -> None:
        found = _TOKEN.match(self._line, self._at)
        if found is None or found.lastgroup is None:
            raise ValueError(f"nothing that is known, at {self._at}")
        self._kind = found.lastgroup
        self._said = found[self._kind]
        self._start = found.start(self._kind)
        self._has_gap = self._start > self._at
        self._at = found.end()


def _malformed(detail: str, known: Id) -> Malformed:
    return Malformed(Fault(known, INVALID_REQUEST, MESSAGES[INVALID_REQUEST]), detail)
