"""A site that was restored from a backup: what it did after the backup is known to its targets alone.

The rule: until a person says that it is over, a target is asked about every effect before it is called for the first
time; where it cannot tell, a person is asked.
"""

from datetime import datetime
from typing import Annotated, Final

import msgspec

from mesh import subjects
from mesh.bus import Bus
from mesh.control import Act, Controls, Kind
from mesh.errors import SignatureError
from mesh.halts import RESUMERS
from mesh.trust import TrustEntry

RESTORER: Final = "policy_admin"
"""The role of the site's root key, which restores."""


class Restoration(Act, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The site stands on a backup taken at this time. With ``over`` nothing of the time since can come again."""

    backup_at: Annotated[datetime, msgspec.Meta(tz=True)]
    over: bool = False


def _check(act: Restoration, entry: TrustEntry) -> None:
    if act.over and (entry.kind != "person" or not set(RESUMERS) & set(entry.roles)):
        raise SignatureError(f"{entry.name} may not end it: a person with the role {' or '.join(RESUMERS)} must sign")
    if not act.over and RESTORER not in entry.roles:
        raise SignatureError(f"{entry.name} is not a {RESTORER}: only the root key restores")


RESTORED: Final = Kind("restored", Restoration, lambda act: subjects.control("restored", "-"), _check)


class Restored:
    """The restoration that stands, asked before an effect: a look-up in memory."""

    def __init__(self) -> None:
        self.standing: Restoration | None = None

    def follow(self, controls: Controls) -> "Restored":
        """Keep current by these controls."""
        controls.on_change(RESTORED, lambda items: self._take(items[-1].act if items else None))
        return self

    def _take(self, act: Restoration | None) -> None:
        self.standing = None if act is None or act.over else act


async def read_restored(bus: Bus, root_public_key: str) -> Restoration | None:
    """The restoration that stands at this moment."""
    controls = Controls(bus, root_public_key, RESTORED)
    await controls.refresh()
    return Restored().follow(controls).standing
