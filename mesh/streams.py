"""The streams, buckets and durable consumers that the mesh stands on, and how they come to be.

The rule: what exists is never loosened in silence; ``ensure`` creates what is missing and updates what may change.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh import subjects
from mesh.bus import Bus
from mesh.errors import NotDurableError

_NANO = 1_000_000_000
# A batch of 256 records of at most 64 KiB stays under the server's payload limit record by record.
MAX_RECORD_BYTES = 512 * 1024
_NOT_FOUND = {10014, 10059}


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream: limits retention, on file, with atomic batches and direct gets. From one that ``forgets``, messages
    can be taken out one by one: privacy law asks it of memory, and of what people sent."""

    name: str
    subjects: tuple[str, ...]
    max_age_s: float = 0.0
    max_bytes: int = -1
    max_msg_size: int = MAX_RECORD_BYTES
    forgets: bool = False

    def config(self, replicas: int) -> dict[str, Any]:
        """The stream's configuration for the JetStream API. ``discard: new`` refuses rather than forgets."""
        return {
            "name": self.name,
            "subjects": list(self.subjects),
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_age": int(self.max_age_s * _NANO),
            "max_bytes": self.max_bytes,
            "max_msg_size": self.max_msg_size,
            "num_replicas": replicas,
            "allow_direct": True,
            "allow_atomic": True,
            "deny_delete": not self.forgets,
            "deny_purge": True,
        }


@dataclass(frozen=True, slots=True)
class BucketSpec:
    """A KV bucket; ``ttl_s`` 0 keeps values for ever."""

    name: str
    ttl_s: float = 0.0
    history: int = 5

    def config(self, replicas: int) -> dict[str, Any]:
        """The configuration of the stream behind the bucket (NATS ADR-8)."""
        return {
            "name": f"KV_{self.name}",
            "subjects": [f"$KV.{self.name}.>"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_age": int(self.ttl_s * _NANO),
            "max_msgs_per_subject": self.history,
            "num_replicas": replicas,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "deny_delete": True,
            "duplicate_window": int(min(self.ttl_s, 120) * _NANO) if self.ttl_s else 0,
        }


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """The durable consumer of a stage; copies of the stage share it."""

    stage: str
    stream: str
    filters: tuple[str, ...]

    def config(self, *, ack_wait_s: float, max_ack_pending: int, replicas: int) -> dict[str, Any]:
        """The consumer's configuration. Without ``backoff``, which would override ``ack_wait``."""
        return {
            "durable_name": self.stage,
            "filter_subjects": list(self.filters),
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(ack_wait_s * _NANO),
            "max_deliver": -1,
            "max_ack_pending": max_ack_pending,
            "replay_policy": "instant",
            "num_replicas": replicas,
        }


def _stage(name: str, *filters: str) -> ConsumerSpec:
    return ConsumerSpec(name, subjects.JOURNAL, (*filters, subjects.released(name)))


STAGES = (
    ConsumerSpec("perception", subjects.EVENTS, ("event.>",)),
    _stage("planner", subjects.kind("context"), subjects.kind("completion")),
    _stage("model", subjects.kind("prompt")),
    _stage("policy", subjects.kind("plan")),
    _stage("executor", subjects.kind("decision"), subjects.kind("approval")),
    _stage("learner", subjects.kind("outcome")),
    _stage("intake"),
)

BUCKETS = (
    BucketSpec(subjects.POLICY_BUCKET),
    BucketSpec(subjects.TRUST_BUCKET, history=64),  # acts of governance count by the trust of their time
    BucketSpec(subjects.WORKING_BUCKET, ttl_s=3600),
    BucketSpec(subjects.SESSION_BUCKET, ttl_s=86400),
    BucketSpec(subjects.REGISTRY_BUCKET, ttl_s=30, history=1),
    BucketSpec(subjects.MODELS_BUCKET, ttl_s=86400, history=1),
    BucketSpec(subjects.INTAKE_BUCKET, history=1),
)

# Quarantine holds any message of another stream in base64: only the server's payload limit bounds it.
_LARGEST = {subjects.QUARANTINE: -1}

STREAM_NAMES = (
    subjects.EVENTS,
    subjects.JOURNAL,
    subjects.QUARANTINE,
    subjects.MEMORY,
    subjects.AUDIT,
    subjects.ORIGINALS,
)
_FORGETTING = {subjects.MEMORY, subjects.ORIGINALS}


def stream_specs(ages_s: dict[str, float], max_bytes: dict[str, int]) -> tuple[StreamSpec, ...]:
    """The streams with the ages (seconds; 0 is for ever) and sizes (bytes; -1 is no limit) of the settings."""
    return tuple(
        StreamSpec(
            name,
            tuple(subjects.heads(name)),
            ages_s.get(name, 0.0),
            max_bytes.get(name, -1),
            _LARGEST.get(name, MAX_RECORD_BYTES),
            forgets=name in _FORGETTING,
        )
        for name in STREAM_NAMES
    )


async def ensure(
    bus: Bus,
    streams: Iterable[StreamSpec],
    *,
    replicas: int,
    ack_wait_s: float,
    max_ack_pending: int,
    floors: Mapping[str, int] | None = None,
) -> None:
    """Create or update streams, buckets and durable consumers; raises ``NotDurableError`` with the server's reason.

    A new consumer begins behind the sequence that ``floors`` has for its stage; by default with the first message.
    """
    await ensure_streams(bus, streams, replicas=replicas)
    for bucket in BUCKETS:
        await _ensure_stream(bus, bucket.config(replicas))
    for stage in STAGES:
        config = stage.config(ack_wait_s=ack_wait_s, max_ack_pending=max_ack_pending, replicas=replicas)
        config |= await _start(bus, stage, (floors or {}).get(stage.stage))
        request = {"stream_name": stage.stream, "config": config}
        answer = await bus.api(f"CONSUMER.DURABLE.CREATE.{stage.stream}.{stage.stage}", request)
        _check(answer, f"consumer {stage.stage} of {stage.stream}")


async def ensure_streams(bus: Bus, streams: Iterable[StreamSpec], *, replicas: int) -> None:
    """Create or update streams alone; raises as ``ensure`` does."""
    for spec in streams:
        await _ensure_stream(bus, spec.config(replicas))


async def _ensure_stream(bus: Bus, config: dict[str, Any]) -> None:
    answer = await bus.api(f"STREAM.UPDATE.{config['name']}", config)
    if answer.get("error", {}).get("err_code") in _NOT_FOUND:
        answer = await bus.api(f"STREAM.CREATE.{config['name']}", config)
    _check(answer, f"stream {config['name']}")


async def _start(bus: Bus, stage: ConsumerSpec, floor: int | None) -> dict[str, Any]:
    """Where a consumer begins: the server lets nobody change that of one that exists."""
    info = await bus.api(f"CONSUMER.INFO.{stage.stream}.{stage.stage}")
    if "error" not in info:
        return {name: info["config"][name] for name in ("deliver_policy", "opt_start_seq") if name in info["config"]}
    return {} if floor is None else {"deliver_policy": "by_start_sequence", "opt_start_seq": floor + 1}


def _check(answer: dict[str, Any], what: str) -> None:
    if error := answer.get("error"):
        raise NotDurableError(f"the bus did not take {what}: {error.get('description')} ({error.get('err_code')})")
