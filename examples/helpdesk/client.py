"""A program that talks to the help desk: `python client.py --help`."""

import argparse
import asyncio
import sys
import uuid
from pathlib import Path

from api import HelpdeskAPI
from monsal.errors import NoAnswer, NotRunning, RemoteError

HERE = Path(__file__).resolve().parent
EXAMPLES = """examples:
  python client.py tickets --state open
  python client.py open ann@example.net "My modem" "It does not work."
  python client.py close ticket-0123456789@example.com
  python client.py watch
"""


def arguments():
    parser = argparse.ArgumentParser(
        description="Talk to a running help desk.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--at", default=f"unix:{HERE}/run/api.sock", help="where the desk listens (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("tickets", help="list tickets")
    listing.add_argument("--state", choices=["open", "answered", "closed"], help="only those in this state")
    opening = commands.add_parser("open", help="open a ticket for a customer; prints its address")
    opening.add_argument("customer", help="the customer's mail address")
    opening.add_argument("subject")
    opening.add_argument("text")
    opening.add_argument("--patience", type=float, default=30.0, help="seconds to try again (%(default)g)")
    closing = commands.add_parser("close", help="close a ticket")
    closing.add_argument("ticket", help="its address")
    commands.add_parser("watch", help="print each new ticket until Ctrl-C")
    return parser.parse_args()


def a_program():
    """The other side of the desk's interface; both say one JSON object a line."""
    return HelpdeskAPI.peer()("jrpc:\n")


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def show_tickets(at, state):
    async with a_program() as desk:
        await desk.connect(at)
        for ticket in await desk.call.tickets(state=state):
            say(f"{ticket.address}  {ticket.state:8}  {ticket.customer}  {ticket.subject}")


async def open_ticket(at, patience, **words):
    """Ask until there is an answer. The key makes all of it one ticket, whatever became of the earlier tries."""
    key = uuid.uuid4().hex
    end = asyncio.get_running_loop().time() + patience
    while True:
        try:
            async with a_program() as desk:
                await desk.connect(at)
                say(await desk.call.open_ticket(**words, key=key))
                return
        except (NotRunning, NoAnswer):
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.2)


async def close_ticket(at, ticket):
    async with a_program() as desk:
        await desk.connect(at)
        say("closed" if await desk.call.close_ticket(ticket=ticket) else "it was closed before")


async def watch(at):
    async with a_program() as desk:

        @desk.ticket_opened.handler
        async def show(sender, ticket, customer, subject):
            say(f"{ticket}  {customer}  {subject}")

        # The desk may be restarted meanwhile.
        endpoint = await desk.open(f"restart:1:{at}")
        say("watching")
        await endpoint.wait_closed()


def main():
    given = arguments()
    work = {
        "tickets": lambda: show_tickets(given.at, given.state),
        "open": lambda: open_ticket(
            given.at, given.patience, customer=given.customer, subject=given.subject, text=given.text
        ),
        "close": lambda: close_ticket(given.at, given.ticket),
        "watch": lambda: watch(given.at),
    }
    try:
        asyncio.run(work[given.command]())
    except RemoteError as error:
        sys.exit(f"client.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
