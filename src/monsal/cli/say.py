"""`monsal say`: speak with the running server as a correspondent does."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from monsal.address import split_address
from monsal.cli.answers import CapturedMail, SentFolder, wait_for_answers
from monsal.cli.called import typed
from monsal.cli.compose import compose
from monsal.cli.exits import OK
from monsal.cli.options import directory_option
from monsal.cli.outcome import outcome_lines, stored_rows
from monsal.cli.output import clean
from monsal.cli.reach import control_client, not_running, wait_ready
from monsal.cli.speak import Answer, Door, Unreachable, deliver, door, worst_code
from monsal.control import ControlClient
from monsal.errors import RemoteError

__all__ = ["command"]


@click.command("say")
@click.argument("address")
@click.argument("text", required=False)
@click.option("--from", "sender", metavar="ADDRESS", help="Who writes.  [default: you, at localhost]")
@click.option("--subject", default="", help="The subject.  [default: the beginning of the text]")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Seconds to wait for answers."
)
@directory_option
def command(address: str, text: str | None, sender: str | None, subject: str, wait: float, directory: Path) -> int:
    """Send a mail to the running server, show its replies, and then its answers if the relay is capture:.

    Without TEXT each line you type is a mail, in one thread, until Ctrl-D.

    \b
    monsal say order@example.com --dir desk "Some tea, please."
    monsal say order@example.com --dir desk --from ann@example.net
    """
    split_address(address)
    sender = sender or f"{getpass.getuser()}@localhost"
    ready = wait_ready(directory)
    if ready is None or not (ready.smtp or ready.lmtp):
        raise not_running(directory)
    target = door(ready.smtp[0], directory) if ready.smtp else door(ready.lmtp[0], directory, lmtp=True)
    with control_client(directory) as control:
        talk = _Talk(
            directory=directory,
            target=target,
            sender=sender,
            address=address,
            subject=subject,
            wait=wait,
            control=control,
        )
        if text is not None:
            return talk.say(text)
        return _converse(talk)


def _converse(talk: _Talk) -> int:
    code = OK
    for text in _lines(talk.address):
        if text.strip():
            code = talk.say(text) or code
    return code


def _lines(address: str) -> Iterator[str]:
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    click.echo(f"Each line is a mail to {address}; Ctrl-D ends.", err=True)
    while True:
        try:
            yield input("> ")
        except EOFError:
            click.echo("")
            return


@dataclass(kw_only=True)
class _Talk:
    """One thread of mails with the server."""

    directory: Path
    target: Door
    sender: str
    address: str
    subject: str
    wait: float
    control: ControlClient
    last_id: str | None = None
    references: str = ""

    def say(self, text: str) -> int:
        """Send one mail and show what comes of it; the exit code."""
        folder = self._folder()
        subject = self.subject or clean(text.strip().partition("\n")[0])[:60]
        if self.last_id and not subject.lower().startswith("re:"):
            subject = f"Re: {self.subject or subject}"
        message_id, message = compose(
            self.sender, [self.address], subject, text, in_reply_to=self.last_id, references=self.references
        )
        self.references = f"{self.references} {self.last_id or ''}".strip()
        self.last_id = message_id
        try:
            answers = deliver(self.target, self.sender, [self.address], message, _show)
        except Unreachable as error:
            raise not_running(self.directory) from error
        code = worst_code(answers)
        if any(answer.code == 550 for answer in answers):
            test = typed("routes", "--test", self.address, directory=self.directory)
            click.echo(f"monsal: it was refused; `{test}` shows what takes this address", err=True)
        if code == OK and folder is not None:
            self._show_answers(folder, [row for answer in answers for row in stored_rows(answer.text)])
        return code

    def _show_answers(self, folder: SentFolder, rows: list[int]) -> None:
        seen = False
        for mail in wait_for_answers(folder, self.sender, self.wait, self._is_idle):
            seen = True
            self.last_id, self.references = mail.header("Message-ID") or self.last_id, mail.header("References")
            _show_mail(mail)
        if not seen:
            self._explain(rows)

    def _explain(self, rows: list[int]) -> None:
        """Say why there is no answer, as far as the server knows what became of the message."""
        lines = [line for row in rows for line in self._ask("store.message", _lines_of, row=row) or ()]
        if not lines:
            status, dead = (typed(name, directory=self.directory) for name in ("status", "dead"))
            lines = [f"`{status}` and `{dead}` may say why"]
        click.echo(f"(no answer to {clean(self.sender)})", err=True)
        for line in lines:
            click.echo(f"  {line}", err=True)

    def _folder(self) -> SentFolder | None:
        """Where answers will be filed; None if the relay really sends them."""
        relay = self._ask("server.config", lambda rows: {row["name"]: row["value"] for row in rows}.get("relay"))
        relay = relay or "capture:run/sent"
        scheme, _, path = relay.partition(":")
        return SentFolder(self.directory / path) if scheme == "capture" else None

    def _is_idle(self) -> bool:
        """Whether every mail is handled and sent, as far as the server tells."""

        def nothing_open(status: Any) -> bool:
            ledger, outbox = status["ledger"], status["outbox"]
            return not (ledger["waiting"] or ledger["running"] or outbox["waiting"] or outbox["sending"])

        return bool(self._ask("server.status", nothing_open))

    def _ask(self, method: str, read: Callable[[Any], Any], **params: Any) -> Any:
        try:
            return read(self.control.call(method, **params))
        except RemoteError:
            return None  # then the mail alone has to do: this command needs nothing but SMTP


def _lines_of(facts: Any) -> list[str]:
    return list(outcome_lines(facts)) if facts else []


def _show(said: str, answer: Answer) -> None:
    line = f"{said:<40} {clean(str(answer))}" if said else clean(str(answer))
    click.echo(click.style(line, dim=True) if answer.exit_code == OK else line)


def _show_mail(mail: CapturedMail) -> None:
    click.echo("")
    for name in ("From", "Subject"):
        click.echo(click.style(f"{name}: {clean(mail.header(name))}", bold=True))
    click.echo("")
    for line in mail.text.split("\n"):
        click.echo(clean(line))
    click.echo("")
