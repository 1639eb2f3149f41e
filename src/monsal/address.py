"""Mail addresses: `local@domain`, without display name or angle brackets.

The local part keeps its case (it may carry a token); `fold` gives the form used for keys and comparison.
"""

from __future__ import annotations

import re
from functools import lru_cache

from monsal.errors import AddressError

__all__ = ["MAX_ADDRESS", "fold", "is_address", "split_address", "unquote_local"]

#: Octets of a path: 64 of the local part, 255 of the domain and the sign between (RFC 5321, section 4.5.3.1).
MAX_ADDRESS = 320

# Dot-string and quoted-string of RFC 5321 section 4.1.2, with the UTF-8 of RFC 6531; leading, trailing and double
# dots in the local part are let through, because living systems write them. `\Z`, never `$`: a newline is no end.
# The classes name the ASCII that is not allowed: naming the rest of Unicode makes `re` compile for 20 ms.
_ATOM = r'[^\x00-\x20"(),:;<>@\[\\\]\x7f]+'
_QUOTED = r'"(?:[^\x00-\x1f"\\\x7f]|\\[ -~])*"'
_WORD = r"[^\x00-/:-@\[-^`{-\x7f]"
_WORD_OR_HYPHEN = r"[^\x00-,./:-@\[-^`{-\x7f]"
_LABEL = rf"{_WORD}(?:{_WORD_OR_HYPHEN}*{_WORD})?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Za-z:.]+\])"
_ADDRESS = re.compile(rf"({_ATOM}|{_QUOTED})@({_DOMAIN})\Z")
_CONTROL = re.compile(r"[\u0080-\u009f\u2028\u2029\ud800-\udfff]")


# The few addresses of a mail are split some twenty times in its turn, which took 30 us. What is kept is bounded in
# number and length: a text that is no address is not kept.
@lru_cache(maxsize=4096)
def split_address(text: str) -> tuple[str, str]:
    """Split a bare address into local part and domain, both as written.

    Raises AddressError if `text` is no `local@domain` or longer than MAX_ADDRESS octets.
    """
    if len(text) > MAX_ADDRESS or len(text.encode("utf-8", "surrogatepass")) > MAX_ADDRESS:
        raise AddressError(f"an address has at most {MAX_ADDRESS} octets; this one starts with {text[:40]!r}")
    match = _ADDRESS.match(text)
    if match is None or _CONTROL.search(text):
        raise AddressError(f"not a mail address: {text!r}; expected local@domain")
    return match.group(1), match.group(2)


def is_address(text: str) -> bool:
    """Whether `text` is a bare `local@domain`."""
    try:
        split_address(text)
    except AddressError:
        return False
    return True


def fold(address: str) -> str:
    """The form of an address that is used as a key: lower case, without a final dot of the domain.

    RFC 5321 leaves the case of local parts to the receiving system; people write both, so both mean one person.
    """
    return address.lower().removesuffix(".")


def unquote_local(local: str) -> str:
    """The local part without its quotes and backslashes (RFC 5321, section 4.1.2, Quoted-string)."""
    if len(local) >= 2 and local[0] == local[-1] == '"':
        return re.sub(r"\\(.)", r"\1", local[1:-1])
    return local
