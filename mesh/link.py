"""The link of a site to its hub, as the site knows it: when the hub was last heard, and how much waits on either side.

The rule: it fails closed. A site with a hub whose last sign of life is missing, unsigned or dated ahead is cut off; so
is one whose uplink has stopped, since nobody then says that the hub was heard.
"""

import time
from datetime import datetime, timedelta
from typing import Final

import structlog

from mesh import clock, metrics
from mesh.bus import Bus, StoredMessage
from mesh.errors import BusUnavailableError, SignatureError, TerminalError
from mesh.permissions import kv_stream
from mesh.records import Json, Struct
from mesh.signing import LINK_TYPE, open_envelope
from mesh.subjects import POLICY_BUCKET
from mesh.trust import TrustDirectory

log = structlog.get_logger(__name__)

ROLE: Final = "uplink"
"""The role, in the site's trust, of the key that may say that the hub was heard."""

EVERY_S: Final = 2.0
NEVER_S: Final = 1_000_000_000
"""For how long a hub was silent that was never heard, or nobody knows of: some thirty years."""

KEY: Final = f"$KV.{POLICY_BUCKET}.link"

_STREAM = kv_stream(POLICY_BUCKET)
_AHEAD = timedelta(minutes=1)
_FRESH_S = 1.0


class Heartbeat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an uplink signs when its hub has answered. ``up`` messages of the site are not at the hub yet; ``down``
    wait there for the site. ``problem`` is the last thing that the site did not take, since the uplink was started."""

    site: str
    at: datetime
    up: int = 0
    down: int = 0
    problem: str = ""


class HeartbeatRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To the site's policy service: the envelope over a ``Heartbeat``."""

    signed: Json


class HeartbeatAnswer(Struct, frozen=True, kw_only=True):
    """It is known now."""

    at: datetime


def silent_s(heard: Heartbeat | None, at: datetime) -> int:
    """For how many seconds the hub was silent at this moment."""
    if heard is None or heard.at > at + _AHEAD:
        return NEVER_S
    return max(0, int((at - heard.at).total_seconds()))


def open_heartbeat(signed: bytes, trust: TrustDirectory, site: str) -> Heartbeat:
    """The heartbeat in an envelope; raises ``SignatureError`` unless this site's uplink signed it."""
    heard, _ = open_envelope(signed, LINK_TYPE, Heartbeat, lambda key: _require(trust, key))
    if heard.site != site:
        raise SignatureError(f"it says that the hub of {heard.site} was heard, and this site is {site}")
    return heard


async def last_heard(bus: Bus, trust: TrustDirectory, site: str) -> Heartbeat | None:
    """The last sign of life that stands at this site; ``None`` where there is none, or none to be believed."""
    return _believed(await bus.last(_STREAM, KEY), trust, site)


def _believed(message: StoredMessage | None, trust: TrustDirectory, site: str) -> Heartbeat | None:
    if message is None or not message.data:
        return None
    try:
        message.require_published()
        return open_heartbeat(message.data, trust, site)
    except TerminalError as error:
        log.error("heartbeat_refused", reason=str(error))
        return None


class Link:
    """The link for a process that asks at every decision: what it read is remembered for a second."""

    def __init__(self, bus: Bus, trust: TrustDirectory, site: str) -> None:
        self._bus = bus
        self._trust = trust
        self._site = site
        self._heard: Heartbeat | None = None
        self._read_at = float("-inf")

    async def silent_s(self, at: datetime) -> int:
        """For how many seconds the hub has been silent. While the bus does not answer, the last known counts on."""
        if time.monotonic() - self._read_at >= _FRESH_S:
            try:
                self._heard = await last_heard(self._bus, self._trust, self._site)
                self._read_at = time.monotonic()
            except BusUnavailableError as error:
                log.warning("heartbeat_not_read", error=str(error))
        return silent_s(self._heard, at)

    async def take(self, request: HeartbeatRequest) -> HeartbeatAnswer:
        """Keep a newer sign of life; raises ``TerminalError`` for one that is not to be believed."""
        heard = open_heartbeat(bytes(request.signed), self._trust, self._site)
        if silent_s(heard, clock.now()) == NEVER_S:
            raise SignatureError(
                f"it is dated {heard.at.isoformat()}, ahead of now: set the clock of the uplink's host"
            )
        stands = await self._bus.last(_STREAM, KEY)
        before = _believed(stands, self._trust, self._site)
        if before is not None and before.at >= heard.at:
            raise TerminalError(f"the hub was heard at {before.at.isoformat()}, later than {heard.at.isoformat()}")
        await self._bus.store(KEY, bytes(request.signed), stands.seq if stands else 0)
        self._heard, self._read_at = heard, time.monotonic()
        return HeartbeatAnswer(at=heard.at)

    async def measure(self) -> None:
        """Show in the metrics how the link is."""
        metrics.HUB_SILENT.set(await self.silent_s(clock.now()))
        if self._heard is not None:
            metrics.HUB_LAG.labels(kind="up").set(self._heard.up)
            metrics.HUB_LAG.labels(kind="down").set(self._heard.down)


def _require(trust: TrustDirectory, key: str) -> None:
    trust.require(key, ROLE)
