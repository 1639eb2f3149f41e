"""The life of a ticket, told as a play."""

import pytest

from app import app
from helpdesk import desk, tickets
from helpdesk.people import AGENTS, SUPERVISOR
from monsal.testing import client

ANN = "ann@example.net"
HELP = "help@example.com"
AGENT = AGENTS[0]


@pytest.fixture
def mail():
    with client(app) as mail:
        yield mail


def open_ticket(mail, who=ANN):
    """Ann asks; the address of her ticket."""
    mail.deliver("It does not work.", to=HELP, sender=who, subject="My modem")
    return mail.sent_to(who)[-1].message.get("From")


def test_a_question_is_answered_and_closed(mail):
    ticket = open_ticket(mail)
    assert "It does not work." in mail.sent_to(AGENT)[-1].text
    assert mail.state_of(ANN, desk) == "WAITING"
    assert mail.state_of(ANN, tickets, to=ticket) == "OPEN"

    mail.deliver("Is it switched on?", to=ticket, sender=AGENT)
    assert mail.sent_to(ANN)[-1].text.strip() == "Is it switched on?"
    assert mail.state_of(ANN, tickets, to=ticket) == "ANSWERED"

    mail.deliver("It is now. Thank you!", to=ticket, sender=ANN)
    assert "It is now." in mail.sent_to(AGENT)[-1].text
    assert mail.state_of(ANN, tickets, to=ticket) == "OPEN"

    mail.deliver("close", to=ticket, sender=AGENT)
    assert "is closed" in mail.sent_to(ANN)[-1].text
    assert mail.state_of(ANN, tickets, to=ticket) == "CLOSED"
    assert mail.state_of(ANN, desk) == "START"
    assert mail.query("select status, agent from ticket") == [("closed", AGENT)]


def test_a_second_mail_to_help_goes_to_the_open_ticket(mail):
    open_ticket(mail)
    mail.deliver("It smokes, too.", to=HELP, sender=ANN)
    assert mail.query("select count(*) from ticket") == [(1,)]
    assert mail.query("select text from note order by rowid")[-1][0].strip() == "It smokes, too."


def test_nobody_answers_so_agents_and_then_their_supervisor_are_told(mail):
    open_ticket(mail)
    mail.advance(hours=5)
    assert mail.sent_to(AGENT)[-1].subject.startswith("Reminder:")
    assert mail.sent_to(SUPERVISOR) == []
    mail.advance(hours=24)
    assert mail.sent_to(SUPERVISOR)[-1].subject.startswith("Unanswered:")


def test_an_answer_ends_the_reminders(mail):
    ticket = open_ticket(mail)
    mail.deliver("Try again.", to=ticket, sender=AGENT)
    mail.advance(days=2)
    assert not any(sent.subject.startswith("Reminder") for sent in mail.sent)


def test_silence_closes_an_answered_ticket_and_a_word_opens_it_again(mail):
    ticket = open_ticket(mail)
    mail.deliver("Try again.", to=ticket, sender=AGENT)
    mail.advance(days=6)
    assert mail.state_of(ANN, tickets, to=ticket) == "CLOSED"
    mail.deliver("It is broken again.", to=ticket, sender=ANN)
    assert mail.state_of(ANN, tickets, to=ticket) == "OPEN"
    assert mail.state_of(ANN, desk) == "WAITING"


def test_a_customer_who_writes_to_help_again_is_not_taken_for_silent(mail):
    ticket = open_ticket(mail)
    mail.deliver("Try again.", to=ticket, sender=AGENT)
    mail.deliver("I did, and it smokes.", to=HELP, sender=ANN)
    assert mail.state_of(ANN, tickets, to=ticket) == "OPEN"
    mail.advance(days=6)
    assert mail.query("select status from ticket") == [("open",)]
    assert mail.sent_to(AGENT)[-1].subject.startswith("Reminder:")


def test_only_the_word_alone_closes(mail):
    ticket = open_ticket(mail)
    mail.deliver("Closer look needed: is it on?", to=ticket, sender=AGENT)
    assert "Closer look" in mail.sent_to(ANN)[-1].text
    assert mail.state_of(ANN, tickets, to=ticket) == "ANSWERED"


def test_an_unknown_ticket(mail):
    mail.deliver("Hello?", to="ticket-0123456789@example.com", sender=ANN)
    assert "no such ticket" in mail.sent_to(ANN)[-1].text
