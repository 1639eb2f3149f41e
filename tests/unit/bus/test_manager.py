"""Messages to the service manager, as they arrive."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_manager import FakeManager

from monsal.bus import ManagerSocket, notify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, home: Path) -> Iterator[FakeManager]:
    with FakeManager(f"{home}/notify" if request.param == "path" else f"@{home.name}") as made:
        yield made


@pytest.mark.rule("bus.B13")
def test_a_message_is_one_datagram_of_lines(manager: FakeManager) -> None:
    assert notify("READY=1", "STATUS=täglich", environ=manager.environ)
    assert manager.next() == ["READY=1", "STATUS=täglich"]


@pytest.mark.rule("bus.B13")
@pytest.mark.parametrize("address", [None, "", "@", "vsock:2:1234", "vsock-stream:2:1", "relative/path"])
def test_without_a_manager_on_this_machine_nothing_is_sent(address: str | None) -> None:
    environ = {} if address is None else {"NOTIFY_SOCKET": address}
    assert not notify("READY=1", environ=environ)
    assert not ManagerSocket(environ).supported
    assert not ManagerSocket(environ).barrier()


@pytest.mark.rule("bus.B13")
def test_descriptors_can_be_stored_with_the_manager(manager: FakeManager, home: Path) -> None:
    with (home / "kept").open("w") as kept:
        assert notify("FDSTORE=1", "FDNAME=kept", fds=[kept.fileno()], environ=manager.environ)
    data, descriptors, _, _ = socket.recv_fds(manager.socket, 4096, 4)
    assert data == b"FDSTORE=1\nFDNAME=kept"
    [descriptor] = descriptors
    assert os.readlink(f"/proc/self/fd/{descriptor}") == str(home / "kept")
    os.close(descriptor)


@pytest.mark.parametrize("wrong", ["READY", "=1", "STATUS=a\nREADY=1", "STATUS=a\0", ""])
def test_what_is_no_assignment_on_one_line_is_refused(manager: FakeManager, wrong: str) -> None:
    with pytest.raises(ValueError, match="not NAME=value on one line"):
        notify(wrong, environ=manager.environ)


def test_a_manager_that_is_gone_is_an_error_of_the_system(manager: FakeManager) -> None:
    manager.socket.close()
    with pytest.raises(OSError):
        notify("READY=1", environ=manager.environ)


def test_a_manager_that_takes_nothing_is_not_waited_for_long(manager: FakeManager) -> None:
    kept = ManagerSocket(manager.environ)

    def floods() -> None:
        while True:
            kept.send("STATUS=again")

    with pytest.raises(BlockingIOError):
        floods()
    kept.close()


def test_a_manager_that_comes_back_is_found_again(home: Path) -> None:
    first = FakeManager(f"{home}/notify")
    kept = ManagerSocket(first.environ)
    assert kept.send("STATUS=1")
    first.socket.close()
    os.unlink(first.address)
    with pytest.raises(FileNotFoundError):
        kept.send("STATUS=2")
    second = FakeManager(f"{home}/notify")
    assert kept.send("STATUS=3")
    assert second.next() == ["STATUS=3"]
    second.socket.close()
    kept.close()


def test_the_socket_is_kept_and_not_inherited(manager: FakeManager) -> None:
    kept = ManagerSocket(manager.environ)
    kept.send("STATUS=1")
    before = len(os.listdir("/proc/self/fd"))
    kept.send("STATUS=2")
    assert len(os.listdir("/proc/self/fd")) <= before  # what earlier tests left may go meanwhile
    [descriptor] = [
        int(number)
        for number in os.listdir("/proc/self/fd")
        if int(number) != manager.socket.fileno() and _is_datagram(int(number))
    ]
    assert not os.get_inheritable(descriptor)
    kept.close()


def _is_datagram(descriptor: int) -> bool:
    try:
        copy = os.dup(descriptor)
    except OSError:  # that of the listing itself
        return False
    try:
        one = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return False
    with one:
        return (one.family, one.type) == (socket.AF_UNIX, socket.SOCK_DGRAM)


def test_a_barrier_ends_when_the_manager_has_closed_its_end(manager: FakeManager) -> None:
    kept = ManagerSocket(manager.environ)
    with pytest.raises(TimeoutError):
        kept.barrier(0.05)
    data, descriptors, _, _ = socket.recv_fds(manager.socket, 4096, 4)
    assert data == b"BARRIER=1"
    for descriptor in descriptors:
        os.close(descriptor)
    # A manager that takes no descriptors lets go of them at once.
    reader = threading.Thread(target=manager.next)
    reader.start()
    assert kept.barrier(30)
    reader.join()
    kept.close()
