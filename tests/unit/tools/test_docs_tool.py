"""The tool that checks the documents must find each kind of untruth, and let the truth pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import docs

CODE = """
LIMIT = 3

class Spool:
    size: int = 0

    async def accept(self): ...

def free(): ...
"""
TRUE = """# The house

See [the way](docs/way.md), [its second part](docs/way.md#the-second-part), [above](#the-house), [out](https://x.org/a#b).
Read [`Spool.accept`](src/monsal/spool.py), [it](src/monsal/spool.py#accept), [a `free()` thing](src/monsal/spool.py),
`spool.py: Spool.accept, free`, `src/monsal/spool.py`, `spool.py: LIMIT`, `make test SECONDS=3` and `nothing.at: all`.

```
[not a link](nowhere.md) `src/nowhere.py`
```
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "src" / "monsal").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "src" / "monsal" / "spool.py").write_text(CODE)
    (tmp_path / "docs" / "way.md").write_text("# Way\n\n## The *second* part\n")
    (tmp_path / "Makefile").write_text("test: x ## run\n\ttrue\n")
    return tmp_path


def run(project: Path, text: str) -> int:
    (project / "README.md").write_text(text)
    return docs.main(["--root", str(project)])


def test_the_truth_passes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, TRUE) == 0, capsys.readouterr().out
    assert "2 documents" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("untruth", "complaint"),
    [
        ("[a](docs/gone.md)", "the link to docs/gone.md leads nowhere"),
        ("[a](../elsewhere)", "leads nowhere"),
        ("[a](docs/way.md#third)", "docs/way.md has no heading #third"),
        ("[a](#cellar)", "README.md has no heading #cellar"),
        ("![a](docs/gone.png)", "the picture docs/gone.png is not there"),
        ("[a](src/monsal/spool.py#L3)", "names a line, and lines move"),
        ("[a](src/monsal/spool.py#Spool.gone)", "src/monsal/spool.py does not define Spool.gone"),
        ("[`gone()`](src/monsal/spool.py)", "src/monsal/spool.py does not define gone"),
        ("`spool.py: free, gone`", "spool.py does not define gone"),
        ("`cellar.py: free`", "cellar.py is not there"),
        ("`src/monsal/cellar.py`", "src/monsal/cellar.py is not there"),
        ("`make coffee`", "the Makefile has no target coffee"),
    ],
)
def test_an_untruth_is_found(project: Path, capsys: pytest.CaptureFixture[str], untruth: str, complaint: str) -> None:
    assert run(project, f"# T\n\ntext {untruth} text\n") == 1
    out = capsys.readouterr().out
    assert out.startswith("README.md:3: ")
    assert complaint in out
