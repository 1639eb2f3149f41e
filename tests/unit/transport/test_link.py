"""One link: calls, casts, answers and faults, both ways; giving up, deadlines, and an end that all hear of."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from link_world import SERVER, Run, Watcher, serve, until

from monsal.errors import Busy, CallExpired, ConnectionLost, Forbidden, RemoteFault, Unauthenticated
from monsal.transport import Connected, Disconnected, Link, LinkSetup, link_pair
from monsal.wire import Called, Cancelled, EncodeError, Hmac, PeerLimits, Token, Tokens


def test_calls_are_answered_in_both_directions(run: Run) -> None:
    async def scene() -> None:
        left, right = link_pair(SERVER, SERVER)
        assert await left.call("echo", {"a": 1}) == {"a": 1}
        assert await right.call("echo", [1, 2]) == [1, 2]
        assert await left.call("back", {"b": 2}) == {"b": 2}
        assert left.statistics().calls_made == 2
        assert left.statistics().calls_heard == 2
        left.close()
        await asyncio.gather(left.wait_closed(), right.wait_closed())

    run(scene())


@pytest.mark.rule("rpc.B5")
@pytest.mark.parametrize("codec", ["jrpc", "jrpc:\n", "jrpc:###", "lsp:", "msgpack:", "terse:"])
def test_many_calls_share_a_link_whatever_the_codec(run: Run, codec: str) -> None:
    async def scene() -> None:
        left, right = link_pair(LinkSetup(codec=codec), LinkSetup(codec=codec, on_call=serve))
        answers = await asyncio.gather(*(left.call("echo", {"number": number}) for number in range(200)))
        assert answers == [{"number": number} for number in range(200)]
        left.close()
        await right.wait_closed()

    run(scene())


@pytest.mark.rule("rpc.R5")
@pytest.mark.parametrize("codec", ["", "pickle", "msgpack:x", "jrpc2"])
def test_an_unknown_codec_is_refused_and_told_what_is_known(codec: str) -> None:
    with pytest.raises(ValueError, match=r"jrpc.*lsp:.*msgpack:.*terse:"):
        LinkSetup(codec=codec).make_codec()


@pytest.mark.rule("rpc.R30")
@pytest.mark.rule("rpc.B9")
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (-32000, Busy),
        (-32001, CallExpired),
        (-32002, Unauthenticated),
        (-32003, Forbidden),
        (-32601, RemoteFault),
        (1404, RemoteFault),
    ],
)
def test_a_fault_becomes_the_error_of_its_code(run: Run, code: int, error: type[Exception]) -> None:
    async def scene() -> Exception:
        left, _right = link_pair(LinkSetup(), SERVER)
        with pytest.raises(error) as caught:
            await left.call("refuse", {"code": code, "data": {"retry_after": 2.5, "kind": "Kind", "details": "more"}})
        left.close()
        return caught.value

    found = run(scene())
    if isinstance(found, Busy):
        assert found.retry_after == 2.5
    elif isinstance(found, RemoteFault):
        assert (found.code, found.kind, found.details) == (code, "Kind", "more")


@pytest.mark.parametrize("data", [None, "a traceback", {"retry_after": "soon"}, {"retry_after": True}, {}, [1]])
def test_faults_with_odd_data_are_faults_all_the_same(run: Run, data: Any) -> None:
    async def scene() -> None:
        left, _right = link_pair(LinkSetup(), SERVER)
        with pytest.raises(Busy) as busy:
            await left.call("refuse", {"code": -32000, "data": data})
        assert busy.value.retry_after == 1.0
        with pytest.raises(RemoteFault) as fault:
            await left.call("refuse", {"code": 7, "data": data})
        assert fault.value.details == ("a traceback" if data == "a traceback" else "")
        left.close()

    run(scene())


@pytest.mark.rule("rpc.B1")
@pytest.mark.rule("rpc.B8")
@pytest.mark.rule("rpc.R19")
def test_a_call_is_answered_also_when_its_handler_fails(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        left, _right = link_pair(LinkSetup(), SERVER)
        with pytest.raises(RemoteFault, match="Internal error") as caught:
            await left.call("break")
        assert caught.value.code == -32603
        with pytest.raises(RemoteFault) as unsaid:
            await left.call("unsayable")
        assert unsaid.value.code == -32603
        assert await left.call("echo", {"still": "here"}) == {"still": "here"}
        with pytest.raises(RemoteFault, match="Method not found"):
            await link_pair(LinkSetup(), LinkSetup())[0].call("anything")
        left.close()

    run(scene())
    assert "a bug" in caplog.text


def test_what_cannot_be_said_is_an_error_here_and_uses_no_id(run: Run) -> None:
    async def scene() -> None:
        left, _right = link_pair(LinkSetup(), SERVER)
        for say in (left.request, left.cast):
            with pytest.raises(EncodeError):
                say("echo", {"a": object()})
        with pytest.raises(EncodeError):
            await left.call("echo", {"a": "x" * 2_000_000})
        assert await left.call("echo", {}) == {}
        assert left.statistics().calls_made == 1
        left.close()

    run(scene())


def test_a_cast_is_not_answered(run: Run) -> None:
    async def scene() -> None:
        watcher = Watcher()
        left, _right = link_pair(LinkSetup(), watcher.setup())
        left.cast("note", {"a": 1})
        left.cast("break")
        await until(lambda: len(watcher.calls) == 2)
        assert watcher.calls[0].is_cast
        assert watcher.calls[0].params == {"a": 1}
        left.close()

    run(scene())


@pytest.mark.rule("rpc.B8")
def test_a_batch_is_one_frame_and_each_call_has_its_answer(run: Run) -> None:
    async def scene() -> None:
        left, right = link_pair(LinkSetup(hello=None), SERVER)
        first, nothing, last = left.batch(
            [("echo", {"a": 1}, True), ("note", {}, False), ("refuse", {"code": 5}, True)]
        )
        assert nothing is None
        assert first is not None
        assert last is not None
        assert await first == {"a": 1}
        with pytest.raises(RemoteFault):
            await last
        assert right.statistics().octets_in == left.statistics().octets_out
        left.close()

    run(scene())


@pytest.mark.rule("rpc.B4")
def test_to_cancel_the_task_gives_the_call_up_and_the_other_side_hears_of_it(run: Run) -> None:
    async def scene() -> None:
        watcher = Watcher()
        left, right = link_pair(LinkSetup(), watcher.setup())
        task = asyncio.create_task(left.call("slow"))
        future = left.request("slower")
        await until(lambda: len(watcher.calls) == 2)
        task.cancel()
        future.cancel()
        await until(lambda: watcher.kinds.count("Cancelled") == 2)
        given_up = {event.id for event in watcher.events if isinstance(event, Cancelled)}
        assert given_up == {call.id for call in watcher.calls}
        assert left.statistics().pending == 0
        # It is answered all the same, and that answer troubles nobody.
        right.refuse(watcher.calls[0].id, -32800, "Cancelled")
        right.answer(watcher.calls[1].id, None)
        task = asyncio.create_task(left.call("third"))
        await until(lambda: len(watcher.calls) == 3)
        right.answer(watcher.calls[2].id, "fine")
        assert await task == "fine"
        assert left.statistics().troubles == 0
        left.close()

    run(scene())


@pytest.mark.rule("rpc.B4")
def test_a_call_that_is_not_answered_in_time_expires(run: Run) -> None:
    async def scene() -> None:
        watcher = Watcher()
        left, _right = link_pair(LinkSetup(limits=PeerLimits(timeout=0.05)), watcher.setup())
        with pytest.raises(TimeoutError) as caught:
            await left.call("slow")
        assert isinstance(caught.value, CallExpired)
        with pytest.raises(CallExpired):
            await left.call("slow", timeout=0.01)
        forever = left.request("slow", timeout=math.inf)
        assert left.statistics().pending == 1
        left.close()
        with pytest.raises(ConnectionLost):
            await forever

    run(scene())


@pytest.mark.rule("rpc.B3")
def test_when_a_link_ends_all_that_waits_fails_at_once(run: Run) -> None:
    async def scene() -> None:
        watcher = Watcher()
        left, right = link_pair(watcher.setup(), Watcher().setup())
        calls = [asyncio.create_task(left.call("slow", {"n": number})) for number in range(3)]
        await until(lambda: right.statistics().in_flight == 3)
        last = left.request("unsent")
        right.abort()
        outcomes = await asyncio.gather(*calls, last, return_exceptions=True)
        assert all(isinstance(outcome, ConnectionLost) and outcome.sent for outcome in outcomes[:3])
        assert isinstance(outcomes[3], ConnectionError)
        with pytest.raises(ConnectionLost) as late:
            await left.call("echo")
        assert late.value.sent is False
        with pytest.raises(ConnectionLost):
            left.cast("echo")
        await left.wait_closed()
        assert not left.is_open
        assert watcher.events[0] == Connected()
        assert watcher.events[-1] == Disconnected("the other side hung up")

    run(scene())


@pytest.mark.rule("rpc.B3")
def test_a_call_that_never_left_says_so(run: Run) -> None:
    async def scene() -> None:
        left, _right = link_pair(LinkSetup(), SERVER)
        unsent = left.request("echo")
        left.abort()
        with pytest.raises(ConnectionLost) as caught:
            await unsent
        assert caught.value.sent is False

    run(scene())


def test_closing_says_first_what_was_said(run: Run) -> None:
    async def scene() -> None:
        watcher = Watcher()
        left, right = link_pair(LinkSetup(), watcher.setup())
        left.cast("last words")
        left.close()
        await right.wait_closed()
        assert [call.method for call in watcher.calls] == ["last words"]
        left.close()
        left.finish()
        assert left.answer(1, None) is None
        assert left.refuse(1, 5, "late") is None

    run(scene())


def test_finishing_refuses_new_calls_and_ends_with_the_last_answer(run: Run) -> None:
    async def scene() -> None:
        watcher = Watcher()
        left, right = link_pair(LinkSetup(), watcher.setup())
        running = asyncio.create_task(left.call("slow"))
        await until(lambda: watcher.calls)
        leaving = asyncio.create_task(right.leave(5.0))
        with pytest.raises(RemoteFault) as caught:
            await left.call("more")
        assert caught.value.code == -32005
        right.answer(watcher.calls[0].id, "done")
        assert await running == "done"
        await leaving
        await left.wait_closed()

    run(scene())


def test_leaving_cuts_off_what_does_not_end_in_time(run: Run) -> None:
    async def scene() -> None:
        watcher = Watcher()
        left, right = link_pair(LinkSetup(), watcher.setup())
        running = asyncio.create_task(left.call("slow"))
        await until(lambda: watcher.calls)
        await right.leave(0.01)
        with pytest.raises(ConnectionLost):
            await running

    run(scene())


@pytest.mark.rule("rpc.B6")
def test_signed_links(run: Run) -> None:
    async def scene() -> None:
        key = Hmac(b"0123456789abcdef", "alice")
        seen: list[Any] = []

        def note(link: Link, called: Called) -> None:
            seen.append(called.secinfo)
            link.answer(called.id, called.params)

        left, _right = link_pair(LinkSetup(security=key), LinkSetup(security=key, on_call=note))
        assert await left.call("echo", {"a": 1}) == {"a": 1}
        assert seen == [{"user": "alice"}]
        left.close()
        troubles = Watcher()
        left, _right = link_pair(
            LinkSetup(hello=None), LinkSetup(security=key, on_call=note, on_event=troubles.on_event)
        )
        unsigned = left.request("echo", {"a": 1})
        await until(lambda: "Trouble" in troubles.kinds)
        assert len(seen) == 1
        left.close()
        with pytest.raises((ConnectionLost, Unauthenticated)):
            await unsigned
        tokens = Tokens({"secret": ["admin"]})
        left, _right = link_pair(LinkSetup(security=Token("secret")), LinkSetup(security=tokens, on_call=note))
        assert await left.call("echo", {}) == {}
        assert len(seen) == 2
        left.close()

    run(scene())


def test_a_handler_of_events_that_fails_hurts_nobody(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        def fail(link: Link, event: Any) -> None:
            raise RuntimeError("a bug in the watcher")

        left, _right = link_pair(LinkSetup(on_event=fail), SERVER)
        assert await left.call("echo", {}) == {}
        left.close()
        await left.wait_closed()

    run(scene())
    assert "a bug in the watcher" in caplog.text
