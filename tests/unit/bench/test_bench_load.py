"""The load generator is a witness in the crash proof: what it writes down must be what happened."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench.load import GaveUp, Load, Options
from bench.mails import MailMaker

HELP = ("help@example.com",)


class ScriptedServer:
    """A mail server of a few lines: `verdict(count, recipient)` is its answer to the final dot; None hangs up."""

    def __init__(self, verdict: Callable[[int, str], str | None], *, extensions: str = "", lmtp: bool = False) -> None:
        self.verdict = verdict
        self.extensions = extensions
        self.lmtp = lmtp
        self.mails: list[bytes] = []
        self.rcpt = lambda recipient: "250 2.1.5 yes"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        taken: list[str] = []
        try:
            while line := (await reader.readline()).decode():
                word = line.split()[0].upper()
                if word in {"EHLO", "LHLO"}:
                    assert word == ("LHLO" if self.lmtp else "EHLO")
                    answer = f"250-here\r\n250 {self.extensions or '8BITMIME'}"
                elif word == "RCPT":
                    recipient = line.partition("<")[2].partition(">")[0]
                    answer = self.rcpt(recipient)
                    taken += [recipient] if answer.startswith("250") else []
                elif word == "DATA":
                    writer.write(b"354 go on\r\n" if taken else b"554 5.5.1 no recipients\r\n")
                    if taken and not await self._message(reader, writer, taken):
                        return
                    taken = []
                    continue
                else:
                    answer = "221 bye" if word == "QUIT" else "250 2.0.0 ok"
                writer.write(f"{answer}\r\n".encode())
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, taken: list[str]) -> bool:
        self.mails.append(await reader.readuntil(b"\r\n.\r\n"))
        for recipient in taken if self.lmtp else taken[:1]:
            answer = self.verdict(len(self.mails), recipient)
            if answer is None:
                return False
            writer.write(f"{answer}\r\n".encode())
        return True


def run(server: ScriptedServer, tmp_path: Path, **options: Any) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """A load against a server: the summary, the lines of acknowledged and of sent mails."""

    async def body() -> dict[str, Any]:
        listener = await asyncio.start_server(server, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener:
            given = {"recipients": HELP, "out": tmp_path / "out", "sent": tmp_path / "sent", **options}
            return await asyncio.wait_for(Load(Options(port=port, **given)).run(), 10)

    summary = asyncio.run(body())
    return summary, *(
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()] for name in ("out", "sent")
    )


def test_a_seed_gives_the_same_mails_always() -> None:
    first, again, other = MailMaker(7, HELP, 900), MailMaker(7, HELP, 900), MailMaker(8, HELP, 900)
    assert first.make(3, 2).data == again.make(3, 2).data
    assert first.make(3, 2).message_id != other.make(3, 2).message_id
    ids = {first.make(n, seq).message_id for n in range(10) for seq in range(1, 10)}
    assert len(ids) == 90
    assert abs(len(first.make(3, 2).data) - 900) < 150
    assert b"\r\nX-Seq: 2\r\n" in first.make(3, 2).data


@pytest.mark.parametrize("extensions", ["", "PIPELINING"])
def test_each_acknowledged_mail_is_written_down_in_order(tmp_path: Path, extensions: str) -> None:
    server = ScriptedServer(lambda count, _: f"250 2.0.0 number {count}", extensions=extensions)
    summary, out, sent = run(server, tmp_path, messages=20, correspondents=3, connections=2)
    assert summary["acknowledged"] == summary["sent"] == len(out) == len(sent) == 20
    for correspondent in range(3):
        seqs = [row["seq"] for row in out if row["correspondent"] == correspondent]
        assert seqs == list(range(1, len(seqs) + 1))
    assert {row["message_id"] for row in out} == {row["message_id"] for row in sent}
    assert all(row["reply"].startswith("250 2.0.0 number ") for row in out)


def test_a_lost_answer_brings_the_same_bytes_again(tmp_path: Path) -> None:
    server = ScriptedServer(lambda count, _: None if count == 1 else "250 2.0.0 yes", extensions="PIPELINING")
    summary, out, sent = run(server, tmp_path, messages=1, correspondents=1, connections=1)
    assert (summary["resent"], summary["lost"], len(out), len(sent)) == (1, 1, 1, 1)
    assert server.mails[0] == server.mails[1]


def test_a_temporary_answer_is_tried_again_and_a_final_one_is_not(tmp_path: Path) -> None:
    server = ScriptedServer(lambda count, _: {1: "451 4.3.0 later", 2: "250 2.0.0 yes"}.get(count, "554 5.7.1 no"))
    summary, out, _ = run(server, tmp_path, messages=2, correspondents=1, connections=1)
    assert (summary["deferred"], summary["refused"], summary["acknowledged"]) == (1, 1, 1)
    assert [row["seq"] for row in out] == [1]
    assert summary["troubles"] == {"451 4.3.0 later": 1, "554 5.7.1 no": 1}


def test_over_lmtp_each_recipient_has_its_own_answer(tmp_path: Path) -> None:
    said = iter(["250 2.0.0 one", "451 4.3.0 later", "250 2.0.0 two"])
    server = ScriptedServer(lambda _, __: next(said), lmtp=True)
    _, out, sent = run(server, tmp_path, messages=1, connections=1, lmtp=True, recipients=("a@x.org", "b{n}@x.org"))
    assert [(row["recipient"], row["reply"]) for row in out] == [
        ("a@x.org", "250 2.0.0 one"),
        ("b0@x.org", "250 2.0.0 two"),
    ]
    assert sent[0]["recipients"] == ["a@x.org", "b0@x.org"]


def test_a_refused_recipient_does_not_harm_the_other(tmp_path: Path) -> None:
    server = ScriptedServer(lambda _, __: "250 2.0.0 yes", extensions="PIPELINING")
    server.rcpt = lambda recipient: "550 5.1.1 unknown" if recipient.startswith("gone") else "250 2.1.5 yes"
    summary, out, _ = run(server, tmp_path, messages=1, connections=1, recipients=("gone@x.org", "a@x.org"))
    assert [row["recipient"] for row in out] == ["a@x.org"]
    assert summary["refused"] == 1


def test_it_gives_up_when_nothing_is_ever_taken(tmp_path: Path) -> None:
    server = ScriptedServer(lambda _, __: "451 4.3.0 never")
    with pytest.raises(GaveUp, match="never"):
        run(server, tmp_path, messages=1, correspondents=1, connections=1, give_up=0.1)


def test_it_finds_the_address_in_ready_json(tmp_path: Path) -> None:
    async def body() -> dict[str, Any]:
        (tmp_path / "run").mkdir()
        server = ScriptedServer(lambda _, __: "250 2.0.0 yes", lmtp=True)
        ready = tmp_path / "run" / "ready.json"
        load = Load(Options(recipients=HELP, ready=ready, lmtp=True, messages=3, out=tmp_path / "out"))
        running = asyncio.create_task(load.run())
        listener = await asyncio.start_unix_server(server, tmp_path / "run" / "lmtp.sock")
        async with listener:
            ready.write_text(json.dumps({"smtp": [], "lmtp": ["run/lmtp.sock"]}))
            return await asyncio.wait_for(running, 60)

    assert asyncio.run(body())["acknowledged"] == 3


def test_what_is_on_its_way_at_the_end_is_waited_for_as_long_as_was_asked() -> None:
    # Given a server that takes one mail and says nothing to the next
    class Silent(ScriptedServer):
        async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, taken: list[str]) -> bool:
            if not self.mails:
                return await super()._message(reader, writer, taken)
            asked.set()
            await reader.read()
            return False

    asked = asyncio.Event()

    async def body() -> dict[str, Any]:
        listener = await asyncio.start_server(Silent(lambda count, recipient: "250 2.0.0 ok"), "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            load = Load(Options(port=port, recipients=HELP, correspondents=1, connections=1, grace=0.1))
            running = asyncio.create_task(load.run())
            await asyncio.wait_for(asked.wait(), 30)
            # When it is stopped
            load.stop()
            return await asyncio.wait_for(running, 30)

    summary = asyncio.run(body())
    # Then it ends without that mail, and tells when the last one was taken
    assert summary["acknowledged"] == 1
    assert 0 < summary["last_s"] < summary["seconds"]
