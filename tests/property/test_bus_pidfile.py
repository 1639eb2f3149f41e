"""Whatever is done to a PID file, by those who want it and by others: one has it at most, and it says who (B14)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from monsal.bus import PIDFileHeld, PIDLock

LOCKS = st.integers(0, 2)
#: What others may leave in the file: the last is nobody's, the largest that Linux gives is 2**22.
TEXTS = st.sampled_from([b"", b"1", b"garbage\n", b"999999999\n"])


class TakersOfOneFile(RuleBasedStateMachine):
    """Three who want the file, and somebody who meddles with it. `holder` has the one that is there now."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="monsal-test-")
        self.path = Path(self.directory.name) / "server.pid"
        self.locks = [PIDLock(self.path) for _ in range(3)]
        self.holder: int | None = None
        #: What is in a file that nobody has; None if there is no file.
        self.stale: bytes | None = None

    def teardown(self) -> None:
        for lock in self.locks:
            lock.give_back()
        self.directory.cleanup()

    @rule(number=LOCKS)
    def take(self, number: int) -> None:
        lock = self.locks[number]
        if lock.held:
            assert lock.take() is None
        elif self.holder is not None:
            with pytest.raises(PIDFileHeld) as caught:
                lock.take()
            assert caught.value.pid == os.getpid()
        else:
            before = lock.read()
            expected = None if self.stale is None or before == os.getpid() else before or 0
            assert lock.take() == expected
            self.holder, self.stale = number, None

    @rule(number=LOCKS)
    def give_back(self, number: int) -> None:
        ours = self.holder == number
        assert self.locks[number].give_back() == ("removed" if ours else "left")
        if ours:
            self.holder = None

    @rule(number=LOCKS)
    def crash(self, number: int) -> None:
        """The process ends as by kill -9: its descriptors are closed, and that is all."""
        lock = self.locks[number]
        if lock._descriptor is not None:
            os.close(lock._descriptor)
            lock._descriptor = None
        if self.holder == number:
            self.holder, self.stale = None, b"%d\n" % os.getpid()

    @rule()
    def somebody_removes_it(self) -> None:
        self.path.unlink(missing_ok=True)
        self.holder = self.stale = None

    @rule(text=TEXTS)
    def somebody_replaces_it(self, text: bytes) -> None:
        other = self.path.with_name("other")
        other.write_bytes(text)
        other.rename(self.path)
        self.holder, self.stale = None, text

    @precondition(lambda self: self.holder is None and self.stale is not None)
    @rule(text=TEXTS)
    def somebody_writes_it(self, text: bytes) -> None:
        self.path.write_bytes(text)
        self.stale = text

    @invariant()
    def the_file_says_who_has_it(self) -> None:
        found = self.path.read_bytes() if self.path.exists() else None
        assert found == (self.stale if self.holder is None else b"%d\n" % os.getpid())
        assert {entry.name for entry in self.path.parent.iterdir()} <= {"server.pid"}


TestTakersOfOneFile = pytest.mark.rule("bus.B14")(TakersOfOneFile.TestCase)
TestTakersOfOneFile.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
