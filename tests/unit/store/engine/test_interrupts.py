"""An interrupt at any instruction between the end of a group and its answers: all of the group is stored or nothing,
and everybody is told once what is true."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

import apsw
import pytest

from monsal.errors import StoreUnavailable
from monsal.store import MemoryStore, SqliteStore
from monsal.store.contract import Applied, Receipt
from monsal.store.engine import arrivals, hand, operation, pending
from monsal.store.engine.core import Core
from monsal.store.engine.data import Data
from monsal.store.engine.operation import InDoubt
from monsal.store.engine.place import EngineSettings
from monsal.store.engine.promises import Promises
from monsal.store.engine.writer import Writer
from monsal.testing.kit.lab import Lab

#: What runs from the moment when a group is to be flushed.
SEALING = {
    function.__code__
    for function in (
        *(Core._flush_here, Core._flush_there, Core._flushed, Core._seal, Core._go_on),
        *(Data.seal, Data.write_pending, Data.write_arrivals, Data._arrived, Data.hand_over, Data.take_back),
        *(Writer.commit, Writer.begin, Promises.seal, Promises.keep, Promises.answer),
        *(pending.Pending.write, pending.Pending.clear, arrivals.write_arrivals, hand.flush, operation.deliver),
    )
}


class Interrupt:
    """Raises KeyboardInterrupt before one instruction of the sealing; `is_over` when there are not so many."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.is_over = True

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._called)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        # `done` is told of a flush that the thread made.
        if frame.f_code not in SEALING and frame.f_code.co_qualname != "Groups._flush_there.<locals>.done":
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._instruction

    def _instruction(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        # Those before a `try` are left out.
        if event == "opcode" and frame.f_lasti > 4:
            self.left -= 1
            if self.left == 0:
                self.is_over = False
                raise KeyboardInterrupt
        return self._instruction


def finish(loop: asyncio.AbstractEventLoop, task: asyncio.Future[Any] | Coroutine[Any, Any, Any]) -> tuple[Any, int]:
    """What becomes of it, and how often the loop was interrupted meanwhile."""
    interrupts = 0
    future = asyncio.ensure_future(task, loop=loop)
    while not future.done():
        try:
            loop.run_until_complete(asyncio.wait({future}, timeout=20))
            assert future.done(), "nobody is told anything any more"
        except KeyboardInterrupt:
            interrupts += 1
    return future.result(), interrupts


async def told(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a caller is told."""
    try:
        return await coroutine
    except (StoreUnavailable, KeyboardInterrupt) as error:
        return error


async def up_again(lab: Lab) -> None:
    while isinstance(await told(lab.store.ledger()), StoreUnavailable):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", ["thread", "loop", "memory"])
def test_an_interrupt_of_a_group_is_all_or_nothing(tmp_path: Path, kind: str) -> None:
    loop = asyncio.new_event_loop()
    number = 2 if kind == "thread" else 1
    settings = EngineSettings(inline_below=1e9, window=1e9)
    store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "monsal.db", settings=settings)
    lab = Lab(lambda _: store, tmp_path, None)
    finish(loop, store.open())
    step, seen = 0, set()
    while True:
        step += 1
        rows, answers, is_over = _one_group(loop, lab, number, step)
        if is_over:
            break
        finish(loop, up_again(lab))
        stored, _ = finish(loop, store.read("select id from v_messages"))
        # The mail with which the group began is there in any case.
        assert len([row for row in rows if (row,) in stored]) == len(rows)
        senders, _ = finish(loop, store.read("select sender from v_messages where sender like ?", [f"s{step}.%"]))
        assert len(senders) in (0, number), f"half a group at instruction {step}: {senders}"
        for answer in answers:
            assert isinstance(answer, Receipt | StoreUnavailable | KeyboardInterrupt), answer
            if isinstance(answer, Receipt):
                assert senders, f"a false yes at instruction {step}"
                assert (answer.ids[0],) in stored
            elif not isinstance(answer, InDoubt | KeyboardInterrupt):
                assert not senders, f"a false no at instruction {step}"
        seen.add((bool(senders), {type(answer) for answer in answers} == {Receipt}))
        finish(loop, lab.balanced())
        claimed, _ = finish(loop, lab.claim(1000))
        for row in claimed:
            finish(loop, lab.done(row, "done"))
    finish(loop, store.close())
    loop.close()
    # Interrupts came before the COMMIT and after it, or this has shown nothing.
    assert step > 150
    assert {(False, False), (True, True)} <= seen


def _one_group(loop: asyncio.AbstractEventLoop, lab: Lab, number: int, step: int) -> tuple[list[int], list[Any], bool]:
    """A turn and some mails in one group, interrupted at an instruction: the mail of the turn, what was said."""
    receipt, _ = finish(loop, lab.accept(f"before{step}@x"))
    (row,), _ = finish(loop, lab.claim(1))
    turn, _ = finish(loop, lab.turn(row, to="A" if step % 2 else "B", mails=[lab.outgoing()]))
    interrupt = Interrupt(step)

    async def group() -> list[Any]:
        assert isinstance(await told(lab.store.commit(turn)), Applied | StoreUnavailable | KeyboardInterrupt)
        return await asyncio.gather(*(told(lab.accept(f"s{step}.{each}@x")) for each in range(number)))

    with interrupt:
        answers, interrupts = finish(loop, group())
    assert interrupts <= 1
    return list(receipt.ids), answers, interrupt.is_over


def test_a_store_whose_loop_never_heard_of_a_flush_can_be_closed(tmp_path: Path) -> None:
    """The interrupt came right when the loop was to be told that the thread is done."""
    loop = asyncio.new_event_loop()
    store = SqliteStore(tmp_path / "monsal.db", settings=EngineSettings(inline_below=0.0))
    lab = Lab(lambda _: store, tmp_path, None)
    finish(loop, store.open())
    do = store.core._hand.do

    def lose(work: Callable[[], Any], _: Callable[..., Any]) -> None:
        store.core._hand.do = do  # type: ignore[method-assign]
        do(work, lambda *_: None)

    store.core._hand.do = lose  # type: ignore[method-assign]  # the fault that is injected

    async def group() -> list[Any]:
        callers = [asyncio.create_task(told(lab.accept(f"c{number}@x"))) for number in range(3)]
        await asyncio.sleep(0.01)
        await store.close()
        return await asyncio.gather(*callers)

    answers, _ = finish(loop, group())
    finish(loop, store.open())
    stored, _ = finish(loop, store.read("select id from v_messages order by id"))
    assert [answer.ids for answer in answers] == stored
    finish(loop, store.close())
    loop.close()


def test_what_an_interrupt_undid_on_the_thread_is_no_yes(tmp_path: Path) -> None:
    """The mail waits on the thread for another program, and the interrupt comes right when it went there."""
    loop = asyncio.new_event_loop()
    store = SqliteStore(tmp_path / "monsal.db")
    lab = Lab(lambda _: store, tmp_path, None)
    finish(loop, store.open())
    other = apsw.Connection(str(tmp_path / "monsal.db"))
    do = store.core._hand.do

    def interrupted(work: Callable[[], Any], done: Callable[..., Any]) -> None:
        store.core._hand.do = do  # type: ignore[method-assign]
        do(work, done)
        raise KeyboardInterrupt

    async def locked() -> Any:
        store.core._hand.do = interrupted  # type: ignore[method-assign]  # the fault that is injected
        other.execute("begin immediate")
        loop.call_later(0.05, other.execute, "commit")
        return await told(lab.accept("a@x"))

    answer, interrupts = finish(loop, locked())
    assert interrupts == 1
    assert isinstance(answer, StoreUnavailable), "a false yes"
    finish(loop, up_again(lab))
    assert finish(loop, store.read("select id from v_messages"))[0] == []
    assert isinstance(finish(loop, lab.accept("b@x"))[0], Receipt)
    other.close()
    finish(loop, store.close())
    loop.close()


@pytest.mark.parametrize("when", ["_do_here", "_answer"])
def test_who_queues_is_told_of_an_interrupt(tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came right before the operation was begun, or right before its answer."""
    loop = asyncio.new_event_loop()
    store = SqliteStore(tmp_path / "monsal.db")
    lab = Lab(lambda _: store, tmp_path, None)
    finish(loop, store.open())

    do_here = store.core._do_here

    def interrupt(*_: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    def begun(operation: Any) -> None:
        monkeypatch.setattr(store.core, "_answer", interrupt)
        do_here(operation)

    async def queued() -> Any:
        monkeypatch.setattr(store.core, "_do_here", interrupt if when == "_do_here" else begun)
        looking = asyncio.create_task(store.rows("queue"))  # on the thread, so that the mail queues
        await asyncio.sleep(0)
        storing = asyncio.create_task(told(lab.accept("a@x")))
        assert await looking == []
        return await storing

    answer, interrupts = finish(loop, queued())
    assert interrupts == 1
    assert isinstance(answer, InDoubt)
    finish(loop, up_again(lab))
    assert isinstance(finish(loop, lab.accept("b@x"))[0], Receipt)
    finish(loop, store.close())
    loop.close()


def test_an_interrupt_while_the_next_group_pends_is_all_or_nothing_of_each(tmp_path: Path) -> None:
    """A group is held at the disk, another one is applied meanwhile; then comes the interrupt, at any instruction."""
    loop = asyncio.new_event_loop()
    store = SqliteStore(tmp_path / "monsal.db", settings=EngineSettings(inline_below=0.0, window=1e9, narrow=9))
    lab = Lab(lambda _: store, tmp_path, None)
    finish(loop, store.open())
    step, seen = 0, set()
    while True:
        step += 1
        interrupt = Interrupt(step)
        with interrupt:
            (first, second), _ = finish(loop, _two_groups(lab, step))
        if interrupt.is_over:
            break
        finish(loop, up_again(lab))
        there = []
        for name, answers in (("f", first), ("s", second)):
            stored, _ = finish(
                loop, store.read("select id from v_messages where sender like ? order by id", [f"{name}{step}.%"])
            )
            assert len(stored) in (0, 2), f"half a group at instruction {step}: {stored}"
            there.append(bool(stored))
            for answer in answers:
                assert isinstance(answer, Receipt | StoreUnavailable | KeyboardInterrupt), answer
                if isinstance(answer, Receipt):
                    assert (answer.ids[0],) in stored, f"a false yes at instruction {step}"
                elif not isinstance(answer, InDoubt | KeyboardInterrupt):
                    assert not stored, f"a false no at instruction {step}"
        assert there != [False, True], "a later group is there and not the one before it"
        seen.add(tuple(there))
        finish(loop, lab.balanced())
        claimed, _ = finish(loop, lab.claim(1000))
        for row in claimed:
            finish(loop, lab.done(row, "done"))
    finish(loop, store.close())
    loop.close()
    assert step > 300
    assert seen == {(False, False), (True, False), (True, True)}


async def _two_groups(lab: Lab, step: int) -> tuple[list[Any], list[Any]]:
    """Two mails in a group, and two more while it is on its way to the disk; what their callers were told."""
    assert isinstance(lab.store, SqliteStore)
    core = lab.store.core
    data = core.data
    assert data is not None
    flush, go_on = data.writer.commit, threading.Event()

    def held() -> None:
        data.writer.commit = flush  # type: ignore[method-assign]
        assert go_on.wait(20)
        flush()

    data.writer.commit = held  # type: ignore[method-assign]  # the disk is slow
    first = [asyncio.create_task(told(lab.accept(f"f{step}.{each}@x"))) for each in range(2)]
    while core.data is data and not data.writer.flushing:
        await asyncio.sleep(0)
    second = [asyncio.create_task(told(lab.accept(f"s{step}.{each}@x"))) for each in range(2)]
    await asyncio.sleep(0)
    go_on.set()
    return await asyncio.gather(*first), await asyncio.gather(*second)
