"""The relay that speaks SMTP or LMTP to the next hop, over a few kept connections.

A mail waits in one queue; whichever connection is free takes it. A few rules decide the rest:

- *A kept connection may be dead.* If it turns out so before the peer answered anything of a mail, the mail is tried
  once more over another one. If something was answered, the mail is deferred: the peer may have it (P2, the last hop
  is at-least-once).
- *The next hop is down* if no connection can be made, or greeting, hello or the first MAIL on it fail, while no other
  connection works. Then everything that waits is deferred at once, with `whole_relay`, and until the next try (waits
  grow from one second to one minute) so is all that comes. The first try after that is one connection only.
- *MAIL refused* counts for the whole relay, unless another mail passed MAIL since the last such refusal, or the reply
  is about size: then it is this mail's own trouble, and its tries are counted.
- *Only the peer's 5yz to RCPT or to the mail data is final* (DESIGN 4, *Relay*). The one exception is an address that
  has a control character in it: to ask the peer about it would be to let it forge commands.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from monsal.backoff import exponential
from monsal.conversation.ports import Deferred, Delivered, Failed, Outcome, RelayMail
from monsal.delivery.connection import Connection, Job, RelaySettings
from monsal.errors import ConfigError
from monsal.smtp.transaction import ConnectionGivenUp, RecipientResult

__all__ = ["Endpoint", "RelayStatistics", "SmtpRelay", "parse_endpoint"]

log = logging.getLogger("monsal.relay")

_DEFAULT_PORTS = {"smtp": 25, "lmtp": 24}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the next hop is: host and port, or the path of a unix socket; and whether it speaks LMTP."""

    host: str = ""
    port: int = 0
    path: str = ""
    lmtp: bool = False

    def __str__(self) -> str:
        scheme = "lmtp" if self.lmtp else "smtp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{self.path}" if self.path else f"{scheme}://{host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """Read `smtp://host:port`, `lmtp://host:port`, `smtp:///path` or `lmtp:///path`; ports 25 and 24 by default.

    Raises ConfigError.
    """
    shape = "smtp://host:port, lmtp://host:port, lmtp:path/of/a.sock or capture:dir"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"relay {url!r}: {error}; expected {shape}") from None
    if parts.scheme not in _DEFAULT_PORTS or parts.query or parts.fragment:
        raise ConfigError(f"relay {url!r} is not understood; expected {shape}")
    if "@" in parts.netloc:
        raise ConfigError(
            f"relay {url.split('@')[-1]!r}: a name and password are not supported; use a relay on this host"
        )
    lmtp = parts.scheme == "lmtp"
    if not parts.hostname:
        path = unquote(parts.path)
        if port is not None or len(path) < 2:
            raise ConfigError(f"relay {url!r} has neither host nor path; expected {shape}")
        return Endpoint(path=path, lmtp=lmtp)
    if parts.path not in ("", "/") or port == 0:
        raise ConfigError(f"relay {url!r} is not understood; expected {shape}")
    return Endpoint(host=parts.hostname, port=port or _DEFAULT_PORTS[parts.scheme], lmtp=lmtp)


class RelayStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Connections open now and being opened; mails waiting and under way; since the start: connections opened, and
    recipients by outcome. `reason` says why the whole relay fails, and is empty when it does not."""

    connections: int
    opening: int
    waiting: int
    in_flight: int
    opened: int
    delivered: int
    deferred: int
    failed: int
    reason: str


class _Batch:
    """The mails of one call of `send`, and what is known of them."""

    __slots__ = ("future", "left", "outcomes")

    def __init__(self, mails: Sequence[RelayMail], future: asyncio.Future[None]) -> None:
        self.outcomes: list[list[Outcome]] = [[_UNKNOWN] * len(mail.recipients) for mail in mails]
        self.left = 0
        self.future = future


_UNKNOWN = Deferred("not tried")


class _MailJob(Job):
    """A job and its place in its batch."""

    __slots__ = ("batch", "mail", "offset")

    def __init__(self, mail: RelayMail, size: int, *, batch: _Batch, number: int, part: slice) -> None:
        super().__init__(mail.sender, mail.recipients[part], mail.body, size)
        self.batch = batch
        self.mail = number
        self.offset = part.start


