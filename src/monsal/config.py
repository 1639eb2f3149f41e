"""The settings of an application: what they are, where each value comes from, and what is wrong with it.

    resolved = load_settings(given, directory, os.environ)      # App(...) < monsal.toml < MONSAL_*
    resolved = resolved.override({"workers": 2})                # the command line comes last

Reading is all that happens here; nothing is opened or created.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from monsal.errors import ConfigError
from monsal.smtp.endpoint import parse_endpoint
from monsal.smtp.mxurl import parse_mx

__all__ = ["CONFIG_FILE", "Resolved", "SettingRow", "Settings", "load_settings", "mask_secrets"]

#: The file of settings in the directory of an application.
CONFIG_FILE = "monsal.toml"
#: What a setting's name is preceded by in the environment.
PREFIX = "MONSAL_"
#: Variables with that prefix that are no settings.
OTHER_VARIABLES = {"MONSAL_DIR"}

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]

# Letters, digits and hyphens in labels (RFC 1123, section 2.1), or an address literal (RFC 5321, section 4.1.3).
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])\Z")


def _own_name() -> str:
    # The kernel's own name for this machine: unlike a fully qualified name it needs no look-up, which can hang.
    name = os.uname().nodename
    return name if len(name) <= 255 and _HOSTNAME.match(name) else "localhost.localdomain"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set about an application. Times are in seconds, sizes in bytes.

    | setting | means |
    |---|---|
    | store | where everything durable lives: `sqlite:///path` (relative to the directory), `memory:` |
    | ingress | where mail comes in: `smtp://host:port`, `smtps://host:port`, `lmtp:path`, `maildir:path` |
    | http | where mounted applications are served: `http://host:port`, `https://host:port` (extra `http`) |
    | public_url | how those are reached from outside, such as `https://lists.example.com`: for links in mails |
    | relay | where mail goes out: `smtp://host:port`, `smtps://user@host`, `lmtp:path`, `mx:`, `capture:path` |
    | hostname | how this server calls itself: greeting, HELO, Message-ID, sender of bounces |
    | authserv_id | the authserv-id whose Authentication-Results are believed (RFC 8601, section 2.5) |
    | tls_cert, tls_key | certificate (with its chain) and key, in PEM, for STARTTLS, `smtps://`, `https://` |
    | auth_users | file of those who may log in (SMTP AUTH, over TLS only): lines that `monsal passwd` makes |
    | proxy_from | hosts whose connections begin with a PROXY header: addresses, networks, `unix` |
    | xclient_from | hosts that may say by XCLIENT for whom they speak: addresses, networks, `unix` |
    | authserv_hops | Received lines from the top that are of our own machines; results below them are not believed |
    | check_auth | check SPF, DKIM, DMARC and ARC ourselves where no believed results are (extra `auth`) |
    | check_auth_within | how long such a check may take |
    | confirm_within | how long a message whose sender is not proved waits for the sender to confirm it |
    | max_unconfirmed | messages of one correspondent that may wait like that; 0: nobody is asked to confirm |
    | max_questions_per_hour | mails that ask for a confirmation, to all together within an hour; none for any number |
    | correspondent | who writes: the first `from` address, or the `envelope` sender |
    | max_message_size | largest message taken (SIZE, RFC 1870) |
    | max_recipients | recipients of one transaction |
    | max_connections, max_connections_per_peer | open connections of each ingress and of http; those of one address |
    | handler_threads | plain (not async) handlers that run at once |
    | deadline | how long a turn may take, unless its route says otherwise |
    | lease | how long a claimed message stays with a worker that gives no sign of life |
    | claim_batch | messages that a worker claims at a time |
    | keep_bodies | how long the content of mail that was handled is kept: none for ever |
    | keep_history | how long its rows and turns are kept: none for ever. Dead letters stay until they are dropped |
    | unknown_state | what becomes of mail in a state whose function is gone: `start` over, `dead` letter, `hold` |
    | max_hops | Received lines above which a message counts as looping |
    | max_replies_per_hour | replies to one correspondent within an hour; none for any number |
    | drain | how long a stopping server waits for turns that run |
    | max_mails_per_minute | mails within a minute to the recipients of one domain; none for any number |
    | relay_connections | connections at once to the relay; with `mx:` to the servers of a domain |
    | dkim_key | a file `SELECTOR.pem`, or a directory of them, whose newest keys sign what leaves (RFC 6376) |
    | dkim_domain | the domain that signs, for its own addresses and those below; none: that of each From |
    | dkim_selector | the selector of a key file, if its name does not say it |
    | workers | processes that handle messages, beside one for the store and a spare; 0: all is one process |
    | log, log_level | form of the log lines, and from which level on they are written |
    """

    store: str = "sqlite:///run/monsal.db"
    ingress: tuple[str, ...] = ("smtp://127.0.0.1:8825",)
    http: tuple[str, ...] = ()
    public_url: str | None = None
    relay: str = "capture:run/sent"
    hostname: str = msgspec.field(default_factory=_own_name)
    authserv_id: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    auth_users: str | None = None
    proxy_from: tuple[str, ...] = ()
    xclient_from: tuple[str, ...] = ()
    authserv_hops: Annotated[int, Meta(ge=0)] = 1
    check_auth: bool = False
    check_auth_within: Seconds = 20.0
    confirm_within: Annotated[float, Meta(gt=0, le=400 * 86400.0)] = 3 * 86400.0
    max_unconfirmed: Annotated[int, Meta(ge=0)] = 5
    max_questions_per_hour: Annotated[int, Meta(ge=0)] | None = 100
    correspondent: Literal["from", "envelope"] = "from"
    max_message_size: Count = 25 * 1024 * 1024
    max_recipients: Count = 100
    max_connections: Count = 1000
    max_connections_per_peer: Count = 100
    handler_threads: Count = 16
    deadline: Seconds = 60.0
    lease: Seconds = 120.0
    claim_batch: Count = 32
    keep_bodies: Annotated[float, Meta(ge=0)] | None = 30 * 86400.0
    keep_history: Annotated[float, Meta(ge=0)] | None = 365 * 86400.0
    unknown_state: Literal["start", "dead", "hold"] = "start"
    max_hops: Count = 50
    max_replies_per_hour: Annotated[int, Meta(ge=0)] | None = 10
    drain: Annotated[float, Meta(ge=0)] = 30.0
    max_mails_per_minute: Count | None = None
    relay_connections: Count = 4
    dkim_key: str | None = None
    dkim_domain: str | None = None
    dkim_selector: str | None = None
    workers: Annotated[int, Meta(ge=0)] = 0
    log: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


