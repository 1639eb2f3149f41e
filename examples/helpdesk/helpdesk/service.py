"""What the desk does when a program calls. Nothing here changes anything by itself: it writes to the conversations."""

from api import HelpdeskAPI, NoSuchTicket, State, Ticket
from helpdesk import records
from helpdesk.people import AGENTS, HELP
from monsal import deliver
from monsal.rpc import incoming


class Helpdesk(HelpdeskAPI):
    """The desk's side of the interface."""

    @incoming
    def tickets(self, sender: str, state: State | None = None) -> list[Ticket]:
        return [Ticket(records.address_of(ticket), *rest) for ticket, *rest in records.all_tickets(state)]

    @incoming
    def open_ticket(self, sender: str, customer: str, subject: str, text: str, key: str | None = None) -> str:
        delivery = deliver(to=HELP, sender=customer, subject=subject, text=text, key=key)
        return records.address_of(records.number_of(delivery.message_id))

    @incoming
    def close_ticket(self, sender: str, ticket: str) -> bool:
        found = [each for each in self.tickets(sender) if each.address == ticket]
        if not found:
            raise NoSuchTicket(f"there is no ticket {ticket}")
        if found[0].state == "closed":
            return False
        deliver(to=ticket, sender=AGENTS[0], text="close")
        return True
