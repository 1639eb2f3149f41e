"""`monsal ingest`: one message from a pipe, durable when this ends with 0 (P1)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from monsal.address import is_address, split_address
from monsal.cli.compose import to_crlf
from monsal.cli.exits import DATA, OK
from monsal.cli.loading import load_app, make_room, resolve
from monsal.cli.options import app_option, directory_option
from monsal.cli.output import clean
from monsal.cli.reach import not_running, wait_ready
from monsal.cli.speak import Answer, Unreachable, deliver, door, worst_code

if TYPE_CHECKING:
    from monsal.smtp.replies import Reply

__all__ = ["command"]

#: Seconds that a server which is not ready is waited for; who pipes mail here tries again at exit code 75.
_WAITING = 10.0
#: Octets that are read before the limit is looked up.
_SMALL = 1024 * 1024


@click.command("ingest")
@click.option("--to", "recipients", metavar="ADDRESS", multiple=True, required=True, help="The envelope's recipient.")
@click.option(
    "--from",
    "sender",
    metavar="ADDRESS",
    default=None,
    help='The envelope\'s sender; "" for a bounce (default: the one that the message names).',
)
@directory_option
@app_option
def command(recipients: tuple[str, ...], sender: str | None, directory: Path, target: str) -> int:
    """Accept one message from standard input, as a mail server's pipe gives it.

    It goes to the running server; without one it is stored here, and handled when the server starts.
    Without --from the sender is that of a first line "From ...", else of Return-Path, else of From.
    Exit code 0: it is on the disk; 75: not now, try again; 65: refused for good.

    \b
    monsal ingest --to order@example.com --from ann@example.net --dir /srv/desk < letter.eml
    """
    for address in (*recipients, *([sender] if sender else [])):
        split_address(address)
    raw = _read(sys.stdin.buffer, directory)
    if raw is None:
        click.echo("5.3.4 the message is larger than max_message_size", err=True)
        return DATA
    if sender is None:
        sender = _sender(raw)
    message = _message(raw)
    answers = _by_server(directory, sender, recipients, message)
    if answers is None:
        answers = _here(directory, target, sender, recipients, message)
    for recipient, answer in zip(recipients, answers, strict=True):
        click.echo(f"{recipient}: {clean(str(answer))}", err=answer.exit_code != OK)
    return worst_code(answers)


def _read(stream: BinaryIO, directory: Path) -> bytes | None:
    """The message, or None if it is larger than the application takes: no more than that is held (P7)."""
    first = stream.read(_SMALL)
    if len(first) < _SMALL:
        return first
    # Only now, because it may have to load the application; whether a small one is too large says who stores it.
    limit = max(resolve(directory).settings.max_message_size, _SMALL)
    rest = stream.read(limit + 1 - len(first))
    return None if len(first) + len(rest) > limit else first + rest


def _sender(raw: bytes) -> str:
    """Who sent the message, as far as it says; empty if it does not.

    An empty one marks a bounce, which nobody answers: a mail must not become one because an option was left out.
    """
    from monsal.mail import first_address, scan

    line = raw.partition(b"\n")[0].decode("utf-8", "replace").split()
    head = scan(raw)
    if line[:1] == ["From"]:
        named: str | None = line[1] if len(line) > 1 else ""
    elif "return-path" in head:
        named = (head.get("return-path") or "").strip().removeprefix("<").removesuffix(">")
    else:
        named = first_address(head.get("from") or "")
    return named if named and is_address(named) else ""


def _message(raw: bytes) -> bytes:
    # Some deliver with the line that begins a message in an mbox; it is no part of it.
    if raw.startswith(b"From "):
        raw = raw.partition(b"\n")[2]
    return to_crlf(raw)


def _by_server(directory: Path, sender: str, recipients: tuple[str, ...], message: bytes) -> list[Answer] | None:
    """The answers of the running server, by LMTP if it has that; None if none runs."""
    ready = wait_ready(directory, _WAITING)
    doors = [] if ready is None else [door(text, directory, lmtp=True) for text in ready.lmtp]
    doors += [] if ready is None else [door(text, directory) for text in ready.smtp]
    for each in doors:
        try:
            return deliver(each, sender, recipients, message)
        except Unreachable:
            continue
    return None


def _here(directory: Path, target: str, sender: str, recipients: tuple[str, ...], message: bytes) -> list[Answer]:
    """Store the message as the server would. Raises StoreLocked saying who holds the store."""
    import asyncio

    from monsal.clock import SystemClock
    from monsal.conversation import Spool, SpoolSettings, keys_of
    from monsal.mail import Envelope
    from monsal.smtp.replies import Refused
    from monsal.store import open as open_store

    home = directory.resolve()
    app = load_app(home, target)
    settings = app.settings(home).settings
    app.load()
    make_room(settings.store, home)
    if len(message) > settings.max_message_size:
        return [Answer(552, f"5.3.4 larger than {settings.max_message_size} bytes")] * len(recipients)

    async def store_it() -> list[Answer]:
        store = open_store(settings.store, base=home, tables=app.parts().tables)
        if not store.capabilities.durable_ack:
            raise not_running(directory)  # what it holds ends with this process: to say yes would be false (P1)
        await store.open()
        try:
            spool = Spool(
                store,
                app.router,
                SystemClock(),
                SpoolSettings(correspondent=settings.correspondent, max_hops=settings.max_hops),
                keys=keys_of(settings.store, home),
            )
            refusals = [spool.accepts(recipient) for recipient in recipients]
            taken = tuple(recipient for recipient, reply in zip(recipients, refusals, strict=True) if reply is None)
            final = Answer(250, "2.0.0 stored; it is handled when the server starts")
            if taken:
                try:
                    await spool.accept(Envelope(sender=sender, recipients=taken), (message,))
                except Refused as error:
                    final = _answer(error.reply)
            return [final if reply is None else _answer(reply) for reply in refusals]
        finally:
            await store.close()

    return asyncio.run(store_it())


def _answer(reply: Reply) -> Answer:
    words = reply.text if isinstance(reply.text, str) else " ".join(reply.text)
    return Answer(reply.code, f"{reply.enhanced or ''} {words}".strip())
