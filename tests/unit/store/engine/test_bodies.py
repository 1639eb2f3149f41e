"""Large bodies as files: whole or not there, private, and swept when nobody points to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monsal.store.engine.bodies import BodyFiles


def test_a_body_is_written_whole_and_private(tmp_path: Path) -> None:
    bodies = BodyFiles(tmp_path / "bodies")
    token = bodies.write((b"one ", b"", b"two", b"x" * 3_000_000))
    path = bodies.path(token)
    assert path.read_bytes() == b"one two" + b"x" * 3_000_000
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == [token]


def test_a_body_has_its_name_only_when_the_disk_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = BodyFiles(tmp_path / "bodies")
    seen: list[tuple[bool, list[str]]] = []

    def note(file: int) -> None:
        names = [path.name[:1] for path in (tmp_path / "bodies").rglob("*") if path.is_file()]
        seen.append((os.path.isdir(f"/proc/self/fd/{file}"), names))

    monkeypatch.setattr(os, "fsync", note)
    token = bodies.write((b"x",))
    # The folders; then the file under its other name; then the folder again, with the file's own name in it.
    assert seen[-2:] == [(False, ["."]), (True, [token[0]])]
    assert [is_folder for is_folder, _ in seen] == [True, True, False, True]


def test_what_nobody_points_to_is_swept(tmp_path: Path) -> None:
    bodies = BodyFiles(tmp_path / "bodies")
    assert bodies.sweep(lambda token: True) == (0, 0)
    kept, lost = bodies.write((b"kept",)), bodies.write((b"lost",))
    partial = bodies.path(kept).with_name(".partial")
    partial.write_bytes(b"half a bo")
    assert bodies.sweep({kept}.__contains__) == (2, 0)
    assert bodies.path(kept).read_bytes() == b"kept"
    assert not bodies.path(lost).exists()
    assert not partial.exists()


def test_removing_twice_is_harmless(tmp_path: Path) -> None:
    bodies = BodyFiles(tmp_path / "bodies")
    token = bodies.write((b"x",))
    bodies.remove(token)
    bodies.remove(token)
    assert not bodies.path(token).exists()


def test_a_body_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = BodyFiles(tmp_path / "bodies")

    def no_space(file: int) -> None:
        raise OSError(28, "No space left on device")

    bodies.write((b"so that the folders are there",))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(os, "fsync", no_space)
    for _ in range(300):  # whatever folder the token chooses
        with pytest.raises(OSError, match="No space"):
            bodies.write((b"x",))
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == [p for p in before if p.is_file()]
