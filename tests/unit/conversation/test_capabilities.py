"""Capability addresses in an application: handed out in one turn, verified at RCPT and before another one."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from monsal.conversation.keys import Keyring, rotate_keys
from monsal.errors import ConfigError
from monsal.smtp.replies import Refused
from monsal.store.contract import Ack, Conflict, TurnCommit
from monsal.store.identity import Consumed, Identity
from monsal.testing import TestClient

Make = Callable[[str], ModuleType]
Play = Callable[..., TestClient]

ANN, BOB, DESK = "ann@example.net", "bob@example.net", "desk@example.com"

ORDERS = """
import msgspec

class OrderReply(msgspec.Struct):
    id: int

class Invoice(msgspec.Struct):
    id: int

made = []
mended = []

@route("desk@(host)")
def START(message):
    made.append(current().address_for(OrderReply(id=7)))

@route("r+(cap)@(host)", cap=Capability(OrderReply, ttl=days(2), {options}))
@stateless
def ANSWERED(message, cap):
    if message.subject == "fail" and not mended:
        raise ValueError("as asked")
    calls.append(cap)

@route("i+(cap)@(host)", cap=Capability(Invoice))
@stateless
def PAID(message, cap):
    calls.append(cap)
"""


def orders(module: Make, options: str = "") -> ModuleType:
    return module(ORDERS.replace("{options}", options))


def address(desk: ModuleType, mail: TestClient, who: str = ANN) -> str:
    mail.deliver("hi", to=DESK, sender=who)
    return str(desk.made[-1])


def reasons(mail: TestClient) -> list[str]:
    return [str(row["reason"]) for row in mail.rows("dead")]


def test_a_handler_gets_the_value_that_was_put_into_the_address(module: Make, play: Play) -> None:
    desk = orders(module)
    mail = play(desk)
    given = address(desk, mail)

    for written in (given, given.upper(), given.title()):
        mail.deliver("yes", to=written, sender=BOB)

    assert desk.calls == [desk.OrderReply(id=7)] * 3
    assert len(given.partition("@")[0]) <= 64


def test_a_forged_one_is_refused_at_rcpt(module: Make, play: Play) -> None:
    desk = orders(module)
    mail = play(desk)
    given = address(desk, mail)
    other = "a" if given[10] != "a" else "b"

    for forged in (given[:10] + other + given[11:], given.replace("r+", "i+"), f"r+{'a' * 40}@example.com"):
        with pytest.raises(Refused) as caught:
            mail.deliver("yes", to=forged, sender=ANN)
        assert (caught.value.reply.code, caught.value.reply.enhanced) == (550, "5.1.1")
    assert desk.calls == []


def test_it_expires(module: Make, play: Play) -> None:
    desk = orders(module)
    mail = play(desk)
    given = address(desk, mail)
    mail.advance(days=1.9)
    mail.deliver("in time", to=given, sender=ANN)
    mail.advance(days=0.2)

    with pytest.raises(Refused):
        mail.deliver("too late", to=given, sender=ANN)
    assert len(desk.calls) == 1


def test_what_was_valid_when_it_was_accepted_stays_so(module: Make, play: Play) -> None:
    """A dead letter is replayed when its cause was mended, however long that takes."""
    desk = orders(module, "once=True")
    mail = play(desk)
    given = address(desk, mail)
    mail.deliver("yes", to=given, sender=ANN, subject="fail")
    row = mail.rows("dead")[0]["id"]
    mail.advance(days=30)
    desk.mended.append(True)
    mail.replay(row)

    assert desk.calls == [desk.OrderReply(id=7)]


def test_once_is_once_and_a_failure_uses_nothing_up(module: Make, play: Play) -> None:
    desk = orders(module, "once=True")
    mail = play(desk)
    given = address(desk, mail)

    mail.deliver("first", to=given, sender=ANN, subject="fail")
    mail.deliver("second", to=given, sender=ANN)
    mail.deliver("third", to=given.upper(), sender=ANN)
    mail.deliver("from another", to=given, sender=BOB)

    assert desk.calls == [desk.OrderReply(id=7)]
    assert [reason.split(",")[0] for reason in reasons(mail)[1:]] == ["capability: it was used before"] * 2


@pytest.mark.parametrize("later", [30, 200])
def test_a_replay_uses_nothing_again_that_was_used_long_ago(module: Make, play: Play, later: int) -> None:
    """When the store has forgotten who used an address, nobody gets it: what was used stays used."""
    desk = orders(module, "once=True")
    mail = play(desk)
    given = address(desk, mail)
    mail.deliver("yes", to=given, sender=ANN)
    mail.deliver("again", to=given, sender=BOB)
    row = mail.rows("dead")[0]["id"]

    mail.advance(days=later)
    for _ in range(2):
        mail.deliver("another one, after which old ones are forgotten", to=address(desk, mail), sender=ANN)
    mail.replay(row)

    assert len(desk.calls) == 3
    assert reasons(mail)[-1].startswith("capability: it ")


def test_two_addresses_for_one_value_are_used_each_once(module: Make, play: Play) -> None:
    desk = orders(module, "once=True")
    mail = play(desk)
    first, second = address(desk, mail), address(desk, mail)
    assert first != second

    for given in (first, second, first, second):
        mail.deliver("yes", to=given, sender=ANN)
    assert len(desk.calls) == 2


def test_a_bound_one_is_for_one_correspondent(module: Make, play: Play) -> None:
    desk = orders(module, "bound=True")
    mail = play(desk)
    given = address(desk, mail)

    mail.deliver("yes", to=given, sender=BOB)
    mail.deliver("yes", to=given, sender=ANN.upper())

    assert desk.calls == [desk.OrderReply(id=7)]
    assert reasons(mail) == ["capability: it was made for another correspondent"]


def test_another_application_s_means_nothing_here(module: Make, play: Play) -> None:
    one, other = orders(module), orders(module)
    mail = play(other)
    given = address(one, play(one))

    with pytest.raises(Refused):
        mail.deliver("yes", to=given, sender=ANN)


def test_a_value_that_does_not_fit_is_told_to_its_handler(module: Make, play: Play) -> None:
    desk = module(
        """
        import msgspec

        class Long(msgspec.Struct):
            text: str

        class Unknown(msgspec.Struct):
            text: str

        @route("desk@(host)")
        def START(message):
            current().address_for({"long": Long, "unknown": Unknown}[message.subject]("x" * 30))

        @route("l+(cap)@(host)", cap=Capability(Long))
        def LATER(message, cap): ...
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN, subject="long")
    mail.deliver("hi", to=DESK, sender=ANN, subject="unknown")

    assert "the local part has" in reasons(mail)[0]
    assert "64 are the most" in reasons(mail)[0]
    assert "no route has a Capability for Unknown" in reasons(mail)[1]


