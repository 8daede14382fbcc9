"""What the shop says was done to it: its own log of changes."""

from mesh.applied import Applied, AppliedPage
from packs.retail.client import Shop


async def shop_log(shop: Shop, cursor: str) -> AppliedPage:
    """The changes behind a sequence; raises ``NotSentError`` when the shop cannot tell."""
    entries = await shop.changes(int(cursor or "0"))
    return AppliedPage(
        [Applied(entry.key, entry.kind) for entry in entries], str(entries[-1].seq) if entries else cursor
    )
