"""Programs that answer each other stop by themselves (DESIGN 4, *Loops*); each rule alone, so that it can fail."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from monsal.conversation.policy import MAX_HOPS, is_ping_pong
from monsal.store.budget import ReplyBudget
from monsal.testing import TestClient

Make = Callable[[str], ModuleType]
Play = Callable[..., TestClient]

ANN, BOB, DESK = "ann@example.net", "bob@example.net", "desk@example.com"

DESK_CODE = """
    @route("desk@(host)")
    def START(message):
        calls.append(message.subject)
        reply("Hello")
"""

STUBBORN = """
    @route("desk@(host)")
    def START(message):
        reply("Hello", even_if_automatic=True)
        send("boss@example.net", subject="for you", text="x")
"""


def notes(mail: TestClient) -> list[str]:
    return [note for (note,) in mail.query("SELECT note FROM monsal_history ORDER BY id")]


def test_what_leaves_counts_the_programs_before_it(module: Make, play: Play) -> None:
    mail = play(module(DESK_CODE))
    mail.deliver("hi", to=DESK, sender=ANN)
    assert mail.sent[0].message["X-Monsal-Hops"] == "1"
    mail.deliver("hi", to=DESK, sender=ANN, headers={"X-Monsal-Hops": "4"})
    assert mail.sent[1].message["X-Monsal-Hops"] == "5"


def test_a_handler_that_answers_machines_stops_too(module: Make, play: Play) -> None:
    """Two programs that both override the rules answer each other a few times, and then no more."""
    mail = play(module(STUBBORN))
    hops = 0
    for _ in range(MAX_HOPS + 3):
        before = len(mail.sent_to(ANN))
        mail.deliver("hi", to=DESK, sender=ANN, headers={"X-Monsal-Hops": str(hops), "Precedence": "bulk"})
        if len(mail.sent_to(ANN)) > before:
            hops = int(mail.sent_to(ANN)[-1].message["X-Monsal-Hops"]) + 1
    # Theirs count as well: each of ours is followed by one of theirs.
    assert len(mail.sent_to(ANN)) == MAX_HOPS / 2
    # Nobody else gets a mail of it either.
    assert len(mail.sent) == MAX_HOPS
    assert notes(mail)[-1].startswith(f"mail to {ANN} suppressed: {MAX_HOPS} programs have answered each other")


def ping_pong(mail: TestClient, rounds: int, *, seconds: float = 1.0) -> None:
    for number in range(rounds):
        mail.deliver(f"hi {number}", to=DESK, sender=ANN, subject=str(number))
        mail.advance(seconds=seconds)


def test_mails_that_look_human_and_come_at_once_are_parked(module: Make, play: Play) -> None:
    desk = module(DESK_CODE)
    mail = play(desk)
    ping_pong(mail, 14)
    assert len(mail.sent) == 10
    first = mail.rows("queue")[0]
    assert first["state"] == "held"
    assert first["reason"] == "ann@example.net looks like another program: 10 answers in a row came at once"
    # All of it is there for somebody to look at, and nobody else waits for it.
    assert len(mail.rows("queue")) == 4
    mail.deliver("hi", to=DESK, sender=BOB)
    assert len(mail.sent_to(BOB)) == 1
    # Not a turn of it was committed: released later, it is answered.
    assert len(notes(mail)) == 11
    mail.advance(hours=2)
    assert mail.release(ANN) == 1
    assert len(mail.sent_to(ANN)) == 14


def test_a_person_who_writes_much_is_not_parked(module: Make, play: Play) -> None:
    mail = play(module(DESK_CODE))
    ping_pong(mail, 12, seconds=90)
    assert len(mail.sent) == 10
    assert mail.rows("queue") == []
    assert "10 mails went to this correspondent within an hour" in notes(mail)[-1]


def test_without_a_limit_nothing_is_parked(module: Make, play: Play) -> None:
    mail = play(module(DESK_CODE), max_replies_per_hour="none")
    ping_pong(mail, 30)
    assert len(mail.sent) == 30


def test_one_correspondent_cannot_park_a_queue_that_all_share(module: Make, play: Play) -> None:
    mail = play(
        module(
            """
            @state_key_generator(shared=True)
            def key(module, message):
                return "one"

            @route("desk@(host)")
            def START(message):
                reply("Hello")
            """
        )
    )
    ping_pong(mail, 13)
    assert mail.rows("queue") == []
    mail.deliver("hi", to=DESK, sender=BOB)
    assert len(mail.sent_to(BOB)) == 1


def test_an_answer_is_quick_only_after_a_mail_of_ours() -> None:
    budget = ReplyBudget()
    assert budget.arrived(ANN, 100.0) == 0
    budget.add(ANN, 100.0)
    assert budget.arrived(ANN, 130.0) == 1
    budget.add(ANN, 131.0)
    assert budget.arrived(ANN, 190.0) == 2
    # Looked at again: somebody released it.
    assert budget.arrived(ANN, 190.0) == 0
    budget.add(ANN, 200.0)
    assert budget.arrived(ANN, 261.0) == 0


def test_when_it_is_a_ping_pong() -> None:
    fine = {"quick": 10, "replies": 10, "limit": 10, "lease_key": ANN}
    assert is_ping_pong(**fine)
    assert not is_ping_pong(**{**fine, "quick": 9})
    assert not is_ping_pong(**{**fine, "replies": 9})
    assert not is_ping_pong(**{**fine, "limit": None})
    assert not is_ping_pong(**{**fine, "limit": 0, "replies": 0, "quick": 0})
    assert not is_ping_pong(**{**fine, "lease_key": "@desk@example.com"})


@pytest.mark.parametrize(
    ("sender", "envelope_sender", "head"),
    [
        (ANN, "", ""),
        (ANN, "MAILER-DAEMON@example.net", ""),
        ("Mailer-Daemon@example.net", ANN, ""),
        (ANN, ANN, "X-Failed-Recipients: bob@example.net\r\n"),
        (ANN, ANN, 'Content-Type: multipart/report; report-type=delivery-status; boundary="x"\r\n'),
    ],
)
def test_a_bounce_to_an_ordinary_address_gets_no_answer(
    module: Make, play: Play, sender: str, envelope_sender: str, head: str
) -> None:
    desk = module(DESK_CODE)
    mail = play(desk)
    raw = f"From: {sender}\r\n{head}Subject: x\r\n\r\nhi\r\n".encode()
    mail.deliver(to=DESK, sender=sender, envelope_sender=envelope_sender, raw=raw)
    assert desk.calls == ["x"]
    assert mail.sent == []
    assert "suppressed: the message is automatic" in notes(mail)[-1]
