"""The decorators: they mark, and do nothing else."""

from __future__ import annotations

import functools

import pytest

from monsal.errors import RouteError
from monsal.routing import (
    marks_of,
    nolocking,
    otherwise,
    requires_authenticated,
    route,
    route_like,
    state_key,
    state_key_generator,
    stateless,
)


@pytest.mark.rule("routing.R9", "routing.B11")
def test_a_decorator_gives_the_same_function_back() -> None:
    def START(message: object) -> str:
        """Takes orders."""
        return "result"

    before = START.__name__, START.__module__, START.__doc__
    for mark in (
        route("a@b.c"),
        route.regex("a@b.c"),
        route_like(route("a@b.c")(lambda message: None)),
        stateless,
        nolocking,
        otherwise,
        requires_authenticated,
        state_key_generator,
        state_key_generator(shared=True),
    ):
        assert mark(START) is START
    assert before == (START.__name__, START.__module__, START.__doc__)
    assert START(None) == "result"


@pytest.mark.rule("routing.B11")
def test_a_handler_may_be_called_directly_and_pass_on_anothers_choice() -> None:
    @route("a@b.c")
    def NEXT(message: object) -> object:
        return NEXT

    @route("a@b.c")
    def START(message: object) -> object:
        return NEXT(message)

    assert START(None) is NEXT


@pytest.mark.rule("routing.R10", "routing.R11", "routing.B11")
def test_marks_may_stand_in_any_order() -> None:
    @stateless
    @route("a@b.c")
    @nolocking
    def above(message: object) -> None: ...

    @nolocking
    @route("a@b.c")
    @stateless
    def below(message: object) -> None: ...

    for func in (above, below):
        marks = marks_of(func)
        assert marks is not None
        assert (marks.stateless, marks.nolocking, len(marks.routes)) == (True, True, 1)


@pytest.mark.rule("routing.R7")
def test_the_lowest_of_stacked_routes_counts_first() -> None:
    @route("second@b.c")
    @route("first@b.c")
    def START(message: object) -> None: ...

    marks = marks_of(START)
    assert marks is not None
    assert [mark.format for mark in sorted(marks.routes, key=lambda mark: mark.serial)] == ["first@b.c", "second@b.c"]


@pytest.mark.rule("routing.R8", "routing.B20")
def test_route_like_copies_all_routes_but_no_marks() -> None:
    @route("b@(x)", x="y", accept_any_domain=True, deadline=3, was="OLD")
    @route.regex("a.*")
    @stateless
    @requires_authenticated
    def START(message: object) -> None: ...

    @route_like(START)
    def COPY(message: object) -> None: ...

    @route_like(COPY)
    def COPY_OF_COPY(message: object) -> None: ...

    for func in (COPY, COPY_OF_COPY):
        marks = marks_of(func)
        assert marks is not None
        assert [(mark.format, mark.captures, mark.is_regex) for mark in marks.routes] == [
            ("a.*", {}, True),
            ("b@(x)", {"x": "y"}, False),
        ]
        assert [mark.accept_any_domain for mark in marks.routes] == [False, True]
        assert [(mark.deadline, mark.was) for mark in marks.routes] == [(None, ()), (None, ())]
        assert not marks.stateless
        assert not marks.requires_authenticated


@pytest.mark.rule("routing.R12", "routing.B20")
def test_route_like_of_a_function_without_route_is_a_type_error_at_once() -> None:
    @stateless
    def MARKED(message: object) -> None: ...

    for func in (MARKED, lambda message: None, print, 3):
        with pytest.raises(TypeError, match="has no @route"):
            route_like(func)  # type: ignore[arg-type]  # what it does with a wrong type is the point


@pytest.mark.rule("routing.R13", "routing.B14")
@pytest.mark.parametrize("thing", [type("Handlers", (), {}), functools.partial(print), len, 3, classmethod(print)])
def test_only_functions_can_be_marked(thing: object) -> None:
    for mark in (route("a@b.c"), stateless, state_key_generator):
        with pytest.raises(TypeError, match="only functions"):
            mark(thing)  # type: ignore[type-var]  # as above


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"accept_any_domain": ".+"}, "accept_any_domain is '.+'"),
        ({"accept_any_domain": 1}, "accept_any_domain is 1"),
        ({"deadline": "[0-9]+"}, "deadline is"),
        ({"deadline": 0}, "deadline is 0"),
        ({"deadline": True}, "deadline is True"),
        ({"deadline": -1}, "deadline is -1"),
        ({"was": "[a-z]+"}, "was is"),
        ({"was": ["OLD"]}, "was is"),
    ],
)
def test_a_capture_cannot_be_called_like_an_option(options: dict[str, object], why: str) -> None:
    for maker in (route, route.regex):
        with pytest.raises(RouteError, match=why):
            maker("x@(host)", **options)  # type: ignore[arg-type]  # as above


def test_route_needs_its_format() -> None:
    def START(message: object) -> None: ...

    with pytest.raises(RouteError, match="write @route"):
        route(START)  # type: ignore[arg-type]  # the usual slip: @route without parentheses


def test_a_capture_may_be_called_format_or_self() -> None:
    @route("(format)-(self)@b.c", format="a", self="b")
    def START(message: object) -> None: ...

    marks = marks_of(START)
    assert marks is not None
    assert marks.routes[0].captures == {"format": "a", "self": "b"}


@pytest.mark.rule("routing.R23")
def test_state_key_is_another_name_of_state_key_generator() -> None:
    assert state_key is state_key_generator

    @state_key
    def one(module: str, message: object) -> str:
        return module

    @state_key(shared=True)
    def other(module: str, message: object) -> str:
        return module

    first, second = marks_of(one), marks_of(other)
    assert first is not None
    assert second is not None
    assert first.state_key is not None
    assert second.state_key is not None
    assert (first.state_key.shared, second.state_key.shared) == (False, True)
    assert first.state_key.serial < second.state_key.serial


def test_a_wrapped_function_keeps_its_marks() -> None:
    @route("a@b.c")
    def START(message: object) -> None: ...

    @functools.wraps(START)
    def wrapper(message: object) -> None:
        START(message)

    assert marks_of(wrapper) is marks_of(START)
    stateless(wrapper)
    inner = marks_of(START)
    assert inner is not None
    assert not inner.stateless
