"""The addresses that are not written to, in memory: each outgoing mail is looked up, and asks no table for it."""

from __future__ import annotations

from typing import Final

from monsal.address import fold

__all__ = ["Suppressed"]

_FOR_GOOD: Final = float("inf")


class Suppressed:
    """Folded address -> until when, and why."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, str]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is no address on the list."""
        return not self._known

    def put(self, address: str, until: float | None, reason: str) -> None:
        self._known[fold(address)] = (_FOR_GOOD if until is None else until, reason)

    def drop(self, address: str) -> None:
        self._known.pop(fold(address), None)

    def why(self, address: str, now: float) -> str | None:
        """Why an address is not written to now; None if it is."""
        if not self._known:
            return None
        found = self._known.get(fold(address))
        return found[1] if found is not None and found[0] > now else None
