"""What all tests share: the project's own tools can be imported, and real servers get a short-lived home."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# bench and tools are no installed packages; tests/process has the harness that interop and soak use as well, and
# tests/property the model of a store.
for _place in (ROOT, ROOT / "tests" / "process", ROOT / "tests" / "property"):
    if str(_place) not in sys.path:
        sys.path.insert(0, str(_place))


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty directory with a short name: the path of a unix socket has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="monsal-"))
    yield path
    shutil.rmtree(path)
