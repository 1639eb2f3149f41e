"""Address patterns: `order-(id)@(host)` and what it matches.

A pattern matches a whole address, without regard to case, and gives the text of each capture. Text outside captures is
literal, a dot is a dot; with `regex=True` it is a regular expression (contract rules routing.R1 and B9). What is slow
on some address, or no valid expression, is refused here and so at load.

Order of use: `compile_pattern`, then `Pattern.match`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import msgspec

from monsal.address import MAX_ADDRESS
from monsal.errors import RouteError
from monsal.routing.capability import Capability
from monsal.routing.regex import Node, example, join_runs, literal_runs, parse_regex
from monsal.routing.safety import MAX_SHARED_LOOPS, count_loops, why_slow

__all__ = ["Literal", "Pattern", "check_capture", "compile_pattern", "is_matchable", "literal"]

#: Domains that nobody means. A route that takes one of them takes mail for any domain: "sound enough" means that an
#: expression which names its domains, or their ends, takes none of these, and one that leaves them open takes at least
#: one, be it with or without digits, dashes, further dots or a particular top-level domain.
IMPROBABLE_DOMAINS = (
    "qxzvkjwh.com",
    "zkqj.wvxh.org",
    "wq-xzjv.net",
    "kzxqjv.co.uk",
    "jxqwzk.de",
    "xq7z2v9k.io",
    "vqzj.xkwq.invalid",
)
_LOCAL_PARTS = ("x", "xkqz", "x-x", "x.x", "x+x", "7")

# A control character, a line or paragraph separator or half a surrogate pair is in no address; a newline least of all.
_NO_ADDRESS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CAPTURE = re.compile(r"\((\w+)\)")
# Signs that an address may contain but hardly does, and that make a regular expression where they stand.
_LIKE_REGEX = re.compile(r"[\\*?\[\]{}|^$()]|\.\+")


class Literal(str):
    """A capture's regular expression that stands for one text only. `text` is that text."""

    __slots__ = ("text",)
    text: str


def literal(text: str) -> Literal:
    """A capture that matches exactly `text` (in any case of letters): `captures={"host": literal("example.com")}`."""
    if not isinstance(text, str) or not text:
        raise RouteError(f"literal() takes a text that is not empty, not {text!r}")
    made = Literal(re.escape(text))
    made.text = text
    return made


class _Capture(msgspec.Struct, frozen=True):
    """What is known of a capture's expression by itself."""

    runs: tuple[str | None, ...]
    loops: int


class _Piece(msgspec.Struct, frozen=True):
    """A piece of a format: text, or the name of a capture."""

    text: str
    is_capture: bool


