"""The plan of the house, held by tests: floors, cycles, sizes, and that importing does nothing (P9).

`ROOMS` below is the one place that says which room stands on which floor. Each failure names the line that breaks a
rule and says what to do about it.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
HOUSE = SRC / "monsal"

#: Room -> (floor, step). A room imports only from lower floors, or from a lower step of its own floor.
#: Rooms with the same numbers do not know each other.
ROOMS = {
    "errors": (0, 0),
    "address": (0, 1),
    "backoff": (0, 1),
    "clock": (0, 1),
    "forks": (0, 1),
    "ids": (0, 1),
    "late": (0, 1),
    "logline": (0, 1),
    "loops": (0, 1),
    "mail": (1, 0),
    "smtp": (1, 0),
    "wire": (1, 0),
    "routing": (1, 0),
    "store": (2, 0),
    "transport": (2, 0),
    "http": (2, 0),
    "bus": (2, 0),
    "conversation": (3, 0),
    "rpc": (3, 0),
    "actors": (3, 0),
    "ingress": (4, 0),
    "delivery": (4, 0),
    "config": (5, 0),
    "logs": (5, 0),
    "memory": (5, 0),
    "exposure": (5, 0),
    "control": (5, 1),
    "outline": (5, 1),
    "authentic": (5, 1),
    "engine": (5, 2),
    "gates": (5, 3),
    "web": (5, 4),
    "localview": (5, 5),
    "ownership": (5, 2),
    "progress": (5, 2),
    "troupe": (5, 2),
    "service": (5, 6),
    "app": (5, 3),
    "loading": (5, 4),
    "processes": (5, 7),
    "server": (5, 8),
    "account": (5, 9),
    "renewal": (5, 10),
    "life": (5, 11),
    "testing": (6, 0),
    "compat": (6, 0),
    "console": (6, 0),
    "cli": (6, 1),
}
#: Faces for others: nothing inside the house leans on them.
NOBODY_IMPORTS = {"testing", "compat"}
#: The pure floor has no socket, clock, randomness or await: those come in as arguments.
PURE = {room for room, (floor, _) in ROOMS.items() if floor == 1}
IMPURE_MODULES = {
    "asyncio": "the shell in ingress/ or delivery/ awaits; a pure object takes and gives bytes or events",
    "multiprocessing": "a pure object starts no process",
    "random": "take the random number as an argument",
    "secrets": "take the token as an argument",
    "select": "a pure object waits for nothing",
    "selectors": "a pure object waits for nothing",
    "socket": "a pure object takes and gives bytes",
    "ssl": "a pure object takes and gives bytes",
    "subprocess": "a pure object starts no process",
    "uuid": "take the id as an argument",
    "uvloop": "the loop is chosen by whoever starts the process",
}
#: Calls that read a clock or draw lots, whatever module they come from; what only converts a time is pure.
IMPURE_CALLS = {"now", "utcnow", "today", "make_msgid", "monotonic", "monotonic_ns", "perf_counter", "sleep", "time_ns"}
#: Modules that run code found in data. The shelf is an operator's own file and admits plain strings only (P8).
CODE_FROM_DATA = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}
SHELF = "monsal.store.states"

MODULE_LINES = 500
#: A function should fit a screen of 50 lines; ten more are borne, because cutting one in two for a line helps nobody.
FUNCTION_LINES = 60
PUBLIC_METHODS = 20
POSITIONAL = 5
#: A Store is one durable thing with many questions to it (DESIGN 2); its implementations have these methods as well.
STORE_CONTRACT = ("monsal.store.contract", "Store")
STORE_METHODS = 32


@dataclass(frozen=True)
class Import:
    """One import of one module, with the line where it stands."""

    target: str
    line: int


class Module:
    """One source file and what the tests ask of it."""

    def __init__(self, path: Path) -> None:
        parts = path.relative_to(SRC).with_suffix("").parts
        self.path = path
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text, str(path))

    @property
    def room(self) -> str:
        """The package or module directly below `monsal`; empty for the door itself."""
        return [*self.name.split("."), ""][1]

    def at(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"

    @functools.cached_property
    def imports(self) -> list[Import]:
        """All imports: at the top, inside functions, under TYPE_CHECKING, and by `import_module("...")`."""
        found: list[Import] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.extend(Import(alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                found.extend(Import(_deepest(base, alias.name), node.lineno) for alias in node.names)
            elif isinstance(node, ast.Call) and _called(node.func) in {"import_module", "__import__"} and node.args:
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    found.append(Import(name.value, node.lineno))
        return found

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        keep = len(parts) - node.level + (1 if self.is_package else 0)
        return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def _called(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _deepest(base: str, name: str) -> str:
    """`from base import name`: the module `base.name` if there is one, else `base`."""
    inner = SRC.joinpath(*base.split("."), name)
    return f"{base}.{name}" if inner.with_suffix(".py").is_file() or (inner / "__init__.py").is_file() else base


@functools.cache
def modules() -> dict[str, Module]:
    found = [Module(path) for path in sorted(HOUSE.rglob("*.py"))]
    return {module.name: module for module in found}


def inside() -> Iterator[Module]:
    """All modules but the door, `monsal/__init__.py`, which hands names out lazily and so may name any floor."""
    return (module for module in modules().values() if module.room)


def report(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(sorted(set(problems)))


def test_each_room_is_on_the_plan() -> None:
    report(
        [
            f"{module.at(1)}: the room `{module.room}` is not on the plan; give it a floor in ROOMS of this test"
            for module in inside()
            if module.room not in ROOMS
        ]
    )


def test_imports_go_down_only() -> None:
    problems = []
    for module in inside():
        for found in module.imports:
            top, _, rest = found.target.partition(".")
            room = rest.split(".")[0]
            if top != "monsal" or room == module.room:
                continue
            if not room:
                if "__version__" not in module.text.splitlines()[found.line - 1]:
                    problems.append(
                        f"{module.at(found.line)}: imports from `monsal` itself, the door for people outside; "
                        "import from the module that defines the name"
                    )
                continue
            if room in NOBODY_IMPORTS:
                problems.append(f"{module.at(found.line)}: imports `{room}`, which is for others; move what is needed")
            if ROOMS.get(room, (9, 9)) >= ROOMS.get(module.room, (9, 9)):
                problems.append(
                    f"{module.at(found.line)}: {module.room} (floor {ROOMS[module.room][0]}) imports {found.target} "
                    f"(floor {ROOMS.get(room, ('?',))[0]}); imports go down only: move what both need to a lower "
                    "floor, or have app.py hand it in"
                )
    report(problems)


def test_no_cycle_among_modules() -> None:
    graph = {
        module.name: sorted({found.target for found in module.imports if found.target in modules()} - {module.name})
        for module in inside()
    }
    done: set[str] = set()
    problems: list[str] = []

    def visit(name: str, way: list[str]) -> None:
        if name in way:
            circle = [*way[way.index(name) :], name]
            line = next(found.line for found in modules()[circle[-2]].imports if found.target == name)
            problems.append(
                f"{modules()[circle[-2]].at(line)}: closes the circle {' -> '.join(circle)}; move what both need into "
                "a module of its own"
            )
        elif name not in done:
            for target in graph.get(name, ()):
                visit(target, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    report(problems)


def test_the_bus_needs_the_standard_library_only() -> None:
    report(
        [
            f"{module.at(found.line)}: the bus imports {found.target}; it takes the standard library only, "
            "so that it can be used without the rest; give it an argument instead"
            for module in inside()
            if module.room == "bus"
            for found in module.imports
            if found.target.split(".")[0] not in sys.stdlib_module_names and not found.target.startswith("monsal.bus")
        ]
    )


def test_the_pure_floor_is_pure() -> None:
    problems = []
    for module in inside():
        if module.room not in PURE:
            continue
        for found in module.imports:
            remedy = IMPURE_MODULES.get(found.target.split(".")[0])
            if remedy:
                problems.append(f"{module.at(found.line)}: {module.room} is pure but imports {found.target}; {remedy}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                problems.append(f"{module.at(node.lineno)}: {module.room} is pure and cannot await; do it in the shell")
            elif isinstance(node, ast.Call) and (
                _called(node.func) in IMPURE_CALLS or ast.unparse(node) in {"time.time()", "time.gmtime()", "time()"}
            ):
                problems.append(
                    f"{module.at(node.lineno)}: {module.room} is pure but calls {_called(node.func)}(); "
                    "take the time or the id as an argument"
                )
    report(problems)


def test_nothing_unpickles_but_the_shelf() -> None:
    report(
        [
            f"{module.at(found.line)}: imports {found.target}, which can run code found in data (P8); use msgspec"
            for module in modules().values()
            for found in module.imports
            if found.target.split(".")[0] in CODE_FROM_DATA and module.name != SHELF
        ]
    )


def test_modules_are_small() -> None:
    problems = []
    for module in modules().values():
        lines = module.text.count("\n")
        if lines > MODULE_LINES:
            problems.append(f"{module.at(1)}: {lines} lines, at most {MODULE_LINES}; split it by what it is about")
        if module.name.rpartition(".")[2] in {"utils", "util", "helpers", "misc", "common"}:
            problems.append(f"{module.at(1)}: the name says nothing; name it after what it is about")
    report(problems)


def test_functions_are_small() -> None:
    problems = []
    for module in modules().values():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                problems.append(f"{module.at(node.lineno)}: {node.name} has {lines} lines, about 50 are enough; cut it")
            if any(_is_click(decorator) for decorator in node.decorator_list):
                continue  # click gives each option by its name
            positional = [
                arg.arg for arg in (*node.args.posonlyargs, *node.args.args) if arg.arg not in {"self", "cls"}
            ]
            if len(positional) > POSITIONAL:
                problems.append(
                    f"{module.at(node.lineno)}: {node.name} takes {len(positional)} positional parameters, at most "
                    f"{POSITIONAL}; make options keyword-only or put them into one record"
                )
    report(problems)


def _is_click(decorator: ast.expr) -> bool:
    """`@click.command(...)`, `@group.command(...)`"""
    return isinstance(decorator, ast.Call) and _called(decorator.func) in {"command", "group"}


def test_classes_are_small() -> None:
    contract_module, contract_class = STORE_CONTRACT
    contract = next(
        node
        for node in modules()[contract_module].tree.body
        if isinstance(node, ast.ClassDef) and node.name == contract_class
    )
    of_a_store = set(_public_methods(contract))
    problems = []
    if len(of_a_store) > STORE_METHODS:
        problems.append(
            f"{contract_module}: Store has {len(of_a_store)} methods, at most {STORE_METHODS}; ask less of it"
        )
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and len(own := set(_public_methods(node)) - of_a_store) > PUBLIC_METHODS:
                problems.append(
                    f"{module.at(node.lineno)}: {node.name} has {len(own)} public methods, at most {PUBLIC_METHODS}; "
                    "a part of it wants to be an object of its own"
                )
    report(problems)


def _public_methods(node: ast.ClassDef) -> list[str]:
    return [
        item.name
        for item in node.body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith("_")
    ]


def test_no_room_is_empty() -> None:
    """A room is opened when it is built (DESIGN 2): a package without a module of its own is a promise, not code."""
    problems = []
    for path in sorted(path for path in HOUSE.rglob("*") if path.is_dir() and path.name != "__pycache__"):
        inner = [item for item in path.iterdir() if item.suffix == ".py" and item.name != "__init__.py"]
        packages = [item for item in path.iterdir() if (item / "__init__.py").is_file()]
        data = [item for item in path.rglob("*") if item.is_file() and item.suffix not in {".py", ".pyc"}]
        if not inner and not packages and not data:
            problems.append(f"{path.relative_to(ROOT)}: nothing in it; open the room when something moves in")
        if (inner or packages) and not (path / "__init__.py").is_file():
            problems.append(f"{path.relative_to(ROOT)}: has modules but no __init__.py")
    report(problems)


def test_each_module_says_what_it_is() -> None:
    report(
        [
            f"{module.at(1)}: no docstring; say in a sentence what it is and where to start reading"
            for module in modules().values()
            if not ast.get_docstring(module.tree)
        ]
    )


def test_no_doubt_is_left_in_the_text() -> None:
    doubt = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    silenced = re.compile(r"#\s*(type:\s*ignore|noqa)(?P<code>\[[\w, -]+\]|:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?(?P<why>.*)")
    problems = []
    trees = [ROOT / name for name in ("src", "tests", "tools", "bench", "examples")]
    for path in sorted(path for tree in trees for path in tree.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where = f"{path.relative_to(ROOT)}:{number}"
            if found := doubt.search(line):
                problems.append(f"{where}: {found[0]}; do it, or write it down where the work is planned")
            if found := silenced.search(line):
                # Tests are not type-checked; there an ignore is for the reader's editor, and its code says enough.
                excused = found[1] != "noqa" and "tests" in path.relative_to(ROOT).parts
                if not (found["code"] and (excused or len(found["why"].strip(" #-:;,.")) > 3)):
                    problems.append(f"{where}: {found[1]} needs its code and a reason: # {found[1]}... - why")
    report(problems)


def test_no_test_is_skipped() -> None:
    """A skipped test says nothing; a promise is kept, or it is not made (docs/interface.md, make test)."""
    evasion = re.compile(r"pytest\.(skip|importorskip|xfail)\(|mark\.(skip|skipif|xfail)\b|unittest\.mock|MagicMock")
    problems = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path != Path(__file__):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if found := evasion.search(line):
                    where = f"{path.relative_to(ROOT)}:{number}"
                    problems.append(f"{where}: {found[0]}; make the test run, with a fake instead of a mock")
    report(problems)


# Importing does nothing: a fresh interpreter imports each module, lower floors first, and compares what it sees.
_WATCH = """
import gc, importlib, json, logging, os, signal, sys, threading, warnings

