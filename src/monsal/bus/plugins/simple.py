"""The base of plugins: methods named after channels are its listeners."""

from __future__ import annotations

from collections.abc import Iterator

from monsal.bus.channels import Listener
from monsal.bus.core import Bus

__all__ = ["SimplePlugin"]


class SimplePlugin:
    """Subscribes every method of its own whose name is a channel that the bus knows at that moment.

    An attribute `priority` of the method is honoured: `start.priority = 75`.
    """

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    def subscribe(self) -> None:
        """Have the bus call this plugin."""
        for channel, method in self._methods():
            self.bus.subscribe(channel, method)

    def unsubscribe(self) -> None:
        """Undo `subscribe`."""
        for channel, method in self._methods():
            self.bus.unsubscribe(channel, method)

    def _methods(self) -> Iterator[tuple[str, Listener]]:
        for channel in list(self.bus.listeners):
            method = getattr(self, channel, None)
            if callable(method) and channel not in ("subscribe", "unsubscribe"):
                yield channel, method