class Pattern:
    """A compiled format. `text` is the finished regular expression; formats with equal texts are the same (R6).

    `format` is the format as written, `names` the captures it gives, `runs` the literal text that every match
    contains (see `literal_runs`), for the table's index.
    """

    __slots__ = (
        "_any_domain",
        "_compiled",
        "_domain",
        "_pieces",
        "capabilities",
        "format",
        "is_regex",
        "names",
        "runs",
        "text",
    )

    def __init__(
        self, fmt: str, text: str, runs: tuple[str | None, ...], names: frozenset[str], *, is_regex: bool
    ) -> None:
        self.format = fmt
        self.text = text
        self.runs = runs
        self.names = names
        self.is_regex = is_regex
        #: Those of its captures that are capabilities.
        self.capabilities: Mapping[str, Capability] = {}
        self._pieces: tuple[tuple[str, str | None], ...] = ()
        self._domain: str | None = None
        self._any_domain: bool | None = None
        # Compiling takes ten times as long as all other work on a pattern, and most patterns of a big table are never
        # reached by an address: it is done at the first match. Two threads may both do it, with the same result.
        self._compiled: re.Pattern[str] | None = None

    def __repr__(self) -> str:
        return f"Pattern({self.format!r})"

    def match(self, address: str) -> dict[str, str | None] | None:
        """The captures if the whole address matches, else None. A capture that took no part is None (R4).

        `address` must be matchable (see `is_matchable`).
        """
        found = (self._compiled or self.prepare()).match(address)
        return None if found is None else found.groupdict()

    def fits(self, address: str) -> bool:
        """Whether the whole address matches. `address` must be matchable (see `is_matchable`)."""
        return (self._compiled or self.prepare()).match(address) is not None

    def prepare(self) -> re.Pattern[str]:
        """Compile now what would be compiled at the first match."""
        if self._compiled is None:
            self._compiled = re.compile(self.text, re.IGNORECASE)
        return self._compiled

    def example(self) -> str | None:
        """An address that matches, or None if none was found."""
        text = example(parse_regex(self.text)[0])
        if text is None or not is_matchable(text) or self.match(text) is None:
            return None
        return text

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two formats the same (R6): their text, and the kinds of their capabilities."""
        return (self.text, *((name, it.identity) for name, it in sorted(self.capabilities.items())))

    def fill(self, values: Mapping[str, str]) -> str:
        """The address with these captures; one that is a `literal` need not be given.

        Raises RouteError for a capture that is lacking, or a format that is a regular expression.
        """
        if not self._pieces:
            raise RouteError(f"no address can be made of the regular expression {self.format!r}")
        parts = []
        for text, name in self._pieces:
            part = text if name is None else values.get(name, text)
            if name is not None and not part:
                raise RouteError(f"the address {self.format!r} needs a value for its capture {name!r}")
            parts.append(part)
        return "".join(parts)

    def takes_any_domain(self) -> bool:
        """Whether the route would make this server take mail for domains of others (DESIGN 4, *Wildcards*)."""
        if self._any_domain is None:
            if _names_its_domain(self.runs):
                self._any_domain = False
            else:
                self._any_domain = self._takes_any() if self._domain is None else _takes_any_domain(self._domain)
        return self._any_domain

    def _takes_any(self) -> bool:
        """The same where the format does not show which part is the domain: by trying whole addresses."""
        sample = example(parse_regex(self.text)[0])
        locals_ = [*_LOCAL_PARTS, *([sample.rpartition("@")[0] or sample] if sample else [])]
        return any(self.match(f"{local}@{domain}") is not None for local in locals_ for domain in IMPROBABLE_DOMAINS)


def is_matchable(address: object) -> bool:
    """Whether an address may be shown to a pattern at all: a text of at most MAX_ADDRESS octets, on one line."""
    if not isinstance(address, str) or len(address) > MAX_ADDRESS:
        return False
    if not address.isprintable() and _NO_ADDRESS.search(address):
        return False
    return address.isascii() or len(address.encode()) <= MAX_ADDRESS


def compile_pattern(fmt: str, captures: Mapping[str, str], *, regex: bool = False) -> Pattern:
    """Make the pattern of a format: each `(name)` becomes a group with that capture's regular expression.

    Captures that do not occur are left out. With `regex`, text outside captures is a regular expression too.
    Raises RouteError: an unknown capture, an expression that is not valid or can be slow, or, without `regex`, text
    that looks like an expression.
    """
    if not isinstance(fmt, str) or not fmt:
        raise RouteError(f"a route needs a format such as 'order@(host)', not {fmt!r}")
    try:
        pieces = list(_regex_pieces(fmt) if regex else _literal_pieces(fmt))
        known = {piece.text: _known(piece.text, captures) for piece in pieces if piece.is_capture}
        made = _from_regex(fmt, pieces, known, captures) if regex else _from_literals(fmt, pieces, known, captures)
        found = {name: given for name in known if isinstance(given := captures[name], Capability)}
        if found:
            made.capabilities = found
        return made
    except RouteError as error:
        raise RouteError(f"route {fmt!r}: {error}") from error.__cause__


def check_capture(name: str, text: str) -> None:
    """Raise RouteError unless `text` may be the regular expression of a capture called `name`."""
    _known(name, {name: text})


def _known(name: str, captures: Mapping[str, str]) -> _Capture:
    if name not in captures:
        known = ", ".join(sorted(captures)) or "none"
        raise RouteError(
            f"there is no capture {name!r} (known: {known}); give one to the route, or to all of them "
            f"by App(captures={{{name!r}: ...}}), "
            f"or write a group that is none as (?:{name}) in route.regex"
        )
    text = captures[name]
    if not isinstance(text, str) or not name.isidentifier():
        raise RouteError(f"capture {name!r} is {text!r}; it needs a name and a regular expression, or literal(...)")
    try:
        return _capture(str(text))
    except RouteError as error:
        raise RouteError(f"capture {name!r}: {error}") from error.__cause__


@lru_cache(maxsize=1024)
def _capture(text: str) -> _Capture:
    """Read a capture's expression by itself, so that it cannot leak into what stands around it (rule routing.B9)."""
    _refuse_numbers(text)
    tree, names = parse_regex(text)
    if names:
        raise RouteError(f"{text!r} has a named group of its own; only the route names captures")
    _refuse_slow(text, tree)
    return _Capture(literal_runs(tree), count_loops(tree))


def _refuse_slow(text: str, tree: Node) -> None:
    reason = why_slow(tree)
    if reason is not None:
        raise RouteError(
            f"{text!r} can take very long on a hostile address: {reason}; "
            "let each part exclude the sign that ends it, as in [^-@]+"
        )


def _refuse_numbers(text: str) -> None:
    """A group's number changes when the expression becomes part of another one."""
    if re.search(r"(?<!\\)(?:\\\\)*(?:\\[1-9]|\(\?\(\d)", text):
        raise RouteError(f"{text!r} refers to a group by its number, which is not the same in the finished pattern")


# -- text is text ---------------------------------------------------------------------------------------------------


