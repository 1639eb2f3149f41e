"""Mail that comes back: to the conversation that sent it, once, believed only as far as its address proves."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from monsal.mail import Envelope, Message, delivery_report
from monsal.testing import SentMail, TestClient

Make = Callable[[str], ModuleType]
Play = Callable[..., TestClient]

ANN, BOB, DESK = "ann@example.net", "bob@example.net", "desk@example.com"
GONE = "550 5.1.1 no such user here"

DESK_CODE = """
    from monsal import on_bounce

    @route("desk@(host)")
    def START(message):
        reply("Hello")
        return ASKED

    @route("desk@(host)")
    def ASKED(message):
        reply("Again")

    @route("lost@(host)")
    def LOST(message):
        pass

    @on_bounce
    def RETURNED(message, bounce, host):
        calls.append((message.sender, message.recipient, bounce, current().state, host))
        reply("Did you get it?")
        return LOST
"""

PLAIN = """
    @route("desk@(host)")
    def START(message):
        reply("Hello")
"""


def come_back(
    mail: TestClient, sent: SentMail, *, about: str = ANN, reason: str = GONE, to: str | None = None, raw: bytes = b""
) -> None:
    """Have another system report that `sent` did not arrive."""
    raw = raw or delivery_report(
        sender=sent.sender,
        recipient=about,
        message_id=sent.message_id,
        reason=reason,
        token="0",
        given_up=False,
        now=mail.clock.now(),
    )
    mail.deliver(to=to or sent.sender, sender="mailer-daemon@example.net", envelope_sender="", raw=raw)


def history(mail: TestClient) -> list[tuple[str, str]]:
    return [(handler, note) for handler, note in mail.query("SELECT handler, note FROM monsal_history ORDER BY id")]


def suppressed(mail: TestClient) -> list[str]:
    return [str(row["address"]) for row in mail.rows("suppressed")]


def test_a_bounce_is_a_turn_of_the_conversation_that_sent(module: Make, play: Play) -> None:
    desk = module(DESK_CODE)
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    come_back(mail, mail.sent[0])
    [(sender, recipient, bounce, state, host)] = desk.calls
    assert (sender, recipient, state, host) == (ANN, DESK, "ASKED", "example.com")
    assert (bounce.kind, bounce.reason, bounce.addresses) == ("failure", "unknown_user", (ANN,))
    assert bounce.sent_message_id == mail.sent[0].message_id
    assert bounce.sent_to == (ANN,)
    assert bounce.token in mail.sent[0].sender
    assert mail.state_of(ANN, desk) == "LOST"
    # It cannot be answered: nobody gets mail because of a bounce.
    assert len(mail.sent) == 1
    assert history(mail)[-1][0].endswith(":RETURNED")
    assert "bounce (failure): ann@example.net: there is no such mailbox" in history(mail)[-1][1]
    assert mail.rows("dead") == []
    counts = mail.query("SELECT accepted, done, dead FROM v_ledger WHERE source = 'bounce'")
    assert counts == [(1, 1, 0)]


def test_what_our_own_relay_gives_up_is_the_same_event(module: Make, play: Play) -> None:
    desk = module(DESK_CODE)
    mail = play(desk)
    mail.relay.fail(ANN, reason="550 5.1.1 unknown user")
    mail.deliver("hi", to=DESK, sender=ANN)
    [(_, _, bounce, _, _)] = desk.calls
    assert (bounce.reason, bounce.status, bounce.is_hard) == ("unknown_user", "5.1.1", True)
    assert bounce.diagnostic_codes == ("550 5.1.1 unknown user",)
    assert mail.state_of(ANN, desk) == "LOST"
    assert suppressed(mail) == [ANN]
    assert mail.query("SELECT accepted, done FROM v_ledger WHERE source = 'bounce'") == [(1, 1)]
    assert mail.rows("outbox")[0]["state"] == "failed"


def test_a_mail_that_is_put_off_too_long_comes_back_soft(module: Make, play: Play) -> None:
    desk = module(DESK_CODE)
    mail = play(desk)
    mail.relay.defer(ANN, reason="451 4.3.0 later", times=None)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.advance(days=7)
    [(_, _, bounce, _, _)] = desk.calls
    assert (bounce.status, bounce.is_hard, bounce.is_soft) == ("4.4.7", False, True)
    assert suppressed(mail) == []


def test_without_a_handler_it_is_recorded_and_the_address_suppressed(module: Make, play: Play) -> None:
    desk = module(PLAIN)
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    come_back(mail, mail.sent[0])
    assert history(mail)[-1][0] == "(bounce)"
    assert "no such mailbox" in history(mail)[-1][1]
    assert mail.rows("dead") == []
    assert suppressed(mail) == [ANN]
    assert mail.rows("suppressed")[0]["reason"] == "failure: unknown_user"
    mail.deliver("hi again", to=DESK, sender=ANN)
    assert len(mail.sent) == 1
    assert "mail to ann@example.net suppressed: failure: unknown_user" in history(mail)[-1][1]
    outbox = mail.rows("outbox")
    assert [(row["state"], row["reason"]) for row in outbox] == [("failed", "suppressed: failure: unknown_user")]
    assert mail.query("SELECT outbox FROM monsal_meta") == [("[0,0,1,1]",)]


def test_a_suppressed_address_can_be_written_to_all_the_same(module: Make, play: Play) -> None:
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            reply("no")
            reply("yes", even_if_suppressed=True)
            send("ANN@example.net", subject="no", text="no")
        """
    )
    mail = play(desk)
    mail.relay.fail(ANN)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert suppressed(mail) == [ANN]
    mail.relay.accept(ANN)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert [sent.text.strip() for sent in mail.sent] == ["yes"]


