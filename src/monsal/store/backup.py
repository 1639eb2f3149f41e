"""A consistent copy of a store while it is used: the database by SQLite's own backup, large bodies as files.

The copy is the store as of one flush. Everything that was acknowledged before the backup began is in it, and of what
came later only whole groups (P1, P2). A backup is a directory, or a tar file of one:

    monsal.db           the database, in one file
    bodies/ab/abcd...   the large bodies that it points to, and no others
    backup.json         when it was made, of which layout, and the ledger as it was

Order matters: bodies are written before their rows and removed after them. So all files there are are copied first,
then the database, then the files that came meanwhile; one that retention or an erasure removed in between is forgotten
in the copy, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import apsw
import msgspec

from monsal.clock import iso
from monsal.errors import StoreCorrupt, StoreUnavailable
from monsal.store.engine.bodies import BodyFiles
from monsal.store.engine.database import check_layout, configure, foreign_error, select
from monsal.store.engine.looking import read_ledger

__all__ = ["FACTS", "Backup", "Progress", "backup"]

#: Called with what is being copied, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], object]

#: The file of a backup's facts.
FACTS: Final = "backup.json"
#: Pages copied between two words of progress: 4 MB.
_PAGES: Final = 1000
_NEEDED: Final = (
    "SELECT EXISTS (SELECT 1 FROM monsal_spool WHERE body = ?1 AND status IN (0, 1))"
    " OR EXISTS (SELECT 1 FROM monsal_outbox WHERE mail = ?1 AND status < 2)"
    " OR EXISTS (SELECT 1 FROM monsal_timers WHERE body = ?1)"
)


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied: octets of the database, large bodies and their octets; `made` is the time (ISO 8601, UTC)."""

    made: str
    layout: int
    database: int
    bodies: int
    body_octets: int
    ledger: dict[str, dict[str, int]]


def backup(path: Path, target: Path, *, now: float, on_progress: Progress = lambda what, done, total: None) -> Backup:
    """Copy the store at `path` to `target`, which must not exist: a tar file if its name ends with `.tar`, else a
    directory. It appears there when it is complete, verified and on the disk; `now` is the time.

    Raises StoreUnavailable, StoreCorrupt if the copy is damaged, StoreNewer, OSError.
    """
    if not path.is_file():
        raise StoreUnavailable(f"there is no store at {path}")
    if target.exists():
        raise FileExistsError(f"{target} exists")
    with _staging(target) as staging:
        source, copy = BodyFiles(path.parent / "bodies"), BodyFiles(staging / "bodies")
        known = _all_bodies(source, copy, on_progress)
        with closing(_copy_database(path, staging / "monsal.db", on_progress)) as db:
            octets = _complete_bodies(db, source, copy, known)
            facts = _verified(db, octets, staging, now)
        (staging / FACTS).write_bytes(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
        _flush(staging)
        if target.suffix == ".tar":
            _pack(staging, target, on_progress)
        else:
            staging.rename(target)
        _flush_folder(target.parent)
    return facts


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A private folder beside the target; gone in the end, unless it became the target."""
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


# -- bodies -----------------------------------------------------------------------------------------------------


def _all_bodies(source: BodyFiles, copy: BodyFiles, on_progress: Progress) -> set[str]:
    """Copy every large body that is there now; their tokens."""
    tokens = [path.name for path in source.folder.glob("*/*")] if source.folder.is_dir() else []
    done = set()
    for number, token in enumerate(tokens, 1):
        # A hidden one is being written, and its row comes later.
        if not token.startswith(".") and _copy_body(source, copy, token):
            done.add(token)
        on_progress("bodies", number, len(tokens))
    return done


def _copy_body(source: BodyFiles, copy: BodyFiles, token: str) -> bool:
    """Whether it was there to be copied."""
    target = copy.path(token)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source.path(token), target)
        target.chmod(0o600)
        return True
    return False


def _complete_bodies(db: apsw.Connection, source: BodyFiles, copy: BodyFiles, known: set[str]) -> int:
    """Bring the files to what the database points to; their octets. Raises StoreCorrupt for one that is lost."""
    wanted: dict[str, tuple[int, int]] = {
        file: (body, size)
        for body, size, file in select(db, "SELECT id, size, file FROM monsal_bodies WHERE file IS NOT NULL")
    }
    octets = 0
    for token, (body, size) in wanted.items():
        if token not in known and not _copy_body(source, copy, token):
            if select(db, _NEEDED, (body,))[0][0]:
                raise StoreCorrupt(f"the large body {token} is lost, and mail that is not handled needs it")
            db.execute("DELETE FROM monsal_bodies WHERE id = ?", (body,))
            continue
        found = copy.path(token).stat().st_size
        if found != size:
            raise StoreCorrupt(f"the large body {token} has {found} octets where the database says {size}")
        octets += size
    for token in known - wanted.keys():
        copy.remove(token)
    return octets


# -- the database -----------------------------------------------------------------------------------------------


def _copy_database(path: Path, target: Path, on_progress: Progress) -> apsw.Connection:
    """Copy the database as of now; the open copy. Raises StoreError."""
    db: apsw.Connection | None = None
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        db = apsw.Connection(str(target))
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        with closing(apsw.Connection(f"file:{quote(str(path.absolute()))}?mode=ro", flags=flags)) as source:
            configure(source, writer=False)
            check_layout(source, path)
            # Within a transaction all steps read the same state, however much is written beside them. The writer goes
            # on; only its WAL is not begun anew until we are through.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
            with db.backup("main", source, "main") as copying:
                while not copying.done:
                    copying.step(_PAGES)
                    on_progress("database", copying.page_count - copying.remaining, copying.page_count)
        # One file: without this it would be two more as soon as somebody looks into it.
        db.execute("PRAGMA journal_mode = DELETE").fetchall()
    except BaseException as error:
        if db is not None:
            db.close(True)
        if isinstance(error, apsw.Error):
            raise foreign_error(error, path) from error
        raise
    return db


def _verified(db: apsw.Connection, octets: int, staging: Path, now: float) -> Backup:
    """The facts of a copy that is sound. Raises StoreCorrupt for one that is not."""
    try:
        verdict: Any = select(db, "PRAGMA quick_check(1)")[0][0]
        if verdict != "ok":
            raise StoreCorrupt(f"the copy of the database is damaged: {verdict}; the store itself may be, too")
        bodies = select(db, "SELECT count(*) FROM monsal_bodies WHERE file IS NOT NULL")[0][0]
        return Backup(
            made=iso(now) or "",
            layout=select(db, "PRAGMA user_version")[0][0],
            database=(staging / "monsal.db").stat().st_size,
            bodies=bodies,
            body_octets=octets,
            ledger={source: msgspec.to_builtins(ledger) for source, ledger in read_ledger(db).items()},
        )
    except apsw.Error as error:
        raise foreign_error(error, staging / "monsal.db") from error


# -- the disk ---------------------------------------------------------------------------------------------------


def _flush(folder: Path) -> None:
    """Have everything below a folder on the disk."""
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            _flush_folder(path)
        else:
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _pack(staging: Path, target: Path, on_progress: Progress) -> None:
    """One tar file of the folder, under the target's name when it is complete."""
    partial = staging.with_name(staging.name + ".tar")
    paths = sorted(path for path in staging.rglob("*"))
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                for number, path in enumerate(paths, 1):
                    tar.add(path, arcname=str(path.relative_to(staging)), recursive=False)
                    on_progress("tar", number, len(paths))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
