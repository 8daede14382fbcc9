"""What the registry says was done to it: its own log of changes."""

from mesh.applied import Applied, AppliedPage
from packs.outbreak.client import RegistryClient


async def registry_log(registry: RegistryClient, cursor: str) -> AppliedPage:
    """The changes behind a sequence; raises ``NotSentError`` when the registry cannot tell."""
    entries = await registry.changes(int(cursor or "0"))
    return AppliedPage(
        [Applied(entry.key, entry.kind) for entry in entries], str(entries[-1].seq) if entries else cursor
    )