def _literal_pieces(fmt: str) -> Iterator[_Piece]:
    end = 0
    for found in _CAPTURE.finditer(fmt):
        if found[1].isidentifier():
            if end < found.start():
                yield _Piece(fmt[end : found.start()], False)
            yield _Piece(found[1], True)
            end = found.end()
    if end < len(fmt):
        yield _Piece(fmt[end:], False)


def _from_literals(
    fmt: str, pieces: list[_Piece], known: Mapping[str, _Capture], captures: Mapping[str, str]
) -> Pattern:
    _refuse_likeness(pieces)
    if len(known) < sum(piece.is_capture for piece in pieces):
        raise RouteError("a capture stands in it twice")
    parts = [_part(piece, captures) for piece in pieces]
    text = f"(?:{''.join(parts)})\\Z"
    if sum(capture.loops for capture in known.values()) > MAX_SHARED_LOOPS:
        _refuse_slow(fmt, parse_regex(text)[0])
    runs: list[str | None] = []
    for piece in pieces:
        runs.extend(known[piece.text].runs if piece.is_capture else (piece.text,))
    pattern = Pattern(fmt, text, join_runs(runs), frozenset(known), is_regex=False)
    pattern._domain = _domain_of(pieces, captures)
    pattern._pieces = tuple(
        (_known_text(piece, captures), piece.text if piece.is_capture else None) for piece in pieces
    )
    return pattern


def _known_text(piece: _Piece, captures: Mapping[str, str]) -> str:
    """The text of a piece that is always the same, else empty."""
    if not piece.is_capture:
        return piece.text
    capture = captures[piece.text]
    return capture.text if isinstance(capture, Literal) else ""


def _part(piece: _Piece, captures: Mapping[str, str]) -> str:
    return f"(?P<{piece.text}>{captures[piece.text]})" if piece.is_capture else re.escape(piece.text)


def _refuse_likeness(pieces: list[_Piece]) -> None:
    """Refuse what was surely meant as a regular expression, before it silently matches nothing (rule routing.B9)."""
    for number, piece in enumerate(pieces):
        if piece.is_capture:
            continue
        found = _LIKE_REGEX.search(piece.text)
        # A plus between two captures, or within text, is a sub-address; after a capture and before nothing it repeats.
        at_end = number + 1 == len(pieces)
        if found is None and number and (piece.text.startswith("+@") or (piece.text == "+" and at_end)):
            found = re.match(r"\+", piece.text)
        if found is not None:
            raise RouteError(
                f"{found[0]!r} looks like a regular expression, but text outside captures is taken literally; "
                f"use route.regex(...), or a capture that is literal({found[0]!r})"
            )


def _domain_of(pieces: list[_Piece], captures: Mapping[str, str]) -> str | None:
    """The expression of what follows the last literal "@", or None if there is none."""
    for number in reversed(range(len(pieces))):
        piece = pieces[number]
        if not piece.is_capture and "@" in piece.text:
            rest = [_Piece(piece.text.rpartition("@")[2], False), *pieces[number + 1 :]]
            return "".join(_part(part, captures) for part in rest)
    return None


def _names_its_domain(runs: Sequence[str | None]) -> bool:
    """Whether the literal text after an "@" is in none of the improbable domains: the quick answer for most routes."""
    last = max((number for number, run in enumerate(runs) if run and "@" in run), default=None)
    if last is None:
        return False
    texts = [(runs[last] or "").rpartition("@")[2], *(run for run in runs[last + 1 :] if run)]
    return any(
        text.isascii() and not any(text.lower() in improbable for improbable in IMPROBABLE_DOMAINS) for text in texts
    )


@lru_cache(maxsize=1024)
def _takes_any_domain(domain: str) -> bool:
    compiled = re.compile(f"(?:{domain})\\Z", re.IGNORECASE)
    return any(compiled.match(improbable) for improbable in IMPROBABLE_DOMAINS)


# -- text is a regular expression -----------------------------------------------------------------------------------

# What is no capture: an escaped sign, a set, a comment, or any other sign.
_REGEX_PIECE = re.compile(r"\((?P<name>[^\W\d]\w*)\)|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?#[^)]*\)|.", re.DOTALL)


def _regex_pieces(fmt: str) -> Iterator[_Piece]:
    text = ""
    for found in _REGEX_PIECE.finditer(fmt):
        if found["name"] is None:
            text += found[0]
            continue
        if text:
            yield _Piece(text, False)
            text = ""
        yield _Piece(found["name"], True)
    if text:
        yield _Piece(text, False)


def _from_regex(fmt: str, pieces: list[_Piece], known: Mapping[str, _Capture], captures: Mapping[str, str]) -> Pattern:
    _refuse_numbers(fmt)
    body = "".join(_part(piece, captures) if piece.is_capture else piece.text for piece in pieces)
    # It is read by itself, so that no bracket of it closes the one that anchors it.
    tree, names = parse_regex(body)
    _refuse_slow(fmt, tree)
    return Pattern(fmt, f"(?:{body})\\Z", literal_runs(tree), names, is_regex=True)
