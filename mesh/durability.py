"""The durability check at start: a process refuses a bus that could lose what it acknowledged (invariant 2)."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from nats.aio.msg import Msg

from mesh import streams
from mesh.bus import Bus
from mesh.errors import NotDurableError
from mesh.natsconf import JSZ

_GATHER_S = 0.25
_NANO = 1_000_000_000


async def check(
    bus: Bus, names: Sequence[str], stage: streams.ConsumerSpec | None, *, replicas: int, ack_wait_s: float
) -> list[str]:
    """What these streams and this consumer lack, in words; an empty list when they are durable enough.

    ``replicas`` is the least number asked for; ``ack_wait_s`` is what the settings say.
    """
    faults = await _sync_faults(bus)
    for name in names:
        info = await bus.api(f"STREAM.INFO.{name}")
        if "error" in info:
            faults.append(f"stream {name}: {info['error'].get('description')}: run `workmesh up` or ask your admin")
        else:
            faults += stream_faults(info["config"], replicas)
    if stage is not None:
        faults += await stage_faults(bus, stage, ack_wait_s)
    return faults


async def stage_faults(bus: Bus, stage: streams.ConsumerSpec, ack_wait_s: float) -> list[str]:
    """What the durable consumer of a stage lacks, or that there is none."""
    info = await bus.api(f"CONSUMER.INFO.{stage.stream}.{stage.stage}")
    if "error" in info:
        return [f"consumer {stage.stage} of {stage.stream}: {info['error'].get('description')}"]
    return consumer_faults(info["config"], ack_wait_s)


async def require(
    bus: Bus,
    names: Sequence[str],
    stage: streams.ConsumerSpec | None,
    *,
    replicas: int,
    ack_wait_s: float,
    relaxed: bool,
) -> list[str]:
    """As ``check``, but raises ``NotDurableError`` with all faults unless the settings relax it."""
    faults = await check(bus, names, stage, replicas=replicas, ack_wait_s=ack_wait_s)
    if faults and not relaxed:
        raise NotDurableError(
            "the bus is not durable enough: " + "; ".join(faults) + '. Mend it, or set bus.durability = "relaxed".'
        )
    return faults


def stream_faults(config: dict[str, Any], replicas: int) -> list[str]:
    """What a stream's configuration lacks."""
    name = config["name"]
    faults = []
    if config.get("storage") != "file":
        faults.append(f"stream {name} is kept in {config.get('storage')}, not on file")
    if config.get("retention") != "limits":
        faults.append(f"stream {name} has {config.get('retention')} retention, not limits")
    if config.get("discard") != "new":
        faults.append(f"stream {name} discards {config.get('discard')} messages when full: it must refuse new ones")
    if config.get("num_replicas", 1) < replicas:
        faults.append(f"stream {name} has {config.get('num_replicas', 1)} replicas, not {replicas}")
    if config.get("persist_mode", "default") == "async":
        faults.append(f"stream {name} persists asynchronously")
    if not config.get("allow_atomic") or not config.get("allow_direct"):
        faults.append(f"stream {name} does not allow atomic batches and direct gets")
    return faults


def consumer_faults(config: dict[str, Any], ack_wait_s: float) -> list[str]:
    """What a durable consumer's configuration lacks."""
    name = config.get("durable_name") or config.get("name")
    faults = []
    if config.get("ack_policy") != "explicit":
        faults.append(f"consumer {name} has ack policy {config.get('ack_policy')}, not explicit")
    if config.get("max_deliver", -1) != -1:
        faults.append(f"consumer {name} gives up after {config['max_deliver']} deliveries: set max_deliver -1")
    if config.get("backoff"):
        faults.append(f"consumer {name} has a backoff, which overrides its ack_wait")
    if abs(config.get("ack_wait", 0) / _NANO - ack_wait_s) > 0.001:
        faults.append(f"consumer {name} has ack_wait {config.get('ack_wait', 0) / _NANO:g} s, not {ack_wait_s:g} s")
    return faults


async def _sync_faults(bus: Bus) -> list[str]:
    answers: list[dict[str, Any]] = []
    got = asyncio.Event()

    async def take(message: Msg) -> None:
        if message.data:
            answers.append(json.loads(message.data))
            got.set()

    inbox = bus.client.new_inbox()
    subscription = await bus.client.subscribe(inbox, cb=take)
    try:
        await bus.publish(JSZ, b'{"config":true}', reply=inbox)
        async with asyncio.timeout(2):
            await got.wait()
        await asyncio.sleep(_GATHER_S)
    except TimeoutError:
        return [f"the bus does not tell its sync_interval: import $SYS.REQ.SERVER.PING.JSZ as {JSZ} (docs/nats.md)"]
    finally:
        await subscription.unsubscribe()
    return [
        f"server {answer['server']['name']} syncs to disk every {_interval(answer)}: set sync_interval: always"
        for answer in answers
        if answer.get("server", {}).get("jetstream") and not answer["data"].get("config", {}).get("sync_always")
    ]


def _interval(answer: dict[str, Any]) -> str:
    nanoseconds = answer["data"].get("config", {}).get("sync_interval", 0)
    return f"{nanoseconds / _NANO:g} s" if nanoseconds else "so often"
