"""Forgetting a subject for privacy law: out of the stream, the tables, the index, and what agents keep.

The rule: that it is to be forgotten is on record first; then every copy takes it out, and whoever was killed on the way
goes on with it at the next start.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from memory_service.view import FactView
from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.clock import now
from mesh.errors import BusUnavailableError, TerminalError
from mesh.facts import Erased, subject_token
from mesh.memory import ChangeAnswer, ForgetRequest
from mesh.records import Json

log = structlog.get_logger(__name__)

Append = Callable[[str, Erased], Awaitable[int]]

_PAGE = 256
_AT_ONCE = 32
_GONE = {10037, 10043, 10057}  # no such message or sequence: another copy was faster
_AGAIN_S = 1.0  # a look at a table of this copy's own


class Eraser:
    """Takes forgotten subjects out of ``MEMORY``."""

    def __init__(self, bus: Bus, view: FactView, append: Append) -> None:
        self._bus = bus
        self._view = view
        self._append = append

    async def forget(self, said: ForgetRequest, by: str, signed: Json) -> ChangeAnswer:
        """Put it on record, and return when nothing is left; raises ``TerminalError`` for an unknown subject."""
        scope, subject = said.scope.token, subject_token(said.scope, said.subject)
        events = len(await self._left(scope, subject, None))
        if not events:
            raise TerminalError(f"nothing is known of {said.subject!r} in {said.scope.text}: nothing to forget")
        event = Erased(
            at=now(), by=by, signed=signed, scope_token=scope, subject_token=subject, events=events, reason=said.reason
        )
        seq = await self._append(subjects.fact(scope, subject, "-"), event)
        await self.sweep(scope, subject, seq)
        await self._view.purge()
        return ChangeAnswer(seq=seq, changed=events)

    async def run(self) -> None:
        """Finish what others, or this copy before it was killed, have begun; until cancelled."""
        while True:
            try:
                for scope, subject, seq in self._view.table.unswept():
                    await self.sweep(scope, subject, seq)
                    await self._view.purge()
            except BusUnavailableError as error:
                log.warning("erasing_waits", error=str(error))
            await asyncio.sleep(_AGAIN_S)

    async def sweep(self, scope: str, subject: str, seq: int) -> None:
        """Delete the events of a subject that are older than its erasure, overwritten on the server's disk."""
        left = await self._left(scope, subject, seq)
        for start in range(0, len(left), _AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for message in left[start : start + _AT_ONCE]:
                    group.create_task(self._delete(message), name=f"erase-{message.seq}")
        if still := await self._left(scope, subject, seq):
            raise BusUnavailableError(f"{len(still)} event(s) of a forgotten subject are still there: it goes on")
        self._view.table.swept(scope, subject, seq)

    async def _left(self, scope: str, subject: str, before: int | None) -> list[StoredMessage]:
        """The subject's events that are not erasures themselves."""
        flt, own = subjects.fact(scope, subject, "*"), subjects.fact(scope, subject, "-")
        found: list[StoredMessage] = []
        start = 1
        while page := await self._bus.read(subjects.MEMORY, start, _PAGE, flt):
            found += [item for item in page if item.subject != own and (before is None or item.seq < before)]
            start = page[-1].seq + 1
        return found

    async def _delete(self, message: StoredMessage) -> None:
        # no_erase false has the server write over the message's bytes on disk (NATS, STREAM.MSG.DELETE).
        answer = await self._bus.api(f"STREAM.MSG.DELETE.{subjects.MEMORY}", {"seq": message.seq, "no_erase": False})
        error = answer.get("error")
        if error and error.get("err_code") not in _GONE:
            raise TerminalError(
                f"the bus does not delete what is to be forgotten: {error.get('description')} "
                f"({error.get('err_code')}); stream {subjects.MEMORY} must not have deny_delete"
            )
