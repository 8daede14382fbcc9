"""What polls each kind of source."""

from agents.intake.arrival import Marks, Take
from mesh.errors import SettingsError
from mesh.sources import SourceSettings


async def poll(name: str, setting: SourceSettings, take: Take, marks: Marks) -> None:
    """Poll one source until cancelled."""
    raise SettingsError(f"intake.sources.{name}: nothing polls {type(setting).__name__}")
