"""One thing that came in, as it came, and what takes it."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """The bytes of one request, mail, file or row. ``key`` names it at its source: the same key is the same thing."""

    source: str
    key: str
    data: bytes = field(repr=False)
    content_type: str = "message/rfc822"
    received_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the bytes, as hex."""
        return sha256(self.data).hexdigest()


def shown_name(name: str) -> str:
    """A file's name as text, where it may be any bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


CUT = "cut"
"""The header of an arrival that was too large, and is not whole: why. It goes to quarantine."""

Take = Callable[[Arrival], Awaitable[None]]
"""Returns when the arrival is durable, as events or in quarantine; raises ``RetryableError`` while it cannot be."""


class Marks(Protocol):
    """How far each source has been read, kept where every copy of intake finds it."""

    async def get(self, name: str) -> bytes | None:
        """The mark of this name, or ``None``."""
        ...

    async def put(self, name: str, value: bytes) -> None:
        """Set it."""
        ...
