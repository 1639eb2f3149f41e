"""The life of a ticket, told as a play."""

import pytest

from api import HelpdeskAPI, NoSuchTicket, Ticket
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


# -- programs ----------------------------------------------------------------------------------------------------


def test_a_program_opens_a_ticket_as_a_customer_would(mail):
    program = mail.api(HelpdeskAPI)
    address = program.open_ticket(customer=ANN, subject="My modem", text="It does not work.")
    assert mail.sent_to(ANN)[-1].message.get("From") == address
    assert "It does not work." in mail.sent_to(AGENT)[-1].text
    assert program.tickets(state="open") == [Ticket(address, ANN, "My modem", "open", None)]
    assert program.heard == [("ticket_opened", {"ticket": address, "customer": ANN, "subject": "My modem"})]
    mail.deliver("Is it switched on?", to=address, sender=AGENT)
    assert [each.state for each in program.tickets()] == ["answered"]


def test_a_program_that_asks_again_has_one_ticket(mail):
    program = mail.api(HelpdeskAPI)
    first = program.open_ticket(customer=ANN, subject="My modem", text="It does not work.", key="1")
    assert program.open_ticket(customer=ANN, subject="My modem", text="It does not work.", key="1") == first
    second = program.open_ticket(customer=ANN, subject="My phone", text="Nor does this.", key="2")
    assert [each.address for each in program.tickets()] == [second, first]


def test_programs_hear_of_tickets_that_come_by_mail(mail):
    program = mail.api(HelpdeskAPI)
    address = open_ticket(mail)
    program.wait()
    assert program.heard == [("ticket_opened", {"ticket": address, "customer": ANN, "subject": "My modem"})]


def test_a_program_closes_a_ticket(mail):
    program = mail.api(HelpdeskAPI)
    address = open_ticket(mail)
    assert program.close_ticket(ticket=address) is True
    assert "is closed" in mail.sent_to(ANN)[-1].text
    assert program.tickets(state="open") == []
    assert program.close_ticket(ticket=address) is False
    with pytest.raises(NoSuchTicket):
        program.close_ticket(ticket="ticket-0123456789@example.com")
