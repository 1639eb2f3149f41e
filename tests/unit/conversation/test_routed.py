"""What the routes say of an address is remembered, for the table that said it and for no other."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from monsal.conversation.routed import BY_CORRESPONDENT, BY_ITSELF, Routes
from monsal.ids import TOKEN_LENGTH, running_tokens
from monsal.routing import Router, route, state_key_generator, stateless


def loaded(*functions: Any, **values: Any) -> Router:
    module = ModuleType("lists")
    for function in functions:
        function.__module__ = "lists"
        setattr(module, function.__name__, function)
    vars(module).update(values)
    router = Router()
    router.load([module])
    return router


def test_mail_is_ordered_by_who_writes_where_a_state_is_kept_and_by_nothing_elsewhere() -> None:
    @route("talk@example.com")
    def START(message: Any) -> None: ...

    @stateless
    @route("log@example.com")
    def LOG(message: Any) -> None: ...

    table, routes = loaded(START, LOG).table, Routes()
    for _ in range(2):
        assert routes.of(table, "talk@example.com") == (True, BY_CORRESPONDENT, False, False)
        assert routes.of(table, "log@example.com") == (True, BY_ITSELF, False, False)
        assert routes.of(table, "nobody@example.com") == (False, BY_ITSELF, False, False)


def test_what_one_table_said_does_not_hold_for_the_next() -> None:
    @route("talk@example.com")
    def START(message: Any) -> None: ...

    routes = Routes()
    assert not routes.of(Router().table, "talk@example.com").taken
    assert routes.of(loaded(START).table, "talk@example.com").taken
    assert not routes.of(Router().table, "talk@example.com").taken


def test_our_own_addresses_are_known_by_their_look() -> None:
    table = Router().table
    assert Routes().of(table, f"b+{'0' * 20}.{'1' * 16}@example.com").bounces
    assert not Routes().of(table, "b+1@example.com").bounces


def anybody() -> Router:
    @route("(who)@example.com", who=".+")
    def START(message: Any) -> None: ...

    return loaded(START)


@pytest.mark.parametrize("local", ["a", "a" * 200, "\u4e00" * 80])
def test_no_more_addresses_are_remembered_than_fit(local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    room = 100_000
    monkeypatch.setattr("monsal.conversation.routed._ROOM", room)
    table, routes = anybody().table, Routes()
    most = 0
    for number in range(5_000):
        address = f"{local}{number}@example.com"
        for _ in range(2):
            assert routes.of(table, address) == (True, BY_CORRESPONDENT, False, False)
        used = sum(map(sys.getsizeof, routes._kept)) + sys.getsizeof(routes._kept)
        most = max(most, used)
    assert room / 3 < most < room * 1.2


def test_what_nobody_takes_displaces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monsal.conversation.routed._ROOM", 10_000)
    table, routes = anybody().table, Routes()
    assert routes.of(table, "ann@example.com").taken
    for number in range(1_000):
        assert not routes.of(table, f"a{number}@elsewhere.example").taken
    assert set(routes._kept) == {"ann@example.com"}


def test_what_is_said_of_many_addresses_is_kept_once() -> None:
    table, routes = anybody().table, Routes()
    addresses = ("ann@example.com", "bob@example.com")
    for address in addresses:
        routes.of(table, address)
    ann, bob = (routes.of(table, address) for address in addresses)
    assert ann is bob


def test_a_shared_state_has_a_queue_for_each_address() -> None:
    @route("(who)@example.com", who=".+")
    def START(message: Any) -> None: ...

    @state_key_generator(shared=True)
    def key(module: str, message: Any) -> str:
        return module

    router, routes = loaded(START, key), Routes()
    for _ in range(2):
        assert routes.of(router.table, "Ann@example.com").order == "@ann@example.com"
        assert routes.of(router.table, "bob@example.com").order == "@bob@example.com"


def test_running_tokens_sort_as_they_were_made_and_are_those_of_one_maker() -> None:
    one, other = running_tokens(), running_tokens()
    made = [next(one) for _ in range(300)]
    assert made == sorted(made)
    assert {len(token) for token in made} == {TOKEN_LENGTH}
    assert not set(made) & {next(other) for _ in range(300)}
