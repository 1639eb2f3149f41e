"""`monsal ingest` holds no more of its input than the application takes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from click.testing import CliRunner

from monsal.cli.exits import DATA
from monsal.cli.root import cli


class Endless(io.RawIOBase):
    """Gives octets without end, and counts them."""

    given = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "read without a bound"
        self.given += size
        return b"x" * size


def test_no_more_than_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Endless()
    limit = 2 * 1024 * 1024
    (tmp_path / "monsal.toml").write_text(f"max_message_size = {limit}\n", encoding="utf-8")

    class Stdin:
        buffer = stream

    monkeypatch.setattr("monsal.cli.ingest.sys", type("Sys", (), {"stdin": Stdin}))
    done = CliRunner().invoke(cli, ["ingest", "--to", "desk@example.com", "--from", "", "--dir", str(tmp_path)])
    assert done.exit_code == DATA
    assert "larger than max_message_size" in done.stderr
    assert stream.given == limit + 1
