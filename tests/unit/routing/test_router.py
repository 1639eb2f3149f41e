"""The router: load, reload, match, and what it knows of states."""

from __future__ import annotations

import logging
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import pytest

from monsal.errors import ResultError, RouteError
from monsal.routing import Router, literal, next_call, route, stateless

Load = Callable[..., str]


def names(router: Router, address: str) -> list[list[str]]:
    return [[handler.name for handler in match.handlers] for match in router.match(address)]


# -- load -----------------------------------------------------------------------------------------------------------


def test_a_fresh_router_knows_nothing_and_says_so() -> None:
    router = Router()
    assert not router.is_loaded
    assert router.match("order@example.com") == []
    assert not router.accepts("order@example.com")
    assert router.table.routes == ()
    router.load([])
    assert router.is_loaded


@pytest.mark.rule("routing.R32")
def test_load_imports_and_registers(load: Load, router: Router) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): ...
    """)
    assert [handler.id for match in router.match("order@example.com") for handler in match.handlers] == [
        f"{name}:START"
    ]
    assert router.accepts("order@example.com")
    assert not router.accepts("other@example.com")


@pytest.mark.rule("routing.R32")
def test_loading_again_is_harmless(load: Load, router: Router) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): ...
    """)
    before = names(router, "order@example.com")
    router.load([name, name])
    router.load(name)
    router.load([sys.modules[name]])
    assert names(router, "order@example.com") == before == [["START"]]


