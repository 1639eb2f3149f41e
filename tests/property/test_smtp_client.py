"""The SMTP client holds whatever a peer says, and however the bytes are cut."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.smtp.client import ClientProtocol
from monsal.smtp.stuffing import DotStuffer
from monsal.smtp.transaction import ClientEvent, ClientSettings, ConnectionGivenUp, Transaction, TransactionDone

MAILS = 4

REPLIES = st.sampled_from(
    [
        b"220 mx\r\n",
        b"250 ok\r\n",
        b"250 2.0.0 queued\r\n",
        b"250-mx\r\n250-PIPELINING\r\n250 SIZE 99\r\n",
        b"354 go\r\n",
        b"421 bye\r\n",
        b"450 4.2.0 later\r\n",
        b"550 5.1.1 no\r\n",
        b"503 sequence\r\n",
        b"221 bye\r\n",
    ]
)
HELLO = [b"220 mx\r\n", b"250-mx\r\n250-PIPELINING\r\n250 SIZE 99\r\n"]
PLAIN = [b"220 mx\r\n", b"250 mx\r\n"]
ANY_STREAM = st.one_of(
    st.lists(REPLIES, max_size=30),
    st.tuples(st.sampled_from([HELLO, PLAIN]), st.lists(REPLIES, max_size=30)).map(lambda pair: [*pair[0], *pair[1]]),
    st.tuples(st.sampled_from([HELLO, PLAIN]), st.lists(st.binary(max_size=40), max_size=5)).map(
        lambda pair: [*pair[0], *pair[1]]
    ),
)


class Numbered(Transaction):
    """A transaction with a number."""

    token: int


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces that end at `places`."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def talk(pieces: list[bytes], *, lmtp: bool) -> tuple[list[ClientEvent], bytes]:
    """Everything that comes of a peer's bytes when the shell sends a mail whenever it may."""
    client = ClientProtocol(ClientSettings(lmtp=lmtp, max_line=200))
    events: list[ClientEvent] = []
    sent = bytearray()
    tokens = iter(range(MAILS))

    def offer() -> None:
        while client.wants_mail and (token := next(tokens, None)) is not None:
            body = b".body\r\n" * (20 if token == 2 else 1)
            recipients = ("b@x", "c@x") if token % 2 else ("b@x",)
            events.extend(client.send(Numbered(sender="a@x", recipients=recipients, body=body, token=token)))
        sent.extend(client.data_to_send())

    for piece in pieces:
        for byte in range(len(piece)):  # a reply at a time, so that mails are offered at the same places
            events.extend(client.receive_data(piece[byte : byte + 1]))
            offer()
    events.extend(client.lost())
    sent.extend(client.data_to_send())
    return events, bytes(sent)


def listen(pieces: list[bytes], *, lmtp: bool, recipients: int) -> tuple[list[ClientEvent], bytes]:
    """Everything that comes of a peer's bytes when one mail is sent after the hello."""
    client = ClientProtocol(ClientSettings(lmtp=lmtp, max_line=200))
    for part in HELLO:
        client.receive_data(part)
    addresses = tuple(f"{number}@x" for number in range(recipients))
    events = client.send(Transaction(sender="a@x", recipients=addresses, body=b".body\r\n"))
    sent = client.data_to_send()
    for piece in pieces:
        events += client.receive_data(piece)
        sent += client.data_to_send()
    return events + client.lost(), sent + client.data_to_send()


@settings(deadline=None, max_examples=200)
@given(
    stream=st.one_of(st.lists(REPLIES, max_size=12), st.lists(st.one_of(REPLIES, st.binary(max_size=30)), max_size=8)),
    places=st.lists(st.integers(0, 10_000), max_size=20),
    lmtp=st.booleans(),
    recipients=st.integers(1, 3),
)
def test_any_cut_of_the_replies_gives_the_same(
    stream: list[bytes], places: list[int], lmtp: bool, recipients: int
) -> None:
    data = b"".join(stream)
    events, sent = listen([data], lmtp=lmtp, recipients=recipients)
    again, sent_again = listen(cut(data, places), lmtp=lmtp, recipients=recipients)
    assert [repr(event) for event in again] == [repr(event) for event in events]
    assert sent_again == sent


@settings(deadline=None, max_examples=200)
@given(stream=ANY_STREAM, lmtp=st.booleans())
def test_every_mail_is_accounted_for_once(stream: list[bytes], lmtp: bool) -> None:
    """Nothing raises, the last event is the last, and each mail is either done or untouched."""
    events, sent = talk(stream, lmtp=lmtp)
    last = events[-1]
    assert isinstance(last, ConnectionGivenUp)
    assert not any(isinstance(event, ConnectionGivenUp) for event in events[:-1])
    done = [event for event in events if isinstance(event, TransactionDone)]
    tokens = [each.token for each in (*(event.transaction for event in done), *last.untouched)]
    assert sorted(tokens) == list(range(len(tokens)))
    for event in done:
        assert len(event.results) == (2 if event.transaction.token % 2 else 1)
        if any(result.stage == "body" for result in event.results):
            assert b"..body\r\n.\r\n" in sent


@settings(deadline=None, max_examples=200)
@given(stream=ANY_STREAM, lmtp=st.booleans())
def test_nothing_of_held_content_leaves_whatever_the_peer_says(stream: list[bytes], lmtp: bool) -> None:
    client = ClientProtocol(ClientSettings(lmtp=lmtp, max_line=200))
    sent = b""
    for piece in stream:
        client.receive_data(piece)
        if client.wants_mail:
            client.send(Transaction(sender="a@x", recipients=("b@x", "c@x"), body=b"body\r\n", held=True))
        sent += client.data_to_send()
    client.lost()
    assert b"body" not in sent + client.data_to_send()


@settings(deadline=None, max_examples=200)
@given(body=st.binary(max_size=300), places=st.lists(st.integers(0, 300), max_size=8))
def test_the_mail_data_ends_only_at_its_end(body: bytes, places: list[int]) -> None:
    stuffer = DotStuffer()
    sent = b"".join(stuffer.feed(piece) for piece in cut(body, places)) + stuffer.finish()
    assert sent.endswith(b".\r\n")
    assert b"\r\n.\r\n" not in sent[:-5]
    assert sent == b".\r\n" or sent.endswith(b"\r\n.\r\n")
    assert sent.count(b"\r\n") == sent.count(b"\n") == sent.count(b"\r")
    # Unstuffed it is the body again, but for line ends.
    lines = [line[1:] if line.startswith(b".") else line for line in sent[: -len(b".\r\n")].split(b"\r\n")]
    plain = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert b"\n".join(lines) == plain + (b"" if plain.endswith(b"\n") or not plain else b"\n")
