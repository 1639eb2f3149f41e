"""What is left of a trial, and what it must show: each claim is a method that yields what contradicts it.

Known from outside only: what the load wrote down, the views of the database, the mails that left (docs/interface.md).
`Evidence` has the claims that hold for any application with one state machine for each correspondent; its subclasses
add what they know of theirs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from harness import Server

__all__ = ["DeskEvidence", "Evidence", "HelpdeskEvidence"]


class Turn(NamedTuple):
    """A row of v_turns; the Message-ID of a timer's turn is None."""

    id: int
    message: int
    message_id: str | None
    sender: str
    handler: str
    key: str
    before: str
    after: str


@dataclass
class Evidence:
    """What is left: the mails that were `sent`, those `acknowledged`, those that were `captured` on their way out as
    (Message-ID, bytes), the `summary` of the load, and the server's files."""

    #: Where the load writes to; the handlers of the state machine, and those that are called beside it.
    RECIPIENT: ClassVar[str]
    STATEFUL: ClassVar[tuple[str, ...]]
    STATELESS: ClassVar[tuple[str, ...]] = ()

    server: Server
    sent: list[dict[str, Any]]
    acknowledged: list[dict[str, Any]]
    summary: dict[str, Any]
    captured: list[tuple[str, bytes]]

    @cached_property
    def messages(self) -> list[tuple[int, str, str, str]]:
        """(row, Message-ID, recipient, status) of each mail that came from outside."""
        return self.server.rows(
            "select id, message_id, recipient, status from v_messages where message_id is not null order by id"
        )

    @cached_property
    def turns(self) -> list[Turn]:
        """All turns in order of commit."""
        rows = self.server.rows(
            "select id, message, message_id, sender, handler, key, state_before, state_after from v_turns order by id"
        )
        return [Turn(*row) for row in rows]

    @cached_property
    def number(self) -> dict[str, tuple[str, int]]:
        """Message-ID -> (sender, X-Seq) of each mail that was ever sent."""
        return {row["message_id"]: (row["sender"], row["seq"]) for row in self.sent}

    @cached_property
    def outbox(self) -> list[tuple[int, int, str, str]]:
        """(row, turn, Message-ID, status) of each mail that turns wrote."""
        return self.server.rows("select id, turn, message_id, status from v_outbox order by id")

    def role(self, handler: str) -> str:
        """The name of a handler; one for all states of the machine."""
        return "the machine" if handler in self.STATEFUL else handler

    def contradictions(self) -> dict[str, list[str]]:
        """All that contradicts a claim, at most ten lines for each."""
        found = {claim.__name__: list(claim(self)) for claim in self.CLAIMS}
        return {name: [f"{len(lines)} in all", *lines[:10]] for name, lines in found.items() if lines}

    def acknowledged_but_not_stored_once(self) -> Iterator[str]:
        """P1: what was acknowledged is there, exactly once."""
        stored = Counter((message_id, recipient) for _, message_id, recipient, _ in self.messages)
        for row in self.acknowledged:
            count = stored[row["message_id"], row["recipient"]]
            if count != 1:
                yield f"{row['message_id']} for {row['recipient']}: {count} rows"

    def stored_but_never_sent(self) -> Iterator[str]:
        """Nothing comes from nowhere."""
        sent = {(row["message_id"], recipient) for row in self.sent for recipient in row["recipients"]}
        for _, message_id, recipient, _ in self.messages:
            if (message_id, recipient) not in sent:
                yield f"{message_id} for {recipient}"

    def turns_that_are_not_one_for_each_handler(self) -> Iterator[str]:
        """P2: each mail has one turn of the machine and one of each stateless handler, and no other."""
        done: dict[int, list[str]] = defaultdict(list)
        for turn in self.turns:
            done[turn.message].append(self.role(turn.handler))
        expected = sorted(["the machine", *self.STATELESS])
        for row, message_id, _, status in self.messages:
            if status != "done" or sorted(done[row]) != expected:
                yield f"row {row} {message_id} is {status} and has the turns {done[row]}"
        for count, message, handler in self.server.rows(
            "select count(*), message, handler from v_turns group by message, handler having count(*) > 1"
        ):
            yield f"message {message} has {count} turns of {handler}"

    def turns_out_of_order(self) -> Iterator[str]:
        """P3: a correspondent's mails were handled in the order in which they were written."""
        last: dict[tuple[str, str], int] = {}
        for turn in self.turns:
            if turn.message_id is None:
                continue  # a timer's
            sender, seq = self.number[turn.message_id]
            who = sender, self.role(turn.handler)
            if seq <= last.get(who, 0):
                yield f"turn {turn.id}: {sender} had number {last[who]} handled before number {seq}"
            last[who] = seq

    def broken_chains_of_states(self) -> Iterator[str]:
        """Each turn of the machine began in the state in which the one before it had left the conversation."""
        state: dict[tuple[str, str], str] = {}
        for turn in self.turns:
            if turn.handler in self.STATEFUL:
                conversation = turn.key, turn.sender
                was = state.get(conversation, "START")
                if turn.before != was or turn.handler.rpartition(":")[2] != was:
                    yield f"turn {turn.id} of {turn.handler} for {turn.sender} began in {turn.before}, not in {was}"
                state[conversation] = turn.after
        kept = {
            (key, sender): name for key, sender, name in self.server.rows("select key, sender, state from v_states")
        }
        for conversation, name in state.items():
            if kept.get(conversation, "START") != name:
                yield f"v_states has {conversation} in {kept.get(conversation)}, its last turn left it in {name}"

    def ledger_that_does_not_balance(self) -> Iterator[str]:
        """P4: accepted = done + waiting + running + held + dead + dropped, and these are the rows that are there."""
        for (source,) in self.server.rows("select source from v_ledger"):
            row = self.server.ledger(source)
            parts = sum(row[name] for name in ("done", "waiting", "running", "held", "dead", "dropped"))
            if row["accepted"] != parts:
                yield f"{source}: {row['accepted']} accepted, but {parts} in all places: {row}"
        mail = self.server.ledger("mail")
        there = Counter(status for _, _, _, status in self.messages)
        counted = {name: mail[name] for name in ("done", "waiting", "held", "dead", "dropped") if mail[name]}
        if mail["accepted"] != len(self.messages) or counted != dict(there):
            yield f"the ledger says {mail}, the rows are {dict(there)}"

    def mails_that_did_not_leave_as_written(self) -> Iterator[str]:
        """The last hop is at-least-once: what is sent twice is the same to the byte, under one Message-ID.

        What a timer wrote in the moment of the stop may still wait; it leaves after the next start.
        """
        left: dict[str, set[bytes]] = defaultdict(set)
        for message_id, raw in self.captured:
            left[message_id].add(raw)
        status = {message_id: status for _, _, message_id, status in self.outbox}
        for message_id in left.keys() | status:
            forms, said = len(left[message_id]), status.get(message_id, "nothing")
            if forms > 1 or said not in ("sent", "waiting") or (said == "sent" and not forms):
                yield f"{message_id}: left in {forms} forms, the outbox says {said}"

    def damage(self) -> Iterator[str]:
        """What SQLite itself finds wrong with the file."""
        for (found,) in self.server.rows("pragma integrity_check"):
            if found != "ok":
                yield found

    CLAIMS: ClassVar[tuple[Callable[[Any], Iterator[str]], ...]] = (
        acknowledged_but_not_stored_once,
        stored_but_never_sent,
        turns_that_are_not_one_for_each_handler,
        turns_out_of_order,
        broken_chains_of_states,
        ledger_that_does_not_balance,
        mails_that_did_not_leave_as_written,
        damage,
    )


