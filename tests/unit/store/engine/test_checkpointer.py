"""When the WAL is moved into the database: when there is much in it, and rather when nobody waits for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from monsal.store import SqliteStore
from monsal.store.contract import Settled
from monsal.store.engine.hand import Checkpointer, is_quiet
from monsal.store.engine.place import EngineSettings, MemoryPlace
from monsal.testing.kit.lab import Lab

MakeLab = Callable[..., Lab]


def test_a_quiet_moment_is_waited_for_but_not_for_long() -> None:
    async def body() -> None:
        settings = EngineSettings(checkpoint_pages=100, checkpoint_limit=1000)
        checkpointer = Checkpointer(asyncio.get_running_loop(), MemoryPlace(()), settings)

        async def moved(pages: int, *, is_quiet: bool) -> bool:
            assert not checkpointer.after_flush(pages, is_quiet=is_quiet)
            was_asked = checkpointer._is_asked
            while checkpointer._is_asked:
                await asyncio.sleep(0.001)
            return was_asked

        try:
            assert not await moved(99, is_quiet=True)
            assert not await moved(124, is_quiet=False)
            assert await moved(125, is_quiet=False)
            assert not await moved(224, is_quiet=True)
            assert await moved(225, is_quiet=True)
            assert await moved(900, is_quiet=True)
            # So long that the writer is to stop for it; afterwards it is short again.
            assert not await moved(999, is_quiet=True)
            assert not checkpointer.after_flush(1009, is_quiet=False)
            assert checkpointer.after_flush(1009, is_quiet=True)
            assert checkpointer.after_flush(1134, is_quiet=False)
            assert not await moved(10, is_quiet=True)
            assert await moved(110, is_quiet=True)
        finally:
            checkpointer.stop()

    asyncio.run(body())


def test_it_is_quiet_when_the_last_answer_is_settled(make_lab: MakeLab, tmp_path: Path) -> None:
    async def body() -> None:
        lab = make_lab()
        await lab.store.open()

        def quiet() -> bool:
            assert isinstance(lab.store, SqliteStore)
            data = lab.store.core.data
            assert data is not None
            return is_quiet(data)

        assert quiet()
        await lab.accept()
        assert not quiet()
        row = await lab.claim_one()
        assert not quiet()
        await lab.commit(row, to="A", mails=[lab.outgoing("b@x")])
        assert not quiet()
        await lab.durable()
        (mail,) = await lab.store.take_outgoing(10, lab.now)
        assert not quiet()
        await lab.store.settle([Settled(id=mail.id, status="sent")])
        assert quiet()
        await lab.store.close()

    asyncio.run(body())
