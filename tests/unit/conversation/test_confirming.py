"""Who is not proved is asked: the message waits, the answer releases it, and nobody else can."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from monsal.smtp.replies import Refused
from monsal.testing import SentMail, TestClient

Make = Callable[[str], ModuleType]
Play = Callable[..., TestClient]

ANN, BOB, DESK = "ann@example.net", "bob@example.net", "desk@example.com"

HANDLERS = """
@route("desk@(host)")
@requires_authenticated
def START(message):
    calls.append((message.subject, message.sender, message.auth.method))
    reply("done")
    return LATER

@route("desk@(host)")
def LATER(message):
    calls.append((message.subject, "LATER", message.auth.method))
"""


@pytest.fixture
def desk(module: Make) -> ModuleType:
    return module(HANDLERS)


def asked(mail: TestClient, who: str = ANN) -> list[SentMail]:
    return [sent for sent in mail.sent_to(who) if sent.subject.startswith("Please confirm")]


def address(sent: SentMail) -> str:
    return str(sent.message["reply-to"])


def said_of(results: str) -> bytes:
    """A mail in Ann's name, with what a border found out about it."""
    return f"Authentication-Results: {results}\r\nFrom: {ANN}\r\nTo: {DESK}\r\n\r\nplease\r\n".encode()


def counts(mail: TestClient) -> dict[str, int]:
    ledger = mail._run(mail._open_engine().store.ledger())["mail"]
    return {name: getattr(ledger, name) for name in ("done", "waiting", "held", "dead", "dropped")}


def test_the_answer_releases_the_message(desk: ModuleType, play: Play) -> None:
    mail = play(desk)

    mail.deliver("please", to=DESK, sender=ANN, subject="order")

    assert desk.calls == []
    assert counts(mail) == {"done": 0, "waiting": 0, "held": 1, "dead": 0, "dropped": 0}
    assert mail.rows("queue")[0]["reason"] == "waits for ann@example.net to confirm it"
    (question,) = asked(mail)
    assert question.sender == ""
    assert question.message["auto-submitted"] == "auto-replied"
    assert "order" in question.text

    mail.deliver("yes", to=address(question).upper(), sender=ANN, in_reply_to=question)

    assert desk.calls == [("order", ANN, "confirmed")]
    assert mail.state_of(ANN, desk) == "LATER"
    assert counts(mail) == {"done": 2, "waiting": 0, "held": 0, "dead": 0, "dropped": 0}


def test_nobody_else_can_and_nobody_twice(desk: ModuleType, play: Play) -> None:
    mail = play(desk)
    mail.deliver("please", to=DESK, sender=ANN, subject="order")
    given = address(asked(mail)[0])

    mail.deliver("yes", to=given, sender=BOB)
    mail.deliver("I am away", to=given, sender=ANN, headers={"X-Autoreply": "yes"})
    assert desk.calls == []
    mail.deliver("yes", to=given, sender=ANN)
    mail.deliver("yes again", to=given, sender=ANN)

    assert len(desk.calls) == 1
    assert [row["reason"] for row in mail.rows("dead")] == [
        "confirmation: it was made for another correspondent",
        "confirmation: it was sent by a machine (X-Autoreply)",
        "confirmation: message 1 does not wait for it (any more)",
    ]
    # What somebody put together is refused before it is stored.
    with pytest.raises(Refused):
        mail.deliver("yes", to=given.replace("@", "a@"), sender=ANN)
    with pytest.raises(Refused):
        mail.deliver("yes", to=f"confirm+{'a' * 48}@example.com", sender=ANN)


def test_what_is_not_confirmed_in_time_is_dropped(desk: ModuleType, play: Play) -> None:
    mail = play(desk, confirm_within=86400)
    mail.deliver("please", to=DESK, sender=ANN)
    given = address(asked(mail)[0])

    mail.advance(hours=25)

    assert counts(mail)["dropped"] == 1
    assert counts(mail)["held"] == 0
    with pytest.raises(Refused):
        mail.deliver("yes", to=given, sender=ANN)
    assert desk.calls == []


