"""Loggers: what arrives on `log` is written, whole, to streams of both kinds and to files that are rotated."""

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from monsal.bus import Bus, State
from monsal.bus.plugins import FileLogger, StderrLogger, StdoutLogger, StreamLogger


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus()
    yield made
    made.exit()


@pytest.fixture
def log(bus: Bus, tmp_path: Path) -> Iterator[FileLogger]:
    made = FileLogger(bus, tmp_path / "bus.log", format="%(message)s")
    made.subscribe()
    yield made
    made.unsubscribe()


def test_whatever_the_state_a_line_is_written_at_once(bus: Bus) -> None:
    stream = io.StringIO()
    StreamLogger(bus, stream, format="%(levelname)s %(message)s").subscribe()
    bus.log("before")
    bus.start()
    bus.exit()
    bus.log("after", 40)
    assert stream.getvalue().splitlines() == [
        "INFO before",
        "INFO Bus STARTING",
        "INFO Bus STARTED",
        "INFO Bus STOPPING",
        "INFO Bus STOPPED",
        "INFO Bus EXITING",
        "INFO Bus EXITED",
        "ERROR after",
    ]


def test_streams_of_text_and_of_bytes_both_work(bus: Bus, tmp_path: Path) -> None:
    """(M2): a logger that wrote bytes to a stream of text kept the bus from starting."""
    text, binary, buffered = io.StringIO(), io.BytesIO(), (tmp_path / "buffered").open("wb")
    with buffered:
        for stream in (text, binary, buffered):
            StreamLogger(bus, stream, format="%(message)s").subscribe()
        bus.log("äöü")
        bus.start()
        assert bus.state is State.STARTED
        # Flushed by then, although it is open.
        assert (tmp_path / "buffered").read_bytes() == binary.getvalue() == text.getvalue().encode()
    assert text.getvalue().startswith("äöü\n")
    bus.listeners["log"].clear()


def test_what_is_of_no_class_of_io_is_asked_by_trying(bus: Bus) -> None:
    class Foreign:
        def __init__(self, kind: type) -> None:
            self.kind, self.taken = kind, []

        def write(self, data: Any) -> None:
            if not isinstance(data, self.kind):
                raise TypeError(f"not {self.kind}")
            self.taken.append(data)

        def flush(self) -> None:
            self.taken.append("flushed")

    text, binary = Foreign(str), Foreign(bytes)
    StreamLogger(bus, text, format="%(message)s").subscribe()
    StreamLogger(bus, binary, format="%(message)s").subscribe()
    bus.log("one")
    assert text.taken == ["one\n", "flushed"]
    assert binary.taken == [b"one\n", "flushed"]


@pytest.mark.parametrize("stream", [io.StringIO(), io.BytesIO()])
def test_the_time_is_text(bus: Bus, stream: Any) -> None:
    """(M3): it was printed as b'...'."""
    StreamLogger(bus, stream).subscribe()
    bus.log("hello")
    line = stream.getvalue()
    line = line.decode() if isinstance(line, bytes) else line
    assert re.fullmatch(r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00\] INFO hello\n", line)


def test_the_standard_streams(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    """(M2): with the standard output."""
    StdoutLogger(bus, format="out %(message)s").subscribe()
    StderrLogger(bus, 40, "err %(message)s").subscribe()
    bus.start()
    bus.log("bad", 40)
    taken = capsys.readouterr()
    assert taken.out.splitlines() == ["out Bus STARTING", "out Bus STARTED", "out bad"]
    assert taken.err.splitlines() == ["err bad"]


def test_what_is_below_the_level_is_left_out(bus: Bus) -> None:
    stream = io.StringIO()
    StreamLogger(bus, stream, 30, "%(level)s %(levelname)s").subscribe()
    for level in (10, 29, 30, 35, 50):
        bus.log("x", level)
    assert stream.getvalue().splitlines() == ["30 WARNING", "35 35", "50 CRITICAL"]


def test_a_function_may_make_the_line_of_its_parts(bus: Bus) -> None:
    stream = io.StringIO()
    bus.id = "the bus"  # type: ignore[attr-defined] - free attributes are part of the contract

    def as_json(parts: Mapping[str, Any]) -> str:
        return json.dumps(dict(parts))

    StreamLogger(bus, stream, format=as_json).subscribe()
    bus.log("two\nlines")
    parts = json.loads(stream.getvalue())
    assert parts.pop("timestamp").endswith("+00:00")
    assert parts == {"message": "two\nlines", "level": 20, "levelname": "INFO", "bus": "the bus"}


def test_no_encoding_is_trusted(bus: Bus) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), "ascii")
    strict = io.TextIOWrapper(io.BytesIO(), "utf-8")
    binary, latin = io.BytesIO(), io.BytesIO()
    for stream in (ascii_only, strict, binary):
        StreamLogger(bus, stream, format="%(message)s").subscribe()
    StreamLogger(bus, latin, format="%(message)s", encoding="latin-1").subscribe()
    # A file name that is no utf-8, as os.fsdecode gives it.
    bus.log("ä\udcff€")
    assert ascii_only.buffer.getvalue() == b"\\xe4\\udcff\\u20ac\n"
    assert strict.buffer.getvalue() == binary.getvalue() == b"\xc3\xa4\\udcff\xe2\x82\xac\n"
    assert latin.getvalue() == b"\xe4\\udcff\\u20ac\n"
    assert not bus.history.last()