class DeskEvidence(Evidence):
    """Of the small application of `proof.py`, whose turns each write a row, and all but COUNT a mail."""

    RECIPIENT = "desk@example.com"
    STATEFUL = ("handlers:START", "handlers:OPEN", "handlers:WAITING")
    STATELESS = ("handlers:COUNT",)

    def rows_of_the_application_that_differ(self) -> Iterator[str]:
        """P2: what a handler wrote to the application's tables is there once for each turn."""
        for table, handlers in (("work", self.STATEFUL), ("seen", self.STATELESS)):
            turns = Counter(
                self.number[turn.message_id] for turn in self.turns if turn.handler in handlers and turn.message_id
            )
            written = Counter(self.server.rows(f"select sender, seq from {table}"))
            for key in written | turns:
                if written[key] != turns[key]:
                    yield f"{table}: {key} is there {written[key]} times, its turns {turns[key]} times"
        reminders = sum(turn.handler == "handlers:REMIND" for turn in self.turns)
        if (found := self.server.rows("select count(*) from reminder")[0][0]) != reminders:
            yield f"reminder: {found} rows, {reminders} turns"

    def replies_that_are_not_one_for_each_turn(self) -> Iterator[str]:
        """P2: each turn that replied has its mail in the outbox, once, and nothing else is in there."""
        expected = {turn.id for turn in self.turns if turn.handler not in self.STATELESS}
        written = Counter(turn for _, turn, _, _ in self.outbox)
        for turn in expected | set(written):
            if written[turn] != (turn in expected):
                yield f"turn {turn} has {written[turn]} mails in the outbox"

    def answers_that_were_given_twice(self) -> Iterator[str]:
        """No mail of a correspondent has two different answers."""
        answers: dict[tuple[str, str], set[str]] = defaultdict(set)
        for message_id, raw in self.captured:
            headers = BytesHeaderParser().parsebytes(raw)
            if headers["X-Answers"]:
                answers[headers["To"], headers["X-Answers"]].add(message_id)
        for (sender, seq), ids in answers.items():
            if len(ids) > 1:
                yield f"{sender} has {len(ids)} answers to number {seq}: {sorted(ids)}"

    CLAIMS = (
        *Evidence.CLAIMS,
        rows_of_the_application_that_differ,
        replies_that_are_not_one_for_each_turn,
        answers_that_were_given_twice,
    )


