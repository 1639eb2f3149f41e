"""Capability addresses: what was sealed is read again, and nothing else is."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from monsal.errors import CapabilityError, RouteError
from monsal.routing import Capability, compile_pattern, days, hours, literal

KEYS = {3: b"k" * 32, 4: b"l" * 32}
HOST = "example.com"


class Order(msgspec.Struct, frozen=True):
    id: int
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Invoice:
    id: int
    note: str = ""


kinds = st.builds(
    Capability, st.sampled_from([Order, Invoice]), once=st.booleans(), bound=st.booleans(), ttl=st.floats(1, days(400))
)
numbers = st.integers(-(2**31), 2**31)


def seal(kind: Capability, number: int, note: str = "", *, key: int = 3, host: str = HOST, now: float = 1e9) -> str:
    value = kind.kind(number, note)
    return kind.seal(value, key=(key, KEYS[key]), host=host, now=now, nonce=b"\1\2\3\4", correspondent="a@b.example")


@given(kind=kinds, number=numbers, note=st.text(max_size=20), now=st.floats(0, 4e9))
def test_what_was_sealed_is_read_in_any_case_of_letters(kind: Capability, number: int, note: str, now: float) -> None:
    text = seal(kind, number, note, now=now)

    for written in (text, text.upper(), text.swapcase().title()):
        opened = kind.open(written, secret_of=KEYS.get, host=HOST)
        assert opened.value == kind.kind(number, note)
        assert opened.expires == min(int(now + kind.ttl), 2**32 - 1)
        assert bool(opened.mark) == kind.bound


@given(kind=kinds, number=numbers, data=st.data())
def test_no_change_of_a_character_is_read(kind: Capability, number: int, data: st.DataObject) -> None:
    text = seal(kind, number)
    place = data.draw(st.integers(0, len(text) - 1))
    sign = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567018=\u017f\u212a\u0131 ") | st.characters())
    changed = text[:place] + sign + text[place + 1 :]
    assume(changed.lower() != text or not changed.isascii())

    with pytest.raises(CapabilityError):
        kind.open(changed, secret_of=KEYS.get, host=HOST)


@given(kind=kinds, number=numbers, bit=st.integers(0, 8 * 15))
def test_no_change_of_a_bit_is_read(kind: Capability, number: int, bit: int) -> None:
    text = seal(kind, number).upper()
    raw = bytearray(base64.b32decode(text + "=" * (-len(text) % 8)))
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    changed = base64.b32encode(raw).decode().rstrip("=").lower()

    with pytest.raises(CapabilityError):
        kind.open(changed, secret_of=KEYS.get, host=HOST)


@given(kind=kinds, text=st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567", max_size=64) | st.text())
def test_nothing_that_somebody_makes_up_is_read(kind: Capability, text: str) -> None:
    with pytest.raises(CapabilityError):
        kind.open(text, secret_of=KEYS.get, host=HOST)


@given(number=numbers, cut=st.integers(1, 30))
def test_no_shorter_or_longer_text_is_read(number: int, cut: int) -> None:
    kind = Capability(Order)
    text = seal(kind, number)
    for changed in (text[:-cut], text[cut:], text + "a" * cut, text + "=" * cut, "a" * cut + text):
        with pytest.raises(CapabilityError):
            kind.open(changed, secret_of=KEYS.get, host=HOST)


@given(number=numbers)
def test_another_purpose_host_or_key_reads_nothing(number: int) -> None:
    text = seal(Capability(Order), number)
    for kind, host, keys in (
        (Capability(Invoice), HOST, KEYS),
        (Capability(Order, purpose="Order2"), HOST, KEYS),
        (Capability(Order), "example.org", KEYS),
        (Capability(Order), HOST, {3: KEYS[4]}),
        (Capability(Order), HOST, {4: KEYS[3]}),
    ):
        with pytest.raises(CapabilityError):
            kind.open(text, secret_of=keys.get, host=host)


def test_one_that_has_become_stricter_does_not_read_what_the_laxer_one_made() -> None:
    with pytest.raises(CapabilityError, match="not bound"):
        Capability(Order, bound=True).open(seal(Capability(Order), 1), secret_of=KEYS.get, host=HOST)
    assert Capability(Order).open(seal(Capability(Order, bound=True), 1), secret_of=KEYS.get, host=HOST).mark


def test_a_value_that_the_type_does_not_take_any_more_is_refused() -> None:
    class Strict(msgspec.Struct):
        id: int

        def __post_init__(self) -> None:
            if self.id > 5:
                raise ValueError("too big")

    kind = Capability(Strict, purpose="x")
    lax = Capability(Order, purpose="x")
    assert kind.open(_of(kind, 3), secret_of=KEYS.get, host=HOST)
    with pytest.raises(CapabilityError, match="no x any more"):
        kind.open(seal(lax, 3, "two fields"), secret_of=KEYS.get, host=HOST)


def _of(kind: Capability, number: int) -> str:
    return kind.seal(kind.kind(number), key=(3, KEYS[3]), host=HOST, now=1e9, nonce=b"", correspondent="a@b.example")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Capability(int), "no msgspec.Struct"),
        (lambda: Capability(Order, ttl=0), "ttl"),
        (lambda: Capability(Order, ttl=days(401)), "ttl"),
        (lambda: Capability(Order, ttl="30 days"), "ttl"),
        (lambda: Capability(Order, purpose=""), "purpose"),
    ],
)
def test_a_wrong_declaration_is_told_at_once(make: Callable[[], object], words: str) -> None:
    with pytest.raises(RouteError, match=words):
        make()


def test_a_bound_one_needs_to_know_for_whom() -> None:
    kind = Capability(Order, bound=True)
    with pytest.raises(CapabilityError, match="none is named"):
        kind.seal(Order(1), key=(3, KEYS[3]), host=HOST, now=0, nonce=b"")


@pytest.mark.parametrize("value", [Order(2**70), Invoice(1)])
def test_what_cannot_be_put_into_it_is_told(value: object) -> None:
    with pytest.raises(CapabilityError):
        Capability(Order).seal(value, key=(3, KEYS[3]), host=HOST, now=0, nonce=b"")


def test_it_is_a_capture_like_others() -> None:
    captures = {"cap": Capability(Order), "host": literal(HOST)}
    pattern = compile_pattern("r+(cap)@(host)", captures)
    address = pattern.fill({"cap": seal(Capability(Order), 7)})

    assert pattern.match(address) == {"cap": seal(Capability(Order), 7), "host": HOST}
    assert pattern.match("r+short@example.com") is None
    other = compile_pattern("r+(cap)@(host)", {**captures, "cap": Capability(Invoice)})
    assert pattern.identity != other.identity
    with pytest.raises(RouteError, match="cap"):
        pattern.fill({})
    assert hours(2) == 7200
