"""What became of a message, for who has just sent it: `monsal say` prints this where no answer came."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from monsal.cli.output import clean

__all__ = ["outcome_lines", "stored_rows"]

#: What our ingress says to a mail that is durable (ingress/answers.py).
_STORED = re.compile(r"2\.0\.0 ([0-9]+(?:,[0-9]+)*) stored\Z")


def stored_rows(answer: str) -> list[int]:
    """The numbers of the rows that a positive reply names; none for a duplicate, whose rows are of an older mail."""
    found = _STORED.match(answer)
    return [int(number) for number in found[1].split(",")] if found else []


def outcome_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Lines about one row, as `StoreApi.message` tells of it."""
    mails = facts["outgoing"]
    for turn in facts["turns"]:
        moved = f"{turn['before']} -> {turn['after']}" if turn["stateful"] else "done"
        parts = [f"{turn['handler']}: {moved}", *(_mail(mail) for mail in mails if mail["turn"] == turn["id"])]
        yield clean("; ".join([*parts, turn["note"]] if turn["note"] else parts))
    known = {turn["id"] for turn in facts["turns"]}
    for mail in mails:
        if mail["turn"] not in known:
            yield clean(_mail(mail))
    yield from _standing(facts)


def _standing(facts: Mapping[str, Any]) -> Iterator[str]:
    """Where the row itself stands, if it is not simply done."""
    status, reason = facts["status"], clean(facts["reason"]) or "no reason was noted"
    if status == "waiting" and facts["attempts"]:
        due = time.strftime("%H:%M:%S", time.localtime(facts["due"]))
        yield f"waits: tried again at {due} ({reason})"
    elif status == "waiting":
        yield "waits: it is not handled yet"
    elif status == "dead":
        yield f"dead letter {facts['id']}: {reason}"
    elif status == "held":
        yield f"held: {reason}"
    elif status == "dropped":
        yield f"dropped: {reason}"
    elif not facts["turns"]:
        yield "done, without a turn of a handler"


def _mail(mail: Mapping[str, Any]) -> str:
    why = f": {mail['reason']}" if mail["reason"] else ""
    return f"mail to {mail['recipient']}" + (
        f" {mail['status']}{why}" if mail["status"] in ("deferred", "failed") else ""
    )
