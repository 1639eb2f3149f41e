"""Commands that need the application's own code: a new one, its routes, its states; and code that is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import ANN, Invoke

from monsal.cli.loading import load_app, store_url
from monsal.cli.new import package_name
from monsal.errors import UsageError

HANDLERS = """
from monsal import route, stateless

@route("log-(word)@(host)", word="[a-z]+")
@stateless
def LOG(message, word): ...

@route("desk@(host)")
def START(message): return ASKED

@route("desk@(host)")
def ASKED(message): return START
"""
APP = """
from monsal import App, literal
app = App("{name}", captures={{"host": literal("example.com")}})
"""


@pytest.fixture
def project(home: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An application whose handlers' module is called as no other test's; forgotten afterwards."""
    name = f"handlers_{abs(hash(request.node.nodeid))}"
    (home / f"{name}.py").write_text(HANDLERS)
    (home / "app.py").write_text(APP.format(name=name))
    before = sys.path[:]
    yield home
    sys.path[:] = before
    for module in ("app", name):
        sys.modules.pop(module, None)


def handlers_of(project: Path) -> Path:
    [path] = project.glob("handlers_*.py")
    return path


def add_unreachable_state(project: Path) -> None:
    """Write a handler that no other one names, and have the application imported anew."""
    path = handlers_of(project)
    path.write_text(path.read_text() + '\n@route("desk@(host)")\ndef NEVER(message): ...\n')
    sys.modules.pop("app", None)
    sys.modules.pop(path.stem, None)


# -- new


