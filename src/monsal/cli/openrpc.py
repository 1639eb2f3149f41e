"""An OpenRPC document as a table: each method with its parameters, their types, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["COLUMNS", "rows_of", "type_of"]

COLUMNS = ("method", "parameters", "result", "what it does")
#: How deep types are told: `list of list of ...`.
_DEPTH = 4
#: The first line of a description, as far as it fits beside the rest.
_WORDS = 100


def rows_of(document: object) -> list[dict[str, str]]:
    """One row for each method. Raises ValueError if that is no such document."""
    methods = document.get("methods") if isinstance(document, dict) else None
    if not isinstance(methods, list):
        raise ValueError("it has no list of methods")
    return [_row(method) for method in methods]


def _row(method: object) -> dict[str, str]:
    if not isinstance(method, dict) or not isinstance(method.get("name"), str):
        raise ValueError("one of its methods has no name")
    given = method.get("params", [])
    params = given if isinstance(given, list) else []
    result = method.get("result")
    words = str(method.get("summary") or method.get("description") or "").strip().partition("\n")[0]
    return {
        "method": method["name"],
        "parameters": ", ".join(_parameter(one) for one in params if isinstance(one, dict)),
        "result": type_of(result.get("schema", {})) if isinstance(result, dict) else "",
        "what it does": words if len(words) <= _WORDS else words[: _WORDS - 3] + "...",
    }


def _parameter(param: Mapping[str, Any]) -> str:
    """`name: type`; in brackets if it may be left out."""
    if "$ref" in param:
        return _last(param["$ref"])
    schema = param.get("schema", {})
    text = f"{param.get('name', '?')}: {type_of(schema)}"
    if param.get("required"):
        return text
    default = schema.get("default") if isinstance(schema, dict) else None
    return f"[{text}]" if default is None else f"[{text} = {_value(default)}]"


def type_of(schema: object, depth: int = _DEPTH) -> str:
    """A JSON Schema in a few words."""
    if not isinstance(schema, dict) or not schema or not depth:
        return "any"
    if "$ref" in schema:
        return _last(schema["$ref"])
    if isinstance(schema.get("enum"), list):
        return "|".join(_value(one) for one in schema["enum"])
    if "const" in schema:
        return _value(schema["const"])
    for several in ("anyOf", "oneOf"):
        if isinstance(schema.get(several), list):
            return "|".join(dict.fromkeys(type_of(one, depth - 1) for one in schema[several]))
    kind = schema.get("type", "any")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        return "|".join(str(one) for one in kind)
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"list of {type_of(schema['items'], depth - 1)}"
    return str(kind)


def _last(reference: object) -> str:
    return str(reference).rpartition("/")[2]


def _value(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()