class SmtpRelay:
    """A `Relay` that hands mail to one next hop by SMTP or LMTP.

    Order of use: `send`, by any number of tasks of one event loop at the same time; at last `close`. Nothing is
    opened before the first mail. Raises ConfigError for a url that `parse_endpoint` does not take.
    """

    def __init__(self, url: str, settings: RelaySettings | None = None) -> None:
        self.endpoint = parse_endpoint(url)
        self._settings = settings or RelaySettings()
        self._waiting: deque[_MailJob] = deque()
        self._connections: set[Connection] = set()
        self._parting: set[Connection] = set()  # they take no more jobs, but their sockets are still open
        self._idle: list[Connection] = []  # the last one used is taken first, so that surplus ones grow old
        self._opening: dict[Connection, asyncio.Task[None]] = {}  # until the socket is connected
        self._retry_at = 0.0  # on the loop's clock
        self._failures = 0  # since a mail passed MAIL
        self._reason = ""
        self._mail_passes = False  # since MAIL was refused
        self._in_flight = 0
        self._opened = 0
        self._counts = {Delivered: 0, Deferred: 0, Failed: 0}
        self._closing = False

    @property
    def reason(self) -> str:
        """Why nothing can be sent at the moment; empty if it can."""
        return self._reason

    @property
    def healthy(self) -> bool:
        """Whether the next hop takes mail, as far as is known."""
        return not self._reason

    def statistics(self) -> RelayStatistics:
        return RelayStatistics(
            connections=len(self._connections),
            opening=len(self._opening),
            waiting=len(self._waiting),
            in_flight=self._in_flight,
            opened=self._opened,
            delivered=self._counts[Delivered],
            deferred=self._counts[Deferred],
            failed=self._counts[Failed],
            reason=self._reason,
        )

    async def send(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        """Try each mail once; for each mail one outcome per recipient, in order. Raises nothing but cancellation.

        When cancelled, mails that no connection has taken yet are not sent; the others may be.
        """
        if not mails:
            return []
        batch = _Batch(mails, asyncio.get_running_loop().create_future())
        sizes = await _sizes(mails)
        jobs = [job for number, mail in enumerate(mails) for job in self._jobs(batch, number, mail, sizes.get(number))]
        if not jobs:
            return batch.outcomes
        batch.left = len(jobs)
        self._waiting.extend(jobs)
        self._dispatch()
        try:
            await batch.future
        except asyncio.CancelledError:
            self._waiting = deque(job for job in self._waiting if job.batch is not batch)
            raise
        return batch.outcomes

    async def close(self) -> None:
        """Take leave of the peer. Mails that wait or are under way are deferred."""
        self._closing = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        for connection in list(self._connections):
            connection.part()
        self._defer_waiting("the relay is closed")
        await asyncio.gather(*opening, return_exceptions=True)
        await asyncio.gather(*(connection.wait_ended() for connection in list(self._parting)))

    # Jobs

    def _jobs(self, batch: _Batch, number: int, mail: RelayMail, size: int | OSError | None) -> list[_MailJob]:
        if isinstance(size, OSError):
            self._record(batch, number, 0, [Deferred(f"the stored body cannot be read: {size}")] * len(mail.recipients))
            return []
        step = self._settings.max_recipients
        return [
            _MailJob(mail, size or 0, batch=batch, number=number, part=slice(offset, offset + step))
            for offset in range(0, len(mail.recipients), step)
        ]

    def _dispatch(self) -> None:
        """Give waiting jobs to idle connections, and open more if that is not enough."""
        while self._waiting and self._idle:
            connection = self._idle.pop()
            if (job := self.next_job()) is not None:
                connection.take(job)
        if not self._waiting:
            return
        if self._closing:
            self._defer_waiting("the relay is closed")
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._retry_at:
            if self._opening or self._connections:
                return
            if self._reason:
                self._defer_waiting(self._reason)
                return
        coming = len(self._opening) + sum(not connection.ready for connection in self._connections)
        room = self._settings.connections - len(self._opening) - len(self._connections)
        if self._failures:  # one connection tries whether the next hop is back
            room = min(room, 1 - coming)
        for _ in range(min(room, len(self._waiting) - coming)):
            connection = Connection(self, self._settings, lmtp=self.endpoint.lmtp)
            self._opening[connection] = loop.create_task(self._open(connection))

    async def _open(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        end = self.endpoint
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                if end.path:
                    await loop.create_unix_connection(lambda: connection, end.path)
                else:
                    await loop.create_connection(lambda: connection, end.host, end.port)
        except TimeoutError:
            reason = f"no connection to {end} within {self._settings.connect_timeout:g} s"
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be encoded
            reason = f"no connection to {end}: {_cause(error)}"
        except asyncio.CancelledError:
            connection.abandon()
            raise
        else:
            return
        finally:
            self._opening.pop(connection, None)
        connection.abandon()
        self._failed(reason)

    # What connections tell (connection.Owner)

    def connection_open(self, connection: Connection) -> None:
        self._opened += 1
        self._opening.pop(connection, None)
        self._connections.add(connection)

    def next_job(self) -> _MailJob | None:
        if not self._waiting:
            return None
        self._in_flight += 1
        return self._waiting.popleft()

    def job_done(self, job: Job, results: tuple[RecipientResult, ...]) -> None:
        assert isinstance(job, _MailJob)
        self._in_flight -= 1
        # A reply that speaks of several recipients is one object, and is judged once.
        judged: dict[int, Outcome] = {}
        for result in results:
            if id(result) not in judged:
                judged[id(result)] = self._outcome(result)
        self._settle(job, [judged[id(result)] for result in results])

    def connection_idle(self, connection: Connection) -> None:
        if connection not in self._idle:
            self._idle.append(connection)

    def connection_gone(self, connection: Connection, event: ConnectionGivenUp) -> None:
        self._connections.discard(connection)
        self._parting.add(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        fresh = not connection.ready
        for job in event.untouched:
            assert isinstance(job, _MailJob)
            self._in_flight -= 1
            fresh = fresh or job.first
            if job.retried:
                self._settle(job, [Deferred(event.reason, whole_relay=True)] * len(job.recipients))
            else:
                job.retried = True
                self._waiting.appendleft(job)
        if self._closing:
            return
        if fresh:
            self._failed(f"{self.endpoint}: {event.reason}")
        elif event.untouched:
            # The others were kept as long: likely dead as well. The job goes over a new one.
            for idle in list(self._idle):
                idle.part()
        self._dispatch()

    def connection_ended(self, connection: Connection) -> None:
        self._parting.discard(connection)

    # What it means

    def _outcome(self, result: RecipientResult) -> Outcome:
        reply = result.reply
        if result.stage in ("body", "rcpt", "data"):
            self._passed()
            assert reply is not None
            if reply.is_permanent and result.stage != "data":
                return Failed(str(reply))
            return Delivered(str(reply)) if reply.is_positive else Deferred(str(reply))
        if result.stage == "address":
            return Failed(str(result))
        if result.stage == "mail":
            assert reply is not None
            whole = reply.code != 552 and not self._mail_passes
            self._mail_passes = False
            self._turn_red(f"{self.endpoint} refuses MAIL: {reply}")
            return Deferred(f"MAIL refused: {reply}", whole_relay=whole)
        return Deferred(str(result))

    def _passed(self) -> None:
        """A mail got past MAIL: the next hop works."""
        self._mail_passes = True
        if self._failures:
            self._failures = 0
            self._retry_at = 0.0
            if self._waiting:  # more connections may be opened again
                asyncio.get_running_loop().call_soon(self._dispatch)
        if self._reason:
            self._reason = ""
            log.info("%s takes mail again", self.endpoint, extra={"action": "relay_up"})

    def _failed(self, reason: str) -> None:
        """A connection could not be made or used. If none works and none is coming, nothing can be sent for a while."""
        if self._closing:
            return
        now = asyncio.get_running_loop().time()
        if now >= self._retry_at:  # connections that failed together are one failure
            self._failures += 1
            wait = exponential(
                self._failures,
                first=self._settings.first_wait,
                limit=self._settings.longest_wait,
                jitter=random.random(),
            )
            self._retry_at = now + wait
        if not self._opening and not self._connections:
            self._turn_red(reason)
            self._defer_waiting(reason)
        elif self._waiting:  # for the connections that are left; but they may be slow
            asyncio.get_running_loop().call_at(self._retry_at, self._dispatch)

    def _turn_red(self, reason: str) -> None:
        if not self._reason:
            log.warning("nothing can be sent: %s", reason, extra={"action": "relay_down"})
        self._reason = reason

    def _defer_waiting(self, reason: str) -> None:
        after = max(0.0, self._retry_at - asyncio.get_running_loop().time())
        outcome = Deferred(reason, whole_relay=True, retry_after=after)
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            self._settle(job, [outcome] * len(job.recipients))

    def _settle(self, job: _MailJob, outcomes: Sequence[Outcome]) -> None:
        batch = job.batch
        self._record(batch, job.mail, job.offset, outcomes)
        batch.left -= 1
        if not batch.left and not batch.future.done():
            batch.future.set_result(None)

    def _record(self, batch: _Batch, mail: int, offset: int, outcomes: Sequence[Outcome]) -> None:
        batch.outcomes[mail][offset : offset + len(outcomes)] = outcomes
        for outcome in outcomes:
            self._counts[type(outcome)] += 1


def _cause(error: OSError | ValueError) -> str:
    """Why no connection was made, in the system's words; asyncio's say only that it failed."""
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error)


async def _sizes(mails: Sequence[RelayMail]) -> dict[int, int | OSError]:
    """The sizes of bodies that lie in files, or why they cannot be had; by the mail's number."""
    paths = {number: mail.body for number, mail in enumerate(mails) if isinstance(mail.body, Path)}
    if not paths:
        return {}
    return await asyncio.get_running_loop().run_in_executor(None, _stat_all, paths)


def _stat_all(paths: dict[int, Path]) -> dict[int, int | OSError]:
    found: dict[int, int | OSError] = {}
    for number, path in paths.items():
        try:
            found[number] = os.stat(path).st_size
        except OSError as error:
            found[number] = error
    return found
