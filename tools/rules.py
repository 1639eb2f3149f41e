"""Which test shows which rule of a contract: `python -m tools.rules [--json] [--strict]`.

The rules are listed in tests/rules.toml. A test shows a rule by `@pytest.mark.rule("routing.R17")`, on a function, a
class, a parameter set or, as `pytestmark`, on a module. Nothing is imported: marks are read from the source.

Exit 1 if a rule of the original (R) has neither a test nor a B in its place that has one, if a mark names an unknown
rule, or if the list differs from the contracts, where these are at hand. `--strict` asks the same of each B.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Book", "Rule", "collect_marks", "compare_with_contracts", "contracts_to_come", "judge", "main", "read_book"]

ROOT = Path(__file__).resolve().parent.parent
TITLE_WORDS = 12


@dataclass
class Rule:
    """One rule, and the tests that show it as `path::test`."""

    id: str
    title: str
    replaced_by: str | None = None
    later: str | None = None
    tests: list[str] = field(default_factory=list)

    @property
    def is_original(self) -> bool:
        """Whether it is a rule of the original design (R); the others (B) go beyond it."""
        return self.id.rpartition(".")[2].startswith("R")


Book = dict[str, Rule]


def read_book(path: Path, problems: list[str]) -> Book:
    """Read rules.toml; what is wrong with it is added to `problems`."""
    book: Book = {}
    paper = tomllib.loads(path.read_text(encoding="utf-8"))
    paper.pop("not_taken_up", None)
    for contract, rules in paper.items():
        for name, entry in rules.items():
            values: Mapping[str, str] = {"title": entry} if isinstance(entry, str) else entry
            rule = Rule(f"{contract}.{name}", values.get("title", ""), values.get("replaced_by"), values.get("later"))
            book[rule.id] = rule
            problems += [f"{rule.id}: {what}" for what in _faults(rule, name, values, rules)]
    return book


def contracts_to_come(path: Path) -> frozenset[str]:
    """The contracts that are not listed yet: tests may mark their rules ahead of time."""
    return frozenset(tomllib.loads(path.read_text(encoding="utf-8")).get("not_taken_up", ()))


def _faults(rule: Rule, name: str, values: Mapping[str, str], rules: Mapping[str, object]) -> Iterator[str]:
    if not re.fullmatch(r"[RB][1-9]\d*", name):
        yield "a rule is named R or B and a number"
    if not 0 < len(rule.title.split()) <= TITLE_WORDS:
        yield f"its title has {len(rule.title.split())} words; 1 to {TITLE_WORDS} are asked for"
    if unknown := set(values) - {"title", "replaced_by", "later"}:
        yield f"unknown entries {sorted(unknown)}"
    if rule.replaced_by and (not rule.is_original or rule.replaced_by[:1] != "B" or rule.replaced_by not in rules):
        yield f"is replaced by {rule.replaced_by}; only an R can be, and only by a B of the same contract"
    if rule.later and rule.is_original:
        yield "is put off; only a B can be"


def collect_marks(tests: Path) -> Iterator[tuple[str, str]]:
    """Each (rule id, `path::test`) marked in the test files below a directory."""
    for path in sorted(tests.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        name = str(path.relative_to(tests.parent))
        for parent, node in _walk(tree, ()):
            where = "::".join((name, *parent))
            for identifier in _marked(node):
                yield identifier, where


def _walk(node: ast.AST, parents: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ast.AST]]:
    """Each node with the names of the classes and functions that it stands in or decorates."""
    for child in ast.iter_child_nodes(node):
        inner = parents
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = (*parents, child.name)
        yield inner, child
        yield from _walk(child, inner)


def _marked(node: ast.AST) -> Iterator[str]:
    """The ids in a call `....mark.rule("...", ...)`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "rule"):
        return
    if isinstance(node.func.value, ast.Attribute) and node.func.value.attr == "mark":
        for argument in node.args:
            yield str(argument.value) if isinstance(argument, ast.Constant) else ast.unparse(argument)


