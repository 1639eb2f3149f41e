"""The example of docs/storages.md is a storage, as it is written there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "storages.md"


@pytest.mark.rule("state.R26")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_documented_storage_passes_the_kit(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    storage = next(block for block in blocks if "class TableStorage" in block)
    check = next(block for block in blocks if "check_storage" in block)
    names: dict[str, object] = {}
    exec(storage, names)  # noqa: S102 - the page is ours, and that it runs is what is tested
    exec(check.replace('"run/test-states.db"', repr(str(tmp_path / "states.db"))), names)  # noqa: S102 - as above
