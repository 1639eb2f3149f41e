"""The choice of the next handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monsal.routing import Call, Orphan, Router, next_call, orphaned

ADDRESS = "order@example.com"


class States:
    """States by module, START if unknown; counts how often each is asked for."""

    def __init__(self, **states: str) -> None:
        self.states = states
        self.asked: list[str] = []

    def __call__(self, module: str) -> str:
        self.asked.append(module)
        return self.states.get(module.rpartition("_")[2], "START")


def choose(router: Router, states: States, address: str = ADDRESS, **options: Any) -> Call | None:
    return next_call(router.match(address), states, table=router.table, **options)


def short(call: Call | None) -> str | None:
    return None if call is None else call.handler.id.rpartition("_")[2]


def run(router: Router, states: States, address: str = ADDRESS) -> list[str | None]:
    return [short(call) for call in router.plan(address, states)]


TWO = """
    @route("order@(host)")
    def START(message): ...
    @route("order@(host)")
    def NEXT(message): ...
"""


@pytest.fixture
def two(modules: Any, router: Router) -> Router:
    """Modules a and b, both with START and NEXT at the same address."""
    router.load([modules.write("a", TWO), modules.write("b", TWO)])
    return router


@pytest.mark.rule("routing.R14", "routing.R15")
def test_every_matching_stateless_handler_is_called_once_then_the_stateful_one(modules: Any, router: Router) -> None:
    router.load(
        [
            modules.write(
                "a",
                """
            @route("order@(host)")
            def START(message): ...
            @route("order@(host)")
            @stateless
            def ONE(message): ...
        """,
            ),
            modules.write(
                "b",
                """
            @route.regex("order@(host)")
            @stateless
            def OTHER(message): ...
        """,
            ),
        ]
    )
    assert run(router, States()) == ["a:ONE", "b:OTHER", "a:START"]


@pytest.mark.rule("routing.B20")
def test_a_stateless_handler_with_several_matching_routes_runs_once(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("order@(host)")
        @route("(all)@(host)", all=".+")
        @stateless
        def START(message): ...
    """)
    assert len(router.match(ADDRESS)) == 2
    assert run(router, States()) == ["shop:START"]


@pytest.mark.rule("routing.R16")
def test_only_the_first_stateful_handler_in_its_state_is_called(two: Router) -> None:
    assert run(two, States()) == ["a:START"]
    assert run(two, States(a="NEXT")) == ["a:NEXT"]


@pytest.mark.rule("routing.R16")
def test_no_second_one_is_tried_if_it_fails(two: Router) -> None:
    """Whether it failed or returned, a stateful handler was chosen."""
    (first,) = two.plan(ADDRESS, States())
    assert choose(two, States(), done=[first.handler.id], stateful_done=True) is None


@pytest.mark.rule("routing.R16", "routing.R5")
def test_a_late_function_on_an_early_format_comes_first(modules: Any, router: Router) -> None:
    early = modules.write(
        "a",
        """
        @route("order@(host)")
        @stateless
        def LOGGED(message): ...
        @route("(x)@(host)", x="order")
        def START(message): ...
    """,
    )
    late = modules.write(
        "b",
        """
        @route("order@(host)")
        def START(message): ...
    """,
    )
    router.load([early, late])
    assert run(router, States()) == ["a:LOGGED", "b:START"]


@pytest.mark.rule("routing.R17")
def test_a_state_is_the_name_of_its_function(two: Router) -> None:
    assert short(choose(two, States(a="NEXT", b="NEXT"))) == "a:NEXT"
    assert short(choose(two, States(b="NEXT"))) == "a:START"


@pytest.mark.rule("routing.R17")
def test_a_first_message_reaches_only_start(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("order@(host)")
        def NEXT(message): ...
    """)
    assert choose(router, States()) is None
    assert short(choose(router, States(shop="NEXT"))) == "shop:NEXT"


@pytest.mark.rule("routing.R18")
def test_a_state_forced_on_the_way_counts_for_the_next_choice(two: Router, modules: Any) -> None:
    forcing = modules.write(
        "c",
        """
        @route("order@(host)")
        @stateless
        def FORCES(message): ...
    """,
    )
    two.load([forcing])
    states = States()
    first = choose(two, states)
    assert short(first) == "c:FORCES"
    assert first is not None
    states.states["a"] = "NEXT"
    assert short(choose(two, states, done=[first.handler.id])) == "a:NEXT"


@pytest.mark.rule("routing.R19")
def test_a_call_has_the_captures_of_the_format_that_chose_it(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("(one)@(host)", one="order")
        def OTHER(message, one): ...
        @route("(two)@(host)", two="o.+")
        def START(message, two): ...
    """)
    call = choose(router, States())
    assert call is not None
    assert call.captures == {"two": "order", "host": "example.com"}
    assert call.handler.arguments(call.captures) == {"two": "order"}


