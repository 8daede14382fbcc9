"""The state of a running site, read from the bus alone: what waits where, who lives, what a person must look at."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from console.audit import reading
from mesh import quarantine, service, streams, subjects
from mesh.approvals import Nothing, Waiting
from mesh.bus import Bus
from mesh.clock import now
from mesh.control import Controls
from mesh.errors import BusUnavailableError, WorkmeshError
from mesh.halts import HALT, why
from mesh.link import Heartbeat, last_heard, silent_s
from mesh.permissions import BUCKETS, STREAMS, kv_stream
from mesh.records import Purpose, Struct
from mesh.registry import Entry, entries
from mesh.restored import RESTORED, Restored
from mesh.settings import Settings

_ANSWER_S = 3.0


class StageLine(Struct, frozen=True, kw_only=True):
    """A stage: inputs that wait at the server, inputs in its processes' hands, and the age of the oldest of them."""

    stage: str
    waiting: int
    in_hand: int
    oldest_s: float


class StreamLine(Struct, frozen=True, kw_only=True):
    """A stream; ``max_bytes`` -1 is no limit. ``down`` are copies that are away or behind."""

    name: str
    messages: int
    bytes: int
    max_bytes: int
    replicas: int
    down: tuple[str, ...]


class People(Struct, frozen=True, kw_only=True):
    """What waits for people; ``overdue`` is past the time for which the policy asks a first answer."""

    approvals: int
    overdue: int
    in_doubt: int
    oldest_s: float


class AuditLine(Struct, frozen=True, kw_only=True):
    """Sequences of the journal that no signature covers yet, and what the auditor found wrong."""

    behind: int
    signed_at: str
    problems: int


class HubLine(Struct, frozen=True, kw_only=True):
    """The hub of the site: for how long it was not heard (``mesh.link.NEVER_S``: never), how much waited on each side
    then, and what the site did not take last."""

    silent_s: int
    up: int
    down: int
    problem: str


class State(Struct, frozen=True, kw_only=True):
    """All of it. ``people`` is missing where no policy process answers. ``ahead_s``: this clock against the bus's."""

    at: datetime
    server: str
    ahead_s: float
    storage: int
    storage_max: int
    processes: tuple[Entry, ...]
    stages: tuple[StageLine, ...]
    streams: tuple[StreamLine, ...]
    missing: tuple[str, ...]
    people: People | None
    quarantine: int
    halts: tuple[str, ...]
    restored: str
    audit: AuditLine
    hub: HubLine | None = None


async def read_state(bus: Bus, settings: Settings) -> State:
    """Read it, as an operator may. Raises ``BusUnavailableError``."""
    account = await bus.api("INFO")
    infos = {name: await bus.api(f"STREAM.INFO.{name}") for name in (*STREAMS, *(kv_stream(b) for b in BUCKETS))}
    there = {name: info for name, info in infos.items() if "error" not in info}
    version = bus.client.connected_server_version
    halts, restored = await _acts(bus, settings)
    return State(
        at=now(),
        server=f"{version.major}.{version.minor}.{version.patch}",
        ahead_s=await _ahead_s(bus),
        storage=int(account.get("storage", 0)),
        storage_max=int(account.get("limits", {}).get("max_storage", -1)),
        processes=tuple(await entries(bus)),
        stages=tuple([await _stage(bus, spec) for spec in streams.STAGES]),
        streams=tuple(_stream(name, info) for name, info in there.items()),
        missing=tuple(name for name in infos if name not in there),
        people=await _people(bus),
        quarantine=len(await quarantine.waiting(bus)),
        halts=halts,
        restored=restored,
        audit=await _audit(bus, settings),
        hub=await _hub(bus, settings) if settings.hub.site else None,
    )


async def _ahead_s(bus: Bus) -> float:
    """By how much this clock is ahead of the server's, give or take half of the time that it took to ask."""
    before = now()
    info = await bus.api(f"STREAM.INFO.{subjects.EVENTS}")
    after = now()
    if "ts" not in info:
        return 0.0
    there = datetime.fromisoformat(info["ts"])
    return (before + (after - before) / 2 - there).total_seconds()


async def _stage(bus: Bus, spec: streams.ConsumerSpec) -> StageLine:
    info = await bus.api(f"CONSUMER.INFO.{spec.stream}.{spec.stage}")
    waiting, in_hand = int(info.get("num_pending", 0)), int(info.get("num_ack_pending", 0))
    oldest_s = 0.0
    if waiting or in_hand:
        since = int(info["ack_floor"]["stream_seq"]) + 1
        pages = [await bus.read(spec.stream, since, 1, flt) for flt in spec.filters]
        times = [datetime.fromisoformat(page[0].time) for page in pages if page]
        oldest_s = max(((now() - at).total_seconds() for at in times), default=0.0)
    return StageLine(stage=spec.stage, waiting=waiting, in_hand=in_hand, oldest_s=round(oldest_s, 1))


def _stream(name: str, info: Mapping[str, Any]) -> StreamLine:
    copies = info.get("cluster", {}).get("replicas") or []
    down = tuple(copy["name"] for copy in copies if copy.get("offline") or not copy.get("current"))
    state, config = info["state"], info["config"]
    return StreamLine(
        name=name,
        messages=int(state["messages"]),
        bytes=int(state["bytes"]),
        max_bytes=int(config.get("max_bytes", -1)),
        replicas=int(config.get("num_replicas", 1)),
        down=down,
    )


async def _people(bus: Bus) -> People | None:
    try:
        items = await service.ask(bus, "policy", "list", Nothing(), list[Waiting], timeout_s=_ANSWER_S)
    except (BusUnavailableError, service.ServiceError):
        return None
    at = now()
    return People(
        approvals=sum(item.purpose is not Purpose.IN_DOUBT for item in items),
        overdue=sum(item.escalate_at is not None and item.escalate_at < at for item in items),
        in_doubt=sum(item.purpose is Purpose.IN_DOUBT for item in items),
        oldest_s=round(max(((at - item.since).total_seconds() for item in items), default=0.0), 1),
    )


async def _acts(bus: Bus, settings: Settings) -> tuple[tuple[str, ...], str]:
    controls = Controls(bus, settings.root_key(), HALT, RESTORED)
    await controls.refresh()
    standing = Restored().follow(controls).standing
    restored = f"{standing.backup_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if standing else ""
    return tuple(why(item.act) for item in controls.standing(HALT) if item.act.halted), restored


async def _audit(bus: Bus, settings: Settings) -> AuditLine:
    try:
        found = await reading.status(bus, settings.root_key())
    except WorkmeshError:
        return AuditLine(behind=0, signed_at="", problems=0)
    return AuditLine(behind=found.behind, signed_at=found.signed_at, problems=len(found.problems))


async def _hub(bus: Bus, settings: Settings) -> HubLine:
    trust, _ = await reading.trust(bus, settings.root_key())
    heard = await last_heard(bus, trust, settings.hub.site)
    found = heard or Heartbeat(site=settings.hub.site, at=now())
    return HubLine(silent_s=silent_s(heard, now()), up=found.up, down=found.down, problem=found.problem)
