"""Watches how full the embedded server is: JetStream turns itself off on a full disk, and never looks again.

The rule: as soon as there is room the server is restarted with it, so that writers, who wait, go on by themselves.
"""

import asyncio

import msgspec
import structlog

from mesh.bus import Bus
from mesh.embedded import EmbeddedNats
from mesh.errors import BusUnavailableError
from mesh.natsconf import JSZ

log = structlog.get_logger(__name__)

_EVERY_S = 1.0
# Enough for a few thousand records: with less the server would be full again at once.
ROOM_BYTES = 16 * 1024 * 1024


class _Config(msgspec.Struct, frozen=True):
    max_storage: int = 0


class _Data(msgspec.Struct, frozen=True):
    config: _Config = _Config()
    disabled: bool = False
    storage: int = 0
    bytes: int = 0


class _Jsz(msgspec.Struct, frozen=True):
    data: _Data = _Data()

    def is_full(self) -> bool:
        """Whether JetStream has turned itself off, or is about to refuse for its limit."""
        data = self.data
        return data.disabled or max(data.storage, data.bytes) + _LAST_RECORDS >= data.config.max_storage > 0


_LAST_RECORDS = 1024 * 1024


async def watch(server: EmbeddedNats, bus: Bus) -> None:
    """Look every second, until cancelled. Where the settings limit the store, only a person can make room."""
    told = failed = False
    while True:
        await asyncio.sleep(_EVERY_S)
        failed = server.write_failed() or failed
        limited = await is_full(bus)
        if not failed and not limited:
            told = False
        elif server.free_bytes() >= ROOM_BYTES and (failed or not server.is_limited):
            log.warning("bus_restarted_with_more_room", free_bytes=server.free_bytes())
            server.restart()
            told = failed = False
        elif not told:
            told = True
            log.error(
                "bus_full",
                reason="nothing is lost, writers wait; make room on the disk (or raise bus.max_file_store_bytes)",
                free_bytes=server.free_bytes(),
                needed_bytes=ROOM_BYTES,
                folder=str(server.folder),
            )


async def stored(bus: Bus) -> tuple[int, int]:
    """What the server keeps on disk and what it may, in bytes; raises ``BusUnavailableError``."""
    answer = await bus.request(JSZ, b'{"config":true}', timeout_s=1.0)
    data = msgspec.json.decode(answer.data, type=_Jsz).data
    return max(data.storage, data.bytes), data.config.max_storage


async def is_full(bus: Bus) -> bool:
    """Whether the server says that it has no room; no answer is no yes."""
    try:
        answer = await bus.request(JSZ, b'{"config":true}', timeout_s=1.0)
    except BusUnavailableError:
        return False
    return msgspec.json.decode(answer.data, type=_Jsz).is_full()
