"""The provider's rate limits: buckets of requests and of input tokens that fill up again over a minute.

The rule: what a limit refuses takes nothing from it, and says when to come again.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime

_MINUTE_S = 60.0


class _Bucket:
    def __init__(self, a_minute: int, clock: Callable[[], float]) -> None:
        self.size = a_minute
        self._clock = clock
        self._left = float(a_minute)
        self._at = clock()

    def left(self) -> float:
        now = self._clock()
        self._left = min(self.size, self._left + (now - self._at) * self.size / _MINUTE_S)
        self._at = now
        return self._left

    def take(self, amount: float) -> None:
        self._left = self.left() - amount

    def wait_s(self, amount: float) -> float:
        """Seconds until so much is there, or the bucket is full."""
        return max(0.0, (min(amount, self.size) - self.left()) * _MINUTE_S / self.size)

    def full_at(self) -> str:
        at = datetime.fromtimestamp(self._clock() + self.wait_s(self.size), UTC)
        return at.isoformat(timespec="seconds").replace("+00:00", "Z")


class RateLimits:
    """Requests and input tokens a minute; what is read from the prompt cache does not count."""

    def __init__(self, requests: int, tokens: int, clock: Callable[[], float]) -> None:
        self._buckets = {"requests": _Bucket(requests, clock), "input-tokens": _Bucket(tokens, clock)}

    def take(self, tokens: int) -> float:
        """Take one request of so many tokens and answer 0, or answer the seconds to wait."""
        amounts = {"requests": 1, "input-tokens": tokens}
        wait_s = max(bucket.wait_s(amounts[name]) for name, bucket in self._buckets.items())
        if wait_s > 0:
            return wait_s
        for name, bucket in self._buckets.items():
            bucket.take(amounts[name])
        return 0.0

    def headers(self) -> dict[str, str]:
        """What every answer says of the limits."""
        said = {}
        for name, bucket in self._buckets.items():
            said[f"anthropic-ratelimit-{name}-limit"] = str(bucket.size)
            said[f"anthropic-ratelimit-{name}-remaining"] = str(max(0, math.floor(bucket.left())))
            said[f"anthropic-ratelimit-{name}-reset"] = bucket.full_at()
        return said
