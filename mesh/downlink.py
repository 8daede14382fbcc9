"""The downlink of a site: what its hub holds for it, handed on in order, each message until it was taken.

The rule: where it goes on stands at the hub, in a durable consumer of the site's own, which gives one message at a
time, and is answered only when the site has what the message says. So a message can come twice, and is never passed
over: whoever takes one makes sure that it counts once.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from nats.aio.msg import Msg

from mesh import subjects
from mesh.bus import SUBJECT_HEADER, Bus
from mesh.errors import BusUnavailableError, NotDurableError, RetryableError
from mesh.facts import Moment, Scope
from mesh.lifetime import end
from mesh.pump import place_of
from mesh.records import Struct
from mesh.service import ServiceBusyError
from mesh.streams import MAX_RECORD_BYTES, StreamSpec

log = structlog.get_logger(__name__)

_NANO = 1_000_000_000
_ACK_WAIT_S = 2.0  # what a killed downlink held comes again after this: catching up may take 5 s
_EXPIRES_S = 5.0
_RETRY_S = 0.25
_ABSENT_S = 5.0
_LOOK_S = 0.2  # how soon a connection that was lost is noticed: a pull ends with it
_NOT_FOUND = 10014
_KEPT_ENVELOPES = 2  # a bundle as its base64 in an envelope is larger than any record

STREAM: Final = StreamSpec(
    subjects.SITES,
    (subjects.down("*", "*", "*"), subjects.told("*", "*")),
    max_msg_size=_KEPT_ENVELOPES * MAX_RECORD_BYTES,
)
"""What a hub holds for its sites. What was sent stays: it is the hub's record of it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of the hub for this site: its stream, subject and sequence there, and when it was stored.

    A stream that was made anew counts from 1 again, at another time.
    """

    stream: str
    subject: str
    seq: int
    stored_ns: int
    data: bytes


class Told(Struct, frozen=True, kw_only=True):
    """What a site tells its hub of a domain: the digest in force ("" for none), the last message of the hub that it has
    looked at (its sequence), and why it refused that one, if it did."""

    domain: str
    digest: str
    seen: int
    at: Moment
    refused: str = ""


Take = Callable[[Sent], Awaitable[None]]
"""Takes one message, whole; raises ``RetryableError`` or ``ServiceBusyError`` to have it again."""


async def ensure_site(hub: Bus, site: str, scopes: Sequence[Scope], *, replicas: int, again: bool = False) -> None:
    """At a hub: let a site have what is sent to it, and all facts of these scopes, from the first one on.

    Other scopes than before have all facts given again, and ``again`` has everything: what a site has it passes over.
    Without scopes it has no facts any more.
    """
    for stream in (subjects.SITES, subjects.MEMORY) if again else ():
        await hub.api(f"CONSUMER.DELETE.{stream}.{site}")
    await _ensure_consumer(hub, subjects.SITES, site, [subjects.down(site, "*", "*")], replicas)
    # Which source is not to be believed any more stands beside the scopes.
    filters = [subjects.fact(scope.token, "*", "*") for scope in scopes] + [subjects.fact("source", "*", "*")]
    if scopes:
        await _ensure_consumer(hub, subjects.MEMORY, site, filters, replicas)
    else:
        await hub.api(f"CONSUMER.DELETE.{subjects.MEMORY}.{site}")


async def _ensure_consumer(hub: Bus, stream: str, site: str, filters: Sequence[str], replicas: int) -> None:
    config: dict[str, Any] = {
        "durable_name": site,
        "filter_subjects": sorted(filters),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(_ACK_WAIT_S * _NANO),
        "max_deliver": -1,
        "max_ack_pending": 1,
        "replay_policy": "instant",
        "num_replicas": replicas,
    }
    info = await hub.api(f"CONSUMER.INFO.{stream}.{site}")
    if "error" not in info and sorted(_filters(info["config"])) != sorted(filters):
        await hub.api(f"CONSUMER.DELETE.{stream}.{site}")
    answer = await hub.api(f"CONSUMER.DURABLE.CREATE.{stream}.{site}", {"stream_name": stream, "config": config})
    if error := answer.get("error"):
        raise NotDurableError(
            f"the bus did not take the consumer {site} of {stream}: {error.get('description')}; facts can be given by "
            "a hub that has a memory, made by `workmesh up` or `workmesh bus make`"
        )


def _filters(config: Mapping[str, Any]) -> list[str]:
    return list(config.get("filter_subjects") or [config.get("filter_subject", "")])


async def looked_at(hub: Bus, site: str) -> int:
    """The sequence up to which the site has looked at what was sent to it."""
    info = await hub.api(f"CONSUMER.INFO.{subjects.SITES}.{site}")
    return int(info["ack_floor"]["stream_seq"]) if "error" not in info else 0


class Downlink:
    """Hands on what one stream of the hub holds for the site. Copies share the consumer, which keeps the order."""

    def __init__(self, hub: Bus, site: str, stream: str, take: Take) -> None:
        self._hub = hub
        self._site = site
        self._stream = stream
        self._take = take
        self._inbox = ""
        self._came: asyncio.Queue[Msg] = asyncio.Queue()
        self.taken = 0

    async def run(self) -> None:
        """Hand on until cancelled; waits while a bus is away, and where the hub has nothing for the site at all."""
        while True:
            try:
                if await self.waiting() is None:
                    await asyncio.sleep(_ABSENT_S)
                elif (message := await self._next()) is not None:
                    await self._hand_on(message)
                    await self._follow()
            except (RetryableError, ServiceBusyError) as error:
                log.warning("downlink_waits", stream=self._stream, error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def waiting(self) -> int | None:
        """How many messages wait at the hub; ``None`` where it has no consumer for the site."""
        info = await self._hub.api(f"CONSUMER.INFO.{self._stream}.{self._site}")
        if error := info.get("error"):
            if error.get("err_code") in (_NOT_FOUND, 10059):
                return None
            raise BusUnavailableError(f"the hub does not tell of {self._stream}: {error.get('description')}")
        return int(info["num_pending"]) + int(info["num_ack_pending"])

    async def _follow(self) -> None:
        """Hand on one message after the other until none waits."""
        while (message := await self._next()) is not None:
            await self._hand_on(message)

    async def _next(self) -> Msg | None:
        """The next message, or ``None`` when none came for a while; raises ``BusUnavailableError``."""
        await self._hub.wait_connected(self._hub.request_timeout_s)
        if not self._inbox:
            inbox = self._hub.client.new_inbox()
            await self._hub.client.subscribe(inbox, cb=self._came.put)
            self._inbox = inbox
        connection, loop = self._hub.connection, asyncio.get_running_loop()
        request = {"batch": 1, "expires": int(_EXPIRES_S * _NANO)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._site}"
        await self._hub.publish(subject, json.dumps(request).encode(), reply=self._inbox)
        end = loop.time() + _EXPIRES_S + self._hub.request_timeout_s
        while loop.time() < end and self._hub.connection == connection:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    message = await self._came.get()
                    return message if message.reply.startswith("$JS.ACK") else None
        raise BusUnavailableError(f"the hub does not answer a pull of {self._stream}")

    async def _hand_on(self, message: Msg) -> None:
        _, seq, stored_ns, _ = place_of(message.reply)
        if SUBJECT_HEADER in (message.headers or {}):  # nobody published it: an answer of the server was sent there
            log.error("forwarded_message_skipped", stream=self._stream, seq=seq)
            return await self._hub.publish(message.reply, b"+TERM")
        renewing = asyncio.create_task(self._renew(message.reply), name="down-in-progress")
        try:
            await self._take(Sent(self._stream, message.subject, seq, stored_ns, message.data))
        finally:
            await end(renewing)
        await self._hub.publish(message.reply, b"+ACK")
        self.taken += 1

    async def _renew(self, reply: str) -> None:
        while True:
            await asyncio.sleep(_ACK_WAIT_S / 3)
            with suppress(BusUnavailableError):  # then it comes again
                await self._hub.publish(reply, b"+WPI")
