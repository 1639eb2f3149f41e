"""What `monsal run` and `monsal dev` have in common: the process that serves, before and around it."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from monsal.cli.ahead import LEAST_FILES, begun_ahead, discard
from monsal.cli.called import typed
from monsal.cli.exits import FAILED, OK, UNAVAILABLE
from monsal.cli.loading import make_room
from monsal.config import CONFIG_FILE, Resolved, Settings, mask_secrets
from monsal.errors import UsageError
from monsal.loading import TARGET
from monsal.ownership import open_log

if TYPE_CHECKING:
    from monsal.actors.interpreter import Interpreter
    from monsal.app import App

__all__ = ["Serving", "check_here", "in_the_background", "serve_here", "to_log_file"]

#: Where the output of a daemon goes, below the application's directory.
LOG_FILE = Path("run/monsal.log")
#: Seconds that a daemon has to become ready; it asks for more while its store is migrated or recovered.
_STARTING = 60.0


class Serving(msgspec.Struct, frozen=True):
    """An application that is to be served by this process, and how; see `monsal.life.Options`.

    One that is to run as another user is loaded as that user, once the ports are open. `made` are interpreters that run
    already for its processes: they are taken, or ended.
    """

    app: App
    directory: Path
    settings: Resolved
    pid_file: Path | None = None
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    plugins: tuple[Callable[..., Any], ...] = ()
    quiet: bool = False
    target: str = TARGET
    overrides: tuple[tuple[Mapping[str, Any], str], ...] = ()
    made: dict[str, Interpreter] | None = None


def serve_here(serving: Serving) -> int:
    """Serve in this process until it is told to end; the exit code."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < LEAST_FILES:
        # Now: without a file to its name a process cannot even end in order, or say what it lacks.
        click.echo(
            f"monsal: cannot serve {serving.directory}: this process may open {files} files, and needs at least "
            f"{LEAST_FILES} (ulimit -n, LimitNOFILE= of systemd)",
            err=True,
        )
        return UNAVAILABLE
    becomes_another = bool(serving.user or serving.group or serving.umask is not None)
    made = serving.made or begun_ahead(serving.settings.settings.workers, becomes_another=becomes_another)
    try:
        return _serve(serving, made)
    finally:
        discard(made)


def _serve(serving: Serving, made: dict[str, Interpreter]) -> int:
    from monsal.life import Options, serve

    settings = serving.settings.settings

    def welcome(facts: Mapping[str, Any]) -> None:
        if settings.log == "text" and facts["generation"] == 1 and not serving.quiet:
            _welcome(facts, serving.directory, settings)

    def prepare() -> None:
        if not settings.workers:
            _load(serving.app)
        make_room(settings.store, serving.directory.resolve())

    if serving.user is None or os.geteuid():
        # Now, so that what is wrong with the application or its place is told before anything else is done.
        prepare()
    options = Options(
        prepare=prepare,
        on_ready=welcome,
        abandon=_abandon,
        pid_file=serving.pid_file,
        user=serving.user,
        group=serving.group,
        umask=serving.umask,
        plugins=serving.plugins,
        target=serving.target,
        overrides=serving.overrides,
        made=made,
    )
    try:
        return serve(serving.app.parts(), serving.directory, serving.settings, options)
    except OSError as error:
        # A port that is taken, a directory that cannot be written: the place is not fit, the application may be.
        said = (
            _taken(error, "ingress", settings.ingress)
            or _taken(error, "http", settings.http)
            or f"cannot serve {serving.directory}: {error}"
        )
        click.echo(f"monsal: {said}", err=True)
        return UNAVAILABLE


def check_here(app: App, directory: Path, settings: Resolved, log_file: Path | None = None) -> None:
    """Whether the application could be served: raises what would hinder it. Nothing is served or kept.

    A running server that checks new code passes its listening sockets, and is told when all is well: then what the new
    one needs is tried, too.
    """
    # A process that serves leaves the code of actors to theirs; but a reload must not find out when it is too late.
    _load(app, with_actors=True)
    if settings.settings.tls_cert is not None:
        from monsal.gates import check_gate

        check_gate(settings.settings, directory.resolve())
    if settings.settings.http:
        from monsal.web import check_web

        check_web(app.parts().mounts, settings.settings)
    from monsal.conversation.templates import Templates

    Templates(directory / app.parts().templates).check()
    if not os.environ.get("NOTIFY_SOCKET", "").startswith("@monsal-launch-"):
        return
    from monsal.bus import listen_fds, notify
    from monsal.ingress import Doors

    make_room(settings.settings.store, directory.resolve())
    doors = Doors((*settings.settings.ingress, *settings.settings.http), directory.resolve(), listen_fds())
    try:
        if log_file is not None:
            os.close(open_log(log_file))
        doors.open()
    except OSError as error:
        raise UsageError(str(error)) from None
    doors.leave()
    # An exit code says less: code that ends the process while it is imported can give any.
    notify("READY=1")


