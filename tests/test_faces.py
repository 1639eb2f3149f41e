"""The faces of the packages: a name that comes late (PEP 562) is the one that a type checker sees, and no other is.

A face is an `__init__.py` with a table `_HOME` of names and the modules that define them.
"""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
WRONG = "nothing_of_the_kind"


def _face(path: Path) -> str:
    return ".".join(path.relative_to(SRC).parts[:-1])


def _homes(tree: ast.Module) -> dict[str, str] | None:
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "_HOME"
            and isinstance(node.value, ast.Dict)
        ):
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    return None


def _found() -> dict[str, tuple[ast.Module, dict[str, str]]]:
    faces = {}
    for path in sorted(SRC.rglob("monsal/**/__init__.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if (homes := _homes(tree)) is not None:
            faces[_face(path)] = tree, homes
    return faces


FACES = _found()
every_face = pytest.mark.parametrize("face", sorted(FACES))


def _fresh(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _typed(tree: ast.Module) -> dict[str, str]:
    """What a type checker alone sees imported: each name, with the module it comes from."""
    return {
        alias.asname or alias.name: node.module or ""
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_each_package_that_hands_names_out_has_a_table() -> None:
    late = [
        _face(path)
        for path in sorted(SRC.rglob("monsal/**/__init__.py"))
        if "__getattr__" in path.read_text(encoding="utf-8")
    ]
    assert len(late) > 10
    assert late == sorted(FACES)


@every_face
def test_a_type_checker_sees_the_names_of_the_table_and_no_getattr(face: str) -> None:
    tree, homes = FACES[face]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
            assert node not in tree.body, f"{face}: to a type checker, any name is there; hide __getattr__ from it"
    typed = _typed(tree)
    assert set(typed) == set(homes), f"{face}: the imports under TYPE_CHECKING and the table name different things"
    for name, module in typed.items():
        # The imports may name the package that offers it, the table the module that is loaded for it, and back.
        there, here = f"{module}.{name}", homes[name]
        if there != here:
            assert getattr(importlib.import_module(module), name) is getattr(importlib.import_module(here), name), name


@every_face
def test_each_name_comes_and_stays(face: str) -> None:
    module = importlib.import_module(face)
    _, homes = FACES[face]
    for name, home in homes.items():
        found = getattr(module, name)
        if f"{face}.{name}" == home:
            assert found is sys.modules[home]
        else:
            assert found is getattr(sys.modules[home], name)
            inner = f"{face.replace('.', '/')}/{name}"
            assert not (SRC / f"{inner}.py").exists(), f"{face}.{name}: also a module, which would take its place"
            assert not (SRC / inner).exists(), f"{face}.{name}: also a package, which would take its place"
        assert vars(module)[name] is found


@every_face
def test_a_star_and_dir_give_all_of_it(face: str) -> None:
    # In an interpreter of their own, where nothing was asked for before.
    listed = _fresh(f"import json, {face}; print(json.dumps(dir({face})))")
    taken = _fresh(f"import json\nfrom {face} import *\nprint(json.dumps(sorted(globals())))")
    offered = set(importlib.import_module(face).__all__)
    assert set(FACES[face][1]) <= offered
    assert offered <= set(json.loads(listed))
    assert offered <= set(json.loads(taken))


@every_face
def test_a_misspelled_name_is_an_error_that_says_where(face: str) -> None:
    module = importlib.import_module(face)
    with pytest.raises(AttributeError, match=f"^module '{face}' has no attribute '{WRONG}'$") as caught:
        getattr(module, WRONG)
    # From these Python makes its "Did you mean".
    assert (caught.value.name, caught.value.obj) == (WRONG, module)
    assert not hasattr(module, WRONG)
    done = subprocess.run(
        [sys.executable, "-c", f"from {face} import {WRONG}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert f"ImportError: cannot import name '{WRONG}' from '{face}'" in done.stderr


def test_a_misspelled_name_is_an_error_to_mypy(tmp_path: Path) -> None:
    lines: list[str] = []
    for face, (_, homes) in FACES.items():
        lines += [f"from {face} import {name}" for name in homes]
        lines += [f"from {face} import {WRONG}"]
    probe = tmp_path / "probe.py"
    probe.write_text("\n".join(lines) + "\n", encoding="utf-8")
    doors = [str(SRC.joinpath(*face.split("."), "__init__.py")) for face in FACES]
    done = subprocess.run(
        # The faces are read, and nothing behind them: what they import counts as there.
        [sys.executable, "-m", "mypy", "--follow-imports=skip", "--cache-dir=/dev/null", *doors, str(probe)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    blamed = [int(line.split(":")[1]) for line in done.stdout.splitlines() if line.startswith(f"{probe}:")]
    wrong = [number for number, line in enumerate(lines, 1) if line.endswith(f" {WRONG}")]
    assert (blamed, done.stdout.count(": error:")) == (wrong, len(wrong)), done.stdout + done.stderr


_AT_ONCE = """
import importlib, json, sys, threading

faces = json.loads(sys.argv[1])
asked = [(face, name) for face in faces for name in faces[face]]
answers, problems = [], []
start = threading.Barrier(8)

def ask(turn):
    start.wait()
    mine = {}
    # Each begins elsewhere, so that they meet in modules that others are in the middle of loading.
    for face, name in asked[turn * 61:] + asked[:turn * 61]:
        try:
            mine[face, name] = id(getattr(importlib.import_module(face), name))
        except BaseException as error:
            problems.append(f"{face}.{name}: {error!r}")
    answers.append(mine)

threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(8)]
sys.setswitchinterval(1e-5)
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not problems, problems[:5]
assert len(answers) == 8 and all(mine == answers[0] for mine in answers)
print(len(answers[0]))
"""


def test_threads_that_ask_at_once_get_the_same() -> None:
    asked = {face: sorted(homes) for face, (_, homes) in FACES.items()}
    assert int(_fresh(_AT_ONCE, json.dumps(asked))) == sum(map(len, asked.values()))


def test_the_bus_loads_nothing_else_of_the_house() -> None:
    loaded = _fresh("import sys, monsal.bus; print(*(name for name in sys.modules if name.startswith('monsal')))")
    others = [name for name in loaded.split() if name != "monsal" and not f"{name}.".startswith("monsal.bus.")]
    assert not others, f"import monsal.bus loads {others}"