def test_a_new_application_works_and_its_own_tests_pass(home: Path, invoke: Invoke) -> None:
    made = home / "desk"
    result = invoke("new", made)
    assert result.exit_code == 0
    assert f"monsal run --dir {made}" in result.stdout
    assert {path.name for path in made.iterdir()} >= {
        "app.py", "desk", "monsal.toml", "README.md", "templates", "tests", ".gitignore",
    }  # fmt: skip
    assert not [path for path in made.rglob("*") if path.is_file() and "@@" in path.read_text()]
    for arguments in (["-m", "pytest", "-q", "-p", "no:cacheprovider"], ["-m", "monsal.cli", "routes", "--check"]):
        ended = subprocess.run(
            [sys.executable, *arguments], cwd=made, capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_exists_is_not_written_over(home: Path, invoke: Invoke, what: str) -> None:
    (home / "desk").mkdir()
    (home / "desk" / "thesis.txt").write_text("ten years of work")
    result = invoke("new", home / "desk" if what == "directory" else home / "desk" / "thesis.txt")
    assert result.exit_code == 73
    assert "not empty" in result.stderr
    assert [path.name for path in (home / "desk").iterdir()] == ["thesis.txt"]


def test_an_empty_directory_is_fine_and_one_that_cannot_be_made_is_not(home: Path, invoke: Invoke) -> None:
    (home / "empty").mkdir()
    assert invoke("new", home / "empty").exit_code == 0
    assert invoke("new", home / "empty" / "app.py" / "below").exit_code == 73


@pytest.mark.parametrize(
    ("name", "package"),
    [("desk", "desk"), ("Help-Desk", "help_desk"), ("app", "orders"), ("email", "orders"), ("1st", "orders"),
     ("class", "orders"), ("tests", "orders"), ("bür", "orders"), ("with space", "orders")],
)  # fmt: skip
def test_the_package_is_called_like_the_directory_if_it_can_be(name: str, package: str) -> None:
    assert package_name(name) == package


# -- routes


def test_routes_in_order(project: Path, invoke: Invoke) -> None:
    rows = [json.loads(line) for line in invoke("routes", "--json", "--dir", project).stdout.splitlines()]
    assert [row["format"] for row in rows] == ["log-(word)@(host)", "desk@(host)"]
    assert rows[0]["marks"] == ["stateless"]
    assert [name.rpartition(":")[2] for name in rows[1]["handlers"]] == ["START", "ASKED"]
    assert rows[1]["example"] == "desk@example.com"
    assert "desk@(host)" in invoke("routes", "--dir", project).stdout


def test_what_an_address_matches(project: Path, invoke: Invoke) -> None:
    result = invoke("routes", "--test", "LOG-tea@example.com", "--dir", project)
    assert result.exit_code == 0
    assert "word=tea" in result.stdout
    [row] = [
        json.loads(line)
        for line in invoke("routes", "--test", "log-tea@example.com", "--json", "--dir", project).stdout.splitlines()
    ]
    assert row["captures"] == {"word": "tea", "host": "example.com"}
    none = invoke("routes", "--test", "nobody@example.com", "--dir", project)
    assert none.exit_code == 1
    assert "matches no route" in none.stdout


def test_an_application_that_leaves_mail_without_a_handler_is_fit_and_told_so(project: Path, invoke: Invoke) -> None:
    assert "not be meant so" not in invoke("run", "--check", "--dir", project).stdout
    add_unreachable_state(project)
    result = invoke("run", "--check", "--dir", project)
    assert result.exit_code == 0
    assert "1 thing about the routes may not be meant so: `monsal routes --check" in result.stdout


def test_a_wrong_template_is_found_before_anything_is_opened(project: Path, invoke: Invoke) -> None:
    (project / "templates").mkdir(exist_ok=True)
    (project / "templates" / "new.txt").write_text("Hello\n{% if x %}")

    result = invoke("run", "--check", "--dir", project)

    assert result.exit_code == 64
    assert "new.txt, line 2: " in result.stderr


@pytest.mark.rule("routing.B22")
def test_findings_end_with_1(project: Path, invoke: Invoke) -> None:
    assert invoke("routes", "--check", "--dir", project).exit_code == 0
    add_unreachable_state(project)
    result = invoke("routes", "--check", "--dir", project)
    assert result.exit_code == 1
    assert "warning: " in result.stdout
    assert "NEVER" in result.stdout
    found = [json.loads(line) for line in invoke("routes", "--check", "--json", "--dir", project).stdout.splitlines()]
    assert "unreachable_state" in {finding["kind"] for finding in found}


# -- states, which the application knows


def test_a_state_that_nobody_handles_is_not_set(project: Path, stocked: Path, invoke: Invoke) -> None:
    key = handlers_of(project).stem
    wrong = invoke("states", "set", key, ANN, "NOWHERE", "--dir", project)
    assert wrong.exit_code == 64
    assert "it has ASKED, START" in wrong.stderr
    unknown = invoke("states", "set", "nomachine", ANN, "ASKED", "--dir", project)
    assert unknown.exit_code == 1
    assert "there is no machine 'nomachine'" in unknown.stderr
    assert "--force sets it all the same" in unknown.stderr
    assert invoke("states", "set", key, ANN, "ASKED", "--dir", project).exit_code == 0
    assert invoke("states", "rename", key, "ASKED", "NOWHERE", "--dir", project).exit_code == 64


def test_a_key_that_nobody_has_is_not_made_by_a_slip(project: Path, stocked: Path, invoke: Invoke) -> None:
    path = handlers_of(project)
    generator = """
@state_key_generator(shared=True)
def KEY(module, message):
    return module + ":7"
"""
    path.write_text(HANDLERS.replace("import route", "import route, state_key_generator") + generator)
    key = f"{path.stem}:7"
    slip = invoke("states", "set", f"{path.stem}:8", "", "ASKED", "--dir", project)
    assert slip.exit_code == 1
    assert "--force" in slip.stderr
    assert invoke("states", "set", key, "", "ASKED", "--force", "--dir", project).exit_code == 0
    moved = invoke("states", "set", key, "", "ASKED", "--dir", project)
    assert (moved.exit_code, moved.stderr) == (0, "")
    lost = invoke("states", "set", key, ANN, "ASKED", "--dir", project)
    assert lost.exit_code == 0
    assert "all correspondents share" in lost.stderr
    assert path.stem in invoke("states", "show", path.stem, "--dir", project).stdout


@pytest.mark.rule("routing.B8")
def test_orphans_are_states_without_a_function(project: Path, stocked: Path, invoke: Invoke) -> None:
    key = handlers_of(project).stem
    assert invoke("states", "set", key, ANN, "ASKED", "--dir", project).exit_code == 0
    assert invoke("states", "set", key, "bob@example.net", "RENAMED", "--force", "--dir", project).exit_code == 0
    rows = [json.loads(line) for line in invoke("states", "orphans", "--json", "--dir", project).stdout.splitlines()]
    # "orders" is the machine of the store's own past: no module of that name is loaded.
    assert {(row["key"], row["state"]) for row in rows} == {("orders", "ASKED"), (key, "RENAMED")}


@pytest.mark.rule("routing.B8", "state.B7")
def test_a_state_is_renamed_for_all_machines_or_for_one(project: Path, stocked: Path, invoke: Invoke) -> None:
    key = handlers_of(project).stem
    for machine, sender in ((key, ANN), (key, "bob@example.net"), ("lost", ANN)):
        invoke("states", "set", machine, sender, "PICKED", "--force", "--dir", project)
    dry = invoke("states", "rename", "PICKED", "ASKED", "--force", "--dry-run", "--dir", project)
    assert dry.exit_code == 0
    assert f"2 conversations of {key} " in dry.stdout
    assert "1 conversation of lost " in dry.stdout
    assert "nothing was changed; 3 conversations" in dry.stdout
    # "lost" is nobody's machine: that is asked about, and nothing was changed.
    assert invoke("states", "rename", "PICKED", "ASKED", "--dir", project).exit_code == 64
    one = invoke("states", "rename", key, "PICKED", "ASKED", "--dir", project)
    assert one.stdout == "2 conversations are now in ASKED\n"
    every = invoke("states", "rename", "PICKED", "ASKED", "--force", "--dir", project)
    assert every.stdout == "1 conversation is now in ASKED\n"
    assert invoke("states", "rename", "PICKED", "ASKED", "--dir", project).exit_code == 1
    assert invoke("states", "rename", "PICKED", "--dir", project).exit_code == 64


# -- code that cannot be used


@pytest.mark.parametrize(
    ("app", "says", "trace"),
    [
        (None, "there is no app.py", None),
        ("x = 1 / 0", "cannot be imported: ZeroDivisionError", "x = 1 / 0"),
        ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'", "import nowhere_to_be_found"),
        ("def broken(:", "SyntaxError", "def broken(:"),
        ("other = 1", "app is not there", None),
        ("app = 1", "app is no App", None),
        ('from monsal import App\napp = App("nowhere_to_be_found")', "nowhere_to_be_found", None),
        ('from monsal import App\napp = App("x", relai="smtp://x")', "did you mean relay?", None),
    ],
)
def test_an_application_that_cannot_be_used(
    project: Path, invoke: Invoke, app: str | None, says: str, trace: str | None
) -> None:
    if app is None:
        (project / "app.py").unlink()
    else:
        (project / "app.py").write_text(app)
    result = invoke("run", "--dir", project)
    assert result.exit_code == 64
    assert says in result.stderr
    if trace is not None:
        assert trace in result.stderr
        assert "importlib" not in result.stderr
        assert "loading.py" not in result.stderr


@pytest.mark.parametrize("target", ["app", ":app", "app:", ""])
def test_a_target_that_is_none(home: Path, target: str) -> None:
    with pytest.raises(UsageError, match="MODULE:NAME"):
        load_app(home, target)


def test_each_directory_has_its_own_app(project: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.format(name="elsewhere"))
    assert load_app(project) is not load_app(tmp_path)
    assert load_app(project) is load_app(project)


def test_a_broken_application_can_be_looked_at(project: Path, stocked: Path, invoke: Invoke) -> None:
    (project / "app.py").write_text("raise RuntimeError('at night')")
    result = invoke("dead", "--json", "--dir", project)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1


def test_the_store_may_be_told_by_the_application(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "app.py").write_text('from monsal import App\napp = App("x", store="sqlite:///else.db")\n')
    assert store_url(project) == "sqlite:///else.db"
    monkeypatch.setenv("MONSAL_STORE", "sqlite:///env.db")
    assert store_url(project) == "sqlite:///env.db"