@pytest.mark.rule("routing.R20", "routing.B3")
def test_what_nobody_takes_has_no_call(two: Router) -> None:
    assert choose(two, States(), "nobody@example.com") is None
    assert run(two, States(), "nobody@example.com") == []


@pytest.mark.rule("routing.B5")
def test_a_failed_stateless_handler_does_not_hide_the_stateful_one(load: Callable[..., str], router: Router) -> None:
    name = load("""
        @route("order@(host)")
        @stateless
        def FAILS(message): ...
        @route("order@(host)")
        def START(message): ...
    """)
    assert short(choose(router, States(), done=[f"{name}:FAILS"])) == "shop:START"


@pytest.mark.rule("routing.B4")
def test_a_retry_runs_only_what_is_left(modules: Any, router: Router) -> None:
    name = modules.write(
        "shop",
        """
        @route("order@(host)")
        @stateless
        def ONE(message): ...
        @route("order@(host)")
        @stateless
        def OTHER(message): ...
        @route("order@(host)")
        def START(message): ...
        @route("order@(host)")
        def NEXT(message): ...
    """,
    )
    router.load([name])
    done = [f"{name}:ONE", f"{name}:START"]
    assert short(choose(router, States(shop="NEXT"), done=done, stateful_done=True)) == "shop:OTHER"
    assert choose(router, States(shop="NEXT"), done=[*done, f"{name}:OTHER"], stateful_done=True) is None


@pytest.mark.rule("routing.B18")
def test_a_modules_state_is_read_once(two: Router) -> None:
    states = States(a="GONE", b="GONE")
    choose(two, states)
    assert sorted(name.rpartition("_")[2] for name in states.asked) == ["a", "b"]


@pytest.mark.rule("routing.B18")
def test_stateless_handlers_need_no_state(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("order@(host)")
        @stateless
        def START(message): ...
    """)
    states = States()
    assert run(router, states) == ["shop:START"]
    assert states.asked == []


# -- ERROR ----------------------------------------------------------------------------------------------------------

WITH_ERROR = """
    @route("order-(id)@(host)", id="[0-9]+")
    def START(message, id): ...
    @route("order-(id)@(host)", id="[0-9]+")
    def NEXT(message, id): ...
    def ERROR(message, id, host=None): ...
"""


@pytest.mark.rule("routing.R30", "routing.B7")
def test_error_takes_the_next_messages_without_a_route_of_its_own(load: Callable[..., str], router: Router) -> None:
    load(WITH_ERROR)
    call = choose(router, States(shop="ERROR"), "order-7@example.com")
    assert short(call) == "shop:ERROR"
    assert call is not None
    assert call.stateful
    assert call.note == ""
    assert call.handler.arguments(call.captures) == {"id": "7", "host": "example.com"}
    assert short(choose(router, States(), "order-7@example.com")) == "shop:START"


@pytest.mark.rule("routing.R30")
def test_a_routed_error_handler_is_called_by_its_own_route(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("(all)@(host)", all=".+")
        def START(message): ...
        @route("order-(id)@(host)", id="[0-9]+")
        def ERROR(message, id): ...
    """)
    call = choose(router, States(shop="ERROR"), "order-7@example.com")
    assert call is not None
    assert (short(call), call.captures["id"]) == ("shop:ERROR", "7")
    call = choose(router, States(shop="ERROR"), "other@example.com")
    assert call is not None
    assert (short(call), call.handler.arguments(call.captures)) == ("shop:ERROR", {"id": None})


@pytest.mark.rule("routing.B6", "routing.B8")
def test_error_without_a_handler_strands_nobody(load: Callable[..., str], router: Router) -> None:
    name = load(TWO)
    call = choose(router, States(shop="ERROR"))
    assert short(call) == "shop:START"
    assert call is not None
    assert call.note == f"{name} has no state ERROR any more; {name}:START takes the message instead"