@pytest.mark.rule("routing.B11", "routing.B13")
def test_an_import_registers_nothing_and_two_routers_load_one_module(load: Load, router: Router, modules: Any) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): ...
    """)
    other = Router()
    other.defaults(host=literal("example.org"))
    assert not other.accepts("order@example.org")
    other.load([name])
    assert other.accepts("order@example.org")
    assert not other.accepts("order@example.com")
    assert router.accepts("order@example.com")


@pytest.mark.rule("routing.R5")
def test_formats_and_functions_run_in_order_of_registration(load: Load, router: Router) -> None:
    load("""
        @route.regex("order@.*", accept_any_domain=True)
        def EARLY(message): ...
        @route("order@(host)")
        def LATE(message): ...
        @route.regex("order@.*", accept_any_domain=True)
        def LATE_ON_EARLY_FORMAT(message): ...
    """)
    assert names(router, "order@example.com") == [["EARLY", "LATE_ON_EARLY_FORMAT"], ["LATE"]]


@pytest.mark.rule("routing.R5", "routing.R7")
def test_the_order_is_that_of_decoration_not_of_the_namespace(load: Load, router: Router) -> None:
    load("""
        def FIRST(message): ...
        @route("(a)@(host)", a="order")
        def SECOND(message): ...
        FIRST = route("order@(host)")(FIRST)
        @route("(c)@(host)", c="order")
        @route("(b)@(host)", b="order")
        def THIRD(message): ...
    """)
    assert names(router, "order@example.com") == [["SECOND"], ["FIRST"], ["THIRD"], ["THIRD"]]
    assert [match.route.pattern.format for match in router.match("order@example.com")][2:] == [
        "(b)@(host)",
        "(c)@(host)",
    ]


@pytest.mark.rule("routing.R5")
def test_modules_run_in_order_of_loading(modules: Any, router: Router) -> None:
    text = """
        @route("order@(host)")
        @stateless
        def {name}(message): ...
    """
    made = [modules.write(short, text.replace("{name}", short.upper())) for short in ("b", "a", "c")]
    router.load(made[:2])
    router.load(made[2:])
    assert names(router, "order@example.com") == [["B", "A", "C"]]


@pytest.mark.rule("routing.R6")
def test_formats_with_different_captures_are_different(load: Load, router: Router) -> None:
    load("""
        @route("(x)@(host)", x="order")
        def ONE(message): ...
        @route("(x)@(host)", x="ord.r")
        def OTHER(message): ...
        @route("(x)@(host)", x="order", unused="y")
        def SAME(message): ...
    """)
    assert names(router, "order@example.com") == [["ONE", "SAME"], ["OTHER"]]


@pytest.mark.rule("routing.R8")
def test_route_like_works_between_modules(modules: Any, router: Router) -> None:
    first = modules.write(
        "first",
        """
        @route("order-(id)@(host)", id="[0-9]+")
        @stateless
        def START(message, id): ...
    """,
    )
    second = modules.write(
        "second",
        """
        import {prefix}first
        @route_like({prefix}first.START)
        def START(message, id): ...
    """,
    )
    router.load([first, second])
    (match,) = router.match("order-1@example.com")
    assert [(handler.module, handler.stateless) for handler in match.handlers] == [(first, True), (second, False)]


@pytest.mark.rule("routing.R12")
def test_route_like_of_an_unrouted_function_fails_the_import(modules: Any, router: Router) -> None:
    name = modules.write(
        "shop",
        """
        def plain(message): ...
        @route_like(plain)
        def START(message): ...
    """,
    )
    with pytest.raises(TypeError, match=rf"cannot import {name}: RouteError: route_like\(plain\)"):
        router.load([name])


def test_an_imported_handler_belongs_to_its_own_module(modules: Any, router: Router) -> None:
    first = modules.write(
        "first",
        """
        @route("order@(host)")
        def START(message): ...
    """,
    )
    second = modules.write(
        "second",
        """
        from {prefix}first import START
        @route("confirm@(host)")
        def CONFIRM(message): return START
    """,
    )
    router.load([second])
    assert not router.accepts("order@example.com")
    router.load([first])
    assert router.accepts("order@example.com")


@pytest.mark.rule("routing.R2", "routing.B10")
def test_defaults_are_resolved_at_load_and_own_captures_win(load: Load, modules: Any) -> None:
    name = modules.write(
        "shop",
        """
        @route("order@(host)")
        def START(message): ...
        @route("other@(host)", host=literal("example.net"))
        def OTHER(message): ...
    """,
    )
    router = Router()
    __import__(name)
    router.defaults(host="nowhere", unused="x")
    router.defaults(host=literal("example.org"))
    router.load([name])
    assert dict(router.default_captures) == {"host": r"example\.org", "unused": "x"}
    assert router.accepts("order@example.org")
    assert router.accepts("other@example.net")
    assert not router.accepts("other@example.org")


@pytest.mark.rule("routing.R2")
def test_a_bad_default_is_refused_at_once(router: Router) -> None:
    with pytest.raises(RouteError, match="capture 'x'"):
        router.defaults(x="(", host="y")
    assert dict(router.default_captures) == {"host": r"example\.com"}


def test_later_defaults_count_from_the_next_load_on(load: Load, router: Router) -> None:
    load("""
        @route("order@(host)")
        def START(message): ...
    """)
    router.defaults(host=literal("example.org"))
    assert router.accepts("order@example.com")
    router.reload()
    assert router.accepts("order@example.org")
    assert not router.accepts("order@example.com")


@pytest.mark.rule("routing.R32", "routing.B12")
def test_one_error_names_all_modules_that_fail(modules: Any, router: Router) -> None:
    good = modules.write(
        "good",
        """
        @route("order@(host)")
        def START(message): ...
    """,
    )
    broken = modules.write("broken", "raise ZeroDivisionError('oh')")
    syntax = modules.write("syntax", "def (:")
    with pytest.raises(RouteError) as caught:
        router.load([broken, good, "no_such_module_at_all", syntax])
    text = str(caught.value)
    assert f"cannot import {broken}: ZeroDivisionError: oh" in text
    assert "cannot import no_such_module_at_all: ModuleNotFoundError" in text
    assert f"cannot import {syntax}: SyntaxError" in text
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert len(caught.value.__cause__.exceptions) == 3
    assert not router.is_loaded
    router.load([good])
    assert router.accepts("order@example.com")


@pytest.mark.rule("routing.B10", "routing.B21")
def test_a_failing_load_leaves_the_table_alone_and_tells_all_reasons(load: Load, modules: Any, router: Router) -> None:
    load("""
        @route("order@(host)")
        def START(message): ...
    """)
    before = router.table
    other = modules.write(
        "other",
        r"""
        @route("good@(host)")
        def START(message): ...
        @route("(nobody)@(host)")
        def UNKNOWN(message): ...
        @route.regex("(?:a@(host)")
        def INVALID(message): ...
        @route.regex(r"(?:\w+\s?)*@(host)")
        def SLOW(message): ...
        @route("a.*@(host)")
        def LIKENESS(message): ...
    """,
    )
    with pytest.raises(RouteError) as caught:
        router.load([other])
    text = str(caught.value)
    for name, why in [
        ("UNKNOWN", "no capture 'nobody'"),
        ("INVALID", "no valid regular expression"),
        ("SLOW", "very long"),
        ("LIKENESS", "looks like a regular expression"),
    ]:
        assert any(f"{other}:{name}" in line and why in line for line in text.splitlines()), name
    assert router.table is before
    assert not router.accepts("good@example.com")
    router.reload()
    assert router.accepts("order@example.com")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("@route('x@(host)')\ndef START(message, nothing): ...", "parameter 'nothing' is no capture of route 'x@"),
        ("@route('x@(host)')\n@route('y-(id)@(host)', id='1')\ndef START(message, id): ...", "parameter 'id'"),
        ("@route('x@(host)')\ndef START(): ...", "no parameter for the message"),
        ("@route('x@(host)')\ndef START(*, host): ...", "no parameter for the message"),
        ("@route('x@(host)')\ndef START(message, host, /): ...", "positional only"),
        ("@route('x@(host)')\ndef START(message): yield", "generator"),
        ("@route('x@(host)')\nasync def START(message): yield", "generator"),
        ("@route('(message)@(host)', message='x')\ndef START(message, **kw): ...", "called like the message"),
        ("@route('x@(host)')\n@state_key\ndef START(message, host): ...", "state_key_generator marks a helper"),
        ("def ERROR(message, nothing): ...", "ERROR: parameter 'nothing' is no capture of its module"),
        ("@stateless\ndef ERROR(message): ...", "cannot be stateless"),
        ("@otherwise\n@stateless\ndef HELP(message): ...", "cannot be stateless"),
        ("@otherwise\ndef A(message): ...\n@otherwise\ndef B(message): ...", "2 @otherwise"),
        ("ON_FAILURE = 'explode'", "ON_FAILURE is 'explode'"),
        ("@route('x@(host)', was='B')\ndef A(message): ...\n@route_like(A)\ndef B(message): ...", "was='B'"),
        (
            "@route('x@(host)', was='O')\ndef A(message): ...\n@route('x@(host)', was='O')\ndef B(message): ...",
            "was='O'",
        ),
        ("@route('x@(host)', was='START')\ndef A(message): ...", "everybody begins there"),
        ("@route('x@(host)', was='ERROR')\ndef A(message): ...\ndef ERROR(message): ...", "was='ERROR'"),
        ("@route('x@(host)', was='O')\n@stateless\ndef A(message): ...", "a stateless handler is no state"),
        ("@route('x@(any)', any='.+')\ndef START(message): ...", "takes mail for any domain"),
        ("@route.regex('.*')\ndef START(message): ...", "accept_any_domain=True"),
        (
            "def d(f):\n    def w(message): ...\n    return w\n@route('x@(host)')\n@d\ndef START(message): ...",
            "functools.wraps",
        ),
        ("class H:\n    @route('x@(host)')\n    def START(self, message): ...", "load an object of it"),
    ],
)
def test_what_cannot_work_is_refused_at_load(modules: Any, router: Router, source: str, why: str) -> None:
    name = modules.write("wrong", source)
    with pytest.raises(RouteError) as caught:
        router.load([name])
    assert why in str(caught.value)
    assert name in str(caught.value)
    assert not router.is_loaded


def test_a_wildcard_that_is_meant_is_let_in(load: Load, router: Router) -> None:
    load("""
        @route("(all)", all=".+", accept_any_domain=True)
        def START(message, all): ...
    """)
    assert router.accepts("anybody@anywhere.net")


@pytest.mark.rule("routing.R9")
def test_decorators_between_are_fine_if_they_wrap(load: Load, router: Router) -> None:
    name = load("""
        import functools
        def logged(func):
            @functools.wraps(func)
            def wrapper(*args, **kw):
                return func(*args, **kw)
            return wrapper
        @route("order@(host)")
        @logged
        def START(message, host): ...
        @logged
        @route("order@(host)")
        def CHOOSING(message, host): ...
    """)
    (match,) = router.match("order@example.com")
    assert [handler.id for handler in match.handlers] == [f"{name}:START", f"{name}:CHOOSING"]
    assert all(handler.required == ("host",) for handler in match.handlers)


# -- handlers -------------------------------------------------------------------------------------------------------


@pytest.mark.rule("routing.R4", "routing.B15")
def test_a_handler_gets_the_captures_that_its_signature_names(load: Load, router: Router) -> None:
    load("""
        @route("order-(id)@(host)", id="[0-9]+")
        def NONE(message): ...
        @route_like(NONE)
        def SOME(message, host): ...
        @route_like(NONE)
        async def DEFAULT(message, id="x", other="y"): ...
        @route_like(NONE)
        def ALL(message, **kw): ...
        @route_like(NONE)
        def BOTH(message, id, **kw): ...
        @route_like(NONE)
        def ANYTHING(*args, **kw): ...
    """)
    (match,) = router.match("order-7@Example.com")
    given = {handler.name: handler.arguments(match.captures) for handler in match.handlers}
    everything = {"id": "7", "host": "Example.com"}
    assert given == {
        "NONE": {},
        "SOME": {"host": "Example.com"},
        "DEFAULT": {"id": "7"},
        "ALL": everything,
        "BOTH": everything,
        "ANYTHING": everything,
    }
    assert {handler.name for handler in match.handlers if handler.is_async} == {"DEFAULT"}


@pytest.mark.rule("routing.B15", "routing.B1")
def test_options_and_marks_reach_the_handler(load: Load, router: Router) -> None:
    load("""
        @route("a@(host)", deadline=5)
        @route("b@(host)", deadline=30)
        @route("c@(host)")
        @nolocking
        @requires_authenticated
        def START(message): ...
        @route_like(START)
        def PLAIN(message): ...
    """)
    (match,) = router.match("c@example.com")
    start, plain = match.handlers
    assert (start.deadline, start.nolocking, start.requires_authenticated) == (30.0, True, True)
    assert (plain.deadline, plain.nolocking, plain.requires_authenticated) == (None, False, False)


def test_a_module_knows_its_machine(load: Load, router: Router) -> None:
    name = load("""
        ON_FAILURE = "hold"
        @route("order@(host)")
        def START(message): ...
        @route("order@(host)")
        @stateless
        def LOGGED(message): ...
        @otherwise
        def HELP(message): ...
        def ERROR(message, host=None): ...
        @state_key_generator(shared=True)
        def key(module, message): return "k"
        def REMIND(message): ...
    """)
    module = router.table.modules[name]
    assert set(module.handlers) == {"START"}
    assert set(module.stateless) == {"LOGGED"}
    assert module.error is not None
    assert module.error.id == f"{name}:ERROR"
    assert module.otherwise is not None
    assert module.otherwise.id == f"{name}:HELP"
    assert module.shared
    assert module.on_failure == "hold"
    assert module.first == "START"
    assert set(module.functions) == {"START", "LOGGED", "HELP", "ERROR", "key", "REMIND"}


@pytest.mark.rule("routing.R13", "routing.B14")
def test_the_methods_of_a_handler_object_are_routed_bound(modules: Any, router: Router) -> None:
    name = modules.write(
        "desk",
        """
        class Desk:
            ON_FAILURE = "hold"
            def __init__(self, label):
                self.label = label
            @route("order-(id)@(host)", id="[0-9]+")
            def START(self, message, id):
                return self.CHOOSING
            @route("order-(id)@(host)", id="[0-9]+")
            async def CHOOSING(self, message):
                return None
            def ERROR(self, message):
                return self.START
            @state_key_generator
            def key(self, module, message):
                return f"{self.label}/{message.recipient}"
            @property
            def trap(self):
                raise RuntimeError("only methods are looked at")
    """,
    )
    desk = __import__(name).Desk("d1")
    router.load([desk, name])
    home = f"{name}.Desk"
    (match,) = router.match("order-3@example.com")
    start, choosing = match.handlers
    assert (start.id, choosing.id, choosing.is_async) == (f"{home}:START", f"{home}:CHOOSING", True)
    assert start.arguments(match.captures) == {"id": "3"}
    result = start.func("a message", **start.arguments(match.captures))
    assert router.next_state(result, start) == (home, "CHOOSING")
    assert router.table.modules[home].on_failure == "hold"
    assert router.table.modules[home].error is not None
    assert router.state_key(home, types.SimpleNamespace(sender="A@b.c", recipient="r")) == ("d1/r", "a@b.c")
    assert router.resolve(f"{home}:CHOOSING").func == desk.CHOOSING
    with pytest.raises(RouteError, match="twice"):
        router.load([__import__(name).Desk("d2")])
    router.reload()
    assert router.accepts("order-3@example.com")


@pytest.mark.rule("routing.B14")
@pytest.mark.parametrize("thing", [object(), 7, None, dict])
def test_what_has_no_routed_methods_is_refused(router: Router, thing: object) -> None:
    with pytest.raises(RouteError, match=r"no routed method|is a class"):
        router.load([thing])


# -- match ----------------------------------------------------------------------------------------------------------


@pytest.mark.rule("routing.R19")
def test_each_match_has_the_captures_of_its_own_format(load: Load, router: Router) -> None:
    load("""
        @route("order-(id)@(host)", id="[0-9]+")
        @stateless
        def ONE(message, id): ...
        @route("(whole)@(host)", whole="order-.*")
        @stateless
        def OTHER(message, whole): ...
    """)
    one, other = router.match("Order-7@example.com")
    assert one.captures == {"id": "7", "host": "example.com"}
    assert other.captures == {"whole": "Order-7", "host": "example.com"}


@pytest.mark.rule("routing.R21")
def test_each_match_is_logged_at_debug_level(load: Load, router: Router, caplog: pytest.LogCaptureFixture) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): ...
    """)
    caplog.set_level(logging.DEBUG, "monsal.routing")
    router.match("order@example.com")
    assert f"order@example.com matches order@(host): {name}:START" in caplog.text