class HelpdeskEvidence(Evidence):
    """Of examples/helpdesk: one ticket for each customer, a note and a mail to the agents for each turn."""

    RECIPIENT = "help@example.com"
    STATEFUL = ("helpdesk.desk:START", "helpdesk.desk:WAITING")

    def tickets_that_are_not_one_for_each_customer(self) -> Iterator[str]:
        """Nobody closes a ticket here, so each customer has one, opened by the first mail."""
        tickets = Counter(customer for (customer,) in self.server.rows("select customer from ticket"))
        customers = {turn.sender for turn in self.turns}
        for customer in customers | set(tickets):
            if tickets[customer] != 1 or customer not in customers:
                yield f"{customer} has {tickets[customer]} tickets"

    def notes_that_are_not_one_for_each_turn(self) -> Iterator[str]:
        """P2: what a turn writes to the application's tables is there once."""
        notes = Counter(author for (author,) in self.server.rows("select author from note"))
        turns = Counter(turn.sender for turn in self.turns)
        for author in notes | turns:
            if notes[author] != turns[author]:
                yield f"{author} has {notes[author]} notes and {turns[author]} turns"

    def agents_who_were_not_told_once(self) -> Iterator[str]:
        """P2: each turn tells the agents, in one mail."""
        told = Counter(
            turn for (turn,) in self.server.rows("select turn from v_outbox where recipient = 'agent@example.org'")
        )
        for turn in {turn.id for turn in self.turns} | set(told):
            if told[turn] != 1:
                yield f"turn {turn} told the agents {told[turn]} times"

    CLAIMS = (
        *Evidence.CLAIMS,
        tickets_that_are_not_one_for_each_customer,
        notes_that_are_not_one_for_each_turn,
        agents_who_were_not_told_once,
    )
