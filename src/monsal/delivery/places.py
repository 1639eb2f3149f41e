"""The places that a relay may connect to, and which of them it avoids for a while. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Container, Sequence

from monsal.delivery.route import Target

__all__ = ["Places"]


class Places:
    """The targets of a route. Times are seconds of the loop's clock; `shun_time` is how long a place is avoided."""

    __slots__ = ("_shun_time", "_shunned", "_targets")

    def __init__(self, shun_time: float) -> None:
        self._shun_time = shun_time
        self._targets: Sequence[Target] = ()
        self._shunned: dict[Target, float] = {}  # until when

    def set(self, targets: Sequence[Target]) -> None:
        """What the route says now."""
        self._targets = targets

    def in_turn(self, now: float) -> list[Target]:
        """The targets in their order; those that are shunned last, and of them first the one that failed first."""
        turns = {target: turn for turn, target in enumerate(self._shunned, 1)}
        return sorted(self._targets, key=lambda target: turns[target] if self._is_shunned(target, now) else 0)

    def shun(self, target: Target, now: float) -> None:
        """Try the others before this one for a while, if there are others."""
        if len(self._targets) > 1:
            others = {each: until for each, until in self._shunned.items() if now < until and each != target}
            self._shunned = {**others, target: now + self._shun_time}

    def has_another(self, now: float, *, beside: Container[Target] = ()) -> bool:
        """Whether there are several, and one that is neither shunned nor among `beside`."""
        return len(self._targets) > 1 and not all(
            target in beside or self._is_shunned(target, now) for target in self._targets
        )

    def _is_shunned(self, target: Target, now: float) -> bool:
        return now < self._shunned.get(target, 0.0)