@pytest.mark.rule("routing.B16")
@pytest.mark.parametrize("address", ["", "\x00", "a\nb", "x" * 9999, "\ud800", b"order@example.com", None, 5])
def test_nothing_that_comes_in_raises(load: Load, router: Router, address: Any) -> None:
    load("""
        @route("order@(host)")
        def START(message): ...
    """)
    assert router.match(address) == []
    assert router.accepts(address) is False


# -- reload ---------------------------------------------------------------------------------------------------------

SHOP = """
    @route("{address}@(host)")
    def START(message): return NEXT
    @route("next@(host)")
    def NEXT(message): ...
"""


@pytest.mark.rule("routing.R33", "routing.B12")
def test_reload_takes_the_new_source(load: Load, modules: Any, router: Router) -> None:
    load(SHOP.replace("{address}", "old"))
    before = router.table
    modules.write("shop", SHOP.replace("{address}", "new"))
    assert router.accepts("old@example.com")
    router.reload()
    assert router.table is not before
    assert router.accepts("new@example.com")
    assert not router.accepts("old@example.com")


@pytest.mark.rule("routing.R33")
def test_reload_keeps_the_order_of_formats(load: Load, modules: Any, router: Router) -> None:
    source = "".join(
        f"""
        @route.regex("(?:a|{n})@(host)")
        @stateless
        def H{n}(message): ...
    """
        for n in range(5)
    )
    load(source)
    before = names(router, "a@example.com")
    router.reload()
    router.reload()
    assert names(router, "a@example.com") == before == [[f"H{n}"] for n in range(5)]


