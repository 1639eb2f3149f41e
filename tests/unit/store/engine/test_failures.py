"""What is kept of a message that failed: why, how often it was tried, and that after it is handled again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from monsal.store.contract import Claimed
from monsal.store.engine.chronicle import Asked, Event, Marks
from monsal.store.engine.database import migrations
from monsal.store.inspect import Inspector
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]


def failures(path: Path, marks: Marks | None = None) -> list[Event]:
    """The failures that `monsal log` would tell, oldest first."""
    with Inspector(path / "monsal.db") as store:
        return [event for event in store.events(Asked(), marks or Marks()) if event.action == "turn_failed"]


def told(path: Path) -> list[tuple[int, str, str, str]]:
    return [(event.row, event.status, event.reason, event.traceback) for event in failures(path)]


async def fail(lab: Lab, kind: str, number: int) -> Claimed:
    row = await lab.claim_one()
    await lab.done(row, kind, handler=None, reason=f"reason {number}", detail=f"Traceback {number}", tried=True)
    return row


async def attempts(lab: Lab, what: str) -> list[int]:
    return [row["attempts"] for row in await lab.store.rows(what)]  # type: ignore[arg-type]


@pytest.mark.rule("routing.B3")
def test_what_happened_before_a_replay_is_still_told(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept()
        row = (await fail(lab, "dead", 1)).id
        assert await lab.store.replay(row, lab.now)
        before = [(row, "dead", "reason 1", "Traceback 1")]
        await lab.durable()
        assert told(tmp_path) == before
        lab.now += 1
        await fail(lab, "dead", 2)
        detail = await lab.store.dead_detail(row)
        assert detail is not None
        assert (detail["reason"], detail["detail"]) == ("reason 2", "Traceback 2")
        await lab.store.replay(row, lab.now)
        lab.now += 1
        await lab.done(await lab.claim_one())
        await lab.durable()
        assert told(tmp_path) == [*before, (row, "dead", "reason 2", "Traceback 2")]
        await lab.store.close()

    asyncio.run(body())


@pytest.mark.parametrize("act", ["release", "drop"])
def test_what_was_released_or_dropped_has_failed_all_the_same(make_lab: MakeLab, tmp_path: Path, act: str) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept()
        row = (await fail(lab, "hold" if act == "release" else "dead", 1)).id
        if act == "release":
            assert await lab.store.release("ann@example.net", lab.now) == 1
        else:
            assert await lab.store.drop(row, lab.now)
        assert told(tmp_path) == [(row, "held" if act == "release" else "dead", "reason 1", "Traceback 1")]
        await lab.store.close()

    asyncio.run(body())


def test_who_follows_hears_of_each_failure_once(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab, marks = make_lab(), Marks()
        await lab.store.open()
        await lab.accept()
        for number in (1, 2):  # at the same time
            row = await fail(lab, "dead", number)
            await lab.store.replay(row.id, lab.now)
            assert [event.reason for event in failures(tmp_path, marks)] == [f"reason {number}"]
            assert failures(tmp_path, marks) == []
        await lab.store.close()

    asyncio.run(body())


def test_failures_of_one_message_are_bounded_and_go_with_it(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        await lab.accept("other@example.net")
        await fail(lab, "dead", 0)
        await lab.accept()
        for number in range(1, 15):
            row = await fail(lab, "dead", number)
            await lab.store.replay(row.id, lab.now)
        assert [event.reason for event in failures(tmp_path)] == [f"reason {number}" for number in (0, *range(5, 15))]
        await lab.store.erase("ann@example.net", lab.now)  # type: ignore[attr-defined] # of the stores of our own
        assert [event.reason for event in failures(tmp_path)] == ["reason 0"]
        await lab.store.close()

    asyncio.run(body())


@pytest.mark.rule("routing.B3")
def test_a_dead_letter_says_how_often_it_was_tried(make_lab: MakeLab) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        # Given one that failed at once, one that was tried again before, and one for which there was no handler
        await lab.accept("once@x")
        await fail(lab, "dead", 1)
        await lab.accept("twice@x")
        await lab.done(await lab.claim_one(), "defer", handler=None, due=lab.now)
        row = await fail(lab, "dead", 2)
        assert row.attempts == 1
        await lab.accept("never@x")
        await lab.done(await lab.claim_one(), "dead", handler=None, reason="no_route")
        # and one that killed its workers
        await lab.accept("killer@x")
        killer = (await lab.claim_one()).id
        for _ in range(3):
            await lab.store.killed([killer], lab.now)
        assert await attempts(lab, "dead") == [1, 2, 0, 3]
        # When they are replayed, they are as new
        for dead in await lab.store.rows("dead"):
            await lab.store.replay(dead["id"], lab.now)
        assert await attempts(lab, "queue") == [0, 0, 0, 0]
        await lab.store.close()

    asyncio.run(body())


def test_failures_of_an_older_store_are_read_and_kept(make_lab: MakeLab, tmp_path: Path) -> None:
    """The layout 15 had one failure of a message, which was gone when the message was handled again."""
    old = apsw.Connection(str(tmp_path / "monsal.db"))
    for number, script in migrations():
        if number < 16:
            old.execute(script)
            old.execute(f"PRAGMA user_version = {number}")
            if number == 1:
                old.execute("INSERT INTO monsal_meta VALUES (1, zeroblob(32), 5, 0, 0, 0, 9, 0, 0)")
    old.execute("PRAGMA application_id = 0x6D6E736C")
    for row, status in ((1, 1), (2, 3), (3, 3), (4, 0)):
        reason = "because" if row < 3 else "no_route"
        old.execute(
            "INSERT INTO monsal_spool VALUES (?, 'q' || ?1, 0, ?, 's@x', 's@x', 'r@x', NULL, 1, 1.0, 1.0, 0, 0, 0, ?,"
            " NULL, x'7b7d', NULL, NULL, NULL, NULL)",
            (row, status, reason),
        )
        old.execute("INSERT INTO monsal_failures VALUES (?, ?, 5.0 - ?1)", (row, "Traceback" if row < 3 else ""))
    old.close()
    expected = [(3, "dead", "no_route", ""), (2, "dead", "because", "Traceback"), (1, "held", "because", "Traceback")]

    assert told(tmp_path) == expected
    with Inspector(tmp_path / "monsal.db") as store:
        found = store.dead_detail(2)
    assert found is not None
    assert (found["attempts"], found["detail"]) == (0, "Traceback")

    async def body() -> None:
        lab = make_lab()
        await lab.store.open()
        assert told(tmp_path) == expected
        assert await attempts(lab, "dead") == [1, 0]
        assert await attempts(lab, "queue") == [1, 0]
        await lab.store.close()

    asyncio.run(body())
