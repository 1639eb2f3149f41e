"""Random trees of supervisors, scripts of what happens to them, and what our `Supervisor` makes of it.

A script can be told to three judges: to `Ours` here, which carries out the actions of `monsal.actors.policy`, to the
model of tests/property/test_actors_supervision.py, and to Erlang/OTP (tests/interop). Each writes down all starts and
stops in order, the results of calls, and what lives in the end; all three must write the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from monsal.actors import Child, Escalate, Exit, ExitKind, Phase, Policy, Refused, Start, Stop, Supervisor, Up

CRASH = Exit(kind=ExitKind.EXIT, code=1)
CAUSES = {
    "normal": Exit(kind=ExitKind.NORMAL, code=0),
    "shutdown": Exit(kind=ExitKind.SHUTDOWN, code=0),
    "crash": CRASH,
    "kill": Exit(kind=ExitKind.SIGNAL, signal=9),
}
#: A period in which all of a script happens, and one that a `wait` passes; seconds.
LONG, SHORT, PASSES = 3600, 5, 6.2


@dataclass(frozen=True)
class Worker:
    """A child that does as it is told: `starts` has the outcomes of its starts, `ok` after these.

    When it starts for the n-th time it takes `on_start` with that n with it, when it stops all of `on_stop`.
    """

    id: str
    restart: str
    shutdown: int | None
    significant: bool
    starts: tuple[str, ...] = ()
    on_start: tuple[tuple[int, str], ...] = ()
    on_stop: tuple[str, ...] = ()

    def erlang(self) -> str:
        shutdown = {0: "brutal_kill", None: "infinity"}.get(self.shutdown, f"{(self.shutdown or 0) * 1000}")
        on_start = ",".join(f"{{{number},{victim}}}" for number, victim in self.on_start)
        return (
            f"{{worker,{self.id},{self.restart},{shutdown},{_atom(self.significant)},[{','.join(self.starts)}],"
            f"[{on_start}],[{','.join(self.on_stop)}]}}"
        )


@dataclass(frozen=True)
class Tree:
    """A supervisor and its children."""

    id: str
    restart: str
    strategy: str
    intensity: int
    period: int
    auto: str
    significant: bool
    children: tuple[Worker | Tree, ...]
    shutdown: None = None

    def erlang(self) -> str:
        children = ",".join(child.erlang() for child in self.children)
        return (
            f"{{sup,{self.id},{self.restart},{self.strategy},{self.intensity},{self.period},{self.auto},"
            f"{_atom(self.significant)},[{children}]}}"
        )


def _atom(value: bool) -> str:
    return "true" if value else "false"


Event = tuple[Any, ...]


@dataclass(frozen=True)
class Script:
    """A tree, and what happens to it."""

    number: int
    tree: Tree
    events: tuple[Event, ...]

    def erlang(self) -> str:
        return f"{{script,{self.number},{self.tree.erlang()},[{','.join(map(erlang_event, self.events))}]}}."


def erlang_event(event: Event) -> str:
    """The event as a term of Erlang, which is also how it is written down."""
    match event:
        case ("wait", seconds):
            return f"{{wait,{round(seconds * 1000)}}}"
        case ("die", name, victims):
            return f"{{die,{name},[{','.join(f'{{{victim},{reason}}}' for victim, reason in victims)}]}}"
        case ("add", name, child):
            return f"{{add,{name},{child.erlang()}}}"
        case (what, name, victim):
            return f"{{{what},{name},{victim}}}"
    return str(event[0])


def random_script(draw: Random, number: int, *, waits: bool = False) -> Script:
    """A script that depends on `draw` only. With `waits`, time passes in it and periods are short."""
    return _Writer(draw, waits).script(number)


class _Writer:
    def __init__(self, draw: Random, waits: bool) -> None:
        self.draw = draw
        self.waits = waits
        self.names = 0
        self.workers: list[tuple[str, str]] = []
        self.trees: list[tuple[str, str]] = []

    def script(self, number: int) -> Script:
        tree = self.tree("permanent", "never", depth=0, parent="")
        count = self.draw.randint(3, 12)
        events: list[Event] = [self.event() for _ in range(count)]
        if self.waits:
            for _ in range(self.draw.randint(1, 2)):
                events.insert(self.draw.randrange(len(events)), ("wait", PASSES))
        if self.draw.random() < 0.7:
            events.append(("stop",))
        return Script(number, tree, tuple(events))

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def restart(self) -> str:
        return self.draw.choice(("permanent", "permanent", "transient", "temporary"))

    def is_significant(self, restart: str, auto: str) -> bool:
        return auto != "never" and restart != "permanent" and self.draw.random() < 0.6

    def tree(self, restart: str, auto_of_parent: str, *, depth: int, parent: str) -> Tree:
        draw, name = self.draw, self.name("s")
        auto = draw.choice((*("never",) * 5, "any_significant", "all_significant", "all_significant"))
        self.trees.append((parent, name))
        # Two supervisors that work at the same time write in no order: then no child may take another with it.
        nested = depth < 2 and draw.random() < 0.5
        children: list[Worker | Tree] = []
        for _ in range(draw.randint(0 if depth else 1, 4)):
            kind = self.restart()
            if nested and draw.random() < 0.5:
                children.append(self.tree(kind, auto, depth=depth + 1, parent=name))
            else:
                siblings = [child.id for child in children if isinstance(child, Worker)]
                children.append(self.worker(kind, auto, name, siblings if depth == 0 and not nested else []))
        return Tree(
            id=name,
            restart=restart,
            strategy=draw.choice(("one_for_one", "one_for_all", "rest_for_one")),
            intensity=draw.choice((0, 1, 1, 3, 5, 8, 12)),
            period=SHORT if self.waits else LONG,
            auto=auto,
            significant=self.is_significant(restart, auto_of_parent),
            children=tuple(children),
        )

    def worker(self, restart: str, auto: str, parent: str, siblings: Sequence[str]) -> Worker:
        draw, name = self.draw, self.name("w")
        self.workers.append((parent, name))
        # Most trees come up, and then starts fail often enough that one fails while others wait.
        first = draw.choices(("ok", "fail", "ignore"), (40, 1, 1))
        starts = (*first, *draw.choices(("ok", "fail", "ignore"), (5, 4, 1), k=draw.randint(0, 6)))
        takes = bool(siblings) and draw.random() < 0.3
        return Worker(
            id=name,
            restart=restart,
            shutdown=draw.choice((5, 5, 5, 0, None)),
            significant=self.is_significant(restart, auto),
            starts=starts,
            on_start=((draw.randint(1, 3), draw.choice(siblings)),) if takes else (),
            on_stop=(draw.choice(siblings),) if takes and draw.random() < 0.7 else (),
        )

    def event(self) -> Event:
        draw = self.draw
        what = draw.choices(("die", "terminate", "restart", "delete", "add", "stop"), (14, 2, 3, 1, 2, 0.2))[0]
        if what == "stop":
            return ("stop",)
        if what == "add":
            parent = draw.choice(self.trees)[1]
            known = [name for of, name in self.workers if of == parent]
            child = self.worker(self.restart(), "never", parent, [])
            if known and draw.random() < 0.3:
                child = Worker(draw.choice(known), "permanent", 5, False)
            return ("add", parent, child)
        if what == "die":
            parent = draw.choice([of for of, _ in self.workers] or [self.trees[0][1]])
            among = [name for of, name in self.workers if of == parent]
            victims = draw.sample(among, min(len(among), draw.choice((1, 1, 2, 2, 3))))
            return ("die", parent, tuple((victim, draw.choice((*CAUSES, "crash"))) for victim in victims))
        parent, name = draw.choice([*self.workers, *(tree for tree in self.trees if tree[0])] or [("s1", "w0")])
        return (what, parent, name)


class Transcript:
    """What was written down, and what the children of a script do next."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.starts: dict[str, int] = {}

    def start(self, name: str) -> int:
        self.lines.append(f"start {name}")
        self.starts[name] = self.starts.get(name, 0) + 1
        return self.starts[name]

    def outcome(self, worker: Worker, count: int) -> str:
        return worker.starts[count - 1] if count <= len(worker.starts) else "ok"


