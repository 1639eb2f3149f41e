"""The tool that holds rules and tests together must itself be able to fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tools import rules

BOOK = """
[routing]
R1 = "full match"
R2 = { title = "order of decorators", replaced_by = "B1" }
B1 = "marks only mark"
B2 = { title = "two databases", later = "postgres" }
"""
GOOD = """
import pytest

@pytest.mark.rule("routing.R1")
def test_one(): ...

class TestMarks:
    @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.rule("routing.B1"))])
    def test_two(self, x): ...
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "rules.toml").write_text(BOOK)
    (tests / "test_good.py").write_text(GOOD)
    contracts = tmp_path / "contracts"
    contracts.mkdir()
    (contracts / "routing.md").write_text("- R1 One\n- R2 Two, see R9\nText R3\n- B1 Three\n- B2 Four\n")
    return tmp_path


def run(project: Path, *arguments: str) -> int:
    return rules.main(["--tests", str(project / "tests"), "--contracts", str(project / "contracts"), *arguments])


def test_all_is_well(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "--strict") == 0
    out = capsys.readouterr().out
    assert "routing.R1: full match\n    tests/test_good.py::test_one\n" in out
    assert "tests/test_good.py::TestMarks::test_two" in out


def test_json_has_one_object_a_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == ["routing.R1", "routing.R2", "routing.B1", "routing.B2"]
    assert rows[1]["replaced_by"] == "B1"
    assert rows[3]["later"] == "postgres"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('rule("routing.R1")', 'rule("routing.R7")', "routing.R7, which is no rule"),
        ('rule("routing.R1")', 'rule("routing.B1")', "routing.R1 (full match): no test shows it"),
        ('rule("routing.B1")', 'rule("routing.R1")', "nor has routing.B1, which stands in its place"),
        ("def test_one", "def helper", "but is no test"),
    ],
)
def test_a_wrong_mark_fails(
    project: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, complaint: str
) -> None:
    (project / "tests" / "test_good.py").write_text(GOOD.replace(old, new))
    assert run(project) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('R1 = "full match"', 'R1 = { title = "full match", later = "compat" }', "only a B can be"),
        ('replaced_by = "B1"', 'replaced_by = "R1"', "only an R can be, and only by a B"),
        ('"full match"', '"' + "word " * 13 + '"', "its title has 13 words"),
        ('B1 = "marks only mark"\n', "", "in the contract, but not in tests/rules.toml"),
        ("[routing]", '[routing]\nB3 = "more"', "in tests/rules.toml, but not in the contract"),
    ],
)
def test_a_wrong_list_fails(
    project: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, complaint: str
) -> None:
    (project / "tests" / "rules.toml").write_text(BOOK.replace(old, new))
    assert run(project) == 1
    assert complaint in capsys.readouterr().err


def test_marks_may_run_ahead_of_a_contract_that_is_not_taken_up(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "tests" / "test_good.py").write_text(GOOD.replace('rule("routing.R1")', 'rule("routing.R1", "bus.R3")'))
    assert run(project) == 1
    assert "bus.R3, which is no rule" in capsys.readouterr().err
    (project / "tests" / "rules.toml").write_text('not_taken_up = ["bus"]\n' + BOOK)
    (project / "contracts" / "bus.md").write_text("- R3 Three\n")
    assert run(project) == 0
    (project / "contracts" / "bus.md").write_text("- R4 Four\n")
    assert run(project) == 1
    assert "bus.R3, which is in no contract" in capsys.readouterr().err


def test_a_b_without_test_fails_only_when_asked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "tests" / "rules.toml").write_text(BOOK + 'B3 = "a third"\n')
    (project / "contracts" / "routing.md").write_text("- R1 a\n- R2 b\n- B1 c\n- B2 d\n- B3 e\n")
    assert run(project) == 0
    assert "open: routing.B3" in capsys.readouterr().out
    assert run(project, "--strict") == 1
