"""A value that comes later, and work that is done one by one (contract rpc, Promise)."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from monsal.rpc import (
    ActionQueue,
    Promise,
    PromiseCancelled,
    PromiseDeadlockError,
    PromiseDoneError,
    PromiseError,
    PromiseTimeoutError,
)


def elsewhere(action: object) -> threading.Thread:
    thread = threading.Thread(target=action)  # type: ignore[arg-type]
    thread.start()
    return thread


def foreign() -> Promise:
    """A promise that another thread is to set."""
    return Promise(threading.Thread())


@pytest.mark.rule("rpc.R26")
def test_result_waits_for_the_value() -> None:
    promise = foreign()
    thread = elsewhere(lambda: promise.set_result(7))
    assert promise.result(60) == 7
    assert promise() == 7
    thread.join()


@pytest.mark.rule("rpc.R26")
def test_result_raises_the_error_that_came() -> None:
    promise = foreign()
    promise.set_exception(KeyError("x"))
    with pytest.raises(KeyError):
        promise.result()


@pytest.mark.rule("rpc.R26")
def test_result_gives_up_after_its_time_and_may_be_asked_again() -> None:
    promise = foreign()
    with pytest.raises(PromiseTimeoutError) as caught:
        promise.result(0.01)
    assert isinstance(caught.value, TimeoutError)
    promise.set_result("late")
    assert promise.result(0.01) == "late"


@pytest.mark.rule("rpc.R26", "rpc.B21")
def test_patience_is_one_second_unless_a_call_has_a_deadline() -> None:
    assert foreign()._patience == 1.0
    with pytest.raises(PromiseTimeoutError):
        Promise(threading.Thread(), patience=0.01).result()


@pytest.mark.rule("rpc.R27")
def test_then_calls_at_once_or_later() -> None:
    seen: list[object] = []
    promise = foreign()
    promise.then(seen.append)
    assert seen == []
    promise.set_result(1)
    promise.then(seen.append)
    assert seen == [1, 1]


@pytest.mark.rule("rpc.R27")
def test_an_error_goes_to_errback_or_to_callback() -> None:
    seen: list[object] = []
    error = ValueError("no")
    promise = foreign()
    promise.then(seen.append, lambda given: seen.append(("errback", given)))
    promise.then(seen.append)
    promise.set_exception(error)
    assert seen == [("errback", error), error]


@pytest.mark.rule("rpc.R27")
def test_an_error_in_a_callback_is_logged_and_hurts_no_other(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[object] = []
    promise = foreign()
    broken = promise.then(lambda value: 1 / value)
    promise.then(seen.append)
    with caplog.at_level(logging.ERROR, "monsal.rpc"):
        promise.set_result(0)
    assert seen == [0]
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(ZeroDivisionError):
        broken.result()


@pytest.mark.rule("rpc.R28")
def test_a_promise_is_set_once() -> None:
    promise = foreign()
    promise.set_result(1)
    with pytest.raises(PromiseDoneError):
        promise.set_result(2)
    with pytest.raises(PromiseDoneError):
        promise.set_exception(ValueError())
    assert promise.result() == 1


@pytest.mark.rule("rpc.R28")
def test_what_is_no_exception_is_wrapped_in_one() -> None:
    promise = foreign()
    promise.set_exception("just words")
    with pytest.raises(PromiseError, match="just words"):
        promise.result()


@pytest.mark.rule("rpc.R23", "rpc.R29")
def test_the_creating_thread_must_not_wait_for_itself() -> None:
    promise = Promise()
    with pytest.raises(PromiseDeadlockError) as caught:
        promise.result(30.0)
    assert isinstance(caught.value, RuntimeError)
    promise.set_result(3)
    assert promise.result() == 3


@pytest.mark.rule("rpc.R29")
def test_another_setter_thread_can_be_named() -> None:
    caught: list[BaseException] = []
    promise = Promise(threading.Thread())

    def wait() -> None:
        promise.setter_thread = threading.current_thread()
        try:
            promise.result(30.0)
        except PromiseDeadlockError as error:
            caught.append(error)

    elsewhere(wait).join()
    assert len(caught) == 1


@pytest.mark.rule("rpc.B13")
def test_promises_are_chained() -> None:
    inner, promise = foreign(), foreign()
    last = promise.then(lambda value: value + 1).then(lambda value: inner).then(lambda value: value * 10)
    promise.set_result(1)
    assert not last.done
    inner.set_result(5)
    assert last.result() == 50


@pytest.mark.rule("rpc.B13")
def test_a_promise_can_be_cancelled_once() -> None:
    given_up: list[bool] = []
    promise = foreign()
    promise._on_cancel = lambda: given_up.append(True)
    assert promise.cancel()
    assert not promise.cancel()
    assert given_up == [True]
    with pytest.raises(PromiseCancelled):
        promise.result()


@pytest.mark.rule("rpc.B13")
def test_a_promise_can_be_awaited() -> None:
    async def wait() -> tuple[object, object]:
        done, later = foreign(), foreign()
        done.set_result("there")
        thread = elsewhere(lambda: later.set_result("later"))
        values = await done, await later
        thread.join()
        return values

    assert asyncio.run(wait()) == ("there", "later")


def test_a_waiter_that_left_does_no_harm() -> None:
    async def wait() -> None:
        promise = foreign()

        async def leave() -> None:
            await promise

        task = asyncio.ensure_future(leave())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        promise.set_result(1)
        await asyncio.sleep(0)

    asyncio.run(wait())


def test_actions_run_in_order_on_one_thread_that_ends() -> None:
    seen: list[tuple[int, threading.Thread]] = []
    queue, done, go = ActionQueue(), threading.Event(), threading.Event()
    queue.put(lambda: go.wait(60))
    for number in range(100):
        queue.put(lambda number=number: seen.append((number, threading.current_thread())))  # type: ignore[misc]
    queue.put(done.set)
    thread = queue.thread
    assert thread is not None
    go.set()
    assert done.wait(60)
    thread.join(60)
    assert [number for number, _ in seen] == list(range(100))
    assert {where for _, where in seen} == {thread}
    assert queue.thread is None


def test_an_action_that_fails_is_logged_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    queue, done = ActionQueue(), threading.Event()
    queue.put(lambda: 1 / 0)
    queue.put(done.set)
    assert done.wait(60)
    assert "ZeroDivisionError" in caplog.text
    again = threading.Event()
    queue.put(again.set)
    assert again.wait(60)
