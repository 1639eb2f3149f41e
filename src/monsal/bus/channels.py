"""What a channel holds and what a failed publishing raises.

A `Channel` is a set of listeners that knows their order. Publishing reads `Channel.calls`, a tuple that is replaced and
never changed, so that others may subscribe at the same time from any thread (B2).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, MutableSet, Sequence
from operator import itemgetter
from threading import RLock
from typing import Any

from monsal.bus.inner.outcomes import text_of

__all__ = ["DEFAULT_PRIORITY", "Channel", "ChannelFailures", "Listener"]

Listener = Callable[..., Any]

#: The priority of a listener that names none (rule R3).
DEFAULT_PRIORITY = 50


class Channel(MutableSet[Listener]):
    """The listeners of one channel: a set that is iterated in the order of calling.

    Lower priorities come first, equal ones in the order of subscription (B2). `changed` is called after each change.
    """

    __slots__ = ("_changed", "_changes", "_entries", "_lock", "calls")

    def __init__(self, listeners: Iterable[Listener] = (), changed: Callable[[], None] | None = None) -> None:
        # Taken again by its own thread: by the hash of a listener that says something, or by a finalizer, which Python
        # runs anywhere.
        self._lock = RLock()
        #: Listener -> priority, in the order of subscription.
        self._entries: dict[Listener, float] = {}
        self._changes = 0
        self._changed: Callable[[], None] | None = None
        #: The listeners in order, or None if that is to be found out again; `order()` does so.
        self.calls: tuple[Listener, ...] | None = None
        for listener in listeners:
            self.add(listener)
        self._changed = changed

    def add(self, value: Listener, priority: float | None = None) -> None:
        """Hold `value` once; added again it only gets the new priority (rule R2).

        The priority is the one given, else the listener's attribute `priority`, else 50 (rule R3). Raises TypeError for
        what cannot be called, or cannot be told from others because it has no hash.
        """
        if not callable(value):
            raise TypeError(f"a listener is called, which {text_of(value)} cannot be")
        if not isinstance(value, Hashable):
            raise TypeError(f"a listener is held once, but {text_of(value)} has no hash; subscribe a method of it")
        if priority is None:
            priority = getattr(value, "priority", DEFAULT_PRIORITY)
            # A listener may be an object of any kind, and have a `priority` that means something else.
            priority = priority if isinstance(priority, int | float) else DEFAULT_PRIORITY
        elif not isinstance(priority, int | float):
            raise TypeError(f"a priority is a number, not {text_of(priority)}")
        with self._lock:
            self._entries[value] = priority
            self._changes += 1
            self.calls = None
        if self._changed is not None:
            self._changed()

    def discard(self, value: Listener) -> None:
        """Forget `value`; one that is not there is no error."""
        with self._lock:
            self._entries.pop(value, None)
            self._changes += 1
            self.calls = None
        if self._changed is not None:
            self._changed()

    def order(self) -> tuple[Listener, ...]:
        """The listeners in the order of calling, as they are now."""
        calls = self.calls
        if calls is None:
            with self._lock:
                changes = self._changes
                # Sorting keeps the order of equal ones.
                calls = tuple(listener for listener, _ in sorted(self._entries.items(), key=itemgetter(1)))
                self.calls = calls
                if changes != self._changes:
                    self.calls = None
        return calls

    def __contains__(self, value: object) -> bool:
        return value in self._entries

    def __iter__(self) -> Iterator[Listener]:
        return iter(self.order())

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Channel({list(self)!r})"


class ChannelFailures(ExceptionGroup[Exception]):
    """All failures of one publishing; `results` are those of the listeners that succeeded (B3).

    An empty one is false, and `handle_exception()` adds the exception that is being handled, as in the versions after
    the original design. `except*` finds the failures inside.
    """

    results: Sequence[Any]

    def __new__(
        cls,
        message: str = "listeners failed",
        exceptions: Sequence[Exception] = (),
        results: Sequence[Any] = (),
    ) -> ChannelFailures:
        # A group of Python is never empty, so an empty one of ours has a filling that is never shown.
        self = super().__new__(cls, message, list(exceptions) or [_NONE])
        self._failures = list(exceptions)
        self.results = list(results)
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args)

    _failures: list[Exception]

    @property
    def exceptions(self) -> tuple[Exception, ...]:
        """The failures, in the order of calling."""
        return tuple(self._failures)

    def handle_exception(self) -> None:
        """Add the exception that is being handled."""
        error = sys.exception()
        if isinstance(error, Exception):
            self._failures.append(error)

    def get_instances(self) -> list[Exception]:
        """The failures, as a list of one's own."""
        return list(self._failures)

    def derive(self, excs: Sequence[Any], /) -> Any:
        return ChannelFailures(self.message, excs, self.results)

    def split(self, condition: Any, /) -> Any:
        return ExceptionGroup.split(self._filled(), condition)

    def subgroup(self, condition: Any, /) -> Any:
        return ExceptionGroup.subgroup(self._filled(), condition)

    def _filled(self) -> ChannelFailures:
        """This group such that the interpreter's own view of it is complete, too."""
        if not self._failures:
            return self
        whole = ChannelFailures(self.message, self._failures, self.results)
        whole.__traceback__, whole.__cause__, whole.__context__ = self.__traceback__, self.__cause__, self.__context__
        whole.__suppress_context__ = self.__suppress_context__
        return whole

    def __bool__(self) -> bool:
        return bool(self._failures)

    def __str__(self) -> str:
        return "\n".join(map(text_of, self._failures))


_NONE = Exception("no failure")