class Short(io.RawIOBase):
    """Takes three bytes at a time, and none any more when it is full."""

    def __init__(self) -> None:
        self.taken = b""
        self.full = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        if self.full:
            return None
        self.taken += bytes(data[:3])
        return min(3, len(data))


def test_a_stream_that_takes_a_part_gets_the_rest(bus: Bus) -> None:
    stream = Short()
    StreamLogger(bus, stream, format="%(message)s").subscribe()
    bus.log("0123456789")
    assert stream.taken == b"0123456789\n"


@pytest.mark.rule("bus.R7", "bus.B4")
def test_a_write_that_fails_stops_nothing_and_is_kept(bus: Bus) -> None:
    """(C3): a failing log listener kept the bus from starting."""
    full, closed, fine = Short(), io.StringIO(), io.StringIO()
    full.full = True
    closed.close()
    for stream in (full, closed, fine):
        StreamLogger(bus, stream, format="%(message)s").subscribe()
    bus.start()
    assert bus.state is State.STARTED
    assert fine.getvalue().splitlines() == ["Bus STARTING", "Bus STARTED"]
    kept = [event.cause for event in bus.history.last() if event.kind == "log"]
    assert len(kept) == 2
    assert all("takes no more" in cause and "closed file" in cause for cause in kept)


def test_lines_of_many_threads_stay_whole(bus: Bus, log: FileLogger) -> None:
    together = threading.Barrier(8)

    def talk(number: int) -> None:
        together.wait()
        for _ in range(50):
            bus.log(str(number) * 20_000)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = Path(log.filename or "").read_text().splitlines()
    assert sorted(lines) == sorted(str(number) * 20_000 for number in range(8) for _ in range(50))


def test_a_signal_handler_may_log_in_the_middle_of_a_line(bus: Bus) -> None:
    """(C16): the same thread comes again while it writes; a plain lock would wait for ever."""

    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            if text == "outer\n":
                bus.log("inner")
            return super().write(text)

    stream = Interrupted()
    StreamLogger(bus, stream, format="%(message)s").subscribe()
    bus.log("outer")
    assert stream.getvalue() == "inner\nouter\n"


@pytest.mark.rule("bus.R15")
def test_graceful_opens_the_file_again_after_it_was_rotated(bus: Bus, log: FileLogger, tmp_path: Path) -> None:
    bus.start()
    (tmp_path / "bus.log").rename(tmp_path / "bus.log.1")
    bus.log("still the old one")
    bus.graceful()
    bus.log("the new one")
    assert (tmp_path / "bus.log.1").read_text().splitlines()[-2:] == ["still the old one", "Bus graceful"]
    assert (tmp_path / "bus.log").read_text().splitlines() == ["the new one"]


def test_if_it_cannot_be_opened_again_the_old_file_stays_in_use(bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    log = FileLogger(bus, tmp_path / "here" / "bus.log", format="%(message)s")
    log.subscribe()
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(ExceptionGroup) as caught:
        bus.graceful()
    assert caught.group_contains(FileNotFoundError)
    bus.log("not lost")
    text = (tmp_path / "there" / "bus.log").read_text()
    assert "Error in 'graceful' listener" in text
    assert text.endswith("not lost\n")
    log.unsubscribe()


def test_the_name_is_meant_from_the_first_directory(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = FileLogger(bus, "bus.log", format="%(message)s")
    log.subscribe()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    os.unlink(tmp_path / "bus.log")
    bus.graceful()
    bus.log("here")
    assert (tmp_path / "bus.log").read_text() == "here\n"
    log.unsubscribe()


def test_a_file_is_appended_to_and_closed_with_the_subscription(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "bus.log"
    path.write_text("from yesterday\n")
    log = FileLogger(bus, str(path), format="%(message)s")
    log.subscribe()
    bus.log("one")
    log.unsubscribe()
    bus.log("nobody listens")
    with pytest.raises(ValueError, match="nowhere to write to: late"):
        log.log("late")
    log.subscribe()
    bus.log("two")
    log.unsubscribe()
    assert path.read_text() == "from yesterday\none\ntwo\n"


def test_a_file_that_was_given_open_is_used_and_left_alone(bus: Bus, tmp_path: Path) -> None:
    with (tmp_path / "given").open("a") as file:
        log = FileLogger(bus, file=file, format="%(message)s")
        log.subscribe()
        bus.log("one")
        bus.graceful()
        log.unsubscribe()
        assert not file.closed
    assert (tmp_path / "given").read_text() == "one\nBus graceful\n"


def test_a_file_logger_needs_a_file(bus: Bus, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file or filename"):
        FileLogger(bus)
    with pytest.raises(FileNotFoundError):
        FileLogger(bus, tmp_path / "missing" / "bus.log")
