"""Lines without a record: the same bytes, to the same ears."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monsal import logs
from monsal.logline import tell
from monsal.logs import JsonFormatter, TextFormatter, set_up_logging

FACTS = {"action": "turn", "message_id": "<1@x>", "conversation": "ann@x", "row": 7, "rows": (1, 2), "none": None}


@pytest.fixture(autouse=True)
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment that stays."""
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.25)


@contextmanager
def a_logger() -> Iterator[logging.Logger]:
    """A logger below a root as it is in a fresh process; put back afterwards."""
    root = logging.getLogger()
    handlers, level, library = root.handlers[:], root.level, logging.getLogger("asyncio").level
    root.handlers[:] = []
    mine = logging.getLogger("monsal.test_logline")
    try:
        yield mine
    finally:
        mine.handlers[:], mine.filters[:], mine.propagate = [], [], True
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("asyncio").setLevel(library)


@pytest.mark.parametrize("process", ["", "worker[7]"])
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("text", ["it went", "50 % done", "first\r\nsecond\n", "a \x1b[31m b\u2028", "", "\n"])
def test_a_line_has_the_bytes_of_a_record(text: str, form: str, process: str) -> None:
    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(form, stream=stream, process=process)
        log.info("%s: %s", text, 3, extra=FACTS)
        log.info(text, extra=FACTS)
        by_record = stream.getvalue()
        stream.truncate(stream.seek(0))
        tell(log, "%s: %s", text, 3, facts=FACTS)
        tell(log, text, facts=FACTS)
        assert stream.getvalue() == by_record
        assert ("worker" in by_record) == bool(process)


@given(st.text(), st.dictionaries(st.sampled_from(["action", "row", "peer"]), st.text() | st.none() | st.integers()))
def test_what_is_said_of_a_line_is_what_is_said_of_its_record(text: str, facts: dict[str, Any]) -> None:
    made = logging.makeLogRecord({"name": "monsal.x", "msg": "%s", "args": (text,), "levelname": "INFO", **facts})
    for form in (TextFormatter(), JsonFormatter()):
        assert form.line(made.created, "INFO", "monsal.x", text, facts) == form.format(made)


class Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record)


@pytest.mark.parametrize("where", ["monsal.test_logline", "monsal", ""])
def test_another_handler_hears_of_it_as_ever(where: str) -> None:
    with a_logger() as log:
        stream, ear = io.StringIO(), Ear()
        set_up_logging(stream=stream)
        logger = logging.getLogger(where)
        logger.addHandler(ear)
        try:
            tell(log, "it %s", "went", facts=FACTS)
        finally:
            logger.removeHandler(ear)
        assert [record.getMessage() for record in ear.heard] == ["it went"]
        assert vars(ear.heard[0])["row"] == 7
        assert len(stream.getvalue().splitlines()) == 1


def with_a_filter(log: logging.Logger) -> None:
    log.addFilter(lambda record: False)


def with_a_filter_of_the_handler(log: logging.Logger) -> None:
    logging.getLogger().handlers[0].addFilter(lambda record: False)


def with_a_level_of_the_handler(log: logging.Logger) -> None:
    logging.getLogger().handlers[0].setLevel(logging.WARNING)


def with_a_level(log: logging.Logger) -> None:
    logging.getLogger().setLevel(logging.WARNING)


def to_nobody(log: logging.Logger) -> None:
    log.propagate = False
    log.addHandler(logging.NullHandler())


@pytest.mark.parametrize(
    "silence", [with_a_filter, with_a_filter_of_the_handler, with_a_level_of_the_handler, with_a_level, to_nobody]
)
def test_what_no_record_would_say_is_not_said(silence: Callable[[logging.Logger], None]) -> None:
    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(stream=stream)
        silence(log)
        tell(log, "it went", facts=FACTS)
        log.info("it went", extra=FACTS)
        assert stream.getvalue() == ""


def test_a_formatter_of_the_application_gets_its_record() -> None:
    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(stream=stream)
        logging.getLogger().handlers[0].setFormatter(logging.Formatter("%(levelname)s|%(message)s|%(row)d"))
        tell(log, "it %s", "went", facts=FACTS)
        assert stream.getvalue() == "INFO|it went|7\n"


def test_records_of_the_applications_own_kind_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made.append("one")
        return logging.LogRecord(*args, **kwargs)

    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(stream=stream)
        monkeypatch.setattr(logging, "_logRecordFactory", factory)
        tell(log, "it went", facts=FACTS)
        assert made == ["one"]
        assert "it went" in stream.getvalue()


class Writes(io.StringIO):
    """A stream that counts its writes."""

    writes = 0

    def write(self, text: str, /) -> int:
        self.writes += bool(text)
        return super().write(text)


