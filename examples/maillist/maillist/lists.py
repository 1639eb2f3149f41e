"""What both machines know of a list: its name, its members, and the header fields that tell it (RFC 2369, RFC 2919)."""

from monsal import current


def name_of(address):
    """The list that an address is about: tea@, tea-subscribe@ and tea-l+...@ are all of tea."""
    return address.partition("@")[0].partition("-")[0].lower()


def host_of(address):
    return address.rpartition("@")[2].lower()


def members(name, *, digest):
    """The addresses of those who get each mail, or of those who get the digest."""
    rows = current().read("select address from member where list = ? and digest = ?", (name, int(digest)))
    return [address for (address,) in rows]


def headers(name, host, *, leave=None):
    """The fields of a mail of the list. `leave` is an address that asks nothing, for a mail to one person."""
    return {
        "List-Id": f"<{name}.{host}>",
        "List-Post": f"<mailto:{name}@{host}>",
        "List-Subscribe": f"<mailto:{name}-subscribe@{host}>",
        "List-Unsubscribe": f"<mailto:{leave or f'{name}-unsubscribe@{host}'}>",
        "Precedence": "list",
    }
