"""What an interface says of itself: an OpenRPC document (`rpc.discover`), and a hash to compare two of them (rpc.B11).

The document follows OpenRPC 1.3.2 (https://spec.open-rpc.org), with JSON Schema draft 7 as that asks for.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from monsal.rpc.declare import Declaration
from monsal.rpc.errors import AppError
from monsal.rpc.values import Shape

__all__ = ["DISCOVER", "OPENRPC", "differences", "fingerprint", "openrpc"]

#: The method that gives the document (OpenRPC 1.3.2, section "Service Discovery Method").
DISCOVER = "rpc.discover"
OPENRPC = "1.3.2"
_REFERENCE = "#/components/schemas/{name}"


def openrpc(
    title: str,
    calls: Mapping[str, Declaration],
    *,
    version: str = "1",
    description: str = "",
    errors: Iterable[type[AppError]] = (),
) -> dict[str, Any]:
    """The OpenRPC document of the calls that a side takes: what the other side may ask for."""
    shapes = [shape for one in calls.values() for shape in (*one.signature.shapes.values(), one.signature.result)]
    schemas, components = _schemas(shapes)
    told = [{"code": known.code, "message": known.__name__} for known in errors]
    methods = []
    for name, declaration in calls.items():
        methods.append(_method(name, declaration, schemas))
        if told:
            methods[-1]["errors"] = told
    info = {"title": title, "version": version}
    if description:
        info["description"] = description
    document: dict[str, Any] = {"openrpc": OPENRPC, "info": info, "methods": methods}
    if components:
        document["components"] = {"schemas": components}
    return document


def _method(name: str, declaration: Declaration, schemas: Callable[[Shape], dict[str, Any]]) -> dict[str, Any]:
    signature = declaration.signature
    params = []
    for key in sorted(signature.names, key=lambda key: key not in signature.required):
        # Those that must be given stand first (OpenRPC 1.3.2, Method Object, params).
        schema = dict(schemas(signature.shapes[key]))
        if key in signature.defaults and (default := _plain(signature.defaults[key])) is not msgspec.UNSET:
            schema["default"] = default
        params.append({"name": key, "required": key in signature.required, "schema": schema})
    by_position = signature.options.allow_positional_args
    method: dict[str, Any] = {
        "name": name,
        "params": params,
        "paramStructure": "either" if by_position and not _reordered(declaration) else "by-name",
    }
    if signature.has_reply:
        method["result"] = {"name": "result", "schema": schemas(signature.result)}
    if text := inspect.getdoc(declaration):
        summary, _, rest = text.partition("\n")
        method["summary"] = summary
        if rest.strip():
            method["description"] = rest.strip()
    return method


def _reordered(declaration: Declaration) -> bool:
    """Whether a parameter that must be given stands behind one that need not (keyword-only ones may)."""
    needed = [key in declaration.signature.required for key in declaration.signature.names]
    return needed != sorted(needed, reverse=True)


def _schemas(shapes: list[Shape]) -> tuple[Callable[[Shape], dict[str, Any]], dict[str, Any]]:
    """The schema of each shape, and the named ones that they refer to."""
    hints = [shape.hint for shape in shapes]
    made, components = msgspec.json.schema_components(hints, ref_template=_REFERENCE)
    by_shape = {id(shape): _as_on_the_wire(schema) for shape, schema in zip(shapes, made, strict=True)}
    return lambda shape: by_shape[id(shape)], _as_on_the_wire(components)


def _as_on_the_wire(schema: Any) -> Any:
    """Bytes are an object there (rpc.R31), and not a text as msgspec has it; draft 7 knows no `prefixItems`."""
    if isinstance(schema, list):
        return [_as_on_the_wire(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("contentEncoding") == "base64":
        return {
            "type": "object",
            "properties": {"__bytes": {"type": "string", "contentEncoding": "base64"}},
            "required": ["__bytes"],
            "additionalProperties": False,
        }
    told = {key: _as_on_the_wire(one) for key, one in schema.items()}
    if "prefixItems" in told:
        told["items"] = told.pop("prefixItems")
        told["additionalItems"] = False
    return told


def _plain(value: Any) -> Any:
    """A default in built-in types; UNSET if it has no such form."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, RecursionError):
        return msgspec.UNSET


def _facts(calls: Mapping[str, Declaration]) -> dict[str, dict[str, Any]]:
    """What two sides have to agree on, of each call: not its words, and not the defaults, which are the receiver's."""
    facts = {}
    for name, declaration in calls.items():
        signature = declaration.signature
        schemas, components = _schemas([*signature.shapes.values(), signature.result])
        facts[name] = {
            "params": {
                key: [key in signature.required, schemas(signature.shapes[key])] for key in sorted(signature.names)
            },
            "by_position": list(signature.names) if signature.options.allow_positional_args else None,
            "result": schemas(signature.result) if signature.has_reply else None,
            "components": _without_words(components),
        }
    return facts


def _without_words(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_words(one) for one in schema]
    if isinstance(schema, dict):
        return {key: _without_words(one) for key, one in schema.items() if key not in ("description", "title")}
    return schema


def fingerprint(calls: Mapping[str, Declaration]) -> str:
    """A hash of what two sides have to agree on, and of nothing else."""
    text = msgspec.json.encode(_facts(calls), order="deterministic")
    return hashlib.sha256(text).hexdigest()[:16]


def differences(ours: Mapping[str, Declaration], document: Mapping[str, Any]) -> list[str]:
    """What in the OpenRPC document of the other side is not as we have it, one line for each call.

    `ours` are the calls that we send. What the other side has more is no difference.
    """
    theirs = {str(one.get("name")): one for one in document.get("methods", ()) if isinstance(one, dict)}
    known = {one["name"]: one for one in openrpc("", ours)["methods"]}
    found = []
    for name, method in known.items():
        other = theirs.get(name)
        if other is None:
            found.append(f"{name}: the other side does not have it")
        elif reason := _differs(method, other):
            found.append(f"{name}: {reason}")
    return found


def _differs(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    mine = {one["name"]: one for one in ours["params"]}
    other = {str(one.get("name")): one for one in theirs.get("params", ()) if isinstance(one, dict)}
    if lacking := sorted(mine.keys() - other.keys()):
        return f"the other side has no parameter {', '.join(lacking)}"
    if needed := sorted(key for key in other.keys() - mine.keys() if other[key].get("required")):
        return f"the other side needs the parameter {', '.join(needed)}"
    for key, one in mine.items():
        if other[key].get("required") and not one["required"]:
            return f"the other side needs the parameter {key}"
        if _type(one) != _type(other[key]):
            return f"the parameter {key} is of another type"
    if ("result" in ours) is not ("result" in theirs):
        return "one side has a result, the other has none"
    if "result" in ours and _type(ours["result"]) != _type(theirs["result"]):
        return "the result is of another type"
    return ""


def _type(content: Mapping[str, Any]) -> Any:
    return {key: one for key, one in _without_words(content.get("schema", {})).items() if key != "default"}
