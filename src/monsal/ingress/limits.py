"""What the connections of an ingress share and may use up: places, a rate, memory."""

from __future__ import annotations

import ipaddress
import resource

import msgspec

from monsal.errors import ConfigError

__all__ = ["IngressSettings", "MemoryBudget", "PeerLimits", "peer_of", "usable_connections"]

#: Files kept free for the store, outgoing connections and logs.
_RESERVED_FILES = 64
#: Peers whose rate is remembered; more within a minute is an attack, and forgetting is all one can do.
_MAX_RATES = 65_536
_RATE_PERIOD = 60.0
#: Octets up to which a content is small: the last quarter of the memory is kept for such.
_SMALL_CONTENT = 128 * 1024


class IngressSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of an ingress; times in seconds, sizes in octets.

    The limits per peer are per address (IPv6: per /64) and not for loopback or unix sockets. `idle_timeout` runs
    from the last reply to the next complete command, and between two packets of content (RFC 5321, section
    4.5.3.2.7 asks for 5 minutes); `first_mail_timeout` from the connection to the first MAIL; `data_timeout` is for
    one whole content, which after `data_grace` must have come with `min_data_rate` octets a second on average. A peer
    that reads no replies for `write_timeout` is dropped, one whose TLS handshake or PROXY header is not complete after
    `handshake_timeout`, too. `linger` is how long a peer that
    still talks is listened to after our last word, so that it can read that. `max_memory` is content in memory over
    all connections. An idle connection may be closed for a new one after `eviction_age`.
    `sharing` is how many share the process's files in equal parts. Raises ConfigError.
    """

    max_connections: int = 1000
    max_connections_per_peer: int = 100
    max_connections_per_minute: int = 600
    max_memory: int = 256 * 1024 * 1024
    max_write_buffer: int = 64 * 1024
    idle_timeout: float = 300.0
    first_mail_timeout: float = 300.0
    data_timeout: float = 900.0
    data_grace: float = 30.0
    min_data_rate: int = 1000
    write_timeout: float = 60.0
    handshake_timeout: float = 30.0
    linger: float = 2.0
    eviction_age: float = 1.0
    sharing: int = 1

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")

    @property
    def tick(self) -> float:
        """How often the time-outs are looked at: often enough for the shortest of them, at most every 50 ms."""
        incoming = min(self.idle_timeout, self.first_mail_timeout, self.data_timeout, self.handshake_timeout)
        shortest = min(incoming, self.write_timeout, self.linger)
        return min(max(shortest / 4, 0.05), 5.0)


class MemoryBudget:
    """Octets of content that may be in memory at once. One budget may be shared by several ingresses.

    Large contents have three quarters of it together, so that they never keep small ones out (P7).
    """

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, octets: int) -> bool:
        """Reserve `octets` for one content; False, and nothing reserved, if they are not left."""
        if not self.has(octets):
            return False
        self.held += octets
        return True

    def give(self, octets: int) -> None:
        """Give back what was taken."""
        self.held -= octets

    def has(self, octets: int) -> bool:
        """Whether `octets` are left for one content."""
        limit = self.limit if octets < _SMALL_CONTENT else self.limit - self.limit // 4
        return self.held + octets <= limit


class PeerLimits:
    """Connections per peer, open and per minute. Peers are the strings of `peer_of`."""

    __slots__ = ("_open", "_period", "_rates", "_settings")

    def __init__(self, settings: IngressSettings) -> None:
        self._settings = settings
        self._open: dict[str, int] = {}
        self._rates: dict[str, int] = {}
        self._period = 0.0

    def enter(self, peer: str, now: float) -> bool:
        """Count a new connection of `peer`; False, and it is not counted as open, if it has too many."""
        if now - self._period >= _RATE_PERIOD or len(self._rates) >= _MAX_RATES:
            self._rates.clear()
            self._period = now
        rate = self._rates.get(peer, 0) + 1
        self._rates[peer] = rate
        count = self._open.get(peer, 0)
        if rate > self._settings.max_connections_per_minute or count >= self._settings.max_connections_per_peer:
            return False
        self._open[peer] = count + 1
        return True

    def leave(self, peer: str) -> None:
        """A connection that was let in is closed."""
        left = self._open[peer] - 1
        if left:
            self._open[peer] = left
        else:
            del self._open[peer]


def peer_of(address: object) -> str | None:
    """By what the connections of a peer are counted: its address, or its /64; None for loopback and unix sockets."""
    if not isinstance(address, tuple):
        return None
    host = str(address[0])
    if host.startswith("127.") or host == "::1":
        return None
    if ":" not in host:
        return host
    parsed = ipaddress.IPv6Address(host.partition("%")[0])
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((parsed, 64), strict=False))


def usable_connections(wanted: int, sharing: int = 1) -> int:
    """`wanted`, or fewer if the process may not open that many files: a full table would stop the store too. `sharing`
    is how many take as many, so that a flood at one door leaves the others what they need (P7)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (soft - _RESERVED_FILES) // max(1, sharing)))
