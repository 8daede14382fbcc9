"""Small values that the copies of this role share, in the bucket ``MODELS``, which forgets them after its TTL."""

from typing import Generic, TypeVar

import msgspec

from mesh import subjects
from mesh.bus import Bus
from mesh.errors import BusUnavailableError, ConflictError
from mesh.permissions import kv_stream

T = TypeVar("T")

_STREAM = kv_stream(subjects.MODELS_BUCKET)
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_CONFLICT = 10071

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
        headers = {} if expected is None else {_EXPECTED: str(expected)}
        answer = await self._bus.request(self._subject(key), _encode(value), headers)
        told = msgspec.json.decode(answer.data, type=_PubAck)
        if told.error is None:
            return told.seq
        if told.error.err_code == _CONFLICT:
            raise ConflictError(self._subject(key), "another copy has put something since it was read")
        raise BusUnavailableError(f"the bus did not store {self._subject(key)}: {told.error.description}")

    def _subject(self, key: str) -> str:
        return f"$KV.{subjects.MODELS_BUCKET}.{self._prefix}.{key}"


class _Error(msgspec.Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct, frozen=True):
    seq: int = 0
    error: _Error | None = None
