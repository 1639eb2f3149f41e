"""The next hop knows the envelope of an answer while its turn is being flushed: nothing of it leaves before (P2)."""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Server, make_application, wait_until

#: Answers each mail. The flush of a turn hangs or fails while the test's file says so.
HANDLERS = """
import time
from pathlib import Path

import apsw

from monsal import reply, route
from monsal.store.engine import groups

FILE = Path("{file}")
flush = groups.flush


def flush_or_not(data):
    if data.has_undurable_mail and FILE.exists():
        what = FILE.read_text()
        FILE.with_suffix(".reached").touch()
        if what == "hang":
            time.sleep(600)
        while not FILE.with_suffix(".fail").exists():
            time.sleep(0.01)
        FILE.unlink()
        raise apsw.FullError("the test's disk is full")
    return flush(data)


groups.flush = flush_or_not


@route("desk@(host)")
def START(message):
    reply("fine " + message.sender)
"""


class NextHop:
    """A mail server that keeps what it gets of each mail, whole or not."""

    def __init__(self) -> None:
        self.envelopes: list[str] = []
        self.mails: list[bytes] = []
        self.unfinished: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            connection.sendall(b"220 next\r\n")
            while line := reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    connection.sendall(b"354 go on\r\n")
                    if not self._content(reader.readline):
                        return
                    connection.sendall(b"250 2.0.0 kept\r\n")
                elif verb == b"EHLO":
                    connection.sendall(b"250-next\r\n250 PIPELINING\r\n")
                else:
                    if verb == b"RCPT":
                        self.envelopes.append(line.decode().strip())
                    connection.sendall(b"250 2.0.0 ok\r\n")

    def _content(self, readline: object) -> bool:
        assert callable(readline)
        raw = b""
        try:
            while (line := readline()) != b".\r\n":
                if not line:
                    self.unfinished.append(raw)
                    return False
                raw += line
        except ConnectionError:
            self.unfinished.append(raw)
            return False
        self.mails.append(raw)
        return True


@contextmanager
def next_hop() -> Iterator[NextHop]:
    found = NextHop()
    thread = threading.Thread(target=found.listen)
    thread.start()
    try:
        yield found
    finally:
        found.close()
        thread.join()


def write(server: Server, sender: str) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as smtp:
        smtp.sendmail(sender, "desk@example.com", f"From: {sender}\r\nMessage-ID: <{sender}>\r\n\r\nhi\r\n")


@pytest.mark.parametrize("way", ["kill", "fail"])
def test_an_answer_whose_turn_was_not_flushed_never_leaves(home: Path, tmp_path: Path, way: str) -> None:
    file = tmp_path / "flush"
    with next_hop() as hop, Server(home) as server:
        make_application(home, HANDLERS.replace("{file}", str(file)), relay=f"smtp://127.0.0.1:{hop.port}")
        server.start()
        # Given a next hop that knows us
        write(server, "ann@example.net")
        wait_until(lambda: len(hop.mails) == 1, "the first answer")
        server.wait_idle()
        # When the turn of a mail is not flushed though the next hop has its envelope
        file.write_text("hang" if way == "kill" else "fail")
        write(server, "bob@example.net")
        wait_until(file.with_suffix(".reached").exists, "the flush of the turn")
        wait_until(lambda: len(hop.envelopes) == 2, "the envelope of its answer")
        assert len(hop.mails) == 1
        if way == "kill":
            server.kill()
            file.unlink()
            server.start()
        else:
            file.with_suffix(".fail").touch()
        # Then nothing of it had left, and after all it leaves once, of a turn that was committed
        wait_until(lambda: len(hop.mails) == 2, "the answer")
        server.wait_idle()
        assert hop.unfinished == [b""]
        assert hop.envelopes == ["RCPT TO:<ann@example.net>"] + ["RCPT TO:<bob@example.net>"] * 2
        assert b"fine bob@example.net" in hop.mails[1]
        assert server.rows("select count(*) from v_turns where sender = 'bob@example.net'") == [(1,)]
        assert server.rows("select status from v_outbox order by id") == [("sent",), ("sent",)]
        assert server.stop() == 0