def test_on_a_loop_lines_are_written_together_a_moment_later() -> None:
    async def body(log: logging.Logger, stream: Writes) -> None:
        for number in range(3):
            tell(log, "line %d", number, facts=FACTS)
        assert stream.getvalue() == ""
        async with asyncio.timeout(30):
            while not stream.writes:
                await asyncio.sleep(0.001)
        assert [line.split()[3] for line in stream.getvalue().splitlines()] == ["0", "1", "2"]
        assert stream.writes == 1
        tell(log, "line %d", 3, facts=FACTS)
        async with asyncio.timeout(30):
            while stream.writes < 2:
                await asyncio.sleep(0.001)

    with a_logger() as log:
        stream = Writes()
        set_up_logging(stream=stream)
        asyncio.run(body(log, stream))


def test_a_record_comes_behind_the_lines_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_PAUSE", 3600.0)

    async def body(log: logging.Logger) -> None:
        tell(log, "first", facts=FACTS)
        log.error("second", extra=FACTS)
        tell(log, "third", facts=FACTS)

    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(stream=stream)
        asyncio.run(body(log))
        assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["first", "second"]
        # What is left when its loop has ended is written at the end of the process, or before what comes next.
        logging.getLogger().handlers[0].flush()
        assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["first", "second", "third"]
        asyncio.run(body(log))
        assert len(stream.getvalue().splitlines()) == 5


def test_no_more_lines_wait_than_may() -> None:
    async def body(log: logging.Logger, stream: io.StringIO) -> None:
        for _ in range(logs._MOST + 1):
            tell(log, "line", facts=FACTS)
        assert len(stream.getvalue().splitlines()) == logs._MOST

    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(stream=stream)
        asyncio.run(body(log, stream))


def test_a_stream_that_takes_nothing_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(stream=stream)
        stream.close()
        tell(log, "it went", facts=FACTS)
        assert "it went" in capsys.readouterr().err


def test_a_format_that_does_not_fit_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(stream=stream)
        tell(log, "%s went %s", "it", facts=FACTS)
        assert stream.getvalue() == ""
        assert "not enough arguments" in capsys.readouterr().err


def test_who_listens_where_records_are_handed_on_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As programs do that report errors with what was logged before them."""
    heard: list[str] = []
    hand_on = logging.Logger.callHandlers

    def listen(log: logging.Logger, record: logging.LogRecord) -> None:
        heard.append(record.getMessage())
        hand_on(log, record)

    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(stream=stream)
        monkeypatch.setattr(logging.Logger, "callHandlers", listen)
        tell(log, "it %s", "went", facts=FACTS)
        assert heard == ["it went"]
        assert "it went" in stream.getvalue()


def test_a_logger_of_the_applications_own_class_makes_its_record() -> None:
    class Own(logging.Logger):
        def handle(self, record: logging.LogRecord) -> None:
            record.msg = "hidden"
            super().handle(record)

    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(stream=stream)
        own = Own("monsal.test_logline.own")
        own.parent = log
        tell(own, "it went", facts=FACTS)
        assert "hidden" in stream.getvalue()
        assert "it went" not in stream.getvalue()


class Counting(io.StringIO):
    """A stream that knows how often it was written to."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def said(stream: io.StringIO) -> list[str]:
    return [line.split(" ", 2)[2].partition(" action=")[0].strip() for line in stream.getvalue().splitlines()]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_lines_of_a_loop_are_written_together() -> None:
    async def story(log: logging.Logger, stream: Counting) -> None:
        for number in range(3):
            tell(log, f"line {number}", facts=FACTS)
        assert not stream.writes
        await until(lambda: stream.writes > 0)
        assert stream.writes == 1
        tell(log, "line 3", facts=FACTS)
        assert stream.writes == 1
        await until(lambda: stream.writes > 1)

    with a_logger() as log:
        stream = Counting()
        set_up_logging(stream=stream)
        asyncio.run(story(log, stream))
        assert said(stream) == [f"line {number}" for number in range(4)]


def test_a_record_and_a_thread_come_after_the_lines_before_them() -> None:
    async def story(log: logging.Logger, stream: Counting) -> None:
        tell(log, "first", facts=FACTS)
        log.warning("second", extra=FACTS)
        tell(log, "third", facts=FACTS)
        thread = threading.Thread(target=lambda: tell(log, "fourth", facts=FACTS))
        thread.start()
        thread.join()
        assert said(stream) == ["first", "second", "third", "fourth"]

    with a_logger() as log:
        stream = Counting()
        set_up_logging(stream=stream)
        asyncio.run(story(log, stream))


