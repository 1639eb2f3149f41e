"""P1 as the kernel sees it: between the final dot of a message and its 250 there is a flush that succeeded.

strace writes down the system calls of the whole process in order. A call that another thread interrupts in the
listing has two lines; its first is when it began, its second when it ended.
"""

from __future__ import annotations

import re
import smtplib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import Server, make_application

pytestmark = [pytest.mark.interop, pytest.mark.evidence]

HANDLERS = """
from monsal import reply, route


@route("desk@(host)")
def START(message):
    reply("Hello.", even_if_automatic=True)
"""

_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_RESULT = re.compile(r" = (?P<result>-?\d+)(?: .*)?$")


@dataclass
class Call:
    """One system call: its first argument as a number, all arguments as text, when it began and ended."""

    name: str
    fd: int
    text: str
    began: int
    ended: int = -1
    result: int = -1


def calls(lines: list[str]) -> Iterator[Call]:
    """The system calls of a listing, in order of their beginning."""
    found: list[Call] = []
    unfinished: dict[str, Call] = {}
    for number, line in enumerate(lines):
        if match := _RESUMED.match(line):
            call = unfinished.pop(match["pid"], None)
            if call is None:
                continue
            call.text += match["rest"]
        elif match := _CALL.match(line):
            fd = re.match(r"(\d+)", match["rest"])
            call = Call(match["name"], int(fd[1]) if fd else -1, match["rest"], number)
            found.append(call)
            if "<unfinished ...>" in line:
                unfinished[match["pid"]] = call
                continue
        else:
            continue
        call.ended = number
        if result := _RESULT.search(line):
            call.result = int(result["result"])
    return iter(found)


def replies_and_their_flushes(lines: list[str]) -> list[tuple[str, bool]]:
    """For each reply to a final dot: its text, and whether a flush began and succeeded in between.

    The flush has to begin after the last byte of the message was read: one that began before may not cover it.
    """
    flushes: list[Call] = []
    dots: dict[int, int] = {}
    found = []
    for call in sorted(calls(lines), key=lambda call: call.began):
        if call.name in {"fsync", "fdatasync"} and call.result == 0:
            flushes.append(call)
        elif call.name in {"read", "recvfrom", "recvmsg", "readv"} and call.result > 0:
            if r"\r\n.\r\n" in call.text:
                dots[call.fd] = call.ended
        elif (
            call.name in {"write", "writev", "sendto", "sendmsg"}
            and call.fd in dots
            and (reply := re.search(r'"(250 [^"]*)', call.text))
        ):
            dot = dots.pop(call.fd)
            covered = any(dot < flush.began and flush.ended < call.began for flush in flushes)
            found.append((reply[1], covered))
    return found


@pytest.mark.parametrize("sessions", [1, 5])
@pytest.mark.rule("state.B11")
def test_each_250_follows_a_flush(home: Path, program: Callable[[str], str], sessions: int) -> None:
    trace = home / "trace"
    names = "trace=fdatasync,fsync,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg"
    wrapper = [program("strace"), "-f", "-s", "4000", "-e", names, "-e", "signal=none", "-o", str(trace)]
    with Server(make_application(home, HANDLERS), wrapper=wrapper) as server:
        server.start()

        def write(session: int) -> None:
            with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
                for number in range(20):
                    sender = f"c{session}@example.net"
                    mail = f"From: {sender}\r\nMessage-ID: <{number}.{session}@example.net>\r\n\r\ny\r\n"
                    assert client.sendmail(sender, ["desk@example.com"], mail.encode()) == {}

        threads = [threading.Thread(target=write, args=(session,)) for session in range(sessions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.wait_idle()
        assert server.stop() == 0
        assert server.ledger()["done"] == 20 * sessions
    found = replies_and_their_flushes(trace.read_text(errors="replace").splitlines())
    assert len(found) == 20 * sessions, found[:5]
    assert [reply for reply, covered in found if not covered] == []


def test_the_reading_of_the_trace_can_tell_the_difference() -> None:
    read = r'7 read(9, "x\r\n.\r\n", 65536) = 6'
    write = r'7 write(9, "250 2.0.0 stored\r\n", 18) = 18'
    flush = "8 fdatasync(4) = 0"
    assert replies_and_their_flushes([read, flush, write]) == [(r"250 2.0.0 stored\r\n", True)]
    assert replies_and_their_flushes([read, write, flush]) == [(r"250 2.0.0 stored\r\n", False)]
    assert replies_and_their_flushes([flush, read, write]) == [(r"250 2.0.0 stored\r\n", False)]
    failed = "8 fdatasync(4) = -1 EIO (Input/output error)"
    assert replies_and_their_flushes([read, failed, write]) == [(r"250 2.0.0 stored\r\n", False)]
    halves = ["8 fdatasync(4 <unfinished ...>", "8 <... fdatasync resumed>) = 0"]
    assert replies_and_their_flushes([read, *halves, write])[0][1]
    assert not replies_and_their_flushes([halves[0], read, halves[1], write])[0][1]
    assert not replies_and_their_flushes([read, halves[0], write, halves[1]])[0][1]
