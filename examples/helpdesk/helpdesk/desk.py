"""The conversation of each customer with help@: a first mail opens a ticket, further ones are added to it."""

from api import HelpdeskAPI
from helpdesk import records, tickets
from helpdesk.people import AGENTS
from monsal import after, current, notify, reply, route, send


@route("help@(host)")
def START(message, host):
    ticket = records.new_ticket(message)
    address = records.address_of(ticket)
    records.open_ticket(ticket, message.sender, message.subject)
    records.add_note(ticket, message.sender, message.text)
    current().set_state(tickets.OPEN, to=address)
    after(hours=4, run=tickets.REMIND, to=address)
    reply(template="received.txt", sender=address, ticket=ticket)
    send(AGENTS, sender=address, subject=f"[{ticket}] {message.subject}", template="new.txt", ticket=ticket)
    notify(HelpdeskAPI).ticket_opened(ticket=address, customer=message.sender, subject=message.subject)
    return WAITING


@route("help@(host)")
def WAITING(message, host):
    """Another mail to help@ from somebody whose ticket is open."""
    found = records.open_ticket_of(message.sender)
    if found is None or message.source == "call":  # a program that opens a ticket means a new one
        return START(message, host)
    ticket, subject = found
    address = records.address_of(ticket)
    tickets.reopen(ticket, address)
    records.add_note(ticket, message.sender, message.text)
    send(
        AGENTS,
        sender=address,
        subject=f"Re: [{ticket}] {subject}",
        text=f"{message.sender} adds:\n\n{message.reply_text}\n",
    )
    return WAITING


def ERROR(message):
    reply("Sorry, something went wrong here. Your mail is kept, and somebody will look at it.")
    return START
