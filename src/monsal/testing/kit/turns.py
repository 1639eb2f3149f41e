"""One turn, one commit: states, versions, history, timers."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from monsal.errors import StatementError
from monsal.store.contract import Applied, Conflict, Expected, SetTimer, StateChange, StateKey, Statement, TurnCommit
from monsal.testing.kit.lab import Lab, expect

__all__ = [
    "appends_to_history_once",
    "compares_versions",
    "counts_exactly_by_comparing",
    "deletes_what_becomes_start",
    "fires_many_timers",
    "fires_timers",
    "keeps_conversations_apart",
    "keeps_since_while_the_name_stays",
    "lets_timers_die_with_their_state",
    "looks_up_a_commit_whose_answer_was_lost",
    "refuses_a_statement_and_writes_nothing",
    "renames_a_state_and_keeps_its_timers",
    "runs_several_handlers_under_one_lease",
    "serves_an_operator",
]

#: Keys and senders that a careless store would merge, cut or fail on (rules state.R2, R3, B3).
HOSTILE = (
    ("a", "b c"),
    ("a b", "c"),
    ("a,b", "c"),
    ("a", "b,c"),
    ("a'", 'b"'),
    ('a"', "b'"),
    ("a\nb", "c"),
    ("a", "\nb"),
    ("", ""),
    ("", "a"),
    ("a", ""),
    ("A", "b"),
    ("a", "B"),
    (" a", "b"),
    ("a ", "b"),
    ("ä", "ö"),
    ("a\u0308", "ö"),
    ("ß", "ss"),
    ("ss", "ß"),
    ("\u212a", "k"),
    ("k", "\u212a"),
    ("\x00", "a"),
    ("a\x00b", "c"),
    ("a", "\x00b"),
    ("\ud800", "a"),
    ("\udcff", "a"),
    ("\U0010ffff00d800", "a"),
    ("\U0010ffff", "a"),
    ("🐟", "漢字"),
    ("%", "_"),
    ("x" * 5000, "y"),
    ("x" * 5001, "y"),
)


async def keeps_conversations_apart(lab: Lab) -> None:
    """Every pair has a state of its own, and queues with such names are queues of their own."""
    for number, (key, sender) in enumerate(HOSTILE):
        await lab.store.set_state(StateKey(key, sender), f"S{number}", lab.now)
        await lab.accept(sender, lease_key=key + "/" + sender)
    pairs = [StateKey(*pair) for pair in HOSTILE]

    async def look() -> None:
        values = await lab.store.read_states(pairs)
        for number, pair in enumerate(pairs):
            expect(values[pair].state == f"S{number}", f"{pair!r} has the state {values[pair].state}, not S{number}")

    await look()
    rows = await lab.store.rows("states")
    listed = {(row["key"], row["sender"]): row["state"] for row in rows}
    expect(listed == {pair: f"S{number}" for number, pair in enumerate(HOSTILE)}, "pairs are listed as given")
    if lab.can_restart:
        await lab.restart()
        await look()
    claimed = {row.lease_key: row.sender for row in await lab.claim(1000)}
    for key, sender in HOSTILE:
        expect(claimed.get(key + "/" + sender) == sender, f"the queue of {(key, sender)!r} lost its mail")


async def compares_versions(lab: Lab) -> None:
    await lab.converse("A")
    pair, first = StateKey("machine", "ann@example.net"), await lab.state("machine")
    expect(first.version > 0 and first.state == "A", f"a stored state has a version: {first}")
    await lab.accept()
    row = await lab.claim_one()
    stale = await lab.turn(row, to="B", mails=[lab.outgoing()], expected=[Expected(pair, first.version - 1)])
    result = await lab.store.commit(stale)
    expect(result == Conflict((pair,)), f"another version is a conflict that names the state: {result}")
    expect((await lab.state("machine")) == first, "nothing of it is written")
    await lab.durable()
    expect(await lab.store.take_outgoing(10, lab.now) == [], "nor sent")
    await lab.done(row, to="B")
    second = await lab.state("machine")
    expect(second.version > first.version, "versions grow; the lease was still held")
    await lab.converse("START")
    await lab.converse("A")
    expect((await lab.state("machine")).version > second.version, "a version is never used again")


async def keeps_since_while_the_name_stays(lab: Lab) -> None:
    await lab.converse("A")
    first = await lab.state("machine")
    lab.now += 100.0
    await lab.converse("A")
    second = await lab.state("machine")
    expect(second.version > first.version, "each change has a version")
    expect((second.since, second.entered) == (first.since, first.entered), "the same name keeps since and entered")
    await lab.converse("B")
    third = await lab.state("machine")
    expect(third.since == lab.now and third.entered > second.entered, "another name sets them")
    expect(third.entered == third.version, "entered is the version at which the name changed")


async def deletes_what_becomes_start(lab: Lab) -> None:
    await lab.converse("A")
    await lab.converse("START")
    value = await lab.state("machine")
    expect((value.state, value.version, value.entered) == ("START", 0, 0), f"START is no row: {value}")
    expect(await lab.store.rows("states") == [], "nothing is stored")
    await lab.converse("START")
    expect(await lab.store.rows("states") == [], "START for what is not stored stores nothing")
    await lab.state("never", "heard@of")
    expect(await lab.store.rows("states") == [], "reading stores nothing")


async def counts_exactly_by_comparing(lab: Lab) -> None:
    """Turns of many queues on one shared state: each one that meets a conflict runs again, and none is lost."""
    shared, turns = StateKey("counter", ""), 40
    for number in range(turns):
        await lab.accept(f"c{number}@x")

    async def work() -> None:
        while rows := await lab.claim(1):
            row = rows[0]
            while True:
                value = (await lab.store.read_states([shared]))[shared]
                await asyncio.sleep(0)
                count = 0 if value.state == "START" else int(value.state)
                base = await lab.turn(row, handler="counter:START", expected=[Expected(shared, value.version)])
                fields = {name: getattr(base, name) for name in TurnCommit.__struct_fields__}
                result = await lab.store.commit(
                    TurnCommit(**{**fields, "changes": (StateChange(shared, str(count + 1)),)})
                )
                if isinstance(result, Applied):
                    break
                expect(isinstance(result, Conflict), f"a race gave {result}")

    await asyncio.gather(*(work() for _ in range(8)))
    value = (await lab.store.read_states([shared]))[shared]
    expect(value.state == str(turns), f"the shared counter is {value.state} after {turns} turns")


async def appends_to_history_once(lab: Lab) -> None:
    await lab.accept()
    row = await lab.claim_one()
    turn = await lab.turn(row, "continue", to="A", mails=[lab.outgoing()])
    first = await lab.store.commit(turn)
    # The same handler for the same message again, without having heard of the first.
    second = await lab.store.commit(await lab.turn(row, "continue", to="C", mails=[lab.outgoing()]))
    expect(first == second, f"a second turn of one handler for one message is the first: {first}, {second}")
    expect((await lab.state("machine")).state == "A", "and writes nothing")
    await lab.durable()
    expect(len(await lab.store.take_outgoing(10, lab.now)) == 1, "nor sends anything")


async def looks_up_a_commit_whose_answer_was_lost(lab: Lab) -> None:
    await lab.accept()
    row = await lab.claim_one()
    turn = await lab.turn(row, to="A", mails=[lab.outgoing()])
    answers = [await lab.store.commit(turn) for _ in range(3)]
    expect(isinstance(answers[0], Applied) and len(set(answers)) == 1, f"the same commit has one answer: {answers}")
    await lab.durable()
    if lab.can_restart:
        await lab.restart()
        expect(await lab.store.commit(turn) == answers[0], "also after a restart")
    expect(len(await lab.store.take_outgoing(10, lab.now)) == 1, "and it was done once")
    await lab.counts(done=1)


async def runs_several_handlers_under_one_lease(lab: Lab) -> None:
    await lab.accept()
    row = await lab.claim_one()
    one = await lab.done(row, "continue", handler="a:ONE")
    two = await lab.done(row, "continue", handler="b:TWO", to="X", key="b")
    expect(one < two, "turns are numbered in order of commit")
    expect(await lab.claim() == [], "the row stays leased")
    lab.now += 1000.0
    row = await lab.claim_one()
    expect([turn.handler for turn in row.done] == ["a:ONE", "b:TWO"], f"what was done is told: {row.done}")
    await lab.done(row, handler="c:THREE")
    await lab.counts(done=1)


async def refuses_a_statement_and_writes_nothing(lab: Lab) -> None:
    if not lab.store.capabilities.sql:
        return
    await lab.accept()
    row = await lab.claim_one()
    create = Statement("create table lab(word text not null)")
    await lab.done(
        row, "continue", handler="a:ONE", statements=[create, Statement("insert into lab values (?)", ("x",))]
    )
    bad = (
        Statement("insert into lab values (null)"),
        Statement("insert into nowhere values (1)"),
        Statement("no sql at all"),
        Statement("commit"),
        Statement("select 1;COMMIT"),
        Statement("create temp table monsal_spool(id)"),
        Statement(None),  # type: ignore[arg-type]  # a handler may hand in anything
        Statement("insert or rollback into lab values (null)"),
    )
    for statement in bad:
        good = Statement("insert into lab values (?)", ("lost",))
        turn = await lab.turn(row, to="A", handler="a:TWO", mails=[lab.outgoing()], statements=[good, statement])
        try:
            result = await lab.store.commit(turn)
        except StatementError:
            continue
        raise AssertionError(f"{statement.sql!r} was not refused: {result}")
    expect((await lab.state("machine")).state == "START", "nothing of a refused turn is written")
    expect(await lab.store.read("select word from lab") == [("x",)], "nor in the application's tables")
    try:
        await lab.store.read("insert into lab values ('y')")
    except StatementError:
        await lab.done(row, handler="a:TWO", to="A")
        return
    raise AssertionError("read wrote")


# -- timers -----------------------------------------------------------------------------------------------------


async def fires_timers(lab: Lab) -> None:
    await lab.converse("A", timers=[lab.timer(60.0), lab.timer(90.0, "machine:OTHER"), lab.timer(10.0, "machine:GONE")])
    entered = (await lab.state("machine")).entered
    # Set again: it replaces. Taken away: it never comes. The name stays, so they live.
    await lab.converse("A", timers=[lab.timer(30.0), lab.timer(None, "machine:GONE")])
    due = lab.store.next_work()
    expect(due is not None and due <= lab.now + 30.0, f"the timer is expected: {due}")
    lab.now += 29.0
    expect(await lab.claim() == [], "a timer does not come early")
    lab.now += 1.0
    row = await lab.claim_one()
    expect((row.source, row.target) == ("timer", "machine:REMIND"), f"the due timer comes: {row}")
    expect(row.state == StateKey("machine", "ann@example.net") and row.entered == entered, "with its conversation")
    expect((row.lease_key, row.recipient) == ("ann@example.net", "desk@example.com"), "in its queue")
    expect(row.body == b"Subject: 2\r\n\r\nHello\r\n", "with the message whose turn set it")
    await lab.done(row, handler="machine:REMIND")
    lab.now += 60.0
    row = await lab.claim_one()
    expect(row.target == "machine:OTHER", "a timer comes once, and then the next one")
    await lab.done(row, handler="machine:OTHER")
    lab.now += 1e6
    expect(await lab.claim() == [], "no timer is left")
    expect((await lab.store.ledger())["timer"].done == 2, "timers are counted by themselves")
    await lab.balanced()


async def lets_timers_die_with_their_state(lab: Lab) -> None:
    await lab.converse("A", timers=[lab.timer(60.0)])
    await lab.converse("B", timers=[lab.timer(61.0, "machine:NEW")])
    lab.now += 100.0
    row = await lab.claim_one()
    expect(row.target == "machine:NEW", "the old state's timer is dead, the one set in the same commit lives")
    await lab.done(row, handler="machine:NEW", timers=[lab.timer(5.0)])
    await lab.converse("START")
    lab.now += 100.0
    expect(await lab.claim() == [], "START ends all timers")


async def renames_a_state_and_keeps_its_timers(lab: Lab) -> None:
    await lab.converse("A", timers=[lab.timer(60.0)])
    before = await lab.state("machine")
    await lab.accept()
    row = await lab.claim_one()
    turn = await lab.turn(row)
    pair = StateKey("machine", row.correspondent)
    await lab.store.commit(replace(turn, changes=(StateChange(pair, "A2", "", True),)))
    after = await lab.state("machine")
    expect(after.state == "A2" and after.version > before.version, "a renamed state has its new name")
    same = (after.entered, after.since, after.previous) == (before.entered, before.since, before.previous)
    expect(same, f"and is the same state: {before} became {after}")
    lab.now += 61.0
    row = await lab.claim_one()
    expect(row.source == "timer" and row.entered == after.entered, "its timers live")
    await lab.done(row, handler="machine:REMIND")


async def fires_many_timers(lab: Lab) -> None:
    count = 2500
    await lab.accept()
    row = await lab.claim_one()
    timers = [
        SetTimer(state=StateKey("m", f"c{number}"), target="m:T", due=lab.now + 1.0, lease_key=f"c{number}")
        for number in range(count)
    ]
    await lab.done(row, timers=timers)
    lab.now += 2.0
    seen: set[str] = set()
    while rows := await lab.claim(400):
        seen |= {row.lease_key for row in rows}
        for row in rows:
            await lab.done(row, handler="m:T")
    expect(len(seen) == count, f"{len(seen)} of {count} timers came")
    await lab.counts(done=count + 1)


async def serves_an_operator(lab: Lab) -> None:
    await lab.converse("A", timers=[lab.timer(50.0)])
    await lab.converse("A")
    await lab.converse("A", "bob@example.net")
    await lab.converse("X", key="other", handler="other:START")
    store, before = lab.store, await lab.state("machine")
    expect(await store.rename_state("machine", "A", "A2", lab.now) == 2, "rename says how many")
    after = await lab.state("machine")
    expect(after.state == "A2" and after.entered == before.entered, "a renamed state is the same state")
    expect(after.version > before.version, "but a turn under way notices")
    lab.now += 50.0
    row = await lab.claim_one()
    expect(row.entered == after.entered, "its timers stay")
    await lab.done(row, handler="machine:REMIND")
    expect(await store.set_all("ann@example.net", "BOUNCING", lab.now) == 2, "set_all says how many")
    expect((await lab.state("other")).state == "BOUNCING", "every machine")
    expect((await lab.state("machine", "bob@example.net")).state == "A2", "of this correspondent only")
    await store.set_state(StateKey("machine", "bob@example.net"), "FORCED", lab.now)
    expect((await lab.state("machine", "bob@example.net")).state == "FORCED", "one can be forced")
    columns = set((await store.rows("states"))[0])
    expect(columns == {"key", "sender", "state", "version", "since"}, f"the columns of INTERFACE, not {columns}")
    await store.clear_states()
    expect(await store.rows("states") == [], "all can be forgotten")
    expect((await lab.state("machine")).version == 0, "also by those who read them lately")
