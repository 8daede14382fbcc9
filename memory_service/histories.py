"""What was recorded of a slot, told from the stream itself."""

from collections import deque

import msgspec

from memory_service.view import FactView
from mesh import subjects
from mesh.bus import Bus
from mesh.errors import TerminalError
from mesh.facts import AnyFactEvent, Asserted, Resolved, Retracted, Slot
from mesh.memory import HistoryLine

_PAGE = 256

_decode = msgspec.json.Decoder(AnyFactEvent).decode


class Histories:
    """Reads the events of slots."""

    def __init__(self, bus: Bus, view: FactView) -> None:
        self._bus = bus
        self._view = view

    async def of(self, slot: Slot, limit: int) -> list[HistoryLine]:
        """The last ``limit`` events of a slot, oldest first."""
        found: deque[HistoryLine] = deque(maxlen=limit)
        subject, start = subjects.fact(*slot.tokens), 1
        while page := await self._bus.read(subjects.MEMORY, start, _PAGE, subject):
            for message in page:
                message.require_published()
                try:
                    event = _decode(message.data)
                except msgspec.DecodeError as error:
                    raise TerminalError(f"{subject} at {message.seq} holds no event of memory: {error}") from error
                found.append(self._line(event, message.seq))
            start = page[-1].seq + 1
        return list(found)

    def _line(self, event: AnyFactEvent, seq: int) -> HistoryLine:
        match event:
            case Asserted():
                facts = tuple(self._view.standing(fact.id for fact in event.facts))
                return HistoryLine(seq=seq, at=event.at, by=event.by, what="asserted", facts=facts)
            case Retracted():
                what = f"retracted {', '.join(event.ids)}"
            case Resolved():
                what = f"chose {event.chosen}" if event.chosen else "chose none of them"
            case _:
                raise TerminalError(f"an event of a slot cannot be {type(event).__name__} (sequence {seq})")
        return HistoryLine(seq=seq, at=event.at, by=event.by, what=what, reason=event.reason)
