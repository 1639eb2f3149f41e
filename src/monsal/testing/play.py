"""A correspondent's side of a conversation, as a test reads best: like a play.

    with client(app).conversation("ann@example.net") as ann:
        ann.say("order@example.com", "Hello").expect("What would you like?").expect_state("CHOOSING")
        ann.answer("tea").expect("one tea", subject="Re: your order").expect_nothing()
        ann.wait(days=3).expect("Are you still there?")

Several may play at once: `with client(app) as mail`, then `ann = mail.conversation(...)`, `bob = ...`. What is expected
is the next mail to this correspondent that was not looked at yet. What goes wrong is told with all that was said so
far, and with the dead letters there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

from monsal.address import fold
from monsal.mail import first_address
from monsal.smtp.replies import Refused
from monsal.testing.relay import SentMail

__all__ = ["Conversation", "Stage"]

#: Characters of a mail that a failed expectation shows.
_SHOWN = 300


class Stage(Protocol):
    """Where a play is given: what a conversation needs of a `TestClient`."""

    @property
    def is_open(self) -> bool: ...

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def deliver(self) -> Callable[..., Any]: ...

    def advance(self, *, days: float, hours: float, minutes: float, seconds: float) -> None: ...

    def sent_to(self, address: str) -> list[SentMail]: ...

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...

    def state_of(self, correspondent: str, machine: Any, *, to: str) -> str: ...


class Conversation:
    """One correspondent of an application. Made by `TestClient.conversation`; each method returns it for the next."""

    __test__ = False

    def __init__(self, client: Stage, address: str) -> None:
        self.client = client
        self.address = address
        #: The mail that was expected last.
        self.last: SentMail | None = None
        self._told: list[str] = []
        self._seen = len(self.mails)
        self._owns_client = False

    def __enter__(self) -> Self:
        if not self.client.is_open:
            self.client.__enter__()
            self._owns_client = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owns_client:
            self.client.__exit__(kind, error, trace)

    # -- speak ------------------------------------------------------------------------------------------------

    def say(self, to: str | Iterable[str], text: str | None = None, **more: Any) -> Self:
        """Write to the application, and let it answer; `more` as for `TestClient.deliver`. Raises Refused."""
        self._told.append(f"{self.address} to {to if isinstance(to, str) else ', '.join(to)}: {_short(text or '')}")
        self.client.deliver(text, to=to, sender=self.address, **more)
        return self

    def answer(self, text: str | None = None, **more: Any) -> Self:
        """Answer the mail that was expected last, as a mail program would: to its Reply-To, else to its From."""
        mail = self.last
        if mail is None:
            raise self._error("there is nothing to answer: no mail was expected yet")
        to = first_address(mail.message.get("Reply-To") or mail["From"]) or mail["From"]
        return self.say(to, text, **{"in_reply_to": mail, **more})

    def refused(self, to: str, text: str | None = None, *, code: int = 550, **more: Any) -> Self:
        """Write to an address that is not taken."""
        try:
            self.say(to, text, **more)
        except Refused as error:
            if error.reply.code != code:
                raise self._error(f"{to} was refused with {error.reply.code}, not with {code}") from error
            return self
        raise self._error(f"{to} was taken, and should have been refused with {code}")

    def wait(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> Self:
        """Let time pass; timers and retries happen in their order."""
        self._told.append(f"({days * 24 + hours + minutes / 60 + seconds / 3600:g} hours pass)")
        self.client.advance(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return self

    # -- hear -------------------------------------------------------------------------------------------------

    @property
    def mails(self) -> list[SentMail]:
        """All mails to this correspondent, in order."""
        return self.client.sent_to(self.address) if self.client.is_open else []

    @property
    def unread(self) -> list[SentMail]:
        """Those that nobody expected yet."""
        return self.mails[self._seen :]

    def expect(
        self,
        text: str | re.Pattern[str] = "",
        *,
        subject: str | re.Pattern[str] | None = None,
        sender: str | None = None,
        html: str | re.Pattern[str] | None = None,
        attachments: Iterable[str] | None = None,
        headers: dict[str, str | re.Pattern[str]] | None = None,
    ) -> Self:
        """The next mail is there, and is like this: `last` from then on.

        `text`, `html`, `subject` and `headers` are contained in it, or a pattern is found; `sender` is its From
        address; `attachments` are the names of its files, all of them. Raises AssertionError.
        """
        mails = self.unread
        if not mails:
            raise self._error(f"no mail came where one was expected{f' with {_shown(text)}' if text else ''}")
        mail = self.last = mails[0]
        self._seen += 1
        self._told.append(f"{mail['From']} to {self.address}: [{mail.subject}] {_short(mail.text)}")
        self._check("text", text, mail.text)
        if subject is not None:
            self._check("subject", subject, mail.subject)
        if html is not None:
            self._check("html", html, mail.html or "")
        if sender is not None and fold(first_address(mail["From"]) or "") != fold(sender):
            raise self._error(f"the mail comes from {mail['From']}, not from {sender}")
        names = [attachment.filename or "" for attachment in mail.attachments]
        if attachments is not None and sorted(names) != sorted(attachments):
            raise self._error(f"the mail has the attachments {names}, not {list(attachments)}")
        for name, wanted in (headers or {}).items():
            self._check(f"header {name}", wanted, mail.message.get(name) or "")
        return self

    def expect_nothing(self) -> Self:
        """No further mail came."""
        if mails := self.unread:
            raise self._error(f"a mail came where none was expected: [{mails[0].subject}] {_short(mails[0].text)}")
        return self

    def expect_state(self, state: str, machine: ModuleType | Any | str | None = None, *, to: str = "") -> Self:
        """The conversation stands there; with the machine of the last turn, unless another one is named.

        `machine` and `to` as for `TestClient.state_of`.
        """
        if machine is None:
            turns = self.client.query(
                "select key from v_turns where sender = ? order by id desc limit 1", (fold(self.address),)
            )
            if not turns:
                raise self._error("no turn was committed for this correspondent, so there is no state to look at")
            machine = str(turns[0][0])
        found = self.client.state_of(self.address, machine, to=to)
        if found != state:
            raise self._error(f"the conversation is in {found}, not in {state}")
        return self

    def expect_dead(self, reason: str = "") -> Self:
        """A message of this correspondent is a dead letter, for a reason with these words."""
        reasons = self._dead()
        if not any(reason in each for each in reasons):
            raise self._error(
                f"there is no dead letter {f'because of {reason!r}' if reason else 'of this correspondent'}"
            )
        return self

    # -- tell -------------------------------------------------------------------------------------------------

    def _dead(self) -> list[str]:
        rows = self.client.query(
            "select reason from monsal_spool where status = 3 and correspondent = ?", (fold(self.address),)
        )
        return [str(reason) for (reason,) in rows]

    def _check(self, what: str, wanted: str | re.Pattern[str], found: str) -> None:
        if isinstance(wanted, re.Pattern):
            is_there = wanted.search(found) is not None
        else:
            # Lines are broken where the composer thought fit.
            is_there = wanted in found or " ".join(wanted.split()) in " ".join(found.split())
        if not is_there:
            raise self._error(f"the {what} of the mail has no {_shown(wanted)}: {_short(found)!r}")

    def _error(self, what: str) -> AssertionError:
        lines = [what, "so far:", *(f"  {line}" for line in self._told)]
        dead = self._dead() if self.client.is_open else []
        if dead:
            lines += ["dead letters:", *(f"  {reason}" for reason in dead)]
        return AssertionError("\n".join(lines))


def _shown(wanted: str | re.Pattern[str]) -> str:
    return f"/{wanted.pattern}/" if isinstance(wanted, re.Pattern) else repr(wanted)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
