"""What the CMS and the site's repository say was done to them: the log of changes, and the commits with a key."""

from mesh.applied import Applied, AppliedPage
from packs.content.client import Cms
from packs.content.reads import Site


async def cms_log(cms: Cms, cursor: str) -> AppliedPage:
    """The changes behind a sequence; raises ``NotSentError`` when the CMS cannot tell."""
    entries = await cms.changes(int(cursor or "0"))
    return AppliedPage(
        [Applied(entry.key, entry.kind) for entry in entries], str(entries[-1].seq) if entries else cursor
    )


async def commits(site: Site, cursor: str) -> AppliedPage:
    """The commits behind one."""
    head, found = await site.repository.since(cursor)
    return AppliedPage([Applied(key, title) for key, title in found], head)
