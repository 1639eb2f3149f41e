"""The conversation about one ticket, shared by all who write to its address."""

from helpdesk import desk, records
from helpdesk.people import AGENTS, SUPERVISOR, is_agent
from monsal import after, current, otherwise, reply, route, send, state_key_generator


@state_key_generator(shared=True)
def ticket_key(module, message):
    """One machine for each ticket, whoever writes."""
    return f"{module}:{message.recipient.partition('@')[0].lower()}"


@route("ticket-(ticket)@(host)")
def OPEN(message, ticket):
    """Somebody has to answer."""
    return _next(message, ticket, waiting=OPEN)


@route("ticket-(ticket)@(host)")
def ANSWERED(message, ticket):
    """The customer has an answer; silence closes the ticket."""
    return _next(message, ticket, waiting=ANSWERED)


@route("ticket-(ticket)@(host)")
def CLOSED(message, ticket):
    customer, _, _ = records.find(ticket)
    if is_agent(message.sender):
        reply("This ticket is closed. A mail from the customer opens it again.")
        return CLOSED
    current().set_state(desk.WAITING, correspondent=customer)
    return _next(message, ticket, waiting=OPEN)


@otherwise
def no_such_ticket(message):
    reply("There is no such ticket here. Please write to help@ to open one.")


def _next(message, ticket, waiting):
    customer, subject, _ = records.find(ticket)
    text = message.reply_text
    records.add_note(ticket, message.sender, text)
    if not is_agent(message.sender):
        send(AGENTS, subject=f"Re: [{ticket}] {subject}", text=f"{message.sender} writes:\n\n{text}\n")
        return reopen(ticket, message.recipient)
    if text.strip().lower() in ("close", "close."):
        return _close(ticket, customer, subject)
    send(customer, subject=f"Re: {subject}", text=text)
    records.set_status(ticket, "answered", message.sender)
    after(days=5, run=CLOSE)
    return ANSWERED


def reopen(ticket, address):
    """The customer wrote: somebody has to answer within four hours."""
    records.set_status(ticket, "open")
    current().set_state(OPEN, to=address)
    after(hours=4, run=REMIND, to=address)
    return OPEN


def _close(ticket, customer, subject):
    send(customer, subject=f"Re: {subject}", template="closed.txt", ticket=ticket)
    records.set_status(ticket, "closed")
    if records.open_ticket_of(customer, but=ticket) is None:
        current().set_state(desk.START, correspondent=customer)
    return CLOSED


def REMIND(message, ticket):
    """Four hours without an answer."""
    customer, subject, _ = records.find(ticket)
    send(AGENTS, subject=f"Reminder: [{ticket}] {subject}", text=f"{customer} has been waiting for four hours.\n")
    after(hours=20, run=ESCALATE)
    return OPEN


def ESCALATE(message, ticket):
    """A day without an answer."""
    customer, subject, agent = records.find(ticket)
    send(
        SUPERVISOR,
        subject=f"Unanswered: [{ticket}] {subject}",
        text=f"{customer} has been waiting for a day. Agent: {agent or 'nobody yet'}.\n",
    )
    return OPEN


def CLOSE(message, ticket):
    """Five days after an answer without a word from the customer."""
    customer, subject, _ = records.find(ticket)
    return _close(ticket, customer, subject)
