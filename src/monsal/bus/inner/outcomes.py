"""What came of a call: the outcome of a coroutine on another thread, and what odd listeners say of themselves.

A listener may be an object of any kind, and have attributes that mean something else, or cannot be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Only for its name: it would load logging.
    from concurrent.futures import Future

__all__ = ["Ended", "attribute_of", "limit_of", "minds_itself", "outcome_of", "text_of"]


class Ended(Exception):
    """Carries a SystemExit or KeyboardInterrupt from a coroutine to who waits for it; raised there it ends the loop."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def outcome_of(future: Future[Any]) -> Any:
    """Wait for what `Hub.submit` has under way: return its result or raise its error."""
    try:
        return future.result()
    except Ended as ended:
        raise ended.error from None


def attribute_of(thing: object, name: str) -> object:
    """An attribute; None if there is none, or if it cannot be read."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - an object that computes it, and cannot now; the listener is called all the same
        return None


def limit_of(listener: object, default: float) -> float:
    """How many seconds a listener wants for itself."""
    own = attribute_of(listener, "limit")
    return own if isinstance(own, int | float) else default


def minds_itself(listener: object) -> bool:
    """Whether a listener has no deadline, because it minds the time of what it calls by itself."""
    return bool(attribute_of(listener, "own_time"))


def text_of(thing: object) -> str:
    """The text of a listener or an error, which must not fail where a failure is told of.

    A plugin whose start failed is half made; its `__repr__`, which is in the text of its methods, may need the rest.
    """
    try:
        return repr(thing)
    except Exception as error:  # noqa: BLE001 - whatever it is, there has to be some text
        return f"<{type(thing).__qualname__} without a text: {type(error).__name__}>"