def fds():
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink("/proc/self/fd/" + fd)
        except FileNotFoundError:
            continue
    return {fd: where for fd, where in found.items() if not where.startswith("/proc/")}

def loggers():
    root = logging.getLogger()
    found = {"root": (root.level, len(root.handlers), logging.raiseExceptions, logging.root.manager.disable)}
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and (logger.level or logger.handlers or not logger.propagate):
            found[name] = (logger.level, [repr(handler) for handler in logger.handlers], logger.propagate)
    return found

def facts():
    return {
        "started a thread": [thread.name for thread in threading.enumerate()],
        "left a file or socket open": fds(),
        "installed a signal handler": {str(sig): repr(signal.getsignal(sig)) for sig in signal.valid_signals()},
        "changed the logging configuration": loggers(),
        "changed the warning filters": [repr(item) for item in warnings.filters],
        "changed the environment": dict(os.environ),
        "changed the working directory": os.getcwd(),
        "replaced a hook": [repr(sys.excepthook), repr(threading.excepthook), repr(sys.unraisablehook)],
    }

# What libraries do at their own import is theirs; it is done once here, before the watch begins.
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
before, problems = facts(), []
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except BaseException as error:
        problems.append(f"{name}: cannot be imported: {type(error).__name__}: {error}")
        continue
    after = facts()
    problems += [f"{name}: importing it {what}: {before[what]} -> {after[what]}; do it where the App is opened (P9)"
                 for what in before if before[what] != after[what]]
    before = after
