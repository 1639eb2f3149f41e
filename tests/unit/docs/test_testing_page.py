"""The tests that docs/testing.md shows pass against the application that `monsal new` makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "testing.md"
ORDERS = PAGE.parents[1] / "examples" / "orders"


def test_the_documented_play_is_played(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    play = next(block for block in blocks if "def test_an_order" in block)
    script = next(block for block in blocks if block.startswith("relay ="))
    (tmp_path / "conftest.py").write_text(next(block for block in blocks if "pytest_plugins" in block))
    body = "".join(f"    {line}\n" for line in script.splitlines())
    (tmp_path / "test_page.py").write_text(f"{play}\n\ndef test_the_script(mail):\n{body}")
    (tmp_path / "app.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ORDERS)!r})\n" + (ORDERS / "app.py").read_text(encoding="utf-8")
    )
    (tmp_path / "templates").symlink_to(ORDERS / "templates")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert "4 passed" in ended.stdout, ended.stdout + ended.stderr
