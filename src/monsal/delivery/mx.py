"""The relay without a next hop: each mail goes to the servers of its recipients' domains (extra `mx`).

Each domain has an `SmtpRelay` of its own, with its own connections and its own trouble: a domain that is down, slow or
not there stops no other (P7). What its relay says of "the whole relay" is said of that domain only, so a try counts,
and mail for a domain that stays away fails after the days of the schedule.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from monsal.conversation.ports import Deferred, Delivered, Outcome, RelayMail
from monsal.delivery.connection import RelaySettings
from monsal.delivery.jobs import UNKNOWN, RelayStatistics
from monsal.delivery.mxroute import MxRoute, domain_of
from monsal.delivery.names import DnsNames, Names
from monsal.delivery.relay import SmtpRelay
from monsal.delivery.route import Route
from monsal.smtp.endpoint import Endpoint
from monsal.smtp.mxurl import MxUrl

__all__ = ["MxRelay"]

#: Domains that have connections, or are remembered to be down; those not in use make room, the least used first.
MAX_DOMAINS = 128
#: So many domains in a row that cannot be reached speak of us: no way out, port 25 closed, no DNS.
UNREACHED = 5


class MxRelay:
    """A `LanedRelay` that looks up where mail goes. A lane is a domain.

    Order of use as that of `SmtpRelay`. `settings.connections` are for each domain. At most `max_domains` domains are
    spoken to at a time: more wait. Raises ConfigError without dnspython.
    """

    def __init__(
        self,
        url: MxUrl,
        settings: RelaySettings | None = None,
        *,
        names: Names | None = None,
        route: Callable[[str], Route] | None = None,
        max_domains: int = MAX_DOMAINS,
    ) -> None:
        self._url = url
        self._settings = settings or RelaySettings()
        self._names = names or DnsNames(url)
        self._route = route or self._mx_route
        self._max_domains = max_domains
        self._relays: dict[str, SmtpRelay] = {}  # the least used first
        self._users: dict[str, int] = defaultdict(int)  # calls of `send` under way
        self._room = asyncio.Event()
        self._parting: set[asyncio.Task[None]] = set()
        self._past = RelayStatistics(
            connections=0, opening=0, waiting=0, in_flight=0, opened=0, delivered=0, deferred=0, failed=0, reason=""
        )
        self._unreached: dict[str, str] = {}  # domain -> why, since one was reached
        self._closing = False

    @property
    def reason(self) -> str:
        """Why nothing can be sent, as it seems; empty if some domain was reached lately."""
        if len(self._unreached) < UNREACHED:
            return ""
        return f"the last {UNREACHED} domains cannot be reached: {next(reversed(self._unreached.values()))}"

    @property
    def healthy(self) -> bool:
        """Whether mail leaves, as far as is known."""
        return not self.reason

    def lane(self, recipient: str) -> str:
        """The domain of an address."""
        return domain_of(recipient)

    def statistics(self) -> RelayStatistics:
        """Those of all domains together."""
        total = msgspec.structs.replace(self._past, reason=self.reason)
        for relay in self._relays.values():
            total = _sum(total, relay.statistics())
        return total

    async def send(self, mails: Sequence[RelayMail]) -> list[list[Outcome]]:
        """See `Relay`. A mail for several domains is one transaction or more for each of them."""
        outcomes: list[list[Outcome]] = [[UNKNOWN] * len(mail.recipients) for mail in mails]
        places: dict[str, list[tuple[int, list[int]]]] = defaultdict(list)
        for number, mail in enumerate(mails):
            mine: dict[str, list[int]] = defaultdict(list)
            for place, recipient in enumerate(mail.recipients):
                mine[domain_of(recipient)].append(place)
            for domain, found in mine.items():
                places[domain].append((number, found))
        await asyncio.gather(*(self._send(domain, mails, found, outcomes) for domain, found in places.items()))
        return outcomes

    async def _send(
        self,
        domain: str,
        mails: Sequence[RelayMail],
        places: list[tuple[int, list[int]]],
        outcomes: list[list[Outcome]],
    ) -> None:
        """Send what is for one domain; the outcomes go to their places."""
        parts = [
            msgspec.structs.replace(mails[number], recipients=tuple(mails[number].recipients[each] for each in found))
            for number, found in places
        ]
        relay = await self._enter(domain)
        try:
            if self._closing:
                closed = Deferred("the relay is closed", whole_relay=True)
                results: list[list[Outcome]] = [[closed] * len(part.recipients) for part in parts]
            else:
                results = await relay.send(parts)
        finally:
            self._leave(domain)
        self._note(domain, [outcome for row in results for outcome in row])
        for (number, found), row in zip(places, results, strict=True):
            for place, outcome in zip(found, row, strict=True):
                outcomes[number][place] = self._of_domain(outcome)

    def _of_domain(self, outcome: Outcome) -> Outcome:
        """What is said of all that a domain's relay does is said of one domain here: it counts as a try."""
        if isinstance(outcome, Deferred) and outcome.whole_relay and not self._closing:
            return Deferred(outcome.reason)
        return outcome

    def _note(self, domain: str, outcomes: Sequence[Outcome]) -> None:
        """Whether that domain was reached."""
        whole = [each for each in outcomes if isinstance(each, Deferred) and each.whole_relay]
        if any(isinstance(each, Delivered | Deferred) and each not in whole for each in outcomes):
            self._unreached.clear()
        elif whole and not self._closing:
            self._unreached.pop(domain, None)
            self._unreached[domain] = whole[-1].reason
            if len(self._unreached) > UNREACHED:
                del self._unreached[next(iter(self._unreached))]

    # Domains

    async def _enter(self, domain: str) -> SmtpRelay:
        """The relay of a domain, kept until `_leave`; waits while there are too many domains."""
        while domain not in self._relays and len(self._relays) >= self._max_domains and not self._closing:
            idle = next((each for each in self._relays if each not in self._users), None)
            if idle is not None:
                self._forget(idle)
            else:
                self._room.clear()
                await self._room.wait()
        relay = self._relays.pop(domain, None) or self._new_relay(domain)
        self._relays[domain] = relay  # now the last one used
        self._users[domain] += 1
        return relay

    def _leave(self, domain: str) -> None:
        self._users[domain] -= 1
        if not self._users[domain]:
            del self._users[domain]
            self._room.set()

    def _new_relay(self, domain: str) -> SmtpRelay:
        return SmtpRelay(
            Endpoint(host=domain, port=self._url.port), self._settings, route=self._route(domain), mail_is_final=True
        )

    def _mx_route(self, domain: str) -> Route:
        return MxRoute(domain, self._url, self._names, name=self._settings.name)

    def _forget(self, domain: str) -> None:
        relay = self._relays.pop(domain)
        task = asyncio.get_running_loop().create_task(relay.close())
        self._parting.add(task)
        task.add_done_callback(self._parting.discard)
        self._past = _sum(self._past, relay.statistics(), over=True)

    async def close(self) -> None:
        """Take leave of all servers. Mails that wait or are under way are deferred."""
        self._closing = True
        self._room.set()
        await asyncio.gather(*(relay.close() for relay in self._relays.values()), *self._parting)


def _sum(one: RelayStatistics, other: RelayStatistics, *, over: bool = False) -> RelayStatistics:
    """Both together, with the reason of the first; of what is over only what it did counts."""
    present = {"connections", "opening", "waiting", "in_flight"} if over else set()
    return RelayStatistics(
        reason=one.reason,
        **{
            name: getattr(one, name) + (0 if name in present else getattr(other, name))
            for name in RelayStatistics.__struct_fields__
            if name != "reason"
        },
    )
