"""Taking up new code in a running server (B11): by processes that take over, or by a fresh image of this one.

    renewal = Renewal(bus, server, account, notifier, loop)
    bus.subscribe("graceful", renewal.take_up)     # SIGHUP without a terminal, SIGUSR1
    await renewal.renew()                          # `monsal reload`
    await renewal.replace()                        # `monsal restart`

Whichever way: code that cannot serve changes nothing, and whoever asked is given its traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from monsal.account import Account
from monsal.bus import Bus, ChannelFailures, Phase, TransitionError
from monsal.bus.inner.reexec import command_line
from monsal.bus.launching import LaunchFailed, launch
from monsal.bus.plugins.systemd import Notifier
from monsal.errors import ReloadFailed
from monsal.server import Server

__all__ = ["BROKEN", "Renewal", "first_of", "on_a_thread"]

log = logging.getLogger("monsal.server")

#: What is said of a reload that was given up for the new code.
BROKEN = "the code as it is now cannot serve; the server goes on with the old one"
#: Seconds that new code has to show that it can be loaded.
_CHECKING = 60.0


class Renewal:
    """What one server does to take up new code; one attempt at a time."""

    def __init__(
        self, bus: Bus, server: Server, account: Account, notifier: Notifier, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._bus = bus
        self._server = server
        self._account = account
        self._notifier = notifier
        self._loop = loop
        self._under_way = threading.Lock()
        self._give_up: int | None = None

    async def renew(self) -> dict[str, Any]:
        """Take up the code as it is now; the generation that has it. Raises ReloadFailed."""
        await self._check_started()
        try:
            await asyncio.to_thread(self._bus.graceful)
        except ChannelFailures as failures:
            raise first_of(failures) from None
        server = self._server
        return {"generation": server.generation + (0 if server.service.renews else 1)}

    async def replace(self) -> dict[str, Any]:
        """Begin to replace the process by a fresh one; the generation that will be. Raises ReloadFailed."""
        await self._check_started()
        await asyncio.to_thread(self._alone, self._replace)
        return {"generation": self._server.generation + 1}

    def take_up(self) -> None:
        """Take up the code as it is now; blocks until it serves, or the process begins to be replaced.

        Raises ReloadFailed; then nothing was changed.
        """
        self._alone(self._hand_over if self._server.service.renews else self._replace)

    def quietly(self) -> None:
        """`take_up` for who has nobody to tell: a failure is in the log."""
        try:
            self._bus.graceful()
        except ChannelFailures as failures:
            log.debug("the reload failed: %s", failures, extra={"action": "reload"})

    def give_up(self) -> None:
        """The server ends: a check of new code under way is of no use any more."""
        if self._give_up is not None:
            os.write(self._give_up, b"x")

    async def _check_started(self) -> None:
        if self._bus.phase is Phase.STARTING and self._account.announced:
            # Whoever saw `run/ready.json` may ask at once: what is left of the start takes a moment.
            with contextlib.suppress(TransitionError):
                await asyncio.to_thread(self._bus.wait, (Phase.STARTED, Phase.DRAINING, Phase.STOPPING))
        if self._bus.phase is not Phase.STARTED:
            raise ReloadFailed(f"the server is {self._bus.phase.value}; try again when it is ready")

    def _alone(self, way: Callable[[], None]) -> None:
        if not self._under_way.acquire(blocking=False):
            raise ReloadFailed("a reload is under way already")
        try:
            way()
        except BaseException:
            self._under_way.release()
            raise
        if way != self._replace:  # which this process does not outlive
            self._under_way.release()

    def _hand_over(self) -> None:
        """Have processes with the code as it is now take over; those before end after their turns."""
        server = self._server
        work = server.service.renew(server.generation + 1)
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except ReloadFailed as failed:
            if self._bus.leaving:
                raise ReloadFailed("the server was told to stop while the new code was being started") from None
            raise self._failed(failed.details or str(failed)) from None
        server.generation += 1
        self._account.failed_reload = ""
        self._account.announce()
        log.info("generation %d serves", server.generation, extra={"action": "reload"})

    def _replace(self) -> None:
        """Have a fresh process check the code as it is now; if that can serve, replace this one by it."""
        doors = self._server.doors
        ours, theirs = os.pipe()
        try:
            self._give_up = theirs
            checked = launch(
                _checking(command_line()),
                sockets=doors.kept() if doors is not None else {},
                limit=_CHECKING,
                stdout=subprocess.DEVNULL,
                cancel=ours,
            )
            checked.process.wait(_CHECKING)
        except (LaunchFailed, subprocess.TimeoutExpired) as failure:
            if self._bus.leaving:
                raise ReloadFailed("the server was told to stop while it checked the new code") from None
            raise self._failed(getattr(failure, "output", "").strip() or str(failure)) from None
        finally:
            self._give_up = None
            os.close(ours)
            os.close(theirs)
        log.info("the new code can be loaded; restarting with it", extra={"action": "reload"})
        on_a_thread(self._bus.restart)

    def _failed(self, output: str) -> ReloadFailed:
        self._notifier.reload_failed("the new code cannot serve")
        self._account.failed_reload = f"the reload at {time.strftime('%H:%M:%S')} failed: {output.splitlines()[-1]}"
        log.error("%s\n%s", BROKEN, output, extra={"action": "reload"})
        return ReloadFailed(BROKEN, details=output)


def on_a_thread(method: Callable[[], None]) -> None:
    """Do what waits for the loop, from the loop."""

    def call() -> None:
        try:
            method()
        except ChannelFailures as failures:
            # Each was logged; `block` raises them on the main thread, from which the exit code comes.
            log.debug("the bus had failures: %s", failures, extra={"action": "bus"})

    threading.Thread(target=call, name=f"monsal-{method.__name__}", daemon=True).start()


def first_of(error: BaseException) -> BaseException:
    """The first of the errors that a group holds, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _checking(command: list[str]) -> list[str]:
    """A command line of this program as one that only checks."""
    place = command.index("--") if "--" in command else len(command)
    return [*command[:place], "--check", *command[place:]]
