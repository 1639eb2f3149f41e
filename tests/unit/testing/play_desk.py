"""Asks what is wanted, reminds after a day, confirms."""

from __future__ import annotations

from typing import Any

from monsal import Message, after, current, reply, route, send, stateless
from monsal.mail import Attachment

BOB = "bob@example.net"

#: Who was handled, in order.
handled: list[str] = []


@route("desk@(host)")
def START(message: Message) -> Any:
    handled.append(message.sender)
    after(days=1, run=REMIND)
    after(days=2, run=GIVE_UP)
    reply("What would you like?", subject="Your order")
    return CHOOSING


@route("desk@(host)")
def CHOOSING(message: Message) -> Any:
    if "bomb" in message.reply_text:
        raise ValueError("we sell no bombs")
    bill = Attachment("bill.txt", "text/plain", b"4.50")
    reply(f"One {message.reply_text.strip()} comes.", attachments=[bill], headers={"X-Order": "7"})
    send(BOB, subject="An order", text=f"{message.sender} wants {message.reply_text}")
    return START


def REMIND(message: Message) -> None:
    reply("Are you still there?")


def GIVE_UP(message: Message) -> Any:
    current().note("gave up")
    reply("Come back any time.")
    return START


@route("log@(host)")
@stateless
def LOG(message: Message) -> None:
    handled.append(f"log {message.sender}")
