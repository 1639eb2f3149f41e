"""What the routes say of an address is remembered, for the table that said it and for no other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest

from monsal.conversation.routed import BY_CORRESPONDENT, BY_ITSELF, Routes
from monsal.ids import TOKEN_LENGTH, running_tokens
from monsal.routing import Router, route, stateless


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
        for address, order in (("talk", BY_CORRESPONDENT), ("log", BY_ITSELF), ("nobody", BY_ITSELF)):
            said = routes.of(table, f"{address}@example.com")
            assert said == (said.matches, order, False, False)
            assert list(said.matches) == table.match(f"{address}@example.com")
            assert said.taken == (address != "nobody")


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


def test_no_more_addresses_are_remembered_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monsal.conversation.routed._KEPT", 3)
    table, routes = Router().table, Routes()
    for number in range(10):
        assert not routes.of(table, f"a{number}@example.com").taken
        assert len(routes._known[1]) <= 3


def test_what_is_remembered_cannot_be_changed_by_those_who_are_given_it() -> None:
    @route("(who)@example.com", who="[a-z]+")
    def START(message: Any, who: str) -> None: ...

    table, routes = loaded(START).table, Routes()
    captures: Any = routes.of(table, "talk@example.com").matches[0].captures
    with pytest.raises(TypeError):
        captures["who"] = "another"
    assert captures == {"who": "talk"}


def test_threads_that_ask_two_tables_get_the_answers_of_their_own() -> None:
    @route("talk@example.com")
    def START(message: Any) -> None: ...

    routes, full, empty = Routes(), loaded(START).table, Router().table

    def ask(table: Any) -> set[bool]:
        return {routes.of(table, "talk@example.com").taken for _ in range(2000)}

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, [full, empty, full, empty]))
    assert found == [{True}, {False}, {True}, {False}]


def test_running_tokens_sort_as_they_were_made_and_are_those_of_one_maker() -> None:
    one, other = running_tokens(), running_tokens()
    made = [next(one) for _ in range(300)]
    assert made == sorted(made)
    assert {len(token) for token in made} == {TOKEN_LENGTH}
    assert not set(made) & {next(other) for _ in range(300)}
