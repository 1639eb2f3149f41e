"""Functions that are asked before mail is taken: about a recipient (`@accept`), about a login (`@authenticate`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from monsal.routing.pattern import Pattern

__all__ = ["FACTS", "Asked", "Screen"]

#: What a function may be told about the mail, by the name of its parameter.
FACTS: Final = frozenset({"envelope", "recipient", "sender", "peer", "hello", "user", "tls"})


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A function that is asked. `id` is `module:name`; `wants` are its parameters, None for everything there is."""

    id: str
    func: Callable[..., Any]
    is_async: bool
    wants: frozenset[str] | None

    def arguments(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `known` that its signature names."""
        return dict(known) if self.wants is None else {name: known[name] for name in self.wants if name in known}


class Screen(msgspec.Struct, frozen=True):
    """An accept hook: the addresses it is asked about (None: all), and the function."""

    pattern: Pattern | None
    asked: Asked

    def match(self, address: str) -> Mapping[str, str | None] | None:
        """The captures of an address that it is asked about, else None."""
        return {} if self.pattern is None else self.pattern.match(address)
