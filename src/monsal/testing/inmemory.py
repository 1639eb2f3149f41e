"""A whole application in one process, driven by the test: deliver, look, move the clock.

It is the code of `monsal run --workers 0` without sockets: with a clock that stands still until it is moved, and, given
a seed, one message at a time in an order that the seed decides (rule mailbox.B17).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, Self, TypeVar

import msgspec

from monsal.address import fold
from monsal.app import App
from monsal.clock import ManualClock
from monsal.engine import Engine
from monsal.errors import UsageError
from monsal.mail import Attachment, Draft, Envelope, Message
from monsal.rpc import RemoteAPI
from monsal.smtp.replies import Refused
from monsal.store.contract import Receipt, StateKey
from monsal.store.engine.data import Data
from monsal.store.engine.face import SqlStore
from monsal.store.engine.operation import ASIDE_DURABLE
from monsal.testing.asked import Answer, ask
from monsal.testing.play import Conversation
from monsal.testing.program import Program
from monsal.testing.relay import FakeRelay, SentMail
from monsal.testing.stores import open_for_test
from monsal.web import mounts_of

__all__ = ["TestClient", "client", "clock"]


T = TypeVar("T")


def clock(start: float = 1_700_000_000.0) -> ManualClock:
    """A clock that stands still until it is moved; `start` is in epoch seconds."""
    return ManualClock(start)


class TestClient:
    """Speaks to an application as its correspondents do. Use it as a context manager.

    Every call runs the engine until nothing is left to do at the clock's present time.
    """

    __test__ = False

    def __init__(
        self,
        app: App,
        *,
        clock: ManualClock | None = None,
        directory: Path | None = None,
        store: str = "memory:",
        relay: FakeRelay | None = None,
        seed: int | None = None,
    ) -> None:
        self.app = app
        self.clock = clock or ManualClock()
        self.relay = relay or FakeRelay()
        self._directory = directory or app.home
        self._url = store
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._engine: Engine | None = None
        self._places = ExitStack()
        self._pumping: asyncio.Task[int] | None = None
        self._waits = False
        self._count = 0
        self._programs: list[Program] = []

    @property
    def is_open(self) -> bool:
        """Whether it is used as a context manager now."""
        return self._engine is not None

    def __enter__(self) -> Self:
        self.app.load()
        resolved = self.app.settings(self._directory, environ={})
        parts = self.app.parts()
        self._engine = Engine(
            parts,
            directory=self._directory,
            settings=resolved.settings,
            clock=self.clock,
            store=open_for_test(self._url, self._directory, parts.tables, self._seed, self._places),
            relay=self.relay,
        )
        self._run(self._engine.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for program in self._programs:
                self._run(program.close())
            if self._pumping is not None:
                self._pumping.cancel()
            if self._engine is not None:
                self._run(self._engine.close())
        finally:
            self._engine = None
            self._loop.close()
            self._places.close()

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

    def request(self, method: str, url: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask what the application has mounted (`app.mount`), and let it handle what came of it.

        Of `url` only path and query count, so it may be one out of a mail. A body is a form unless `headers` say
        otherwise.
        """
        engine = self._open_engine()
        mounts = mounts_of(self.app.parts().mounts, engine.settings, engine.entrance)
        form = {"content-type": "application/x-www-form-urlencoded"} if body else {}
        answer = self._run(ask(mounts, method, url, body, {**form, **(headers or {})}))
        self.settle()
        return answer

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is delivered within it is handled at its end, as if it had come at once."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            self.settle()

    def settle(self) -> None:
        """Run everything that is due now; what hangs at the relay stays there."""
        if not self._waits:
            self._run(self._settle(self._open_engine()))

    async def _settle(self, engine: Engine) -> None:
        while True:
            await engine.worker.run_until_idle()
            await engine.entrance.settle()
            # Mail leaves when it is durable, and of no rows this is the way to wait for that.
            await engine.store.settle([])
            if self._pumping is None:
                self._pumping = self._loop.create_task(engine.pump.pump_once(self.clock.now()))
            stuck = self._loop.create_task(self.relay.is_stuck.wait())
            try:
                await asyncio.wait({self._pumping, stuck}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stuck.cancel()
            if not self._pumping.done():
                return
            pumping, self._pumping = self._pumping, None
            if not pumping.result():
                return

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
        return self.relay.mails

    def sent_to(self, address: str) -> list[SentMail]:
        """The mails that left for one address."""
        return [mail for mail in self.sent if fold(address) in map(fold, mail.to)]

    def conversation(self, address: str = "ann@example.net") -> Conversation:
        """A correspondent's side, for tests that read like a play; opens this client if it is used with `with`."""
        return Conversation(self, address)

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

    def rows(self, what: Literal["queue", "dead", "states", "outbox", "suppressed"]) -> list[Mapping[str, Any]]:
        """What `monsal queue`, `dead`, `states` or `outbox` would list."""
        return self._run(self._open_engine().store.rows(what))

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the application's own tables."""
        return self._run(self._open_engine().store.read(sql, params))

    def write(self, sql: str, params: Sequence[Any] = ()) -> None:
        """Prepare the application's own tables, under the rules of a turn. Raises StatementError."""

        def change(data: Data) -> None:
            data.begin_with_care()
            data.guard.turn(data.writer.db, sql, params)

        store = self._open_engine().store
        assert isinstance(store, SqlStore)
        self._run(store.core.run(ASIDE_DURABLE, change))

    def replay(self, row: int) -> None:
        """Have a dead letter handled again."""
        self._run(self._open_engine().store.replay(row, self.clock.now()))
        self.settle()

    def release(self, conversation: str) -> int:
        """Let what is held of a conversation go on; how many messages were held."""
        released = self._run(self._open_engine().store.release(fold(conversation), self.clock.now()))
        self.settle()
        return released

    def _open_engine(self) -> Engine:
        if self._engine is None:
            raise UsageError("use the client as a context manager: with client(app) as mail: ...")
        return self._engine

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)


def client(
    app: App,
    *,
    clock: ManualClock | None = None,
    directory: Path | None = None,
    store: str = "memory:",
    relay: FakeRelay | None = None,
    seed: int | None = None,
) -> TestClient:
    """A client of `app`.

    `directory` is where templates are looked for (default: where `app` was made). `store` is `memory:`, `sqlite` for a
    file that is gone afterwards, or a URL. With a `seed` messages that are ready at the same time are handled one by
    one, in an order that the seed decides: always the same for one seed.
    """
    return TestClient(app, clock=clock, directory=directory, store=store, relay=relay, seed=seed)
