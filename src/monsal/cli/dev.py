"""`monsal dev`: serve an application while it is being written."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event
from typing import Any

import click

from monsal.cli.exits import OK
from monsal.cli.loading import load_app
from monsal.cli.options import app_option, directory_option
from monsal.cli.serving import Serving, check_here, serve_here
from monsal.config import CONFIG_FILE

__all__ = ["command"]

#: Where outgoing mail is filed, whatever the application says: nothing leaves a machine by which one develops.
_RELAY = "capture:run/sent"


@click.command("dev")
@directory_option
@app_option
@click.option("--check", is_flag=True, hidden=True)
def command(directory: Path, target: str, check: bool) -> int:
    """Serve the application while you write it: changed code is taken up, and no mail leaves this machine.

    When a file of the application, a template or its settings change, the new code is checked; if it can be loaded it
    serves a moment later, with all conversations where they were. If it cannot, you see the traceback, and the code
    from before goes on until the next change.

    \b
    monsal dev --dir desk
    """
    # Python tells compiled code that is stale by the second and the size: two edits of a developer can look the same.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # for the check of new code, and for the image that comes next
    app = load_app(directory, target)
    home = directory.resolve()
    settings = app.settings(home).override({"relay": _RELAY, "log": "text", "workers": 0}, "monsal dev")
    if check:  # of new code, before it takes over
        check_here(app, directory, settings)
        return OK

    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    click.echo(f"dev: taking up changes below {home}; outgoing mail is filed in {home / 'run' / 'sent'}", err=True)

    def reloader(bus: Any, reload: Callable[[], None]) -> Any:
        return _reloader(bus, reload, home, home / app.parts().templates)

    return serve_here(Serving(app, directory, settings, plugins=(reloader,)))


def _reloader(bus: Any, reload: Callable[[], None], home: Path, templates: Path) -> Any:
    """What watches the files of the application, by the file system's own events where watchfiles is installed."""
    from monsal.bus.plugins import Autoreloader

    def on_change(paths: list[str]) -> None:
        changed = ", ".join(
            str(Path(path).relative_to(home) if Path(path).is_relative_to(home) else path) for path in paths
        )
        click.echo(f"  changed: {changed}", err=True)
        reload()

    watched = Autoreloader(bus, watcher=_watcher(), on_change=on_change)
    watched.files.update(str(path) for path in (home / CONFIG_FILE, *templates.rglob("*")) if path.is_file())
    return watched


class _ByEvents:
    """Looks when the file system says that something happened."""

    def __init__(self, watch: Callable[..., Iterable[object]]) -> None:
        self._watch = watch

    def changes(self, directories: list[str], stop_event: Event) -> Iterable[object]:
        return self._watch(
            *directories, stop_event=stop_event, recursive=False, watch_filter=None, yield_on_timeout=True, step=20
        )


def _watcher() -> _ByEvents | None:
    try:
        from watchfiles import watch
    except ImportError:
        return None  # the bus looks at the files once a second
    return _ByEvents(watch)
