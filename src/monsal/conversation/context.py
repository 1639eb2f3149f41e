"""What a handler can do: reply, send, start, after, reject, current.

Here is the ContextVar of turns; that of API methods is in `entrance.py`. Nothing in this module sends, stores or waits:
a handler only collects what its turn shall do, and all of it happens in the turn's commit or not at all (P2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import urlencode

import msgspec

from monsal.address import fold, is_address, split_address
from monsal.conversation.policy import MAX_HOPS, is_ping_pong, suppression
from monsal.conversation.templates import Content, Templates, content
from monsal.errors import AddressError, Reject, TurnError
from monsal.ids import stable_token
from monsal.mail import HOPS, Attachment, Draft, Message, ascii_domain, own_hops, reply_draft
from monsal.store.contract import OutgoingMail, StateKey, Statement

__all__ = ["PendingTimer", "Turn", "TurnTools", "after", "canonical", "current", "reject", "reply", "send", "start"]

_current: ContextVar[Turn] = ContextVar("monsal_turn")
#: Set while an accept hook runs: there is no turn yet, and `reject` is all it can do.
_accepting: ContextVar[bool] = ContextVar("monsal_accepting", default=False)


class TurnTools(msgspec.Struct, frozen=True):
    """What the engine lends to a turn.

    `state_key(module, message)` names a conversation; `named_state(function, said)` gives the module and state that a
    function stands for (`said` begins what it raises for one that is none); `lease_key(address, correspondent)` is the
    queue that mail for it stands in; `is_own(address)` tells our addresses; `replies(address)` counts the mails of the
    last hour to it, of which `max_replies` may be (None: any number); `read(sql, params)`
    waits for rows of the store on any thread but the store's and the sockets', `read_async` on the handlers' loop;
    `prepare(api, name, args, kwargs)` makes a notification of an exposed API, `address(value, captures, nonce,
    correspondent)` a capability address; `public_url` is how mounted applications are reached, empty if nobody knows.
    """

    state_key: Callable[[str, Any], tuple[str, str]]
    named_state: Callable[[object, str], tuple[str, str]]
    lease_key: Callable[[str, str], str]
    is_own: Callable[[str], bool]
    replies: Callable[[str], int]
    max_replies: int | None
    templates: Templates
    read: Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
    read_async: Callable[[str, Sequence[Any]], Awaitable[list[tuple[Any, ...]]]]
    address: Callable[[Any, Mapping[str, Any], bytes, str], str]
    prepare: Callable[[type, str, tuple[Any, ...], dict[str, Any]], Callable[[], object]]
    public_url: str = ""


class PendingTimer(msgspec.Struct, frozen=True):
    """A timer that the turn sets (`after` seconds from its commit) or takes away (`after` None)."""

    state: StateKey
    target: str
    after: float | None
    recipient: str
    correspondent: str
    lease_key: str


class _Addressee(msgspec.Struct, frozen=True):
    """Stands for a message when the key of a conversation is asked for that has had none yet."""

    recipient: str
    sender: str


class Turn(msgspec.Struct, kw_only=True, eq=False):
    """One call of one handler for one message; `current()` gives it.

    `state` is the name of the conversation's state before the turn; `attempts` counts failed tries before this one;
    `error` is what an ERROR handler has to deal with. `replies` counts the mails of the last hour to the correspondent
    that the store knows of, which serves other workers too; `elsewhere` the answers of this turn that go to a Reply-To.
    """

    message: Message
    handler: str
    module: str
    secret: bytes
    state: str
    conversation: StateKey
    captures: Mapping[str, Any]
    tools: TurnTools
    attempts: int = 0
    replies: int = 0
    quick: int = 0
    lease_key: str = ""
    error: BaseException | None = None
    drafts: list[Draft] = []
    outgoing: tuple[OutgoingMail, ...] = ()
    timers: list[PendingTimer] = []
    statements: list[Statement] = []
    forced: dict[StateKey, str] = {}
    notes: list[str] = []
    casts: list[Callable[[], object]] = []
    suppressed: int = 0
    minted: int = 0
    once: tuple[tuple[str, float], ...] = ()
    parked: str = ""
    forced_drafts: set[int] = msgspec.field(default_factory=set)
    elsewhere: int = 0
    closed: str = ""

    def __repr__(self) -> str:
        # Not all there is: logs and tracebacks are no place for the store's key.
        return f"<Turn of {self.handler} in {self.state} for {self.message!r}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("handler", self.handler), ("state", self.state), ("message", self.message)]

    @property
    def turn_id(self) -> str:
        """The same however often this turn has to be run, unguessable from outside: 20 hexadecimal digits.

        Give it to other systems as the key of idempotency.
        """
        return stable_token(self.secret, "turn", self.message.id, self.handler)

    def check_open(self) -> None:
        """Raise TurnError if this turn is over: its deadline passed, or its handler has returned."""
        if self.closed:
            raise TurnError(f"the turn of {self.handler} is over ({self.closed}): nothing can be added to it")

    def write(self, sql: str, params: Sequence[Any] = ()) -> None:
        """Add an SQL statement to the turn's commit; it runs after the handler returned, or not at all.

        Tables are those of the application (`App(tables=...)`); monsal's own must not be changed.
        """
        self.check_open()
        if not isinstance(sql, str):
            raise TypeError(f"write takes SQL as text, not {sql!r:.100}")
        self.statements.append(Statement(sql, tuple(params)))

    def read(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a reading statement, as of the last applied turn; for plain handlers.

        Raises StatementError for a statement that is wrong or would write.
        """
        return self.tools.read(sql, params)

    async def read_async(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The same as `read`, for `async def` handlers."""
        return await self.tools.read_async(sql, params)

    def conversation_of(
        self, function: Callable[..., Any], *, to: str | None = None, correspondent: str | None = None
    ) -> StateKey:
        """The conversation of `function`'s machine with `correspondent` at the address `to`.

        Without them it is that of the message at hand.
        """
        return self._conversation(function.__module__, to, correspondent)

    def _conversation(self, module: str, to: str | None, correspondent: str | None) -> StateKey:
        if to is None and correspondent is None:
            return self.conversation if module == self.module else StateKey(*self.tools.state_key(module, self.message))
        who = _Addressee(to or self.message.recipient, fold(correspondent or self.message.sender))
        return StateKey(*self.tools.state_key(module, who))

    def set_state(
        self, handler: Callable[..., Any], *, to: str | None = None, correspondent: str | None = None
    ) -> None:
        """Force the machine of `handler`'s module into its state, also another module's or person's (R26).

        `to` and `correspondent` choose the conversation as in `conversation_of`. Raises ResultError, a TypeError, for
        what is no state: the conversation would be stranded in it.
        """
        self.check_open()
        module, name = self.tools.named_state(handler, f"{self.handler} sets as a state")
        self.forced[self._conversation(module, to, correspondent)] = name

    def add_timer(
        self,
        run: Callable[..., Any],
        after: float | None,
        *,
        to: str | None = None,
        correspondent: str | None = None,
    ) -> None:
        """Set or, with `after` None, take away a timer of the conversation that `run`'s machine has."""
        self.check_open()
        recipient = to or self.message.recipient
        who = fold(correspondent or self.message.sender)
        self.timers.append(
            PendingTimer(
                state=self.conversation_of(run, to=to, correspondent=correspondent),
                target=_target(run),
                after=after,
                recipient=recipient,
                correspondent=who,
                lease_key=self.tools.lease_key(recipient, who),
            )
        )

    def cancel(self, run: Callable[..., Any], *, to: str | None = None, correspondent: str | None = None) -> None:
        """Take away the timer that would call `run`; none set is no error."""
        self.add_timer(run, None, to=to, correspondent=correspondent)

    def note(self, text: str) -> None:
        """Add a line to the turn's row in the history."""
        self.check_open()
        if not isinstance(text, str):
            raise TypeError(f"a note is text, not {text!r:.100}")
        self.notes.append(text)

    def address_for(self, value: Any, *, correspondent: str | None = None, **captures: str) -> str:
        """The address at which the route with a `Capability` for the type of `value` takes it; see docs/identity.md.

        One that is bound is for `correspondent`, otherwise for whom this turn has to do with. `captures` fill the
        others of that route's format, otherwise those of this turn do. Raises CapabilityError: no route takes it, or it
        is too long; RouteError if a capture is lacking.
        """
        self.check_open()
        self.minted += 1
        # Another one for each address: one that may be used once is not used up by another one's use.
        nonce = bytes.fromhex(stable_token(self.secret, "address", self.message.id, self.handler, self.minted))
        given = {**self.captures, **captures}
        return self.tools.address(value, given, nonce, correspondent or self.message.sender)

    def url_for(self, path: str, **query: str) -> str:
        """The URL by which what is mounted at `path` is reached from outside, with a query.

        Raises TurnError if the setting `public_url` does not say where that is.
        """
        if not self.tools.public_url:
            raise TurnError(
                "nobody knows how this is reached from outside: set public_url, such as https://example.com"
            )
        return f"{self.tools.public_url.rstrip('/')}{path}{'?' * bool(query)}{urlencode(query)}"

    def add_cast(self, cast: Callable[[], object]) -> None:
        """Add a notification, which is sent after the turn's commit; see `notify`."""
        self.check_open()
        self.casts.append(cast)

    def add_draft(
        self, draft: Draft, *, even_if_automatic: bool, even_if_suppressed: bool = False, is_answer: bool = False
    ) -> Draft | None:
        """Add a mail to the turn unless the rules against loops forbid it; None if so, with a note in the history.

        An answer is one to the correspondent, also where Reply-To had it sent elsewhere.
        """
        self.check_open()
        correspondent = self.message.sender
        here = _goes_to(draft, correspondent)
        hops = own_hops(self.message.header)
        reason = None
        if hops >= MAX_HOPS:
            # Whatever its code says: nobody has read any of these.
            reason = f"{hops} programs have answered each other"
        elif not even_if_automatic and (here or is_answer):
            reason = self._forbidden(correspondent)
        if reason is not None:
            self.suppressed += 1
            self.notes.append(f"mail to {', '.join(draft.recipients)} suppressed: {reason}")
            return None
        draft = draft.stamped(HOPS, str(hops + 1))
        if even_if_suppressed:
            self.forced_drafts.add(len(self.drafts))
        self.drafts.append(draft)
        self.elsewhere += is_answer and not here
        return draft

    def _forbidden(self, correspondent: str) -> str | None:
        """Why the rules against loops forbid a mail to the correspondent; None if they do not."""
        replies = max(self.tools.replies(correspondent), self.replies)
        limit = self.tools.max_replies
        reason = suppression(
            automatic=self.message.automatic,
            from_ourselves=self.tools.is_own(correspondent),
            replies=replies + sum(_goes_to(other, correspondent) for other in self.drafts) + self.elsewhere,
            limit=limit,
        )
        if reason is not None and is_ping_pong(
            quick=self.quick, replies=replies, limit=limit, lease_key=self.lease_key
        ):
            self.parked = f"{correspondent} looks like another program: {self.quick} answers in a row came at once"
        return reason


@lru_cache(maxsize=4096)  # asked six times in a turn for the two addresses of its conversation
def canonical(address: str) -> str:
    """The one form of an address in which mails to it are counted: folded, its domain in ASCII."""
    try:
        return fold(ascii_domain(address))
    except AddressError:
        return fold(address)


def _goes_to(draft: Draft, correspondent: str) -> bool:
    return canonical(correspondent) in map(canonical, draft.recipients)


def current() -> Turn:
    """The turn that is running. Raises TurnError outside of a handler."""
    try:
        return _current.get()
    except LookupError:
        raise TurnError("there is no turn here: reply, send, start, after and current work inside a handler") from None


def _target(run: Callable[..., Any]) -> str:
    name = f"{run.__module__}:{run.__qualname__}"
    if "." in run.__qualname__ or "<" in run.__qualname__:
        raise TurnError(f"a timer needs a function of a module, because it outlives the process; not {name}")
    return name


def _content(
    turn: Turn, text: str | None, html: str | None, template: str | None, variables: Mapping[str, Any]
) -> Content:
    """What a mail says: what a handler gave comes before what its template makes."""
    if template is None:
        if variables:
            names = ", ".join(sorted(variables))
            raise TypeError(f"without a template there is no use for {names}")
        return content(text, html)
    made = turn.tools.templates.render(template, {"message": turn.message, "turn": turn, **variables})
    return Content(made.text if text is None else text, made.html if html is None else html, made.subject)


def reply(
    text: str | None = None,
    *,
    html: str | None = None,
    template: str | None = None,
    subject: str | None = None,
    sender: str | None = None,
    attachments: Sequence[Attachment] = (),
    headers: Mapping[str, str] | None = None,
    even_if_automatic: bool = False,
    even_if_suppressed: bool = False,
    **variables: Any,
) -> Draft | None:
    """Answer the correspondent; leaves only if this turn commits.

    Give the `text`, `html` (of which a text is made) or both, or a `template` (below the application's folder of
    templates) with its `variables`. `subject` is otherwise that of the template, or "Re: " and that of the message;
    `sender` the address that was written to; give another one of yours to have the conversation go on there. If the
    correspondent is proved, the answer goes to the Reply-To of the message: else anybody could have our answers to
    somebody sent to himself. Nobody else among its recipients gets it.

    Returns the Draft, or None if nobody is named as the sender or the rules against loops forbid it (DESIGN 4);
    `even_if_automatic` overrides the latter. To an address that is suppressed because its mail bounced it is noted and
    not sent; `even_if_suppressed` overrides that.

    Raises ValueError for CR, LF or NUL in a header value, ConfigError for an unknown template, TemplateError for one
    that is wrong or lacks a variable.
    """
    turn = current()
    if not is_address(turn.message.sender):
        turn.note("reply suppressed: nobody is named as the sender")
        return None
    made = _content(turn, text, html, template, variables)
    draft = reply_draft(
        turn.message,
        to=_answer_address(turn),
        text=made.text,
        html=made.html,
        subject=made.subject if subject is None else subject,
        attachments=attachments,
        headers=headers,
    )
    if sender is not None:
        draft = msgspec.structs.replace(draft, sender=sender)
    return turn.add_draft(
        draft, even_if_automatic=even_if_automatic, even_if_suppressed=even_if_suppressed, is_answer=True
    )


def _answer_address(turn: Turn) -> str:
    """Whom an answer goes to: not to ourselves, and to another one than From only if From is proved."""
    message = turn.message
    if "reply-to" in message and message.authenticated and not turn.tools.is_own(message.reply_address):
        return message.reply_address
    return message.sender_address


def send(
    to: str | Sequence[str] = (),
    *,
    subject: str | None = None,
    text: str | None = None,
    html: str | None = None,
    template: str | None = None,
    sender: str | None = None,
    reply_to: str | None = None,
    bcc: Sequence[str] = (),
    attachments: Sequence[Attachment] = (),
    headers: Mapping[str, str] | None = None,
    even_if_automatic: bool = False,
    even_if_suppressed: bool = False,
    **variables: Any,
) -> Draft | None:
    """Write a new mail to anybody; leaves only if this turn commits.

    `subject` may be that of the template. `sender` is otherwise the address that was written to. Those in `bcc` get the
    same mail, stored once, and are not named in it. Returns and raises as `reply`, and TypeError without a subject; the
    rules against loops apply when it goes to the correspondent.
    """
    turn = current()
    made = _content(turn, text, html, template, variables)
    subject = made.subject if subject is None else subject
    if subject is None:
        raise TypeError("send needs a subject, or a template with {% subject %}")
    draft = Draft(
        to=(to,) if isinstance(to, str) else tuple(to),
        sender=sender or turn.message.recipient,
        subject=subject,
        text=made.text,
        html=made.html,
        reply_to=reply_to,
        bcc=tuple(bcc),
        attachments=tuple(attachments),
        headers=dict(headers or {}),
        auto_submitted="auto-generated",
    )
    return turn.add_draft(draft, even_if_automatic=even_if_automatic, even_if_suppressed=even_if_suppressed)


def start(
    correspondent: str,
    state: Callable[..., Any],
    *,
    subject: str | None = None,
    text: str | None = None,
    html: str | None = None,
    template: str | None = None,
    sender: str | None = None,
    **variables: Any,
) -> Draft | None:
    """Open a conversation with somebody who has not written: mail them, and put their conversation into `state`.

    `state` is the handler that takes their answer. The mail comes from `sender`, otherwise from the address that was
    written to; their answer goes there, so `state` must have a route for it. Both happen in this turn's commit.
    """
    turn = current()
    address = sender or turn.message.recipient
    split_address(correspondent)
    # First: what is wrong with the state is to be found before a mail is made.
    turn.set_state(state, to=address, correspondent=correspondent)
    return send(correspondent, subject=subject, text=text, html=html, template=template, sender=address, **variables)


def after(
    *,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
    run: Callable[..., Any],
    to: str | None = None,
    correspondent: str | None = None,
) -> None:
    """Call `run` later, unless the conversation's state has another name by then; durable with this turn.

    `run` is a function of a module and is called like a handler, with the message of this turn; what it returns is
    the next state. The timer belongs to the conversation of `run`'s module with the correspondent, or with the one
    that `to` (an address of ours) and `correspondent` name. Setting it for the same function again replaces it;
    `current().cancel(run)` takes it away.
    """
    turn = current()
    wait = days * 86400.0 + hours * 3600.0 + minutes * 60.0 + seconds
    if not 0 < wait < 10 * 366 * 86400.0:
        raise ValueError(f"a timer runs after more than 0 seconds and less than ten years, not {wait}")
    turn.add_timer(run, wait, to=to, correspondent=correspondent)


def reject(code: int, text: str = "") -> NoReturn:
    """Refuse this message (rule routing.B16): 4xx tries again later, 5xx sends a bounce with `code` and `text`.

    In an accept hook: refuse this recipient, with this very reply. Raises TurnError anywhere else.
    """
    if _current.get(None) is None and not _accepting.get():
        raise TurnError("reject belongs in a handler or an @accept hook; nothing that could be refused is here")
    raise Reject(code, text)