def tell(script: Script, begin: Callable[[Transcript, Tree], Judge]) -> list[str]:
    """Tell the script to a judge, and return what it wrote down."""
    book = Transcript()
    book.lines += [f"script {script.number}", "event start"]
    judge = begin(book, script.tree)
    book.lines += [f"result {'ok' if judge.came_up else 'down'}", f"tree {judge.picture()}"]
    for event in script.events:
        book.lines.append(f"event {erlang_event(event)}")
        result = judge.happen(event)
        book.lines += [*([f"result {result}"] if result else []), f"tree {judge.picture()}"]
    return book.lines


class Judge:
    """Something to which scripts are told."""

    @property
    def came_up(self) -> bool:
        """Whether the start of the whole tree succeeded, whatever came of it."""
        raise NotImplementedError

    def happen(self, event: Event) -> str:
        """Let it happen, to its end; the result of a call, or nothing."""
        raise NotImplementedError

    def picture(self) -> str:
        """What lives: `s1[w1 -w2 s2[]]`, where w2 is known and does not run, or `down`."""
        raise NotImplementedError


class Ours(Judge):
    """The tree as `monsal.actors.policy` runs it: each supervisor an object of its own, joined by their owner."""

    def __init__(self, book: Transcript, tree: Tree) -> None:
        self.book = book
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.refused: list[str] = []
        self.root = Node(self, tree, None)
        self.root.begin()

    @property
    def came_up(self) -> bool:
        return self.root.came_up

    @property
    def is_up(self) -> bool:
        return self.root.supervisor.phase is Phase.UP

    def happen(self, event: Event) -> str:
        self.refused.clear()
        if event[0] == "wait":
            self.now += event[1]
            return ""
        if event[0] == "stop":
            if not self.is_up:
                return "absent"
            self.root.carry_out(self.root.supervisor.stop(self.now))
            return "ok"
        node = self.nodes.get(event[1])
        if node is None or node.supervisor.phase is not Phase.UP:
            return "absent"
        if event[0] == "die":
            # All of them are reported before anything is done about the first.
            actions = [node.kill(victim, CAUSES[reason]) for victim, reason in event[2]]
            node.carry_out([action for some in actions for action in some])
            return ""
        return node.call(event)

    def picture(self) -> str:
        return self.root.picture() if self.is_up else "down"