#: Each worker has a loop, threads for its handlers and 20 to 40 MB of its own.
MAX_WORKERS = 256

_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
_OPTIONAL = {
    *("auth_users", "authserv_id", "dkim_domain", "dkim_key", "dkim_selector", "keep_bodies", "keep_history"),
    *("max_mails_per_minute", "max_questions_per_hour", "max_replies_per_hour", "public_url", "tls_cert", "tls_key"),
}
_LISTS = {"http", "ingress", "proxy_from", "xclient_from"}


class SettingRow(msgspec.Struct, frozen=True):
    """One setting as `monsal config` shows it; secrets are masked. `origin` says who set it."""

    name: str
    value: Any
    origin: str


class Resolved(msgspec.Struct, frozen=True):
    """The settings in force, and for each name where its value comes from."""

    settings: Settings
    origins: Mapping[str, str]

    def override(self, values: Mapping[str, Any], origin: str = "the command line") -> Resolved:
        """The same with other `values`; those that are None are left as they are. Raises ConfigError."""
        given = {name: value for name, value in values.items() if value is not None}
        changed = {name: _value(name, value, origin, strict=True) for name, value in given.items()}
        settings = msgspec.structs.replace(self.settings, **changed)
        _check(settings, {**self.origins, **dict.fromkeys(changed, origin)})
        return Resolved(settings, {**self.origins, **dict.fromkeys(changed, origin)})

    def describe(self) -> list[SettingRow]:
        """A row for each setting, in their order."""
        return [
            SettingRow(name, _masked(getattr(self.settings, name)), self.origins.get(name, "default"))
            for name in _FIELDS
        ]


