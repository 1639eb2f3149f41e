"""A connection that comes back: backoff, calls that wait, calls that are made again, and an end for good."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from link_world import SERVER, Run, Watcher, until

from monsal.errors import Busy, ConfigError, ConnectionLost, NotRunning
from monsal.transport import LinkSetup, Reconnecting, Tls, connect, listen, open_endpoint, reconnect
from monsal.transport.endpoint import Endpoint, Single
from monsal.wire import PeerLimits

pytestmark = pytest.mark.rule("rpc.B16")


def test_calls_wait_until_the_other_side_is_there(run: Run, home: Path) -> None:
    async def scene() -> None:
        keeper = reconnect(f"unix:{home}/api.sock", longest=0.01)
        waiting = asyncio.create_task(keeper.call("echo", {"a": 1}))
        await until(lambda: keeper.failures >= 2)
        with pytest.raises(NotRunning):
            keeper.cast("note")
        acceptor = await listen(f"unix:{home}/api.sock", SERVER)
        assert await waiting == {"a": 1}
        keeper.cast("note")
        assert list(keeper.links) == [f"{home}/api.sock"]
        await keeper.close()
        await keeper.wait_closed()
        assert keeper.links == {}
        await acceptor.close()

    run(scene())


def test_it_comes_back_after_each_end_and_says_so(run: Run, home: Path) -> None:
    async def scene() -> None:
        watcher = Watcher()
        keeper = reconnect(f"unix:{home}/api.sock", on_event=watcher.on_event, longest=0.01)
        for round_ in range(1, 4):
            acceptor = await listen(f"unix:{home}/api.sock", SERVER)
            assert await keeper.call("echo", {"round": round_}) == {"round": round_}
            await acceptor.close()
            await until(lambda round_=round_: watcher.kinds.count("Disconnected") == round_)
        assert watcher.kinds.count("Connected") == 3
        await keeper.close()

    run(scene())


@pytest.mark.rule("rpc.B3")
def test_a_call_that_may_have_arrived_is_made_again_only_if_that_does_no_harm(run: Run, home: Path) -> None:
    async def scene() -> None:
        watcher = Watcher()
        first = await listen(f"unix:{home}/api.sock", watcher.setup())
        keeper = reconnect(f"unix:{home}/api.sock", longest=0.01)
        once = asyncio.create_task(keeper.call("pay", {"n": 1}))
        again = asyncio.create_task(keeper.call("look", {"n": 2}, repeatable=True))
        await until(lambda: len(watcher.calls) == 2)
        await first.close(0.0)
        with pytest.raises(ConnectionLost) as caught:
            await once
        assert caught.value.sent
        second = await listen(f"unix:{home}/api.sock", watcher.setup())
        await until(lambda: len(watcher.calls) == 3)
        assert watcher.calls[2].method == "look"
        (link,) = second.links.values()
        link.answer(watcher.calls[2].id, "seen")
        assert await again == "seen"
        await keeper.close()
        await second.close()

    run(scene())


def test_waiting_has_an_end_and_a_bound(run: Run, home: Path) -> None:
    async def scene() -> None:
        keeper = reconnect(f"unix:{home}/none.sock", longest=0.01, limits=PeerLimits(queue=2))
        with pytest.raises(NotRunning, match="the call was not made"):
            await keeper.call("echo", timeout=0.05)
        waiting = [asyncio.create_task(keeper.call("echo")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await keeper.call("echo")
        await keeper.close()
        for each in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(each, NotRunning)

    run(scene())


def test_the_waits_grow_with_jitter_up_to_the_longest_and_begin_anew(run: Run, home: Path) -> None:
    async def scene() -> None:
        waits: list[float] = []
        acceptor = await listen(f"unix:{home}/api.sock", SERVER)
        tries = 0

        async def opener() -> Endpoint:
            nonlocal tries
            tries += 1
            if tries < 9:
                raise OSError("away")
            return Single(await connect(f"unix:{home}/api.sock"))

        async def pause(seconds: float) -> None:
            waits.append(seconds)

        keeper = Reconnecting(opener, name="there", setup=LinkSetup(), longest=3.0, jitter=lambda: 0.5, pause=pause)
        await keeper.wait_connected()
        assert waits == [0.75 * wait for wait in (0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0)]
        await keeper.close()
        await acceptor.close()

    run(scene())


def test_what_does_not_pass_ends_it_and_is_told(run: Run, home: Path) -> None:
    async def scene() -> None:
        keeper = reconnect(Tls("127.0.0.1", 1, ca=f"{home}/missing.pem"))
        with pytest.raises(ConfigError):
            await keeper.call("echo")
        with pytest.raises(ConfigError):
            await keeper.wait_closed()
        await keeper.close()

    run(scene())


def test_several_that_cannot_be_opened_yet_are_tried_again_together(run: Run, home: Path) -> None:
    async def scene() -> None:
        keeper: Any = await open_endpoint(f"restart:0.01:mux:(unixserv:{home}/a.sock)(unix:{home}/other.sock)", SERVER)
        await until(lambda: keeper.failures >= 2)
        other = await listen(f"unix:{home}/other.sock", SERVER)
        await keeper.wait_connected()
        link = await connect(f"unix:{home}/a.sock")
        assert await link.call("echo", {}) == {}
        await keeper.close()
        await link.wait_closed()
        await other.close()

    run(scene())
