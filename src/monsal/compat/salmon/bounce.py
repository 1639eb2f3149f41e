"""`salmon.bounce`: what a mail says about another one that could not be delivered, and handlers for both kinds.

The score and the names are the ancestor's; codes it does not know and fields that are missing are no errors here. What
says it in another form than RFC 3464 is read by `monsal.mail.dsn`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from monsal.compat.salmon.encoding import MailBase
from monsal.compat.salmon.rejection import COMBINED_STATUS_CODES, PRIMARY_STATUS_CODES, SECONDARY_STATUS_CODES
from monsal.mail.dsn import parse_bounce
from monsal.mail.dsnrecord import Bounce, BouncedRecipient
from monsal.mail.mime import parse

__all__ = [
    "BOUNCE_MATCHERS",
    "BOUNCE_MAX",
    "COMBINED_STATUS_CODES",
    "PRIMARY_STATUS_CODES",
    "SECONDARY_STATUS_CODES",
    "BounceAnalyzer",
    "bounce_to",
    "detect",
]

#: Header -> what its value looks like in a report (RFC 3464, sections 2.2 and 2.3). Groups are kept.
BOUNCE_MATCHERS: Mapping[str, re.Pattern[str]] = {
    "Action": re.compile(r"(failed|delayed|delivered|relayed|expanded)", re.IGNORECASE),
    "Content-Description": re.compile(r"(Notification|Undelivered Message|Delivery Report)", re.IGNORECASE),
    "Diagnostic-Code": re.compile(r"(?:.+;\s*)?([0-9]{3}(?:[- ][0-9]\.[0-9]{1,3}\.[0-9]{1,3})?)(.*)", re.DOTALL),
    "Final-Recipient": re.compile(r"(?:.+;\s*)?(\S.*)", re.DOTALL),
    "Received": re.compile(r"(.+)", re.DOTALL),
    "Remote-Mta": re.compile(r"(?:.+;\s*)?(\S.*)", re.DOTALL),
    "Reporting-Mta": re.compile(r"(?:.+;\s*)?(\S.*)", re.DOTALL),
    "Status": re.compile(r"\s*([245])\.([0-9]{1,3})\.([0-9]{1,3})"),
}
#: Without one of these nothing was reported, whatever else is there.
_TELLING = {"Action", "Diagnostic-Code", "Final-Recipient", "Remote-Mta", "Reporting-Mta", "Status"}
#: The best that there is: each header is there, and looks as it should.
BOUNCE_MAX = len(BOUNCE_MATCHERS) * 2.0

#: Above this score a mail counts as a bounce; and the score of one that is told in another form.
_PROBABLE = 0.3
_TOLD = 0.5

Status = tuple[int | None, str | None]
_NO_STATUS: Status = (None, None)


class _Request(Protocol):
    @property
    def base(self) -> MailBase: ...

    def __bytes__(self) -> bytes: ...


class BounceAnalyzer:
    """What is known of a possible bounce. All attributes are there, None or empty where nothing was said.

    `primary_status`, `secondary_status` and `combined_status` are (number, words); `headers` holds what each header
    said, `<header>-Parts` the parts that have it. `notification` is the text for people, `report` the parts of the
    report, `original` the mail that came back.
    """

    def __init__(self, headers: Mapping[str, list[Any]], score: float) -> None:
        self.headers = headers
        self.score = score
        self.primary_status, self.secondary_status, self.combined_status = _status(self._groups("Status"))
        self.remote_mta = self._text("Remote-Mta")
        self.reporting_mta = self._text("Reporting-Mta")
        self.final_recipient = self._text("Final-Recipient")
        self.diagnostic_codes: list[str | None] = list(self._groups("Diagnostic-Code")) or [None, None]
        self.action = self._text("Action")
        self.content_parts: dict[str, list[MailBase]] = {}
        parts = headers.get("Content-Description-Parts", ())
        for part, groups in zip(parts, self._all("Content-Description"), strict=True):
            self.content_parts.setdefault(str(groups[0]).lower(), []).append(part)
        self.original = next(iter(self._inner("undelivered message")), None)
        self.report = self._inner("delivery report")
        self.notification = next(iter(self.content_parts.get("notification", ())), None)

    def _all(self, header: str) -> list[tuple[str | None, ...]]:
        return self.headers.get(header, [])

    def _groups(self, header: str) -> tuple[str | None, ...]:
        return next(iter(self._all(header)), ())

    def _text(self, header: str) -> str | None:
        found = self._groups(header)
        return found[0].strip() if found and found[0] is not None else None

    def _inner(self, description: str) -> list[MailBase]:
        """The mails, or blocks of fields, within the parts of that description."""
        return [inner for part in self.content_parts.get(description, ()) for inner in part.parts or [part]]

    def probable(self, threshold: float = _PROBABLE) -> bool:
        """Whether this is a bounce."""
        return self.score > threshold

    def is_hard(self) -> bool:
        """Whether it will never be delivered."""
        return (self.primary_status[0] or 0) > 4

    def is_soft(self) -> bool:
        """Whether it may be delivered later."""
        return self.primary_status[0] is not None and self.primary_status[0] <= 4

    def error_for_humans(self) -> str:
        """What went wrong, in words."""
        if self.primary_status[0] is None:
            return "No status codes found in bounce message."
        words = ", ".join(
            text for _, text in (self.primary_status, self.secondary_status, self.combined_status) if text
        )
        host = f" {self.remote_mta} said:" if self.remote_mta else ""
        reason = " ".join(text.strip() for text in self.diagnostic_codes if text)
        return f"{words}.{host} {reason}".rstrip()


def _status(groups: tuple[str | None, ...]) -> tuple[Status, Status, Status]:
    if len(groups) != 3:
        return _NO_STATUS, _NO_STATUS, _NO_STATUS
    first, second, third = (str(group) for group in groups)
    both = second + third
    return (
        (int(first), PRIMARY_STATUS_CODES.get(first)),
        (int(second), SECONDARY_STATUS_CODES.get(second)),
        (int(both), COMBINED_STATUS_CODES.get(both)),
    )


def detect(message: _Request) -> BounceAnalyzer:
    """Look for what makes a bounce in the mail and all its parts."""
    headers: dict[str, list[Any]] = {}
    best: dict[str, float] = {}
    for part in _with_parts(message.base):
        for name, looks in BOUNCE_MATCHERS.items():
            for value in part.get_all(name):
                found = looks.match(value)
                if found is not None:
                    headers.setdefault(name, []).append(found.groups())
                    headers.setdefault(f"{name}-Parts", []).append(part)
                best[name] = max(best.get(name, 0.0), 1.0 if found is None else 2.0)
    if not _TELLING & headers.keys():
        # Every mail has been received by somebody, and many have a part with a description.
        best = {}
    score = sum(best.values()) / BOUNCE_MAX
    if score <= _PROBABLE:
        told = parse_bounce(parse(bytes(message)))
        if told is not None and told.kind in ("failure", "delay"):
            score = _TOLD
            headers = {**_fields_of(told), **headers}
    return BounceAnalyzer(headers, score)


def _fields_of(told: Bounce) -> dict[str, list[Any]]:
    """What a report in another form says, as the fields of RFC 3464 would have it."""
    first = told.recipients[0] if told.recipients else BouncedRecipient(address="")
    status = BOUNCE_MATCHERS["Status"].match(first.status)
    groups = status.groups() if status else ("4" if told.kind == "delay" else "5", "0", "0")
    fields: dict[str, list[Any]] = {"Status": [groups]}
    for name, text in (
        ("Action", first.action),
        ("Final-Recipient", first.final or first.address),
        ("Remote-Mta", first.remote_mta),
        ("Reporting-Mta", told.reporting_mta),
        ("Diagnostic-Code", first.diagnostic),
    ):
        if text:
            fields[name] = [(text,)]
    return fields


def _with_parts(mail: MailBase) -> Iterator[MailBase]:
    yield mail
    yield from mail.walk()


class bounce_to:
    """`@bounce_to(soft=..., hard=...)` below the route of a START handler: these take the bounces.

    They are called instead of the handler. Both should return START: the mailer daemon of a host is somebody who may
    have to tell of more than one mail. Raises TypeError unless both are functions and the handler is called START.
    """

    def __init__(self, soft: Callable[..., Any] | None = None, hard: Callable[..., Any] | None = None) -> None:
        if not callable(soft) or not callable(hard):
            raise TypeError("bounce_to needs two functions, for soft and for hard bounces")
        self.soft = soft
        self.hard = hard

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if func.__name__ != "START":
            raise TypeError(f"bounce_to stands at handlers called START, where bounces arrive; not at {func.__name__}")

        @functools.wraps(func)
        def handle(message: Any, *args: Any, **kwargs: Any) -> Any:
            if message.is_bounce():
                return (self.soft if message.bounce.is_soft() else self.hard)(message)
            return func(message, *args, **kwargs)

        return handle
