"""One application as a server: what serves it, its doors, and its control socket.

The steps of its life are methods here; `life.py` makes units of them and says in which order they come.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from monsal.clock import SystemClock
from monsal.config import Resolved
from monsal.control import ControlServer, ServerApi, StoreApi
from monsal.ingress import Doors
from monsal.loading import TARGET
from monsal.outline import OnFailure, Parts
from monsal.processes.pages import pages
from monsal.processes.plan import Overrides, Plan

if TYPE_CHECKING:
    from monsal.actors.interpreter import Interpreter
    from monsal.service import Service

__all__ = ["Conduct", "Server"]

log = logging.getLogger("monsal.server")

#: Seconds that processes of a server that was killed may still listen, and between two looks: nobody tells.
_ORPHANS = 10.0
_LOOK_AGAIN = 0.05
#: Seconds that a session may go on with the mail that it is sending when the doors are shut.
_LAST_MAIL = 5.0
#: The same for a call: its caller is told that we are about to end, and may call again.
_LAST_CALL = 5.0


class Conduct(Protocol):
    """What the server asks of whoever conducts its life; called on its loop."""

    def stop(self, now: bool = False) -> None:
        """Begin the end of the process and return at once; `now` without waiting for running turns."""
        ...

    async def renew(self) -> dict[str, Any]:
        """Take up the code as it is now: have it take over, or begin to replace the process. Raises ReloadFailed."""
        ...

    async def replace(self) -> dict[str, Any]:
        """Check the code as it is now, then begin to replace the process by a fresh one. Raises ReloadFailed."""
        ...

    async def status(self) -> dict[str, Any]: ...

    def why(self) -> list[str]: ...

    def blame(self) -> dict[str, Any]: ...


class Server:
    """What serves an application, with its doors and its control socket.

    `generation` counts how often the code was taken up since it was started from outside. `target` names the
    application's object and `overrides` what the command line says instead of it, for processes of their own; `made`
    are interpreters that run for some of these already.
    """

    def __init__(
        self,
        parts: Parts,
        directory: Path,
        resolved: Resolved,
        *,
        conduct: Conduct,
        generation: int = 1,
        target: str = TARGET,
        overrides: Overrides = (),
        made: dict[str, Interpreter] | None = None,
    ) -> None:
        self.directory = directory
        self.settings = resolved.settings
        self._resolved = resolved
        self.run_directory = directory / "run"
        self.generation = generation
        self.clock = SystemClock()
        self._conduct = conduct
        #: Whether the application has actors of its own.
        self.has_actors = bool(parts.actors)
        self.doors: Doors | None = None
        self.service = self._make_service(parts, target, overrides, made or {})
        self.control: ControlServer | None = None
        self._drain_ends = 0.0

    def _make_service(self, parts: Parts, target: str, overrides: Overrides, made: dict[str, Interpreter]) -> Service:
        settings = self.settings
        if settings.workers:
            # Not before: a server in one process needs no actors, and is ready sooner.
            from monsal.processes.fleet import Fleet

            plan = Plan(
                target=target,
                overrides=overrides,
                tables=parts.tables,
                exposes=bool(parts.exposures),
                actors=parts.actors,
                made=made,
            )
            return Fleet(plan, self.directory, settings, doors=self._open_doors, generation=self.generation)
        # Nor does one whose workers are processes need what they need.
        from monsal.service import LocalService

        has_files = settings.store.startswith("sqlite:")
        page = self.run_directory / "turns.page" if has_files else None
        return LocalService(parts, self.directory, settings, self.clock, doors=self._open_doors, page=page)

    # Before the loop is needed

    def open_ports(self, given: Mapping[str, Any]) -> None:
        """Bind the ports, or take the listening sockets that were `given`. Nobody is served yet.

        Raises OSError naming the address that cannot be had, ConfigError for an inherited socket of a wrong kind.
        """
        # Workers whose supervisor was killed end by themselves; until they have, they listen.
        end = time.monotonic() + (_ORPHANS if any(pages(self.run_directory)) else 0.0)
        while True:
            self.doors = Doors((*self.settings.ingress, *self.settings.http), self.directory, given)
            try:
                self.doors.open(ports_only=True)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > end:
                    raise
                time.sleep(_LOOK_AGAIN)
            else:
                return

    def open_doors(self) -> None:
        """Bind what is left, the unix sockets. Raises OSError."""
        self._open_doors().open()

    def close_doors(self) -> None:
        """Listen no more."""
        if self.doors is not None:
            self.doors.close()

    def _open_doors(self) -> Doors:
        assert self.doors is not None
        return self.doors

    # The steps of the units, on the loop

    async def start_control(self) -> None:
        """Open the control socket: from now on the commands reach this process, and `monsal why` has an answer."""
        control = ControlServer(self.run_directory / "control.sock")
        conduct = self._conduct
        control.mount(
            "server",
            ServerApi(
                status=conduct.status,
                stop=conduct.stop,
                reload=conduct.renew,
                restart=conduct.replace,
                config=self._resolved.describe,
                why=conduct.why,
                blame=conduct.blame,
                workers=self._workers,
            ),
        )
        control.mount("store", StoreApi(lambda: self.service.store, self.clock))
        await control.start()
        self.control = control

    async def _workers(self) -> list[dict[str, Any]]:
        return [{"generation": self.generation, **row} for row in await self.service.view.workers()]

    async def stop_control(self) -> None:
        if self.control is not None:
            await self.control.stop()

    async def open_store(self) -> None:
        """Open the store: nothing can be accepted or handled before."""
        await self.service.open_store()

    async def close_store(self) -> None:
        await self.service.close_store()

    async def start_actors(self) -> None:
        """Start the application's own actors."""
        await self.service.start_actors()

    async def stop_actors(self) -> None:
        await self.service.stop_actors()

    async def start_workers(self, on_failure: OnFailure) -> None:
        await self.service.start_workers(on_failure)

    async def drain_workers(self) -> None:
        """Let running turns end, as far as the time allows; the rest goes back to the spool."""
        await self.service.drain_workers(self._left())

    async def start_outbox(self, on_failure: OnFailure) -> None:
        await self.service.start_outbox(on_failure)

    async def drain_outbox(self) -> None:
        """Send what is due, as far as the time allows, and say what is left."""
        await self.service.drain_outbox(self._left())
        log.info("%s", self.service.report, extra={"action": "drained"})

    async def start_ingresses(self) -> None:
        """Serve who comes to the doors, last of all."""
        await self.service.start_ingresses()

    async def stop_http(self) -> None:
        """Take no new requests: those that are being answered may end, as far as the time allows."""
        await self.service.web.stop(min(_LAST_CALL, self._left()))

    async def start_apis(self) -> None:
        """Let programs call what is exposed."""
        await self.service.start_apis()

    async def stop_apis(self) -> None:
        """Take no more calls: those that run may end, as far as the time allows."""
        await self.service.stop_apis(min(_LAST_CALL, self._left()))

    async def stop_ingresses(self) -> None:
        """Serve nobody new: what is being received may end, others are told 421 and come back later."""
        await self.service.stop_ingresses(min(_LAST_MAIL, self._left()))

    # The time of a drain

    def begin_drain(self) -> None:
        """From now on a drain has `settings.drain` seconds in all."""
        self._drain_ends = time.monotonic() + self.settings.drain
        self.service.begin_drain()

    def _left(self) -> float:
        return max(0.0, self._drain_ends - time.monotonic())

    def hurry(self) -> None:
        """Have a drain, now or later, end at once."""
        self.service.hurry()