def _load(app: App, *, with_actors: bool = False) -> None:
    """Load the handlers, and the actors' code. Raises UsageError also if their code ends the process."""
    try:
        app.load()
        actors = app.parts().actors if with_actors else ()
        if actors:
            from monsal.actors.life import ImportFailed
            from monsal.troupe import check_actors

            try:
                check_actors(actors)
            except ImportFailed as error:
                raise UsageError(f"an actor cannot start: {error}") from error
    except SystemExit as error:
        raise UsageError(f"the application's code calls sys.exit({error.code!r}) while it is imported") from error


def _abandon(code: int) -> None:
    click.echo("monsal: a thread that a handler started is still running; leaving it behind", err=True)
    os._exit(code)


def in_the_background(directory: Path, log_file: Path | None, owner: tuple[int, int] | None) -> int:
    """Start the same command as a daemon, a fresh process in a session of its own; return when it is ready.

    What it says until then is shown here; from then on it goes to its log file.
    """
    from monsal.bus.launching import LaunchFailed, launch

    home = directory.resolve()
    path = home / LOG_FILE if log_file is None else log_file.absolute()
    if log_file is None and not path.parent.is_symlink():
        path.parent.mkdir(exist_ok=True)
    options = [word for word in sys.orig_argv[1:] if word != "--daemon"]
    if log_file is None:
        options += ["--log-file", str(path)]
    descriptor = open_log(path, owner)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Whoever gives up waiting for the daemon does not want it any more: `launch` ends it.
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        launched = launch(
            [sys.executable, *options],
            new_session=True,
            stdout=descriptor,
            stderr=descriptor,
            limit=_STARTING,
            on_status=_show_status,
        )
    except LaunchFailed as failure:
        click.echo(failure.output.rstrip("\n") or f"monsal: {failure}", err=True)
        return failure.code if failure.code is not None and failure.code > 0 else FAILED
    finally:
        os.close(descriptor)
    launched.let_go()
    click.echo(f"monsal runs in the background: process {launched.pid}, ready after {launched.seconds:.1f} s")
    for name, text in (
        ("log", str(path)),
        ("look", typed("status", directory=directory)),
        ("stop", typed("stop", directory=directory)),
    ):
        click.echo(f"  {name:<12} {text}")
    return OK


def _show_status(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"monsal: {text}", err=True)


def to_log_file(path: Path, owner: tuple[int, int] | None) -> None:
    """Send standard output and standard error to the end of a file from now on.

    A process that was launched keeps its standard error until it is ready: who launched it shows what goes wrong.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = open_log(path, owner)
    try:
        os.dup2(descriptor, 1)
        if "MONSAL_LAUNCH_STDERR" not in os.environ:
            os.dup2(descriptor, 2)
    finally:
        os.close(descriptor)


def _taken(error: OSError, setting: str, urls: tuple[str, ...]) -> str | None:
    """What to do if `error` says that the port of one of the addresses is taken; None if it says something else."""
    if error.errno != errno.EADDRINUSE:
        return None
    # The longest: smtp://h:88 is also the beginning of smtp://h:8825.
    url = max((url for url in urls if url in str(error)), key=len, default=None)
    place, colon, port = (url or "").rpartition(":")
    if url is None or not port.isdigit():
        return None
    other = f"{place}{colon}{int(port) + 1 if int(port) < 65535 else 8825}"
    all_of_them = [other if each == url else each for each in urls]
    listed = ", ".join(f'"{each}"' for each in all_of_them)
    return (
        f"{url} is in use: another monsal? Stop it, or choose a port: "
        f"{setting} = [{listed}] in {CONFIG_FILE}, or MONSAL_{setting.upper()}={','.join(all_of_them)}"
    )


def _welcome(facts: Mapping[str, Any], directory: Path, settings: Settings) -> None:
    """Say to people, when the server is ready, where it is and what to type next."""
    where = directory.resolve()  # it is typed in another terminal, and that may be anywhere
    leaves = " (files it; nothing leaves this machine)" if settings.relay.startswith("capture:") else ""
    for name, text in (
        ("mail in", ", ".join([*facts["smtp"], *facts.get("smtps", ()), *facts["lmtp"]]) or "nowhere"),
        *([("http", ", ".join(facts["http"]))] if facts["http"] else []),
        ("mail out", f"{mask_secrets(settings.relay)}{leaves}"),
        ("write to it", f'{typed("say", facts["example"], directory=where)} "Hello"'),
        ("look", typed("status", directory=where)),
        ("stop", f"Ctrl-C, or {typed('stop', directory=where)}"),
    ):
        click.echo(f"  {name:<12} {text}")