def test_who_is_proved_does_not_wait_behind_a_forged_message(desk: ModuleType, play: Play) -> None:
    """Else anybody could stop anybody's conversation by a mail in their name."""
    mail = play(desk)
    mail.deliver("forged", to=DESK, sender=ANN, subject="forged")

    mail.deliver("mine", to=DESK, sender=ANN, subject="mine", user=ANN)

    assert desk.calls == [("mine", ANN, "smtp")]
    # Released after all, it takes its turn in the state that there is now: an earlier one does not come back.
    mail.deliver("yes", to=address(asked(mail)[0]), sender=ANN)
    assert desk.calls[1:] == [("forged", "LATER", "confirmed")]


def test_each_message_is_confirmed_by_itself(desk: ModuleType, play: Play) -> None:
    mail = play(desk)
    mail.deliver("one", to=DESK, sender=ANN, subject="one")
    mail.deliver("two", to=DESK, sender=ANN, subject="two")
    first, second = asked(mail)

    mail.deliver("yes", to=address(second), sender=ANN)
    assert [call[0] for call in desk.calls] == ["two"]
    mail.deliver("yes", to=address(first), sender=ANN)
    assert [call[0] for call in desk.calls] == ["two", "one"]


@pytest.mark.parametrize(
    "given",
    [
        {"envelope_sender": ""},
        {"headers": {"List-Id": "<x.example>"}},
        {"headers": {"X-Autoreply": "yes"}},
        {"headers": {"Precedence": "bulk"}},
        {"sender": DESK},
    ],
)
def test_no_machine_is_asked(desk: ModuleType, play: Play, given: dict[str, Any]) -> None:
    mail = play(desk)

    mail.deliver("please", **{"to": DESK, "sender": ANN, **given})

    assert mail.sent == []
    assert counts(mail)["dead"] == 1
    assert str(mail.rows("dead")[0]["reason"]).count("not_authenticated") == 1


@pytest.mark.parametrize(
    ("results", "why"),
    [
        (
            "dmarc=fail header.from=example.net",
            "DMARC fails for example.net (authentication-results of mx.example.com)",
        ),
        ("dmarc=none header.from=example.net; spf=fail smtp.mailfrom=x@example.net", "SPF fails for example.net"),
        ("dkim=fail header.d=example.net; spf=pass smtp.mailfrom=x@elsewhere.example", "DKIM fails for example.net"),
    ],
)
def test_nobody_is_asked_about_what_their_domain_denies(desk: ModuleType, play: Play, results: str, why: str) -> None:
    mail = play(desk, authserv_id="mx.example.com")

    mail.deliver(to=DESK, sender=ANN, raw=said_of(f"mx.example.com; {results}"))

    assert mail.sent == []
    assert counts(mail) == {"done": 0, "waiting": 0, "held": 1, "dead": 0, "dropped": 0}
    assert f"waits, and nobody is asked: {why}" in str(mail.rows("queue")[0]["reason"])
    mail.advance(days=4)
    assert counts(mail)["dropped"] == 1


@pytest.mark.parametrize(
    "results",
    [
        "dmarc=none header.from=example.net; spf=softfail smtp.mailfrom=x@example.net",
        "spf=fail smtp.mailfrom=x@elsewhere.example; dkim=fail header.d=elsewhere.example",
        "dmarc=temperror header.from=example.net",
    ],
)
def test_who_is_neither_proved_nor_denied_is_asked(desk: ModuleType, play: Play, results: str) -> None:
    mail = play(desk, authserv_id="mx.example.com")
    mail.deliver(to=DESK, sender=ANN, raw=said_of(f"mx.example.com; {results}"))
    assert len(asked(mail)) == 1


def test_the_word_of_a_stranger_denies_nothing(desk: ModuleType, play: Play) -> None:
    mail = play(desk, authserv_id="mx.example.com")
    mail.deliver(to=DESK, sender=ANN, raw=said_of("evil.example; dmarc=fail"))
    assert len(asked(mail)) == 1


