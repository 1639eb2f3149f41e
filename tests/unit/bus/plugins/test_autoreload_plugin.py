"""Files that change: which are looked at, what counts as a change, and what is told of it.

A test looks by itself with `run()`, or has a watcher that says when to look; nothing waits for a clock but the moments
without a change, which are made short.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from monsal.bus import Autoreloader, Bus, Phase, PollingWatcher, State

PATIENCE = 60.0
NOTHING = "no module has this name$"


class Told:
    """Takes what was told of changes."""

    def __init__(self) -> None:
        self.changes: list[list[str]] = []
        self.come: SimpleQueue[list[str]] = SimpleQueue()

    def __call__(self, changed: list[str]) -> None:
        self.changes.append(changed)
        self.come.put(changed)


class Hand:
    """A watcher that says so when the test does."""

    def __init__(self) -> None:
        self.asked: SimpleQueue[list[str]] = SimpleQueue()
        self._hints: SimpleQueue[None] = SimpleQueue()

    def changes(self, directories: list[str], stop_event: threading.Event) -> Iterator[object]:
        self.asked.put(directories)
        while not stop_event.is_set():
            # As watchfiles does: the event is looked at now and then.
            with suppress(Empty):
                yield self._hints.get(timeout=0.005)

    def look(self) -> None:
        self._hints.put(None)


class Started:
    """An autoreloader on a thread, with a watcher."""

    def __init__(self, reloader: Autoreloader, hand: Hand) -> None:
        self.reloader, self.hand = reloader, hand
        reloader.patience = PATIENCE
        reloader.frequency = 0.001
        reloader.watcher = hand
        reloader.start()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def reloader(bus: Bus, told: Told) -> Autoreloader:
    """One that looks at nothing but `files`, and only when it is told to."""
    made = Autoreloader(bus, match=NOTHING, on_change=told)
    made.quiet = 0.001
    return made


@pytest.fixture
def watched(reloader: Autoreloader, tmp_path: Path) -> Path:
    """A file that was looked at once."""
    path = tmp_path / "page.html"
    path.write_text("one", encoding="utf-8")
    reloader.files.add(str(path))
    reloader.run()
    return path


@pytest.fixture
def started(reloader: Autoreloader, watched: Path) -> Iterator[Started]:
    yield Started(reloader, Hand())
    reloader.stop()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write and import a module; its file."""
    names: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, text: str = "VALUE = 1\n") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        importlib.import_module(name)
        names.append(name)
        return path

    yield make
    for name in names:
        sys.modules.pop(name, None)


# What counts as a change


def test_nothing_is_told_without_a_change(reloader: Autoreloader, watched: Path, told: Told) -> None:
    reloader.run()
    reloader.run()
    assert told.changes == []


def written(path: Path) -> None:
    path.write_text("another text", encoding="utf-8")


