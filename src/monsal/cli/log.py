"""`monsal log`: what happened to messages and conversations, as the store tells it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from monsal.cli.called import typed
from monsal.cli.exits import FAILED, OK
from monsal.cli.options import directory_option, json_option
from monsal.cli.output import clean, print_json
from monsal.cli.reach import store_file
from monsal.clock import iso
from monsal.errors import StoreUnavailable

if TYPE_CHECKING:
    from monsal.store.engine.chronicle import Asked, Event

__all__ = ["command"]

#: Seconds between two looks of --follow.
_LOOK_AGAIN: Final = 0.5
#: More events than this between two looks are cut.
_MANY: Final = 100_000
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _Since(click.ParamType[float]):
    """A span before now (90s, 30m, 1h, 2d) or a time (ISO 8601, UTC unless it says otherwise), as epoch seconds."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if span := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", value):
            return time.time() - float(span[1]) * _SECONDS[span[2]]
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is neither a span, as 90s, 30m, 1h or 2d, nor a time, as 2026-01-31T09:30", param, ctx
            )
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@click.command("log")
@click.option("--message", metavar="ID", help="Only of one message: its Message-ID, an answer's, or its number.")
@click.option("--conversation", metavar="KEY", help="Only of one correspondent's address, or of one machine's key.")
@click.option("--since", type=_Since(), default=0.0, help="Only from then on: 90s, 30m, 1h, 2d ago, or a time in UTC.")
@click.option("--limit", type=click.IntRange(1, _MANY), default=100, show_default=True, help="The newest so many.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@directory_option
@json_option
def command(
    message: str | None,
    conversation: str | None,
    since: float,
    limit: int,
    follow: bool,
    directory: Path,
    as_json: bool,
) -> int:
    """Show what happened: messages that came, turns of handlers, failures, mail that went out.

    It is read from the store's history, whether a server runs or not; the number in each line is that of the message
    that came. Times are in UTC. Lines that a server logs besides are on its standard error: with --daemon in
    run/monsal.log, under systemd in its journal.

    Failures are told also when their message was released, replayed or dropped since: the last ten of each.

    Exit code 1: there is no such message.

    \b
    monsal log --dir desk
    monsal log --message 7 --dir desk
    monsal log --conversation ann@example.net --since 2d --dir desk
    monsal log --follow --json --dir desk | jq 'select(.level == "error")'
    """
    path = store_file(directory)
    rows = None if message is None else _rows(path, message)
    if rows == ():
        listing = typed("log", directory=directory)
        click.echo(f"monsal: no stored message is {clean(message)}; `{listing}` shows the newest", err=True)
        return FAILED
    from monsal.store.engine.chronicle import Asked

    asked = Asked(rows=rows, conversation=conversation, since=since, limit=limit)
    empty = True
    for event in _events(path, asked, follow=follow):
        empty = False
        if as_json:
            print_json(_facts(event))
        else:
            _print(event)
    if empty and not as_json:
        click.echo(
            "nothing of that is in the store" if conversation or since else "nothing is in the store of what happened"
        )
    return OK


def _rows(path: Path, message: str) -> tuple[int, ...]:
    """The rows that are meant by a number, or by a Message-ID with or without its angle brackets."""
    if not path.exists():
        return ()
    from monsal.store.engine.chronicle import Asked, Marks
    from monsal.store.inspect import Inspector

    with Inspector(path) as store:
        if message.isascii() and message.isdigit() and len(message) < 19:
            row = int(message)
            return (row,) if store.events(Asked(rows=(row,), limit=1), Marks()) else ()
        return store.rows_of_message(message if message.startswith("<") else f"<{message}>")


def _events(path: Path, asked: Asked, *, follow: bool) -> Iterator[Event]:
    """What is asked for; then, if it is to be followed, what comes."""
    from monsal.store.engine.chronicle import Marks
    from monsal.store.inspect import Inspector

    marks, place = Marks(), (0, 0)
    pause = threading.Event()
    trouble = ""
    while True:
        found: list[Event] = []
        try:
            if path.exists():
                info = path.stat()
                if marks.row and place != (info.st_dev, info.st_ino):
                    # A backup was put back, or the store was made anew: its rows are counted from elsewhere.
                    click.echo("monsal: another store has taken the place of this one", err=True)
                    marks = Marks()
                place = (info.st_dev, info.st_ino)
                # Opened anew each time: a reader that stays keeps a server that ends from tidying up.
                with Inspector(path) as store:
                    found = store.events(asked, marks)
                asked, trouble = replace(asked, limit=_MANY), ""
        except StoreUnavailable as error:
            if not follow:
                raise
            # A server that starts or ends has it for a moment; whatever else it is, it is told once.
            if trouble != str(error):
                trouble = str(error)
                click.echo(f"monsal: {trouble}; looking again", err=True)
        yield from found
        if not follow:
            return
        pause.wait(_LOOK_AGAIN)


def _facts(event: Event) -> dict[str, Any]:
    """An event as JSON, with the first names of the server's own log lines (`--log json`)."""
    facts = {name: value for name, value in msgspec.structs.asdict(event).items() if value not in ("", None, 0)}
    named = {name: facts.pop(name, None) for name in ("action", "message_id", "conversation")}
    bad = event.action == "turn_failed" or (event.action == "mail" and event.status == "failed")
    head = {"time": iso(facts.pop("at")), "level": "error" if bad else "info", **named, "message": _sentence(event)}
    if facts.pop("due", None) is not None and event.status in ("waiting", "deferred"):
        facts["due"] = iso(event.due)
    return head | facts


def _print(event: Event) -> None:
    named = f"  {event.message_id}" if event.message_id and event.action in ("stored", "mail") else ""
    line = clean(f"{iso(event.at)} {event.row:>6} {_sentence(event)}{named}")
    bad = event.action == "turn_failed" or event.status == "failed"
    click.echo(click.style(line, fg="red") if bad else line)
    for more in event.traceback.splitlines():
        click.echo(f"    {clean(more)}")


def _sentence(event: Event) -> str:
    """An event in words, without its Message-ID."""
    if event.action == "stored":
        whose = f"{event.source} of {event.conversation or 'nobody'} for {event.recipient}"
        return f"stored: {whose}{_standing(event)}"
    if event.action == "turn":
        moved = f"{event.before} -> {event.after}" if event.after else "done"
        return f"{event.handler}: {moved}{f' ({event.reason})' if event.reason else ''}"
    if event.action == "turn_failed":
        return f"{'dead letter' if event.status == 'dead' else 'held'}: {event.reason or 'no reason was noted'}"
    return f"mail to {event.recipient}: {_mail_standing(event)}"


def _standing(event: Event) -> str:
    """What is to be said of a message that no turn or failure tells."""
    if event.status == "waiting":
        tried = f": tried {event.attempts} times, again at {iso(event.due)} ({event.reason})" if event.attempts else ""
        return f"; it waits{tried}"
    return f"; dropped: {event.reason or 'by an operator'}" if event.status == "dropped" else ""


def _mail_standing(event: Event) -> str:
    if event.status == "deferred":
        return f"deferred until {iso(event.due)} ({event.reason})"
    return f"{event.status} ({event.reason})" if event.reason else event.status
