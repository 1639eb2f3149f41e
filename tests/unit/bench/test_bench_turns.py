"""The suite of whole turns: its sinks count what arrives, and each of its measurements runs once, very short."""

from __future__ import annotations

import asyncio
import smtplib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench import sinks
from bench.backlog import Stock, drain, rate_while_waiting
from bench.ends import Ends, rank
from bench.harness import Failed
from bench.mailers import monsal
from bench.mails import MailMaker
from bench.processes import family, family_cpu
from bench.sinks import SinkSession, counting_sink, last_count, smtp_sink
from bench.suites.turns import SAME, _light, _turns


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += bytes(data)

    def close(self) -> None:
        self.closed = True


def session() -> tuple[SinkSession, Wire, list[None]]:
    taken: list[None] = []
    found, wire = SinkSession(lambda: taken.append(None)), Wire()
    found.connection_made(wire)
    return found, wire, taken


DIALOGUE = (
    b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: dots\r\n\r\n..\r\n. \r\nDATA\r\n.\r\n"
    b"mail from:<a@b>\r\nrcpt to:<c@d>\r\ndata\r\n.\r\nQUIT\r\n"
)


@pytest.mark.parametrize("step", [1, 2, 3, 7, len(DIALOGUE)])
def test_a_sink_counts_mails_however_their_bytes_come(step: int) -> None:
    # Given a dialogue with a mail that has dots and commands in it, and one without any line
    found, wire, taken = session()
    # When it comes in pieces
    for start in range(0, len(DIALOGUE), step):
        found.data_received(DIALOGUE[start : start + step])
    # Then there were two mails, and each line has its answer
    assert len(taken) == 2
    codes = [line[:4] for line in wire.said.decode().splitlines()]
    mail = ["250 ", "250 ", "354 ", "250 "]
    assert codes == ["220 ", "250-", "250-", "250 ", *mail, *mail, "221 "]
    assert wire.closed


def test_a_mail_counts_at_its_final_dot_and_not_before() -> None:
    found, _, taken = session()
    found.data_received(b"DATA\r\nSubject: x\r\n\r\ntext\r\n.")
    assert not taken
    found.data_received(b"\r\n")
    assert taken


@pytest.mark.parametrize(
    ("said", "count", "rest"),
    [
        (b"", None, b""),
        (b"sess=0 quit=0 mesg=1", None, b"sess=0 quit=0 mesg=1"),  # it may be the beginning of 12
        (b"sess=0 quit=0 mesg=12\r", 12, b""),
        (b"mesg=7 mesg=9\nsess=1 quit", 9, b"sess=1 quit"),
    ],
)
def test_a_counter_is_read_from_what_a_sink_says(said: bytes, count: int | None, rest: bytes) -> None:
    assert last_count(said) == (count, rest)


@pytest.mark.parametrize("ours", [True, False])
def test_a_counting_sink_tells_when_so_many_have_arrived(ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the one of ours, or whichever this machine has
    if ours:
        monkeypatch.setattr(sinks, "smtp_sink", lambda: None)
    with counting_sink() as sink:
        # When two mails arrive
        began = time.monotonic()
        with smtplib.SMTP("127.0.0.1", sink.port, timeout=60) as client:
            for _ in range(2):
                client.sendmail("a@example.net", ["b@example.net"], "Subject: x\r\n\r\ny\r\n")
        # Then it says so, and when
        count, moment = sink.wait(2)
        assert count == 2
        assert began < moment <= time.monotonic()
        # And a third that does not come is missed
        with pytest.raises(Failed, match="only 2 of 3"):
            sink.wait(3, patience=0.01)


def test_smtp_sink_is_found_or_not() -> None:
    found = smtp_sink()
    assert found is None or Path(found).name == "smtp-sink"


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [([5.0], 50, 5.0), ([5.0], 99, 5.0), ([3, 1, 2], 50, 2), ([4, 3, 2, 1], 50, 2), (list(range(1, 201)), 99, 198)],
)
def test_a_rank_is_the_value_that_so_many_do_not_exceed(values: list[float], part: int, expected: float) -> None:
    assert rank(values, part) == expected


#: Its child works for a fifth of a second, and is waited for; another one is alive.
PARENT = """
import subprocess, sys, time
work = "import time\\nwhile time.process_time() < 0.2: pass"
subprocess.run([sys.executable, "-c", work], check=True)
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
child.communicate()
"""


def test_the_cpu_of_a_family_includes_those_that_have_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert family(parent.pid) == [parent.pid, child]
        assert family_cpu(parent.pid) > 0.15  # each part of it is cut to ticks of 10 ms
        parent.communicate()


def test_who_writes_may_be_one_person_under_many_numbers() -> None:
    maker = MailMaker(1, ("help@example.com",), 1024, "one@load.example")
    mails = [maker.make(number, 1) for number in range(3)]
    assert {mail.sender for mail in mails} == {"one@load.example"}
    assert all(b"<one@load.example>" in mail.data for mail in mails)
    assert len({mail.message_id for mail in mails}) == 3


def test_a_whole_turn_is_measured() -> None:
    """What it finds is looked at by nobody, only that it finds it; a mail too much or too few at the sink fails."""
    assert set(_turns(monsal(), SAME, 0.05, 1)) == {"rate", "cpu_us", "dropped"}


def test_latency_is_measured() -> None:
    found = _light(monsal(), 3, 1)
    assert 0 < found["accept_50"] <= found["accept_99"] <= found["whole_99"]


def test_backlog_and_outbox_are_measured(tmp_path: Path) -> None:
    stock = Stock(tmp_path)
    assert rate_while_waiting(stock, 30, 5, 0.05, 1)["rate"] > 0
    assert drain(stock, 40, 1)["rate"] > 0
    # Each was filled once, for all rounds
    assert {path.name for path in tmp_path.iterdir()} == {"mails-30-5", "replies-40-500"}


def test_an_answer_that_does_not_come_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.ends._PATIENCE", 0.01)

    async def body() -> None:
        async with Ends() as ends:
            await ends.steady([], 0.01, lambda: 0.0)

    with pytest.raises(Failed, match="0 of 1 answers"):
        asyncio.run(body())
