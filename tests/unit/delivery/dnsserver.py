"""A name server of the tests' own: answers by a table, on a UDP socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

#: Instead of records: an answer with that code, or none at all.
SERVFAIL, SILENCE = "SERVFAIL", "SILENCE"


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """`table` has records by name and kind, as in {"x.example": {"MX": ["10 mx.x.example."]}}. A name that is not there
    does not exist."""

    table: dict[str, dict[str, list[str] | str]]
    port: int = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        kinds = self.table.get(name)
        records = None if kinds is None else kinds.get(kind, [])
        if records == SILENCE:
            return
        if records is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif records == SERVFAIL:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif records:
            reply.answer.append(dns.rrset.from_text_list(question.name, 60, "IN", kind, records))
        self.transport.sendto(reply.to_wire(), addr)


@asynccontextmanager
async def name_server(table: dict[str, dict[str, list[str] | str]]) -> AsyncIterator[NameServer]:
    """A running name server."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(table), ("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
