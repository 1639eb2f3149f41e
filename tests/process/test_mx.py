"""A server that brings mail to the domains itself: one of them that says nothing holds up no other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from aiosmtpd.controller import Controller
from harness import Server, make_application, wait_until

HANDLERS = """
from monsal import reply, route


@route("desk@(host)")
def START(message):
    reply("Hello.")
"""
#: What the DNS says; of a name that is not there, that it does not exist.
RECORDS = {
    ("fine.example", "MX"): "10 mx.fine.example.",
    ("mx.fine.example", "A"): "127.0.0.1",
    ("mx.fine.example", "AAAA"): "",
    ("dead.example", "MX"): "10 mx.dead.example.",
    ("mx.dead.example", "A"): "127.0.0.2",
    ("mx.dead.example", "AAAA"): "",
}


@contextmanager
def name_server() -> Iterator[int]:
    """The port of one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        thread = threading.Thread(target=_answer, args=(server,))
        thread.start()
        try:
            yield port
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
                stop.sendto(b"", ("127.0.0.1", port))
            thread.join()


def _answer(server: socket.socket) -> None:
    while True:
        data, address = server.recvfrom(4096)
        if not data:
            return
        reply = dns.message.make_response(dns.message.from_wire(data))
        (question,) = reply.question
        kind = dns.rdatatype.to_text(question.rdtype)
        record = RECORDS.get((question.name.to_text(omit_final_dot=True).lower(), kind))
        if record is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif record:
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, record))
        server.sendto(reply.to_wire(), address)


class Keeper:
    """A mail server that keeps what it gets."""

    def __init__(self) -> None:
        self.recipients: list[str] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.recipients += envelope.rcpt_tos
        return "250 kept"


def listening() -> tuple[socket.socket, socket.socket]:
    """One port, at two addresses."""
    for _ in range(20):
        one = socket.create_server(("127.0.0.1", 0))
        try:
            return one, socket.create_server(("127.0.0.2", one.getsockname()[1]))
        except OSError:  # somebody has that port there
            one.close()
    raise AssertionError("no port is free at both addresses")


class Given(Controller):
    """aiosmtpd on a socket that listens already."""

    def __init__(self, keeper: Keeper, sock: socket.socket) -> None:
        super().__init__(keeper, hostname="127.0.0.1", port=sock.getsockname()[1])
        self._sock = sock

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self._sock)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_domain_that_says_nothing_holds_up_no_other(home: Path, workers: int) -> None:
    fine, dead = listening()  # nobody ever accepts at the second one
    keeper = Keeper()
    controller = Given(keeper, fine)
    controller.start()
    try:
        with dead, name_server() as dns_port:
            url = f"mx:?port={fine.getsockname()[1]}&private=yes&nameserver=127.0.0.1:{dns_port}"
            application = make_application(home, HANDLERS, ingress=["maildir:box"], relay=url, workers=workers, drain=1)
            with Server(application) as server:
                server.start()
                for number, sender in enumerate(["d1@dead.example", "d2@dead.example", "n@none.example"]):
                    put(home, number, sender)
                wait_until(lambda: ("failed",) in states(server), "the mail to the domain that is none has failed")
                for number in range(10, 15):
                    put(home, number, f"f{number}@fine.example")
                wait_until(lambda: len(keeper.recipients) == 5, "mail for the domain that is there")
                wait_until(lambda: states(server).count(("sent",)) == 5, "all of them settled")
                held = server.rows("select status from v_outbox where recipient like '%@dead.example'")
                assert len(held) == 2
                assert not {("sent",), ("failed",)} & set(held)
                assert server.stop() == 0
    finally:
        controller.stop()
    assert sorted(keeper.recipients) == [f"f{number}@fine.example" for number in range(10, 15)]


def put(home: Path, number: int, sender: str) -> None:
    raw = f"Delivered-To: desk@example.com\nFrom: {sender}\nSubject: x\n\nhi\n".encode()
    (home / "box" / "new" / f"{number}.host").write_bytes(raw)


def states(server: Server) -> list[tuple[Any, ...]]:
    return server.rows("select status from v_outbox")
