"""The bus as an operator's command sees it: one short connection under the operator's own key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.bus import Bus, connect
from mesh.errors import SettingsError
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
    path = settings.identity_path(ROLE)
    if not path.exists():
        raise SettingsError(
            f"no site in {settings.state_dir.resolve()} ({path} is not there): start `workmesh up`, or set "
            "WORKMESH_STATE_DIR to the folder of one"
        )
    identity = Identity.load(path)
    async with connect(
        bus_url(settings),
        name=f"{ROLE}/{settings.instance}",
        options=identity.nats_options(),
        tls=settings.bus.tls,
        connect_timeout_s=settings.bus.connect_timeout_s,
        request_timeout_s=settings.bus.request_timeout_s,
    ) as bus:
        yield bus
