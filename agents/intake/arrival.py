"""What came in from a source, as bytes, before anything is understood of it."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One input as it came; ``key`` names it at its source, the same however often it comes."""

    source: str
    key: str
    data: bytes = field(repr=False)
    content_type: str = "message/rfc822"
    headers: Mapping[str, str] = field(default_factory=dict)
    received_at: datetime

    @property
    def digest(self) -> str:
        """SHA-256 of the data, in hex."""
        return hashlib.sha256(self.data).hexdigest()


Take = Callable[[Arrival], Awaitable[None]]
"""Returns when the arrival is durable (an event, or in quarantine); raises ``RetryableError`` while the bus is away."""