class Node:
    """One supervisor of ours, and the children that it believes to have."""

    def __init__(self, world: Ours, tree: Tree, parent: Node | None) -> None:
        self.world = world
        self.tree = tree
        self.parent = parent
        self.specs: dict[str, Worker | Tree] = {child.id: child for child in tree.children}
        self.alive: set[str] = set()
        self.came_up = False
        self.supervisor = Supervisor(
            [_child(child) for child in tree.children],
            Policy(
                strategy=tree.strategy,
                intensity=tree.intensity,
                period=float(tree.period),
                auto_shutdown=tree.auto,
            ),
        )

    def begin(self) -> None:
        self.world.book.start(self.tree.id)
        self.world.nodes[self.tree.id] = self
        self.carry_out(self.supervisor.start(self.world.now))

    def call(self, event: Event) -> str:
        what, _, subject = event
        name = subject.id if what == "add" else subject
        if what == "add":
            if name not in {child.id for child in self.supervisor.statistics().children}:
                self.specs[name] = subject
            actions = self.supervisor.add(_child(subject), self.world.now)
        else:
            actions = getattr(self.supervisor, what)(name, self.world.now)
        self.carry_out(actions)
        return self.world.refused[0] if self.world.refused else "ok"

    def kill(self, name: str, cause: Exit) -> list[Any]:
        if name not in self.alive:
            return []
        self.alive.remove(name)
        return self.supervisor.died(name, cause, self.world.now)

    def carry_out(self, actions: Sequence[Any]) -> None:
        for action in actions:
            match action:
                case Start(name):
                    self._start(self.specs[name])
                case Stop(name, within):
                    self._stop(self.specs[name], within)
                case Up():
                    self.came_up = True
                case Refused(_, why):
                    self.world.refused.append(why)
                case Escalate(_, _, _, end):
                    self._ended(end)

    def _ended(self, end: Exit) -> None:
        if self.world.nodes.get(self.tree.id) is self:
            del self.world.nodes[self.tree.id]
        # Before it was up, its parent hears of it where it started it.
        if self.parent is not None and end.kind is not ExitKind.START_FAILED:
            self.parent.carry_out(self.parent.kill(self.tree.id, end))

    def _start(self, spec: Worker | Tree) -> None:
        now = self.world.now
        if isinstance(spec, Tree):
            node = Node(self.world, spec, self)
            node.begin()
            if node.supervisor.phase is Phase.UP:
                self.alive.add(spec.id)
                self.carry_out(self.supervisor.started(spec.id, now))
            else:
                failed = Exit(kind=ExitKind.START_FAILED)
                self.carry_out(self.supervisor.start_failed(spec.id, failed, now))
            return
        count = self.world.book.start(spec.id)
        for number, victim in spec.on_start:
            if number == count:
                self.carry_out(self.kill(victim, CRASH))
        outcome = self.world.book.outcome(spec, count)
        if outcome == "ok":
            self.alive.add(spec.id)
            self.carry_out(self.supervisor.started(spec.id, now))
        elif outcome == "ignore":
            self.carry_out(self.supervisor.ignored(spec.id, now))
        else:
            self.carry_out(self.supervisor.start_failed(spec.id, CRASH, now))

    def _stop(self, spec: Worker | Tree, within: float | None) -> None:
        if spec.id not in self.alive and isinstance(spec, Worker):
            return  # it has died meanwhile, and that was reported
        if isinstance(spec, Tree):
            node = self.world.nodes.pop(spec.id)
            node.carry_out(node.supervisor.stop(self.world.now))
        elif within != 0:
            self.world.book.lines.append(f"stop {spec.id}")
            for victim in spec.on_stop:
                self.carry_out(self.kill(victim, CRASH))
        self.alive.discard(spec.id)
        self.carry_out(self.supervisor.died(spec.id, CAUSES["shutdown"], self.world.now))

    def picture(self) -> str:
        known = self.supervisor.statistics().children
        return f"{self.tree.id}[{' '.join(self._look(child.id) for child in known)}]"

    def _look(self, name: str) -> str:
        if name not in self.supervisor.living:
            return f"-{name}"
        spec = self.specs[name]
        return self.world.nodes[name].picture() if isinstance(spec, Tree) else name


def _child(spec: Worker | Tree) -> Child:
    return Child(spec.id, restart=spec.restart, shutdown=spec.shutdown, significant=spec.significant)


def scripts(seed: int, count: int, *, waits: bool = False) -> Iterator[Script]:
    """So many scripts of one seed."""
    for number in range(count):
        yield random_script(Random(f"{seed} {number} {waits}"), number, waits=waits)
