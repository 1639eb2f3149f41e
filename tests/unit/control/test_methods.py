"""Calls become answers: only marked methods, checked arguments, every trouble a fault."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

import pytest
from msgspec import Meta

from monsal.control.methods import MethodTable, exposed
from monsal.errors import ConfigError, StoreUnavailable, UsageError
from monsal.wire.codec import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, REFUSED
from monsal.wire.packets import Call, Fault, Params, Reply


class Shop:
    """An API with every kind of method."""

    secret = "not for sale"

    @exposed
    def add(self, left: int, right: int = 1) -> int:
        return left + right

    @exposed
    async def later(self, what: Annotated[str, Meta(max_length=5)]) -> str:
        await asyncio.sleep(0)
        return what.upper()

    @exposed
    def closed(self) -> None:
        raise StoreUnavailable("the disk is full")

    @exposed
    def broken_code(self) -> None:
        try:
            _ = {}["missing"]
        except KeyError as error:
            raise ConfigError("app.py does not load") from error

    @exposed
    def confused(self) -> None:
        raise TypeError("an error inside")

    def hidden(self) -> str:
        return "never called from outside"


def ask(method: str, params: Params | None = None) -> Reply | Fault:
    table = MethodTable()
    table.mount("shop", Shop())
    return asyncio.run(table.answer(Call(7, method, {} if params is None else params)))


def test_plain_and_async_methods_answer_by_name_and_by_position() -> None:
    assert ask("shop.add", {"left": 2}) == Reply(7, 3)
    assert ask("shop.add", [2, 5]) == Reply(7, 7)
    assert ask("shop.later", {"what": "tea"}) == Reply(7, "TEA")


@pytest.mark.rule("rpc.B10")
@pytest.mark.parametrize(
    "method", ["shop.hidden", "shop.secret", "shop.__init__", "add", "shop.", "", "rpc.x", "shop.add.__call__"]
)
def test_nothing_but_marked_methods_can_be_named(method: str) -> None:
    answer = ask(method)
    assert isinstance(answer, Fault)
    assert (answer.id, answer.code) == (7, METHOD_NOT_FOUND)


@pytest.mark.rule("rpc.R14")
@pytest.mark.parametrize(
    ("method", "params", "says"),
    [
        ("shop.add", {}, "missing required field `left`"),
        ("shop.add", {"left": "2"}, "Expected `int`"),
        ("shop.add", {"left": 2, "extra": 1}, "unknown field `extra`"),
        ("shop.add", [1, 2, 3], "at most 2"),
        ("shop.later", {"what": "sixsix"}, "length <= 5"),
    ],
)
def test_arguments_that_do_not_fit_never_reach_the_method(method: str, params: Any, says: str) -> None:
    answer = ask(method, params)
    assert isinstance(answer, Fault)
    assert answer.code == INVALID_PARAMS
    assert says in answer.message
    assert method in answer.message


def test_an_error_of_ours_is_told_with_its_kind() -> None:
    answer = ask("shop.closed")
    assert answer == Fault(7, REFUSED, "the disk is full", {"kind": "StoreUnavailable"})


def test_the_traceback_of_the_applications_own_code_is_handed_on() -> None:
    answer = ask("shop.broken_code")
    assert isinstance(answer, Fault)
    assert answer.message == "app.py does not load"
    assert "KeyError: 'missing'" in answer.data["details"]


@pytest.mark.rule("rpc.B9")
def test_any_other_error_is_logged_under_a_number_that_the_caller_learns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "monsal.control"):
        answer = ask("shop.confused")
    assert isinstance(answer, Fault)
    assert answer.code == INTERNAL_ERROR
    assert "TypeError: an error inside" in answer.message
    [record] = caplog.records
    assert answer.data["incident"] in record.getMessage()
    assert record.exc_info is not None


def test_what_cannot_be_mounted_is_refused_at_once() -> None:
    class Starred:
        @exposed
        def many(self, *args: int) -> None: ...

    class Bare:
        @exposed
        def take(self, what) -> None: ...  # type: ignore[no-untyped-def] - the point of the test

    table = MethodTable()
    table.mount("shop", Shop())
    for api, prefix, says in [
        (object(), "x", "no method marked"),
        (Starred(), "x", "named parameters only"),
        (Bare(), "x", "needs an annotation"),
        (Shop(), "shop", "mounted"),
    ]:
        with pytest.raises(UsageError, match=says):
            table.mount(prefix, api)
    assert table.names == ["shop.add", "shop.broken_code", "shop.closed", "shop.confused", "shop.later"]
