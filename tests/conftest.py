"""What all tests share: the project's own tools, what Hypothesis tries, a short-lived home for real servers."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
# bench and tools are no installed packages; tests/process has the harness that interop and soak use as well, and
# tests/property the model of a store.
for _place in (ROOT, ROOT / "tests" / "process", ROOT / "tests" / "property"):
    if str(_place) not in sys.path:
        sys.path.insert(0, str(_place))

# The same examples in each run, wherever it is: what breaks a test is then the change that is tested, and not luck.
# `make soak` searches: other examples each time. No time is measured in either.
settings.register_profile(
    "same",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("search", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("search" if os.environ.get("MONSAL_SEARCH") else "same")

# A shell has what runs in its background ignore these (POSIX, 2.11), and `nohup` the hangup; that is inherited by the
# programs that tests start, which would wait for ever for a signal that never comes.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty directory with a short name: the path of a unix socket has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="monsal-"))
    yield path
    shutil.rmtree(path)