@pytest.mark.rule("routing.R33")
def test_a_function_removed_from_the_source_is_gone_for_good(load: Load, modules: Any, router: Router) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): ...
        @route("order@(host)")
        def OLD(message): ...
        def ERROR(message): ...
        def REMIND(message): ...
    """)
    modules.write(
        "shop",
        """
        @route("order@(host)")
        def START(message): ...
    """,
    )
    other = modules.write("other", "")
    router.reload()
    for _ in range(2):
        assert names(router, "order@example.com") == [["START"]]
        assert router.table.modules[name].error is None
        with pytest.raises(RouteError, match="has no function REMIND"):
            router.resolve(f"{name}:REMIND")
        router.load([other, name])


@pytest.mark.rule("routing.B12")
@pytest.mark.parametrize(
    "broken",
    [
        "raise RuntimeError('boom')",
        "def (:",
        "import no_such_module_at_all",
        "undefined_name",
        "EXTRA = 1\n        @route('(nobody)@(host)')\n        def START(message): ...",
        "EXTRA = 1\n        assert False",
    ],
)
def test_a_failing_reload_keeps_the_old_table_and_the_old_module(
    load: Load, modules: Any, router: Router, broken: str
) -> None:
    name = load(SHOP.replace("{address}", "old"))
    second = modules.write("second", "X = 1")
    router.load([second])
    before, start = router.table, sys.modules[name].START
    modules.write("shop", "\n        " + broken)
    modules.write("second", "X = 2")
    with pytest.raises(RouteError, match=name):
        router.reload()
    assert router.table is before
    assert sys.modules[name].START is start
    assert not hasattr(sys.modules[name], "EXTRA")
    assert sys.modules[second].X == 1
    assert router.next_state(start(None)) == (name, "NEXT")
    modules.write("shop", SHOP.replace("{address}", "new"))
    router.reload()
    assert router.accepts("new@example.com")


@pytest.mark.rule("routing.R33")
def test_a_module_whose_file_is_gone_says_so(load: Load, modules: Any, router: Router) -> None:
    name = load(SHOP.replace("{address}", "old"))
    modules.remove("shop")
    with pytest.raises(RouteError, match=f"cannot reload {name}"):
        router.reload()
    assert router.accepts("old@example.com")


def test_a_module_made_by_hand_is_taken_as_it_is(router: Router) -> None:
    def make(address: str) -> types.ModuleType:
        module = types.ModuleType("made_by_hand")
        exec(f"from monsal.routing import *\n@route('{address}@(host)')\ndef START(message): ...", vars(module))  # noqa: S102 - the shortest way to a module without a file
        return module

    router.load([make("one")])
    router.reload()
    assert router.accepts("one@example.com")
    router.load([make("two")])
    assert router.accepts("two@example.com")
    assert not router.accepts("one@example.com")


@pytest.mark.rule("routing.B12", "routing.R34")
def test_no_thread_ever_sees_an_empty_table(load: Load, router: Router) -> None:
    load("""
        @route("order-(id)@(host)", id="[0-9]+")
        def START(message, id): ...
        @route.regex("order-.*@(host)")
        @stateless
        def LOGGED(message): ...
    """)
    stop = threading.Event()
    misses: list[object] = []
    rounds = [0] * 8

    def look(number: int) -> None:
        while not stop.is_set():
            table = router.table
            matches = router.match("order-1@example.com")
            call = next_call(matches, lambda module: "START", table=table)
            if len(matches) != 2 or not router.accepts("order-2@example.com") or call is None:
                misses.append(matches)
            rounds[number] += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=look, args=(number,)) for number in range(8)]
    end = time.monotonic() + 60
    reloads = 0
    try:
        for thread in threads:
            thread.start()
        # Until each of them has looked, beside reloads; on a busy machine that takes as long as it takes.
        while reloads < 15 or (not all(rounds) and time.monotonic() < end):
            router.reload()
            reloads += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert misses == []
    assert all(rounds)


# -- states and results ---------------------------------------------------------------------------------------------


@pytest.mark.rule("routing.R23", "routing.R24", "routing.B17")
def test_the_key_is_the_modules_name_and_the_sender_is_folded(load: Load, router: Router, letter: Any) -> None:
    name = load("")
    assert router.state_key(name, letter(sender="Alice@Home.net")) == (name, "alice@home.net")
    with pytest.raises(RouteError, match="module nobody is not loaded"):
        router.state_key("nobody", letter())


@pytest.mark.rule("routing.R23")
def test_a_generator_makes_the_key_and_the_last_one_wins(load: Load, router: Router, letter: Any) -> None:
    name = load("""
        @state_key_generator
        def later_in_the_alphabet(module, message): return "first declared"
        @state_key_generator
        def a_key(module, message): return f"{module}:{message.recipient}"
    """)
    assert router.state_key(name, letter(recipient="list@example.com")) == (
        f"{name}:list@example.com",
        "alice@home.net",
    )


def test_a_shared_machine_has_no_correspondent(load: Load, router: Router, letter: Any) -> None:
    name = load("""
        @state_key(shared=True)
        def key(module, message): return "room"
    """)
    assert router.state_key(name, letter()) == ("room", "")


@pytest.mark.rule("routing.R23")
def test_a_key_that_is_no_text_is_an_error_that_names_its_generator(load: Load, router: Router, letter: Any) -> None:
    name = load("""
        @state_key_generator
        def key(module, message): return 7
    """)
    with pytest.raises(ResultError, match=rf"{name}:key returned 7"):
        router.state_key(name, letter())


@pytest.mark.rule("routing.R25")
@pytest.mark.parametrize("nothing", [None, False, 0, "", [], ()])
def test_a_false_result_changes_nothing(load: Load, router: Router, nothing: object) -> None:
    load("")
    assert router.next_state(nothing) is None


@pytest.mark.rule("routing.R25")
def test_a_result_moves_the_machine_of_its_own_module(modules: Any, router: Router) -> None:
    first = modules.write(
        "first",
        """
        @route("order@(host)")
        def START(message): ...
        def ERROR(message): ...
    """,
    )
    second = modules.write(
        "second",
        """
        from {prefix}first import START as ELSEWHERE
        @route("other@(host)")
        def START(message): return ELSEWHERE
    """,
    )
    router.load([first, second])
    result = sys.modules[second].START(None)
    assert router.next_state(result, f"{second}:START") == (first, "START")
    assert router.next_state(sys.modules[first].ERROR) == (first, "ERROR")


@pytest.mark.rule("routing.R25", "routing.B12")
def test_a_function_of_an_older_generation_is_as_good_as_its_namesake(load: Load, router: Router) -> None:
    name = load(SHOP.replace("{address}", "order"))
    old = sys.modules[name].NEXT
    router.reload()
    assert sys.modules[name].NEXT is not old
    assert router.next_state(old) == (name, "NEXT")


@pytest.mark.rule("routing.B19")
def test_a_result_that_is_no_state_is_a_type_error_naming_the_handler(load: Load, router: Router) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): ...
        @route("order@(host)")
        @stateless
        def LOGGED(message): ...
        @otherwise
        def HELP(message): ...
        def plain(message): ...
    """)
    module = sys.modules[name]
    handler = router.table.modules[name].handlers["START"]

    async def coroutine(message: object) -> None: ...

    class Named:
        __name__ = "START"
        __module__ = name

    pending = coroutine(None)
    for result, why in [
        ("START", "is no function"),
        (7, "is no function"),
        (Named(), "is no function"),
        (Named, "is no function"),
        (pending, "is no function"),
        (module, "is no function"),
        (module.LOGGED, "is a stateless handler"),
        (module.HELP, "has no route"),
        (module.plain, "has no route"),
        (lambda message: None, "is not loaded"),
        (print, "is not loaded"),
    ]:
        with pytest.raises(TypeError, match=rf"^{name}:START returned .*{why}"):
            router.next_state(result, handler)
    pending.close()


