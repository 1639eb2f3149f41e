"""What an actor is doing, in a page of memory that its arbiter can read at any time, also after kill -9.

The actor's process writes, the arbiter's reads; nobody waits for anybody. A turn takes a slot of the page when it
begins and frees it when it ends, so what is in the slots when the process is gone was on the table when it died.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final

import msgspec

__all__ = ["PAGE", "Doing", "Recorder", "new_page"]

#: Of each page: a mark, then when the loop was last seen to run (seconds of CLOCK_MONOTONIC), and turns that began.
_HEADER: Final = struct.Struct("=8sdQ")
_BEAT: Final = struct.Struct("=d")
_COUNT: Final = struct.Struct("=Q")
_MARK: Final = b"monsal-1"
#: When the turn began (0: the slot is free), when its asker gives up (0: never), command, key, sender, whom it asks.
_SLOT: Final = struct.Struct("=dd48s40s40s40s")
_WAITS: Final = struct.Struct("40s")
_SINCE: Final = struct.Struct("=d")
_FIRST: Final = 64
_SLOTS: Final = 64
_WAITS_AT: Final = _SLOT.size - _WAITS.size
#: Turns that were given up, kept for whoever asks why there was no answer; each with the time at which that was.
_GIVEN_UP: Final = 8
_GIVEN_UP_AT: Final = _FIRST + _SLOTS * _SLOT.size
_LATELY: Final = 2.0
#: Octets of a page, a multiple of what the kernel gives.
PAGE: Final = -(-(_GIVEN_UP_AT + _GIVEN_UP * (_SLOT.size + 8)) // mmap.PAGESIZE) * mmap.PAGESIZE


class Doing(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that runs: what, under which key and for whom, since when (CLOCK_MONOTONIC), and whom it asks itself."""

    command: str
    key: str
    sender: str
    since: float
    waits_for: str

    def text(self, now: float) -> str:
        """For people: `order (key 7) for helpdesk.1, for 3.2 s, and waits for store`."""
        key = f" (key {self.key})" if self.key else ""
        sender = f" of {self.sender}" if self.sender else ""
        waits = f", and waits for {self.waits_for}" if self.waits_for else ""
        return f"{self.command}{key}{sender}, for {max(0.0, now - self.since):.1f} s{waits}"


def new_page(name: str) -> int:
    """A descriptor for a fresh page without a place in the file system; whoever gets it maps it."""
    descriptor = os.memfd_create(name[:200])
    os.truncate(descriptor, PAGE)
    return descriptor


class Recorder:
    """A page. Raises OSError or ValueError if the descriptor is none of one."""

    def __init__(self, descriptor: int = -1) -> None:
        self._page = mmap.mmap(descriptor, PAGE)
        self._free = list(range(_SLOTS - 1, -1, -1))
        self._said: dict[str, bytes] = {}
        self._turns = self._given_up = 0
        if self._page[: len(_MARK)] != _MARK:
            _HEADER.pack_into(self._page, 0, _MARK, 0.0, 0)

    # -- the actor's side -------------------------------------------------------------------------------------

    def beat(self, now: float) -> None:
        """The loop runs."""
        _BEAT.pack_into(self._page, 8, now)

    def begin(self, command: str, key: str, sender: str, now: float, until: float | None = None) -> int:
        """A turn begins; its slot, or -1 if so many run that there is none."""
        self._turns += 1
        _COUNT.pack_into(self._page, 16, self._turns)
        if not self._free:
            return -1
        slot = self._free.pop()
        words = self._said
        first = words.get(command) or self._word(command)
        _SLOT.pack_into(
            self._page,
            _FIRST + slot * _SLOT.size,
            now,
            until or 0.0,
            first,
            key.encode("utf-8", "replace") if key else b"",
            words.get(sender) or self._word(sender),
            b"",
        )
        return slot

    def waits(self, slot: int, target: str) -> None:
        """The turn asks another actor; with an empty name it goes on."""
        if slot >= 0:
            word = self._said.get(target) or self._word(target)
            _WAITS.pack_into(self._page, _FIRST + slot * _SLOT.size + _WAITS_AT, word)

    def give_up(self, slot: int, now: float) -> None:
        """The asker has given up: what the turn does at this moment is remembered, because that is about to change."""
        if slot >= 0:
            place = _GIVEN_UP_AT + (self._given_up % _GIVEN_UP) * (_SLOT.size + 8)
            self._given_up += 1
            begin = _FIRST + slot * _SLOT.size
            self._page[place : place + _SLOT.size] = self._page[begin : begin + _SLOT.size]
            _SINCE.pack_into(self._page, place + _SLOT.size, now)

    def end(self, slot: int) -> None:
        """The turn has ended."""
        if slot >= 0:
            _SINCE.pack_into(self._page, _FIRST + slot * _SLOT.size, 0.0)
            self._free.append(slot)

    def _word(self, text: str) -> bytes:
        if len(self._said) >= 1000:  # names that somebody makes up do not fill the memory
            self._said.clear()
        word = self._said[text] = text.encode("utf-8", "replace")
        return word

    # -- the arbiter's side -----------------------------------------------------------------------------------

    @property
    def last_beat(self) -> float:
        """When the loop was last seen to run, in CLOCK_MONOTONIC; 0.0 if it never was."""
        return float(_BEAT.unpack_from(self._page, 8)[0])

    @property
    def turns(self) -> int:
        """How many turns have begun."""
        return int(_COUNT.unpack_from(self._page, 16)[0])

    def doing(self, now: float | None = None) -> tuple[Doing, ...]:
        """The turns that run, those that began first first; with `now` also those given up in the last two seconds."""
        places = [(_FIRST + slot * _SLOT.size, 0.0) for slot in range(_SLOTS)]
        if now is not None:
            for number in range(_GIVEN_UP):
                place = _GIVEN_UP_AT + number * (_SLOT.size + 8)
                (at,) = _SINCE.unpack_from(self._page, place + _SLOT.size)
                if now - at < _LATELY:
                    places.append((place, at))
        found: dict[tuple[float, str, str, str], Doing] = {}
        for place, _ in places:
            since, _, command, key, sender, waits = _SLOT.unpack_from(self._page, place)
            if since > 0.0:
                made = Doing(
                    command=_text(command), key=_text(key), sender=_text(sender), since=since, waits_for=_text(waits)
                )
                # A turn that was given up and still runs is in both places; the later look is at what it waited for.
                found[since, made.command, made.key, made.sender] = made
        return tuple(sorted(found.values(), key=lambda doing: doing.since))

    def close(self) -> None:
        """Give the memory back."""
        self._page.close()


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("utf-8", "replace")
