"""A transaction whose content is held: the envelope goes out, the content after `release` and never before."""

from __future__ import annotations

import pytest

from monsal.smtp.client import ClientProtocol
from monsal.smtp.transaction import (
    ClientReady,
    ClientSettings,
    ConnectionGivenUp,
    Transaction,
    TransactionDone,
)

BODY = b"Subject: hi\r\n\r\n.hidden\r\nbye\r\n"
SENT = b"Subject: hi\r\n\r\n..hidden\r\nbye\r\n.\r\n"
ENVELOPE = b"MAIL FROM:<a@me>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n"


def begun(*, pipelining: bool = True, lmtp: bool = False) -> ClientProtocol:
    """A client that was given a transaction to two recipients whose content is held."""
    client = ClientProtocol(ClientSettings(hello="me", lmtp=lmtp))
    client.receive_data(b"220 mx\r\n")
    client.data_to_send()
    hello = b"250-mx\r\n250 PIPELINING\r\n" if pipelining else b"250 mx\r\n"
    assert isinstance(client.receive_data(hello)[0], ClientReady)
    mail = Transaction(sender="a@me", recipients=("b@x", "c@x"), body=BODY, held=True)
    assert client.send(mail) == []
    return client


def stages(client: ClientProtocol, data: bytes) -> list[tuple[str, int]]:
    (event,) = client.receive_data(data)
    assert isinstance(event, TransactionDone)
    return [(result.stage, result.reply.code if result.reply else 0) for result in event.results]


@pytest.mark.parametrize("lmtp", [False, True])
def test_the_content_waits_for_its_release_though_the_peer_wants_it(lmtp: bool) -> None:
    client = begun(lmtp=lmtp)
    assert client.data_to_send() == ENVELOPE
    assert client.receive_data(b"250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n") == []
    assert client.data_to_send() == b""
    assert client.holding
    assert (client.idle, client.wants_mail, client.awaits) == (False, False, None)
    client.release()
    assert not client.holding
    assert client.data_to_send() == SENT
    assert stages(client, b"250 taken\r\n") == [("body", 250), ("rcpt", 550)]
    assert client.idle


def test_what_was_released_leaves_when_the_peer_wants_it() -> None:
    client = begun()
    client.data_to_send()
    client.receive_data(b"250 ok\r\n250 ok\r\n")
    client.release()
    assert client.data_to_send() == b""
    client.receive_data(b"250 ok\r\n354 go\r\n")
    assert client.data_to_send() == SENT


def test_in_lock_step_the_envelope_goes_on_while_the_content_waits() -> None:
    client = begun(pipelining=False)
    said = client.data_to_send()
    for _ in range(3):
        client.receive_data(b"250 ok\r\n")
        said += client.data_to_send()
    assert said == ENVELOPE
    client.receive_data(b"354 go\r\n")
    assert client.data_to_send() == b""
    client.release()
    assert client.data_to_send() == SENT


@pytest.mark.parametrize(
    ("replies", "found"),
    [
        (b"450 later\r\n503 no\r\n503 no\r\n503 no\r\n", [("mail", 450)] * 2),
        (b"250 ok\r\n550 no\r\n450 no\r\n554 nobody\r\n", [("rcpt", 550), ("rcpt", 450)]),
        (b"250 ok\r\n250 ok\r\n250 ok\r\n452 full\r\n", [("data", 452)] * 2),
    ],
)
def test_what_the_peer_says_to_the_envelope_ends_it_without_a_release(
    replies: bytes, found: list[tuple[str, int]]
) -> None:
    client = begun()
    client.data_to_send()
    assert stages(client, replies) == found
    assert BODY[:10] not in client.data_to_send()
    with pytest.raises(RuntimeError, match="no content is held"):
        client.release()


def test_a_peer_that_wants_content_for_nobody_gets_none() -> None:
    client = begun()
    client.data_to_send()
    assert stages(client, b"250 ok\r\n550 no\r\n550 no\r\n354 go\r\n") == [("rcpt", 550)] * 2
    assert client.data_to_send() == b".\r\n"


def test_a_peer_that_closes_while_it_waits_for_content_is_told_nothing_that_would_be_content() -> None:
    client = begun()
    client.data_to_send()
    client.receive_data(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    done, over = client.receive_data(b"421 closing\r\n")
    assert isinstance(done, TransactionDone)
    assert [result.stage for result in done.results] == ["lost", "lost"]
    assert isinstance(over, ConnectionGivenUp)
    assert client.data_to_send() == b""


def test_a_connection_that_ends_meanwhile_had_nothing_of_the_content() -> None:
    client = begun()
    client.data_to_send()
    client.receive_data(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    done, over = client.lost("gone")
    assert isinstance(done, TransactionDone)
    assert [result.stage for result in done.results] == ["lost", "lost"]
    assert isinstance(over, ConnectionGivenUp)
    assert client.data_to_send() == b""
    assert not client.holding
    with pytest.raises(RuntimeError, match="no content is held"):
        client.release()


def test_only_what_is_held_can_be_released() -> None:
    client = begun()
    client.release()
    with pytest.raises(RuntimeError, match="no content is held"):
        client.release()
