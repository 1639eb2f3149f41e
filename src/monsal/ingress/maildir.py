"""Mail out of a maildir that another mail server delivers into: each file is stored (P1), then removed from `new`.

    ingress = MaildirIngress(parse_maildir("maildir:/var/mail/desk"), intake)
    await ingress.start()
    await ingress.stop(5.0)

One process reads a maildir at a time (a lock in it says who); the others wait to take over. If it dies between
storing and removing, the mail is stored again and known as a duplicate; so that this holds for mail without a
Message-ID too, such mail gets one that is made of the file's name. What is refused for good is moved to the folder
`.refused`: nothing is deleted that nobody has. The directory is looked at once a second.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import itertools
import logging
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from monsal.address import is_address
from monsal.errors import ConfigError
from monsal.ingress.answers import Answer, ask_about, hand_over
from monsal.ingress.base import IngressStatistics, Intake
from monsal.mail import Envelope, first_address, scan
from monsal.smtp.replies import BAD_ADDRESS, MESSAGE_TOO_BIG, NO_ROUTES, Reply

__all__ = ["MaildirIngress", "MaildirPlace", "parse_maildir"]

log: Final = logging.getLogger("monsal.ingress")

#: Seconds between two looks.
LOOK: Final = 1.0
#: Mails that are stored together, and the octets of them after which no more are read.
BATCH: Final = 32
BATCH_OCTETS: Final = 8 * 1024 * 1024
#: Fields that mail servers note the envelope's recipient in, the most faithful first.
RECIPIENT_FIELDS: Final = ("x-original-to", "delivered-to", "envelope-to")
#: What of a file's name cannot stand in a Message-ID.
_NOT_UNIQUE: Final = re.compile(r"[^A-Za-z0-9.=_+,~-]")


class MaildirPlace(msgspec.Struct, frozen=True):
    """A maildir, and whom its mail is for; empty for whom each mail names."""

    path: str
    recipient: str = ""


class _Letter(msgspec.Struct, frozen=True):
    """A file of `new`; `body` is None if it is larger than what is taken."""

    path: Path
    body: bytes | None


def parse_maildir(url: str) -> MaildirPlace:
    """Read `maildir:PATH` or `maildir:PATH?to=ADDRESS`. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    path, mark, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    recipient = options.pop("to", "")
    path = path.removeprefix("//") if path.startswith("///") else path
    if scheme != "maildir" or not path or "\0" in path or options or (mark and not is_address(recipient)):
        raise ConfigError(f"{url!r} is no maildir; expected maildir:PATH or maildir:PATH?to=ADDRESS")
    return MaildirPlace(path, recipient)


