"""`monsal systemd`: a unit file for the application, hardened."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import sys
from pathlib import Path

import click

from monsal.cli.exits import OK
from monsal.cli.loading import is_application, no_application, resolve
from monsal.cli.options import directory_option
from monsal.config import Settings

__all__ = ["command"]

#: Seconds beyond the drain until systemd ends it by force: the units are stopped, the store is closed.
_BEYOND = 60
_SERVICE = """\
# {name}.service, made by `monsal systemd`
[Unit]
Description=monsal: {name}
After=network.target{after}

[Service]
Type=notify
NotifyAccess=main
User={user}
WorkingDirectory={directory}
ExecStart={program} run --dir {directory}
ExecReload={program} reload --dir {directory}
Restart=on-failure
RestartSec=1
# What is wrong with the application or its place is not mended by trying again (sysexits.h).
RestartPreventExitStatus=64 73
# It asks for more while a store is migrated, and feeds the watchdog only while messages get done.
TimeoutStartSec=60
TimeoutStopSec={stop}
WatchdogSec=60
KillMode=mixed
UMask=0027

# It reads its code, writes below run, and speaks to the network: nothing else.
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={directory}
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
Service={name}.service

[Install]
WantedBy=sockets.target
"""


@click.command("systemd")
@directory_option
@click.option("--name", help="Name of the unit; by default that of the directory.")
@click.option("--user", help="Who it runs as; by default you.")
@click.option("--socket", "as_socket", is_flag=True, help="Print the .socket unit, by which systemd holds the ports.")
def command(directory: Path, name: str | None, user: str | None, as_socket: bool) -> int:
    """Print a systemd unit for the application: it waits until it is ready, watches over it, and shuts it in.

    \b
    monsal systemd --dir desk | sudo tee /etc/systemd/system/desk.service
    sudo systemctl daemon-reload && sudo systemctl enable --now desk

    With a socket unit systemd opens the ports, also those below 1024, and keeps them through restarts:

    \b
    monsal systemd --dir desk --socket | sudo tee /etc/systemd/system/desk.socket
    """
    if not is_application(directory):
        raise no_application(directory)
    home = directory.resolve()
    settings = resolve(directory).settings
    name = name or re.sub(r"[^A-Za-z0-9:_.-]", "-", home.name)
    if as_socket:
        click.echo(_socket_units(name, settings, home), nl=False)
        return OK
    low = any(0 < port < 1024 for port in _ports(settings))
    click.echo(
        _SERVICE.format(
            name=name,
            after=f" {name}.socket" if low else "",
            user=user or getpass.getuser(),
            directory=_quoted(str(home)),
            program=_quoted(_program()),
            stop=round(settings.drain + _BEYOND),
            capabilities="CAP_NET_BIND_SERVICE" if low else "",
        ),
        nl=False,
    )
    return OK


def _socket_units(name: str, settings: Settings, home: Path) -> str:
    """One unit for each kind of protocol: the name of its descriptors says which it is."""
    units = []
    for kind in ("smtp", "lmtp"):
        urls = [url for url in settings.ingress if url.startswith(f"{kind}:")]
        if urls:
            listens = "\n".join(f"ListenStream={_listen(url, home)}" for url in urls)
            own = name if kind == "smtp" else f"{name}-{kind}"
            units.append(
                _SOCKET.format(name=own, kind=kind, listens=listens).replace(
                    f"Service={own}.service", f"Service={name}.service"
                )
            )
    return "\n".join(units)


def _listen(url: str, home: Path) -> str:
    _, _, rest = url.partition(":")
    return rest.removeprefix("//") if rest.startswith("//") and not rest.startswith("///") else str(home / rest)


def _ports(settings: Settings) -> list[int]:
    ends = (url.rpartition(":")[2] for url in settings.ingress)
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