@pytest.mark.rule("routing.B19")
def test_error_is_a_state_only_where_there_is_a_handler(load: Load, router: Router) -> None:
    name = load(SHOP.replace("{address}", "order"))

    def ERROR(message: object) -> None: ...

    ERROR.__module__ = name
    with pytest.raises(ResultError, match="has no route"):
        router.next_state(ERROR)


def test_timers_find_any_function_of_a_loaded_module(load: Load, router: Router) -> None:
    name = load("""
        @route("order@(host)", was="OLD_START")
        def START(message): ...
        @route("order@(host)")
        @stateless
        def LOGGED(message): ...
        async def REMIND(message, host, id=None): ...
        def broken(): ...
    """)
    remind = router.resolve(f"{name}:REMIND")
    assert (remind.id, remind.is_async, remind.stateless) == (f"{name}:REMIND", True, False)
    assert remind.arguments({}) == {"host": None}
    assert remind.arguments({"host": "h", "id": "1", "x": "y"}) == {"host": "h", "id": "1"}
    assert router.resolve(f"{name}:START").func is sys.modules[name].START
    assert router.resolve(f"{name}:OLD_START").name == "START"
    assert router.resolve(f"{name}:LOGGED").stateless
    for target in (f"{name}:GONE", "nobody:START", "START", "", ":", f"{name}:", f"{name}:broken"):
        with pytest.raises(RouteError):
            router.resolve(target)


@pytest.mark.rule("routing.R18")
def test_a_plan_chooses_lazily(load: Load, router: Router) -> None:
    name = load("""
        @route("order@(host)")
        def START(message): ...
        @route("order@(host)")
        def NEXT(message): ...
        @route("order@(host)")
        @stateless
        def FORCES(message): ...
    """)
    states = {name: "START"}
    called = []
    for call in router.plan("order@example.com", states.__getitem__):
        called.append(call.handler.name)
        if call.handler.name == "FORCES":
            states[name] = "NEXT"
    assert called == ["FORCES", "NEXT"]
    assert [
        call.handler.name for call in router.plan("order@example.com", states.__getitem__, done=[f"{name}:FORCES"])
    ] == ["NEXT"]
    assert list(router.plan("nobody@example.com", states.__getitem__)) == []


def test_decorators_can_be_used_on_functions_of_tests() -> None:
    """No router is needed to try a handler."""

    @route("order@(host)")
    @stateless
    def START(message: str) -> str:
        return message.upper()

    assert START("x") == "X"
