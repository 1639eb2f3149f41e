"""Whatever comes over a link: each call is answered once, and the actor goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monsal.actors import Actor, ActorRef, ActorSpec, command
from monsal.actors.message import Envelope, as_params, envelope_of, link_setup, opened
from monsal.actors.recorder import Recorder
from monsal.actors.station import Station
from monsal.errors import MonsalError
from monsal.transport import MemoryTransport

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    ["ping", "echo", "sum_of", "SUM_of", "later", "config", "stop_not", "monsal.boot", "monsal.probe", ""]
)
structured = st.lists(values, max_size=6) | st.dictionaries(st.text(max_size=8), values, max_size=4)
bodies = st.tuples(st.lists(values, max_size=3), st.dictionaries(st.text(max_size=8), values, max_size=2))
envelopes = st.builds(
    Envelope,
    target=st.sampled_from(["", "me", "aid", "somebody"]),
    sender=st.text(max_size=8),
    body=bodies | values,
    key=st.none() | st.text(max_size=5),
    flags=st.integers(0, 3),
    chain=st.lists(st.sampled_from(["aid", "", "k", "other"]), max_size=5).map(tuple),
)


class Adder(Actor):
    @command()
    def sum_of(self, request: Any, *numbers: Any) -> Any:
        return sum(numbers)

    @command()
    async def later(self, request: Any, *values: Any, **named: Any) -> Any:
        await asyncio.sleep(0)
        return [values, named]


@pytest.mark.rule("mailbox.B1", "mailbox.B5", "mailbox.R12")
@given(st.lists(st.tuples(names, envelopes | structured), max_size=12))
def test_each_call_is_answered_and_the_actor_goes_on(calls: list[tuple[str, Any]]) -> None:
    async def work() -> None:
        actor = Adder()
        spec = ActorSpec(name="me", actor="tests:Adder")
        station = Station(actor, spec, ActorRef(aid="aid", name="me"), Recorder())
        actor._station = station
        loop = asyncio.get_running_loop()
        ours, theirs = MemoryTransport.pair(loop, loop)
        here, there = opened(link_setup(None, None), "me"), opened(station.setup, "somebody")
        ours.attach(here)
        theirs.attach(there)
        asked = [here.request(name, as_params(params), timeout=30.0) for name, params in calls]
        answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30.0)
        for answer in answers:
            assert isinstance(answer, msgspec.Raw | MonsalError), answer
        good = here.request("sum_of", as_params(Envelope("me", "x", ((1, 2), {}))), timeout=30.0)
        assert msgspec.msgpack.decode(await good) == 3
        assert there.statistics().in_flight == 0
        assert station.turns.statistics().running == 0
        here.close()
        await station.turns.close()

    asyncio.run(work())


@given(st.binary(max_size=60))
def test_what_is_no_envelope_is_a_validation_error(octets: bytes) -> None:
    class Called:
        params = octets

    try:
        envelope_of(Called())  # type: ignore[arg-type] # it has what is looked at
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