def replaced(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_text("two", encoding="utf-8")
    facts = path.stat()
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(path)


def touched_back(path: Path) -> None:
    os.utime(path, (1, 1))


def touched_a_little(path: Path) -> None:
    before = path.stat().st_mtime_ns
    os.utime(path, ns=(before, before + 4_000_000))


def deleted(path: Path) -> None:
    path.unlink()


@pytest.mark.rule("bus.R22", "bus.B16")
@pytest.mark.parametrize("change", [written, replaced, touched_back, touched_a_little, deleted])
def test_every_change_of_a_file_counts_once(
    reloader: Autoreloader, watched: Path, told: Told, change: Callable[[Path], None]
) -> None:
    """Templates are added to `files` by a framework (R22). The original ignored times that go backwards (C13)."""
    change(watched)
    reloader.run()
    assert told.changes == [[str(watched)]]
    reloader.run()
    assert len(told.changes) == 1


def test_a_file_that_comes_back_after_it_was_told_missing_counts_again(
    reloader: Autoreloader, watched: Path, told: Told
) -> None:
    watched.unlink()
    reloader.run()
    watched.write_text("one", encoding="utf-8")
    reloader.run()
    assert told.changes == [[str(watched)], [str(watched)]]


def test_a_file_that_is_not_there_yet_counts_when_it_comes(reloader: Autoreloader, told: Told, tmp_path: Path) -> None:
    reloader.files.add(str(tmp_path / "later.html"))
    reloader.run()
    assert told.changes == []
    (tmp_path / "later.html").write_text("one", encoding="utf-8")
    reloader.run()
    assert len(told.changes) == 1


def test_a_file_that_is_added_or_taken_away_has_not_changed(
    reloader: Autoreloader, watched: Path, told: Told, tmp_path: Path
) -> None:
    other = tmp_path / "other.html"
    other.write_text("one", encoding="utf-8")
    reloader.files.add(str(other))
    reloader.run()
    reloader.files.discard(str(other))
    other.unlink()
    reloader.run()
    assert told.changes == []


def test_a_relative_name_is_meant_from_where_it_was_made(
    bus: Bus, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon may go elsewhere."""
    monkeypatch.chdir(tmp_path)
    reloader = Autoreloader(bus, match=NOTHING, on_change=told)
    reloader.quiet = 0.001
    reloader.files.add("page.html")
    reloader.run()
    monkeypatch.chdir("/")
    (tmp_path / "page.html").write_text("one", encoding="utf-8")
    reloader.run()
    assert told.changes == [[str(tmp_path / "page.html")]]


def test_a_directory_that_is_gone_is_no_hindrance(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert Autoreloader(bus)._base == ""


def test_a_file_that_cannot_be_seen_any_more_has_not_changed_and_is_told_once(
    bus: Any, reloader: Autoreloader, watched: Path, told: Told
) -> None:
    """As when the privileges to see it were dropped; here its name leads to itself."""
    away = watched.with_name("away")
    watched.rename(away)
    watched.symlink_to(watched)
    reloader.run()
    reloader.run()
    away.replace(watched)
    reloader.run()
    assert told.changes == []
    assert [text for level, text in bus.lines if level == 30] == [
        f"Changes of {watched} cannot be seen: [Errno 40] Too many levels of symbolic links: {str(watched)!r}"
    ]
    written(watched)
    reloader.run()
    assert told.changes == [[str(watched)]]


# A burst of changes


def test_a_burst_is_told_once_when_it_is_over(reloader: Autoreloader, watched: Path, told: Told) -> None:
    """A file is written piece by piece, another one with it: told once, when nothing has changed for a moment."""
    other = watched.with_name("other.html")
    other.write_text("one", encoding="utf-8")
    reloader.files.add(str(other))
    reloader.run()
    steps = iter([lambda: written(other), lambda: other.write_text("1"), lambda: None])
    look = reloader._look

    def look_while_it_is_written() -> Any:
        found = look()
        next(steps, lambda: None)()
        return found

    written(watched)
    reloader._look = look_while_it_is_written  # type: ignore[method-assign] - somebody else writes meanwhile
    reloader.run()
    reloader.run()
    assert told.changes == [[str(other), str(watched)]]


def test_a_file_that_is_away_for_a_moment_only_has_not_changed(
    reloader: Autoreloader, watched: Path, told: Told
) -> None:
    away = watched.with_name("away")
    watched.rename(away)
    look = reloader._look

    def look_and_put_back() -> Any:
        found = look()
        if away.exists():
            away.rename(watched)
        return found

    reloader._look = look_and_put_back  # type: ignore[method-assign] - an editor is at work meanwhile
    reloader.run()
    reloader.run()
    assert told.changes == []


def test_a_burst_without_end_is_told_all_the_same(reloader: Autoreloader, watched: Path, told: Told) -> None:
    reloader.longest_burst = 0.01
    look = reloader._look
    texts = iter(range(10**6))

    def look_and_write() -> Any:
        watched.write_text("x" * (1 + next(texts)), encoding="utf-8")
        return look()

    reloader._look = look_and_write  # type: ignore[method-assign] - it is written again and again meanwhile
    reloader.run()
    assert told.changes == [[str(watched)]]


def test_what_a_stop_interrupts_is_found_by_the_next_look(
    reloader: Autoreloader, watched: Path, told: Told, started: Started
) -> None:
    seen = threading.Event()
    reloader.quiet = PATIENCE
    before, look = reloader._prints, reloader._look

    def look_and_tell() -> Any:
        found = look()
        if found != before:
            seen.set()
        return found

    reloader._look = look_and_tell  # type: ignore[method-assign] - to know when the burst has begun
    written(watched)
    started.hand.look()
    assert seen.wait(PATIENCE)
    reloader.stop()
    assert told.changes == []
    reloader.quiet = 0.001
    reloader.run()
    assert told.changes == [[str(watched)]]


# Modules


def test_a_module_of_a_matching_name_counts(reloader: Autoreloader, told: Told, module: Callable[..., Path]) -> None:
    path, other = module("reload_one"), module("other_one")
    reloader.match = "reload_"
    assert reloader.sysfiles() == {str(path)}
    reloader.run()
    written(other)
    reloader.run()
    assert told.changes == []
    written(path)
    reloader.run()
    assert told.changes == [[str(path)]]


def test_by_default_every_module_counts(bus: Bus) -> None:
    found = Autoreloader(bus).sysfiles()
    assert {__file__, os.__file__, pytest.__file__} <= found
    assert all(os.path.isabs(path) for path in found)


def test_a_module_that_is_imported_later_is_looked_at_from_then_on(
    reloader: Autoreloader, told: Told, module: Callable[..., Path]
) -> None:
    reloader.match = "reload_"
    reloader.run()
    path = module("reload_later")
    reloader.run()
    assert told.changes == []
    written(path)
    reloader.run()
    assert told.changes == [[str(path)]]


def test_the_archive_of_a_module_counts(
    reloader: Autoreloader, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("reload_packed.py", "VALUE = 1\n")
    monkeypatch.syspath_prepend(str(archive))
    importlib.import_module("reload_packed")
    reloader.match = "reload_packed"
    try:
        assert reloader.sysfiles() == {str(archive)}
        reloader.run()
        archive.unlink()
        reloader.run()
    finally:
        del sys.modules["reload_packed"]
    assert told.changes == [[str(archive)]]


def test_modules_without_a_source_file_are_skipped(
    reloader: Autoreloader, told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Slots:
        __slots__ = ()

    for name, found in {"reload_none": None, "reload_slots": Slots(), "reload_built": sys}.items():
        monkeypatch.setitem(sys.modules, name, found)
    for name, path in {"reload_namespace": None, "reload_odd": 7, "reload_bare": str(tmp_path / "bare.pyc")}.items():
        made = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, None))  # type: ignore[arg-type] - a spec is made
        made.__file__ = path  # type: ignore[assignment] - others are careless, too
        monkeypatch.setitem(sys.modules, name, made)
    reloader.match = "reload_"
    # There is only compiled code of this one; its source is looked for, and missed by nobody.
    assert reloader.sysfiles() == {str(tmp_path / "bare.py")}
    reloader.run()
    reloader.run()
    assert told.changes == []


def test_looking_does_not_load_a_lazy_module(
    reloader: Autoreloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reload_lazy.py"
    path.write_text("raise AssertionError('loaded')\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("reload_lazy", path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lazy)
    monkeypatch.setitem(sys.modules, "reload_lazy", lazy)
    reloader.match = "reload_lazy"
    assert reloader.sysfiles() == {str(path)}


# On a thread


@pytest.mark.rule("bus.B19")
def test_the_defaults_are_those_of_the_contract(bus: Bus) -> None:
    reloader = Autoreloader(bus)
    assert (reloader.frequency, reloader.match, reloader.files, reloader.watcher) == (1, ".*", set(), None)
    assert Autoreloader.start.priority == 70
    reloader.subscribe()
    assert reloader.start in bus.listeners["start"]


def test_a_watcher_says_when_to_look(started: Started, watched: Path, told: Told) -> None:
    assert started.hand.asked.get(timeout=PATIENCE) == [str(watched.parent)]
    written(watched)
    started.hand.look()
    assert told.come.get(timeout=PATIENCE) == [str(watched)]


@pytest.mark.rule("bus.B16", "bus.B11")
def test_after_a_change_was_handled_the_next_one_counts(started: Started, watched: Path, told: Told) -> None:
    """The callback starts new code that turns out to be broken: the old one goes on, and what repairs it counts."""
    for text in ("broken", "repaired"):
        watched.write_text(text, encoding="utf-8")
        started.hand.look()
        assert told.come.get(timeout=PATIENCE) == [str(watched)]
    assert started.reloader.bus.state is State.STOPPED


def test_a_new_directory_is_watched_from_the_next_look_on(started: Started, watched: Path, told: Told) -> None:
    started.hand.asked.get(timeout=PATIENCE)
    new = watched.parent / "new"
    new.mkdir()
    (new / "page.html").write_text("one", encoding="utf-8")
    started.reloader.files |= {str(new / "page.html"), str(watched.parent / "missing" / "page.html")}
    started.hand.look()
    # A directory that is not there cannot be watched.
    assert started.hand.asked.get(timeout=PATIENCE) == [str(watched.parent), str(new)]
    (new / "page.html").write_text("another", encoding="utf-8")
    started.hand.look()
    assert told.come.get(timeout=PATIENCE) == [str(new / "page.html")]


def test_a_change_between_two_watches_is_found(reloader: Autoreloader, watched: Path, told: Told) -> None:
    class Writing(Hand):
        def changes(self, directories: list[str], stop_event: threading.Event) -> Iterator[object]:
            try:
                yield from super().changes(directories, stop_event)
            except GeneratorExit:
                # It is closed, because there is one more directory, and the next watch has not begun.
                written(watched)
                raise

    started = Started(reloader, Writing())
    started.hand.asked.get(timeout=PATIENCE)
    reloader.files.add("/elsewhere/page.html")
    started.hand.look()
    assert told.come.get(timeout=PATIENCE) == [str(watched)]
    reloader.stop()


@pytest.mark.rule("bus.B16")
def test_a_watcher_that_fails_or_ends_is_logged_and_asked_again(
    bus: Any, reloader: Autoreloader, watched: Path, told: Told
) -> None:
    class Weak(Hand):
        times = 0

        def changes(self, directories: list[str], stop_event: threading.Event) -> Iterator[object]:
            self.times += 1
            if self.times == 1:
                raise OSError("no more watches")
            return iter(()) if self.times == 2 else super().changes(directories, stop_event)

        def __repr__(self) -> str:
            return "Weak()"

    started = Started(reloader, Weak())
    started.hand.asked.get(timeout=PATIENCE)
    written(watched)
    started.hand.look()
    assert told.come.get(timeout=PATIENCE) == [str(watched)]
    reloader.stop()
    errors = [text for level, text in bus.lines if level == 40]
    assert len(errors) == 2
    assert errors[0].endswith("OSError: no more watches\n")
    assert errors[1].endswith("RuntimeError: Weak() ended although it was not told to\n")


def test_what_changed_while_it_was_stopped_counts(
    reloader: Autoreloader, watched: Path, told: Told, started: Started
) -> None:
    """The code that runs is still the old one."""
    reloader.stop()
    written(watched)
    reloader.start()
    assert told.come.get(timeout=PATIENCE) == [str(watched)]


@pytest.mark.parametrize("frequency", [0, -1])
def test_a_frequency_of_0_or_less_is_off(bus: Bus, frequency: float) -> None:
    reloader = Autoreloader(bus, frequency)
    reloader.start()
    assert reloader.thread is None


def test_the_default_looks_at_intervals_and_restarts_the_bus(bus: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("one", encoding="utf-8")
    reloader = Autoreloader(bus, 0.001, NOTHING)
    reloader.quiet = 0.001
    reloader.patience = PATIENCE
    reloader.files.add(str(path))
    reloader.subscribe()
    bus.subscribe("start", lambda: written(path), 80)
    bus.start()
    bus.wait(Phase.EXITED)
    assert bus.execv
    bus.execv = False
    restarting = [line for line in bus.said if line.startswith("Restarting because")]
    assert restarting == [f"Restarting because {path} changed."]
    assert "Stopped thread 'Autoreloader'." in bus.said
    assert not [line for line in bus.said if "Error" in line or "left alone" in line]


def test_the_log_names_the_first_and_counts_the_others(bus: Any) -> None:
    reloader = Autoreloader(bus, match=NOTHING)
    reloader.on_change(["a", "b", "c"])
    assert bus.said[:2] == ["Restarting because a changed.", "2 more changed with it: b, c"]
    bus.execv = False


def test_the_polling_watcher_ends_at_once(bus: Bus) -> None:
    stop_event = threading.Event()
    hints = iter(PollingWatcher(3600).changes([], stop_event))
    waiting = threading.Thread(target=lambda: next(hints, None), daemon=True)
    waiting.start()
    stop_event.set()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def test_the_polling_watcher_says_so_at_intervals() -> None:
    hints = iter(PollingWatcher(0.001).changes([], threading.Event()))
    assert [next(hints) for _ in range(3)] == [None] * 3
