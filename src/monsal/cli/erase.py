"""`monsal erase`: all of one correspondent goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from monsal.address import fold
from monsal.cli.called import typed
from monsal.cli.exits import FAILED, OK, TRY_AGAIN
from monsal.cli.options import directory_option, json_option
from monsal.cli.output import clean, print_json
from monsal.cli.reach import act

__all__ = ["command"]

#: What the server cannot know, and cannot erase.
_ELSEWHERE = (
    "that they are not written to any more, if so (monsal suppressed)",
    "tables of the application's own, and what its actors and other systems keep",
    "log files, backups, and mail that has left (with relay = capture: the maildir)",
    "conversations that all correspondents share, and mail of others that mentions them",
)


@click.command("erase")
@click.argument("sender")
@directory_option
@json_option
@click.option("--dry-run", is_flag=True, help="Only say what there is (as without --yes).")
@click.option("--yes", is_flag=True, help="Do it; there is no way back.")
def command(sender: str, directory: Path, as_json: bool, dry_run: bool, yes: bool) -> int:
    """Erase what is stored of SENDER: messages and their content, mail to them, states, timers and history.

    Without --yes nothing is changed. The ledger goes on counting what was; messages that were not handled count as
    dropped. What stays is told. Exit code 1: there is nothing; 75: some is just being handled, so try again.

    \b
    monsal erase ann@example.net --dir desk
    monsal erase ann@example.net --yes --dir desk
    """
    really = yes and not dry_run
    found: dict[str, Any] = act(directory, "erase", sender=fold(sender), dry_run=not really)
    if as_json:
        print_json({"sender": fold(sender), "erased": really, **found, "stays": _ELSEWHERE})
    else:
        _tell(sender, found, really=really, directory=directory)
    if really and found["running"]:
        return TRY_AGAIN
    return OK if _is_something(found) else FAILED


def _is_something(found: Mapping[str, Any]) -> bool:
    return any(found[name] for name in ("messages", "mails", "states", "timers"))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _tell(sender: str, found: dict[str, Any], *, really: bool, directory: Path) -> None:
    if not (_is_something(found) or found["running"] or found["elsewhere"]):
        click.echo(f"nothing is stored of {clean(sender)}")
        return
    click.echo(f"{'erased' if really else 'stored'} of {clean(sender)}:")
    messages, turns = _count(found["messages"], "message"), _count(found["turns"], "turn")
    click.echo(f"  {messages} ({found['unhandled']} not handled), {turns}")
    click.echo(f"  {_count(found['mails'], 'mail')} to them ({found['unsent']} not sent)")
    click.echo(f"  {_count(found['states'], 'state')}, {_count(found['timers'], 'timer')}")
    if really:
        click.echo(f"  the content of {_count(found['bodies'], 'mail')}")
    click.echo("what stays:")
    if found["running"]:
        click.echo(f"  {found['running']} that are being handled or sent at this moment: do it again")
    if found["elsewhere"]:
        click.echo(f"  {found['elsewhere']} mails to others that their messages made (setting keep_bodies)")
    for line in _ELSEWHERE:
        click.echo(f"  {line}")
    if not really:
        click.echo(f"nothing was changed; `{typed('erase', clean(sender), '--yes', directory=directory)}` erases it")