def test_a_commit_that_comes_second_is_a_conflict(module: Make, play: Play) -> None:
    """Two messages that use it at the same time: who commits first has it, the other one looks again."""
    desk = orders(module)
    mail = play(desk)
    store = mail._open_engine().store
    run = mail._run

    async def take(text: str) -> object:
        from monsal.store.contract import Accept, Recipient

        key = f"q-{text}"
        await store.accept(
            Accept(sender=ANN, correspondent=ANN, recipients=(Recipient(DESK, key),), body=(b"x",), received=1.0)
        )
        row = next(row for row in await store.claim(10, mail.clock.now(), 60.0) if row.lease_key == key)
        return await store.commit(
            TurnCommit(
                fence=row.fence,
                lease_key=key,
                message=row.id,
                now=mail.clock.now(),
                ack=Ack(kind="done"),
                identity=Identity(consumes=(Consumed("token", mail.clock.now() + 100),)),
            )
        )

    assert not isinstance(run(take("a")), Conflict)
    assert isinstance(run(take("b")), Conflict)


def test_a_clock_that_jumps_makes_nothing_valid_that_was_used(module: Make, play: Play) -> None:
    desk = orders(module, "once=True")
    mail = play(desk)
    given = address(desk, mail)
    mail.deliver("yes", to=given, sender=ANN)
    start = mail.clock.now()

    mail.advance(days=3)
    with pytest.raises(Refused):
        mail.deliver("too late", to=given, sender=ANN)
    other = address(desk, mail)
    mail.deliver("another one, after which old ones are forgotten", to=other, sender=ANN)
    mail.clock.advance(start - mail.clock.now())
    mail.deliver("set back", to=given, sender=ANN)

    assert len(desk.calls) == 2
    assert reasons(mail)[-1].startswith("capability: it was used before")


def test_a_rotation_in_between_leaves_addresses_as_they_are(module: Make, play: Play, tmp_path: Path) -> None:
    desk = orders(module)
    mail = play(desk)
    keys = Keyring(tmp_path / "keys", now=mail.clock.now, secret=lambda: b"")
    mail._open_engine().spool.capabilities.keyring = keys
    given = address(desk, mail)

    rotate_keys(tmp_path / "keys", mail.clock.now(), keep=1e6)
    mail.deliver("yes", to=given, sender=ANN)
    assert len(desk.calls) == 1
    rotate_keys(tmp_path / "keys", mail.clock.now(), keep=0.0)
    with pytest.raises(Refused):
        mail.deliver("yes", to=given, sender=ANN)
    (tmp_path / "keys").write_text("broken")
    with pytest.raises(Refused) as caught:
        mail.deliver("yes", to=given, sender=ANN)
    assert caught.value.reply.code == 451


# -- keys -----------------------------------------------------------------------------------------------------------


def ring(path: Path) -> Keyring:
    return Keyring(path, now=lambda: 100.0, secret=lambda: b"")


def test_the_first_key_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "keys"
    one, other = ring(path), ring(path)

    assert one.signing() == other.signing()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["keys"]
    assert base64.b64encode(one.signing()[1]) in path.read_bytes()


def test_no_secret_is_shown(module: Make, play: Play, tmp_path: Path) -> None:
    """What is printed ends in log files, and in the tracebacks of dead letters."""
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            calls.append((repr(current()), repr(current().secret)))
        """
    )
    play(desk).deliver("hi", to=DESK, sender=ANN)
    ((turn, secret),) = desk.calls
    assert secret not in turn
    (key,) = ring(tmp_path / "keys").keys()
    assert repr(key.secret) not in repr(key)


def test_a_rotation_is_seen_by_who_has_the_file_open_and_old_keys_verify(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = ring(path)
    number, secret = keys.signing()

    rotate_keys(path, 200.0, keep=50.0)

    assert keys.signing()[0] != number
    assert keys.secret_of(number) == secret
    # The first one stopped signing at 200: what it signed last has expired 50 seconds later.
    rotate_keys(path, 249.0, keep=50.0)
    assert keys.secret_of(number) == secret
    rotate_keys(path, 251.0, keep=50.0)
    assert keys.secret_of(number) is None
    rotate_keys(path, 252.0, keep=0.0)
    assert len(keys.keys()) == 1


def test_ids_go_round(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for step in range(600):
        keys = rotate_keys(path, float(step), keep=3.5)
    assert len({key.id for key in keys}) == len(keys) == 5
    assert all(0 <= key.id < 256 for key in keys)


@pytest.mark.parametrize("text", ["", "{}", '{"keys": [], "version": 1}', '{"keys": 5}', '{"version": 2, "keys": []}'])
def test_a_broken_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ConfigError, match="capability addresses"):
        ring(path).keys()
