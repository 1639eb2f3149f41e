"""A bus that writes down what it says, and threads that are always joined."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from monsal.bus import Bus, State

#: How long a test waits for what is certain to come; only a failing test waits that long.
PATIENCE = 60.0


class LoggedBus(Bus):
    """A bus with its log lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []
        self.subscribe("log", lambda msg, level: self.lines.append((level, msg)))

    @property
    def said(self) -> list[str]:
        """The first line of each message."""
        return [text.splitlines()[0] for _, text in self.lines]

    def text_of(self, beginning: str) -> str:
        """The whole of the first message that begins so."""
        return next(text for _, text in self.lines if text.startswith(beginning))


@pytest.fixture
def bus() -> Iterator[LoggedBus]:
    made = LoggedBus()
    yield made
    if made.state is not State.EXITING:
        for channel in ("drain", "stop", "exit"):
            made.listeners[channel] = set()
        made.exit()


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], object]], threading.Thread]]:
    """Run something on another thread; it is joined when the test is over."""
    threads: list[threading.Thread] = []

    def run(work: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        threads.append(thread)
        thread.start()
        return thread

    yield run
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread.name} did not end"


def short(listener: Callable[[], object]) -> Callable[[], object]:
    """Give a listener that hangs little time; all others have the usual one, so a busy machine does not matter."""
    listener.limit = 0.2  # type: ignore[attr-defined] - functions take attributes
    return listener


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Something that a listener hangs on until the test is over."""
    event = threading.Event()
    yield event
    event.set()