def test_a_line_that_a_loop_never_came_to_write_is_written_at_the_end() -> None:
    with a_logger() as log:
        stream = Counting()
        set_up_logging(stream=stream)
        loop = asyncio.new_event_loop()
        loop.call_soon(lambda: (tell(log, "the last", facts=FACTS), loop.stop()))
        loop.run_forever()
        assert said(stream) == []
        # What the next loop tells is written, too, although the former never wrote.
        asyncio.run(_told(log, stream))
        assert said(stream) == ["the last", "again"]
        loop.call_soon(lambda: (tell(log, "over", facts=FACTS), loop.stop()))
        loop.run_forever()
        logging.getLogger().handlers[0].flush()  # as `logging.shutdown` does
        assert said(stream) == ["the last", "again", "over"]
        loop.close()


async def _told(log: logging.Logger, stream: Counting) -> None:
    tell(log, "again", facts=FACTS)
    await until(lambda: stream.writes > 0)


def test_a_stream_that_takes_nothing_stops_no_loop(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []

    def hears(text: str) -> bool:
        heard.append(capsys.readouterr().err)
        return text in "".join(heard)

    async def story(log: logging.Logger, stream: io.StringIO) -> None:
        tell(log, "it went", facts=FACTS)
        stream.close()
        await until(lambda: hears("it went"))
        tell(log, "and went on", facts=FACTS)
        await until(lambda: hears("and went on"))

    with a_logger() as log:
        stream = io.StringIO()
        set_up_logging(stream=stream)
        asyncio.run(story(log, stream))


def test_a_forked_child_does_not_write_the_lines_of_its_parent() -> None:
    async def story(log: logging.Logger, stream: Counting) -> None:
        tell(log, "of the parent", facts=FACTS)
        read, write = os.pipe()
        if not os.fork():
            try:
                log.warning("of the child", extra=FACTS)
                os.write(write, stream.getvalue().encode())
            finally:
                os._exit(0)
        os.close(write)
        with open(read, "rb") as pipe:
            told = pipe.read().decode()
        os.wait()
        assert "of the child" in told
        assert "of the parent" not in told
        await until(lambda: stream.writes > 0)
        assert said(stream) == ["of the parent"]

    with a_logger() as log:
        stream = Counting()
        set_up_logging(stream=stream)
        asyncio.run(story(log, stream))


def test_setting_up_again_loses_no_line() -> None:
    async def story(log: logging.Logger, stream: Counting) -> None:
        tell(log, "before", facts=FACTS)
        set_up_logging(stream=stream)
        log.warning("after", extra=FACTS)
        assert said(stream) == ["before", "after"]

    with a_logger() as log:
        stream = Counting()
        set_up_logging(stream=stream)
        asyncio.run(story(log, stream))


class Interrupted(deque[Any]):
    """Lines that wait; when the first of them is taken, a signal comes whose handler logs."""

    def __init__(self, lines: Iterable[Any], on_signal: Callable[[], None]) -> None:
        super().__init__(lines)
        self.on_signal = on_signal
        self.has_come = False

    def popleft(self) -> Any:
        if not self.has_come:
            self.has_come = True
            self.on_signal()
        return super().popleft()


def test_a_signal_handler_that_logs_while_lines_are_written_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(log: logging.Logger) -> None:
        handler = logging.getLogger().handlers[0]
        tell(log, "first", facts=FACTS)
        tell(log, "second", facts=FACTS)
        waiting = Interrupted(vars(handler)["_lines"], lambda: log.warning("a signal", extra=FACTS))
        monkeypatch.setattr(handler, "_lines", waiting)
        log.warning("third", extra=FACTS)

    with a_logger() as log:
        stream = Counting()
        set_up_logging(stream=stream)
        asyncio.run(story(log))
        assert sorted(said(stream)) == ["a signal", "first", "second", "third"]
        # Nor does the lock stay with whoever was interrupted.
        thread = threading.Thread(target=lambda: log.warning("another thread", extra=FACTS), daemon=True)
        thread.start()
        thread.join(10)
        assert "another thread" in said(stream)


def test_a_thread_that_tells_in_the_midst_of_another_one_does_it_no_harm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(log: logging.Logger, stream: Counting) -> None:
        handler = logging.getLogger().handlers[0]
        tell(log, "first", facts=FACTS)

        def told_elsewhere() -> int:
            # As a thread without a loop leaves it.
            monkeypatch.setattr(handler, "_loop", None)
            return threading.get_ident()

        monkeypatch.setattr(logs, "get_ident", told_elsewhere)
        tell(log, "second", facts=FACTS)
        await until(lambda: stream.writes > 0)

    with a_logger() as log:
        stream = Counting()
        set_up_logging(stream=stream)
        asyncio.run(story(log, stream))
        assert said(stream) == ["first", "second"]
        assert capsys.readouterr().err == ""
