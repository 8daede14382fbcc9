"""Keeps the embedded bus and the processes of a site in step with its keys, while ``workmesh up`` runs.

The rule: a key that is replaced or cut off loses the bus at once, and its process begins anew with what stands there.
"""

import asyncio

import structlog

from mesh.embedded import EmbeddedNats
from mesh.errors import SettingsError
from mesh.permissions import BusUser
from mesh.site import OPERATOR, Site
from mesh.supervisor import Supervisor

log = structlog.get_logger(__name__)

_EVERY_S = 0.25


async def watch_keys(site: Site, server: EmbeddedNats, supervisor: Supervisor, renewed: asyncio.Event) -> None:
    """Look at the folder of keys until cancelled; ``renewed`` is set when the operator's own key has changed."""
    users, seen = site.users(), _changed_at(site)
    while True:
        await asyncio.sleep(_EVERY_S)
        if (now := _changed_at(site)) == seen:
            continue
        try:
            found = Site(site.settings).users()
        except SettingsError as error:  # a key is being replaced in this moment
            log.info("keys_not_readable_yet", reason=str(error))
            continue
        seen = now
        names = _changed(users, found)
        if names:
            server.reconfigure(found)
        for name in names:
            log.warning("key_changed", name=name)
            if name == OPERATOR:
                renewed.set()
            elif name in supervisor.children:
                supervisor.kill(name)  # without its key it could not even end cleanly
        users = found


def _changed_at(site: Site) -> dict[str, int]:
    """When each file of the folder was last written; what vanishes meanwhile is not there."""
    found = {}
    for path in site.keys.iterdir():
        try:
            found[path.name] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


def _changed(before: tuple[BusUser, ...], after: tuple[BusUser, ...]) -> list[str]:
    keys = {user.name: user.public_key for user in before}
    left = {user.name: user.public_key for user in after}
    return [name for name in {**keys, **left} if keys.get(name) != left.get(name)]
