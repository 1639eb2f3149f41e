"""Mail that is stored without a coroutine: whoever brings it is told what became of it.

A task, its coroutines and a future take a tenth of what a stored mail costs. So a store may offer `begin_accept` beside
`accept`, and does then the same by it, for mails that need nothing but the flush of their group.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from monsal.store.contract import Accept, Receipt

__all__ = ["Begins", "Waiter"]


class Waiter(Protocol):
    """Is told once, on the loop, what became of what it waits for. A future is one; one of these raises nothing."""

    def done(self) -> bool:
        """Whether it was told, or waits no longer: then it is not told, and what was not begun is not done."""
        ...

    def set_result(self, value: Any, /) -> None:
        """It is done, and on the disk if that was asked for (P1)."""
        ...

    def set_exception(self, error: Any, /) -> None:
        """It failed."""
        ...


@runtime_checkable
class Begins(Protocol):
    """A store that can store a mail without a coroutine."""

    def begin_accept(self, mail: Accept, waiter: Waiter) -> Receipt | Waiter | None:
        """Begin what `Store.accept` does: the receipt if it is known at once; `waiter`, which is told then; or None,
        and nothing was done, for a mail that can be stored by `accept` only. Raises what that does."""
        ...