def compare_with_contracts(book: Book, contracts: Path, marks: Sequence[tuple[str, str]] = ()) -> list[str]:
    """What differs between the list and the contracts: each `- R7 ...` there must be here, and the other way round.

    Marks that run ahead of the list must name rules of a contract too.
    """
    problems = []
    known = {contract.stem: contract.read_text(encoding="utf-8") for contract in contracts.glob("*.md")}
    for identifier, where in marks:
        contract, _, name = identifier.partition(".")
        if identifier not in book and not re.search(rf"(?m)^- {re.escape(name)} ", known.get(contract, "")):
            problems.append(f"{where}: marks {identifier}, which is in no contract")
    for contract in sorted({name.partition(".")[0] for name in book}):
        paper = contracts / f"{contract}.md"
        if not paper.is_file():
            problems.append(f"{contract}: there is no contract of this name")
            continue
        written = {f"{contract}.{name}" for name in re.findall(r"(?m)^- ([RB]\d+) ", paper.read_text(encoding="utf-8"))}
        listed = {name for name in book if name.startswith(f"{contract}.")}
        problems += [f"{name}: in the contract, but not in tests/rules.toml" for name in sorted(written - listed)]
        problems += [f"{name}: in tests/rules.toml, but not in the contract" for name in sorted(listed - written)]
    return problems


def judge(
    book: Book, marks: Sequence[tuple[str, str]], *, ahead: frozenset[str] = frozenset(), strict: bool = False
) -> list[str]:
    """Give each rule its tests and return what is wrong. Contracts in `ahead` are not listed, but may be marked."""
    problems = []
    for identifier, where in marks:
        names = where.split("::")[1:]
        if names and not any(name.lower().startswith("test") for name in names):
            problems.append(f"{where}: marks {identifier}, but is no test; mark the test that shows it")
        elif identifier.partition(".")[0] in ahead and re.fullmatch(r"\w+\.[RB][1-9]\d*", identifier):
            continue
        elif identifier in book:
            book[identifier].tests.append(where)
        else:
            problems.append(f"{where}: marks {identifier}, which is no rule; see tests/rules.toml")
    for rule in book.values():
        stand_in = book.get(f"{rule.id.partition('.')[0]}.{rule.replaced_by}") if rule.replaced_by else None
        if rule.tests or (stand_in and stand_in.tests) or rule.later:
            continue
        if rule.is_original or strict:
            says = f"; nor has {stand_in.id}, which stands in its place" if stand_in else ""
            problems.append(f"{rule.id} ({rule.title}): no test shows it{says}")
    return problems


def _print(book: Book) -> None:
    for rule in book.values():
        note = f" -> {rule.replaced_by}" if rule.replaced_by else f" (later: {rule.later})" if rule.later else ""
        print(f"{rule.id}{note}: {rule.title}")
        for test in rule.tests:
            print(f"    {test}")
    open_rules = [rule.id for rule in book.values() if not (rule.tests or rule.replaced_by or rule.later)]
    shown = sum(1 for rule in book.values() if rule.tests)
    print(f"\n{len(book)} rules, {shown} shown by tests" + (f"; open: {', '.join(open_rules)}" if open_rules else ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.rules", description="Each contract rule and its tests.")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--strict", action="store_true", help="ask for a test of each B too, unless it comes later")
    parser.add_argument("--contracts", type=Path, default=ROOT.parent / "shared" / "contracts", help=argparse.SUPPRESS)
    parser.add_argument("--tests", type=Path, default=ROOT / "tests", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    problems: list[str] = []
    book = read_book(options.tests / "rules.toml", problems)
    ahead = contracts_to_come(options.tests / "rules.toml")
    marks = list(collect_marks(options.tests))
    problems += judge(book, marks, ahead=ahead, strict=options.strict)
    if options.contracts.is_dir():
        problems += compare_with_contracts(book, options.contracts, marks)
    if options.json:
        for rule in book.values():
            row = {"id": rule.id, "title": rule.title, "replaced_by": rule.replaced_by, "later": rule.later}
            print(json.dumps({**row, "tests": rule.tests}))
    else:
        _print(book)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
