"""Mail out of a maildir: stored before it is removed, once, and never deleted for being odd."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from monsal.errors import ConfigError, StoreUnavailable
from monsal.ingress.base import Screening
from monsal.ingress.maildir import BATCH, MaildirIngress, MaildirPlace, parse_maildir
from monsal.smtp.replies import TOO_BUSY, UNKNOWN_RECIPIENT, Reply
from monsal.store.contract import Receipt

MAIL = b"Return-Path: <ann@x>\nX-Original-To: desk@y\nDelivered-To: box@y\nMessage-ID: <1@x>\n\nhi\n"


async def _say_no(envelope: Any) -> Reply | None:
    return UNKNOWN_RECIPIENT


class Intake:
    """Takes everything but recipients that start with `no`, or raises."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.error: Exception | None = None

    def accepts(self, address: str) -> Reply | None:
        if address.startswith("later"):
            return TOO_BUSY
        return UNKNOWN_RECIPIENT if address.startswith("no") else None

    def screen(self, address: str) -> Screening | None:
        return _say_no if address.startswith("hook") else None

    async def accept(self, envelope: Any, body: tuple[bytes, ...]) -> Receipt:
        if self.error is not None:
            raise self.error
        self.mails.append((envelope.sender, envelope.recipients, b"".join(body)))
        return Receipt((len(self.mails),), (False,))


def put(directory: Path, name: str, raw: bytes = MAIL) -> Path:
    """Deliver as a mail server does: written in tmp, moved to new."""
    for folder in ("tmp", "new", "cur"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    (directory / "tmp" / name).write_bytes(raw)
    return (directory / "tmp" / name).rename(directory / "new" / name)


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine function."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def reading(directory: Path, intake: Intake, url: str = "maildir:box", **options: Any) -> AsyncIterator[Any]:
    settings: dict[str, Any] = {"max_size": 1000, "look": 0.01, **options}
    ingress = MaildirIngress(parse_maildir(url), intake, base=directory, **settings)
    await ingress.start()
    try:
        yield ingress
    finally:
        await ingress.stop(30.0)


@on_a_loop
async def test_a_mail_is_stored_and_then_removed(tmp_path: Path) -> None:
    intake = Intake()
    early = put(tmp_path / "box", "1.early")
    async with reading(tmp_path, intake) as ingress:
        await until(lambda: not early.exists())
        late = put(tmp_path / "box", "2.late", MAIL.replace(b"\n", b"\r\n"))
        await until(lambda: not late.exists())
        assert ingress.statistics().accepted == 2
        assert ingress.addresses == (f"maildir:{tmp_path}/box",)
    assert intake.mails == [("ann@x", ("desk@y",), MAIL.replace(b"\n", b"\r\n"))] * 2


@on_a_loop
async def test_what_cannot_be_stored_now_stays(tmp_path: Path) -> None:
    intake = Intake()
    intake.error = StoreUnavailable("disk full")
    path = put(tmp_path / "box", "1")
    async with reading(tmp_path, intake) as ingress:
        await until(lambda: ingress.statistics().failed >= 2)
        assert path.exists()
        intake.error = None
        await until(lambda: not path.exists())
    assert len(intake.mails) == 1


@pytest.mark.parametrize(
    "raw",
    [
        MAIL.replace(b"desk@", b"nobody@"),
        MAIL.replace(b"desk@", b"hook@"),
        b"Subject: for whom?\n\nhi\n",
        MAIL + b"x" * 1000,
        b"",
    ],
)
@on_a_loop
async def test_what_is_refused_for_good_is_put_aside(tmp_path: Path, raw: bytes) -> None:
    intake = Intake()
    put(tmp_path / "box", "1", raw)
    aside = tmp_path / "box" / ".refused" / "new" / "1"
    async with reading(tmp_path, intake) as ingress:
        await until(aside.exists)
        await until(lambda: ingress.statistics().refused == 1)
    assert aside.read_bytes() == raw
    assert intake.mails == []


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [_folder, _pipe, _loop])
@on_a_loop
async def test_what_is_no_mail_keeps_no_mail_waiting(tmp_path: Path, make: Callable[[Path], None]) -> None:
    intake = Intake()
    put(tmp_path / "box", "2")
    make(tmp_path / "box" / "new" / "1")
    async with reading(tmp_path, intake, max_size=10_000):
        await until(lambda: intake.mails)
        put(tmp_path / "box", "3")
        await until(lambda: len(intake.mails) == 2)
    assert os.listdir(tmp_path / "box" / "new") == ["1"]


