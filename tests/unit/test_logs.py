"""Log lines: what a peer sent makes no record of its own; the extras are in both forms."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from monsal.logs import JsonFormatter, TextFormatter, set_up_logging


@contextmanager
def fresh_root() -> Iterator[logging.Logger]:
    """The root logger as it is in a fresh process; put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    asyncio_level = logging.getLogger("asyncio").level
    root.handlers[:] = []
    try:
        yield root
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("asyncio").setLevel(asyncio_level)


def record(message: str = "stored %s", *args: object, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("monsal.spool").makeRecord(
        "monsal.spool", logging.INFO, "spool.py", 1, message, args, None, extra=extra
    )
    made.created = 1_700_000_000.25
    return made


def test_a_json_line_has_the_promised_names_first() -> None:
    line = JsonFormatter().format(
        record("stored %s", "it", action="stored", message_id="<1@x>", conversation="ann@x", rows=(1, 2))
    )
    assert "\n" not in line
    said = json.loads(line)
    assert list(said)[:5] == ["time", "level", "action", "message_id", "conversation"]
    assert said["time"] == "2023-11-14T22:13:20.250Z"
    assert said["level"] == "info"
    assert said["message"] == "stored it"
    assert said["rows"] == [1, 2]
    assert said["logger"] == "monsal.spool"


def test_names_that_were_not_given_are_null() -> None:
    said = json.loads(JsonFormatter().format(record("hello")))
    assert said["action"] is said["message_id"] is said["conversation"] is None


def test_values_without_a_json_form_do_not_lose_the_line() -> None:
    said = json.loads(JsonFormatter().format(record("a \ud800 b", thing=object(), error=ValueError("no"))))
    assert "a \\ud800 b" in said["message"]
    assert said["error"] == "no"


def test_a_peer_cannot_write_lines_of_its_own() -> None:
    evil = "x\r\n2023-11-14T22:13:20.250Z ERROR   forged\x1b[31m\u2028"
    for formatter in (TextFormatter(), JsonFormatter()):
        made = record("from %s", evil, conversation=evil)
        made.exc_info = (ValueError, ValueError(evil), None)
        text = formatter.format(made)
        assert "\x1b" not in text
        if isinstance(formatter, JsonFormatter):
            assert "\n" not in text
        else:
            assert len(text.splitlines()) == 4
            assert all(line.startswith("    ") for line in text.splitlines()[1:])


@pytest.mark.parametrize("form", [TextFormatter(), JsonFormatter()])
@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\x9b", "\u2028", "\u2029", "\u202e", "\u2066", "\u200f"])
def test_a_peer_cannot_steer_the_terminal_of_a_reader(form: logging.Formatter, char: str) -> None:
    """In JSON, too: it is looked at where it comes out."""
    line = form.format(record("from %s", f"a{char}b", message_id=f"<{char}@x>"))
    assert line.isprintable()
    assert line.isascii()
    if isinstance(form, JsonFormatter):
        assert json.loads(line)["message"] == f"from a{char}b"
        assert json.loads(line)["message_id"] == f"<{char}@x>"


def test_lines_of_a_message_stay_lines_and_its_end_makes_no_empty_one() -> None:
    assert TextFormatter().format(record("first\r\n  second\n", action="told")).splitlines() == [
        "2023-11-14T22:13:20.250Z INFO    first action=told",
        "      second",
    ]


def test_a_text_line_shows_the_extras_and_a_traceback_below() -> None:
    try:
        raise KeyError("price")
    except KeyError as error:
        made = record("turn failed", action="failed", message_id=None)
        made.exc_info = (type(error), error, error.__traceback__)
    first, *rest = TextFormatter().format(made).splitlines()
    assert first == "2023-11-14T22:13:20.250Z INFO    turn failed action=failed"
    assert rest[0].startswith("    Traceback")
    assert rest[-1] == "    KeyError: 'price'"
    assert json.loads(JsonFormatter().format(made))["traceback"].endswith("KeyError: 'price'")


def test_setting_up_again_replaces_what_was_set_up() -> None:
    first, second = io.StringIO(), io.StringIO()
    with fresh_root() as root:
        set_up_logging("text", "info", first)
        set_up_logging("json", "warning", second)
        logging.getLogger("monsal.x").info("too low")
        logging.getLogger("monsal.x").warning("seen", extra={"action": "test"})
        assert len(root.handlers) == 1
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["action"] == "test"


def test_an_application_with_its_own_handlers_keeps_them() -> None:
    stream = io.StringIO()
    own = logging.StreamHandler(stream)
    with fresh_root() as root:
        root.addHandler(own)
        set_up_logging("json", "debug", io.StringIO())
        logging.getLogger("shop").debug("mine")
        assert root.handlers == [own]
        assert logging.getLogger("asyncio").level == logging.INFO
    assert stream.getvalue() == "mine\n"