def test_many_soft_failures_suppress_for_a_while(module: Make, play: Play) -> None:
    desk = module(PLAIN)
    mail = play(desk)
    for number in range(5):
        assert suppressed(mail) == []
        mail.deliver(f"hi {number}", to=DESK, sender=ANN)
        come_back(mail, mail.sent[-1], reason="552 5.2.2 mailbox is full")
    assert suppressed(mail) == [ANN]
    mail.deliver("hi", to=DESK, sender=ANN)
    assert len(mail.sent) == 5
    mail.advance(days=15)
    mail.deliver("hi", to=DESK, sender=ANN)
    assert len(mail.sent) == 6


def test_soft_failures_far_apart_do_not_add_up(module: Make, play: Play) -> None:
    mail = play(module(PLAIN))
    for number in range(7):
        mail.deliver(f"hi {number}", to=DESK, sender=ANN)
        come_back(mail, mail.sent[-1], reason="552 5.2.2 mailbox is full")
        mail.advance(days=3)
    assert suppressed(mail) == []


@pytest.mark.parametrize("change", ["mac", "token", "none"])
def test_a_forged_bounce_changes_nothing(module: Make, play: Play, change: str) -> None:
    desk = module(DESK_CODE)
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    sent = mail.sent[0]
    token, mac = sent.sender[2:].partition("@")[0].split(".")
    wrong = {
        "mac": f"b+{token}.{_other(mac)}@example.com",
        "token": f"b+{_other(token)}.{mac}@example.com",
        "none": f"b+{'0' * 20}.{'0' * 16}@example.com",
    }[change]
    before = mail.query("SELECT * FROM v_states")
    come_back(mail, sent, to=wrong)
    assert [row["reason"] for row in mail.rows("dead")] == ["forged bounce address"]
    assert mail.query("SELECT * FROM v_states") == before
    assert suppressed(mail) == []
    assert desk.calls == []
    assert len(mail.sent) == 1


def _other(text: str) -> str:
    return ("1" if text[0] != "1" else "2") + text[1:]


def test_the_address_survives_a_change_of_case(module: Make, play: Play) -> None:
    desk = module(DESK_CODE)
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    come_back(mail, mail.sent[0], to=mail.sent[0].sender.upper())
    assert len(desk.calls) == 1


