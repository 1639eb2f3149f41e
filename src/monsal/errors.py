"""Every error that monsal raises, in one tree, split by who can mend it.

    MonsalError
    ├─ UsageError            the author of the application: wrong at load or at start
    │   ├─ ConfigError           a setting
    │   ├─ RouteError            a route, capture or mark
    │   └─ TemplateError         a template of a mail
    ├─ AddressError          whoever gave an address that is none
    ├─ CapabilityError       a capability address that is not (any more) valid, or a value that makes none
    ├─ ProtocolError         the peer on the other end of a socket
    ├─ RemoteError           the program at the other end of a call
    │   ├─ NotRunning            nobody listens there (also ConnectionError)
    │   ├─ NoAnswer              it hung up or took too long: what it did is not known
    │   │   ├─ ConnectionLost        the link broke; `sent` says whether the call may have arrived (ConnectionError)
    │   │   └─ CallExpired           the deadline of the call has passed (also TimeoutError)
    │   └─ RemoteFault           it answered with an error
    │       ├─ Busy                  it has too much to do; `retry_after` says when to come again
    │       ├─ Unauthenticated       it does not know who we are
    │       └─ Forbidden             it knows, and we may not
    ├─ ReloadFailed          the author of the new code; the old one goes on
    ├─ StoreError            the operator of the store
    │   ├─ StoreUnavailable      cannot commit now; the same call may work later (451, 503, exit 75)
    │   ├─ StoreLocked           another process owns it
    │   ├─ StoreCorrupt          the file is damaged
    │   ├─ StoreNewer            written by a later monsal
    │   └─ StatementError        a statement queued by `current().write` was refused by the database
    ├─ TurnError             the handler of a turn
    │   ├─ ResultError           it returned something that is no handler
    │   └─ DeadlineExceeded      it ran longer than its route allows (transient)
    ├─ Reject                a handler's word that this message is refused, with an SMTP code
    └─ Retry                 a handler's word that this message should be tried again later

Foreign exceptions (of a database, of a socket) are mapped to these where they enter.
"""

__all__ = [
    "AddressError",
    "Busy",
    "CallExpired",
    "CapabilityError",
    "ConfigError",
    "ConnectionLost",
    "DeadlineExceeded",
    "Forbidden",
    "LoginUnavailable",
    "MonsalError",
    "NoAnswer",
    "NotRunning",
    "ProtocolError",
    "Reject",
    "ReloadFailed",
    "RemoteError",
    "RemoteFault",
    "ResultError",
    "Retry",
    "RouteError",
    "StatementError",
    "StoreCorrupt",
    "StoreError",
    "StoreLocked",
    "StoreNewer",
    "StoreUnavailable",
    "TemplateError",
    "TurnError",
    "Unauthenticated",
    "UsageError",
]


class MonsalError(Exception):
    """The root: catching it catches all that monsal raises on purpose."""


class UsageError(MonsalError):
    """The application is put together wrongly; nothing was started or changed."""


class ConfigError(UsageError):
    """A setting is unknown, has the wrong type, or contradicts another one."""


class RouteError(UsageError, TypeError):
    """A route, capture or mark cannot be loaded.

    It is a `TypeError` too, because contract rules routing.R11 and R12 promise that.
    """


class TemplateError(UsageError):
    """A template of a mail is wrong, or lacks a variable; the message begins with its name and the line."""


class AddressError(MonsalError, ValueError):
    """The text is no mail address (RFC 5321, section 4.1.2)."""


class CapabilityError(MonsalError, ValueError):
    """A capability address is forged, expired, used or another's; or a value does not fit into one."""


class ProtocolError(MonsalError):
    """A peer broke its protocol; only its own connection is affected."""


class RemoteError(MonsalError):
    """A call to another program failed; the text says what to do.

    `details` helps the author of the other program: a traceback, if it sent one (rule rpc.R30).
    """

    def __init__(self, message: str = "", details: str = "") -> None:
        super().__init__(message)
        self.details = details


class NotRunning(RemoteError, ConnectionError):
    """Nobody listens at the other end; nothing was done."""


class NoAnswer(RemoteError):
    """The other program hung up or did not answer in time; whether it did what was asked is not known."""