def load_settings(
    given: Mapping[str, Any], directory: Path, environ: Mapping[str, str], *, beside: Collection[str] = ()
) -> Resolved:
    """The settings of the application in `directory`.

    `given` is what `App` was given; `monsal.toml` in the directory overrides it, and `MONSAL_*` of `environ` both.
    `beside` are what else `App` takes: no settings, but one of them may be what a wrong name should have been.
    Raises ConfigError for an unknown name (with the nearest valid one), a wrong type or a bad value.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer, origin_of, strict in (
        (given, lambda name: "App(...)", True),
        (_file_layer(directory / CONFIG_FILE), lambda name: CONFIG_FILE, True),
        (_environment_layer(environ), lambda name: PREFIX + name.upper(), False),
    ):
        for name, value in layer.items():
            origin = origin_of(name)
            values[name] = _value(name, value, origin, strict=strict, beside=beside if layer is given else ())
            origins[name] = origin
    settings = Settings(**values)
    _check(settings, origins)
    return Resolved(settings, origins)


# Up to the last @, because people do not always escape one in a password.
_PASSWORD = re.compile(r"(?<=://)([^:/?#@]*):.*@")
_SECRET_PARAMETER = re.compile(r"(?<=[?&])((?:password|secret|token|key)=)[^&]*", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """A URL with what is secret in it replaced by `***`; any other text as it is."""
    return _SECRET_PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask_secrets(value)
    if isinstance(value, tuple):
        return tuple(mask_secrets(item) for item in value)
    return value


def _file_layer(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    # Not before: many applications have no such file.
    import tomllib

    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        bare = '; a text is in quotes: relay = "smtp://127.0.0.1:25"' if "Invalid value" in str(error) else ""
        raise ConfigError(f"{path}: {error}{bare}") from None
    for name, value in found.items():
        if isinstance(value, dict):
            raise ConfigError(f"{path.name}: there are no tables like [{name}]; write each setting at the top level")
    return found


def _environment_layer(environ: Mapping[str, str]) -> dict[str, Any]:
    layer: dict[str, Any] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in _FIELDS:
            layer[name] = [part.strip() for part in text.split(",") if part.strip()] if name in _LISTS else text
        elif near := _nearest(name):
            # Other names are not ours to judge: a container platform makes MONSAL_SERVICE_HOST and the like.
            raise ConfigError(f"{variable}: there is no such setting; did you mean {PREFIX}{near.upper()}?")
    return layer


def _nearest(name: str, beside: Collection[str] = ()) -> str | None:
    # Not before: nearly always all names are right.
    import difflib

    found = difflib.get_close_matches(name.lower().replace("-", "_"), [*_FIELDS, *beside], n=1, cutoff=0.7)
    return found[0] if found else None


def _value(name: str, value: Any, origin: str, *, strict: bool, beside: Collection[str] = ()) -> Any:
    field = _FIELDS.get(name)
    if field is None:
        near = _nearest(name, beside)
        hint = f"did you mean {near}?" if near else f"there are {', '.join([*beside, *_FIELDS])}"
        raise ConfigError(f"{origin}: there is no setting {name!r}; {hint}")
    # TOML and the environment have no null; a word stands for it.
    if name in _OPTIONAL and isinstance(value, str) and value.lower() in ("none", ""):
        return None
    if name in _LISTS and isinstance(value, str):
        value = (value,)
    if name == "log_level" and isinstance(value, str):
        value = value.lower()
    try:
        return msgspec.convert(value, field.type, strict=strict)
    except msgspec.ValidationError:
        shown = mask_secrets(value) if isinstance(value, str) else value
        wanted = _in_words(field.type)
        if strict and isinstance(value, str) and "number" in wanted:
            wanted += ", without quotes"
        raise ConfigError(f"{origin}: {name} cannot be {shown!r}; it is {wanted}") from None


def _in_words(kind: Any) -> str:
    """What a type takes, as a person would say it who does not know Python."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        return "a list of texts"
    options = [option for option in get_args(kind) if option is not type(None)]
    if type(None) in get_args(kind):
        return f'{_in_words(options[0])}, or "none"'
    if get_origin(kind) is Annotated:
        limits = options[1]
        bound = f" of at least {limits.ge}" if limits.ge is not None else f" above {limits.gt}"
        bound += f" and at most {limits.le:g}" if limits.le is not None else ""
        return f"{_in_words(options[0])}{bound}"
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a text")


