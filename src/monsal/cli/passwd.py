"""`monsal passwd`: a line for the file of those who may log in."""

from __future__ import annotations

import sys

import click

from monsal.errors import UsageError

__all__ = ["command"]


@click.command("passwd")
@click.argument("name")
@click.option("--may-write", "may_write", multiple=True, metavar="ADDRESS", help="Also as this address, or @domain.")
def command(name: str, may_write: tuple[str, ...]) -> None:
    """Print a line for the file that the setting auth_users names; the password is asked for, or read from stdin.

    It holds a salted hash (scrypt), from which nobody can tell the password. A user whose NAME is an address may write
    as that address.

    \b
    monsal passwd ann@example.com >> users
    monsal passwd robot --may-write orders@example.com --may-write @example.org < password >> users
    """
    from monsal.ingress import user_line

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    try:
        click.echo(user_line(name, password, may_write))
    except ValueError as error:
        raise UsageError(str(error)) from None
