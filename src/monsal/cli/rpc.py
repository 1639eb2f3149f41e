"""`monsal rpc`: call any program that speaks JSON-RPC 2.0, and see what it can be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from monsal.cli.arguments import arguments_of
from monsal.cli.called import typed
from monsal.cli.exits import DATA, FAILED, OK, TRY_AGAIN, UNAVAILABLE, USAGE
from monsal.cli.openrpc import COLUMNS, rows_of
from monsal.cli.options import directory_option, json_option
from monsal.cli.output import clean, print_json, print_rows
from monsal.cli.remote import Target, ask, tell
from monsal.cli.root import command_first
from monsal.errors import NoAnswer, RemoteError, RemoteFault
from monsal.wire.codes import BUSY, CANCELLED, DEADLINE, INVALID_PARAMS, METHOD_NOT_FOUND, SHUTDOWN

__all__ = ["command"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
#: What a fault of a well-known number ends in; with any other one the method has said no.
_EXITS = {
    INVALID_PARAMS: DATA,
    METHOD_NOT_FOUND: USAGE,
    BUSY: TRY_AGAIN,
    CANCELLED: TRY_AGAIN,
    DEADLINE: TRY_AGAIN,
    SHUTDOWN: TRY_AGAIN,
}


class _Rpc(click.Group):
    """Options that all its commands have may stand before the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, command_first(args, self.list_commands(ctx)))


@click.group("rpc", cls=_Rpc)
def command() -> None:
    """Call any program that speaks JSON-RPC 2.0.

    ADDRESS is the path of a unix socket below --dir, unix:PATH, tcp://HOST:PORT, or
    tcps://HOST:PORT?ca=FILE&cert=FILE&key=FILE for TLS.

    \b
    monsal rpc discover run/api.sock --dir desk
    monsal rpc call run/api.sock ticket number=7 --dir desk
    monsal rpc notify tcp://127.0.0.1:8888 log text="It rains."

    Exit code 0: done; 1: the method said no; 64: there is no such method; 65: wrong parameters; 69: nobody there;
    75: not now (busy, no answer in time, connection lost: what was done is not known).
    """


def _reaching(made: _Command) -> _Command:
    """The options that say how the other side is reached."""
    patience = click.option(
        "--timeout",
        type=click.FloatRange(0, 86400, min_open=True),
        default=30.0,
        show_default=True,
        help="Seconds until the answer must be there.",
    )
    speech = click.option(
        "--codec",
        metavar="NAME",
        default="jrpc:\n",
        help="How it speaks: jrpc:, each object followed by NUL; lsp:, with a Content-Length; terse:, one line a call, "
        "to be typed by hand. "
        "[default: JSON, one object a line]",
    )
    return directory_option(patience(speech(made)))


def _parameters(made: _Command) -> _Command:
    """The method and what it is given."""
    by_place = click.option("--positional", is_flag=True, help="Parameters have no names: VALUE VALUE ...")
    words = click.argument("words", metavar="[KEY=VALUE]...", nargs=-1)
    return click.argument("address")(click.argument("method")(words(by_place(made))))


@command.command("call")
@_parameters
@_reaching
@json_option
def call(
    address: str,
    method: str,
    words: tuple[str, ...],
    positional: bool,
    directory: Path,
    timeout: float,
    codec: str,
    as_json: bool,
) -> int:
    """Call a METHOD and print its result.

    A VALUE is JSON if it can be read as that, otherwise text. KEY=@FILE is the text of a file; a single - reads all
    parameters, a JSON object or list, from standard input.

    \b
    monsal rpc call run/control.sock server.status --dir desk
    monsal rpc call tcp://127.0.0.1:8888 add a=1 b=2
    monsal rpc call unix:run/api.sock write to=ann@example.net text=@letter.txt
    echo '{"a": 1, "b": 2}' | monsal rpc call run/api.sock add -
    """
    params = arguments_of(words, positional=positional)
    target = Target.of(address, directory, codec=codec, timeout=timeout)
    try:
        result = ask(target, method, params)
    except RemoteError as error:
        code = _explain(error)
        if isinstance(error, RemoteFault) and error.code == METHOD_NOT_FOUND:
            listing = typed("rpc", "discover", address, directory=directory)
            click.echo(f"monsal: `{clean(listing)}` lists the methods", err=True)
        return code
    if as_json:
        print_json(result)
    else:
        _print(result)
    return OK


@command.command("notify")
@_parameters
@_reaching
def notify(
    address: str,
    method: str,
    words: tuple[str, ...],
    positional: bool,
    directory: Path,
    timeout: float,
    codec: str,
) -> int:
    """Tell a METHOD something that is not answered. Exit code 0: it was sent; whether it was heard is not known.

    \b
    monsal rpc notify run/api.sock log text="It rains." --dir desk
    """
    params = arguments_of(words, positional=positional)
    target = Target.of(address, directory, codec=codec, timeout=timeout)
    try:
        tell(target, method, params)
    except RemoteError as error:
        return _explain(error)
    return OK


@command.command("discover")
@click.argument("address")
@_reaching
@json_option
def discover(address: str, directory: Path, timeout: float, codec: str, as_json: bool) -> int:
    """List the methods of a program, with their parameters. --json prints the OpenRPC document.

    \b
    monsal rpc discover run/control.sock --dir desk
    monsal rpc discover tcp://127.0.0.1:8888 --json > openrpc.json
    """
    target = Target.of(address, directory, codec=codec, timeout=timeout)
    try:
        document = ask(target, "rpc.discover", {})
        rows = rows_of(document)
    except RemoteFault as error:
        if error.code == METHOD_NOT_FOUND:
            click.echo(f"monsal: {clean(address)} does not tell what it can be asked (rpc.discover)", err=True)
            return FAILED
        return _explain(error)
    except RemoteError as error:
        return _explain(error)
    except ValueError as error:
        click.echo(f"monsal: what {clean(address)} tells of itself is no OpenRPC document: {error}", err=True)
        return DATA
    if as_json:
        print_json(document)
    else:
        print_rows(rows, COLUMNS, as_json=False, empty="it has no methods")
    return OK


def _print(result: Any) -> None:
    """A result for people: text as it is, anything else as JSON; nothing that could steer a terminal."""
    if isinstance(result, str):
        text = result
    elif isinstance(result, dict | list) and result:
        text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    else:
        text = msgspec.json.encode(result).decode()
    _echo_lines(text.split("\n"))


def _explain(error: RemoteError) -> int:
    """Say why there is no result; the exit code."""
    if not isinstance(error, RemoteFault):
        click.echo(f"monsal: {clean(error)}", err=True)
        return TRY_AGAIN if isinstance(error, NoAnswer) else UNAVAILABLE
    _echo_lines(error.details.splitlines(), err=True)
    click.echo(f"monsal: {clean(error)} (code {error.code})", err=True)
    told = error.data
    if isinstance(told, dict):
        told = {key: value for key, value in told.items() if value != error.details}
    if told and told != error.details:
        click.echo(f"data: {clean(msgspec.json.encode(told, enc_hook=str).decode())}", err=True)
    return _EXITS.get(error.code, FAILED)


def _echo_lines(lines: Sequence[str], *, err: bool = False) -> None:
    for line in lines:
        click.echo(clean(line), err=err)
