"""The relay that speaks SMTP or LMTP to the next hop, over a few kept connections.

A mail waits in one queue; whichever connection is free takes it. A few rules decide the rest:

- *A kept connection may be dead.* If it turns out so before the peer answered anything of a mail, the mail is tried
  once more over another one. If something was answered, the mail is deferred: the peer may have it (P2, the last hop
  is at-least-once).
- *The next hop is down* if no connection can be made, or greeting, hello or the first MAIL on it fail, while no other
  connection works. Then everything that waits is deferred at once, with `whole_relay`, and until the next try (waits
  grow from one second to one minute) so is all that comes. The first try after that is one connection only.
- *One mail may be what it hangs up at.* Its second try has a connection to itself, so that it takes no others with it,
  and comes after them, so that it is known whether they pass. If they do, the end counts as this mail's own try; from
  then on its recipients are tried one by one (`jobs.Suspects`).
- *MAIL refused for now* has the next place asked at once, if there are several (RFC 5321, section 5.1).
- *MAIL refused* by all counts for the whole relay, unless another mail passed MAIL since the last such refusal, or the
  reply is about size: then it is this mail's own trouble, and its tries are counted.
- *Final* is the peer's 5yz to RCPT or to the mail data (DESIGN 4, *Relay*), and what its own hello rules out: a mail
  that it has no room for, an address or content that it does not take (RFC 1870, RFC 6531, RFC 6152). A control
  character in an address is final, too: to ask the peer about it would be to let it forge commands.
- *TLS* is as the endpoint says. Where it need not be, a failed handshake costs one connection, and the next ones are
  made without for a while.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import cast

from monsal.backoff import exponential
from monsal.conversation.ports import Deferred, Delivered, Failed, Outcome, RelayMail
from monsal.delivery.connection import Connection, Job, RelaySettings
from monsal.delivery.jobs import Batch, Begun, MailJob, RelayStatistics, Suspects, cut, sizes_of
from monsal.delivery.places import Places
from monsal.delivery.route import FixedRoute, NoRoute, Route, Target
from monsal.delivery.security import Security, security_of, why_not
from monsal.errors import ConfigError
from monsal.smtp.endpoint import Endpoint, parse_endpoint
from monsal.smtp.replies import Reply
from monsal.smtp.transaction import ConnectionGivenUp, RecipientResult

__all__ = ["SmtpRelay"]

log = logging.getLogger("monsal.relay")

#: So many jobs are left to one connection that is kept, before another one is used beside it; and so many seconds.
_JOBS_IN_A_ROW = 8
_PATIENCE = 0.005

#: Where our own word is final, and the enhanced status code that says so (RFC 3463).
_RULED_OUT = {"address": "5.1.3", "utf8": "5.6.7", "8bit": "5.6.3", "size": "5.3.4"}


class SmtpRelay:
    """A `Relay` that hands mail to one next hop by SMTP or LMTP.

    Order of use: `send`, by any number of tasks of one event loop at the same time; at last `close`. Nothing is
    opened before the first mail. Raises ConfigError for a url that `parse_endpoint` does not take.
    """

    def __init__(
        self,
        where: str | Endpoint,
        settings: RelaySettings | None = None,
        *,
        route: Route | None = None,
        mail_is_final: bool = False,
    ) -> None:
        """With `mail_is_final` a 5yz to MAIL is the end of a mail: it is the recipients' own server that says so."""
        self.endpoint = parse_endpoint(where) if isinstance(where, str) else where
        self._route = route or FixedRoute(self.endpoint)
        self._settings = settings or RelaySettings()
        self._mail_is_final = mail_is_final
        self._waiting: deque[MailJob] = deque()
        self._alone: deque[MailJob] = deque()  # those that want a connection to themselves
        self._suspects = Suspects()
        self._connections: set[Connection] = set()
        self._parting: set[Connection] = set()  # they take no more jobs, but their sockets are still open
        self._idle: list[Connection] = []  # the last one used is taken first, so that surplus ones grow old
        self._opening: set[asyncio.Task[None]] = set()  # until the socket is connected
        self._spreading: asyncio.TimerHandle | None = None
        self._places = Places(self._settings.shun_time)
        self._in_clear: dict[Target, float] = {}  # until when, on the loop's clock
        self._context: ssl.SSLContext | None = None
        self._retry_at = 0.0  # on the loop's clock
        self._failures = 0  # since a mail passed MAIL
        self._reason = ""
        self._mail_passes = False  # since MAIL was refused, or the peer hung up
        self._ends = 0  # first mails of connections at which the peer hung up, since one passed
        self._in_flight = 0
        self._opened = 0
        self._counts: dict[type[Outcome], int] = {Delivered: 0, Deferred: 0, Failed: 0}
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
            waiting=len(self._waiting) + len(self._alone),
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
        batch = Batch(mails, asyncio.get_running_loop().create_future(), self._counts)
        sizes = await sizes_of(mails)
        jobs = [job for number, mail in enumerate(mails) for job in self._jobs(batch, number, mail, sizes.get(number))]
        if not jobs:
            return batch.outcomes
        batch.left = len(jobs)
        for job in jobs:
            (self._alone if job.alone else self._waiting).append(job)
        self._dispatch()
        return await self._outcomes(batch)

    async def _outcomes(self, batch: Batch) -> list[list[Outcome]]:
        try:
            await batch.future
        except asyncio.CancelledError:
            self._waiting = deque(job for job in self._waiting if job.batch is not batch)
            self._alone = deque(job for job in self._alone if job.batch is not batch)
            raise
        return batch.outcomes

    def begin(self, mail: RelayMail) -> Begun | None:
        """Tell the next hop the envelope of a mail that may not leave yet, if a connection has nothing to do. What it
        says to that has no effect before `Begun.release`."""
        is_free = self._idle and self._mail_passes and not (self._in_flight or self._wanting() or self._closing)
        is_usual = isinstance(mail.body, bytes) and 0 < len(mail.recipients) <= self._settings.max_recipients
        if not is_free or not is_usual or mail.message_id in self._suspects:
            return None
        batch = Batch([mail], asyncio.get_running_loop().create_future(), self._counts)
        (job,) = self._jobs(batch, 0, mail, None)
        batch.left = 1
        job.held = True
        self._in_flight += 1
        self._idle.pop().take(job)
        return Begun(job, partial(self._release, job), partial(self._outcomes, batch))

    def _release(self, job: MailJob) -> None:
        job.held = False
        if job.early is not None:
            self._judge(job, job.early)
        elif job.connection is not None:
            job.connection.release()
        else:  # nothing of it was sent: it goes like any other
            self._waiting.append(job)
            self._dispatch()

    async def close(self) -> None:
        """Take leave of the peer. Mails that wait or are under way are deferred."""
        self._closing = True
        if self._spreading is not None:
            self._spreading.cancel()
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        for connection in list(self._connections):
            connection.part()
        self._defer_waiting("the relay is closed")
        await asyncio.gather(*opening, return_exceptions=True)
        await asyncio.gather(*(connection.wait_ended() for connection in list(self._parting)))

    # Jobs

    def _jobs(self, batch: Batch, number: int, mail: RelayMail, size: int | OSError | None) -> list[MailJob]:
        if isinstance(size, OSError):
            batch.record(number, 0, [Deferred(f"the stored body cannot be read: {size}")] * len(mail.recipients))
            return []
        suspect = bool(self._suspects) and mail.message_id in self._suspects
        step = 1 if suspect else self._settings.max_recipients
        return cut(mail, step, size=size or 0, batch=batch, number=number, alone=suspect)

    def _dispatch(self, *, everywhere: bool = False) -> None:
        """Give waiting jobs to idle connections, and open more if that is not enough.

        Not to all of them at once, unless `everywhere`: a connection with several jobs writes the content of one and
        the envelope of the next in one piece, which is half the writes. Where that turns out to be too slow, the jobs
        that still wait are spread a moment later.
        """
        busy = len(self._connections) - len(self._idle)
        wanted = len(self._waiting) / _JOBS_IN_A_ROW - busy
        while self._idle and (everywhere or self._alone or wanted > 0) and (job := self.next_job(empty=True)):
            self._idle.pop().take(job)
            wanted -= 1
        if not self._wanting():
            return
        if self._idle and not everywhere:
            if self._spreading is None and not self._closing:
                self._spreading = asyncio.get_running_loop().call_later(_PATIENCE, self._spread)
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
        for _ in range(min(room, self._wanting() - coming)):
            task = loop.create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _spread(self) -> None:
        self._spreading = None
        self._dispatch(everywhere=True)

    def _wanting(self) -> int:
        return len(self._waiting) + len(self._alone)

    async def _open(self) -> None:
        """Connect to the first place that answers."""
        try:
            self._places.set(await self._route.targets())
        except NoRoute as error:
            self._no_route(error)
            return
        reason = ""
        time = asyncio.get_running_loop().time
        for target in self._places.in_turn(time()):
            reason = await self._connect(target)
            if not reason:
                return
            self._places.shun(target, time())
        self._opening.discard(_this_task())
        self._failed(reason)

    async def _connect(self, target: Target) -> str:
        """Why there is no connection to that place, or nothing if there is one."""
        end = target.endpoint
        connection: Connection | None = None
        try:
            security = await self._security(target)
            connection = Connection(self, self._settings, target, security)
            connection.opener = _this_task()
            async with asyncio.timeout(self._settings.connect_timeout):
                await connection.connect()
        except TimeoutError:
            reason = f"no connection to {end} within {self._settings.connect_timeout:g} s"
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be encoded
            reason = f"no connection to {end}: {why_not(error)}"
        except ConfigError as error:
            reason = str(error)
        except asyncio.CancelledError:
            if connection is not None:
                connection.abandon()
            raise
        else:
            return ""
        if connection is not None:
            connection.abandon()
        return reason

    async def _security(self, target: Target) -> Security:
        in_clear = asyncio.get_running_loop().time() < self._in_clear.get(target, 0.0)
        found = await security_of(target.endpoint, self._context, in_clear=in_clear)
        self._context = found.context or self._context
        return found

    def _no_route(self, error: NoRoute) -> None:
        """Nobody can be connected to, says whoever knows where."""
        self._opening.discard(_this_task())
        if error.final:
            self._settle_waiting(Failed(error.reason))
        else:
            self._failed(error.reason)

    # What connections tell (connection.Owner)

    def connection_open(self, connection: Connection) -> None:
        self._opened += 1
        if connection.opener is not None:
            self._opening.discard(connection.opener)
        self._connections.add(connection)

    def next_job(self, *, empty: bool) -> MailJob | None:
        if self._alone:
            # After the others as long as it is not known whether anything passes; then before them.
            if empty and (self._mail_passes or not (self._waiting or self._in_flight)):
                self._in_flight += 1
                return self._alone.popleft()
            if self._mail_passes:
                return None  # this connection runs empty for it
        if not self._waiting:
            return None
        self._in_flight += 1
        return self._waiting.popleft()

    def job_done(self, job: Job, results: tuple[RecipientResult, ...]) -> None:
        assert isinstance(job, MailJob)
        self._in_flight -= 1
        if not job.held:
            self._judge(job, results)
        elif any(result.stage == "lost" for result in results):
            job.connection = None
        else:
            job.early = results

    def _judge(self, job: MailJob, results: tuple[RecipientResult, ...]) -> None:
        if results[0].stage == "mail" and self._goes_elsewhere(job, results[0].reply):
            return
        # A reply that speaks of several recipients is one object, and is judged once.
        judged: dict[int, Outcome] = {}
        for result in results:
            if id(result) not in judged:
                judged[id(result)] = self._outcome(result)
                if result.stage == "lost":
                    self._suspects.add(job.message_id)
        job.batch.settle(job, [judged[id(result)] for result in results])

    def _goes_elsewhere(self, job: MailJob, reply: Reply | None) -> bool:
        """Whether another place gets a mail at once, because this one has said 4yz to MAIL; each is asked once."""
        connection = job.connection
        if connection is None or reply is None or reply.is_permanent or self._closing:
            return False
        place = connection.target
        again, job.refused_at = place in job.refused_at, job.refused_at | {place}
        now = asyncio.get_running_loop().time()
        if again or not self._places.has_another(now, beside=job.refused_at):
            return False
        log.info("%s refuses MAIL: %s; the next one is tried", place, reply, extra={"action": "next_place"})
        self._places.shun(place, now)
        (self._alone if job.alone else self._waiting).appendleft(job)
        # None of them gets it while the others take leave: it would be refused there again, and be deferred.
        self._idle = [each for each in self._idle if each.target != place]
        for each in [each for each in self._connections if each.target == place]:
            each.wind_up()
        self._dispatch()
        return True

    def handshake_failed(self, connection: Connection) -> None:
        if connection.target.endpoint.effective_tls == "opportunistic":
            until = asyncio.get_running_loop().time() + self._settings.clear_time
            self._in_clear[connection.target] = until
            connection.in_vain = True

    def connection_idle(self, connection: Connection) -> None:
        if connection not in self._idle:
            self._idle.append(connection)

    def connection_gone(self, connection: Connection, event: ConnectionGivenUp) -> None:
        self._connections.discard(connection)
        self._parting.add(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        failed = self._judge_end(connection, event)
        if self._closing:
            return
        if failed:
            now = asyncio.get_running_loop().time()
            self._places.shun(connection.target, now)
            if not self._places.has_another(now):
                self._failed(f"{connection.target}: {event.reason}")
        elif event.untouched:
            # The others were kept as long: likely dead as well. The job goes over a new one.
            idle, self._idle = self._idle, []  # none of them gets it while the others take leave
            for each in idle:
                each.part()
        self._dispatch()

    def _judge_end(self, connection: Connection, event: ConnectionGivenUp) -> bool:
        """What becomes of the mails of a connection that ended; whether the end speaks against the next hop."""
        failed = not connection.ready and not connection.in_vain
        passed, self._mail_passes = self._mail_passes, self._mail_passes and not event.untouched
        again = []
        for job in event.untouched:
            assert isinstance(job, MailJob)
            self._in_flight -= 1
            if job.held:
                job.connection = None
                continue
            if job.retried or (passed and job.message_id in self._suspects):
                failed = failed or (job.first and not passed)
                self._suspects.add(job.message_id)
                job.batch.settle(job, [Deferred(event.reason, whole_relay=not passed)] * len(job.recipients))
                continue
            if job.first:
                self._ends += 1
                failed = failed or self._ends > 1
            job.retried = job.alone = True
            again.append(job)
        self._alone.extend(sorted(again, key=lambda job: job.first))
        return failed

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
        if (status := _RULED_OUT.get(result.stage)) is not None:
            return Failed(f"{status} {result}")
        if result.stage == "mail":
            assert reply is not None
            if reply.is_permanent and self._mail_is_final:
                return Failed(str(reply))
            whole = reply.code != 552 and not self._mail_passes
            self._mail_passes = False
            self._turn_red(f"{self.endpoint} refuses MAIL: {reply}")
            return Deferred(f"MAIL refused: {reply}", whole_relay=whole)
        return Deferred(str(result))

    def _passed(self) -> None:
        """A mail got past MAIL: the next hop works."""
        self._mail_passes = True
        self._ends = 0
        if self._failures:
            self._failures = 0
            self._retry_at = 0.0
            if self._wanting():  # more connections may be opened again
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
        elif self._wanting():  # for the connections that are left; but they may be slow
            asyncio.get_running_loop().call_at(self._retry_at, self._dispatch)

    def _turn_red(self, reason: str) -> None:
        if not self._reason:
            log.warning("nothing can be sent to %s: %s", self.endpoint, reason, extra={"action": "relay_down"})
        self._reason = reason

    def _defer_waiting(self, reason: str) -> None:
        after = max(0.0, self._retry_at - asyncio.get_running_loop().time())
        self._settle_waiting(Deferred(reason, whole_relay=True, retry_after=after))

    def _settle_waiting(self, outcome: Outcome) -> None:
        waiting = [*self._waiting, *self._alone]
        self._waiting.clear()
        self._alone.clear()
        for job in waiting:
            job.batch.settle(job, [outcome] * len(job.recipients))


def _this_task() -> asyncio.Task[None]:
    return cast("asyncio.Task[None]", asyncio.current_task())
