"""Several interfaces on one link: each under its prefix, and nothing else under any name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest
from msgspec import Meta

from monsal.errors import RemoteFault, StoreUnavailable, UsageError
from monsal.rpc import RemoteAPI, current, incoming, outgoing
from monsal.transport import NEWLINE_JSON, Link, link_to, open_endpoint
from monsal.wire import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, REFUSED


class Shop(RemoteAPI):
    """Sells."""

    secret = "not for sale"

    @incoming(allow_positional_args=True)
    async def add(self, sender: str, left: int, right: int = 1) -> int:
        """The sum."""
        return left + right

    @incoming
    def later(self, sender: str, what: Annotated[str, Meta(max_length=5)]) -> str:
        return f"{what.upper()} for {sender} by {current().method}"

    @incoming
    async def closed(self, sender: str) -> int:
        raise StoreUnavailable("the disk is full")

    @incoming
    async def confused(self, sender: str) -> int:
        raise TypeError("an error inside")

    @incoming
    async def sold(self, sender: str, what: str) -> str: ...

    def hidden(self) -> str:
        return "never called from outside"


class Street(RemoteAPI):
    """Where the shops are."""


def with_link(api: RemoteAPI, work: Callable[[Link], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with api:
            await api.listen("internal:mount:street", codec=NEWLINE_JSON)
            visitor = await open_endpoint("internal:mount:visitor")
            try:
                return await work(link_to(visitor, "street"))
            finally:
                await visitor.close(0.0)

    return asyncio.run(run())


def street(shop: Shop | None = None) -> Street:
    made = Street()
    made.mount("shop", shop or Shop())
    return made


def ask(method: str, params: Any = None, shop: Shop | None = None) -> Any:
    async def call(link: Link) -> Any:
        try:
            return await link.call(method, params)
        except RemoteFault as fault:
            return fault

    return with_link(street(shop), call)


def test_calls_are_answered_by_whoever_is_mounted() -> None:
    assert ask("shop.add", {"left": 2}) == 3
    assert ask("shop.add", [2, 5]) == 7
    assert ask("shop.later", {"what": "tea"}) == "TEA for visitor by shop.later"


def test_listeners_may_come_after_mounting() -> None:
    shop, made = Shop(), Street()
    made.mount("shop", shop)

    @shop.sold.handler  # type: ignore[untyped-decorator] - a call of an instance is found by its name
    async def sold(sender: str, what: str) -> str:
        return f"{what} was sold"

    assert with_link(made, lambda link: link.call("shop.sold", {"what": "tea"})) == "tea was sold"


@pytest.mark.rule("rpc.B10")
@pytest.mark.parametrize(
    "method",
    ["shop.hidden", "shop.secret", "shop.__init__", "add", "shop.", "", "rpc.x", "shop.add.x", "shop.shop.add"],
)
def test_nothing_but_declared_calls_can_be_named(method: str) -> None:
    answer = ask(method)
    assert isinstance(answer, RemoteFault)
    assert answer.code == METHOD_NOT_FOUND


@pytest.mark.rule("rpc.R14")
@pytest.mark.parametrize(
    ("method", "params", "says"),
    [
        ("shop.add", {}, "missing required field `left`"),
        ("shop.add", {"left": "2"}, "Expected `int`"),
        ("shop.add", {"left": 2, "extra": 1}, "unknown field `extra`"),
        ("shop.later", {"what": "sixsix"}, "length <= 5"),
    ],
)
def test_arguments_that_do_not_fit_never_reach_the_method(method: str, params: Any, says: str) -> None:
    answer = ask(method, params)
    assert answer.code == INVALID_PARAMS
    assert says in str(answer)


def test_an_error_of_ours_is_told_with_its_kind() -> None:
    answer = ask("shop.closed")
    assert (answer.code, str(answer), answer.data) == (REFUSED, "the disk is full", {"kind": "StoreUnavailable"})


@pytest.mark.rule("rpc.B9")
def test_any_other_error_is_logged_under_a_number_that_the_caller_learns(caplog: pytest.LogCaptureFixture) -> None:
    answer = ask("shop.confused")
    assert answer.code == INTERNAL_ERROR
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert answer.data["incident"] in record.getMessage()
    assert record.exc_info is not None


@pytest.mark.rule("rpc.B11")
def test_the_document_lists_what_is_mounted() -> None:
    document = ask("rpc.discover")
    assert [method["name"] for method in document["methods"]] == [
        f"shop.{name}" for name in ("add", "later", "closed", "confused", "sold")
    ]


@pytest.mark.rule("rpc.R24")
def test_what_nobody_listens_to_is_told_with_its_prefix() -> None:
    assert list(street().unhandled_calls()) == ["shop.sold"]


def test_what_cannot_be_mounted_is_refused_at_once() -> None:
    class Talker(RemoteAPI):
        @outgoing
        def said(self, receivers: list[str] | None, what: str) -> None: ...

    made = street()
    for prefix, api, says in [
        ("shop", Shop(), "taken"),
        ("", Shop(), "empty"),
        ("rpc", Shop(), "reserved"),
        ("talk", Talker(), "outgoing"),
    ]:
        with pytest.raises(UsageError, match=says):
            made.mount(prefix, api)
