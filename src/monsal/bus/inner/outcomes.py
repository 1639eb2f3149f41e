"""What came of a call: the outcome of a coroutine on another thread, and texts of things that may not have one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Only for its name: it would load logging.
    from concurrent.futures import Future

__all__ = ["Ended", "outcome_of", "text_of"]


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


def text_of(thing: object) -> str:
    """The text of a listener or an error, which must not fail where a failure is told of.

    A plugin whose start failed is half made; its `__repr__`, which is in the text of its methods, may need the rest.
    """
    try:
        return repr(thing)
    except Exception as error:  # noqa: BLE001 - whatever it is, there has to be some text
        return f"<{type(thing).__qualname__} without a text: {type(error).__name__}>"
