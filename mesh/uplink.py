"""The uplink of a site: copies what its streams hold to its hub, in order, each message once, when the hub is there.

The rule: where it goes on stands at the hub alone, and each batch says what must stand before it: however often an
uplink dies, and however many run, nothing is there twice and nothing is left out.
"""

import asyncio
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.errors import BusUnavailableError, ConflictError, DivergedError, NotDurableError
from mesh.streams import MAX_RECORD_BYTES, StreamSpec

log = structlog.get_logger(__name__)

SEQUENCE: Final = "Workmesh-Sequence"
TIME: Final = "Workmesh-Time"
"""Headers of a copy: where and when the original was stored at its site."""

_PAGE = 128
_HEADERS = 4096  # what the copy's own headers may take beside the original
_LOOK_S = 0.5
_RETRY_S = 0.25
_WRONG_LAST = 10070  # the hub's stream does not end where the batch expects it
_NOT_FOUND = 10059


@dataclass(frozen=True, slots=True)
class Position:
    """How far a copy is: the hub's last sequence, and where and when the site stored that message."""

    hub: int
    site: int
    time: str = ""


def copies(key: str) -> tuple[StreamSpec, ...]:
    """The streams of a hub for the site of this key; what a person put there to stay, stays."""
    site = subjects.site_name(key)
    return tuple(
        StreamSpec(
            subjects.site_stream(site, stream),
            (subjects.site_subject(site, stream, ">"),),
            max_msg_size=MAX_RECORD_BYTES + _HEADERS,
        )
        for stream in subjects.UPLINKED
    )


class Uplink:
    """Copies one stream of a site to its hub. ``key`` is the public key by which the hub knows the site."""

    def __init__(self, site: Bus, hub: Bus, key: str, stream: str) -> None:
        self._site = site
        self._hub = hub
        self._name = subjects.site_name(key)
        self._stream = stream
        self._target = subjects.site_stream(self._name, stream)
        self.copied = 0
        self.reached = 0  # the site's sequence of the last message that is at the hub

    async def behind(self) -> int:
        """How many messages of the site are not at the hub yet, as far as is known."""
        info = await self._site.api(f"STREAM.INFO.{self._stream}")
        return max(0, int(info["state"]["last_seq"]) - self.reached)

    async def run(self) -> None:
        """Copy until cancelled; waits while a bus is away.

        Raises ``NotDurableError`` for a hub without the stream, ``DivergedError`` where its copy is of another history.
        """
        while True:
            try:
                position = await self.position()
                await self._require_same(position)
                await self._follow(position)
            except BusUnavailableError as error:
                log.warning("uplink_waits", stream=self._stream, error=str(error))
                await asyncio.sleep(_RETRY_S)
            except ConflictError:  # another uplink of this site was there first
                log.info("uplink_overtaken", stream=self._stream)

    async def position(self) -> Position:
        """How far the hub's copy is."""
        info = await self._hub.api(f"STREAM.INFO.{self._target}")
        if error := info.get("error"):
            if error.get("err_code") == _NOT_FOUND:
                raise NotDurableError(f"the hub has no stream {self._target}: run `workmesh bus site` there")
            raise BusUnavailableError(f"the hub does not tell of {self._target}: {error.get('description')}")
        last = int(info["state"]["last_seq"])
        if not last:
            return Position(0, 0)
        found = await self._hub.at(self._target, last)
        if found is None:
            raise BusUnavailableError(f"the hub's {self._target} does not give its last message, {last}")
        return Position(last, int(found.headers[SEQUENCE]), found.headers[TIME])

    async def _require_same(self, position: Position) -> None:
        """Without this, what a restored site stores anew under old sequences would be left out of the copy."""
        if not position.site:
            return
        own = await self._site.at(self._stream, position.site)
        if own is None:
            info = await self._site.api(f"STREAM.INFO.{self._stream}")
            if int(info["state"]["last_seq"]) >= position.site:
                raise BusUnavailableError(f"the site's {self._stream} does not give message {position.site}")
        if own is None or own.time != position.time:
            raise DivergedError(
                f"the hub's {self._target} goes on to message {position.site}, which this site's {self._stream}"
                " does not have: was the site restored from a backup? Let it join under a new key (`workmesh keys"
                " new`); the copy of what was before stays at the hub"
            )

    async def _follow(self, position: Position) -> None:
        while True:
            self.reached = position.site
            page = await self._site.read(self._stream, position.site + 1, _PAGE)
            if not page:
                await asyncio.sleep(_LOOK_S)
                continue
            last = await self._store(page, position.hub)
            self.copied += len(page)
            position = Position(last, page[-1].seq)

    async def _store(self, page: Sequence[StoredMessage], before: int) -> int:
        """Store a page as one atomic batch behind the hub's sequence ``before``; the sequence of its last message."""
        batch = secrets.token_hex(8)
        answer: dict[str, Any] = {}
        for number, message in enumerate(page, 1):
            headers = _headers(message)
            if number == 1:
                headers["Nats-Expected-Last-Sequence"] = str(before)
            if len(page) > 1:
                headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            subject = subjects.site_subject(self._name, self._stream, message.subject)
            if number < len(page):
                await self._hub.publish(subject, message.data, headers)
            else:
                headers |= {"Nats-Batch-Commit": "1"} if len(page) > 1 else {}
                answer = json.loads((await self._hub.request(subject, message.data, headers)).data)
        if error := answer.get("error"):
            if error.get("err_code") == _WRONG_LAST or "wrong last sequence" in error.get("description", ""):
                raise ConflictError(self._target, "another uplink has stored since")
            raise BusUnavailableError(f"the hub did not store {self._target}: {error.get('description')}")
        return int(answer["seq"])


def _headers(message: StoredMessage) -> dict[str, str]:
    """The message's own headers, but for what the server reads, and where and when it stands at the site."""
    own = {name: value for name, value in message.headers.items() if not name.startswith("Nats-")}
    return own | {SEQUENCE: str(message.seq), TIME: message.time}