def test_all_together_are_asked_so_often_in_an_hour(
    desk: ModuleType, play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger who forges many names has us write to so many of them."""
    mail = play(desk, max_questions_per_hour=3)
    for number in range(8):
        mail.deliver("please", to=DESK, sender=f"victim{number}@example.net")

    assert len(mail.sent) == 3
    assert counts(mail) == {"done": 0, "waiting": 0, "held": 8, "dead": 0, "dropped": 0}
    reasons = [str(row["reason"]) for row in mail.rows("queue")]
    assert sum("nobody is asked: too many questions were asked within the hour" in reason for reason in reasons) == 5
    lines = [record for record in caplog.records if getattr(record, "action", "") == "questions_used_up"]
    assert len(lines) == 1

    # Those who were asked can answer, and who waits unasked is asked when somebody says so.
    mail.deliver("yes", to=address(mail.sent[0]), sender="victim0@example.net")
    assert desk.calls == [("(no subject)", "victim0@example.net", "confirmed")]
    mail.advance(minutes=61)
    number = next(row["id"] for row in mail.rows("queue") if "nobody is asked" in str(row["reason"]))
    assert mail.release(f"?{number}") == 1
    assert len([sent for sent in mail.sent if sent.subject.startswith("Please confirm")]) == 4
    for number in range(8, 12):
        mail.deliver("please", to=DESK, sender=f"victim{number}@example.net")
    assert len([sent for sent in mail.sent if sent.subject.startswith("Please confirm")]) == 6
    lines = [record for record in caplog.records if getattr(record, "action", "") == "questions_used_up"]
    assert len(lines) == 2


def test_with_no_questions_at_all_mail_waits_and_is_not_given_up(desk: ModuleType, play: Play) -> None:
    mail = play(desk, max_questions_per_hour=0)
    mail.deliver("please", to=DESK, sender=ANN)
    assert (mail.sent, counts(mail)["held"]) == ([], 1)
    mail = play(desk, max_questions_per_hour=None)
    for number in range(120):
        mail.deliver("please", to=DESK, sender=f"a{number}@example.net")
    assert len(mail.sent) == 120


def test_a_correspondent_has_so_many_waiting_and_no_more(desk: ModuleType, play: Play) -> None:
    mail = play(desk, max_unconfirmed=2, max_replies_per_hour=None)
    for number in range(4):
        mail.deliver("please", to=DESK, sender=ANN, subject=f"number {number}")
    mail.deliver("please", to=DESK, sender=BOB)

    assert (len(asked(mail)), len(asked(mail, BOB))) == (2, 1)
    assert (counts(mail)["held"], counts(mail)["dead"]) == (3, 2)
    assert "2 messages of ann@example.net wait for a confirmation" in str(mail.rows("dead")[0]["reason"])

    mail.deliver("yes", to=address(asked(mail)[0]), sender=ANN)
    mail.deliver("please", to=DESK, sender=ANN, subject="LATER takes anybody's")
    assert len(desk.calls) == 2


def test_addresses_of_one_mailbox_are_counted_together(desk: ModuleType, play: Play) -> None:
    """Else a stranger could have us fill the mailbox of anybody, one made-up address after the other."""
    mail = play(desk)
    for number in range(9):
        mail.deliver("please", to=DESK, sender=f"ann+{number}@example.net")
    mail.deliver("please", to=DESK, sender="+x@example.net")

    assert [len(asked(mail, f"ann+{number}@example.net")) for number in range(9)] == [1] * 5 + [0] * 4
    assert len(asked(mail, "+x@example.net")) == 1
    assert "5 messages of ann@example.net wait" in str(mail.rows("dead")[0]["reason"])


def test_nobody_is_asked_more_often_than_they_may_be_written_to(desk: ModuleType, play: Play) -> None:
    mail = play(desk, max_unconfirmed=50, max_replies_per_hour=3)
    for number in range(6):
        mail.deliver("please", to=DESK, sender=ANN, subject=f"number {number}")

    assert len(asked(mail)) == 3
    assert counts(mail)["dead"] == 3


def test_the_mail_says_what_the_application_wants_it_to(desk: ModuleType, play: Play, tmp_path: Path) -> None:
    folder = tmp_path / "templates" / "monsal"
    folder.mkdir(parents=True)
    (folder / "confirm.txt").write_text("{{ subject }}|{{ days }}|{{ message.recipient }}|{{ address }}")
    mail = play(desk)

    mail.deliver("please", to=DESK, sender=ANN, subject="order")

    assert re.match(rf"order\|3\|{DESK}\|confirm\+[a-z2-7]+@example\.com", asked(mail)[0].text)


def test_the_mail_is_signed_as_all_others(desk: ModuleType, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a null sender nothing else shows that it is ours."""
    mail = play(desk)
    worker = mail._open_engine().worker

    def sign(raw: bytes, sender: str, now: float) -> bytes:
        return b"X-Signed: for " + sender.encode() + b"\r\n" + raw

    monkeypatch.setattr(worker, "_around", msgspec.structs.replace(worker._around, sign=sign))
    mail.deliver("please", to=DESK, sender=ANN)

    assert asked(mail)[0].message["x-signed"] == f"for {DESK}"


def test_a_template_that_fails_loses_nothing(desk: ModuleType, play: Play, tmp_path: Path) -> None:
    folder = tmp_path / "templates" / "monsal"
    folder.mkdir(parents=True)
    (folder / "confirm.txt").write_text("{{ unknown }}")
    mail = play(desk)

    mail.deliver("please", to=DESK, sender=ANN)

    assert counts(mail)["dead"] == 1


def test_a_subject_of_a_stranger_is_not_spread(desk: ModuleType, play: Play) -> None:
    mail = play(desk)

    mail.deliver("buy them", to=DESK, sender=ANN, subject="cheap pills " * 40)

    assert asked(mail)[0].text.count("pills") <= 5
    # (Three letters may stand in the address to which the answer goes.)
    assert "buy them" not in asked(mail)[0].text


def test_handlers_that_were_done_before_it_waited_are_not_called_again(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        @stateless
        def LOG(message):
            calls.append("LOG")
        """
        + HANDLERS.replace("\n", "\n        ")
    )
    mail = play(desk)
    mail.deliver("please", to=DESK, sender=ANN, subject="order")
    mail.deliver("yes", to=address(asked(mail)[0]), sender=ANN)

    assert desk.calls == ["LOG", ("order", ANN, "confirmed")]


def test_an_operator_has_it_looked_at_again(desk: ModuleType, play: Play) -> None:
    """To release it is no proof: it is asked again, and stands in its old queue meanwhile."""
    mail = play(desk)
    mail.deliver("please", to=DESK, sender=ANN, subject="order")
    store = mail._open_engine().store
    mail.advance(seconds=60)

    assert mail._run(store.release("?1", mail.clock.now())) == 1
    mail.settle()

    assert desk.calls == []
    assert (counts(mail)["held"], len(asked(mail))) == (1, 2)
    assert len({sent.message["message-id"] for sent in asked(mail)}) == 2
    mail.deliver("yes", to=address(asked(mail)[1]), sender=ANN)
    assert len(desk.calls) == 1
    assert counts(mail) == {"done": 2, "waiting": 0, "held": 0, "dead": 0, "dropped": 0}


def test_a_timer_of_a_confirmed_message_is_confirmed(module: Make, play: Play) -> None:
    desk = module(
        """
        def REMIND(message):
            calls.append(("REMIND", message.auth.method))

        @route("desk@(host)")
        @requires_authenticated
        def START(message):
            after(hours=1, run=REMIND)
        """
    )
    mail = play(desk)
    mail.deliver("please", to=DESK, sender=ANN)
    mail.deliver("yes", to=address(asked(mail)[0]), sender=ANN)
    mail.advance(hours=2)

    assert desk.calls == [("REMIND", "confirmed")]
