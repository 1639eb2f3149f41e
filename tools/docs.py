"""Do the documents tell the truth? `python -m tools.docs [FILE...]` checks what can be checked without reading.

In every *.md file of the project (or in those given), outside fenced code:

- a relative link leads to a file that is there, and its `#anchor` to a heading of it (GitHub's spelling);
- a link to a .py file names code by symbol, `[accept](../src/monsal/x.py#Spool.accept)`, never by line number, and the
  symbol is defined there; so is the first word of a link text in backticks;
- a reference in backticks like `conversation/spool.py: accept` names a file and something defined in it;
- a path in backticks that begins with a directory of the project is there, unless a server makes it (.../run/...);
- `make target` in backticks is a target of the Makefile.

Exit 1 if something is wrong; each line of the output is `file:line: what`.
"""

from __future__ import annotations

import argparse
import ast
import functools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

__all__ = ["check_file", "check_project", "documents", "main"]

ROOT = Path(__file__).resolve().parent.parent
#: Directories that hold no documents of ours.
FOREIGN = {
    ".git",
    ".venv",
    ".hypothesis",
    ".peers",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    "node_modules",
    "run",
}
#: Directories of the project that a path in backticks may begin with.
OURS = ("src", "tests", "tools", "bench", "docs", "examples", "requirements")

_LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]`]|`[^`]*`)*)\]\((?P<target>[^()\s]+)(?:\s+\"[^\"]*\")?\)")
_IMAGE = re.compile(r"!\[[^\]]*\]\((?P<target>[^()\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_REFERENCE = re.compile(r"(?P<path>[\w./-]+\.py):\s(?P<names>[A-Za-z_][\w.]*(?:,\s[A-Za-z_][\w.]*)*)")
_PATH = re.compile(rf"(?P<path>(?:{'|'.join(OURS)})/[\w./-]+)")
_MAKE = re.compile(r"make (?P<target>[a-z][\w-]*)(?: [A-Z_]+=\S*)*")


def documents(root: Path) -> list[Path]:
    """The *.md files of a project."""
    found = (path for path in root.rglob("*.md") if not FOREIGN & set(path.relative_to(root).parts))
    return sorted(found)


def check_project(root: Path) -> list[str]:
    """What is wrong in all documents below `root`."""
    return [problem for path in documents(root) for problem in check_file(path, root)]


def check_file(path: Path, root: Path) -> list[str]:
    """What is wrong in one document, as `file:line: what`."""
    problems = []
    for number, line in _prose(path.read_text(encoding="utf-8")):
        faults = [*_check_links(line, path, root), *_check_code(line, root)]
        problems += [f"{path.relative_to(root)}:{number}: {fault}" for fault in faults]
    return problems


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines outside fenced code."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence:
            yield number, line


def _check_links(line: str, path: Path, root: Path) -> Iterator[str]:
    for image in _IMAGE.finditer(line):
        if not re.match(r"[a-z]+:", image["target"]) and not (path.parent / image["target"]).is_file():
            yield f"the picture {image['target']} is not there"
    for link in _LINK.finditer(line):
        target, _, anchor = unquote(link["target"]).partition("#")
        if re.match(r"[a-z][a-z+.-]*:", target):
            continue
        file = (path.parent / target).resolve() if target else path
        if not file.exists():
            yield f"the link to {target} leads nowhere"
        elif not file.is_relative_to(root):
            yield f"the link to {target} leads out of the project"
        elif file.suffix == ".py":
            yield from _check_symbols(link["text"], anchor, file, root)
        elif anchor and file.suffix == ".md" and anchor not in _anchors(file):
            yield f"{file.relative_to(root)} has no heading #{anchor}"


def _check_symbols(text: str, anchor: str, file: Path, root: Path) -> Iterator[str]:
    if re.fullmatch(r"L\d+(-L\d+)?", anchor):
        yield f"the link to {file.relative_to(root)} names a line, and lines move; name the function: #name"
    elif anchor and anchor not in _symbols(file):
        yield f"{file.relative_to(root)} does not define {anchor}"
    elif not anchor and (code := re.fullmatch(r"`([A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\))?`", text)):
        name = code[1]
        if not name.endswith(".py") and name not in _symbols(file):
            yield f"{file.relative_to(root)} does not define {name}"


def _check_code(line: str, root: Path) -> Iterator[str]:
    for code in _CODE.findall(line):
        if reference := _REFERENCE.fullmatch(code):
            yield from _check_reference(reference["path"], reference["names"].split(", "), root)
        elif (found := _PATH.fullmatch(code)) and "/run/" not in code and not (root / found["path"]).exists():
            yield f"{found['path']} is not there"
        elif (make := _MAKE.fullmatch(code)) and make["target"] not in _targets(root):
            yield f"the Makefile has no target {make['target']}"


def _check_reference(name: str, symbols: Sequence[str], root: Path) -> Iterator[str]:
    places = (root, root / "src", root / "src" / "monsal")
    file = next((place / name for place in places if (place / name).is_file()), None)
    if file is None:
        yield f"{name} is not there"
        return
    for symbol in symbols:
        if symbol not in _symbols(file):
            yield f"{name} does not define {symbol}"


@functools.cache
def _symbols(file: Path) -> frozenset[str]:
    """What a source file defines: `name`, `Class.name`, and the bare names of methods."""
    found: set[str] = set()

    def visit(body: Sequence[ast.stmt], owner: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.update({node.name, owner + node.name})
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{owner}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = {target.id for target in targets if isinstance(target, ast.Name)}
                found.update(names if not owner else {owner + name for name in names})
            elif isinstance(node, ast.If | ast.Try):
                visit([*node.body, *node.orelse], owner)

    visit(ast.parse(file.read_text(encoding="utf-8")).body, "")
    return frozenset(found)


@functools.cache
def _anchors(file: Path) -> frozenset[str]:
    """The anchors that GitHub gives the headings of a document."""
    found: set[str] = set()
    for _, line in _prose(file.read_text(encoding="utf-8")):
        if heading := re.match(r"#{1,6}\s+(.*?)\s*#*$", line):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "").lower()
            slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            again = 0
            while (name := f"{slug}-{again}" if again else slug) in found:
                again += 1
            found.add(name)
        found.update(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", line))
    return frozenset(found)


@functools.cache
def _targets(root: Path) -> frozenset[str]:
    makefile = root / "Makefile"
    text = makefile.read_text(encoding="utf-8") if makefile.is_file() else ""
    return frozenset(re.findall(r"(?m)^([a-z][\w-]*):", text))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description="Check links and names in documents.")
    parser.add_argument("files", nargs="*", type=Path, help="documents; without any, all of the project")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    files = [path.resolve() for path in options.files] or documents(root)
    problems = [problem for path in files for problem in check_file(path, root)]
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(files)} documents: links and names are right")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