def test_a_report_about_somebody_else_is_not_believed(module: Make, play: Play) -> None:
    """Whoever gets a mail of ours knows an address for its reports; it must not serve to silence others."""
    desk = module(
        """
        @route("desk@(host)")
        def START(message):
            send(["ann@example.net", "bob@example.net"], subject="news", text="news")
            send("carl@example.net", subject="news", text="news")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender="dora@example.net")
    both, one = mail.sent
    come_back(mail, both, about="victim@example.org")
    assert suppressed(mail) == []
    # A mail to one recipient is about that one: it was forwarded.
    come_back(mail, one, about="elsewhere@example.org")
    assert suppressed(mail) == ["carl@example.net"]
    come_back(mail, both, about=BOB)
    assert suppressed(mail) == [BOB, "carl@example.net"] or suppressed(mail) == ["carl@example.net", BOB]


@pytest.mark.parametrize(
    ("raw", "note"),
    [
        (b"Auto-Submitted: auto-replied\r\nSubject: Out of office\r\n\r\nI am on holiday.\r\n", "an automatic answer"),
        (b"Subject: something\r\n\r\nNothing that is known.\r\n", "bounce (failure)"),
    ],
)
def test_what_else_comes_with_a_null_sender(module: Make, play: Play, raw: bytes, note: str) -> None:
    desk = module(PLAIN)
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    come_back(mail, mail.sent[0], raw=b"From: x@example.net\r\n" + raw)
    assert history(mail)[-1][1].startswith(note)
    assert suppressed(mail) == []
    assert mail.rows("dead") == []


def test_a_person_who_writes_to_an_envelope_sender_is_read_by_a_person(module: Make, play: Play) -> None:
    desk = module(DESK_CODE)
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    mail.deliver("Hello?", to=mail.sent[0].sender, sender=BOB)
    assert mail.rows("dead")[0]["reason"].startswith("not a bounce: mail from bob@example.net")
    assert desk.calls == []
    assert len(mail.sent) == 1


def test_a_delay_is_noted_and_no_event(module: Make, play: Play) -> None:
    desk = module(DESK_CODE)
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    raw = delivery_report(
        sender=mail.sent[0].sender,
        recipient=ANN,
        message_id="<x@y>",
        reason="451 later",
        token="0",
        given_up=False,
        now=0,
    ).replace(b"Action: failed", b"Action: delayed")
    come_back(mail, mail.sent[0], raw=raw)
    assert desk.calls == []
    assert history(mail)[-1][1].startswith("bounce (delay)")
    assert mail.query("SELECT kind FROM monsal_bounces") == [("delay",)]


def test_a_complaint_is_an_event_and_suppresses(module: Make, play: Play) -> None:
    desk = module(DESK_CODE)
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    raw = (
        b'Subject: abuse\r\nContent-Type: multipart/report; report-type=feedback-report; boundary="x"\r\n\r\n'
        b"--x\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\r\n--x--\r\n"
    )
    come_back(mail, mail.sent[0], raw=raw)
    [(_, _, bounce, _, _)] = desk.calls
    assert bounce.kind == "complaint"
    assert suppressed(mail) == [ANN]


def test_a_handler_that_fails_makes_a_dead_letter_and_the_bounce_counts(module: Make, play: Play) -> None:
    desk = module(
        PLAIN
        + """
    from monsal import on_bounce

    @on_bounce
    def RETURNED(message, bounce):
        raise ValueError("no")
"""
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    come_back(mail, mail.sent[0])
    [row] = mail.rows("dead")
    assert "ValueError" in row["reason"]
    assert suppressed(mail) == [ANN]
    mail.deliver("hi", to=DESK, sender=BOB)
    assert len(mail.sent) == 2


def test_many_reports_of_one_mail_count_once(module: Make, play: Play) -> None:
    mail = play(module(PLAIN))
    mail.deliver("hi", to=DESK, sender=ANN)
    for _ in range(8):
        come_back(mail, mail.sent[0], reason="552 5.2.2 full")
    assert mail.query("SELECT count(*) FROM monsal_bounces") == [(8,)]
    assert suppressed(mail) == []


def test_a_bounce_waits_in_the_queue_of_its_conversation(module: Make, play: Play) -> None:
    mail = play(module(PLAIN))
    mail.deliver("hi", to=DESK, sender=ANN)
    come_back(mail, mail.sent[0])
    mail.relay.fail(BOB)
    mail.deliver("hi", to=DESK, sender=BOB)
    keys = mail.query("SELECT lease_key FROM monsal_spool WHERE source = 2 ORDER BY id")
    assert keys == [(ANN,), (BOB,)]


def test_nothing_is_said_to_a_null_sender_even_by_a_refusal(module: Make, play: Play) -> None:
    desk = module(
        """
        from monsal import on_bounce

        @route("desk@(host)")
        def START(message):
            reply("Hello")

        @on_bounce
        def RETURNED(message, bounce):
            reject(550, "go away")
        """
    )
    mail = play(desk)
    mail.deliver("hi", to=DESK, sender=ANN)
    come_back(mail, mail.sent[0])
    assert len(mail.sent) == 1
    assert mail.rows("outbox") == []


def test_our_own_report_is_read_as_it_was_written() -> None:
    raw = delivery_report(
        sender="b+1.2@example.com",
        recipient="grün@example.net",
        message_id="<1@example.com>",
        reason="553 5.1.1 no\r\n such ü",
        token="0",
        given_up=False,
        now=0.0,
    )
    message = Message(raw=raw, recipient=DESK, correspondent="", envelope=Envelope(sender="", recipients=(DESK,)))
    assert message.bounce is not None
    [recipient] = message.bounce.recipients
    assert (recipient.address, recipient.status, recipient.diagnostic) == (
        "grün@example.net",
        "5.1.1",
        "553 5.1.1 no such ü",
    )
    assert message.bounce.original_message_id == "<1@example.com>"
    assert message.is_automatic
