"""The bus as an operator's command sees it: one short connection under the operator's own key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.bus import Bus, connect
from mesh.identity import Identity
from mesh.process import bus_url
from mesh.settings import Settings, load

ROLE = "operator"


@asynccontextmanager
async def operator_bus(config: Path | None = None) -> AsyncIterator[tuple[Settings, Bus]]:
    """Settings and bus of a command line call.

    Raises ``SettingsError`` or ``BusUnavailableError`` with what to do.
    """
    settings = load(config)
    async with operating(settings) as bus:
        yield settings, bus


@asynccontextmanager
async def operating(settings: Settings) -> AsyncIterator[Bus]:
    """The operator's connection to the bus of these settings."""
    identity = Identity.load(settings.identity_path(ROLE))
    async with connect(
        bus_url(settings),
        name=f"{ROLE}/{settings.instance}",
        options=identity.nats_options(),
        connect_timeout_s=settings.bus.connect_timeout_s,
        request_timeout_s=settings.bus.request_timeout_s,
    ) as bus:
        yield bus
