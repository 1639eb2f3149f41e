"""The loop of a server's sockets, in a thread of its own."""

from __future__ import annotations

import sys

import pytest

from monsal.life import _LoopThread


@pytest.mark.rule("bus.B5")
def test_it_runs_as_soon_as_it_is_there() -> None:
    """The bus refuses an async listener on a loop that does not run; on a busy machine that could end the start."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            made = _LoopThread()
            try:
                assert made.loop.is_running()
            finally:
                made.end()
    finally:
        sys.setswitchinterval(interval)
