"""What form a value has on the wire and in Python: one `Shape` for each declared type.

JSON has no bytes: they travel as `{"__bytes": base64}` (rpc.R31). Such an object becomes bytes only where the declared
type says bytes, and only if that is its sole key (rpc.B15): everywhere else it is an object like any other.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import inspect as kinds

from monsal.errors import UsageError

__all__ = ["DeclarationError", "Shape"]

#: Types that a codec may bring as they are; the others come as text.
_AS_THEY_ARE = (bytes, bytearray, datetime.datetime)


class DeclarationError(UsageError, TypeError):
    """A call cannot be declared like that."""


class Shape:
    """A declared type: what comes from the wire is made into it, or refused with the path of what does not fit.

    Raises DeclarationError if values of the type cannot travel.
    """

    __slots__ = ("_holds_bytes", "_info", "hint", "load_json", "plain")

    def __init__(self, hint: Any, where: str) -> None:
        self.hint: Any = Any if hint is object else type(None) if hint is None else hint
        try:
            self._info = kinds.type_info(self.hint)
            unfit = [kind.cls for kind in _all_kinds(self._info) if isinstance(kind, kinds.CustomType)]
            if unfit:
                raise TypeError(f"{unfit[0]!r} has no form on the wire; use a msgspec.Struct or a dataclass")
            decode: Callable[[Any], Any] = msgspec.json.Decoder(self.hint).decode
        except (TypeError, NameError, RecursionError) as error:
            raise DeclarationError(f"{where}: {error}") from error
        self._holds_bytes = any(isinstance(kind, _BYTES) for kind in _all_kinds(self._info))
        #: The value that JSON text holds. Raises msgspec.ValidationError, saying where it does not fit.
        self.load_json = self._load_bytes if self._holds_bytes else decode
        #: The type whose values are all of this kind, if there is one: they need no check.
        self.plain = _plain(self._info)

    @property
    def is_any(self) -> bool:
        """Whether every value fits."""
        return isinstance(self._info, kinds.AnyType)

    def _load_bytes(self, raw: Any) -> Any:
        return self.load(msgspec.json.decode(raw))

    def load(self, value: Any) -> Any:
        """The value of this type for one in built-in types. Raises msgspec.ValidationError saying what does not fit."""
        if self._holds_bytes:
            return msgspec.convert(_revive(value, self._info), self.hint, builtin_types=_AS_THEY_ARE)
        if self.is_any:
            return value
        return msgspec.convert(value, self.hint)

    def check(self, value: Any) -> Any:
        """The value, if it is of this type already or can be taken as it. Raises msgspec.ValidationError.

        The fields of a record were given by our own code, and are not looked at again.
        """
        if self.plain is not None and type(value) is self.plain:
            return value
        return value if self.is_any else msgspec.convert(value, self.hint, builtin_types=_AS_THEY_ARE)


_BYTES = kinds.BytesType | kinds.ByteArrayType | kinds.MemoryViewType
_SEQUENCES = kinds.ListType | kinds.SetType | kinds.FrozenSetType | kinds.VarTupleType | kinds.CollectionType
_RECORDS = kinds.StructType | kinds.TypedDictType | kinds.DataclassType | kinds.NamedTupleType


_SCALARS = (
    (kinds.BoolType, bool),
    (kinds.IntType, int),
    (kinds.FloatType, float),
    (kinds.StrType, str),
    (kinds.BytesType, bytes),
)


def _plain(kind: kinds.Type) -> type | None:
    """The Python type whose values are all of this kind, whatever they hold; None if more has to be looked at."""
    if isinstance(kind, kinds.StructType | kinds.DataclassType):
        made: type = kind.cls
        return made
    if isinstance(kind, kinds.DictType):
        anything = isinstance(kind.key_type, kinds.AnyType | kinds.StrType) and isinstance(
            kind.value_type, kinds.AnyType
        )
        return dict if anything and kind.min_length is None and kind.max_length is None else None
    if isinstance(kind, kinds.ListType):
        anything = isinstance(kind.item_type, kinds.AnyType)
        return list if anything and kind.min_length is None and kind.max_length is None else None
    for known, made in _SCALARS:
        if isinstance(kind, known):
            bounded = any(getattr(kind, name) is not None for name in kind.__struct_fields__)
            return None if bounded else made
    return None


def _inner(kind: kinds.Type) -> Iterable[kinds.Type]:
    if isinstance(kind, kinds.UnionType):
        return kind.types
    if isinstance(kind, _SEQUENCES):
        return (kind.item_type,)
    if isinstance(kind, kinds.TupleType):
        return kind.item_types
    if isinstance(kind, kinds.DictType):
        return (kind.key_type, kind.value_type)
    if isinstance(kind, _RECORDS):
        return [field.type for field in kind.fields]
    if isinstance(kind, kinds.Metadata):
        return (kind.type,)
    return ()


def _all_kinds(root: kinds.Type) -> Iterator[kinds.Type]:
    """The kind and all within it, each once: a record may hold itself."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        kind = waiting.pop()
        if id(kind) not in seen:
            seen.add(id(kind))
            yield kind
            waiting.extend(_inner(kind))


def _revive(value: Any, kind: kinds.Type) -> Any:
    """The value with `{"__bytes": ...}` made into bytes where the kind says bytes."""
    if isinstance(kind, kinds.Metadata):
        return _revive(value, kind.type)
    if isinstance(kind, kinds.UnionType):
        for choice in kind.types:
            value = _revive(value, choice)
        return value
    if isinstance(kind, _BYTES):
        return _bytes_of(value)
    if isinstance(value, list):
        if isinstance(kind, _SEQUENCES):
            return [_revive(item, kind.item_type) for item in value]
        if isinstance(kind, kinds.TupleType) and len(kind.item_types) == len(value):
            return [_revive(item, inner) for item, inner in zip(value, kind.item_types, strict=True)]
        if isinstance(kind, kinds.StructType | kinds.NamedTupleType) and len(kind.fields) >= len(value):
            return [_revive(item, field.type) for item, field in zip(value, kind.fields, strict=False)]
    if isinstance(value, dict):
        if isinstance(kind, kinds.DictType):
            return {key: _revive(item, kind.value_type) for key, item in value.items()}
        if isinstance(kind, _RECORDS):
            known = {_name(field): field.type for field in kind.fields}
            return {key: _revive(item, known[key]) if key in known else item for key, item in value.items()}
    return value


def _name(field: Any) -> str:
    return str(getattr(field, "encode_name", field.name) if not isinstance(field, str) else field)


def _bytes_of(value: Any) -> Any:
    if isinstance(value, dict) and len(value) == 1 and isinstance(text := value.get("__bytes"), str):
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise msgspec.ValidationError("Invalid base64 in `__bytes`") from None
    return value
