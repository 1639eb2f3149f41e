"""What an arbiter knows of one actor of its own: its process or thread, its link, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec

from monsal.actors.causes import Exit, ExitKind, Knowledge, Status, cause_of
from monsal.actors.errors import ActorDied, CommandError, SpawnFailed
from monsal.actors.life import PARENT_LOST
from monsal.actors.message import opened
from monsal.actors.recorder import Doing, Recorder
from monsal.actors.refs import ActorRef
from monsal.actors.spec import ActorSpec
from monsal.actors.states import ActorState
from monsal.actors.station import MACHINE
from monsal.errors import CallExpired, ConnectionLost, MonsalError, RemoteFault
from monsal.transport.link import Link
from monsal.transport.setup import LinkSetup

__all__ = ["Equip", "Host", "Record", "RecordStatistics"]

log = logging.getLogger("monsal.actors")

#: Seconds between SIGTERM and SIGKILL, and those in which a hung one may show that it was only slow.
_TERM: Final = 1.0
_SECOND_LOOK: Final = 1.0
#: How soon after the request the stacks are looked for.
_DUMPED: Final = 0.02


#: Gives an actor what it needs between its `boot` and its `start`: sockets, by `Arbiter.hand_over`.
Equip = Callable[[ActorRef], Awaitable[object]]


class Host(Protocol):
    """Where an actor runs: a `Process`, or a thread."""

    kind: str
    recorder: Recorder
    ended: asyncio.Future[int]

    @property
    def pid(self) -> int: ...
    @property
    def was_oom_killed(self) -> bool: ...
    def start(self) -> None: ...
    async def connect(self, link: Link) -> None: ...
    async def put_at_door(self, sock: socket.socket) -> dict[str, Any]: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def dump(self) -> None: ...
    def said(self) -> str: ...
    def stacks(self) -> str: ...
    def forget_said(self) -> None: ...
    def close(self) -> None: ...


class RecordStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """An actor as its arbiter sees it: seconds since its start, turns so far, what it does, seconds since its beat."""

    ref: ActorRef
    pid: int
    kind: str
    state: str
    uptime: float
    turns: int
    doing: tuple[str, ...]
    silent: float
    pending: int
    unsent: int
    octets_in: int
    octets_out: int


class Record:
    """One actor. `boot`, `activate`, `stop`; `down` is the cause of its end."""

    def __init__(self, spec: ActorSpec, ref: ActorRef, host: Host, setup: LinkSetup, on_down: Callable[[Record], None]):
        self.spec = spec
        self.ref = ref
        self.host = host
        self.state = ActorState.INITIAL
        self.loop = asyncio.get_running_loop()
        self.down: asyncio.Future[Exit] = self.loop.create_future()
        #: What was on the table when it ended.
        self.left: tuple[Doing, ...] = ()
        self.began = time.monotonic()
        #: What it told of itself last, and when (mailbox's `notify`).
        self.told: Any = None
        self.last_notified = 0.0
        self.link = opened(setup, str(ref))
        self._on_down = on_down
        self._asked = self._killed = self._hung = False
        self._kind: ExitKind | None = None
        self._detail = self._stack = ""
        self._watch: asyncio.TimerHandle | None = None
        self._judging: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._at_door = asyncio.Lock()
        #: After how many turns it is to ask for being replaced; 0 is never.
        self.recycle_after = 0

    @property
    def pid(self) -> int:
        return self.host.pid

    @property
    def is_up(self) -> bool:
        """Whether it can be asked."""
        return self.state is ActorState.RUN and self.link.is_open

    # -- its beginning ----------------------------------------------------------------------------------------

    async def boot(self) -> None:
        """Start it and have it import its code; it is inactive then. Raises SpawnFailed, and then it has ended."""
        try:
            if self._asked:
                raise InterruptedError("it was stopped before it was started")
            self.host.start()
        except OSError as error:
            self.host.close()
            kind = ExitKind.SHUTDOWN if self._asked else ExitKind.START_FAILED
            self.down.set_result(Exit(kind=kind, detail=str(error)))
            self._on_down(self)
            raise SpawnFailed(f"{self.ref.name} cannot be started: {error}", cause=self.down.result()) from error
        self.host.ended.add_done_callback(self._ended)
        told: dict[str, Any] = {"spec": self.spec, "ref": self.ref, "recycle_after": self.recycle_after}
        if self.host.kind == "process":
            told["sys_path"] = [os.getcwd() if path == "" else path for path in sys.path]
        try:
            await self.host.connect(self.link)
            await self.link.call(f"{MACHINE}boot", told, timeout=self.spec.ready_within)
        except BaseException as error:  # noqa: BLE001 - it is raised as what it means
            raise await self._failed(error) from None
        self.state = ActorState.INACTIVE
        self.host.forget_said()

    async def equip(self, equip: Equip | None) -> None:
        """Have it given what it needs before it is made active. Raises SpawnFailed, and then it has ended."""
        if equip is None:
            return
        try:
            await equip(self.ref)
        except Exception as error:
            log.warning("%s cannot be equipped", self.ref, exc_info=error)
            self._kind, self._detail = ExitKind.START_FAILED, f"it could not be given what it needs: {error}"
            await self.end()
            cause = self.down.result()
            details = getattr(error, "details", "") or "".join(traceback.format_exception(error))
            raise SpawnFailed(f"{self.ref.name} did not start: {error}", cause=cause, details=details) from error

    async def activate(self, ref: ActorRef) -> None:
        """Make it active under this name. Raises SpawnFailed, and then it has ended."""
        self.ref = ref
        self.link.name = str(ref)
        self.state = ActorState.STARTING
        left = self.spec.ready_within
        try:
            await self.link.call(f"{MACHINE}start", ref, timeout=left)  # type: ignore[arg-type] # a Struct is a map
        except BaseException as error:  # noqa: BLE001 - it is raised as what it means
            raise await self._failed(error) from None
        if self.state is ActorState.STARTING:
            self.state = ActorState.RUN
        self._expect_beat()

    async def _failed(self, error: BaseException) -> BaseException:
        """It did not start: end it, and say why."""
        what = f"{self.ref.name} ({self.spec.actor}) did not start"
        details = kind = ""
        if isinstance(error, RemoteFault):
            kind = error.kind
            said = error.data if isinstance(error.data, dict) else {}
            with contextlib.suppress(ValueError):
                self._kind = ExitKind(str(said.get("exit", "")))
            details = error.details
            self._detail = str(error)
            what = f"{what}: {error}"
        elif isinstance(error, CallExpired):
            self._kind = ExitKind.START_FAILED
            self._detail = what = (
                f"{self.ref.name} ({self.spec.actor}) was not ready within {self.spec.ready_within:g} s"
            )
            if self.host.recorder.last_beat:  # before that it would not know what is meant
                self.host.dump()
                await asyncio.sleep(_DUMPED)
                details = self._stack = self.host.stacks()
        said_before = self.host.said()
        await self.end()
        cause = self.down.result()
        if isinstance(error, asyncio.CancelledError):
            return error
        if isinstance(error, ConnectionLost | OSError):
            what = f"{what}: it {cause}"
            details = self.last_said or self.host_stack
        reason = str(error) if kind else ""
        return SpawnFailed(what, cause=cause, details=details or said_before, kind=kind, reason=reason)

    last_said = host_stack = ""

    # -- its end ----------------------------------------------------------------------------------------------

    async def stop(self, within: float | None) -> Exit:
        """Stop it: ask, after `within` seconds SIGTERM, then SIGKILL; how it ended. None waits for ever."""
        if self._stopping is None:
            self._stopping = self.loop.create_task(self._stop(within), name=f"stops {self.ref}")
        await asyncio.shield(self._stopping)
        return await asyncio.shield(self.down)

    async def _stop(self, within: float | None) -> None:
        self._asked = True
        if ActorState.INACTIVE <= self.state < ActorState.STOPPING and self.state is not ActorState.STARTING:
            self.state = ActorState.STOPPING
        # One that still imports its code holds nothing that could be lost, and would not hear it.
        is_booting = self.state is ActorState.INITIAL
        if self.link.is_open and self.host.recorder.last_beat and not is_booting:
            with contextlib.suppress(MonsalError):  # it does not read: SIGTERM says the same
                self.link.cast(f"{MACHINE}stop", {"within": within})
            await asyncio.wait([self.down], timeout=within)
        await self.end()

    async def end(self) -> None:
        """End it by force: SIGTERM, after a second SIGKILL."""
        if self.down.done() or not self.host.pid:
            return
        if self.host.recorder.last_beat:
            self.host.terminate()
            await asyncio.wait([self.down], timeout=_TERM)
        if not self.down.done():
            self._killed = True
            self.host.kill()
            await asyncio.shield(self.down)

    def _ended(self, ended: asyncio.Future[int]) -> None:
        status = Status.of_returncode(ended.result())
        if self._watch is not None:
            self._watch.cancel()
        host = self.host
        self.last_said, self.host_stack = host.said(), host.stacks()
        self.left = host.recorder.doing()
        now = time.monotonic()
        detail = self._detail or "; ".join(doing.text(now) for doing in self.left)
        was_ready = self.state not in (ActorState.INITIAL, ActorState.STARTING)
        kind = self._kind
        if kind is None and self._asked and self.state is not ActorState.STOPPING:
            kind = ExitKind.SHUTDOWN  # it was not wanted any more before it was ready
        if kind is None and status.code == PARENT_LOST:
            kind = ExitKind.PARENT_LOST
        cause = cause_of(
            status,
            Knowledge(
                was_ready=was_ready,
                asked_to_stop=self._asked,
                killed=self._killed,
                hung=self._hung,
                out_of_memory=host.was_oom_killed,
                said=kind,
                boot_output=self.last_said,
                stack=self._stack or self.host_stack,
                detail=detail,
            ),
        )
        self.state = ActorState.TERMINATE if cause.is_abnormal else ActorState.CLOSE
        self.link.abort("its process has ended")
        host.close()
        self.down.set_result(cause)
        self._on_down(self)

    def died(self) -> ActorDied:
        """The error for those that it did not answer. Only once it is down."""
        cause = self.down.result()
        return ActorDied(f"{self.ref} {cause}", ref=self.ref, cause=cause)

    # -- signs of life ----------------------------------------------------------------------------------------

    def _expect_beat(self) -> None:
        """Look at its beats when the next one is overdue; nobody is woken before that (mailbox.B11)."""
        if self.down.done():
            return
        due = self.host.recorder.last_beat + self.spec.timeout - time.monotonic()
        self._watch = self.loop.call_later(max(0.01, due), self._look)

    def _look(self) -> None:
        if self.host.recorder.last_beat + self.spec.timeout > time.monotonic():
            self._expect_beat()
        else:
            self._judging = self.loop.create_task(self._judge(), name=f"judges {self.ref}")

    async def _judge(self) -> None:
        """It gives no sign of life: see what it is at, give it a second, and end it if it still gives none."""
        last = self.host.recorder.last_beat
        doing = self.doing()
        self.host.dump()
        await asyncio.wait([self.down], timeout=_SECOND_LOOK)
        if self.down.done():
            return
        self._stack = self.host.stacks()
        if self.host.recorder.last_beat > last:
            log.warning("%s was late with its signs of life; it was at: %s", self.ref, "; ".join(doing) or "nothing")
            self._stack = ""
            self._expect_beat()
            return
        self._hung = True
        self._detail = f"no sign of life for {time.monotonic() - last:.1f} s; " + ("; ".join(doing) or "between turns")
        log.error("%s hangs and is ended: %s\n%s", self.ref, self._detail, self._stack, extra={"action": "hang"})
        await self.end()

    def doing(self) -> tuple[str, ...]:
        """What it is doing, for people."""
        if self.down.done():
            return tuple(f"it {self.down.result()}" for _ in range(1))
        now = time.monotonic()
        return tuple(doing.text(now) for doing in self.host.recorder.doing())

    # -- what it is given -------------------------------------------------------------------------------------

    async def hand_over(self, purpose: str, sock: socket.socket, peer: ActorRef | None = None) -> None:
        """Give it a socket; returns when it has taken it. Ours stays open: close it when it is of no more use here.

        Raises what its hook `introduced` raises, ActorDied.
        """
        async with self._at_door:
            try:
                told = {"purpose": purpose, "peer": peer, **await self.host.put_at_door(sock)}
                await self.link.call(f"{MACHINE}door", told, timeout=self.spec.timeout)
            except (ConnectionLost, OSError) as error:
                if not self.down.done() and not self.link.is_open:
                    await asyncio.wait([self.down], timeout=_TERM)
                if self.down.done():
                    raise self.died() from None
                raise CommandError(f"{self.ref} cannot be given a socket: {error}") from error

    def statistics(self) -> RecordStatistics:
        known = self.link.statistics()
        now = time.monotonic()
        is_over = self.down.done()
        return RecordStatistics(
            ref=self.ref,
            pid=self.pid,
            kind=self.host.kind,
            state=self.state.text,
            uptime=now - self.began,
            turns=0 if is_over else self.host.recorder.turns,
            doing=() if is_over else self.doing(),
            silent=0.0 if is_over else max(0.0, now - self.host.recorder.last_beat),
            pending=known.pending,
            unsent=known.unsent,
            octets_in=known.octets_in,
            octets_out=known.octets_out,
        )
