"""`monsal dkim`: keys that sign outgoing mail."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from monsal.cli.called import typed
from monsal.cli.exits import OK
from monsal.cli.loading import resolve
from monsal.cli.options import directory_option
from monsal.cli.root import Actions

if TYPE_CHECKING:
    from monsal.delivery.dkim import Algorithm

__all__ = ["command"]

#: Where keys are made if the setting dkim_key does not say.
_DIRECTORY = "dkim"
#: Octets of one string of a TXT record (RFC 1035, section 3.3.14).
_STRING = 255


@click.group("dkim", cls=Actions)
def command() -> None:
    """Keys that sign outgoing mail (RFC 6376).

    \b
    monsal dkim new 2026a --domain example.com
    monsal dkim
    """


@command.command("new")
@click.argument("selector")
@click.option("--domain", default=None, help="The domain that signs (default: the setting dkim_domain, else hostname).")
@click.option(
    "--algorithm",
    type=click.Choice(["rsa", "ed25519"]),
    default="rsa",
    show_default=True,
    help="Of the key; all receivers know rsa, ed25519 is shorter (RFC 8463).",
)
@directory_option
def new(selector: str, domain: str | None, algorithm: str, directory: Path) -> int:
    """Make a key and print the record that the DNS should have.

    The newest key of each algorithm signs, from the next start or reload on: publish the record before.

    \b
    monsal dkim new 2026a --domain example.com
    """
    from monsal.delivery.dkim import make_key

    settings = resolve(directory).settings
    place = directory / (settings.dkim_key or _DIRECTORY)
    if place.suffix == ".pem":
        place = place.parent
    path = make_key(place, selector, cast("Algorithm", algorithm))
    click.echo(f"made {path}", err=True)
    if not settings.dkim_key:
        click.echo(f'it signs when monsal.toml says dkim_key = "{_DIRECTORY}"', err=True)
    _print_record(path, domain or settings.dkim_domain or settings.hostname)
    return OK


@command.command("list")
@click.option("--domain", default=None, help="The domain that signs (default: the setting dkim_domain, else hostname).")
@directory_option
def list_(domain: str | None, directory: Path) -> int:
    """Print the records of the keys there are, the newest first.

    \b
    monsal dkim list --domain example.com
    """
    from monsal.delivery.dkim import key_files

    settings = resolve(directory).settings
    if not settings.dkim_key and not (directory / _DIRECTORY).exists():
        click.echo(f"there are no keys; `{typed('dkim', 'new', 'SELECTOR', directory=directory)}` makes one")
        return OK
    for path in key_files(directory / (settings.dkim_key or _DIRECTORY)):
        _print_record(path, domain or settings.dkim_domain or settings.hostname)
    return OK


def _print_record(path: Path, domain: str) -> None:
    """A line of a zone file."""
    from monsal.delivery.dkim import dns_record

    text = dns_record(path)
    strings = " ".join(f'"{text[at : at + _STRING]}"' for at in range(0, len(text), _STRING))
    click.echo(f"{path.stem}._domainkey.{domain}. IN TXT {strings}")
