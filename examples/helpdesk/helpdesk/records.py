"""What the desk keeps of tickets. Every change is part of the turn that makes it."""

from monsal import current


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
