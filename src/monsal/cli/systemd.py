"""`monsal systemd`: a unit file for the application, hardened."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from monsal.bus.plugins.privileges import blocked_for, find_uid
from monsal.cli.exits import OK
from monsal.cli.loading import is_application, no_application, resolve
from monsal.cli.options import directory_option
from monsal.config import Resolved, Settings
from monsal.errors import UsageError
from monsal.ingress import parse_maildir
from monsal.ingress.listen import parse_bind

__all__ = ["command"]

#: Seconds beyond the drain until systemd ends it by force: the units are stopped, the store is closed.
_BEYOND = 60
_SERVICE = """\
# {name}.service, made by `monsal systemd`
[Unit]
Description=monsal: {name}
After=network.target

[Service]
Type=notify
NotifyAccess=main
User={user}
WorkingDirectory={directory}
{environment}ExecStart={program} run --dir {directory}
ExecReload={program} reload --dir {directory}
Restart=on-failure
RestartSec=1
# What is wrong with the application or its place is not mended by trying again (sysexits.h).
RestartPreventExitStatus=64 65 73
# It asks for more while a store is migrated, and feeds the watchdog only while messages get done.
TimeoutStartSec=60
TimeoutStopSec={stop}
WatchdogSec=60
KillMode=mixed
UMask=0027

# It reads its code, writes where mail is kept, and speaks to the network: nothing else.
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={written}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
_SOCKET = """\
# {name}.socket, made by `monsal systemd --socket`
[Unit]
Description=monsal: sockets of {name}

[Socket]
{listens}
NoDelay=yes
Backlog=1024
FileDescriptorName={kind}
Service={service}.service

[Install]
WantedBy=sockets.target
"""


@click.command("systemd")
@directory_option
@click.option("--name", help="Name of the unit; by default that of the directory.")
@click.option("--user", help="Who it runs as; by default the owner of the directory.")
@click.option("--socket", "sockets", is_flag=True, help="Also socket units, by which systemd opens the ports.")
@click.option(
    "--write",
    "target",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Write the units into this directory instead of printing them.",
)
def command(directory: Path, name: str | None, user: str | None, sockets: bool, target: Path | None) -> int:
    """Make a systemd unit for the application: it waits until it is ready, watches over it, and shuts it in.

    With --socket systemd opens the ports, also those below 1024, and keeps them through restarts.

    \b
    monsal systemd --dir desk                                     look at it
    sudo monsal systemd --dir desk --user desk --write /etc/systemd/system
    """
    if not is_application(directory):
        raise no_application(directory)
    home = directory.resolve()
    resolved = resolve(directory)
    settings = resolved.settings
    name = _unit_name(name, home)
    user = user or home.owner()
    units = {f"{name}.service": _service(name, user, resolved, home)}
    if sockets:
        units |= _socket_units(name, settings, home)
    if target is None:
        click.echo("\n".join(units.values()), nl=False)
        return OK
    for file, text in units.items():
        (target / file).write_text(text, encoding="utf-8")
        click.echo(f"wrote {target / file}")
    started = " ".join([*(file for file in units if file.endswith(".socket")), f"{name}.service"])
    for step in (*_before(user, home), f"systemctl daemon-reload && systemctl enable --now {started}"):
        click.echo(f"  next         {step}")
    return OK


def _unit_name(given: str | None, home: Path) -> str:
    if given is None:
        return re.sub(r"[^A-Za-z0-9:_.-]", "-", home.name)
    name = given.removesuffix(".service")
    if not re.fullmatch(r"[A-Za-z0-9:_.-]+", name):
        raise UsageError(f"{given!r} is no name of a unit: letters, digits and : _ . - (systemd.unit(5))")
    return name


