"""Storages with get, set and clear: the rules of the original, and what must not come back (contract state)."""

from __future__ import annotations

import asyncio
import dbm
import inspect
import pickle
import shelve
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.errors import StoreCorrupt, StoreError, UsageError
from monsal.store import ROUTE_FIRST_STATE, MemoryStorage, MemoryStore, ShelveStorage, StateStorage, as_storage
from monsal.store.contract import StateKey
from monsal.store.states import StoreStates
from monsal.testing.kit.lab import NOW, Lab

Storage = MemoryStorage | ShelveStorage


def open_shelf(path: str, protocol: int | None = None) -> shelve.Shelf[Any]:
    """The shelf as the standard library opens it."""
    return shelve.open(path, protocol=protocol)  # noqa: S301 - these tests write it themselves


@pytest.fixture(params=["memory", "shelf"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return MemoryStorage() if request.param == "memory" else ShelveStorage(tmp_path / "states")


# -- the original's rules -----------------------------------------------------------------------------------------


@pytest.mark.rule("state.R20")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("get", ("k", "s")), ("set", ("k", "s", "STATE")), ("clear", ())],
    ids=lambda item: str(item),
)
def test_the_base_class_names_the_method_that_is_missing(name: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(NotImplementedError, match=rf"StateStorage has no method {name}\("):
        getattr(StateStorage(), name)(*arguments)


@pytest.mark.rule("state.R1", "state.R6", "state.R7")
def test_get_gives_what_was_set_and_start_before(storage: Storage) -> None:
    assert storage.get("module", "ann@x") == ROUTE_FIRST_STATE == "START"
    storage.set("module", "ann@x", "CONFIRMING")
    storage.set("module", "bob@x", "ERROR")
    assert storage.get("module", "ann@x") == "CONFIRMING"
    assert storage.get("module", "bob@x") == "ERROR"
    assert storage.get("other", "ann@x") == "START"


@pytest.mark.rule("state.R6")
def test_any_thread_reads_what_another_wrote(storage: Storage) -> None:
    seen: list[str] = []
    thread = threading.Thread(target=storage.set, args=("m", "ann@x", "A"))
    thread.start()
    thread.join()
    reader = threading.Thread(target=lambda: seen.append(storage.get("m", "ann@x")))
    reader.start()
    reader.join()
    assert seen == ["A"]


@pytest.mark.rule("state.R8", "state.B9", "state.B20")
def test_start_is_never_stored_and_reading_stores_nothing(storage: Storage) -> None:
    storage.get("m", "ann@x")
    storage.set("m", "ann@x", "START")
    storage.set("m", "bob@x", "A")
    storage.set("m", "bob@x", "START")
    if isinstance(storage, ShelveStorage):
        with open_shelf(storage.database_path) as shelf:
            assert list(shelf) == []
    else:
        assert storage.states == {}
    assert storage.get("m", "bob@x") == "START"


@pytest.mark.rule("state.R9")
def test_after_clear_every_pair_is_start(storage: Storage) -> None:
    for number in range(5):
        storage.set("m", f"c{number}@x", "A")
    storage.clear()
    assert {storage.get("m", f"c{number}@x") for number in range(5)} == {"START"}


@pytest.mark.rule("state.R2", "state.R3", "state.R4", "state.R24", "state.B3")
@given(st.lists(st.tuples(st.text(), st.text(), st.sampled_from(["A", "B", "START"])), max_size=20))
@settings(deadline=None, max_examples=100)
def test_any_sequence_of_sets_is_a_dict(steps: list[tuple[str, str, str]]) -> None:
    storage, model = MemoryStorage(), dict[tuple[str, str], str]()
    for key, sender, state in steps:
        storage.set(key, sender, state)
        model[key, sender] = state
        for (k, s), expected in model.items():
            assert storage.get(k, s) == expected


@pytest.mark.rule("state.R2", "state.R3", "state.R15", "state.B3")
@given(st.dictionaries(st.tuples(st.text(), st.text()), st.text(min_size=1), max_size=5))
@settings(deadline=None, max_examples=25)
def test_the_shelf_takes_any_key_and_any_word(tmp_path_factory: pytest.TempPathFactory, pairs: Any) -> None:
    shelf = ShelveStorage(tmp_path_factory.mktemp("shelf") / "states")
    for (key, sender), state in pairs.items():
        shelf.set(key, sender, state)
    for (key, sender), state in pairs.items():
        assert shelf.get(key, sender) == state


@pytest.mark.rule("state.R11")
def test_the_memory_store_shows_its_dict() -> None:
    storage = MemoryStorage()
    assert storage.states == {}
    storage.set("m", "ann@x", "A")
    assert storage.states == {"['m', 'ann@x']": "A"}
    assert storage.key("m", "ann@x") == "['m', 'ann@x']"


@pytest.mark.rule("state.R12", "state.R14")
def test_a_shelf_is_made_with_a_path_and_survives(tmp_path: Path) -> None:
    shelf = ShelveStorage(str(tmp_path / "run" / "states"))
    assert shelf.database_path == str(tmp_path / "run" / "states")
    assert list(tmp_path.iterdir()) == [], "making one does nothing"
    shelf.set("m", "ann@x", "A")
    assert ShelveStorage(tmp_path / "run" / "states").get("m", "ann@x") == "A"


@pytest.mark.rule("state.R13", "state.R22")
def test_the_shelf_closes_after_each_operation_and_its_lock_is_re_entrant(tmp_path: Path) -> None:
    shelf = ShelveStorage(tmp_path / "states")
    with shelf.lock, shelf.lock:
        shelf.set("m", "ann@x", "A")
        assert shelf.get("m", "ann@x") == "A"
    # Nothing stays open: another opener of the same file is not kept out.
    with open_shelf(shelf.database_path) as other:
        other[shelf.key("m", "bob@x")] = "B"
    assert shelf.get("m", "bob@x") == "B"


@pytest.mark.rule("state.B3")
def test_memory_and_shelf_have_one_key_form(tmp_path: Path) -> None:
    shelf, memory = ShelveStorage(tmp_path / "states"), MemoryStorage()
    for key, sender in (("m", "ann@x"), ("mödule", "zoë@x"), ("\ud800", "")):
        shelf.set(key, sender, "A")
        memory.set(key, sender, "A")
    with open_shelf(shelf.database_path) as opened:
        assert set(opened) == set(memory.states)


class _Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return exec, ("raise SystemExit('the pickle ran')",)


@pytest.mark.rule("state.B4")
@pytest.mark.parametrize("value", [_Bomb(), b"bytes", 5, None, ["A"], {"state": "A"}, ("A", "B")], ids=repr)
def test_anything_but_a_string_on_the_shelf_is_refused_unread(tmp_path: Path, value: Any) -> None:
    shelf = ShelveStorage(tmp_path / "states")
    shelf.set("m", "bob@x", "B")
    with open_shelf(shelf.database_path) as opened:
        opened[shelf.key("m", "ann@x")] = value
    with pytest.raises(StoreCorrupt, match="no plain string"):
        shelf.get("m", "ann@x")
    assert shelf.get("m", "bob@x") == "B"
    shelf.set("m", "ann@x", "A")
    assert shelf.get("m", "ann@x") == "A"


@pytest.mark.rule("state.B4")
def test_a_torn_pickle_is_refused(tmp_path: Path) -> None:
    shelf = ShelveStorage(tmp_path / "states")
    shelf.set("m", "ann@x", "A")
    with dbm.open(shelf.database_path, "w") as raw:
        raw[shelf.key("m", "ann@x").encode()] = pickle.dumps("A")[:-3]
    with pytest.raises(StoreCorrupt):
        shelf.get("m", "ann@x")


@pytest.mark.rule("state.B4")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_shelf_of_the_original_is_read_in_any_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    shelf = ShelveStorage(tmp_path / "states")
    with open_shelf(shelf.database_path, protocol=protocol) as opened:
        opened[shelf.key("m", "ann@x")] = "ZUSTAND_Ä\n"
    assert shelf.get("m", "ann@x") == "ZUSTAND_Ä\n"


def test_the_shelf_stores_nothing_but_strings(tmp_path: Path) -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="not int"):
        ShelveStorage(tmp_path / "states").set("m", "ann@x", wrong)


