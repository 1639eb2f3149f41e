"""`monsal run`: serve an application, in the foreground or as a daemon.

What most of it needs is loaded after the processes of workers have begun, which load more and can do so meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monsal.cli.ahead import begun_ahead, discard
from monsal.cli.called import typed
from monsal.cli.exits import OK
from monsal.cli.options import app_option, directory_option
from monsal.errors import UsageError

if TYPE_CHECKING:
    from monsal.app import App

__all__ = ["command"]


class _Umask(click.ParamType[int]):
    """An octal number, as chmod(1) takes it."""

    name = "octal"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            found = int(str(value), 8)
        except ValueError:
            found = -1
        if not 0 <= found <= 0o777:
            self.fail(f"{value!r} is no umask; it is an octal number up to 777, as in 027", param, ctx)
        return found


#: A file to write to; who becomes another user need not be able to read it.
_FILE = click.Path(dir_okay=False, readable=False, path_type=Path)


@click.command("run")
@directory_option
@app_option
@click.option("--workers", type=int, help="Processes that handle messages; 0, the default: all in this one.")
@click.option("--log", type=click.Choice(["text", "json"]), help="Form of the log lines on standard error.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Least level that is logged."
)
@click.option(
    "--log-file", type=click.Path(dir_okay=False, readable=False, path_type=Path), help="Append all output to a file."
)
@click.option("--daemon", is_flag=True, help="Return when it is ready, and leave it running in the background.")
@click.option(
    "--pid",
    "pid_file",
    type=click.Path(dir_okay=False, readable=False, path_type=Path),
    help="Write the process id to a file.",
)
@click.option("--user", help="Run as this user once the ports are open (name or number; needs root).")
@click.option("--group", help="Run as this group; by default that of the user.")
@click.option("--umask", type=_Umask(), help="Bits that new files do not get, as in 027.")
@click.option("--check", is_flag=True, help="Load the application and its settings, say what is wrong, open nothing.")
def command(
    directory: Path,
    target: str,
    workers: int | None,
    log: str | None,
    log_level: str | None,
    log_file: Path | None,
    daemon: bool,
    pid_file: Path | None,
    user: str | None,
    group: str | None,
    umask: int | None,
    check: bool,
) -> int:
    """Serve the application until SIGTERM, Ctrl-C or `monsal stop`.

    Then no more mail is taken, running turns end, the outbox is sent as far as time allows, and the rest waits for the
    next start. A second signal does not wait for turns, a third ends the process at once. SIGHUP and SIGUSR1 load the
    code anew (on a terminal SIGHUP exits).

    Exit code 0: a clean end; 64: the application or a setting is wrong; 65: the store is damaged or of a later version;
    69: an address cannot be listened on; 73: the store cannot be made; 75: another process serves here.

    \b
    monsal run --dir desk
    monsal run --dir desk --log json
    monsal run --dir desk --workers 4                       on four cores, with one process more for the store
    monsal run --dir desk --daemon --pid /run/desk.pid      as a daemon; its log is desk/run/monsal.log
    monsal run --dir desk --user desk --umask 027           as root, for ports below 1024
    monsal run --dir desk --check                           is it fit to run?
    """
    _check_names(user, group)
    _check_places(pid_file, log_file)
    given = {"workers": workers, "log": log, "log_level": log_level}
    if check:
        return _check(directory, target, given, log_file)
    if daemon:
        return _in_the_background(directory, log_file, user, group)
    # Before this process loads what it needs itself, for until then it is the only one that does anything. What the
    # others write goes where this one writes now.
    becomes_another = bool(user or group or umask is not None)
    made = {} if log_file is not None else begun_ahead(workers or 0, becomes_another=becomes_another)
    try:
        from monsal.cli.loading import load_app
        from monsal.cli.serving import Serving, serve_here, to_log_file

        app = load_app(directory, target)
        settings = app.settings(directory.resolve()).override(given)
        if log_file is not None:
            to_log_file(log_file, _owner(user, group))
        options: dict[str, Any] = {"pid_file": pid_file, "user": user, "group": group, "umask": umask, "target": target}
        quiet, overrides = log_file is not None, ((given, "the command line"),)
        return serve_here(Serving(app, directory, settings, quiet=quiet, overrides=overrides, made=made, **options))
    finally:
        discard(made)


def _owner(user: str | None, group: str | None) -> tuple[int, int] | None:
    from monsal.ownership import owner_to_be

    return owner_to_be(user, group)


def _in_the_background(directory: Path, log_file: Path | None, user: str | None, group: str | None) -> int:
    from monsal.cli.serving import in_the_background

    return in_the_background(directory, log_file, _owner(user, group))


def _check(directory: Path, target: str, given: Mapping[str, Any], log_file: Path | None) -> int:
    from monsal.cli.loading import load_app
    from monsal.cli.serving import check_here

    app = load_app(directory, target)
    settings = app.settings(directory.resolve()).override(given)
    check_here(app, directory, settings, log_file)
    _say_fit(app, directory)
    return OK


def _say_fit(app: App, directory: Path) -> None:
    """Say that the application can be served, and whether its routes leave mail without a handler all the same."""
    from monsal.routing import findings

    routes = len(app.router.table.routes)
    odd = sum(finding.severity == "warning" for finding in findings(app.router.table))
    can = f"{directory.resolve()} can be served, with {routes} route{'' if routes == 1 else 's'}"
    click.echo(f"{can}: `{typed('run', directory=directory)}`")
    if odd:
        look = typed("routes", "--check", directory=directory)
        click.echo(f"{odd} thing{'' if odd == 1 else 's'} about the routes may not be meant so: `{look}`")


def _check_places(*files: Path | None) -> None:
    """Raises UsageError if a file is to be in a directory that is not there."""
    for file in files:
        if file is not None and not file.parent.is_dir():
            raise UsageError(f"there is no directory {file.parent}, so {file.name} cannot be made there")


def _check_names(user: str | None, group: str | None) -> None:
    """Raises UsageError if there is no such user or group."""
    if user is None and group is None:
        return
    from monsal.bus.plugins.privileges import find_gid, find_uid

    for name, find in ((user, find_uid), (group, find_gid)):
        try:
            find(name) if name is not None else None
        except (LookupError, ValueError) as error:
            raise UsageError(str(error.args[0])) from None
