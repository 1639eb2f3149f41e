"""What both machines know of a list: its name, its members, and the header fields that tell it (RFC 2369, RFC 2919)."""

import re

import msgspec

from monsal import current


class Leave(msgspec.Struct):
    """Whoever it was made for leaves by it, without a question: the membership that it is about, and no later one."""

    joined: int


def name_of(address):
    """The list that an address is about: tea@, tea-subscribe@ and tea-l+...@ are all of tea."""
    return address.partition("@")[0].partition("-")[0].lower()


def host_of(address):
    return address.rpartition("@")[2].lower()


def members(name, *, digest):
    """The addresses of those who get each mail, or of those who get the digest."""
    rows = current().read("select address from member where list = ? and digest = ?", (name, int(digest)))
    return [address for (address,) in rows]


def membership(name, address):
    """The number of somebody's membership; None if they are no member."""
    rows = current().read("select joined from member where list = ? and address = ?", (name, address))
    return rows[0][0] if rows else None


def way_out(name, host, address, joined):
    """The address by which that member leaves, without a question."""
    return current().address_for(Leave(joined=joined), correspondent=address, name=name, host=host)


def is_way_out(address):
    """Whether it is of the kind of `way_out`; whether it was signed, `deliver` finds out."""
    return re.fullmatch(r"[a-z]+-l\+[a-z0-9]+@[a-z0-9.-]+", address) is not None


def headers(name, host, *, leave=None, who=""):
    """The fields of a mail of the list. `leave` is the address by which `who` leaves without a question, for a mail to
    them alone: it comes with a link for one click (RFC 8058), as whoever has the one may do what the other does."""
    one_click = {}
    unsubscribe = f"<mailto:{leave or f'{name}-unsubscribe@{host}'}>"
    if leave:
        unsubscribe = f"<{current().url_for('/list/leave', by=leave, who=who)}>, {unsubscribe}"
        one_click = {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    return {
        **one_click,
        "List-Id": f"<{name}.{host}>",
        "List-Post": f"<mailto:{name}@{host}>",
        "List-Subscribe": f"<mailto:{name}-subscribe@{host}>",
        "List-Unsubscribe": unsubscribe,
        "Precedence": "list",
    }
