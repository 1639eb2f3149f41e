"""What programs can ask the help desk, and what it tells them: the interface of both sides.

The desk's side of it is in `helpdesk/service.py`, the other one in `client.py`.
"""

from typing import Literal

import msgspec

from monsal.rpc import AppError, RemoteAPI, incoming, outgoing

State = Literal["open", "answered", "closed"]


class NoSuchTicket(AppError, code=1404):
    """There is no ticket with this address."""


class Ticket(msgspec.Struct, frozen=True):
    """A ticket; `address` is where customer and agents write about it."""

    address: str
    customer: str
    subject: str
    state: State
    agent: str | None


class HelpdeskAPI(RemoteAPI):
    """As the desk sees it: programs use `HelpdeskAPI.peer()`."""

    errors = (NoSuchTicket,)

    @incoming
    def tickets(self, sender: str, state: State | None = None) -> list[Ticket]:
        """All tickets, the newest first, or those in one state."""

    @incoming
    def open_ticket(self, sender: str, customer: str, subject: str, text: str, key: str | None = None) -> str:
        """Open a ticket as if the customer had written; its address. It is on the disk when this returns.

        With the same key this is the same ticket: so whoever got no answer can ask again.
        """

    @incoming
    def close_ticket(self, sender: str, ticket: str) -> bool:
        """Close the ticket with this address; false if it was closed before. Raises NoSuchTicket."""

    @outgoing
    def ticket_opened(self, receivers: list[str] | None, ticket: str, customer: str, subject: str) -> None:
        """A ticket was opened, by mail or by a call."""
