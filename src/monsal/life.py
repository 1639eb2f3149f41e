"""The life of the server process: the bus on the main thread, everything else on one loop beside it.

    start   store, control socket, engine, ingresses; then ready
    drain   not ready; no new mail; running turns end, the outbox flushes
    exit    store and control socket are closed

Signals arrive on the main thread and are only noted there. The loop of the sockets has a thread of its own, and
handlers run elsewhere (P7).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from monsal.bus import Bus, ChannelFailures, Limits, Phase, TransitionError
from monsal.bus.plugins import SignalHandler
from monsal.config import Resolved
from monsal.engine import Parts
from monsal.errors import MonsalError
from monsal.logs import set_up_logging
from monsal.server import Server

__all__ = ["serve"]

log = logging.getLogger("monsal.server")

OnReady = Callable[[dict[str, Any]], None]


class _LoopThread:
    """The event loop of the sockets, in a thread of its own."""

    def __init__(self) -> None:
        self._ending = False
        try:
            import uvloop
        except ImportError:
            self.loop = asyncio.new_event_loop()
        else:
            self.loop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self._main, name="monsal-io", daemon=True)
        self.thread.start()

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

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine there and wait for its result here."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def end(self) -> None:
        self._ending = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


class _Life:
    """One run of a server on a bus."""

    def __init__(self, parts: Parts, directory: Path, resolved: Resolved, on_ready: OnReady | None) -> None:
        settings = resolved.settings
        self.bus = Bus(limits=Limits(drain=settings.drain + 10.0, whole=settings.drain + 60.0))
        self.loop = _LoopThread()
        self.server = Server(parts, directory, resolved, stop=self._stop)
        self.on_ready = on_ready
        self.broken = False
        self.started = False
        self._told: list[BaseException] = []

    def _stop(self, now: bool, *, broken: bool = False) -> None:
        """Begin to stop; called on the loop, for which the drain listeners have to wait."""
        self.broken = self.broken or broken
        if now:
            self.bus.hurry.set()
        threading.Thread(target=self.bus.exit, name="monsal-stop", daemon=True).start()

    def subscribe(self) -> None:
        server, call = self.server, self.loop.call
        self.bus.subscribe("log", self._log)
        self.bus.subscribe("start", lambda: self._told_by_caller(server.open()), 20)
        self.bus.subscribe("start", lambda: self._told_by_caller(server.start_control()), 30)
        self.bus.subscribe("start", lambda: call(server.start_engine()), 40)
        self.bus.subscribe("start", lambda: self._told_by_caller(server.start_ingresses()), 80)
        self.bus.subscribe("start", self._ready, 90)
        self.bus.subscribe("drain", server.withdraw, 10)
        self.bus.subscribe("drain", lambda: call(server.close_ingresses()), 20)
        self.bus.subscribe("drain", self._drain, 30)
        self.bus.subscribe("exit", lambda: call(server.close()), 80)

    def _told_by_caller(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a step whose failure is told in one sentence by whoever called `serve`, and not with a traceback."""
        try:
            self.loop.call(coroutine)
        except (MonsalError, OSError) as error:
            self._told.append(error)
            raise

    def _drain(self) -> None:
        threading.Thread(target=self._pass_on_hurry, name="monsal-hurry", daemon=True).start()
        self.loop.call(self.server.drain())

    def _pass_on_hurry(self) -> None:
        """A second signal, or `monsal stop --now`, leaves what still runs to the next start."""
        if self.bus.hurry.wait(self.server.settings.drain):
            self.loop.loop.call_soon_threadsafe(self.server.hurry)

    def _ready(self) -> None:
        facts = self.server.announce()
        self.started = True
        log.info("ready: %s", ", ".join([*facts["smtp"], *facts["lmtp"]]), extra={"action": "ready"})
        if self.on_ready is not None:
            self.on_ready(facts)

    def _log(self, message: str, level: int = logging.INFO) -> None:
        if self._told and level >= logging.ERROR:
            level = logging.DEBUG
        elif level == logging.INFO and not message.startswith("Caught signal"):
            # What the bus does at each start and stop is for those who look for a fault.
            level = logging.DEBUG
        logging.getLogger("monsal.bus").log(level, "%s", message, extra={"action": "bus"})

    def run(self) -> int:
        signals = SignalHandler(self.bus)
        signals.subscribe()
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
            raise failures.get_instances()[0] from None
        finally:
            signals.unsubscribe()
            self.loop.end()
        return 1 if self.broken else 0


def serve(parts: Parts, directory: Path, resolved: Resolved, *, on_ready: OnReady | None = None) -> int:
    """Serve until a signal or `monsal stop`; the exit code: 0 after a clean drain, 1 if the engine broke.

    `on_ready` is called with the contents of `run/ready.json`. Raises what hindered the start: StoreError, UsageError,
    OSError if an address cannot be listened on.
    """
    directory = directory.resolve()
    set_up_logging(resolved.settings.log, resolved.settings.log_level)
    life = _Life(parts, directory, resolved, on_ready)
    life.subscribe()
    return life.run()
