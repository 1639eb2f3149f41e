"""`monsal systemd`: what is in the unit; whether systemd agrees is shown in tests/interop."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import Invoke


@pytest.fixture
def app(home: Path) -> Path:
    place = home / "my desk"
    place.mkdir()
    (place / "monsal.toml").write_text('ingress = ["smtp://127.0.0.1:2525", "lmtp:run/lmtp.sock"]\ndrain = 20\n')
    return place


def test_a_service(invoke: Invoke, app: Path) -> None:
    unit = invoke("systemd", "--dir", app, "--user", "desk").stdout
    lines = unit.splitlines()
    assert "Type=notify" in lines
    assert "User=desk" in lines
    assert f'WorkingDirectory="{app}"' in lines
    assert any(line.startswith("ExecStart=/") and line.endswith(f'run --dir "{app}"') for line in lines)
    assert "TimeoutStopSec=80" in lines
    assert "CapabilityBoundingSet=" in lines
    assert unit.startswith("# my-desk.service")


def test_a_port_below_1024_needs_a_capability(invoke: Invoke, app: Path) -> None:
    (app / "monsal.toml").write_text('ingress = ["smtp://0.0.0.0:25"]\n')
    lines = invoke("systemd", "--dir", app).stdout.splitlines()
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in lines


def test_it_may_write_where_its_doors_are(invoke: Invoke, app: Path) -> None:
    urls = '"lmtp:/run/desk/lmtp.sock", "maildir:/var/mail/the desk?to=a@example.com", "smtp://127.0.0.1:2525"'
    (app / "monsal.toml").write_text(f"ingress = [{urls}]\n")
    lines = invoke("systemd", "--dir", app).stdout.splitlines()
    assert f'ReadWritePaths=-/run/desk "-/var/mail/the desk" "{app}/run"' in lines


def test_sockets(invoke: Invoke, app: Path) -> None:
    lines = invoke("systemd", "--dir", app, "--socket", "--name", "desk").stdout.splitlines()
    assert "ListenStream=127.0.0.1:2525" in lines
    assert f"ListenStream={app}/run/lmtp.sock" in lines
    assert [line for line in lines if line.startswith("FileDescriptorName=")] == [
        "FileDescriptorName=smtp",
        "FileDescriptorName=lmtp",
    ]
    assert lines.count("Service=desk.service") == 2


def test_writing_them_down(invoke: Invoke, app: Path, home: Path) -> None:
    said = invoke("systemd", "--dir", app, "--name", "desk", "--socket", "--write", home).stdout
    assert sorted(path.name for path in home.glob("desk*.*")) == ["desk-lmtp.socket", "desk.service", "desk.socket"]
    assert "systemctl enable --now desk.socket desk-lmtp.socket" in said


def test_where_there_is_no_application(invoke: Invoke, home: Path) -> None:
    assert invoke("systemd", "--dir", home).exit_code == 64
