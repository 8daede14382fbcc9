"""What polls each kind of source."""

from agents.intake.arrival import Marks, Take
from agents.intake.documents.folder import watch_folder
from agents.intake.documents.table import poll_table
from mesh.errors import SettingsError
from mesh.sources import Folder, SourceSettings, Table


async def poll(name: str, setting: SourceSettings, take: Take, marks: Marks) -> None:
    """Poll one source until cancelled; raises ``SettingsError`` for one that can never be read."""
    match setting:
        case Folder():
            await watch_folder(name, setting, take)
        case Table():
            await poll_table(name, setting, take, marks)
        case _:
            raise SettingsError(f"intake.sources.{name}: nothing polls {type(setting).__name__}")
