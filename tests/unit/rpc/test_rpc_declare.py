"""How calls are declared, and what is read from their signatures (contract rpc, declaring and binding)."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monsal.rpc import DeclarationError, InvalidParams, Promise, RemoteAPI, incoming, outgoing
from monsal.rpc.declare import Declaration

#: On a machine that has much else to do, nothing is said by how long an example takes.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Ticket(msgspec.Struct):
    number: int
    subject: str = ""
    scan: bytes = b""


@dataclasses.dataclass
class Person:
    name: str
    friends: list[Person] = dataclasses.field(default_factory=list)


class Helpdesk(RemoteAPI):
    @incoming
    async def find(self, sender: str, number: int, words: list[str] = []) -> Ticket:  # noqa: B006 - never changed
        """Look one up."""

    @incoming(has_reply=True, allow_positional_args=True)
    def add(self, sender, a, b=1): ...

    @incoming
    def note(self, sender: str, text: str) -> None: ...

    @incoming(notify=True)
    def told(self, sender: str) -> int: ...

    @incoming
    def file(self, sender: str, data: bytes, more: dict[str, list[bytes | None]] | None = None) -> bytes: ...

    @incoming
    def open_end(self, sender: str, first: int, **rest: int) -> None: ...

    @incoming
    def whom(self, sender: str, person: Person) -> None: ...

    @outgoing(has_reply=True)
    def ask(self, receivers, question: str): ...

    @outgoing
    def promised(self, receivers, question: str) -> Promise: ...


def load(name: str, params: Any) -> dict[str, Any]:
    return Helpdesk.declarations[name].signature.load(params)


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


@pytest.mark.rule("rpc.R3")
def test_a_call_has_a_reply_if_it_says_so() -> None:
    replies = {name for name, one in Helpdesk.declarations.items() if one.signature.has_reply}
    assert replies == {"find", "add", "file", "ask", "promised"}


@pytest.mark.rule("rpc.R1")
def test_marks_tell_calls_from_other_attributes() -> None:
    assert Helpdesk.find._remote_api_incoming == {"has_reply": True}
    assert not hasattr(Helpdesk.find, "_remote_api_outgoing")
    assert Helpdesk.ask._remote_api_outgoing == {"has_reply": True}
    assert Helpdesk().find._remote_api_incoming == {"has_reply": True}
    assert Helpdesk.find.inverted()._remote_api_outgoing == {"has_reply": True}
    assert Helpdesk.find.__doc__ == "Look one up."


@pytest.mark.rule("rpc.R1")
@pytest.mark.parametrize("direction", [incoming, outgoing])
def test_a_mark_is_bare_with_options_or_called_with_the_function(direction: Any) -> None:
    def call(self: Any, other: Any, x: int) -> None: ...

    for made in (direction(call), direction()(call), direction(has_reply=True)(call)):
        assert isinstance(made, Declaration)
        assert made._unbound_method is call


@pytest.mark.rule("rpc.R1")
def test_a_function_without_room_for_the_sender_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(DeclarationError, match="self, sender"):

        class Lonely(RemoteAPI):
            @incoming
            def call(self): ...


@pytest.mark.parametrize(
    "function",
    [
        lambda self, sender, *args: None,
        lambda self, sender, x, /: None,
        lambda self, sender, __x: None,
        lambda *args: None,
    ],
)
def test_parameters_that_cannot_travel_by_name_are_refused(function: Any) -> None:
    with pytest.raises(DeclarationError):
        type("Odd", (RemoteAPI,), {"call": incoming(function)})


def test_types_that_have_no_form_on_the_wire_are_refused() -> None:
    with pytest.raises(DeclarationError, match="parameter x"):

        class Odd(RemoteAPI):
            @incoming
            def call(self, sender: str, x: threading_lock) -> None: ...

    with pytest.raises(DeclarationError, match="cannot be resolved"):

        class Unknown(RemoteAPI):
            @incoming
            def call(self, sender: str, x: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821


class threading_lock:
    """Something that no codec knows."""


def test_the_hint_of_the_sender_may_be_for_type_checkers_only() -> None:
    class Fine(RemoteAPI):
        @incoming
        def call(self, sender: OnlyForCheckers, x: int) -> None: ...  # type: ignore[name-defined] # noqa: F821

    assert Fine.declarations["call"].signature.names == ("x",)


def test_a_generator_is_no_call_and_a_number_no_method() -> None:
    def generate(self: Any, sender: str) -> Any:
        yield 1

    for odd in (generate, 7):
        with pytest.raises(DeclarationError):
            type("Odd", (RemoteAPI,), {"call": incoming()(odd)})  # type: ignore[arg-type]


def test_names_of_the_contract_are_not_given_to_calls() -> None:
    for name in ("codec", "transport", "invert", "message_error", "_hidden"):
        with pytest.raises(DeclarationError, match="name"):
            type("Odd", (RemoteAPI,), {name: incoming(lambda self, sender: None)})


def test_a_call_is_not_overridden_by_accident() -> None:
    with pytest.raises(DeclarationError, match="mark it"):

        class Odd(Helpdesk):
            def note(self, sender: str, text: str) -> None: ...  # type: ignore[assignment]

    class Without(Helpdesk):
        note = None  # type: ignore[assignment]

    assert "note" not in Without.declarations
    assert "note" in Helpdesk.declarations


@pytest.mark.rule("rpc.R7")
def test_only_what_was_given_is_passed_on() -> None:
    assert load("find", {"number": 1}) == {"number": 1}
    assert load("find", raw('{"number": 1, "words": ["a"]}')) == {"number": 1, "words": ["a"]}
    assert load("add", {"a": None}) == {"a": None}


@pytest.mark.rule("rpc.R13")
def test_positions_only_where_they_are_allowed() -> None:
    assert load("add", raw("[1, 2]")) == {"a": 1, "b": 2}
    assert load("add", [1]) == {"a": 1}
    assert load("add", 7) == {"a": 7}
    for params in ([1], raw("[1]"), 7, "x"):
        with pytest.raises(InvalidParams, match="named parameters only"):
            load("note", params)


@pytest.mark.rule("rpc.B17")
def test_a_surplus_position_is_an_error() -> None:
    with pytest.raises(InvalidParams, match="at most 2"):
        load("add", [1, 2, 3])
    with pytest.raises(ValueError, match="at most 2"):
        Helpdesk.declarations["add"].signature.name_all((1, 2, 3), {})


@pytest.mark.rule("rpc.R7")
def test_positions_become_names_on_the_way_out() -> None:
    signature = Helpdesk.declarations["add"].signature
    assert signature.name_all((1, 2), {}) == {"a": 1, "b": 2}
    assert signature.name_all((1,), {"b": 2}) == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="by position and by name"):
        signature.name_all((1,), {"a": 2})
    with pytest.raises(ValueError, match="named parameters only"):
        Helpdesk.declarations["note"].signature.name_all(("x",), {})


@pytest.mark.rule("rpc.R8")
def test_unknown_and_missing_names_are_type_errors_at_the_caller() -> None:
    signature = Helpdesk.declarations["find"].signature
    with pytest.raises(TypeError, match="no parameter colour"):
        signature.check_names({"number": 1, "colour": 2})
    with pytest.raises(TypeError, match="lacks number"):
        signature.check_names({})


@pytest.mark.rule("rpc.R14", "rpc.B9")
@pytest.mark.parametrize(
    ("params", "path", "reason"),
    [
        ('{"number": "1"}', "$.number", "Expected `int`"),
        ('{"number": 1, "words": ["a", 2]}', "$.words[1]", "Expected `str`"),
        ("{}", "$", "missing required field `number`"),
        ('{"number": 1, "colour": 2}', "$", "unknown field `colour`"),
        ('{"number": 1.5}', "$.number", "Expected `int`"),
    ],
)
def test_what_does_not_fit_is_told_with_its_path(params: str, path: str, reason: str) -> None:
    for given_params in (raw(params), msgspec.json.decode(params)):
        with pytest.raises(InvalidParams, match="wrong signature") as caught:
            load("find", given_params)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value.data, dict)
        assert caught.value.data["path"] == path
        assert reason in caught.value.data["reason"]


def test_records_are_made_from_hints() -> None:
    assert load("whom", raw('{"person": {"name": "a", "friends": [{"name": "b"}]}}')) == {
        "person": Person("a", [Person("b")])
    }
    with pytest.raises(InvalidParams) as caught:
        load("whom", {"person": {"name": "a", "friends": [{"name": 1}]}})
    assert caught.value.data == {"path": "$.person.friends[0].name", "reason": "Expected `str`, got `int`"}


def test_other_names_may_be_let_in() -> None:
    assert load("open_end", raw('{"first": 1, "x": 2}')) == {"first": 1, "x": 2}
    with pytest.raises(InvalidParams):
        load("open_end", {"first": 1, "x": "two"})


@pytest.mark.rule("rpc.B15", "rpc.R31")
def test_bytes_come_back_where_the_declaration_says_bytes() -> None:
    coded = {"__bytes": "eHk="}
    assert load("file", {"data": coded}) == {"data": b"xy"}
    assert load("file", raw('{"data": {"__bytes": "eHk="}}')) == {"data": b"xy"}
    assert load("file", {"data": coded, "more": {"k": [coded, None]}})["more"] == {"k": [b"xy", None]}
    # What another codec carried as bytes is bytes already.
    assert load("file", {"data": b"xy"}) == {"data": b"xy"}
    signature = Helpdesk.declarations["find"].signature
    assert signature.result.load({"number": 1, "scan": coded}) == Ticket(1, "", b"xy")


@pytest.mark.rule("rpc.B15")
def test_bytes_are_not_made_of_anything_else() -> None:
    assert load("add", {"a": {"__bytes": "eHk="}}) == {"a": {"__bytes": "eHk="}}
    for odd in ("eHk=", {"__bytes": "eHk=", "x": 1}, {"__bytes": 5}, {"__bytes": "no base64"}, {}, ["eHk="], 7):
        with pytest.raises(InvalidParams):
            load("file", {"data": odd})


@pytest.mark.rule("rpc.B1")
@patient
@given(st.text(max_size=60) | st.sampled_from(['{"number": 1', "[[[", '{"number": NaN}', "\ud800"]))
def test_any_text_as_parameters_is_taken_or_refused_as_declared(text: str) -> None:
    try:
        loaded = load("find", msgspec.Raw(text.encode("utf-8", "surrogatepass")))
    except InvalidParams:
        return
    assert isinstance(loaded["number"], int)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.rule("rpc.B1")
@patient
@given(st.sampled_from(sorted(set(Helpdesk.declarations) - {"ask", "promised"})), JSON)
def test_any_value_as_parameters_is_taken_or_refused_as_declared(name: str, params: Any) -> None:
    try:
        loaded = load(name, params)
    except InvalidParams:
        return
    assert set(loaded) <= set(params) if isinstance(params, dict) else True


@pytest.mark.rule("rpc.R2")
def test_empty_bodies_are_recognised() -> None:
    def one(self: Any, sender: str) -> None: ...
    def two(self: Any, sender: str) -> None:
        """Words."""

    def three(self: Any, sender: str) -> None:
        pass

    async def four(self: Any, sender: str) -> int: ...
    def five(self: Any, sender: str) -> int:
        return 5

    async def six(self: Any, sender: str) -> None:
        raise ValueError

    empty = [incoming(one), incoming(two), incoming(three), incoming(four)]
    assert [declaration.signature.body for declaration in empty] == [None] * 4
    assert [declaration.signature.body for declaration in (incoming(five), incoming(six))] == [five, six]


@pytest.mark.rule("rpc.B2")
def test_listeners_belong_to_the_instance() -> None:
    one, two = Helpdesk(), Helpdesk()
    one.note.connect(print)
    one.note.pass_secinfo(True)
    assert one.note._listeners == [print]
    assert two.note._listeners == []
    with pytest.raises(AttributeError):
        _ = Helpdesk.note.connect


@pytest.mark.rule("rpc.R4")
def test_inverting_swaps_the_directions_of_one_instance() -> None:
    one, two = Helpdesk(invert=True), Helpdesk()
    assert hasattr(one.note, "_remote_api_outgoing")
    assert hasattr(one.ask, "_remote_api_incoming")
    assert hasattr(two.note, "_remote_api_incoming")
    two.invert()
    assert hasattr(two.note, "_remote_api_outgoing")
    assert two.add.signature is Helpdesk.declarations["add"].signature


@pytest.mark.rule("rpc.R4")
def test_inverting_after_connecting_loses_the_listeners() -> None:
    api = Helpdesk()
    api.note.connect(print)
    api.invert()
    api.invert()
    assert api.note._listeners == []


@pytest.mark.rule("rpc.R4")
def test_the_class_of_the_other_side() -> None:
    peer = Helpdesk.peer()
    assert peer is Helpdesk.peer()
    assert peer.peer() is Helpdesk
    assert hasattr(peer().note, "_remote_api_outgoing")
    assert hasattr(peer(invert=True).note, "_remote_api_incoming")

    class Richer(Helpdesk):
        @incoming
        def more(self, sender: str) -> None: ...

    assert "more" in Richer.peer().declarations
    assert "more" not in Helpdesk.peer().declarations


@pytest.mark.rule("rpc.R24")
def test_unhandled_calls_looks_at_the_instance_as_it_is_now() -> None:
    api = Helpdesk()
    assert set(api.unhandled_calls()) == {"find", "add", "note", "told", "file", "open_end", "whom"}
    api.find.connect(print)
    api.note.connect(print)
    api.note.disconnect(print)
    assert "find" not in set(api.unhandled_calls())
    assert "note" in set(api.unhandled_calls())
    api.invert()
    assert set(api.unhandled_calls()) == {"ask", "promised"}


def test_connecting_twice_counts_twice_and_the_unknown_is_not_disconnected() -> None:
    api = Helpdesk()
    api.note.connect(print)
    api.note.connect(print)
    api.note.disconnect(print)
    assert api.note._listeners == [print]
    with pytest.raises(ValueError):
        api.note.disconnect(len)
    with pytest.raises(TypeError):
        api.note.connect("no function")


@pytest.mark.rule("rpc.R5", "rpc.B15")
@pytest.mark.parametrize(
    "given_text", [{"codec": "jsonrpc"}, {"codec": "Codec:"}, {"transport": "pigeon:home"}, {"security": "trust"}]
)
def test_an_unknown_shorthand_is_a_value_error(given_text: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Helpdesk(**given_text)  # type: ignore[arg-type]


@pytest.mark.rule("rpc.B21", "rpc.R5")
def test_the_defaults_are_those_of_the_original() -> None:
    api = Helpdesk()
    assert api.codec.encode("note", {}).endswith(b"}\0")
    assert api.transport is None
    assert not api.async_processing


def test_a_body_may_call_that_of_its_base() -> None:
    seen: list[str] = []

    class Base(RemoteAPI):
        @incoming
        def call(self, sender: str, x: int) -> None:
            seen.append(f"base {x}")

    class Derived(Base):
        @incoming
        def call(self, sender: str, x: int) -> None:
            super().call(sender, x=x + 1)
            seen.append(f"derived {x}")

    Derived().call("me", x=1)
    assert seen == ["base 2", "derived 1"]