# -- nobody is in the state -----------------------------------------------------------------------------------------


def test_otherwise_takes_what_no_state_takes(modules: Any, router: Router) -> None:
    router.load(
        [
            modules.write(
                "a",
                """
            @route("confirm-(id)@(host)", id="[0-9]+")
            def CONFIRM(message, id): ...
        """,
            ),
            modules.write(
                "b",
                """
            @route("confirm-(id)@(host)", id="[0-9]+")
            def CONFIRM(message, id): ...
            @otherwise
            def HELP(message, id, host): ...
        """,
            ),
        ]
    )
    address = "confirm-9@example.com"
    call = choose(router, States(), address)
    assert call is not None
    assert (short(call), call.stateful, call.note) == ("b:HELP", True, "")
    assert call.handler.arguments(call.captures) == {"id": "9", "host": "example.com"}
    assert short(choose(router, States(b="CONFIRM"), address)) == "b:CONFIRM"
    assert choose(router, States(), address, stateful_done=True) is None
    assert choose(router, States(), "nobody@example.com") is None


def test_otherwise_of_a_module_with_only_stateless_matches_is_not_asked(
    load: Callable[..., str], router: Router
) -> None:
    load("""
        @route("order@(host)")
        @stateless
        def LOGGED(message): ...
        @route("other@(host)")
        def START(message): ...
        @otherwise
        def HELP(message): ...
    """)
    assert run(router, States()) == ["shop:LOGGED"]


def test_a_routed_otherwise_is_a_state_as_well(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("order@(host)")
        @otherwise
        def HELP(message): ...
    """)
    assert run(router, States()) == ["shop:HELP"]
    assert run(router, States(shop="HELP")) == ["shop:HELP"]


@pytest.mark.rule("routing.B8")
@pytest.mark.parametrize(
    ("extra", "taker"),
    [
        ("", "START"),
        ("def ERROR(message): ...", "ERROR"),
        ("@otherwise\n    def HELP(message): ...", "HELP"),
        ("def ERROR(message): ...\n    @otherwise\n    def HELP(message): ...", "HELP"),
    ],
)
def test_a_renamed_state_strands_nobody(load: Callable[..., str], router: Router, extra: str, taker: str) -> None:
    """P5: handled all the same, loudly."""
    name = load(TWO + "\n    " + extra)
    states = States(shop="RENAMED")
    call = choose(router, states)
    assert short(call) == f"shop:{taker}"
    assert call is not None
    assert call.note == f"{name} has no state RENAMED any more; {name}:{taker} takes the message instead"
    assert orphaned(router.match(ADDRESS), states, table=router.table) == (Orphan(name, "RENAMED"),)


@pytest.mark.rule("routing.B8")
def test_a_renamed_state_with_nobody_left_at_the_address_has_no_call(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("order@(host)")
        def NEXT(message): ...
    """)
    assert choose(router, States(shop="RENAMED")) is None


@pytest.mark.rule("routing.B8", "routing.R16")
def test_a_handler_in_its_state_comes_before_the_rescue_of_another_module(two: Router) -> None:
    call = choose(two, States(a="RENAMED"))
    assert call is not None
    assert (short(call), call.note) == ("b:START", "")


@pytest.mark.rule("routing.B8")
def test_the_mark_was_leads_from_the_old_name_to_the_new_one(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("order@(host)")
        def START(message): ...
        @route("order@(host)", was=("OLD", "OLDER"))
        def NEXT(message): ...
    """)
    for state in ("OLD", "OLDER", "NEXT"):
        call = choose(router, States(shop=state))
        assert call is not None
        assert (short(call), call.note) == ("shop:NEXT", "")
        assert orphaned(router.match(ADDRESS), States(shop=state), table=router.table) == ()


def test_a_state_that_exists_but_does_not_match_here_is_no_orphan(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("order@(host)")
        def START(message): ...
        @route("confirm@(host)")
        def CONFIRM(message): ...
    """)
    states = States(shop="CONFIRM")
    assert choose(router, states) is None
    assert orphaned(router.match(ADDRESS), states, table=router.table) == ()


@pytest.mark.rule("routing.B12")
def test_matches_of_an_older_table_do_no_harm(two: Router) -> None:
    """A message is matched, and then a reload takes a module away."""
    assert next_call(two.match(ADDRESS), States(), table=Router().table) is None
