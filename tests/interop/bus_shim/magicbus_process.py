"""Stands in for `magicbus.process`: its bus of named states as a thin facade of ours, for its plugins and its tests.

There each state is a channel. ENTER comes once, before the first START, and IDLE is what STOPPED is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monsal.bus import Bus, Phase

__all__ = ["ProcessBus"]

#: What our bus says -> the state that has come there.
TOLD = {
    "Bus STARTING": "START",
    "Bus STARTED": "RUN",
    "Bus STOPPING": "STOP",
    "Bus STOPPED": "IDLE",
    "Bus EXITING": "EXIT",
    "Bus EXITED": "EXITED",
}
#: Their state -> our phase.
PHASES = {
    "INITIAL": Phase.NEW,
    "START": Phase.STARTING,
    "START_ERROR": Phase.INTERRUPTED,
    "RUN": Phase.STARTED,
    "STOP": Phase.STOPPING,
    "STOP_ERROR": Phase.FAILED,
    "IDLE": Phase.STOPPED,
    "EXIT": Phase.EXITING,
    "EXITED": Phase.EXITED,
}
STATES = {phase: state for state, phase in PHASES.items()}


class Life(Bus):
    """Our bus, which tells `came` of its own lines instead of logging them."""

    def __init__(self, came: Callable[[str], None]) -> None:
        super().__init__()
        self._came = came

    def log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        if msg in TOLD:
            self._came(TOLD[msg])
        else:
            super().log(msg, level, traceback)


class ProcessBus:
    """What is not here is that of our bus: `publish`, `subscribe`, `log`, `restart` and more."""

    def __init__(self) -> None:
        self.life = Life(self._came)
        self._entered = False
        for state in ("ENTER", *PHASES):
            self.life.listeners[state] = set()
        for channel in ("start", "stop", "exit"):
            self.life.subscribe(channel, lambda channel=channel: self._step(channel.upper()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.life, name)

    @property
    def state(self) -> str:
        return STATES.get(self.life.phase, self.life.phase.name)

    def transition(self, wanted: str) -> None:
        """Go to RUN, IDLE or EXITED."""
        {"RUN": self.life.start, "IDLE": self.life.stop, "EXITED": self.life.exit}[wanted]()

    def graceful(self) -> None:
        self.transition("IDLE")
        self.transition("RUN")

    def wait(self, state: str | list[str], interval: float = 0.1, channel: str | None = None) -> None:
        wanted = [state] if isinstance(state, str) else state
        self.life.wait([PHASES[name] for name in wanted], interval, channel)

    def _came(self, state: str) -> None:
        if state == "START" and not self._entered:
            self._came("ENTER")
            self._came("IDLE")
        elif state == "STOP" and not self._entered:
            # Our exit stops also what never started; their way to the end is from ENTER to IDLE to EXIT.
            state = "ENTER"
        self._entered = True
        self.life.log(f"Bus state: {state}")
        if state not in ("START", "STOP", "EXIT"):
            self.life.publish(state)

    def _step(self, state: str) -> None:
        """Publish a state from within our own step, so that a failure there counts."""
        if self.state == state:
            self.life.publish(state)
