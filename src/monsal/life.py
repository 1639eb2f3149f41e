"""The life of the server process: the bus on the main thread, everything else on one loop beside it.

    start 60-78   this directory is ours, listening sockets, privileges, the application
    start 80      the units: control, store, outbox, workers, ingress, http, api; then ready
    drain         not ready; no new calls, no new mail; running turns end; the outbox flushes
    stop          the units in reverse: the store is closed, and last the control socket
    exit          what was left is noted; the process ends, or is replaced by a fresh one on the same sockets

Signals arrive on the main thread and are only noted there. The loop of the sockets has a thread of its own, and
handlers run elsewhere (P7).
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from monsal.account import Account
from monsal.bus import Bus, ChannelFailures, Limits, Phase, TransitionError, Unit, Units
from monsal.bus.inherited import listen_fds
from monsal.bus.plugins.pidfile import PIDFile, PIDFileHeld, PIDLock
from monsal.bus.plugins.privileges import DropPrivileges
from monsal.bus.plugins.signals import SignalHandler
from monsal.bus.plugins.systemd import Notifier
from monsal.config import Resolved
from monsal.errors import MonsalError, StoreLocked
from monsal.forks import close_in_children
from monsal.loading import TARGET
from monsal.logs import set_up_logging
from monsal.loops import new_loop
from monsal.memory import collect_seldom
from monsal.outline import Parts
from monsal.ownership import check_reader, give_away, owner_to_be
from monsal.processes.plan import Overrides
from monsal.progress import Progress
from monsal.renewal import BROKEN, Renewal, first_of, on_a_thread
from monsal.server import Server

if TYPE_CHECKING:
    from monsal.actors.interpreter import Interpreter

__all__ = ["GENERATION", "Options", "serve"]

log = logging.getLogger("monsal.server")

#: The variable that tells a fresh image of the program which one it is.
GENERATION = "MONSAL_GENERATION"
#: Seconds that the store may take to open: migrations and the recovery after a crash read much.
_OPENING = 300.0
#: Seconds that processes of their own have to load the application.
_STARTING = 150.0
#: Seconds that threads of handlers get after a clean end.
_PATIENCE = 3.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a server lives, apart from what it serves.

    `prepare` is called on the main thread before anything is opened, with the privileges that were left: it loads the
    application. `on_ready` is called with the contents of `run/ready.json` and an `example` of an address. `abandon` is
    called with the exit code when threads that handlers started keep the process from ending. `pid_file`, `user`,
    `group` and `umask` are those of the bus's plugins. `plugins` are called with the bus and the reload, and
    subscribed. `target` and `overrides` say to processes of their own what the application's object is, and what is
    set instead of it; `made` are interpreters that run for some of them already.
    """

    prepare: Callable[[], object] = lambda: None
    on_ready: Callable[[dict[str, Any]], object] = lambda facts: None
    abandon: Callable[[int], object] = lambda code: None
    pid_file: Path | None = None
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    plugins: tuple[Callable[[Bus, Callable[[], None]], Any], ...] = ()
    target: str = TARGET
    overrides: Overrides = ()
    made: dict[str, Interpreter] = msgspec.field(default_factory=dict)


class _LoopThread:
    """The event loop of the sockets, in a thread of its own."""

    def __init__(self) -> None:
        self._ending = False
        self.loop = new_loop()
        begun = threading.Event()
        self.loop.call_soon(begun.set)
        self.thread = threading.Thread(target=self._main, name="monsal-io", daemon=True)
        self.thread.start()
        # The bus refuses async listeners on a loop that does not run yet.
        begun.wait()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._ending:
                try:
                    self.loop.run_forever()
                except (SystemExit, KeyboardInterrupt) as error:
                    log.critical("something on the sockets' loop raised %r", error, extra={"action": "loop_failed"})
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def end(self) -> None:
        self._ending = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


