"""`salmon.queue`: in what order mails come out, and that none is lost on the way."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

DATA = b"Received: b\r\nReceived: a\r\nFrom: me@x.org\r\nTo: you@x.org\r\nSubject: bob!\r\n\r\nBlob\r\n"


@pytest.fixture
def queue() -> Any:
    return importlib.import_module("salmon.queue")


def stored(place: str) -> list[str]:
    return sorted(str(path.relative_to(place).parent) for path in Path(place).rglob("*") if path.is_file())


@pytest.mark.parametrize("safe", [False, True])
def test_the_first_in_is_the_first_out(queue: Any, safe: bool) -> None:
    one = queue.Queue("run/queue", safe=safe)
    keys = [one.push(f"Subject: {number}\n\n") for number in range(3)]
    for number, key in enumerate(keys):
        os.utime(one._path_of(key), ns=(0, number))
    assert (len(one), one.count(), sorted(one.keys())) == (3, 3, sorted(keys))
    assert one.get(keys[1])["subject"] == "1"
    one.remove(keys[1])
    assert [(key, mail["subject"]) for key, mail in (one.pop(), one.pop())] == [(keys[0], "0"), (keys[2], "2")]
    assert (one.pop(), one.get("nothing")) == ((None, None), None)
    with pytest.raises(KeyError):
        one.remove("nothing")
    one.push(b"Subject: x\n\n")
    one.clear()
    assert len(one) == 0


def test_a_request_comes_out_with_its_envelope_and_its_bytes(queue: Any, write: Any) -> None:
    one = queue.Queue("run/queue")
    one.push(write("List+token@Example.org", '"Ann" <Ann@example.net>', DATA))
    found = one.pop()[1]
    assert (found.To, found.From, found.Data) == ("List+token@Example.org", "Ann@example.net", DATA)
    assert found["to"] == "you@x.org"
    one.push(DATA)
    assert (one.get(one.keys()[0]).To, bytes(one.pop()[1])) == ("you@x.org", DATA)


def test_what_is_too_large_is_moved(queue: Any) -> None:
    for kept_in, place in (("run/big", "run/big"), (None, "run/queue/.oversize")):
        one = queue.Queue("run/queue", pop_limit=10, oversize_dir=kept_in)
        for _ in range(2):
            one.push("HELLO" * 100)
        assert (one.pop(), len(one), len(stored(place))) == ((None, None), 0, 2)


def test_what_cannot_be_read_is_moved(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = queue.Queue("run/queue")
    one.push("Subject: x\n\n")

    def fail(data: bytes) -> None:
        raise ValueError("unreadable")

    with monkeypatch.context() as patch:
        patch.setattr(queue, "_without_envelope", fail)
        assert one.pop() == (None, None)
    assert stored("run/queue") == [".unreadable/new"]


def test_what_is_held_is_given_up_when_it_is_released(queue: Any) -> None:
    one = queue.Queue("run/queue")
    one.push("Subject: x\n\n")
    key, _ = one.pop(hold=True)
    assert (len(one), stored("run/queue")) == (0, [".held/new"])
    assert (one.restore(), len(one)) == (1, 1)
    key, _ = one.pop(hold=True)
    one.release(key)
    assert (stored("run/queue"), one.restore()) == ([], 0)


def test_a_safe_maildir_does_not_tell_the_host(queue: Any) -> None:
    one = queue.SafeMaildir("queue")
    key = one.add("Subject: x\n\n")
    assert os.uname().nodename not in key
    assert one.add("Subject: y\n\n") != key
