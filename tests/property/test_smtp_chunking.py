"""However a client's octets are cut into packets, and however late decisions are: the same events, the same replies."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from monsal.smtp.content import ContentReader
from monsal.smtp.events import Event, Login, MailFrom, MessageReceived, RcptTo, XClient
from monsal.smtp.replies import ABORTED, LOGGED_IN, OK, RECIPIENT_OK, SENDER_OK, TOO_BUSY, WRONG_LOGIN, Reply
from monsal.smtp.server import ServerProtocol
from monsal.smtp.settings import ServerSettings
from monsal.smtp.states import ASKED_STATES, SessionState

#: Limits so small that generated dialogues pass them.
TIGHT = {
    "max_message_size": 60,
    "max_discarded": 80,
    "max_recipients": 2,
    "max_command_line": 512,
    "max_skipped": 700,
    "max_errors": 6,
    "max_unknown_commands": 4,
    "max_refusals": 5,
    "max_junk_commands": 12,
    "max_transactions": 4,
    "max_auth_line": 700,
    "starttls": True,
    "auth": True,
}

COMMANDS = st.sampled_from(
    [
        b"EHLO client.example",
        b"HELO client.example",
        b"LHLO client.example",
        b"EHLO",
        b"MAIL FROM:<ann@example.com>",
        b"MAIL FROM:<no@example.com> SIZE=10",
        b"MAIL FROM:<> SIZE=100",
        b"MAIL FROM:<ann@example.com> BODY=8BITMIME",
        b"MAIL FROM:ann",
        b"RCPT TO:<order@example.org>",
        b"RCPT TO:<order@example.org>",
        b"RCPT TO:<no@example.org>",
        b"RCPT TO:<@relay.example:bob@example.org>",
        b"RCPT TO:<order@example.org>\nRCPT TO:<evil@example.org>",
        b"DATA",
        b"DATA",
        b"RSET",
        b"NOOP",
        b"NOOP\r",
        b"QUIT",
        b"VRFY ann",
        b"XYZZY",
        b"GET / HTTP/1.0",
        b"\x16\x03\x01",
        b"A" * 600,
        b"NOOP " + b"x" * 505,
        b"NOOP " + b"x" * 506,
        b"A\r" * 400,
        b"",
        b"STARTTLS",
        b"STARTTLS now",
        b"AUTH PLAIN",
        b"AUTH PLAIN AGFubgBzZWNyZXQ=",
        b"auth plain =",
        b"AUTH LOGIN YW5u",
        b"AUTH LOGIN",
        b"YW5u",
        b"*",
        b"AUTH PLAIN " + b"A" * 600,
        b"AUTH PLAIN " + b"A" * 800,
        b"MAIL FROM:<ann@example.com> BODY=BINARYMIME",
        b"MAIL FROM:<ann@example.com> AUTH=<>",
        b"BDAT 0",
        b"BDAT 0 LAST",
        b"BDAT 5",
        b"BDAT 61 LAST",
        b"BDAT 200",
        b"BDAT -1",
        b"BDAT 9223372036854775808",
        b"XCLIENT ADDR=192.0.2.1 LOGIN=ann",
        b"XCLIENT NAME=[UNAVAILABLE] PORT=99999",
    ]
)
CONTENT = st.lists(
    st.sampled_from(
        [b"\r\n", b".", b"..", b"\r", b"\n", b"text", b"\r\n.", b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\x00", b"x" * 30]
    ),
    max_size=12,
).map(b"".join)
MAILS = st.builds(
    lambda hello, recipients, content, last: b"".join(
        [hello, b"MAIL FROM:<ann@example.com>\r\n", *recipients, b"DATA\r\n", content, b"\r\n.\r\n", last]
    ),
    st.sampled_from([b"", b"EHLO x\r\n", b"LHLO x\r\n"]),
    st.lists(st.sampled_from([b"RCPT TO:<a@example.org>\r\n", b"RCPT TO:<no@example.org>\r\n"]), max_size=4),
    CONTENT,
    st.sampled_from([b"", b"RSET\r\n", b"QUIT\r\n"]),
)
CHUNKS = st.lists(CONTENT, max_size=4).map(
    lambda chunks: b"".join(
        b"BDAT %d%s\r\n%s" % (len(chunk), b" LAST" if place == len(chunks) - 1 else b"", chunk)
        for place, chunk in enumerate(chunks)
    )
)
CHUNKED_MAILS = st.builds(
    lambda hello, recipients, chunks, last: b"".join(
        [hello, b"MAIL FROM:<ann@example.com>\r\n", *recipients, chunks, last]
    ),
    st.sampled_from([b"", b"EHLO x\r\n", b"LHLO x\r\n"]),
    st.lists(st.sampled_from([b"RCPT TO:<a@example.org>\r\n", b"RCPT TO:<no@example.org>\r\n"]), max_size=4),
    CHUNKS,
    st.sampled_from([b"", b"RSET\r\n", b"DATA\r\n", b"BDAT 3 LAST\r\nabc"]),
)
DIALOGUES = st.builds(
    lambda first, rest: first + b"".join(rest),
    st.sampled_from([b"", b"EHLO x\r\n", b"EHLO x\r\n", b"LHLO x\r\n"]),
    st.lists(
        st.one_of(
            MAILS,
            CHUNKED_MAILS,
            COMMANDS.map(lambda line: line + b"\r\n"),
            CHUNKED_MAILS,
            CONTENT,
            st.binary(max_size=40),
        ),
        max_size=8,
    ),
)
#: What is said on one link; between two of them the link is encrypted, if the client has asked for it.
SEGMENTS = st.lists(DIALOGUES, min_size=1, max_size=3)


def _answers(event: Event, lmtp: bool) -> tuple[Reply, ...] | None:
    if isinstance(event, MailFrom):
        return (ABORTED if event.address.startswith("no") else SENDER_OK,)
    if isinstance(event, RcptTo):
        return (Reply(550, "5.1.1", "unknown") if event.address.startswith("no") else RECIPIENT_OK,)
    if isinstance(event, MessageReceived):
        answer = ABORTED if event.size % 7 == 0 else Reply(250, "2.0.0", f"{event.size} stored")
        return (answer,) * (len(event.recipients) if lmtp else 1)
    if isinstance(event, Login):
        return (LOGGED_IN if event.password == "secret" else WRONG_LOGIN,)
    if isinstance(event, XClient):
        return (TOO_BUSY if event.login == "" else OK,)
    return None


def _plain(event: Event) -> object:
    """An event without the cuts in its body."""
    if isinstance(event, MessageReceived):
        return (event.sender, event.recipients, b"".join(event.body), event.size)
    return event


class Run:
    """One session fed with pieces; after `late` further pieces each decision is given."""

    def __init__(self, lmtp: bool, late: int = 0) -> None:
        self.protocol = ServerProtocol(ServerSettings(lmtp=lmtp, **TIGHT), xclient=True)
        self.lmtp = lmtp
        self.events: list[object] = []
        self.output = self.protocol.data_to_send()
        self._late = late
        self._waited = 0
        self._asked: Event | None = None

    def feed(self, piece: bytes) -> None:
        self._waited = self._waited + 1 if self._asked is not None else 0
        self._take(self.protocol.receive_data(piece))
        if self._waited >= self._late:
            self.decide()

    def decide(self) -> None:
        while self._asked is not None:
            answers = _answers(self._asked, self.lmtp)
            self._asked = None
            assert answers is not None
            self._take(self.protocol.reply(*answers))
        self._waited = 0

    def encrypt(self) -> None:
        """The end of what is said on this link."""
        self.decide()
        if self.protocol.state is SessionState.TLS_STARTING:
            self.protocol.tls_started()

    def end(self) -> Run:
        self.decide()
        self.output += self.protocol.data_to_send()
        return self

    def _take(self, events: list[Event]) -> None:
        self.output += self.protocol.data_to_send()
        for event in events:
            assert self._asked is None, "an event after a question"
            self.events.append(_plain(event))
            if _answers(event, self.lmtp) is not None:
                self._asked = event
        assert (self._asked is not None) == (self.protocol.state in ASKED_STATES)

    @property
    def outcome(self) -> tuple[object, ...]:
        return (self.events, self.output, self.protocol.state)


def _pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(places)]


@settings(deadline=None, max_examples=300)
@given(SEGMENTS, st.lists(st.integers(0, 2000), max_size=25), st.booleans(), st.integers(0, 3))
def test_cuts_and_late_decisions_change_nothing(segments: list[bytes], cuts: list[int], lmtp: bool, late: int) -> None:
    whole, cut, single = Run(lmtp), Run(lmtp, late), Run(lmtp)
    for stream in segments:
        whole.feed(stream)
        for piece in _pieces(stream, cuts):
            cut.feed(piece)
        for octet in stream:
            single.feed(bytes([octet]))
        for run in (whole, cut, single):
            run.encrypt()

    assert cut.end().outcome == whole.end().outcome
    assert single.end().outcome == whole.outcome


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_random_octets_raise_nothing(pieces: list[bytes], lmtp: bool) -> None:
    run = Run(lmtp)
    for piece in pieces:
        run.feed(piece)
    run.end()
    run.protocol.receive_eof()

    assert run.protocol.closing
    assert all(line[:3].isdigit() for line in run.output.split(b"\r\n")[:-1])


@settings(deadline=None, max_examples=150)
@given(DIALOGUES, st.booleans())
def test_every_command_line_gets_one_reply(stream: bytes, lmtp: bool) -> None:
    """Final reply lines are at most one per CRLF outside content, besides the greeting and a last 421."""
    run = Run(lmtp)
    run.feed(stream)
    run.end()

    finals = [line for line in run.output.split(b"\r\n")[:-1] if line[3:4] == b" "]
    recipients = TIGHT["max_recipients"] if lmtp else 1
    assert len(finals) <= 2 + stream.count(b"\r\n") * recipients


def _reference(stream: bytes) -> tuple[bytes, bytes] | None:
    """RFC 5321, section 4.5.2, line by line and slowly."""
    content, rest = b"", stream
    while b"\r\n" in rest:
        line, _, rest = rest.partition(b"\r\n")
        if line == b".":
            return content, rest
        content += line.removeprefix(b".") + b"\r\n"
    return None


@settings(deadline=None, max_examples=300)
@given(CONTENT, CONTENT, st.lists(st.integers(0, 400), max_size=20))
def test_content_is_what_the_rfc_says(content: bytes, following: bytes, cuts: list[int]) -> None:
    stream = content + b"\r\n.\r\n" + following
    expected = _reference(stream)
    assert expected is not None

    reader = ContentReader(10_000)
    pieces = _pieces(stream, cuts)
    read = 0
    for piece in pieces:
        position = reader.feed(piece, 0)
        if reader.ended:
            rest = piece[position:] + stream[read + len(piece) :]
            assert (b"".join(reader.take()), rest) == expected
            return
        read += len(piece)
    raise AssertionError("the end was not seen")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.lists(st.integers(0, 700), max_size=10))
def test_what_a_client_stuffs_comes_out_unchanged(body: bytes, cuts: list[int]) -> None:
    """Stuff lines as RFC 5321 says, send, read: the octets are the same, bare CR and LF included."""
    stuffed = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in body.split(b"\r\n"))
    reader = ContentReader(10_000)
    for piece in _pieces(stuffed + b"\r\n.\r\n", cuts):
        reader.feed(piece, 0)

    assert reader.ended
    assert b"".join(reader.take()) == body + b"\r\n"


def test_the_generated_dialogues_reach_every_state() -> None:
    """The property above is worth something only if its dialogues go everywhere."""
    reached: set[SessionState] = set()
    mail = b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<a@example.org>\r\n"
    segments = (
        b"EHLO x\r\n" + mail + b"RCPT TO:<b@example.org>\r\nDATA\r\n" + b"x" * 100 + b"\r\n.\r\n"
        b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n.\r\nXCLIENT ADDR=192.0.2.1\r\nEHLO x\r\nSTARTTLS\r\n!",
        b"EHLO x\r\nAUTH LOGIN\r\nYW5u\r\nc2VjcmV0\r\n" + mail + b"BDAT 2\r\nab" + b"BDAT 90 LAST\r\n" + b"x" * 90,
        b"QUIT\r\n",
    )
    run = Run(lmtp=False, late=1)
    for stream in segments:
        for octet in stream:
            reached.add(run.protocol.state)
            run.feed(bytes([octet]))
        run.encrypt()
    reached.add(run.end().protocol.state)

    assert reached == set(SessionState)