def _before(user: str, home: Path) -> Iterator[str]:
    """What has to be done before the unit can start, as commands; and what will not work, on standard error."""

    def warn(text: str) -> None:
        click.echo(f"monsal: {text}", err=True)

    run = shlex.quote(str(home / "run"))
    if user == "root":
        warn("it will run as root; --user names another user")
    try:
        uid = find_uid(user)
    except LookupError:
        yield f"useradd --system --home-dir {shlex.quote(str(home))} {shlex.quote(user)}"
        yield f"install -d -o {shlex.quote(user)} {run} && chown -R {shlex.quote(user)} {run}"
        return
    for path in (os.path.realpath(os.__file__), os.path.realpath(__file__), str(home)):
        if (place := blocked_for(uid, path)) is not None:
            warn(f"the user {user} may not read {path} (see the rights of {place}): the service would not start")
    if str(home).startswith(("/tmp/", "/var/tmp/")):
        warn(f"{home} lies below a directory that the service has one of its own of (PrivateTmp=)")
    if not (home / "run").is_dir() or any(place.stat().st_uid != uid for place in (home / "run").glob("**/*")):
        yield f"install -d -o {shlex.quote(user)} {run} && chown -R {shlex.quote(user)} {run}"


def _written(settings: Settings, home: Path) -> str:
    """Where it writes: below run, and where the store, a relay that files mail, sockets and maildirs are."""
    places = {str(home / "run")}
    for scheme, text in (("sqlite:///", settings.store), ("capture:", settings.relay)):
        if text.startswith(scheme):
            path = home / text.removeprefix(scheme)
            place = path.parent if scheme == "sqlite:///" else path
            if not place.is_relative_to(home / "run"):
                places.add(str(place))
    for path in _doors(settings, home):
        if not path.is_relative_to(home / "run"):
            # With a dash: if it is not there, monsal says so, and better than systemd does.
            places.add(f"-{path}")
    return " ".join(_quoted(place) for place in sorted(places))


def _doors(settings: Settings, home: Path) -> Iterator[Path]:
    """The directories of sockets that it makes, and the maildirs that it empties."""
    for url in settings.ingress:
        if url.startswith("maildir:"):
            yield home / parse_maildir(url).path
        elif path := parse_bind(url).path:
            yield (home / path).parent


def _environment(resolved: Resolved) -> str:
    """The settings that came from the environment of this command: the service has another one."""
    names = [origin for origin in resolved.origins.values() if origin.startswith("MONSAL_")]
    return "".join(f"Environment={_quoted(f'{name}={os.environ[name]}')}\n" for name in sorted(names))


def _service(name: str, user: str, resolved: Resolved, home: Path) -> str:
    settings = resolved.settings
    low = any(0 < port < 1024 for port in _ports(settings))
    return _SERVICE.format(
        name=name,
        user=user,
        written=_written(settings, home),
        environment=_environment(resolved),
        directory=_quoted(str(home)),
        program=_quoted(_program()),
        stop=round(settings.drain + _BEYOND),
        capabilities="CAP_NET_BIND_SERVICE" if low else "",
    )


def _socket_units(name: str, settings: Settings, home: Path) -> dict[str, str]:
    """One unit for each kind of protocol: the name of its descriptors says which it is."""
    units = {}
    for kind in ("smtp", "lmtp", "http", "https"):
        urls = [url for url in (*settings.ingress, *settings.http) if url.startswith(f"{kind}:")]
        if urls:
            listens = "\n".join(f"ListenStream={_listen(url, home)}" for url in urls)
            own = name if kind == "smtp" else f"{name}-{kind}"
            units[f"{own}.socket"] = _SOCKET.format(name=own, kind=kind, listens=listens, service=name)
    return units


def _listen(url: str, home: Path) -> str:
    _, _, rest = url.partition(":")
    return rest.removeprefix("//") if rest.startswith("//") and not rest.startswith("///") else str(home / rest)


def _ports(settings: Settings) -> list[int]:
    ends = (url.rpartition(":")[2] for url in (*settings.ingress, *settings.http))
    return [int(end) for end in ends if end.isdigit()]


def _program() -> str:
    """The absolute path of this program: systemd has no path of ours."""
    called = Path(sys.argv[0])
    found = shutil.which(called.name) if os.sep not in str(called) else str(called)
    if called.name == "monsal" and found is not None:
        return os.path.abspath(found)
    return f"{sys.executable} -m monsal.cli"


def _quoted(text: str) -> str:
    """Text as systemd reads it (systemd.syntax(7)): percent signs are doubled, a blank needs quotes."""
    text = text.replace("%", "%%")
    return f'"{text}"' if re.search(r"\s", text) and " -m " not in text else text
