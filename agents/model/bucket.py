"""Small values that the copies of this role share, in the bucket ``MODELS``, which forgets them after its TTL."""

from typing import Generic, TypeVar

import msgspec

from mesh import subjects
from mesh.bus import Bus
from mesh.permissions import kv_stream

T = TypeVar("T")

_STREAM = kv_stream(subjects.MODELS_BUCKET)

_encode = msgspec.json.Encoder().encode


class Shelf(Generic[T]):
    """Values of one type under ``<prefix>.<key>``; a key is one token."""

    def __init__(self, bus: Bus, prefix: str, kind: type[T]) -> None:
        self._bus = bus
        self._prefix = prefix
        self._decode = msgspec.json.Decoder(kind).decode

    async def get(self, key: str) -> tuple[int, T | None]:
        """The value as it stands and its sequence (0: nothing ever stood); one that cannot be read is none."""
        found = await self._bus.last(_STREAM, self._subject(key))
        if found is None:
            return 0, None
        if not found.data or found.is_forwarded:
            return found.seq, None
        try:
            return found.seq, self._decode(found.data)
        except msgspec.DecodeError:
            return found.seq, None

    async def put(self, key: str, value: T, expected: int | None = None) -> int:
        """Store it, in the place of what stands at ``expected`` if that is given; its sequence.

        Raises ``ConflictError`` when something else stands there, ``BusUnavailableError``.
        """
        return await self._bus.store(self._subject(key), _encode(value), expected)

    def _subject(self, key: str) -> str:
        return f"$KV.{subjects.MODELS_BUCKET}.{self._prefix}.{key}"
