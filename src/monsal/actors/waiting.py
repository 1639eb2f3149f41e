"""Who waits for whom: the chain that travels with a message, and the circle that it may close (mailbox.B3).

A turn of an actor that asks another one waits for it. A circle of turns that wait for one another would wait until its
deadlines; here it is found when it closes. A `Hop` is an actor and the key of its turn, because turns of different
keys do not wait for one another (B7).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from monsal.errors import RemoteError

__all__ = ["Chain", "Hop", "Probe", "WaitingCircle", "Waits", "extend", "find_circle"]


class Hop(msgspec.Struct, frozen=True):
    """One turn that waits: the id of the actor, and the key of the turn."""

    actor: str
    key: str = ""


#: The turns that wait for a message, the first asker first.
Chain = tuple[Hop, ...]


class WaitingCircle(RemoteError):
    """The call would wait for itself, so it was not made. `circle` has the turns of it."""

    def __init__(self, circle: Sequence[Hop]) -> None:
        self.circle = tuple(circle)
        super().__init__("a circle of actors that wait for one another: " + " -> ".join(map(_text, self.circle)))


def _text(hop: Hop) -> str:
    return f"{hop.actor}[{hop.key}]" if hop.key else hop.actor


def find_circle(chain: Sequence[Hop], target: Hop) -> tuple[Hop, ...] | None:
    """The circle that a message with this chain closes at `target`: from `target` round to it again, or None."""
    for place, hop in enumerate(chain):
        if hop == target:
            return (*chain[place:], target)
    return None


def extend(chain: Sequence[Hop], asker: Hop, target: Hop) -> Chain:
    """The chain of a message that `asker`, who works for `chain`, sends to `target`.

    Raises `WaitingCircle` if `target` waits for `asker` already: the answer could not come.
    """
    longer = (*chain, asker)
    circle = find_circle(longer, target)
    if circle is not None:
        raise WaitingCircle(circle)
    return longer


class Probe(msgspec.Struct, frozen=True):
    """A question on its way along those who wait: `chain` waits, in the end, for `target`."""

    chain: Chain
    target: Hop


class Waits:
    """What the turns of one actor wait for, to find circles that no single message goes all the way round.

    Two turns may ask one another at the same time: then no chain has both. So an actor whose busy turn holds up a
    message asks on: `held_up` gives the `Probe` to send to whom that turn waits for, who calls `passed`, which gives
    the next one. It comes round, and `WaitingCircle` is raised, if each of them waits for the next; it ends with the
    first who does not.
    """

    def __init__(self, actor: str) -> None:
        self.actor = actor
        self._asked: dict[str, dict[int, Hop]] = {}

    def ask(self, key: str, call: int, target: Hop) -> None:
        """The turn of `key` waits for the answer of `target` to its call number `call`."""
        self._asked.setdefault(key, {})[call] = target

    def answered(self, key: str, call: int) -> None:
        """The call has its answer, or its turn does not wait for it any more."""
        asked = self._asked.get(key, {})
        asked.pop(call, None)
        if not asked:
            self._asked.pop(key, None)

    def waits_for(self, key: str) -> tuple[Hop, ...]:
        """Whom the turn of `key` waits for now."""
        return tuple(self._asked.get(key, {}).values())

    def held_up(self, chain: Sequence[Hop], key: str) -> list[Probe]:
        """A message with this chain waits here until the turn of `key` is done: the questions to send on.

        A turn that waits for several at once is held up by each of them, so each is asked.
        Raises `WaitingCircle` if the message waits for itself.
        """
        here = Hop(self.actor, key)
        circle = find_circle(chain, here)
        if circle is not None:
            raise WaitingCircle(circle)
        return [Probe((*chain, here), target) for target in self.waits_for(key)]

    def passed(self, probe: Probe) -> list[Probe]:
        """A question came here: those to send on, none if the turn that it is about does not wait.

        Raises `WaitingCircle` if it has come round.
        """
        return self.held_up(probe.chain, probe.target.key)
