"""The same for two workers on one store process: any sequence of their calls, their deaths and its ends.

Each step is made by the worker whose turn it is. A worker that is killed takes along what its turn page says; one that
outlives the store process keeps the correspondents of its running turns to itself until it is done with them (P3).
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from store_links import join
from store_model import SENDERS, StoreMachine

from monsal.store import SqliteStore
from monsal.store.contract import Applied
from monsal.store.engine.place import EngineSettings
from monsal.store.host import StoreHost
from monsal.store.remote import RemoteStore
from monsal.transport import Link

pytestmark = pytest.mark.evidence

NAMES = ("one", "two")


def _is_at_work(machine: Any) -> bool:
    return bool(machine.leases or machine.sending)


class SharedStoreMachine(StoreMachine):
    """`store` is that of the worker whose turn it is."""

    def _store(self) -> Any:
        self.pages: dict[str, list[int]] = {}
        self.links: dict[str, tuple[Link, Link]] = {}
        self.clients: dict[str, RemoteStore] = {}
        self.kept: dict[tuple[str, str], float] = {}
        self.turn = "one"
        self.run(self._open_host())
        for name in NAMES:
            self.run(self._new_client(name))
        return self.clients[self.turn]

    async def _open_host(self) -> None:
        sizes = EngineSettings(
            group_limit=5, cached_states=2, fresh_bytes=200, body_limit=64, timers_at_once=2, sweep_after=600.0
        )
        store = SqliteStore(self.place / "monsal.db", settings=sizes)
        self.host = StoreHost(store, running=lambda name: self.pages.pop(name, []), now=lambda: self.now)
        await self.host.open()

    async def _new_client(self, name: str) -> None:
        client = self.clients[name] = RemoteStore(patience=0.0)
        self.links[name] = await join(client, self.host, name)
        await client.open()

    @initialize()
    def open(self) -> None:
        self.durable()

    def teardown(self) -> None:
        self.run(self._close_all())
        self.loop.close()
        self.remove_place()

    async def _close_all(self) -> None:
        for client in self.clients.values():
            await client.close()
        await self.host.close()
        for ours, _ in self.links.values():
            ours.abort()
            await ours.wait_closed()

    def turn_to(self, name: str) -> None:
        self.turn, self.store = name, self.clients[name]  # type: ignore[assignment]  # with the same methods

    def _is_kept(self, key: str) -> bool:
        return any(kept == key and until > self.now for (_, kept), until in self.kept.items())

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def commit_without_a_lease(self, data: st.DataObject) -> None:
        seen: list[Any] = []

        class Noted:
            def draw(self, strategy: Any) -> Any:
                seen.append(data.draw(strategy))
                return seen[-1]

        super().commit_without_a_lease(Noted())  # type: ignore[arg-type]  # with the one method that is used
        row = seen[0]
        if row.fence.epoch != self.host.store.epoch:
            # Whoever commits for a key runs no turn of an earlier opening for it any more.
            self.kept.pop((self.turn, row.lease_key), None)

    @rule(name=st.sampled_from(NAMES), limit=st.sampled_from([1, 2, 100]), lease=st.sampled_from([10.0, 1000.0]))
    def claim(self, name: str, limit: int, lease: float) -> None:
        self.turn_to(name)
        super().claim(limit, lease)

    @rule(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), sender=SENDERS, mails=st.integers(0, 2))
    def converse(self, names: list[str], sender: str, mails: int) -> None:
        """Mail that is handled by one worker after the other; the last one is left at it."""
        for number, name in enumerate(names):
            self.turn_to(name)
            self.accept(sender, False, False)
            self.claim(name, 100, 1000.0)
            lease = self.leases.get(sender)
            if lease is not None and number < len(names) - 1:
                name_of_state = self.model.states.get(("m", sender), ("START", 0, 0))
                turn = self._turn(
                    lease[2], "done", "A", None,
                    expected=name_of_state[1], before=name_of_state[0], timer=None, mails=mails,
                )  # fmt: skip
                result = self.run(self.store.commit(turn))
                assert isinstance(result, Applied)
                self._follow(turn, result)
        self.send(100, "keep")

    # -- ends, where there is something to end ----------------------------------------------------------------

    @precondition(_is_at_work)
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def kill_worker(self, data: st.DataObject, name: str) -> None:
        client = self.clients[name]
        own = {key: row for key, (row, _, claimed) in self.leases.items() if claimed.fence in client._running}
        running = data.draw(st.lists(st.sampled_from(sorted(own.values())), min_size=1, unique=True)) if own else []
        self.pages[name] = list(running)
        sending = set(client._sending)
        self.run(self._kill(name))
        self.count_kills(running)
        for key in own:
            if key in self.leases:
                self.lost.append(self.leases.pop(key)[2])
        self.sending -= sending
        self.kept = {pair: until for pair, until in self.kept.items() if pair[0] != name}
        if self.turn == name:
            self.turn_to(name)
        self._flush()

    async def _kill(self, name: str) -> None:
        ours, theirs = self.links[name]
        ours.abort()
        await theirs.wait_closed()
        await self._new_client(name)

    @precondition(_is_at_work)
    @rule(name=st.sampled_from(NAMES))
    def say_goodbye(self, name: str) -> None:
        client = self.clients[name]
        for key in [key for key, (_, _, row) in self.leases.items() if row.fence in client._running]:
            self.lost.append(self.leases.pop(key)[2])
        self.sending -= client._sending
        self.kept = {pair: until for pair, until in self.kept.items() if pair[0] != name}
        self.run(self._leave(name))
        if self.turn == name:
            self.turn_to(name)
        self.durable()

    async def _leave(self, name: str) -> None:
        await self.clients[name].close()
        await self._new_client(name)

    @precondition(_is_at_work)
    @rule()
    def restart(self) -> None:
        self.run(self._close_all())
        self.lost += [row for _, _, row in self.leases.values()]
        self.leases, self.sending, turn = {}, set(), self.turn
        self._store()
        self.turn_to(turn)

    @precondition(_is_at_work)
    @rule()
    def crash(self) -> None:
        """The store process is killed, and both workers live on."""
        self.run(self._crash())
        self.lost += [row for _, _, row in self.leases.values()]
        self.leases = {}
        picture = self.run(self._picture())
        matching = [model for model in self.pictures if model.picture() == picture]
        assert matching, (picture, [model.picture() for model in self.pictures])
        self.model = copy.deepcopy(matching[-1])
        self.sending = {row for client in self.clients.values() for row in client._sending if self._is_open(row)}
        self.kept = {
            (name, key): until
            for name, client in self.clients.items()
            for key, until in sorted(client._running.values(), key=lambda pair: pair[1])
        }
        self.durable()

    def _is_open(self, row: int) -> bool:
        return self.model.outbox[row][0] in ("waiting", "deferred")

    async def _crash(self) -> None:
        for _, theirs in self.links.values():
            theirs.abort()
            await theirs.wait_closed()
        await self.host.store.abandon()
        await self._open_host()
        for name, client in self.clients.items():
            self.links[name] = await join(client, self.host, name)


SharedStoreMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_a_shared_store_is_a_few_dicts = pytest.mark.rule("state.B10", "state.B12", "state.B16")(
    SharedStoreMachine.TestCase
)