print(json.dumps(problems))
"""


def _fresh(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _bottom_up() -> list[str]:
    """Module names so that each comes after those it imports: then a blame falls on the right one."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name not in modules():
            return
        seen.add(name)
        for found in modules()[name].imports:
            if found.target not in seen:
                visit(found.target)
        order.append(name)

    seen: set[str] = set()
    for name in sorted(modules(), key=lambda name: ROOMS.get(modules()[name].room, (9, 9))):
        visit(name)
    return order


def test_importing_does_nothing() -> None:
    foreign = {
        found.target
        for module in modules().values()
        for found in module.imports
        if found.target.split(".")[0] not in {*sys.stdlib_module_names, "monsal", "__future__"}
    }
    report(json.loads(_fresh(_WATCH, json.dumps(_bottom_up()), json.dumps(sorted(foreign)))))


_LOADED = """
import sys
before = set(sys.modules)
import {name}
for name in sorted(set(sys.modules) - before):
    where = getattr(sys.modules[name], "__file__", None) or ""
    print(name.split(".")[0], "foreign" if "site-packages" in where or "dist-packages" in where else "own")
"""


def test_the_bus_loads_no_third_party_module() -> None:
    loaded = [line.split() for line in _fresh(_LOADED.format(name="monsal.bus")).splitlines()]
    report(
        [
            f"import monsal.bus loads {name}, which is not of the standard library"
            for name, whose in loaded
            if whose == "foreign"
        ]
    )


def test_the_door_is_light() -> None:
    loaded = {line.split()[0] for line in _fresh(_LOADED.format(name="monsal")).splitlines()}
    heavy = loaded & {"apsw", "asyncio", "click", "jinja2", "logging", "msgspec", "rich", "ssl", "uvloop"}
    report([f"import monsal loads {name}; names are handed out when they are first asked for" for name in heavy])
