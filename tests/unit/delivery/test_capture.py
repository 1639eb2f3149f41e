"""The relay that files mail in a maildir."""

from __future__ import annotations

import mailbox
from pathlib import Path

import pytest

from monsal.conversation.ports import Deferred, Delivered, RelayMail
from monsal.delivery import CaptureRelay, SmtpRelay, open_relay
from monsal.errors import ConfigError

BODY = b"From: a@me\r\nSubject: hi\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"


def mail(*recipients: str, message_id: str = "<1@me>", sender: str = "b+1@me", body: bytes | Path = BODY) -> RelayMail:
    return RelayMail(sender=sender, recipients=recipients, message_id=message_id, body=body)


def files(directory: Path) -> list[Path]:
    return sorted((directory / "new").iterdir())


async def test_a_mail_is_read_back_with_its_envelope(tmp_path: Path) -> None:
    relay = CaptureRelay(tmp_path / "run" / "sent")
    ((first, second),) = await relay.send([mail("b@x", "c@x")])
    assert isinstance(first, Delivered)
    assert isinstance(second, Delivered)
    box = mailbox.Maildir(tmp_path / "run" / "sent", create=False)
    messages = sorted(box, key=lambda message: message["X-Envelope-To"])
    assert [message["X-Envelope-To"] for message in messages] == ["b@x", "c@x"]
    assert [message["X-Envelope-From"] for message in messages] == ["b+1@me"] * 2
    assert messages[0]["Subject"] == "hi"
    assert relay.statistics().delivered == 2
    await relay.close()
    await relay.close()


async def test_the_bytes_below_the_envelope_are_those_of_the_mail(tmp_path: Path) -> None:
    relay = CaptureRelay(tmp_path)
    await relay.send([mail("b@x", sender="")])
    (file,) = files(tmp_path)
    assert file.read_bytes() == b"X-Envelope-From: <>\r\nX-Envelope-To: b@x\r\n" + BODY
    assert not list((tmp_path / "tmp").iterdir())
    await relay.close()


async def test_a_mail_that_is_sent_again_is_there_once(tmp_path: Path) -> None:
    """P2: a re-send after a crash is byte-identical."""
    for _ in range(2):
        relay = CaptureRelay(tmp_path)
        await relay.send([mail("b@x"), mail("b@x", message_id="<2@me>")])
        await relay.close()
    assert len(files(tmp_path)) == 2


async def test_an_address_does_not_forge_a_header(tmp_path: Path) -> None:
    relay = CaptureRelay(tmp_path)
    await relay.send([mail("b@x\r\nBcc: all@x", message_id="<../../etc/passwd>")])
    (file,) = files(tmp_path)
    assert b"\r\nX-Envelope-To: b@x??Bcc: all@x\r\n" in file.read_bytes()
    await relay.close()


async def test_a_body_that_lies_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(BODY)
    relay = CaptureRelay(tmp_path / "sent")
    (fine,), (missing,) = await relay.send([mail("b@x", body=tmp_path / "body"), mail("c@x", body=tmp_path / "none")])
    assert isinstance(fine, Delivered)
    assert isinstance(missing, Deferred)
    assert relay.statistics().deferred == 1
    await relay.close()


async def test_a_directory_that_cannot_be_made_turns_it_red(tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(b"a file")
    relay = CaptureRelay(tmp_path / "sent")
    assert relay.healthy
    ((outcome,),) = await relay.send([mail("b@x")])
    assert isinstance(outcome, Deferred)
    assert outcome.whole_relay
    assert not relay.healthy
    (tmp_path / "sent").unlink()
    ((outcome,),) = await relay.send([mail("b@x")])
    assert isinstance(outcome, Delivered)
    assert relay.healthy
    assert relay.reason == ""
    await relay.close()


def test_a_url_opens_its_relay(tmp_path: Path) -> None:
    captured = open_relay("capture:run/sent", tmp_path)
    assert isinstance(captured, CaptureRelay)
    assert captured.directory == tmp_path / "run" / "sent"
    assert not list(tmp_path.iterdir())
    relay = open_relay("lmtp://localhost", tmp_path, connections=2, name="me.example")
    assert isinstance(relay, SmtpRelay)
    assert str(relay.endpoint) == "lmtp://localhost:24"
    beside = open_relay("lmtp:run/a b#c.sock", tmp_path)
    assert isinstance(beside, SmtpRelay)
    assert beside.endpoint.path == str(tmp_path / "run" / "a b#c.sock")
    assert beside.endpoint.lmtp
    for url in ("lmtp:", "capture:", "nothing", "ftp://x"):
        with pytest.raises(ConfigError):
            open_relay(url, tmp_path)
    with pytest.raises(ConfigError):
        open_relay("smtp://x", tmp_path, connections=0)
