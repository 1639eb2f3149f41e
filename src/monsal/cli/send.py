"""`monsal send`: one mail, by SMTP, to any server."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from monsal.cli.called import typed
from monsal.cli.compose import compose
from monsal.cli.exits import DATA, OK, UNAVAILABLE
from monsal.cli.options import directory_option
from monsal.cli.output import clean
from monsal.cli.reach import not_running, wait_ready
from monsal.cli.speak import Door, Unreachable, deliver, door, worst_code
from monsal.errors import UsageError

__all__ = ["command"]


@click.command("send")
@click.option("--to", "recipients", metavar="ADDRESS", multiple=True, required=True, help="To whom; several times.")
@click.option("--from", "sender", metavar="ADDRESS", required=True, help="From whom.")
@click.option("--subject", default="", help="The subject.")
@click.option("--body", help="The text; without it standard input is read.")
@click.option("--host", help="The SMTP server (default: the one that runs in the directory).")
@click.option("--port", type=click.IntRange(1, 65535), help="Its port.  [default: 25 with --host]")
@directory_option
def command(
    recipients: tuple[str, ...],
    sender: str,
    subject: str,
    body: str | None,
    host: str | None,
    port: int | None,
    directory: Path,
) -> int:
    """Send one mail. Exit code 0: taken; 75: not now; 65: refused for good; 69: nobody takes the connection.

    \b
    monsal send --to order@example.com --from ann@example.net --subject Hello --body "Some tea, please."
    monsal send --to bob@example.org --from me@example.org --host mail.example.org < letter.txt
    """
    target = _target(host, port, directory)
    if target is None:
        error = not_running(directory, also="; or give --host and --port")
        if isinstance(error, UsageError):
            raise error
        click.echo(f"monsal: {error}", err=True)
        return UNAVAILABLE
    text = body if body is not None else sys.stdin.read()
    _, message = compose(sender, recipients, subject, text)
    try:
        answers = deliver(target, sender, recipients, message)
    except Unreachable as error:
        click.echo(f"monsal: {error}", err=True)
        return UNAVAILABLE
    for recipient, answer in zip(recipients, answers, strict=True):
        line = f"{recipient}: {clean(str(answer))}"
        click.echo(line, err=answer.exit_code != OK)
        if answer.exit_code == DATA and answer.code == 550:
            click.echo(
                f"monsal: `{typed('routes', '--test', recipient, directory=directory)}` shows what it matches", err=True
            )
    return worst_code(answers)


def _target(host: str | None, port: int | None, directory: Path) -> Door | None:
    if host is not None:
        return Door(host, port or 25)
    if port is not None:
        return Door("127.0.0.1", port)
    ready = wait_ready(directory)
    return door(ready.smtp[0], directory) if ready is not None and ready.smtp else None
