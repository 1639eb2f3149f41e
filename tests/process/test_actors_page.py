"""The example at the top of docs/actors.md does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from bench.processes import ROOT, our_environment


def test_the_example_runs(home: Path) -> None:
    page = (ROOT / "docs" / "actors.md").read_text("utf-8")
    module, program = re.findall(r"```python\n(.*?)```", page, re.S)[:2]
    (expected,) = re.findall(r"```text\n(.*?)```", page, re.S)[:1]
    (home / "greetings.py").write_text(module)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=home, env=our_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == expected
