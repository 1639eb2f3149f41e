"""MAIL, RCPT and DATA taken at once: the session is then where it would be had they been asked about one by one."""

from __future__ import annotations

from hypothesis import event, given, settings
from hypothesis import strategies as st

from monsal.smtp.events import Event, MailFrom, MessageReceived, RcptTo
from monsal.smtp.replies import RECIPIENT_OK, SENDER_OK, Reply
from monsal.smtp.server import ServerProtocol
from monsal.smtp.settings import ServerSettings

LIMITS = {"max_message_size": 200, "max_discarded": 200, "max_transactions": 6, "max_command_line": 512}

PATHS = st.one_of(
    st.sampled_from([b"ann@example.com", b"", b"postmaster", b'"a b"@example.com', b'"a>b"@x.org', b"@a.org:b@c.org"]),
    st.sampled_from([b"ann", b"a@", b"a@b@c", "\u00e4@example.com".encode(), b"a\tb@x.org", b"<a@x.org", b"a b@x.org"]),
    st.text('abAB.@"\\<>: =\u00e4', max_size=12).map(str.encode),
    st.integers(0, 500).map(lambda length: b"a@" + b"x" * length),
)
PARAMETERS = st.sampled_from(
    [
        b"",
        b" SIZE=10",
        b" SIZE=200",
        b" SIZE=201",
        b" SIZE=0",
        b" SIZE=",
        b" SIZE=1 SIZE=1",
        b" BODY=8BITMIME",
        b" SIZE=10 BODY=8BITMIME",
        b" BODY=BINARYMIME",
        b" SMTPUTF8",
        b" AUTH=<>",
        b" size=10",
        b"  SIZE=10",
        b" X",
        b" SIZE=99999999999999999999",
        b" SIZE=999999999999999999999",
    ]
)
LINES = st.tuples(
    st.builds(lambda path, more: b"MAIL FROM:<%b>%b" % (path, more), PATHS, PARAMETERS),
    st.builds(lambda path, more: b"RCPT TO:<%b>%b" % (path, more), PATHS, st.sampled_from([b"", b"", b"", b" X=1"])),
    st.sampled_from([b"DATA", b"DATA", b"DATA", b"DATA ", b"data", b"BDAT 3", b"RSET"]),
)
USUAL = st.sampled_from(
    [
        b"MAIL FROM:<ann@example.com> SIZE=10\r\nRCPT TO:<order@example.org>\r\nDATA\r\n",
        b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n",
    ]
)
OPENINGS = st.one_of(USUAL, LINES.map(lambda lines: b"\r\n".join(lines) + b"\r\n"))
CONTENTS = st.builds(
    lambda parts, after: b"".join(parts) + b"\r\n.\r\n" + after,
    st.lists(st.sampled_from([b"text", b"\r\n", b"\r\n.", b".", b"\r", b"\n.\n", b"x" * 60]), max_size=6),
    st.sampled_from([b"", b"", b"", b"QUIT\r\n", b"MAIL FROM:<a@x.org>\r\n"]),
)
OTHERS = st.sampled_from([b"RSET\r\n", b"MAIL FROM:<a@x.org>\r\n", b"NOOP", b"HELO x\r\n"])
PACKETS = st.lists(
    st.one_of(st.tuples(USUAL, CONTENTS), st.tuples(OPENINGS, CONTENTS), st.tuples(OTHERS), st.tuples(OPENINGS)),
    max_size=6,
).map(lambda mails: [packet for mail in mails for packet in mail])


class Run:
    """A session that is told yes to all; with `at_once` whatever `opening` finds is opened."""

    def __init__(self, lmtp: bool, at_once: bool) -> None:
        self.protocol = ServerProtocol(ServerSettings(lmtp=lmtp, **LIMITS))  # type: ignore[arg-type]  # keywords
        self.lmtp, self.at_once = lmtp, at_once
        self.told: list[object] = []
        self.output = b""
        self.opened = 0

    def feed(self, data: bytes) -> None:
        opening = self.protocol.opening(data) if self.at_once else None
        if opening is not None:
            self.opened += 1
            self.protocol.open(opening)
            self.told += [("mail", opening.sender, opening.size), ("rcpt", opening.recipient)]
        else:
            events = self.protocol.receive_data(data)
            while events:
                self.told += map(_told, events)
                events = self._decide(events[-1])
        self.output += self.protocol.data_to_send()

    def _decide(self, asked: Event) -> list[Event]:
        if isinstance(asked, MailFrom):
            return self.protocol.reply(SENDER_OK)
        if isinstance(asked, RcptTo):
            return self.protocol.reply(RECIPIENT_OK)
        if isinstance(asked, MessageReceived):
            stored = Reply(250, "2.0.0", "stored")
            return self.protocol.reply(*(stored,) * (len(asked.recipients) if self.lmtp else 1))
        return []

    @property
    def outcome(self) -> tuple[object, ...]:
        return self.told, self.output, self.protocol.state


def _told(asked: Event) -> object:
    if isinstance(asked, MailFrom):
        return "mail", asked.address, asked.size or 0
    if isinstance(asked, RcptTo):
        return "rcpt", asked.address
    if isinstance(asked, MessageReceived):
        return asked.sender, asked.recipients, b"".join(asked.body), asked.size
    return asked


@settings(deadline=None, max_examples=400)
@given(st.sampled_from([b"EHLO x\r\n"] * 4 + [b"LHLO x\r\n"] * 4 + [b"HELO x\r\n", b""]), PACKETS)
def test_what_is_opened_at_once_is_what_one_by_one_had_been(hello: bytes, packets: list[bytes]) -> None:
    lmtp = hello.startswith(b"L")
    at_once, one_by_one = Run(lmtp, True), Run(lmtp, False)
    for packet in (hello, *packets):
        at_once.feed(packet)
        one_by_one.feed(packet)

        assert at_once.outcome == one_by_one.outcome
    event(f"opened {min(at_once.opened, 2)}")


@settings(deadline=None, max_examples=300)
@given(OPENINGS)
def test_what_can_be_opened_needs_but_two_yes(data: bytes) -> None:
    """And octets that differ are not taken for it: what follows MAIL and RCPT, or stands before them."""
    run = Run(False, True)
    run.feed(b"EHLO x\r\n")
    opening = run.protocol.opening(data)
    if opening is None:
        return
    assert all(run.protocol.opening(other) is None for other in (data[:-1], data + b"x", data + data, b" " + data))
    [mail] = run.protocol.receive_data(data)
    [rcpt] = run.protocol.reply(SENDER_OK)

    assert (mail.address, mail.size or 0, rcpt.address) == (opening.sender, opening.size, opening.recipient)
    assert run.protocol.reply(RECIPIENT_OK) == []
    assert run.protocol.data_to_send().startswith(b"250 2.1.0 sender OK\r\n250 2.1.5 recipient OK\r\n354 ")