class _Life:
    """One run of a server on a bus; also the `Conduct` that the server asks."""

    def __init__(self, parts: Parts, directory: Path, resolved: Resolved, options: Options) -> None:
        settings = resolved.settings
        self.bus = Bus(limits=Limits(drain=settings.drain + 10.0, whole=settings.drain + 60.0))
        self.options = options
        self._told: list[BaseException] = []
        self.bus.subscribe("log", self._log)
        # Before any thread and any child process: after a restart they would inherit that signals are held back.
        SignalHandler(self.bus).subscribe()
        self.loop = _LoopThread()
        self.bus.attach_loop(self.loop.loop)
        self.server = Server(
            parts,
            directory,
            resolved,
            conduct=self,
            generation=_generation(),
            target=options.target,
            overrides=options.overrides,
            made=options.made,
        )
        self.units = Units(self.bus)
        self.account = Account(self.server, self.bus, self.units)
        self.started = False
        self._lock = PIDLock(self.server.run_directory / "server.pid")
        self._notifier = Notifier(self.bus, progress=self.units.stalled, status=self._in_short)
        self.renewal = Renewal(self.bus, self.server, self.account, self._notifier, self.loop.loop)
        self._pid_file: PIDFile | None = None

    # How it is put together

    def subscribe(self) -> None:
        """Units and listeners, in the order of the process's life."""
        bus, options = self.bus, self.options
        owner = owner_to_be(options.user, options.group)
        # Root touches nothing in a directory that is another user's: it opens the ports, and becomes that user.
        bus.subscribe("start", self._tells(self._claim), 60 if owner is None else 77.2)
        if options.pid_file is not None:
            self._pid_file = PIDFile(bus, options.pid_file)
            bus.subscribe("start", self._tells(partial(self._take_pid_file, owner), "pid_file"), 70)
            bus.subscribe("exit", self._pid_file.exit)
        bus.subscribe("start", self._tells(self._open_ports), 75)
        if options.user or options.group or options.umask is not None:
            if owner is not None:
                bus.subscribe("start", self._tells(partial(self._give_away, owner), "give_away"), 76)
            drop = DropPrivileges(bus, umask=options.umask, uid=options.user, gid=options.group)
            bus.subscribe("start", self._tells(drop.start, "privileges"), 77)
        bus.subscribe("start", self._tells(self.server.open_doors), 77.5)
        bus.subscribe("start", self._tells(self._prepare), 78)
        for unit in (*self._units(), *self._doors_units()):
            self.units.add(unit)
        self.units.subscribe()
        bus.subscribe("start", self._ready, 90)
        bus.subscribe("drain", self._begin_to_drain, 10)
        bus.subscribe("graceful", self.renewal.take_up)
        bus.subscribe("exit", self._end, 90)
        self._notifier.subscribe()
        for plugin in options.plugins:
            plugin(bus, self.renewal.quietly).subscribe()

    def _units(self) -> Iterator[Unit]:
        server, service, tells = self.server, self.server.service, self._tells
        drain = server.settings.drain + 1.0  # the worker and the outbox mind the time by themselves
        progress = Progress(service.view.progress, self.loop.loop)
        yield Unit("control", start=tells(server.start_control), stop=server.stop_control)
        yield Unit(
            "store",
            start=tells(server.open_store),
            stop=server.close_store,
            requires=("control",),
            start_limit=_OPENING,
            doing=service.view.store_doing,
        )
        yield Unit(
            "outbox",
            start=partial(server.start_outbox, partial(self.units.failed, "outbox")),
            drain=server.drain_outbox,
            requires=("store",),
            drain_limit=drain,
            health=lambda: service.view.tell("outbox").health,
            doing=lambda: service.view.tell("outbox").doing,
        )
        if self.server.has_actors:
            yield Unit(
                "actors",
                start=tells(server.start_actors),
                stop=server.stop_actors,
                requires=("store",),
                start_limit=_STARTING,
            )
        yield Unit(
            "workers",
            start=tells(partial(server.start_workers, partial(self.units.failed, "workers"))),
            drain=server.drain_workers,
            requires=("store",),
            # And so drained before it: what the last turns say should still leave, and may be asked of an actor.
            after=("outbox", "actors") if self.server.has_actors else ("outbox",),
            start_limit=_STARTING,
            drain_limit=drain,
            health=lambda: service.view.tell("workers").health,
            progress=progress.stalled,
            doing=lambda: service.view.tell("workers").doing,
        )

    def _doors_units(self) -> Iterator[Unit]:
        """Those by which others reach us, last of all."""
        server, service, tells = self.server, self.server.service, self._tells
        drain = server.settings.drain + 1.0
        progress = Progress(service.view.progress, self.loop.loop)
        yield Unit(
            "ingress",
            start=tells(server.start_ingresses),
            drain=server.stop_ingresses,
            requires=("workers",),
            drain_limit=drain,
            progress=progress.loop_lags,
            doing=lambda: service.view.tell("ingress").doing,
        )
        if server.settings.http:
            yield Unit(
                "http",
                start=tells(service.web.start),
                drain=server.stop_http,
                requires=("workers",),
                after=("ingress",),  # and so drained before it
                drain_limit=drain,
                doing=lambda: service.view.tell("http").doing,
            )
        yield Unit(
            "api",
            start=tells(server.start_apis),
            drain=server.stop_apis,
            requires=("workers",),
            after=("ingress",),  # and so drained before it
            drain_limit=drain,
            health=lambda: service.view.tell("api").health,
            doing=lambda: service.view.tell("api").doing,
        )

    def _tells(self, step: Callable[[], Any], name: str = "") -> Callable[[], Any]:
        """A step whose failure is told in one sentence by whoever called `serve`, and not with a traceback."""
        if asyncio.iscoroutinefunction(step):

            async def awaited() -> None:
                try:
                    await step()
                except (MonsalError, OSError) as error:
                    self._told.append(error)
                    raise

            return awaited

        def called() -> None:
            try:
                step()
            except (MonsalError, OSError) as error:
                self._told.append(error)
                raise

        called.__qualname__ = name or step.__name__.strip("_")  # what `monsal blame` calls it
        return called

    # The steps

    def _claim(self) -> None:
        """Make the directory for what is needed at run time, and be the only one who serves from it."""
        self.server.run_directory.mkdir(parents=True, exist_ok=True)
        close_in_children(self._lock, PIDLock.detach)
        try:
            self._lock.take()
        except PIDFileHeld as held:
            raise StoreLocked(
                f"process {held.pid} already serves {self.server.directory}; "
                f"`monsal stop --dir {shlex.quote(str(self.server.directory))}` ends it"
            ) from None

    def _take_pid_file(self, owner: tuple[int, int] | None) -> None:
        assert self._pid_file is not None
        try:
            self._pid_file.start()
        except PIDFileHeld as held:
            raise StoreLocked(f"the PID file {held}; name another one, or end that process") from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._pid_file.pidfile) from None
        if owner is not None:
            # After a reload that user writes there.
            os.chown(self._pid_file.lock.path, *owner, follow_symlinks=False)

    def _open_ports(self) -> None:
        try:
            given = listen_fds()
        except ValueError as error:
            raise MonsalError(f"the sockets that were passed to this process cannot be used: {error}") from None
        self.server.open_ports(given)

    def _give_away(self, owner: tuple[int, int]) -> None:
        """Let the user that this process becomes own what is in `run`."""
        assert self.options.user is not None
        check_reader(self.options.user)
        give_away(self.server.run_directory, owner)

    def _prepare(self) -> None:
        self.options.prepare()

    def _ready(self) -> None:
        facts = self.account.announce()
        self.started = True
        collect_seldom()
        places = [*facts["smtp"], *facts.get("smtps", ()), *facts["lmtp"], *facts["http"], *facts["rpc"]]
        log.info("ready: %s", ", ".join(places), extra={"action": "ready"})
        self.options.on_ready({**facts, "example": self.server.service.view.example()})

    def _begin_to_drain(self) -> None:
        """No longer ready; from here the seconds of the drain count."""
        self.server.begin_drain()
        self.renewal.give_up()
        if self.bus.execv and self.server.doors is not None:
            # Who connects waits in the kernel's queue until the next image of the program accepts.
            self.bus.keep_for_restart(self.server.doors.kept())
            self.bus.execv_environ[GENERATION] = str(self.server.generation + 1)
        else:
            # Who connects is refused, and tries elsewhere or later.
            self.server.close_doors()
        threading.Thread(target=self._pass_on_hurry, name="monsal-hurry", daemon=True).start()
        # Last, because a directory may be gone or full, and everything else matters more.
        self.account.withdraw()

    def _pass_on_hurry(self) -> None:
        """A second signal, or `monsal stop --now`, leaves what still runs to the next start."""
        if self.bus.hurry.wait(self.server.settings.drain):
            self.loop.loop.call_soon_threadsafe(self.server.hurry)

    def _end(self) -> None:
        """Note how it went, and give back what is held."""
        if self.started:
            self._have_an_end()
        if not self.bus.execv:
            self.server.close_doors()
            # Before a restart the file stays: the process is the same, and commands wait for it.
            self._lock.give_back()
        if self.started:
            try:
                self.account.note_the_end()
            except OSError as error:
                # A directory may be gone or full; the end was clean all the same.
                log.warning("how the stop went cannot be noted: %s", error, extra={"action": "stop"})
        if self.bus.execv:
            self.account.leave_word()

    def _have_an_end(self) -> None:
        """Have the process end soon, whatever a handler left running in threads, for which Python waits for ever.

        All that had to be kept is on the disk by now.
        """
        timer = threading.Timer(_PATIENCE, self._abandon)
        timer.daemon = True
        timer.start()

    def _abandon(self) -> None:
        if self.bus.execv:
            self.bus._do_execv()
        self.options.abandon(self.code)

    def _in_short(self) -> str:
        """For the service manager, which shows it beside the name of the service."""
        wrong = "; ".join(self.units.faults())
        return f"generation {self.server.generation} serves{f', but {wrong}' if wrong else ''}"

    # What the server asks: see Conduct

    def stop(self, now: bool = False) -> None:
        if now:
            self.bus.hurry.set()
        on_a_thread(self.bus.exit)

    async def renew(self) -> dict[str, Any]:
        return await self.renewal.renew()

    async def replace(self) -> dict[str, Any]:
        return await self.renewal.replace()

    async def status(self) -> dict[str, Any]:
        return await self.account.status()

    def why(self) -> list[str]:
        return self.units.why()

    def blame(self) -> dict[str, Any]:
        return self.account.blame()

    # The whole

    def _log(self, message: str, level: int = logging.INFO) -> None:
        if level >= logging.ERROR and self._told:
            # Told in other words by whoever called `serve`.
            level = logging.DEBUG
        elif level >= logging.ERROR and message.startswith("Error in ") and "ReloadFailed: " in message:
            # No fault of the server. Who asked for the reload is told why; for a signal that is the log.
            of_signal = message.startswith("Error in 'SIG")
            message = message.rpartition("ReloadFailed: ")[2].partition("\n")[0]
            level = logging.WARNING if of_signal and message != BROKEN else logging.DEBUG
        elif level == logging.INFO and not message.startswith("Caught signal"):
            # What the bus does at each start and stop is for those who look for a fault.
            level = logging.DEBUG
        logging.getLogger("monsal.bus").log(level, "%s", message, extra={"action": "bus"})

    @property
    def code(self) -> int:
        """The exit code: 0 after a clean drain, 1 if a unit broke."""
        return 0 if self.units.broken is None else 1

    def run(self) -> int:
        try:
            self.bus.start()
            self.bus.block()
        except TransitionError:
            # A signal came before the start: the bus has ended and there is nothing to drain.
            if self.bus.phase is not Phase.EXITED:
                raise
        except ChannelFailures as failures:
            if self.started:
                # What failed while it stopped is in the log; what was not settled is in the store.
                return 1
            # The first is why; the others, if any, are in the log.
            raise (self._told or [first_of(failures)])[0] from None
        finally:
            self.loop.end()
        return self.code


def serve(parts: Parts, directory: Path, resolved: Resolved, options: Options | None = None) -> int:
    """Serve until a signal or `monsal stop`; the exit code: 0 after a clean drain, 1 if a unit broke.

    Raises what hindered the start: StoreError, UsageError, OSError if an address cannot be listened on.
    """
    directory = directory.resolve()
    set_up_logging(resolved.settings.log, resolved.settings.log_level)
    life = _Life(parts, directory, resolved, options or Options())
    life.subscribe()
    return life.run()


def _generation() -> int:
    text = os.environ.get(GENERATION, "")
    return max(1, int(text)) if text.isdecimal() and len(text) < 10 else 1