# -- any class with three methods ---------------------------------------------------------------------------------


class Foreign(StateStorage):
    """A self-written store with a cache and a method of its own."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], str] = {}
        self.cache: dict[tuple[str, str], str] = {}

    def get(self, key: str, sender: str) -> str:
        if (key, sender) not in self.cache:
            self.cache[key, sender] = self.rows.get((key, sender), ROUTE_FIRST_STATE)
        return self.cache[key, sender]

    def set(self, key: str, sender: str, state: str) -> None:
        self.rows[key, sender] = self.cache[key, sender] = state

    def clear(self) -> None:
        raise PermissionError("not in production")

    def set_all(self, sender: str, state: str) -> None:
        for key, whose in self.rows:
            if whose == sender:
                self.set(key, sender, state)


@pytest.mark.rule("state.R17", "state.R20", "state.R23", "state.R25", "state.R27")
def test_any_object_with_the_three_methods_is_a_storage() -> None:
    foreign = Foreign()
    storage = as_storage(foreign)
    assert storage.get("m", "ann@x") == "START"
    storage.set("m", "ann@x", "A")
    assert storage.get("m", "ann@x") == "A"
    with pytest.raises(PermissionError):
        storage.clear()
    foreign.set_all("ann@x", "BOUNCING")
    assert storage.get("m", "ann@x") == "BOUNCING"
    assert as_storage(storage) is storage


@pytest.mark.rule("state.R2", "state.R24")
def test_a_storage_gets_keys_exactly_as_they_are() -> None:
    foreign = Foreign()
    key, sender = " Größe\x00'\" ", "A B@X"
    as_storage(foreign).set(key, sender, "A")
    assert foreign.rows == {(key, sender): "A"}


@pytest.mark.rule("state.R5")
def test_a_storage_is_asked_for_one_word_and_given_one() -> None:
    for method in ("get", "set"):
        assert len(inspect.signature(getattr(StateStorage, method)).parameters) == {"get": 3, "set": 4}[method]


@pytest.mark.rule("state.R1")
@pytest.mark.parametrize("answer", [None, "", 5, b"START", ("A",)], ids=repr)
def test_an_answer_that_is_no_state_is_named(answer: Any) -> None:
    class Wrong(MemoryStorage):
        def get(self, key: str, sender: str) -> str:
            return answer  # type: ignore[no-any-return]  # what a careless storage does

    with pytest.raises(StoreError, match=r"Wrong\.get gave .* it must give the name of a state"):
        as_storage(Wrong()).get("m", "ann@x")


class _Half(StateStorage):
    def get(self, key: str, sender: str) -> str:
        return "START"


class _Async(MemoryStorage):
    async def get(self, key: str, sender: str) -> str:  # type: ignore[override]  # what is to be refused
        return "START"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (MemoryStorage, "is a class"),
        (object(), "no method get"),
        (_Half(), "no method set"),
        (_Async(), "is a coroutine"),
        ({}, "no method set"),
    ],
    ids=lambda item: str(item)[:20],
)
def test_what_is_no_storage_is_refused_at_the_start(wrong: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        as_storage(wrong)


# -- a store as a storage -----------------------------------------------------------------------------------------


def with_states(body: Callable[[StoreStates, Lab], Any]) -> None:
    async def whole() -> None:
        store = MemoryStore()
        lab = Lab(lambda place: store, Path(), None)
        await store.open()
        await body(StoreStates(store, lambda: lab.now), lab)
        await store.close()

    asyncio.run(whole())


@pytest.mark.rule("state.R6", "state.R7", "state.R8", "state.R9", "state.B20")
def test_a_store_has_the_three_methods() -> None:
    async def body(states: StoreStates, lab: Lab) -> None:
        assert await states.get("m", "ann@x") == "START"
        await states.set("m", "ann@x", "A")
        assert await states.get("m", "ann@x") == "A"
        await states.set("m", "ann@x", "START")
        assert await states.count() == 0
        await states.set("m", "bob@x", "B")
        with pytest.raises(UsageError, match="yes=True"):
            await states.clear()
        assert await states.get("m", "bob@x") == "B"
        await states.clear(yes=True)
        assert await states.get("m", "bob@x") == "START"

    with_states(body)


@pytest.mark.rule("state.B8", "state.B7")
def test_states_can_be_listed_filtered_counted_deleted_and_renamed() -> None:
    async def body(states: StoreStates, lab: Lab) -> None:
        for number, (key, sender) in enumerate([("m", "ann@x"), ("m", "bob@x"), ("n", "ann@x"), ("\ud800", "zoë@x")]):
            lab.now = NOW + number
            await states.set(key, sender, f"S{number % 2}")
        assert await states.count() == 4
        assert [row.sender for row in await states.scan(key="m")] == ["ann@x", "bob@x"]
        assert [row.key for row in await states.scan(sender="ann@x", state="S0")] == ["m", "n"]
        assert [row.key for row in await states.scan(older_than=NOW + 1.0)] == ["m"]
        assert [row.since for row in await states.scan(key="\ud800")] == [NOW + 3]
        assert len(await states.scan(limit=2)) == 2
        assert await states.rename("m", "S0", "RENAMED") == 1
        assert await states.get("m", "ann@x") == "RENAMED"
        assert await states.set_all("ann@x", "BOUNCING") == 2
        await states.delete("n", "ann@x")
        await states.delete("n", "ann@x")
        assert await states.get("n", "ann@x") == "START"
        assert await states.count() == 3

    with_states(body)


@pytest.mark.rule("state.B6")
def test_an_error_keeps_the_state_before_it_with_reason_message_and_time() -> None:
    async def body(states: StoreStates, lab: Lab) -> None:
        await lab.converse("ASKED")
        await lab.accept()
        row = await lab.claim_one()
        lab.now += 5.0
        await lab.done(row, "dead", to="ERROR", handler="machine:ERROR", reason="ValueError: no", detail="Traceback")
        (stored,) = await states.scan(state="ERROR")
        assert (stored.previous, stored.reason, stored.message, stored.since) == (
            "ASKED",
            "ValueError: no",
            row.id,
            lab.now,
        )
        await states.set("machine", "ann@example.net", "ERROR")
        assert (await states.scan())[0].previous == "ASKED"

    with_states(body)


@pytest.mark.rule("state.B8")
def test_a_conversation_has_a_history() -> None:
    async def body(states: StoreStates, lab: Lab) -> None:
        for to in ("A", "B", "C"):
            await lab.converse(to)
        await lab.converse("X", "bob@x")
        past = await states.history("machine", "ann@example.net", limit=2)
        assert [(turn.before, turn.after, turn.handler) for turn in past] == [
            ("A", "B", "machine:START"),
            ("B", "C", "machine:START"),
        ]
        assert past[0].turn < past[1].turn
        assert (await states.value("machine", "bob@x")).version > 0

    with_states(body)


def test_keys_of_a_facade_are_those_of_the_store() -> None:
    async def body(states: StoreStates, lab: Lab) -> None:
        await states.set("m", "", "SHARED")
        pair = StateKey("m", "")
        assert (await lab.store.read_states([pair]))[pair].state == "SHARED"

    with_states(body)
