"""Files on the way to the disk."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from monsal.mail import Attachment, Message


def named(name: str, data: bytes = b"x", content_type: str = "application/pdf") -> Attachment:
    return Attachment(name, content_type, data)


def test_a_file_is_saved_for_its_user_only(tmp_path: Path) -> None:
    path = named("report.pdf", b"%PDF").save(tmp_path / "files" / "new")

    assert path == tmp_path / "files" / "new" / "report.pdf"
    assert path.read_bytes() == b"%PDF"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "content_type", "saved"),
    [
        ("../../etc/passwd", "text/plain", "passwd"),
        ("/etc/passwd", "text/plain", "passwd"),
        ("..\\..\\boot.ini", "text/plain", "boot.ini"),
        ("..", "text/plain", "attachment"),
        (".bashrc", "text/plain", "bashrc"),
        ("a\0b\nc.txt", "text/plain", "a b c.txt"),
        ("\u202egpj.exe", "image/jpeg", "gpj.exe"),
        ("", "text/plain", "attachment"),
        ("", "message/rfc822", "message.eml"),
        ("", "text/calendar", "invite.ics"),
        ("ü" * 300 + ".pdf", "application/pdf", "ü" * 98 + ".pdf"),
    ],
)
def test_a_name_stays_in_its_folder(tmp_path: Path, name: str, content_type: str, saved: str) -> None:
    folder = tmp_path / "in"

    path = named(name, content_type=content_type).save(folder)

    assert path == folder / saved
    assert [found.name for found in folder.iterdir()] == [saved]


def test_no_file_is_written_over_and_no_link_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").symlink_to(victim)
    (folder / "a (2).txt").symlink_to(tmp_path / "nowhere")

    first, second = named("a.txt").save(folder), named("a.txt").save(folder)

    assert [first.name, second.name] == ["a (3).txt", "a (4).txt"]
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_too_much_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 5 octets, more than 4"):
        named("a", b"12345").save(tmp_path / "in", limit=4)

    assert not (tmp_path / "in").exists()


def test_a_folder_with_too_many_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monsal.mail.attachment.MAX_NAMESAKES", 2)
    named("a").save(tmp_path)
    named("a").save(tmp_path)

    with pytest.raises(FileExistsError):
        named("a").save(tmp_path)


def test_parts_that_are_no_text_are_files(tmp_path: Path) -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n"
        b"--c\r\n\r\nbody\r\n--c\r\nContent-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\n--c--\r\n"
        b"--b\r\nContent-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"eJ8+Ig==\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ninner\r\n"
        b"--b\r\nContent-Type: image/png\r\nContent-ID: <p@x>\r\n"
        b"Content-Disposition: inline; filename=p.png\r\n\r\nPNG\r\n--b--"
    )
    message = Message(raw=raw, recipient="a@b.c", correspondent="d@e.f")

    paths = [attachment.save(tmp_path) for attachment in message.attachments]

    assert message.text.strip() == "body"
    assert [path.name for path in paths] == ["invite.ics", "winmail.dat", "message.eml", "p.png"]
    assert paths[1].read_bytes() == bytes.fromhex("789f3e22")
    assert paths[2].read_bytes() == b"Subject: in\r\n\r\ninner"
    assert [attachment.inline for attachment in message.attachments] == [False, False, False, True]