class ConnectionLost(NoAnswer, ConnectionError):
    """The link broke before the answer came.

    `sent` is false if the other side cannot have heard of the call: then it is safe to make it again (rpc.B3).
    """

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class CallExpired(NoAnswer, TimeoutError):
    """No answer came before the deadline of the call; the other side was told to give it up (rpc.B4)."""


class RemoteFault(RemoteError):
    """The other program answered with an error. A handler of a call raises one to answer with it.

    `code` is that of JSON-RPC 2.0, `kind` the name of the exception there (`StoreUnavailable`, or empty if it did not
    say), `data` what came with it for programs, `details` what helps its author, for example a traceback.
    """

    #: The code of this class; -32603 is that of an internal error (JSON-RPC 2.0, section 5.1).
    code: int = -32603

    def __init__(
        self, message: str = "", *, code: int | None = None, kind: str = "", data: object = None, details: str = ""
    ) -> None:
        super().__init__(message or type(self).__name__, details)
        if code is not None:
            self.code = code
        self.kind = kind
        self.data = data


class Busy(RemoteFault):
    """The other program has too much to do, or does not read fast enough; nothing was done.

    `retry_after` is the number of seconds after which it may have time (rpc.B7).
    """

    code = -32000

    def __init__(
        self, message: str = "", retry_after: float = 1.0, *, code: int | None = None, details: str = ""
    ) -> None:
        super().__init__(message, code=code, kind="Busy", data={"retry_after": retry_after}, details=details)
        self.retry_after = retry_after


class Unauthenticated(RemoteFault):
    """The other program does not know who we are, or does not believe it; nothing was done."""

    code = -32002


class Forbidden(RemoteFault):
    """The other program knows who we are, and does not let us; nothing was done."""

    code = -32003


class ReloadFailed(MonsalError):
    """The code as it is now cannot serve, or a reload is not possible now; the running server goes on as before.

    `details` is what the new code said, with its traceback.
    """

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class StoreError(MonsalError):
    """The store failed."""


class StoreUnavailable(StoreError):
    """The store cannot commit now (disk full, closed, input or output error). Nothing was stored; try again later."""


class StoreLocked(StoreError):
    """Another process owns the store; the text says which."""


class StoreCorrupt(StoreError):
    """The store's file is damaged or is no store."""


class StoreNewer(StoreError):
    """The store was written by a later version of monsal."""


class StatementError(StoreError):
    """A statement that a handler queued with `current().write` was refused; the turn was not applied."""


class TurnError(MonsalError):
    """A handler did not end its turn properly."""


class ResultError(TurnError, TypeError):
    """A handler returned neither a false value nor a stateful handler of a loaded module (rule routing.B19)."""


class DeadlineExceeded(TurnError, TimeoutError):
    """A turn ran longer than its route allows. It is transient: the message is tried again."""


class LoginUnavailable(MonsalError):
    """A login cannot be checked now; the client is asked to try again later."""


class Reject(MonsalError):
    """Raised in a handler to refuse a message.

    `code` is an SMTP reply code: 400-499 asks for another try later, 500-599 sends the sender a bounce with
    `text` (rule routing.B16). Raises ValueError for any other code, TypeError for what is no code or text.
    """

    def __init__(self, code: int, text: str = "") -> None:
        if not isinstance(code, int) or not isinstance(text, str):
            raise TypeError(f"a rejection is a code and a text, as in 550 and 'no', not {code!r} and {text!r}")
        if not 400 <= code <= 599:
            raise ValueError(f"a rejection needs a code from 400 to 599, not {code}")
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


class Retry(MonsalError):
    """Raised in a handler to have its message tried again.

    `after` is the wait in seconds; without it the usual schedule of failures is used (DESIGN 4, *Failure*). Raises
    TypeError or ValueError if it is no such number.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        if after is not None:
            if isinstance(after, bool) or not isinstance(after, int | float):
                raise TypeError(f"after is a number of seconds, not {after!r}")
            if not 0 <= after <= 366 * 86400:
                raise ValueError(f"after is from 0 seconds to a year, not {after!r}")
        super().__init__(reason)
        self.reason = reason
        self.after = after
