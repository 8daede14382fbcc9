"""What comes more than once, or in another order: acks that get lost, and a publisher that repeats itself.

The rule: no task happens twice, and tasks of one order act in the order in which their events came first.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.chaos.cell import Bench, NotHitError
from benchmarks.chaos.events import Made
from benchmarks.chaos.evidence import Accepted, Evidence, Verdict
from benchmarks.chaos.network import through
from benchmarks.chaos.site import Ground, SiteSpec
from benchmarks.chaos.trial import Load, Trial
from mesh import streams, subjects
from mesh.clock import now

_STAGES = ("perception", "planner", "policy", "executor", "learner")
_LOST_S = 5.0  # two ack waits, and some
_COPIES = 3
_LOAD = Load(events=(12, 16))


async def acks_lost(bench: Bench) -> Verdict:
    """Every ack of every stage gets lost for some seconds, while all goes on: what was handled comes again."""
    ground = await bench.sites.get(SiteSpec())
    async with through(ground, _STAGES) as proxies:
        await ground.renew(_STAGES)
        await ground.ready()
        trial = await Trial.begin(ground, bench.folder.name, bench.draw, _LOAD)
        before = await _deliveries(ground)
        for proxy in proxies.values():
            proxy.drops_acks = True
        await trial.work()
        trial.fault_at = now()
        await asyncio.sleep(_LOST_S)
        for proxy in proxies.values():
            proxy.drops_acks = False
        verdict = await trial.settle()
        after = await _deliveries(ground)
        fewest = min(proxy.acks_dropped for proxy in proxies.values())
    again = {stage: after[stage] - before[stage] - verdict.tasks for stage in ("perception", "planner")}
    if not fewest or min(again.values()) <= 0:
        raise NotHitError(f"a stage lost no ack ({fewest}), or nothing came again ({again})")
    return verdict


async def _deliveries(ground: Ground) -> dict[str, int]:
    """How many deliveries each stage has had, repeated ones included."""
    infos = {s.stage: await ground.bus.api(f"CONSUMER.INFO.{s.stream}.{s.stage}") for s in streams.STAGES}
    return {stage: int(info["delivered"]["consumer_seq"]) for stage, info in infos.items()}


class _Repeated(Trial):
    """An event that is in ``EVENTS`` several times is one task: the first of them stands."""

    async def evidence(self) -> Evidence:
        found = await super().evidence()
        first: dict[str, Accepted] = {}
        for item in found.accepted:
            first.setdefault(item.task_id, item)
        return replace(found, accepted=list(first.values()))


async def thrice(bench: Bench) -> Verdict:
    """Each event is sent three times: first with the orders turned about, then all backwards, then forwards."""
    ground = await bench.sites.get(SiteSpec())
    trial = await _Repeated.begin(ground, bench.folder.name, bench.draw, _LOAD)
    before = await ground.bus.api(f"STREAM.INFO.{subjects.EVENTS}")
    made = trial.make(bench.draw.randint(*_LOAD.events))
    await trial.send(turned_about(made))
    trial.fault_at = now()
    await trial.send([*reversed(made), *made])
    verdict = await trial.settle()
    after = await ground.bus.api(f"STREAM.INFO.{subjects.EVENTS}")
    stored = after["state"]["last_seq"] - before["state"]["last_seq"]
    if stored != _COPIES * len(made):
        raise NotHitError(f"{stored} events are in EVENTS, not {_COPIES} times {len(made)}")
    return verdict


def turned_about(made: Sequence[Made]) -> list[Made]:
    """The same events, the last entity first; those of one entity in their own order."""
    entities = list(dict.fromkeys(event.entity for event in made))
    return [event for entity in reversed(entities) for event in made if event.entity == entity]
