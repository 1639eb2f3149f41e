"""What the two APIs hand on to the store and the process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from monsal.clock import ManualClock
from monsal.control.api import MAX_RAW, ServerApi, StoreApi
from monsal.control.server import Control
from monsal.errors import ReloadFailed, RemoteFault, UsageError
from monsal.rpc import RemoteAPI
from monsal.store.contract import Ledger, StateKey, StateValue
from monsal.transport import NEWLINE_JSON, LinkSetup, link_to, open_endpoint
from monsal.wire import INVALID_PARAMS, REFUSED, PeerLimits, bytes_of


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
            return 7 if name in ("release", "set_all", "rename_state") else True

        return act


def ask_api(prefix: str, api: RemoteAPI, method: str, **params: Any) -> Any:
    """The result of a call over a link, or the fault that it was answered with."""
    limits = PeerLimits(frame=4 * MAX_RAW)
    control = Control()
    control.limits = limits
    control.mount(prefix, api)

    async def call() -> Any:
        async with control:
            await control.listen("internal:control:server", codec=NEWLINE_JSON)
            asker = await open_endpoint("internal:control:asker", LinkSetup(limits=limits))
            try:
                return await link_to(asker, "server").call(f"{prefix}.{method}", params)
            except RemoteFault as fault:
                return fault
            finally:
                await asker.close(0.0)

    return asyncio.run(call())


def ask(method: str, shelf: Shelf | None = None, /, **params: Any) -> Any:
    there = shelf or Shelf()
    return ask_api("store", StoreApi(lambda: there, ManualClock(100.0)), method.removeprefix("store."), **params)  # type: ignore[arg-type, return-value] - as much as is used


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
    assert len(bytes_of(found["raw"])) == MAX_RAW
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
    assert ask(f"store.{method}", shelf, **params) in (7, True, None)
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

    server = ServerApi(status=status, stop=stops.append)
    assert ask_api("server", server, "status") == {"ready": True}
    assert ask_api("server", server, "stop") is None
    assert ask_api("server", server, "stop", now=True) is None
    assert stops == [False, True]
    for method in ("reload", "config"):
        answer = ask_api("server", server, method)
        assert (answer.code, answer.data) == (REFUSED, {"kind": "UsageError"})


def test_what_the_process_lends_can_be_used() -> None:
    server = ServerApi(status=dict, stop=lambda now: None, reload=lambda: {"generation": 2}, config=lambda: [1])
    for method, result in [("reload", {"generation": 2}), ("config", [1]), ("status", {})]:
        assert ask_api("server", server, method) == result


def test_why_new_code_cannot_serve_is_told_with_its_traceback() -> None:
    def fail() -> None:
        raise ReloadFailed("app.py does not load", details="Traceback of the new code")

    def fail_too() -> None:
        try:
            _ = {}["missing"]
        except KeyError as error:
            raise UsageError("the settings are odd") from error

    server = ServerApi(status=dict, stop=lambda now: None, reload=fail, config=fail_too)
    answer = ask_api("server", server, "reload")
    assert str(answer) == "app.py does not load"
    assert answer.data == {"kind": "ReloadFailed", "details": "Traceback of the new code"}
    answer = ask_api("server", server, "config")
    assert (str(answer), answer.kind) == ("the settings are odd", "UsageError")
    assert "KeyError: 'missing'" in answer.details


@pytest.mark.rule("rpc.B9")
def test_an_error_that_nobody_meant_is_told_by_its_number_only() -> None:
    def fail() -> None:
        raise TypeError("a secret")

    answer = ask_api("server", ServerApi(status=fail, stop=lambda now: None), "status")
    assert answer.data["incident"] in str(answer)
    assert "secret" not in f"{answer} {answer.data}"


@pytest.mark.rule("rpc.B11")
def test_all_that_can_be_asked_is_listed() -> None:
    control = Control()
    control.mount("server", ServerApi(status=dict, stop=lambda now: None))
    control.mount("store", StoreApi(lambda: Shelf(), ManualClock(0.0)))  # type: ignore[arg-type, return-value] - as much as is used
    methods = {method["name"]: method for method in control.openrpc()["methods"]}
    assert {"server.status", "server.stop", "server.reload", "store.ledger", "store.rows"} <= methods.keys()
    assert [param["name"] for param in methods["store.rows"]["params"]] == ["what", "limit"]
    assert all(method["summary"] and "result" in method for method in methods.values())
