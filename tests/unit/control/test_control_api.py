"""What the two APIs hand on to the store and the process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from monsal.clock import ManualClock
from monsal.control.api import MAX_RAW, ServerApi, StoreApi
from monsal.control.methods import MethodTable
from monsal.store.contract import Ledger, StateKey, StateValue
from monsal.wire.codec import INVALID_PARAMS, REFUSED, encode
from monsal.wire.packets import Call, Fault, Reply


class Shelf:
    """A store that writes down what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    async def ledger(self) -> dict[str, Ledger]:
        return {"mail": Ledger(accepted=3, done=2, waiting=1)}

    async def outbox_counts(self) -> dict[str, int]:
        return {"waiting": 1}

    async def rows(self, what: str, limit: int) -> list[dict[str, Any]]:
        self.asked.append(("rows", what, limit))
        return [{"id": 1, "reason": "none"}]

    async def dead_detail(self, row: int) -> dict[str, Any] | None:
        return {"id": row, "detail": "Traceback", "raw": b"\xff" * (MAX_RAW + 5)} if row == 1 else None

    async def read_states(self, states: list[StateKey]) -> dict[StateKey, StateValue]:
        return {key: StateValue("ASKED", 4, 2, 10.0) for key in states}

    def __getattr__(self, name: str) -> Any:
        async def act(*args: Any) -> Any:
            self.asked.append((name, *args))
            return 7

        return act


def ask(method: str, shelf: Shelf | None = None, /, **params: Any) -> Any:
    table = MethodTable()
    there = shelf or Shelf()
    table.mount("store", StoreApi(lambda: there, ManualClock(100.0)))  # type: ignore[arg-type, return-value] - as much as is used
    answer = asyncio.run(table.answer(Call(1, method, params)))
    assert encode(answer)
    return answer.result if isinstance(answer, Reply) else answer


def test_looking() -> None:
    shelf = Shelf()
    assert ask("store.ledger")["mail"]["accepted"] == 3
    assert ask("store.outbox_counts") == {"waiting": 1}
    assert ask("store.rows", shelf, what="dead") == [{"id": 1, "reason": "none"}]
    assert shelf.asked == [("rows", "dead", 1000)]
    assert ask("store.state", key="m", sender="ann@x")["state"] == "ASKED"


def test_a_dead_letter_is_shown_as_far_as_fits_into_an_answer() -> None:
    found = ask("store.dead_detail", row=1)
    assert found["size"] == MAX_RAW + 5
    assert len(found["raw"]) == MAX_RAW
    assert ask("store.dead_detail", row=2) is None


@pytest.mark.parametrize(
    ("method", "params", "reaches"),
    [
        ("replay", {"row": 5}, ("replay", 5, 100.0)),
        ("drop", {"row": 5}, ("drop", 5, 100.0)),
        ("release", {"lease_key": "ann@x"}, ("release", "ann@x", 100.0)),
        ("retry_outgoing", {"row": 5}, ("retry_outgoing", 5, 100.0)),
        ("cancel_outgoing", {"row": 5}, ("cancel_outgoing", 5, 100.0)),
        ("set_state", {"key": "m", "sender": "a", "state": "S"}, ("set_state", StateKey("m", "a"), "S", 100.0)),
        ("set_all", {"sender": "a", "state": "S"}, ("set_all", "a", "S", 100.0)),
        ("rename_state", {"key": "m", "old": "A", "new": "B"}, ("rename_state", "m", "A", "B", 100.0)),
    ],
)
def test_acting_happens_at_the_time_of_the_clock(method: str, params: dict[str, Any], reaches: tuple[Any, ...]) -> None:
    shelf = Shelf()
    assert ask(f"store.{method}", shelf, **params) in (7, None)
    assert shelf.asked == [reaches]


@pytest.mark.parametrize(
    "params", [{"what": "secrets"}, {"what": "dead", "limit": 0}, {"what": "dead", "limit": 10**9}, {}]
)
def test_what_there_is_no_end_of_is_not_given(params: dict[str, Any]) -> None:
    assert ask("store.rows", **params).code == INVALID_PARAMS


def test_the_process_is_asked_through_its_callbacks() -> None:
    stops: list[bool] = []

    async def status() -> dict[str, Any]:
        return {"ready": True}

    table = MethodTable()
    table.mount("server", ServerApi(status=status, stop=stops.append))

    def call(method: str, **params: Any) -> Any:
        answer = asyncio.run(table.answer(Call(1, f"server.{method}", params)))
        return answer.result if isinstance(answer, Reply) else answer

    assert call("status") == {"ready": True}
    assert call("stop") is None
    assert call("stop", now=True) is None
    assert stops == [False, True]
    for method in ("reload", "config"):
        answer = call(method)
        assert isinstance(answer, Fault)
        assert (answer.code, answer.data["kind"]) == (REFUSED, "UsageError")


def test_what_the_process_lends_can_be_used() -> None:
    table = MethodTable()
    table.mount(
        "server", ServerApi(status=dict, stop=lambda now: None, reload=lambda: {"generation": 2}, config=lambda: [1])
    )
    for method, result in [("reload", {"generation": 2}), ("config", [1]), ("status", {})]:
        assert asyncio.run(table.answer(Call(1, f"server.{method}"))) == Reply(1, result)
