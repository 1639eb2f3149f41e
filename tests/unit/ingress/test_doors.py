"""Listening sockets: bound here, given by systemd, kept for the image of the program that comes next."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from monsal.errors import ConfigError
from monsal.ingress import Doors, LmtpIngress, SmtpIngress

ANY = "smtp://127.0.0.1:0"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, path: str = "") -> socket.socket:
    made = stack.enter_context(socket.socket(socket.AF_UNIX if path else socket.AF_INET))
    made.bind(path or ("127.0.0.1", 0))
    made.listen()
    return made


def test_what_nobody_gave_is_bound_and_listens_later(home: Path, stack: ExitStack) -> None:
    doors = Doors([ANY, "lmtp:run/lmtp.sock"], home, {})
    (home / "run").mkdir()
    doors.open()
    stack.callback(doors.close)
    smtp, lmtp = doors
    assert (smtp.kind, lmtp.kind) == (SmtpIngress, LmtpIngress)
    with pytest.raises(ConnectionRefusedError), socket.socket() as client:
        client.connect(smtp.sockets[0].getsockname())
    assert lmtp.addresses == [f"{home}/run/lmtp.sock"]
    doors.close()
    assert not (home / "run" / "lmtp.sock").exists()


def test_a_taken_port_is_named_and_nothing_stays_open(home: Path, stack: ExitStack) -> None:
    port = listening(stack).getsockname()[1]
    doors = Doors(["lmtp:./lmtp.sock", f"smtp://127.0.0.1:{port}"], home, {})
    with pytest.raises(OSError, match=f"cannot listen on smtp://127.0.0.1:{port}: "):
        doors.open()
    assert not (home / "lmtp.sock").exists()


def test_kept_sockets_are_found_again_with_their_port_and_file(home: Path, stack: ExitStack) -> None:
    before = Doors([ANY, "lmtp:./lmtp.sock"], home, {})
    before.open()
    for door in before:
        for each in door.sockets:
            each.listen()
    after = Doors(["lmtp:./lmtp.sock", ANY], home, before.kept())
    after.open()
    stack.callback(after.close)
    assert {address for door in before for address in door.addresses} == {
        address for door in after for address in door.addresses
    }
    inside = stack.enter_context(socket.socket(socket.AF_UNIX))
    inside.connect(str(home / "lmtp.sock"))
    after.close()
    assert not (home / "lmtp.sock").exists()


def test_a_kept_socket_whose_setting_is_gone_is_closed(home: Path, stack: ExitStack) -> None:
    before = Doors(["lmtp:./lmtp.sock"], home, {})
    before.open()
    [door] = before
    door.sockets[0].listen()
    after = Doors([ANY], home, before.kept())
    after.open()
    stack.callback(after.close)
    assert [door.url for door in after] == [ANY]
    assert not (home / "lmtp.sock").exists()


@pytest.mark.rule("bus.B13")
def test_a_socket_of_systemd_at_an_address_of_the_settings_is_that_one(home: Path, stack: ExitStack) -> None:
    given = listening(stack)
    host, port = given.getsockname()
    doors = Doors([f"smtp://{host}:{port}", "lmtp:./lmtp.sock"], home, {"unknown": [given]})
    doors.open()
    stack.callback(doors.close)
    assert [door.url for door in doors] == [f"smtp://{host}:{port}", f"lmtp:{home}/lmtp.sock"]
    assert given in next(iter(doors)).sockets


@pytest.mark.rule("bus.B13")
def test_sockets_of_systemd_elsewhere_stand_for_the_settings_of_their_kind(home: Path, stack: ExitStack) -> None:
    mail, local = listening(stack), listening(stack, str(home / "given.sock"))
    doors = Doors([ANY, "lmtp:./lmtp.sock"], home, {"mail": [mail], "lmtp": [local]})
    doors.open()
    stack.callback(doors.close)
    port = mail.getsockname()[1]
    assert [door.url for door in doors] == [f"smtp://127.0.0.1:{port}", f"lmtp:{home}/given.sock"]
    doors.close()
    assert (home / "given.sock").exists(), "systemd made that file, and keeps it"


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_what_cannot_take_mail_is_refused(home: Path, stack: ExitStack, kind: socket.SocketKind) -> None:
    wrong = stack.enter_context(socket.socket(socket.AF_INET, kind))
    with pytest.raises(ConfigError, match="'dgram' is no listening stream socket"):
        Doors([ANY], home, {"dgram": [wrong]}).open()


def test_a_door_can_be_taken_more_than_once(home: Path, stack: ExitStack) -> None:
    doors = Doors([ANY], home, {})
    doors.open()
    stack.callback(doors.close)
    [door] = doors
    for _ in range(2):
        [taken] = door.take()
        taken.listen()
        with socket.socket() as client:
            client.connect(taken.getsockname())
        taken.close()


def test_a_door_of_http_is_a_door_like_others_and_no_way_for_mail(home: Path, stack: ExitStack) -> None:
    given = {"http": [listening(stack)], "https": [listening(stack)]}
    doors = Doors(["http://127.0.0.1:0", "https://127.0.0.1:0", "http:./web.sock", ANY], home, given)
    doors.open()
    stack.callback(doors.close)
    assert [(door.protocol, door.is_http, door.encrypted) for door in doors] == [
        ("http", True, False),
        ("http", True, True),
        ("smtp", False, False),
    ], "systemd has said where HTTP is"
    bound = Doors(["http:./web.sock", "https://127.0.0.1:0", ANY], home, {})
    bound.open()
    stack.callback(bound.close)
    assert next(door.addresses[0] for door in bound) == f"{home}/web.sock"
    for each in (each for door in bound for each in door.sockets):
        each.listen()
    assert [door.protocol for door in bound] == ["http", "http", "smtp"]
    assert bound.sharing == 2, "a flood of HTTP leaves mail its part of the files"
    again = Doors(["http:./web.sock", "https://127.0.0.1:0", ANY], home, bound.kept())
    again.open()
    assert [door.url for door in again] == [door.url for door in bound]
