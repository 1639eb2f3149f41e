"""How fast mail may leave for one domain: a bucket of tokens for each. Pure: the time is an argument."""

from __future__ import annotations

__all__ = ["Pacer"]

#: Seconds of the rate that may leave at once after a rest.
BURST = 5.0
#: Domains that are remembered; those that had a rest are forgotten first, which changes nothing.
MAX_DOMAINS = 10_000


class _Bucket:
    """Tokens at a time, and the time for which the last mail was put off."""

    __slots__ = ("at", "horizon", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at
        self.horizon = 0.0


class Pacer:
    """At most `per_minute` mails to the recipients of one domain, after a rest `BURST` seconds' worth at once."""

    def __init__(self, per_minute: float) -> None:
        if per_minute <= 0:
            raise ValueError("a rate is above 0")
        self._rate = per_minute / 60.0
        self._burst = max(1.0, self._rate * BURST)
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, recipient: str, now: float) -> float:
        """0 if a mail to `recipient` may leave now, which then counts; else when it should come again.

        Those that are put off come at different times, so that each of them is put off once, as a rule.
        """
        domain = recipient.rpartition("@")[2].lower()
        bucket = self._buckets.get(domain)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[domain] = _Bucket(self._burst, now)
        bucket.tokens = self._tokens(bucket, now)
        bucket.at = now
        if bucket.tokens >= 1.0 - 1e-9:
            bucket.tokens -= 1.0
            return 0.0
        soonest = now + (1.0 - bucket.tokens) / self._rate
        # A clock that was set back must not put mail off until it has caught up.
        bucket.horizon = max(soonest, bucket.horizon + 1.0 / self._rate) if bucket.horizon < now + 86400.0 else soonest
        return bucket.horizon

    def _tokens(self, bucket: _Bucket, now: float) -> float:
        return min(self._burst, bucket.tokens + max(0.0, now - bucket.at) * self._rate)

    def _make_room(self, now: float) -> None:
        if len(self._buckets) < MAX_DOMAINS:
            return
        rested = [name for name, bucket in self._buckets.items() if self._tokens(bucket, now) >= self._burst]
        for name in rested or [next(iter(self._buckets))]:
            del self._buckets[name]
