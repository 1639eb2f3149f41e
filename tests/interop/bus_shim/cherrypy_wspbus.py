"""Stands in for `cherrypy.process.wspbus`: the names that CherryPy and its tests use, from monsal.bus."""

from __future__ import annotations

import os

from monsal.bus import Bus as _Bus
from monsal.bus import ChannelFailures, Phase, states

__all__ = ["Bus", "ChannelFailures", "bus", "states"]


class Bus(_Bus):
    """Our bus; in CherryPy's own test suite with several lives.

    There one process starts and exits the one engine for each class of tests. Ours refuses to start after the exit, on
    purpose (B1), so with MONSAL_SEVERAL_LIVES a start after the exit begins from the beginning with the same listeners.
    """

    def start(self) -> None:
        if self.phase is Phase.EXITED and "MONSAL_SEVERAL_LIVES" in os.environ:
            self._begin_again()
        super().start()

    def _begin_again(self) -> None:
        listeners, lobby = self.listeners, self._lobby
        for name in ("state", "phase", "execv"):
            vars(self).pop(name, None)
        self.__init__(limits=self.limits)
        # The lobby stays: signals ring at its bell.
        self.listeners, self._lobby = listeners, lobby
        lobby.tell(Phase.NEW)


bus = Bus()
