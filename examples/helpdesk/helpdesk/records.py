"""What the desk keeps of tickets. Every change is part of the turn that makes it."""

import hashlib

from helpdesk.people import HOST
from monsal import current, read


def new_ticket(message):
    """The number of the ticket that a message opens: nobody can guess it, and each try of its turn has the same."""
    return number_of(message.message_id) if message.source == "call" else current().turn_id[:10]


def number_of(message_id):
    """The number of the ticket that a call opens; its Message-ID is ours, and the caller has it, too."""
    return hashlib.sha256(message_id.encode()).hexdigest()[:10]


def address_of(ticket):
    return f"ticket-{ticket}@{HOST}"


def open_ticket(ticket, customer, subject):
    current().write(
        "insert into ticket (id, customer, subject) values (?, ?, ?)", (ticket, customer, subject or "(no subject)")
    )


def add_note(ticket, author, text):
    # The turn's id makes the row the same if the turn has to be run again.
    current().write(
        "insert into note (id, ticket, author, text) values (?, ?, ?, ?)", (current().turn_id, ticket, author, text)
    )


def set_status(ticket, status, agent=None):
    current().write("update ticket set status = ?, agent = coalesce(?, agent) where id = ?", (status, agent, ticket))


def open_ticket_of(customer, but=""):
    """The newest ticket of a customer, other than `but`, that is not closed: (id, subject), or None."""
    rows = current().read(
        "select id, subject from ticket where customer = ? and status != 'closed' and id != ?"
        " order by rowid desc limit 1",
        (customer, but),
    )
    return rows[0] if rows else None


def find(ticket):
    """(customer, subject, agent) of a ticket, or None."""
    rows = current().read("select customer, subject, agent from ticket where id = ?", (ticket,))
    return rows[0] if rows else None


def all_tickets(state=None):
    """(id, customer, subject, status, agent) of all tickets, the newest first; for programs, not in a turn."""
    return read(
        "select id, customer, subject, status, agent from ticket where ? is null or status = ? order by rowid desc",
        (state, state),
    )
