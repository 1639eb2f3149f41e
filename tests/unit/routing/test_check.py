"""What `monsal routes --check` finds, and the machine it draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monsal.errors import RouteError
from monsal.routing import Finding, Router, draw, findings, transitions

pytestmark = pytest.mark.rule("routing.B22")


def of_kind(router: Router, kind: str) -> list[Finding]:
    return [finding for finding in findings(router.table) if finding.kind == kind]


SOUND = """
    @route("order@(host)")
    def START(message): return NEXT
    @route("order@(host)")
    def NEXT(message): return START
    def ERROR(message): return START
"""


def test_a_sound_machine_has_no_findings(load: Callable[..., str], router: Router) -> None:
    load(SOUND)
    assert findings(router.table) == []


def test_each_address_and_state_that_ends_in_a_dead_letter_is_listed(load: Callable[..., str], router: Router) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): return CONFIRM
        @route("confirm-(id)@(host)", id="[0-9]{4}")
        def CONFIRM(message, id): return START
        def ERROR(message): ...
    """)
    found = of_kind(router, "no_handler_in_state")
    assert {(finding.witness, finding.states) for finding in found} == {
        ("order@example.com", ("CONFIRM",)),
        ("confirm-0000@example.com", ("START",)),
    }
    for finding in found:
        assert finding.module == name
        assert finding.witness is not None
        assert router.accepts(finding.witness)
        assert finding.witness in finding.text


@pytest.mark.parametrize(
    "cover",
    [
        "@otherwise\n    def HELP(message): ...",
        "@route('(all)@(host)', all='.+')\n    @stateless\n    def LOGGED(message): ...",
    ],
)
def test_otherwise_and_stateless_handlers_cover_every_state(
    load: Callable[..., str], router: Router, cover: str
) -> None:
    load(
        """
    @route("order@(host)")
    def START(message): return CONFIRM
    @route("confirm@(host)")
    def CONFIRM(message): ...
    """
        + cover
    )
    assert of_kind(router, "no_handler_in_state") == []


def test_a_bounce_handler_needs_no_route_and_there_is_one(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("order@(host)")
        def START(message): ...
        @on_bounce
        def RETURNED(message, bounce, host): ...
    """)
    assert of_kind(router, "mark_without_route") == []
    handler = next(module.on_bounce for module in router.table.modules.values())
    assert handler is not None
    assert handler.name == "RETURNED"
    assert handler.required == ("bounce", "host")


def test_a_second_bounce_handler_is_refused(load: Callable[..., str]) -> None:
    with pytest.raises(RouteError, match="2 @on_bounce handlers"):
        load("""
            @route("order@(host)")
            def START(message): ...
            @on_bounce
            def ONE(message, bounce): ...
            @on_bounce
            def TWO(message, bounce): ...
        """)


def test_two_modules_that_start_at_one_address(modules: Any, router: Router) -> None:
    first, second = modules.write("a", SOUND), modules.write("b", SOUND)
    router.load([first, second])
    (finding,) = of_kind(router, "shadowed")
    assert (finding.module, finding.states, finding.witness) == (second, ("START",), "order@example.com")
    assert f"{first}:START" in finding.text


def test_a_state_that_nobody_names(load: Callable[..., str], router: Router) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): return NAMED
        @route("order@(host)")
        def NAMED(message): ...
        @route("order@(host)")
        def ALONE(message): return ALONE
        @route("order@(host)")
        def IN_A_TABLE(message): ...
        @route("order@(host)")
        def IN_A_LIST(message): ...
        @route("order@(host)")
        def BY_TEXT(message): ...
        @route("order@(host)")
        def NESTED(message): ...
        NEXT = {"x": IN_A_TABLE}
        MORE = [IN_A_LIST]
        def helper(): return [lambda: NESTED, "BY_TEXT"]
    """)
    (finding,) = of_kind(router, "unreachable_state")
    assert (finding.module, finding.states) == (name, ("ALONE",))


