"""`salmon.routing` by the rules of contracts/routing.md: names, decorators, selection, failures, reload."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import pytest

LIST = """
    from salmon.routing import *
    from salmon.routing import Router, nolocking, route, route_like, stateless

    Router.defaults(host="localhost", list="[a-z]+")
    SEEN = []

    @route("(list)-join@(host)")
    def START(message, list=None, host=None):
        '''The first.'''
        SEEN.append(("START", list, host))
        if list == "broken":
            raise RuntimeError("on purpose")
        return CONFIRM

    @route("(list)-confirm-(id)@(host)", id="[0-9]+")
    def CONFIRM(message, list=None, id=None, host=None):
        SEEN.append(("CONFIRM", list, id))
        return POSTING

    @route("(list)@(host)")
    @route("(list)-post@(host)")
    def POSTING(message, **captures):
        SEEN.append(("POSTING", captures))

    @route_like(POSTING)
    def END(message, **captures):
        return START

    @route(".*")
    @stateless
    @nolocking
    def ALL(message, *args, **kw):
        SEEN.append(("ALL", message.To))
        return END
"""


@pytest.fixture
def routing() -> Any:
    return importlib.import_module("salmon.routing")


def test_the_names_are_there(routing: Any) -> None:
    router = routing.Router
    assert (router.RELOAD, router.LOG_EXCEPTIONS, router.UNDELIVERABLE_QUEUE) == (False, True, None)
    assert (router.REGISTERED, router.ORDER, router.DEFAULT_CAPTURES, router.HANDLERS) == ({}, [], {}, {})
    assert (routing.ROUTE_FIRST_STATE, routing.LOG.name) == ("START", "routing")
    assert routing.DEFAULT_STATE_KEY("a.b", None) == "a.b"
    assert isinstance(router.STATE_STORE, routing.MemoryStorage)
    with router.lock, router.lock, router.call_lock:
        assert type(router) is routing.RoutingBase


@pytest.mark.rule("state.R7", "state.R8", "state.R9", "state.R11", "state.R20")
def test_storages(routing: Any) -> None:
    for store in (routing.MemoryStorage(), routing.ShelveStorage("states")):
        store.set("list", "ann@x", "TESTED")
        assert (store.get("list", "ann@x"), store.get("list", "bob@x")) == ("TESTED", "START")
        store.clear()
        assert store.get("list", "ann@x") == "START"
    for call in (("get", "a", "b"), ("set", "a", "b", "c"), ("clear",)):
        with pytest.raises(NotImplementedError):
            getattr(routing.StateStorage(), call[0])(*call[1:])


@pytest.mark.rule("routing.R1", "routing.R2", "routing.R4", "routing.R5", "routing.R7")
def test_registration_happens_at_import(routing: Any, module: Any) -> None:
    module("lists", LIST)
    assert routing.Router.ORDER == [
        "^(?P<list>[a-z]+)-join@(?P<host>localhost)$",
        "^(?P<list>[a-z]+)-confirm-(?P<id>[0-9]+)@(?P<host>localhost)$",
        "^(?P<list>[a-z]+)-post@(?P<host>localhost)$",
        "^(?P<list>[a-z]+)@(?P<host>localhost)$",
        "^.*$",
    ]
    found = [
        ([func.__name__ for func in functions], captures) for functions, captures in routing.Router.match("x@localhost")
    ]
    assert found == [(["POSTING", "END"], {"list": "x", "host": "localhost"}), (["ALL"], {})]


@pytest.mark.rule("routing.R1", "routing.R3", "routing.B9")
def test_a_format_matches_the_whole_address_and_nothing_leaks(routing: Any) -> None:
    regex = routing.route("a.b|(x)@h", x="1|2(x)", y="z").format
    assert regex == "^a.b|(?P<x>1|2(x))@h$"
    routing.Router.register_route(regex, print)
    matching = [
        address
        for address in ("A.B", "aXb", "1@h", "2x@h", "1", "a.bc", "a.b\n", "xa.b", "")
        if [*routing.Router.match(address)]
    ]
    assert matching == ["A.B", "aXb", "1@h", "2x@h"]


@pytest.mark.rule("routing.B21")
def test_a_format_that_is_no_expression_leaves_the_table_alone(routing: Any) -> None:
    with pytest.raises(TypeError, match="no regular expression"):
        routing.route("(x@y")(lambda message: None)
    assert (routing.Router.ORDER, routing.Router.REGISTERED) == ([], {})


@pytest.mark.rule("routing.R15", "routing.R16", "routing.R17", "routing.R19", "routing.R25")
def test_one_conversation(routing: Any, module: Any, write: Any) -> None:
    lists, router = module("lists", LIST), routing.Router
    router.deliver(write("dev-join@localhost", "Ann <ANN@example.net>"))
    assert lists.SEEN == [("START", "dev", "localhost"), ("ALL", "dev-join@localhost")]
    mail = write("DEV-confirm-12@LOCALHOST")
    assert router.get_state("lists", mail) == "CONFIRM"
    assert router.in_state(lists.CONFIRM, mail)
    router.deliver(mail)
    assert lists.SEEN[2] == ("CONFIRM", "DEV", "12")
    router.deliver(write("dev@localhost"))
    assert lists.SEEN[4] == ("POSTING", {"list": "dev", "host": "localhost"})
    assert router.in_state(lists.POSTING, mail)
    router.set_state("lists", mail, "END")
    router.deliver(write("dev-post@localhost"))
    assert (router.get_state("lists", mail), router.STATE_STORE.states) == ("START", {})


@pytest.mark.rule("routing.R9", "routing.R26")
def test_a_direct_call_moves_the_machine_and_gives_nothing(routing: Any, module: Any, write: Any) -> None:
    steps = module(
        "steps",
        """
        from salmon.routing import route, route_like
        @route("a@b")
        def START(message):
            "Begins."
            return MIDDLE(message)
        @route_like(START)
        def MIDDLE(message):
            return END
        @route_like(START)
        def END(message): pass
        """,
    )
    mail = write("a@b")
    assert (steps.START.__name__, steps.START.__module__, steps.START.__doc__) == ("START", "steps", "Begins.")
    routing.Router.deliver(mail)
    assert routing.Router.in_state(steps.END, mail)
    assert steps.MIDDLE(write("a@b", "bob@x")) is None
    assert routing.Router.in_state(steps.END, write("a@b", "bob@x"))


@pytest.mark.rule("routing.R10", "routing.R11", "routing.R12", "routing.R13", "routing.B14", "routing.B20")
def test_marks_that_are_misplaced(routing: Any) -> None:
    def helper(message: Any) -> None: ...

    @routing.nolocking
    @routing.route("a@b")
    def START(message: Any) -> None: ...

    with pytest.raises(TypeError, match="below @route"):
        routing.stateless(START)
    for func in (helper, routing.stateless(helper)):
        with pytest.raises(TypeError, match="missing a @route"):
            routing.route_like(func)
    assert routing.salmon_setting(START, "nolocking") is True
    assert routing.salmon_setting(START, "stateless") is None
    assert (routing.salmon_setting(START, "format"), routing.salmon_setting(START, "captures")) == ("^a@b$", {})

    class Handlers:
        @routing.route("m@b")
        def method(self, message: Any) -> None: ...

    assert "^m@b$" not in routing.Router.ORDER
    with pytest.raises(NotImplementedError):
        Handlers().method("x")
    with pytest.raises(NotImplementedError):
        routing.route("x@y").__get__(object())


def test_settings_of_a_function(routing: Any) -> None:
    def func() -> None: ...

    assert not routing.has_salmon_settings(func)
    with pytest.raises(AssertionError, match="func"):
        routing.assert_salmon_settings(func)
    with pytest.raises(AttributeError):
        routing.salmon_setting(func, "format")
    routing.attach_salmon_settings(func)
    routing.attach_salmon_settings(func)
    routing.assert_salmon_settings(func)
    assert routing.salmon_setting(func, "format") is None


@pytest.mark.rule("routing.R20", "routing.R22")
def test_what_no_handler_takes_is_pushed_once(routing: Any, kept: Any, write: Any) -> None:
    routing.Router.deliver(write("nobody@x"))
    routing.Router.UNDELIVERABLE_QUEUE = kept
    mail = write("nobody@x")
    assert routing.Router.deliver(mail) is None
    assert kept.mails == [mail]


@pytest.mark.rule("routing.R29", "routing.R30", "routing.R31", "routing.B6")
def test_a_failure_is_kept_and_the_next_message_begins_anew(routing: Any, module: Any, write: Any, kept: Any) -> None:
    """Given a module without ERROR, its sender is in error, and yet not locked out."""
    lists, router = module("lists", LIST), routing.Router
    router.UNDELIVERABLE_QUEUE = kept
    mail = write("broken-join@localhost")
    router.deliver(mail)
    assert (kept.mails, router.in_error(lists.END, mail), len(lists.SEEN)) == ([mail], True, 2)
    router.deliver(write("dev-join@localhost"))
    assert router.in_state(lists.CONFIRM, mail)
    router.clear_states()
    router.LOG_EXCEPTIONS = False
    with pytest.raises(RuntimeError, match="on purpose"):
        router.deliver(mail)


@pytest.mark.rule("routing.R30")
def test_error_takes_the_next_message(routing: Any, module: Any, write: Any) -> None:
    found = module(
        "failing",
        """
        from salmon.routing import route, route_like
        SEEN = []
        @route("a@b")
        def START(message):
            SEEN.append("START")
            raise ValueError("no")
        @route_like(START)
        def ERROR(message):
            SEEN.append("ERROR")
            return START if len(SEEN) > 2 else None
        """,
    )
    for _ in range(4):
        routing.Router.deliver(write("a@b"))
    assert found.SEEN == ["START", "ERROR", "ERROR", "START"]


@pytest.mark.rule("routing.B5", "routing.B19", "routing.B20")
def test_stateless_failures_and_wrong_results(routing: Any, module: Any, write: Any) -> None:
    found = module(
        "odd",
        """
        from salmon.routing import route, stateless
        SEEN = []
        @route("a@b")
        @route("a@(host)", host="b")
        @stateless
        def BREAKS(message, host=None):
            SEEN.append("BREAKS")
            raise ValueError("no")
        @route("a@b")
        def START(message):
            SEEN.append("START")
            return "POSTING"
        """,
    )
    routing.Router.deliver(write("a@b"))
    assert found.SEEN == ["BREAKS", "START"]
    routing.Router.LOG_EXCEPTIONS = False
    with pytest.raises(ValueError, match="no"):
        routing.Router.deliver(write("a@b", "bob@x"))
    with pytest.raises(TypeError, match="returned 'POSTING'"):
        found.START(write("a@b"))


@pytest.mark.rule("routing.R28")
def test_a_rejection_leaves_deliver_untouched(routing: Any, module: Any, write: Any, kept: Any) -> None:
    module(
        "refusing",
        """
        from salmon.routing import route
        from salmon.server import SMTPError
        @route("a@b")
        def START(message):
            raise SMTPError(450, "not now")
        """,
    )
    routing.Router.UNDELIVERABLE_QUEUE = kept
    mail = write("a@b")
    with pytest.raises(importlib.import_module("salmon.server").SMTPError, match="450 not now"):
        routing.Router.deliver(mail)
    assert (kept.mails, routing.Router.get_state("refusing", mail)) == ([], "START")


@pytest.mark.rule("routing.R18", "routing.R23", "routing.R24", "routing.R27")
def test_keys_and_forced_states(routing: Any, module: Any, write: Any) -> None:
    found = module(
        "keyed",
        """
        from salmon.routing import Router, route, stateless, state_key_generator
        SEEN = []
        @state_key_generator
        def key(module_name, message):
            return f"{module_name}:{message.To}"
        @route(".+")
        @stateless
        def FORCE(message):
            if message.To == "two@b":
                Router.set_state(__name__, message, "SECOND")
        @route("(who)@b", who="[a-z]+")
        def START(message, who): SEEN.append(("START", who))
        @route("(who)@b", who="[a-z]+")
        def SECOND(message, who): SEEN.append(("SECOND", who))
        """,
    )
    assert {"keyed": found.key} == routing.Router.HANDLERS
    for address in ("one@b", "two@b", "one@b"):
        routing.Router.deliver(write(address))
    assert found.SEEN == [("START", "one"), ("SECOND", "two"), ("START", "one")]
    assert routing.Router.STATE_STORE.get("keyed:two@b", "ann@example.net") == "SECOND"


@pytest.mark.rule("routing.R32", "routing.R33", "routing.B12", "routing.B13")
def test_load_and_reload(routing: Any, module: Any, write: Any) -> None:
    router = routing.Router
    module("lists", LIST, load=False)
    router.load(["lists", "lists"])
    router.load(["nothing.of.the.kind"])
    assert (list(router.HANDLERS), len(router.ORDER)) == (["lists"], 5)
    router.LOG_EXCEPTIONS = False
    with pytest.raises(ImportError):
        router.load(["nothing.of.the.kind"])
    router.deliver(write("dev-join@localhost"))
    router.reload()
    assert (len(router.ORDER), router.get_state("lists", write("x@y"))) == (5, "CONFIRM")
    router.clear_routes()
    router.load(["lists"])
    assert len(router.ORDER) == 5
    module("lists", "raise NameError('broken')", load=False)
    with pytest.raises(NameError):
        router.reload()
    router.LOG_EXCEPTIONS = True
    router.reload()
    assert (len(router.ORDER), list(router.HANDLERS)) == (5, ["lists"])


@pytest.mark.rule("routing.R14", "routing.B1", "routing.B12")
def test_nothing_is_undeliverable_while_modules_are_executed_again(
    routing: Any, module: Any, write: Any, kept: Any
) -> None:
    """Given RELOAD, which executes the modules again for each delivery, eight threads lose nothing."""
    module("lists", LIST, load=False)
    routing.Router.load(["lists"])
    routing.Router.UNDELIVERABLE_QUEUE = kept
    routing.Router.RELOAD = True
    mails = [write("dev-join@localhost", f"p{number}@x") for number in range(8)]

    def deliver(mail: Any) -> None:
        for _ in range(10):
            routing.Router.deliver(mail)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=deliver, args=(mail,)) for mail in mails]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert not kept.mails
    assert {routing.Router.get_state("lists", mail) for mail in mails} == {"CONFIRM"}