@on_a_loop
async def test_what_is_refused_for_now_keeps_no_other_mail_waiting(tmp_path: Path) -> None:
    intake = Intake()
    late = [put(tmp_path / "box", f"1.{n}", MAIL.replace(b"desk@", b"later@")) for n in range(2 * BATCH)]
    put(tmp_path / "box", "2")
    async with reading(tmp_path, intake) as ingress:
        await until(lambda: intake.mails)
        before = ingress.statistics().failed
        # And it is tried again.
        await until(lambda: ingress.statistics().failed >= before + 3 * BATCH)
    assert all(path.exists() for path in late)
    assert len(intake.mails) == 1


@on_a_loop
async def test_what_is_put_aside_takes_the_place_of_nothing(tmp_path: Path) -> None:
    aside = tmp_path / "box" / ".refused" / "new"
    async with reading(tmp_path, Intake()) as ingress:
        for count in (1, 2):
            put(tmp_path / "box", "1", MAIL.replace(b"desk@", b"nobody@") + b"%d" % count)
            await until(lambda count=count: ingress.statistics().refused == count)
    assert sorted(os.listdir(aside)) == ["1", "1.1"]


@on_a_loop
async def test_the_name_of_a_file_makes_no_lines(tmp_path: Path) -> None:
    intake = Intake()
    put(tmp_path / "box", "17\nFrom: <x@y>", b"Delivered-To: desk@y\n\nhi\n")
    async with reading(tmp_path, intake):
        await until(lambda: intake.mails)
    assert intake.mails[0][2].startswith(b"Message-ID: <17-From@maildir.invalid>\r\nDelivered-To:")


@on_a_loop
async def test_whose_mail_it_is_can_be_said(tmp_path: Path) -> None:
    intake = Intake()
    put(tmp_path / "box", "1", b"Return-Path: <>\nMessage-ID: <2@x>\n\nhi\n")
    async with reading(tmp_path, intake, "maildir:box?to=desk@y"):
        await until(lambda: intake.mails)
    assert intake.mails[0][:2] == ("", ("desk@y",))


@on_a_loop
async def test_a_mail_without_an_id_gets_the_same_one_each_time(tmp_path: Path) -> None:
    """Who died between storing and removing stores it again: it has to be known as a duplicate."""
    for _ in range(2):
        intake = Intake()
        put(tmp_path / "box", "17.host:2,S", b"Delivered-To: desk@y\n\nhi\n")
        async with reading(tmp_path, intake):
            await until(lambda found=intake.mails: found)
        assert intake.mails[0][2].startswith(b"Message-ID: <17.host@maildir.invalid>\r\nDelivered-To: desk@y\r\n")


@on_a_loop
async def test_one_reads_and_another_takes_over(tmp_path: Path) -> None:
    first, second = Intake(), Intake()
    async with reading(tmp_path, second) as waiting:
        await waiting.stop(30.0)
    async with reading(tmp_path, first) as reader:
        put(tmp_path / "box", "1")
        await until(lambda: first.mails)
        async with reading(tmp_path, second):
            put(tmp_path / "box", "2")
            await until(lambda: len(first.mails) == 2)
            await reader.stop(30.0)
            put(tmp_path / "box", "3")
            await until(lambda: second.mails)
    assert (len(first.mails), len(second.mails)) == (2, 1)


def test_what_a_url_means() -> None:
    assert parse_maildir("maildir:var/box") == MaildirPlace("var/box")
    assert parse_maildir("maildir:///var/box?to=a@b") == MaildirPlace("/var/box", "a@b")
    for url in ("maildir:", "smtp:x", "maildir:x?to=", "maildir:x?to=nobody", "maildir:x?from=a@b"):
        with pytest.raises(ConfigError, match="no maildir"):
            parse_maildir(url)
