"""Links for code that blocks."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from link_world import SERVER, serve

from monsal.transport import LinkSetup, LoopThread, background, connect, listen, run
from monsal.wire import Called

pytestmark = pytest.mark.rule("rpc.B13")


@pytest.fixture(autouse=True)
def _end_the_loop() -> None:
    yield
    background().close()


def test_any_number_of_threads_share_a_link(home: Path) -> None:
    acceptor = run(listen(f"unix:{home}/api.sock", SERVER))
    link = run(connect(f"unix:{home}/api.sock"))

    def many(number: int) -> list[object]:
        return [run(link.call("echo", {"n": number, "i": index})) for index in range(20)]

    with ThreadPoolExecutor(8) as pool:
        for number, answers in enumerate(pool.map(many, range(8))):
            assert answers == [{"n": number, "i": index} for index in range(20)]
    run(acceptor.close())
    assert background() is background()


def test_waiting_for_oneself_is_refused(home: Path) -> None:
    caught: list[BaseException] = []

    def handle(link: object, called: Called) -> None:
        try:
            run(link.call("echo"))
        except RuntimeError as error:
            caught.append(error)
        serve(link, called)

    acceptor = run(listen(f"unix:{home}/api.sock", LinkSetup(on_call=handle)))
    link = run(connect(f"unix:{home}/api.sock"))
    assert run(link.call("echo", {"a": 1})) == {"a": 1}
    assert "thread that runs the links" in str(caught[0])
    run(acceptor.close())


def test_a_wait_that_is_given_up_cancels_what_was_waited_for() -> None:
    ended = threading.Event()

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        run(long(), timeout=0.01)
    assert ended.wait(60)


def test_what_it_raises_is_raised_here() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run(fail())


def test_closing_cancels_what_runs_and_a_later_use_begins_anew() -> None:
    thread = LoopThread("mine")
    running = thread.submit(asyncio.Event().wait())
    thread.close()
    thread.close()
    assert running.cancelled()
    before = background()
    before.close()
    assert background() is not before
    assert run(asyncio.sleep(0, "again")) == "again"


def test_a_forked_child_has_its_own() -> None:
    run(asyncio.sleep(0))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, run(asyncio.sleep(0, b"fine"), timeout=60.0))
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 10) == b"fine"
    os.close(read)
    os.waitpid(child, 0)
    assert run(asyncio.sleep(0, "still here")) == "still here"