class MaildirIngress:
    """Takes the mail of one maildir, which is made if it is not there."""

    def __init__(self, place: MaildirPlace, intake: Intake, *, base: Path, max_size: int, look: float = LOOK) -> None:
        self._path = base / place.path
        self._recipient = place.recipient
        self._intake = intake
        self._max_size = max_size
        self._look = look
        self._lock: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._accepted = self._refused = self._failed = self._received = self._held = 0
        self._reason = ""
        # Names of what is no mail or cannot be read, each told once; and of what was refused for now.
        self._odd: set[str] = set()
        self._later: set[str] = set()

    @property
    def addresses(self) -> tuple[str, ...]:
        return (f"maildir:{self._path}",)

    def statistics(self) -> IngressStatistics:
        return IngressStatistics(
            addresses=self.addresses,
            connections=0,
            busy=self._held,
            connected=0,
            turned_away=0,
            evicted=0,
            timed_out=0,
            accepted=self._accepted,
            refused=self._refused,
            failed=self._failed,
            recipients_refused=0,
            received=self._received,
            held=0,
        )

    async def start(self) -> None:
        """Begin to look. Raises OSError if the maildir is not there and cannot be made."""
        for name in ("tmp", "new", "cur"):
            (self._path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        log.info("reading %s", self._path, extra={"action": "listening"})
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, grace: float) -> None:
        """Read no more, and let what is being stored come to its end within `grace` seconds."""
        self._stopping.set()
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            more = False
            try:
                if await loop.run_in_executor(None, self._have_lock):
                    letters = await loop.run_in_executor(None, self._read)
                    more = await self._take(letters) and bool(letters)
                self._reason = ""
            except OSError as error:
                if str(error) != self._reason:  # once, not each second
                    log.error("cannot read %s: %s", self._path, error, extra={"action": "maildir_error"})
                self._reason = str(error)
            if not more:
                await self._wait()

    async def _wait(self) -> None:
        """Until the next look, or the end."""
        try:
            async with asyncio.timeout(self._look):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _take(self, letters: Sequence[_Letter]) -> bool:
        """Store letters together and remove them; whether all of them are settled."""
        self._held = len(letters)
        try:
            answers = await asyncio.gather(*(self._store(letter) for letter in letters))
        finally:
            self._held = 0
        await asyncio.get_running_loop().run_in_executor(None, self._settle, list(zip(letters, answers, strict=True)))
        for answer in answers:
            refused = answer.refusal is not None and answer.refusal.is_permanent
            self._accepted += answer.receipt is not None
            self._refused += refused
            self._failed += answer.receipt is None and not refused
        return all(answer.receipt is not None or _is_final(answer) for answer in answers)

    async def _store(self, letter: _Letter) -> Answer:
        if letter.body is None:
            return Answer(refusal=MESSAGE_TOO_BIG)
        head = scan(letter.body[: 64 * 1024])
        recipient = self._recipient
        for name in RECIPIENT_FIELDS if not recipient else ():
            if (found := (head.get(name) or "").strip().strip("<>")) and is_address(found):
                recipient = found
                break
        if not recipient:
            return Answer(refusal=BAD_ADDRESS)
        # Without the field it is not known to be a bounce, which nobody would answer.
        named = head.get("return-path")
        sender = first_address(head.get("from") or "") if named is None else named.strip().strip("<>")
        body = letter.body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if head.message_id is None:
            unique = _NOT_UNIQUE.sub("-", letter.path.name.partition(":")[0]).encode()
            body = b"Message-ID: <" + unique + b"@maildir.invalid>\r\n" + body
        self._received += len(body)
        envelope = Envelope(
            sender=sender if sender and is_address(sender) else "",
            recipients=(recipient,),
            peer="maildir",
            protocol="LOCAL",
        )
        if (refusal := await ask_about(self._intake, envelope)) is not None:
            return Answer(refusal=refusal)
        return await hand_over(self._intake, envelope, (body,))

    # In threads

    def _have_lock(self) -> bool:
        """Whether this process is the one that reads here."""
        if self._lock is not None:
            return True
        handle = os.open(self._path / ".monsal.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._lock = handle
        return True

    def _read(self) -> list[_Letter]:
        """The oldest mails there are, as many as are stored together."""
        letters: list[_Letter] = []
        octets = 0
        names = sorted(name for name in os.listdir(self._path / "new") if not name.startswith("."))
        self._odd.intersection_update(names)
        # What was refused for now must not keep what came after it waiting: its turn is when all others had theirs.
        if self._later.issuperset(names):
            self._later.clear()
        for name in names:
            letter = None if name in self._later else self._letter(name)
            if letter is None:
                continue
            letters.append(letter)
            octets += len(letter.body or b"")
            if len(letters) >= BATCH or octets >= BATCH_OCTETS:
                break
        return letters

    def _letter(self, name: str) -> _Letter | None:
        """One file; None if it is gone, is none, or cannot be read. Then it stays, and all others are read (P7)."""
        path = self._path / "new" / name
        try:
            # Without waiting for who would write into a pipe of that name.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.EINVAL, "it is no file")
                body = file.read() if status.st_size <= self._max_size else None
        except FileNotFoundError:  # a mail reader took it
            return None
        except OSError as error:
            if name not in self._odd:
                log.error("left %r in %s: %s", name, path.parent, error.strerror, extra={"action": "maildir_odd"})
            self._odd.add(name)
            return None
        self._odd.discard(name)
        return _Letter(path, body)

    def _settle(self, settled: Sequence[tuple[_Letter, Answer]]) -> None:
        """Remove what is stored; put aside what is refused for good; leave the rest for another look."""
        for letter, answer in settled:
            if answer.receipt is not None:
                letter.path.unlink(missing_ok=True)
            elif _is_final(answer):
                aside = self._path / ".refused" / "new"
                for name in ("tmp", "new", "cur"):
                    (aside.parent / name).mkdir(mode=0o700, parents=True, exist_ok=True)
                letter.path.rename(_free(aside, letter.path.name))
                log.warning(
                    "refused %s, which is in %s now: %s",
                    *(letter.path.name, aside, _words(answer.refusal)),
                    extra={"action": "maildir_refused"},
                )
            elif not answer.failed and answer.refusal is not NO_ROUTES:
                self._later.add(letter.path.name)


def _free(folder: Path, name: str) -> Path:
    """Where a file of that name can be moved without taking the place of another one."""
    numbers = itertools.count(1)
    path = folder / name
    while path.exists():
        path = folder / f"{name}.{next(numbers)}"
    return path


def _is_final(answer: Answer) -> bool:
    return answer.refusal is not None and answer.refusal.is_permanent


def _words(reply: Reply | None) -> str:
    return str(reply) if reply is not None else ""
