"""A conversation as a play, and the fakes around it: what they say when all is well, and when it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import play_desk
import pytest
from play_desk import BOB

from monsal import App, literal
from monsal.errors import StatementError
from monsal.smtp.replies import Refused
from monsal.testing import FakeRelay, TestClient, client

ANN = "ann@example.net"
DESK = "desk@example.com"


@pytest.fixture
def app() -> App:
    play_desk.handled.clear()
    return App(play_desk, captures={"host": literal("example.com")})


@pytest.fixture(params=["memory:", "sqlite"])
def mail(app: App, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestClient]:
    with client(app, store=request.param, directory=tmp_path) as mail:
        yield mail


def test_a_play_of_two(mail: TestClient) -> None:
    ann, bob = mail.conversation(ANN), mail.conversation(BOB)
    ann.say(DESK, "Hello").expect("What would you like", subject="Your order", sender=DESK).expect_state("CHOOSING")
    bob.expect_nothing().say(DESK, "Me too").expect(re.compile("what would", re.IGNORECASE))
    ann.answer("tea").expect("One tea", attachments=["bill.txt"], headers={"X-Order": "7"}).expect_state("START")
    assert ann.last is not None
    assert ann.last.attachments[0].data == b"4.50"
    assert ann.last["In-Reply-To"]
    bob.expect("wants tea", subject="An order").expect_state("CHOOSING").expect_nothing()
    ann.expect_nothing()
    ann.refused("nobody@example.com", "Hello?")


@pytest.mark.rule("mailbox.B17")
def test_time_passes_and_timers_happen_in_their_order(mail: TestClient) -> None:
    ann = mail.conversation(ANN)
    ann.say(DESK, "Hello").expect("like").wait(hours=23).expect_nothing()
    ann.wait(hours=1).expect("still there").wait(days=7).expect("Come back").expect_nothing().expect_state("START")
    # At once, too: both happen, each at its own time.
    ann.say(DESK, "Hello").expect("like").wait(days=30).expect("still there").expect("Come back").expect_nothing()


def test_what_goes_wrong_is_told_with_all_that_was_said(mail: TestClient) -> None:
    ann = mail.conversation(ANN)
    with pytest.raises(AssertionError, match="no mail was expected yet"):
        ann.answer("tea")
    with pytest.raises(AssertionError, match="no turn was committed"):
        ann.expect_state("START")
    with pytest.raises(Refused):
        ann.say("nobody@example.com", "Hello")
    with pytest.raises(AssertionError, match="was taken"):
        ann.refused(DESK, "Hello")
    with pytest.raises(AssertionError, match=r"has no 'coffee': 'What would you like\?'\nso far:\n(.*\n)*.*: Hello"):
        ann.expect("coffee")
    with pytest.raises(AssertionError, match="no mail came where one was expected with /tea/"):
        ann.expect(re.compile("tea"))
    with pytest.raises(AssertionError, match="is in CHOOSING, not in START"):
        ann.expect_state("START")
    for wrong in ({"subject": "x"}, {"sender": BOB}, {"html": "x"}, {"attachments": ["a"]}, {"headers": {"X": "y"}}):
        again = mail.conversation(ANN)
        again._seen = 0
        with pytest.raises(AssertionError, match="so far"):
            again.expect(**wrong)  # type: ignore[arg-type]  # one of several
    ann.answer("a bomb")
    with pytest.raises(AssertionError, match=r"(?s)no mail came.*dead letters:.*we sell no bombs"):
        ann.expect()
    ann.expect_dead("no bombs")
    with pytest.raises(AssertionError, match="no dead letter"):
        ann.expect_dead("for another reason")
    mail.conversation(BOB).say(DESK, "Hello")
    with pytest.raises(AssertionError, match="where none was expected"):
        mail.conversation(BOB).say(DESK, "tea").expect("One tea").expect_nothing()


def test_one_conversation_opens_and_closes_its_client(app: App) -> None:
    with client(app).conversation(ANN) as ann:
        ann.say(DESK, "Hello").expect("like")
    assert not ann.client.is_open


def test_a_relay_that_defers_fails_and_is_down(mail: TestClient) -> None:
    ann, relay = mail.conversation(ANN), mail.relay
    relay.defer("ann@*", times=2)
    ann.say(DESK, "Hello").expect_nothing()
    assert mail.rows("outbox")[0]["state"] == "deferred"
    ann.wait(hours=12).expect("like")
    assert [type(outcome).__name__ for _, outcome in relay.tried[:3]] == ["Deferred", "Deferred", "Delivered"]
    ann.expect("still there") if ann.unread else None
    relay.fail(BOB)
    ann.answer("tea").expect("One tea")
    mail.conversation(BOB).expect_nothing()
    (failed,) = mail.rows("outbox")
    assert (failed["recipient"], failed["state"], failed["reason"]) == (BOB, "failed", "550 5.1.1 no such user")
    relay.down(times=2)
    ann.say(DESK, "Again").expect_nothing().wait(hours=1).expect("like")


def test_a_relay_that_hangs_holds_nothing_else_up(mail: TestClient) -> None:
    ann = mail.conversation(ANN)
    mail.relay.hang()
    ann.say(DESK, "Hello").expect_nothing().expect_state("CHOOSING")
    mail.conversation(BOB).say(DESK, "Hello")
    assert play_desk.handled == [ANN, BOB]
    assert mail.sent == []
    mail.relay.release()
    mail.settle()
    ann.expect("like")
    mail.conversation(BOB)
    assert len(mail.sent_to(BOB)) == 1


def test_what_hangs_at_the_end_is_given_up(app: App) -> None:
    relay = FakeRelay()
    relay.hang()
    with client(app, relay=relay).conversation(ANN) as ann:
        ann.say(DESK, "Hello").expect_nothing()
    assert relay.mails == []


@pytest.mark.rule("mailbox.B17")
@pytest.mark.parametrize("store", ["memory:", "sqlite"])
def test_a_seed_decides_the_order_and_nothing_else(app: App, tmp_path: Path, store: str) -> None:
    """The same seed: the same order. Whatever the order, each conversation ends where it would alone."""
    people = [f"p{number}@example.net" for number in range(6)]

    def run(seed: int) -> list[str]:
        play_desk.handled.clear()
        with client(app, store=store, seed=seed, directory=tmp_path) as mail:
            with mail.together():
                for person in people:
                    mail.deliver("Hello", to=DESK, sender=person)
                    mail.deliver("hi", to="log@example.com", sender=person)
                assert play_desk.handled == []
            assert {mail.state_of(person, play_desk) for person in people} == {"CHOOSING"}
            assert mail.rows("queue") == []
        return list(play_desk.handled)

    orders = [run(seed) for seed in range(4)]
    assert orders == [run(seed) for seed in range(4)]
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == sorted(orders[0]) for order in orders)


def test_tables_are_prepared_under_the_rules_of_a_turn(tmp_path: Path) -> None:
    app = App(play_desk, captures={"host": literal("example.com")}, tables="create table t (a int) strict")
    with client(app, directory=tmp_path) as mail:
        mail.write("insert into t values (?), (?)", (1, 2))
        assert mail.query("select a from t") == [(1,), (2,)]
        with pytest.raises(StatementError):
            mail.write("delete from monsal_spool")
