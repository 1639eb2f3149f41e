"""The command line as a whole: the list of commands, and how errors become words and exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any

import click

from monsal.cli.called import program, typed
from monsal.cli.exits import FAILED, INTERRUPTED, USAGE, exit_code
from monsal.cli.interrupts import loading
from monsal.errors import MonsalError, UsageError
from monsal.memory import collect_seldom

__all__ = ["Actions", "Commands", "cli", "command_first", "main"]

#: Command -> what it does in a few words. The module of that name in this package has the rest.
COMMANDS = {
    "new": "Make a small working application.",
    "run": "Serve an application until a signal.",
    "dev": "Serve an application while it is being written.",
    "stop": "End a running server.",
    "reload": "Take up the code as it is now, refusing nobody.",
    "restart": "Replace the running server by a fresh one, refusing nobody.",
    "status": "Ledger, outbox and readiness.",
    "workers": "The processes that serve, and what each is doing.",
    "why": "What a start or stop is waiting for.",
    "blame": "What took how long at the start, and at the last stop.",
    "say": "Write to the running server and see its answers.",
    "send": "Send one mail.",
    "ingest": "Accept one message from standard input, durably.",
    "routes": "Routes in order; what an address matches; what is odd.",
    "states": "Where conversations stand.",
    "log": "What happened to messages and conversations.",
    "queue": "Messages that wait, run or are held.",
    "outbox": "Mail that has not left.",
    "dead": "Dead letters.",
    "suppressed": "Addresses that are not written to any more.",
    "erase": "Erase all that is stored of one correspondent.",
    "store": "Back up the file with everything in it.",
    "release": "Let a held conversation go on.",
    "keys": "The keys that sign capability addresses.",
    "rpc": "Call a program over JSON-RPC; list what it can be asked.",
    "config": "Each setting, its value and where it comes from.",
    "passwd": "A line for the file of those who may log in.",
    "dkim": "Keys that sign outgoing mail.",
    "bench": "How fast this machine is, on the disk of a directory.",
    "doctor": "What is wrong here, and what to do about it.",
    "systemd": "A hardened unit file for the application.",
}
#: Options with a value that people write before a command too.
_VALUED = ("--dir", "--limit", "--app")


def command_first(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """The arguments with the first command among them moved to the front, so that options may stand before it."""
    for place, word in enumerate(arguments):
        if word == "--":
            break
        if word in names and (place == 0 or arguments[place - 1] not in _VALUED):
            return [word, *arguments[:place], *arguments[place + 1 :]]
    return list(arguments)


class Actions(click.Group):
    """A command with actions (`monsal dead replay 5`); without one it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = command_first(args, self.list_commands(ctx))
        if (not args or args[0].startswith("-")) and not {"--help", "-h"} & set(args):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Whole sentences: click cuts them to the width that is left of one line.
        with formatter.section("Commands"):
            rows = [(name, self.commands[name].get_short_help_str(limit=1000)) for name in self.list_commands(ctx)]
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            there_are = ", ".join(self.list_commands(ctx))
            raise click.UsageError(f"there is no {ctx.info_name} {args[0]!r}; there are {there_are}", ctx)
        return super().resolve_command(ctx, args)


class Commands(click.Group):
    """All commands, each imported when it is used; errors leave as one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with loading():
            found = import_module(f"monsal.cli.{cmd_name}").command
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"{typed('--help')} lists all commands"
            if args[0] in ("help", "version"):  # of other programs these are commands
                hint = f"say {typed(*args[1:2], f'--{args[0]}')}"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in _VALUED:
            args = command_first(args, self.list_commands(ctx))
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table above: to list the commands none of them has to be imported.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        code = self._run(args, prog_name or "monsal", complete_var, extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, args: Sequence[str] | None, prog_name: str, complete_var: str | None, extra: dict[str, Any]) -> int:
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.UsageError as error:
            error.show()
            return USAGE
        except click.ClickException as error:
            error.show()
            return FAILED
        except (click.Abort, KeyboardInterrupt):
            return _interrupted()
        except BrokenPipeError:
            # `monsal queue | head`: the reader has seen enough. What is left in the buffer has nowhere to go.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except Exception as error:
            if _came_of_an_interrupt(error):
                return _interrupted()
            if isinstance(error, MonsalError):
                _explain(error)
                return exit_code(error)
            if not isinstance(error, FileNotFoundError) or _has_directory():
                raise
            click.echo("monsal: the current directory is gone; change to another one", err=True)
            return USAGE
        return result if isinstance(result, int) else 0


def _interrupted() -> int:
    click.echo("monsal: interrupted", err=True)
    return INTERRUPTED


def _came_of_an_interrupt(error: BaseException | None) -> bool:
    """Whether it was made of a KeyboardInterrupt, as `__set_name__` makes a RuntimeError of each (Python 3.11)."""
    seen: set[int] = set()
    # The application's code may have made a circle of causes.
    while error is not None and not isinstance(error, KeyboardInterrupt) and id(error) not in seen:
        seen.add(id(error))
        error = error.__cause__
    return isinstance(error, KeyboardInterrupt)


def _has_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _explain(error: MonsalError) -> None:
    """Say what happened; if it happened in the application's own code, where."""
    details = getattr(error, "details", "")
    if isinstance(error, UsageError) and error.__cause__ is not None:
        details = "".join(_own_traceback(error.__cause__))
    if details:
        click.echo(details.rstrip("\n"), err=True)
    # Errors of the library name commands by the bare name, which the shell may not find.
    said = str(error).replace("`monsal ", f"`{program()} ") or type(error).__name__
    click.echo(f"monsal: {said}", err=True)


def _own_traceback(error: BaseException) -> Iterator[str]:
    """The traceback without our frames and those of the import machinery: their author can mend nothing there."""
    here = os.path.dirname(os.path.dirname(__file__)) + os.sep
    trace: TracebackType | None = error.__traceback__
    while trace is not None and (
        trace.tb_frame.f_code.co_filename.startswith((here, "<frozen importlib"))
        or os.sep + "importlib" + os.sep in trace.tb_frame.f_code.co_filename
    ):
        trace = trace.tb_next
    yield from traceback.format_exception(type(error), error, trace)


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from monsal import __version__

        click.echo(f"monsal {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """An application server for stateful conversations by mail.

    \b
    monsal new desk            make an application in the directory desk
    monsal run --dir desk      serve it
    monsal say order@example.com --dir desk "Hello"     write to it, from another terminal
    """


def _have_standard_streams() -> None:
    """Open what is closed of standard input, output and error: else the next file or socket would be taken for it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, and so this one
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    _have_standard_streams()
    # What is loaded stays: to look for circles among it takes a fifteenth of the time that it takes to load it.
    collect_seldom()
    code = cli.main(arguments, standalone_mode=False)
    assert isinstance(code, int)
    return code
