"""How far each source has been read, in the bucket ``INTAKE``: any copy of intake goes on from there."""

from urllib.parse import quote

from mesh import subjects
from mesh.bus import Bus
from mesh.permissions import kv_stream

_STREAM = kv_stream(subjects.INTAKE_BUCKET)


class BucketMarks:
    """Marks by name; a name may hold any text."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def get(self, name: str) -> bytes | None:
        """The mark of this name, or ``None``; raises ``BusUnavailableError``."""
        message = await self._bus.last(_STREAM, _subject(name))
        return None if message is None or message.is_forwarded else message.data

    async def put(self, name: str, value: bytes) -> None:
        """Set it; raises ``BusUnavailableError``."""
        await self._bus.store(_subject(name), value)


def _subject(name: str) -> str:
    safe = quote(name, safe="").replace(".", "%2E").replace("~", "%7E").replace("%", "=")
    return f"$KV.{subjects.INTAKE_BUCKET}.mark.{safe}"
