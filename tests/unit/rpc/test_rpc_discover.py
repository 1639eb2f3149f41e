"""What an interface says of itself, and how two of them are compared (contract rpc, B11)."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

import msgspec
import pytest

from monsal.errors import UsageError
from monsal.rpc import AppError, RemoteAPI, incoming, outgoing
from monsal.rpc.discover import differences, fingerprint, openrpc
from monsal.transport.memory import link_pair


class NotFound(AppError, code=1404): ...


Number = Annotated[int, msgspec.Meta(ge=1)]


class Ticket(msgspec.Struct):
    """One request."""

    number: int
    scan: bytes = b""
    children: list[Ticket] = []


class Desk(RemoteAPI):
    """The desk of the helpers."""

    errors = (NotFound,)
    interface_version = "2.1"

    @incoming(allow_positional_args=True)
    async def find(self, sender: str, number: Number, deep: bool = False) -> Ticket:
        """Look one up.

        It may take a while.
        """

    @incoming
    async def note(self, sender: str, text: str, when=None) -> None: ...

    @outgoing
    def told(self, receivers: list[str] | None, pair: tuple[int, str]) -> None: ...


def document(api: type[RemoteAPI] = Desk, **options: Any) -> dict[str, Any]:
    return api(**options).openrpc()


@pytest.mark.rule("rpc.B11")
def test_the_document_says_what_may_come_in() -> None:
    said = document()
    assert said["openrpc"].startswith("1.3.")
    assert said["info"] == {"title": "Desk", "version": "2.1", "description": "The desk of the helpers."}
    find, note = said["methods"]
    assert find["name"] == "find"
    assert find["summary"] == "Look one up."
    assert find["description"] == "It may take a while."
    assert find["paramStructure"] == "either"
    assert find["params"] == [
        {"name": "number", "required": True, "schema": {"type": "integer", "minimum": 1}},
        {"name": "deep", "required": False, "schema": {"type": "boolean", "default": False}},
    ]
    assert find["result"] == {"name": "result", "schema": {"$ref": "#/components/schemas/Ticket"}}
    assert find["errors"] == [{"code": 1404, "message": "NotFound"}]
    assert note["paramStructure"] == "by-name"
    assert "result" not in note
    assert note["params"][1] == {"name": "when", "required": False, "schema": {"default": None}}
    ticket = said["components"]["schemas"]["Ticket"]
    assert ticket["properties"]["scan"]["properties"]["__bytes"] == {"type": "string", "contentEncoding": "base64"}
    assert msgspec.json.decode(msgspec.json.encode(said)) == said


@pytest.mark.rule("rpc.B11")
def test_the_document_of_the_other_side_has_the_other_calls() -> None:
    said = document(invert=True)
    assert [method["name"] for method in said["methods"]] == ["told"]
    assert said["methods"][0]["params"][0]["schema"]["items"] == [{"type": "integer"}, {"type": "string"}]
    assert document(Desk.peer())["info"]["title"] == "Desk"


def changed(**calls: Any) -> type[RemoteAPI]:
    return type("Desk", (Desk,), calls)


async def _find_text(self: Any, sender: str, number: str, deep: bool = False) -> Ticket: ...
async def _find_more(self: Any, sender: str, number: Number, deep: bool = False, *, colour: str) -> Ticket: ...
async def _find_less(self: Any, sender: str, number: Number) -> Ticket: ...
async def _find_nothing(self: Any, sender: str, number: Number, deep: bool = False) -> None: ...
async def _find_number(self: Any, sender: str, number: Number, deep: bool = False) -> int: ...
async def _find_needed(self: Any, sender: str, number: Number, deep: bool) -> Ticket: ...
async def _find_other_default(self: Any, sender: str, number: Number, deep: bool = True) -> Ticket:
    """Other words."""


@pytest.mark.rule("rpc.B11")
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_find_text, "find: the parameter number is of another type"),
        (_find_more, "find: the other side needs the parameter colour"),
        (_find_less, "find: the other side has no parameter deep"),
        (_find_nothing, "find: one side has a result, the other has none"),
        (_find_number, "find: the result is of another type"),
        (_find_needed, "find: the other side needs the parameter deep"),
        (None, "find: the other side does not have it"),
    ],
)
def test_the_call_that_differs_is_named(function: Any, said: str) -> None:
    theirs = changed(find=function and incoming(function))
    ours = {name: one.inverted() for name, one in Desk.declarations.items() if one.direction == "incoming"}
    assert differences(ours, document(theirs)) == [said]
    assert fingerprint(theirs.declarations) != fingerprint(Desk.declarations)


@pytest.mark.rule("rpc.B11")
def test_words_and_defaults_are_no_difference_and_more_calls_are_none_to_us() -> None:
    theirs = changed(find=incoming(allow_positional_args=True)(_find_other_default))
    assert fingerprint(theirs.declarations) == fingerprint(Desk.declarations)
    more = changed(also=incoming(lambda self, sender: None))
    ours = {name: one for name, one in Desk.declarations.items() if one.direction == "incoming"}
    assert differences(ours, document(more)) == []
    assert fingerprint(more.declarations) != fingerprint(Desk.declarations)


@pytest.mark.rule("rpc.B11")
def test_two_programs_compare_themselves_when_they_meet(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[str, list[str]]] = []

    class Client(Desk.peer()):  # type: ignore[misc]
        def interface_differs(self, sender: str, differences: list[str]) -> None:
            heard.append((sender, differences))
            super().interface_differs(sender, differences)

    async def meet(server: RemoteAPI) -> None:
        client = Client()
        links = link_pair(client._setup({}), server._setup({}), names=("client", "server"))
        while not all(link.peer.theirs for link in links):
            await asyncio.sleep(0.001)
        while client._tasks or server._tasks:
            await asyncio.sleep(0.001)
        said = await links[0].call("rpc.discover")
        assert links[0].peer.codec.value(said) == msgspec.json.decode(msgspec.json.encode(server.openrpc()))
        for link in links:
            link.close()

    asyncio.run(meet(Desk()))
    assert heard == []
    with caplog.at_level(logging.WARNING, "monsal.rpc"):
        asyncio.run(meet(changed(find=incoming(_find_text))()))
    assert heard == [("server", ["find: the parameter number is of another type"])]
    assert "find: the parameter number" in caplog.text


@pytest.mark.rule("rpc.B11")
def test_the_difference_can_be_asked_for() -> None:
    async def scenario() -> None:
        client, server = Desk.peer()(), changed(note=None)()
        links = link_pair(client._setup({}), server._setup({}))
        assert await client.differences() == ["note: the other side does not have it"]
        for link in links:
            link.close()

    asyncio.run(scenario())


def test_an_interface_without_calls_has_a_document_too() -> None:
    assert openrpc("Empty", {}) == {"openrpc": "1.3.2", "info": {"title": "Empty", "version": "1"}, "methods": []}


@pytest.mark.rule("rpc.B9")
def test_codes_of_an_application_are_its_own() -> None:
    with pytest.raises(UsageError, match="keeps the codes"):

        class Odd(AppError, code=-32099): ...

    class Other(AppError, code=1404): ...

    with pytest.raises(UsageError, match="same code"):

        class Twice(RemoteAPI):
            errors = (NotFound, Other)