def _check(settings: Settings, origins: Mapping[str, str]) -> None:
    """What holds between settings, or needs more than a type. Raises ConfigError naming the origin."""

    def refuse(name: str, why: str) -> None:
        raise ConfigError(f"{origins.get(name, 'default')}: {name} {why}")

    if len(settings.hostname) > 255 or not _HOSTNAME.match(settings.hostname):
        refuse("hostname", f"must be a domain name such as mail.example.com, not {settings.hostname!r}")
    if settings.dkim_domain is not None and not _HOSTNAME.match(settings.dkim_domain):
        refuse("dkim_domain", f"must be a domain name such as example.com, not {settings.dkim_domain!r}")
    if settings.workers > MAX_WORKERS:
        refuse("workers", f"is {settings.workers}; more than {MAX_WORKERS} processes help nobody, and wait for memory")
    if settings.tls_key is not None and settings.tls_cert is None:
        refuse("tls_key", "needs tls_cert beside it")
    if settings.tls_cert is None and any(url.startswith("smtps:") for url in settings.ingress):
        refuse("ingress", "has smtps://, which needs tls_cert (and tls_key)")
    if settings.tls_cert is None and any(url.startswith("https:") for url in settings.http):
        refuse("http", "has https://, which needs tls_cert (and tls_key)")
    if settings.public_url is not None and not _PUBLIC_URL.fullmatch(settings.public_url):
        refuse("public_url", f"cannot be {settings.public_url!r}; it is a URL such as https://lists.example.com")
    if settings.auth_users is not None and settings.tls_cert is None:
        refuse("auth_users", "is of no use without tls_cert: passwords are taken over TLS only")
    for name in ("proxy_from", "xclient_from"):
        for host in getattr(settings, name):
            if not _is_host(host):
                refuse(name, f"cannot be {host!r}; it is a list of addresses, networks such as 192.0.2.0/24, and unix")
    forms_of = {
        "store": [settings.store],
        "relay": [settings.relay],
        "ingress": settings.ingress,
        "http": settings.http,
    }
    for name, texts in forms_of.items():
        pattern, lowest, forms = _FORMS[name]
        for text in texts:
            found = pattern.fullmatch(text)
            port = found.groupdict().get("port") if found else None
            if not found or (port is not None and not lowest <= int(port) <= 65535):
                refuse(name, f"cannot be {mask_secrets(text)!r}{_why_not(name, text)}; it is {forms}")
    if "://" in settings.relay or settings.relay.startswith("mx:"):
        try:
            (parse_mx if settings.relay.startswith("mx:") else parse_endpoint)(settings.relay)
        except ConfigError as error:
            refuse("relay", f"cannot be used: {error}")


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return text == "unix"
    return True


# What each of them accepts is what those who open them understand: ingress/listen.py, delivery/, store/url.py. To ask
# these would load an event loop and a database for `monsal config`; a test holds the two together.
_HOST = r"(?:[^\s/@:\[\]?#]+|\[[0-9A-Fa-f:.]+\])"
_SOCKET = r"(?!//)[^\0?#]+"
#: The beginning of links, to which a path is added: no question mark, no fragment, no space (RFC 3986).
_PUBLIC_URL = re.compile(rf"https?://{_HOST}(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9._~-]+)*/?")
#: Setting -> what its values look like, the lowest port, and the forms in words.
_FORMS: dict[str, tuple[re.Pattern[str], int, str]] = {
    "store": (
        re.compile(r"memory:|sqlite:///[^\0]*[^\0/]"),
        0,
        "sqlite:///run/monsal.db (relative), sqlite:////var/lib/monsal.db (absolute) or memory:",
    ),
    "relay": (
        re.compile(
            rf"(?:smtp|lmtp|smtps|smtp\+starttls)://(?:[^\s/?#]*@)?{_HOST}(?::(?P<port>[0-9]{{1,9}}))?/?(?:\?[^\s#]*)?"
            rf"|(?:smtp|lmtp):(?:///[^\0?#]+|{_SOCKET})|capture:(?P<dir>[^\0]+)"
            r"|mx:(?:\?[^\s#]*)?"
        ),
        1,
        "smtp://HOST:PORT, smtps://USER:PASSWORD@HOST, smtp+starttls://HOST, lmtp://HOST:PORT, lmtp:PATH/TO/SOCKET,"
        " mx: (straight to the servers of each domain) or capture:DIR (a maildir; nothing leaves)",
    ),
    "ingress": (
        re.compile(
            rf"(?:smtps?|lmtp)://{_HOST}:(?P<port>[0-9]{{1,9}})|(?:smtp|lmtp|unix):(?:///[^\0]+|(?!//)[^\0]*/[^\0]+)"
            r"|maildir:(?!//)[^\0?]+(?:\?to=[^\s@?&]+@[^\s@?&]+)?"
        ),
        0,
        "a list of smtp://HOST:PORT, smtps://HOST:PORT, lmtp://HOST:PORT, lmtp:PATH/TO/SOCKET or maildir:PATH",
    ),
    "http": (
        re.compile(rf"https?://{_HOST}:(?P<port>[0-9]{{1,9}})|http:(?:///[^\0]+|(?!//)[^\0]*/[^\0]+)"),
        0,
        "a list of http://HOST:PORT, https://HOST:PORT or http:PATH/TO/SOCKET",
    ),
}


def _why_not(name: str, text: str) -> str:
    """What may not be obvious about a refused expression."""
    if name == "store" and text.startswith(("postgres:", "postgresql:")):
        return ": stores on PostgreSQL come with a later version"
    return ""
