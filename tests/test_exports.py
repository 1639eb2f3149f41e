"""What a module offers, it offers on purpose: `__all__` is there, sorted, true and complete.

A package that others import from offers what its modules offer, or a part of it, and nothing that is not there.
The names that docs/interface.md promises to the outside import.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

#: Entry points: they are run, not imported from.
PROGRAMS = {"__main__"}
#: Packages whose `__init__` must offer all that their modules offer.
WHOLE = {"monsal.bus", "monsal.routing", "monsal.smtp"}


def _names() -> Iterator[str]:
    for path in sorted(SRC.rglob("monsal/**/*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        if parts[-1] not in PROGRAMS:
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _path(name: str) -> Path:
    base = SRC.joinpath(*name.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _declared(tree: ast.Module) -> tuple[int, list[str] | None]:
    """The line of `__all__` and its names; None for the names if it is not a plain list of texts."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                try:
                    return node.lineno, list(ast.literal_eval(node.value))
                except ValueError:
                    return node.lineno, None
    return 0, None


def _public_definitions(tree: ast.Module) -> set[str]:
    """Functions and classes that the module itself defines under a public name.

    Not the commands that it adds to a group of the command line: those are called by their names there.
    """
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            if not any(re.match(r"(?!click\b)\w+\.command\(", decorator) for decorator in decorators):
                found.add(node.name)
    return found


def _is_sorted(names: list[str]) -> bool:
    """In plain order, or in that of ruff's RUF022: constants, then classes, then the rest, digits as numbers."""

    def rank(name: str) -> tuple[int, list[tuple[int, int | str]]]:
        kind = 0 if name.isupper() else 1 if name[:1].isupper() else 2
        return kind, [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]

    plain = [name for name in names if not name.startswith("__")]
    return len(set(names)) == len(names) and plain in (sorted(plain), sorted(plain, key=rank))


@pytest.mark.parametrize("name", list(_names()))
def test_a_module_says_what_it_offers(name: str) -> None:
    path = _path(name)
    where = path.relative_to(ROOT)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    line, declared = _declared(tree)
    if not line and path.name == "__init__.py" and len(tree.body) == 1 and ast.get_docstring(tree):
        return  # a door without a counter: it only says what is behind it
    assert line, f"{where}: has no __all__; list what others may use"
    module = importlib.import_module(name)
    offered = list(module.__all__)
    assert _is_sorted(offered), f"{where}:{line}: __all__ is not sorted, or names something twice"
    missing = [item for item in offered if not hasattr(module, item)]
    assert not missing, f"{where}:{line}: __all__ names {missing}, which are not there"
    # An empty list says that all of it is for its own package.
    if declared is not None and offered:
        hidden = sorted(_public_definitions(tree) - set(offered))
        assert not hidden, f"{where}:{line}: {hidden} are public but not in __all__; list them or start them with _"


@pytest.mark.parametrize("package", sorted(name for name in WHOLE if _path(name).is_file()))
def test_a_package_offers_what_its_modules_offer(package: str) -> None:
    offered = set(importlib.import_module(package).__all__)
    inner = [name for name in _names() if name.rpartition(".")[0] == package]
    lacking = {
        f"{item} of {name}"
        for name in inner
        for item in getattr(importlib.import_module(name), "__all__", ())
        if item not in offered
    }
    assert not lacking, f"{_path(package).relative_to(ROOT)}: does not offer {sorted(lacking)}"


def _promised() -> dict[str, list[str]]:
    """The names of the paragraph **Python.** of docs/interface.md, by module."""
    text = (ROOT / "docs" / "interface.md").read_text(encoding="utf-8")
    paragraph = re.search(r"^\*\*Python\.\*\*(.*?)(?:\n\n|\Z)", text, re.S | re.M)
    assert paragraph, "docs/interface.md: no paragraph **Python.**"
    flat = " ".join(paragraph[1].split())
    found: dict[str, list[str]] = {}
    for module, names in re.findall(r"`from (\S+) import ([^`]+)`", flat) + re.findall(
        r"`(monsal\.\w+): ([^`]+)`", flat
    ):
        found.setdefault(module, []).extend(item.strip() for item in names.split(","))
    return found


def _has(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name)
    except ImportError:
        return False


def test_what_the_interface_promises_can_be_imported() -> None:
    problems = []
    for module, names in _promised().items():
        if module != "monsal" and not _path(module).is_file():
            continue  # a room that is not opened yet promises nothing
        lacking = [name for name in names if not _has(module, name)]
        problems += [f"docs/interface.md promises {module}.{name}, which is not there" for name in lacking]
    assert not problems, "\n" + "\n".join(problems)


def test_the_door_hands_out_every_name_it_lists() -> None:
    door = importlib.import_module("monsal")
    lacking = [name for name in door.__all__ if not hasattr(door, name)]
    assert not lacking, f"src/monsal/__init__.py: lists {lacking}, which cannot be had"
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_the_kind'"):
        _ = door.nothing_of_the_kind