def test_states_named_by_another_module_or_in_a_wrapper_are_reachable(modules: Any, router: Router) -> None:
    first = modules.write(
        "a",
        """
        import functools
        def to_third(func):
            @functools.wraps(func)
            def wrapper(message): return func(message) or THIRD
            return wrapper
        @route("order@(host)")
        @to_third
        def START(message): return None
        @route("order@(host)")
        def SECOND(message): ...
        @route("order@(host)")
        def THIRD(message): ...
        @route("order@(host)")
        def FOURTH(message): ...
    """,
    )
    second = modules.write(
        "b",
        """
        import {prefix}a as other
        from {prefix}a import FOURTH as ELSEWHERE
        @route("b@(host)")
        def START(message): return other.SECOND or ELSEWHERE
    """,
    )
    router.load([first, second])
    assert of_kind(router, "unreachable_state") == []
    steps = {(step.state, step.to_module, step.to_state) for step in transitions(router.table) if step.module == second}
    assert steps == {("START", first, "SECOND"), ("START", first, "FOURTH")}


def test_a_second_definition_of_a_handler(load: Callable[..., str], router: Router) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): ...
        @route("other@(host)")
        def START(message): ...
        def helper(): ...
        def helper(): ...
    """)
    (finding,) = of_kind(router, "redefined")
    assert (finding.module, finding.states) == (name, ("START",))


def test_a_mark_without_a_route(load: Callable[..., str], router: Router) -> None:
    load("""
        @stateless
        def FORGOTTEN(message): ...
        @requires_authenticated
        def ERROR(message): ...
        @otherwise
        def HELP(message): ...
        @state_key
        def key(module, message): ...
    """)
    (finding,) = of_kind(router, "mark_without_route")
    assert finding.states == ("FORGOTTEN",)


def test_a_module_without_error_is_worth_knowing(load: Callable[..., str], router: Router) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): ...
    """)
    (finding,) = findings(router.table)
    assert (finding.kind, finding.module, finding.severity) == ("no_error", name, "info")


def test_a_route_for_which_no_address_is_found(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("no address at all")
        def START(message): ...
        @route.regex("(?:.*)", accept_any_domain=True)
        @stateless
        def ALL(message): ...
    """)
    (finding,) = of_kind(router, "no_example")
    assert (finding.severity, "'no address at all'" in finding.text) == ("info", True)


def test_the_machine_is_drawn(load: Callable[..., str], router: Router) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): return CHOOSING
        @route("order@(host)")
        def CHOOSING(message): return CHOOSING if message else DONE
        @route("order@(host)")
        def DONE(message): return None
        def ERROR(message): return START
        @route("order@(host)")
        @stateless
        def LOGGED(message): ...
    """)
    assert draw(router.table).splitlines() == [
        name,
        "  START -> CHOOSING",
        "  CHOOSING -> CHOOSING, DONE",
        "  DONE -> (stays)",
        "  ERROR -> START",
    ]


def test_objects_have_machines_too(modules: Any, router: Router) -> None:
    name = modules.write(
        "desk",
        """
        class Desk:
            @route("order@(host)")
            def START(self, message): return self.NEXT
            @route("order@(host)")
            def NEXT(self, message): ...
            @route("order@(host)")
            def ALONE(self, message): ...
            def ERROR(self, message): return self.START
    """,
    )
    router.load([__import__(name).Desk()])
    assert [(finding.kind, finding.states) for finding in findings(router.table)] == [("unreachable_state", ("ALONE",))]
    assert "  START -> NEXT" in draw(router.table)


def test_an_error_handler_that_leads_nowhere_traps_its_conversations(load: Callable[..., str], router: Router) -> None:
    load("""
        @route("order@(host)")
        def START(message): ...
        def ERROR(message): print("sorry")
    """)
    (found,) = of_kind(router, "error_stays")
    assert found.severity == "warning"
    assert "stays in ERROR" in found.text
