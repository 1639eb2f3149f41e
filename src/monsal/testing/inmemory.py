"""A whole application in memory, driven by the test: deliver, look, move the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, Self, TypeVar

import msgspec

from monsal.address import fold
from monsal.app import App
from monsal.clock import ManualClock
from monsal.conversation.ports import Delivered, Outcome, RelayMail
from monsal.engine import Engine
from monsal.errors import UsageError
from monsal.mail import Attachment, Draft, Envelope, Message
from monsal.rpc import RemoteAPI
from monsal.smtp.replies import Refused
from monsal.store.contract import Receipt, StateKey
from monsal.store.memory import MemoryStore
from monsal.testing.program import Program

__all__ = ["SentMail", "TestClient", "client", "clock"]


T = TypeVar("T")


def clock(start: float = 1_700_000_000.0) -> ManualClock:
    """A clock that stands still until it is moved; `start` is in epoch seconds."""
    return ManualClock(start)


@dataclass(frozen=True, slots=True)
class SentMail:
    """A mail that left: its envelope, its bytes, and `message` to read it with."""

    sender: str
    to: tuple[str, ...]
    message_id: str
    raw: bytes

    @property
    def message(self) -> Message:
        return Message(raw=self.raw, recipient=self.to[0], correspondent="", envelope=None, received=0.0)

    @property
    def subject(self) -> str:
        return self.message.subject

    @property
    def text(self) -> str:
        """Its text, with plain newlines."""
        return self.message.text


def _sent(mail: RelayMail) -> SentMail:
    body = mail.body if isinstance(mail.body, bytes) else mail.body.read_bytes()
    return SentMail(mail.sender, mail.recipients, mail.message_id, body)


class _KeepingRelay:
    """A relay that keeps each mail and says that it was delivered."""

    def __init__(self) -> None:
        self.mails: list[SentMail] = []

    async def send(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        self.mails.extend(map(_sent, mails))
        return [[Delivered("250 2.0.0 kept") for _ in mail.recipients] for mail in mails]

    async def close(self) -> None:
        """Nothing to give back."""


class TestClient:
    """Speaks to an application as its correspondents do. Use it as a context manager.

    Every call runs the engine until nothing is left to do at the clock's present time.
    """

    __test__ = False

    def __init__(self, app: App, *, clock: ManualClock | None = None, directory: Path | None = None) -> None:
        self.app = app
        self.clock = clock or ManualClock()
        self._directory = directory or app.home
        self._relay = _KeepingRelay()
        self._loop = asyncio.new_event_loop()
        self._engine: Engine | None = None
        self._count = 0
        self._programs: list[Program] = []

    def __enter__(self) -> Self:
        self.app.load()
        resolved = self.app.settings(self._directory, environ={})
        self._engine = Engine(
            self.app.parts(),
            directory=self._directory,
            settings=resolved.settings,
            clock=self.clock,
            store=MemoryStore(tables=self.app.parts().tables),
            relay=self._relay,
        )
        self._run(self._engine.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for program in self._programs:
                self._run(program.close())
            if self._engine is not None:
                self._run(self._engine.close())
        finally:
            self._loop.close()

    # -- speak ------------------------------------------------------------------------------------------------

    def deliver(
        self,
        text: str | None = None,
        *,
        to: str | Iterable[str],
        sender: str,
        subject: str = "",
        html: str | None = None,
        attachments: Sequence[Attachment] = (),
        headers: Mapping[str, str] | None = None,
        in_reply_to: SentMail | None = None,
        envelope_sender: str | None = None,
        user: str | None = None,
        raw: bytes | None = None,
    ) -> Receipt:
        """Write to the application and let it answer.

        `raw` gives the whole message instead of `text`, `html` and the like; `in_reply_to` threads it to a mail
        that was sent; `user` is a name proved by SMTP AUTH. Returns the receipt of its rows. Raises Refused with
        the SMTP reply if an address is not taken.
        """
        engine = self._open_engine()
        recipients = (to,) if isinstance(to, str) else tuple(to)
        envelope = Envelope(
            sender=sender if envelope_sender is None else envelope_sender, recipients=recipients, user=user
        )
        for recipient in recipients:
            reply = engine.spool.accepts(recipient)
            screening = engine.spool.screen(recipient)
            if reply is None and screening is not None:
                reply = self._run(screening(msgspec.structs.replace(envelope, recipients=(recipient,))))
            if reply is not None:
                raise Refused(reply)
        if raw is None:
            self._count += 1
            draft = Draft(
                to=recipients,
                sender=sender,
                subject=subject or (f"Re: {in_reply_to.subject}" if in_reply_to else "(no subject)"),
                text=text,
                html=html,
                attachments=tuple(attachments),
                headers=dict(headers or {}),
                in_reply_to=in_reply_to.message_id if in_reply_to else None,
            )
            raw = draft.render(message_id=f"<test-{self._count}@client.test>", date=self.clock.now())
        receipt = self._run(engine.spool.accept(envelope, (raw,)))
        self.settle()
        return receipt

    def api(self, api: type[RemoteAPI]) -> Program:
        """A program that is connected to an API which the application exposes, in memory.

        Raises UsageError if it does not.
        """
        server = self._open_engine().apis.exposed(api)[0]
        program = Program(api, self._run, self.settle)
        self._programs.append(program)
        self._run(program.connect(server, f"program-{len(self._programs)}"))
        program.wait()
        return program

    def settle(self) -> None:
        """Run everything that is due now."""
        self._run(self._open_engine().settle())

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move the clock, stopping at each timer and retry on the way, as time itself would."""
        engine = self._open_engine()
        end = self.clock.now() + days * 86400.0 + hours * 3600.0 + minutes * 60.0 + seconds
        self.settle()
        while (due := engine.next_due()) is not None and due <= end:
            self.clock.advance(max(0.0, due - self.clock.now()))
            self.settle()
        self.clock.advance(end - self.clock.now())
        self.settle()

    # -- look -------------------------------------------------------------------------------------------------

    @property
    def sent(self) -> list[SentMail]:
        """Every mail that left, in order."""
        return self._relay.mails

    def sent_to(self, address: str) -> list[SentMail]:
        """The mails that left for one address."""
        return [mail for mail in self.sent if fold(address) in map(fold, mail.to)]

    def state_of(self, correspondent: str, machine: ModuleType | Callable[..., Any] | str, *, to: str = "") -> str:
        """The state of a correspondent's conversation with a machine.

        `machine` is the module of its handlers, one of them, or the key itself. For a machine whose keys depend on
        the address that was written to, give that as `to`.
        """
        engine = self._open_engine()
        if isinstance(machine, str):
            key = StateKey(machine, fold(correspondent))
        else:
            name = machine.__name__ if isinstance(machine, ModuleType) else machine.__module__
            message = Message(raw=b"", recipient=to, correspondent=fold(correspondent), envelope=None, received=0.0)
            key = StateKey(*engine.router.state_key(name, message))
        return self._run(engine.store.read_states([key]))[key].state

    def rows(self, what: Literal["queue", "dead", "states", "outbox"]) -> list[Mapping[str, Any]]:
        """What `monsal queue`, `dead`, `states` or `outbox` would list."""
        return self._run(self._open_engine().store.rows(what))

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the application's own tables."""
        return self._run(self._open_engine().store.read(sql, params))

    def replay(self, row: int) -> None:
        """Have a dead letter handled again."""
        self._run(self._open_engine().store.replay(row, self.clock.now()))
        self.settle()

    def _open_engine(self) -> Engine:
        if self._engine is None:
            raise UsageError("use the client as a context manager: with client(app) as mail: ...")
        return self._engine

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)


def client(app: App, *, clock: ManualClock | None = None, directory: Path | None = None) -> TestClient:
    """A client of `app`. `directory` is where templates are looked for (default: where `app` was made)."""
    return TestClient(app, clock=clock, directory=directory)
