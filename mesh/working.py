"""Short-term memory: what an agent has found out for a task so far, so that another copy of it can go on from there.

The rule: what was put is on disk before ``put`` returns, and whoever was overtaken by another copy is told so and puts
nothing: a task has one working context, whoever works on it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from mesh import subjects
from mesh.bus import Bus
from mesh.errors import BusUnavailableError, ConflictError, TerminalError
from mesh.permissions import kv_stream

T = TypeVar("T")

MAX_BYTES: Final = 64 * 1024  # of one task: more than that is kept by reference
_TASKS_MAX = 1024  # contexts remembered in the process; a context that is not is read again
_STREAM = kv_stream(subjects.WORKING_BUCKET)
_CLEARED = {"KV-Operation": "DEL"}

_Parts = dict[str, msgspec.Raw]
_decode = msgspec.json.Decoder(_Parts).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Held:
    """A task's context as it stands in the bucket, and its sequence there (0: nothing ever stood)."""

    seq: int
    parts: Mapping[str, msgspec.Raw]


class WorkingMemory:
    """The working contexts of the tasks of one role, in the bucket ``WORKING``, which forgets them after its TTL.

    A context is one value: parts that are put together are there together, or none is.
    """

    def __init__(self, bus: Bus, role: str) -> None:
        self._bus = bus
        self._role = role
        self._held: OrderedDict[str, _Held] = OrderedDict()

    async def get(self, task: str, name: str, kind: type[T]) -> T | None:
        """One part, or ``None``; raises ``TerminalError`` when it is not of this type."""
        return (await self.get_all(task, {name: kind})).get(name)

    async def get_all(self, task: str, kinds: Mapping[str, type[Any]]) -> dict[str, Any]:
        """The parts of these names that are there, each of its type."""
        parts = (await self._current(task)).parts
        try:
            return {name: msgspec.json.decode(parts[name], type=kind) for name, kind in kinds.items() if name in parts}
        except msgspec.DecodeError as error:
            raise TerminalError(f"the working context of task {task} is not as expected: {error}") from error

    async def names(self, task: str) -> tuple[str, ...]:
        """The names of all parts."""
        return tuple((await self._current(task)).parts)

    async def put(self, task: str, values: Mapping[str, Any]) -> None:
        """Add or replace parts, all at once.

        Raises ``ConflictError`` when another copy has put something since this one read it (what it put is read by the
        next ``get``), ``TerminalError`` when the context would be too large, ``BusUnavailableError``.
        """
        held = await self._current(task)
        parts = {**held.parts, **{name: msgspec.Raw(_encode(value)) for name, value in values.items()}}
        await self._store(task, held, parts)

    async def drop(self, task: str, names: Iterable[str]) -> None:
        """Forget parts, all at once; raises as ``put`` does."""
        held = await self._current(task)
        gone = set(names)
        await self._store(task, held, {name: part for name, part in held.parts.items() if name not in gone})

    async def clear(self, task: str) -> None:
        """Forget the task, which has ended; whoever works on it still is told by its next ``put``."""
        held = await self._current(task)
        if held.parts:
            await self._publish(task, b"", held.seq, _CLEARED)
        self._held.pop(task, None)

    def forget(self, task: str) -> None:
        """Drop what this process remembers: a task that comes again is read anew."""
        self._held.pop(task, None)

    async def _current(self, task: str) -> _Held:
        held = self._held.get(task)
        if held is None:
            stands = await self._bus.last(_STREAM, self._subject(task))
            parts: _Parts = {}
            if stands is not None and stands.data and not stands.is_forwarded:
                parts = self._parts(task, stands.data)
            held = self._remember(task, _Held(stands.seq if stands else 0, parts))
        self._held.move_to_end(task)
        return held

    async def _store(self, task: str, held: _Held, parts: Mapping[str, msgspec.Raw]) -> None:
        data = _encode(parts)
        if len(data) > MAX_BYTES:
            raise TerminalError(
                f"the working context of task {task} would have {len(data)} bytes; {MAX_BYTES} are allowed"
            )
        seq = await self._publish(task, data, held.seq, {})
        self._remember(task, _Held(seq, parts))

    async def _publish(self, task: str, data: bytes, expected: int, headers: Mapping[str, str]) -> int:
        """Store it in the place of what was read. A publish whose answer was lost is found there, and is ours."""
        subject = self._subject(task)
        try:
            return await self._bus.store(subject, data, expected, headers)
        except (BusUnavailableError, ConflictError):
            self.forget(task)  # it may stand there, or not: what stands is read again
            raise

    def _remember(self, task: str, held: _Held) -> _Held:
        self._held[task] = held
        while len(self._held) > _TASKS_MAX:
            self._held.popitem(last=False)
        return held

    @staticmethod
    def _parts(task: str, data: bytes) -> _Parts:
        try:
            return _decode(data)
        except msgspec.DecodeError as error:
            raise TerminalError(f"the working context of task {task} cannot be read: {error}") from error

    def _subject(self, task: str) -> str:
        return f"$KV.{subjects.WORKING_BUCKET}.{self._role}.{task}"
