"""Restarting when a file of the program has changed.

Whether a file has changed is found by comparing what the system says of it with what it said before. A `Watcher` only
says when to look: the one given here looks at intervals, another one may be told by the file system.

    class Notified:                                        # with watchfiles
        def changes(self, directories, stop_event):
            return watch(*directories, stop_event=stop_event, recursive=False, watch_filter=None, yield_on_timeout=True)

    Autoreloader(bus, watcher=Notified()).subscribe()
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from threading import Event, current_thread
from typing import Any, Protocol

from monsal.bus.core import Bus
from monsal.bus.plugins.tasks import BackgroundTask, PeriodicTask

__all__ = ["Autoreloader", "PollingWatcher", "Watcher"]

#: What tells one content of a file from another: time of change, size and inode; None if there is no such file.
Print = tuple[int, int, int] | None


class Watcher(Protocol):
    """Says when it is time to look at files again."""

    def changes(self, directories: list[str], stop_event: Event) -> Iterable[object]:
        """Yield, whatever it is, when something in `directories` may have changed; end when `stop_event` is set.

        Directories, not those below them: many programs write a file anew and rename it, and the watch of a file would
        be lost with it. It must yield every few seconds also without a cause: then it is asked anew, if other
        directories have come, and a change that happened between two watches is found.
        """
        ...


class PollingWatcher:
    """Has the files looked at every `frequency` seconds."""

    def __init__(self, frequency: float = 1) -> None:
        self.frequency = frequency

    def changes(self, directories: list[str], stop_event: Event) -> Iterator[None]:
        """Yield at intervals until `stop_event` is set, at once then."""
        while not stop_event.wait(self.frequency):
            yield


class Autoreloader(PeriodicTask):
    """Restarts when a file of an imported module, or one of `files`, was changed, replaced or deleted.

    Only modules whose name matches `match` count, with the archive they came from if it was one; those without a source
    file do not. `frequency` is in seconds; 0 or less: off. A time of change that goes backwards counts (C13). Changes
    that follow one another closely are one, so that files are not loaded half written.

    `on_change` is called on the task's thread with the names of the changed files, sorted. Without it the bus restarts,
    and what comes then is up to the new code. With it the old code can go on until the new one has proved itself; after
    it has returned, the next change counts again.
    """

    frequency: float = 1
    match: str = ".*"
    watcher: Watcher | None = None
    #: How many seconds there must be without a change until a change is told, and for how long that is waited for.
    quiet: float = 0.1
    longest_burst: float = 5.0

    def __init__(
        self,
        bus: Bus,
        frequency: float = 1,
        match: str = ".*",
        *,
        watcher: Watcher | None = None,
        on_change: Callable[[list[str]], object] | None = None,
    ) -> None:
        super().__init__(bus, self.run, frequency)
        #: Files beside those of modules; others may add to it at any time (R22).
        self.files: set[str] = set()
        self.match = match
        self.watcher = watcher
        self.on_change = on_change or self._restart
        # Relative names are meant from here, wherever a daemon goes later.
        self._base = _here()
        self._prints: dict[str, Print] = {}
        self._hidden: set[str] = set()

    def start(self) -> None:
        """Note how the files are now, and start the thread. What was noted before a stop still counts."""
        if self.frequency > 0:
            for path, now in self._look().items():
                self._prints.setdefault(path, now)
        super().start()

    start.priority = 70  # type: ignore[attr-defined]  # functions take attributes

    def _new_thread(self) -> BackgroundTask:
        return BackgroundTask(self.frequency, self._watch, bus=self.bus)

    def _watch(self) -> None:
        """On the task's thread: look whenever the watcher says so, until the task is stopped."""
        stop_event = _stop_event()
        watcher = self.watcher if self.watcher is not None else PollingWatcher(self.frequency)
        while not stop_event.is_set():
            self.run()
            known = self._directories()
            for _ in watcher.changes(sorted(filter(os.path.isdir, known)), stop_event):
                self.run()
                if stop_event.is_set() or self._directories() != known:
                    break
            else:
                if not stop_event.is_set():
                    raise RuntimeError(f"{watcher!r} ended although it was not told to")

    def _directories(self) -> set[str]:
        return {os.path.dirname(path) for path in self._prints}

    def run(self) -> None:
        """Look at all files once, and do what is to be done if some have changed since the last look.

        Changes are followed until nothing more happens for `quiet` seconds. If the task is stopped meanwhile they are
        not told; the next look finds them.
        """
        ended = _stop_event()
        before, self._prints = self._prints, self._look()
        changed = _differences(before, self._prints)
        left = self.longest_burst
        settled = not changed
        while not settled and left > 0:
            if ended.wait(self.quiet):
                self._prints = {**self._prints, **before}
                return
            left -= self.quiet
            last, self._prints = self._prints, self._look()
            settled = not _differences(last, self._prints)
            changed = _differences(before, self._prints)
        if changed:
            self.on_change(sorted(changed))

    def _restart(self, changed: list[str]) -> None:
        self.bus.log(f"Restarting because {changed[0]} changed.")
        if len(changed) > 1:
            self.bus.log(f"{len(changed) - 1} more changed with it: {', '.join(changed[1:10])}")
        self.bus.restart()

    def sysfiles(self) -> set[str]:
        """The files of the imported modules whose name matches."""
        wanted = re.compile(self.match)
        found = (_file_of(module) for name, module in list(sys.modules.items()) if wanted.match(name))
        return {os.path.join(self._base, path) for path in found if path}

    def _look(self) -> dict[str, Print]:
        """What the system says now of each file."""
        given = {os.path.join(self._base, _source(os.fspath(path))) for path in tuple(self.files)}
        return {path: self._print(path) for path in self.sysfiles() | given}

    def _print(self, path: str) -> Print:
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            # It may be hidden from the user that the process has become. That is no change; nor is it one later.
            if path not in self._hidden:
                self._hidden.add(path)
                self.bus.log(f"Changes of {path} cannot be seen: {error}", 30)
            return self._prints.get(path)
        return found.st_mtime_ns, found.st_size, found.st_ino


def _stop_event() -> Event:
    """What ends the thread one is on, if that is a task's."""
    thread = current_thread()
    return thread.finished if isinstance(thread, BackgroundTask) else Event()


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _differences(before: dict[str, Print], now: dict[str, Print]) -> set[str]:
    """The files that were known before and are different now; a file that comes newly is a beginning, not a change."""
    return {path for path, print_ in now.items() if path in before and before[path] != print_}


def _file_of(module: Any) -> str | None:
    """The archive or the source file of a module, if it has one."""
    try:
        # Past the module's own way to look up attributes: that of a lazy one would load it.
        facts = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return None
    path = getattr(facts.get("__loader__"), "archive", None) or facts.get("__file__")
    return _source(path) if isinstance(path, str) else None


def _source(path: str) -> str:
    return path[:-1] if path.endswith(".pyc") else path
