"""A site on a cluster of three: the leader of a stream is killed under load, then the majority.

The rule: what was acknowledged is on two disks, so whatever a minority loses, nothing is lost.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from benchmarks.chaos.cell import Bench, NotHitError
from benchmarks.chaos.cluster import NatsCluster, clustered
from benchmarks.chaos.evidence import Verdict
from benchmarks.chaos.site import Ground, SiteSpec, ground_in
from benchmarks.chaos.trial import Load, Trial
from console.up import with_state_dir
from mesh.clock import now
from mesh.settings import load
from mesh.site import Site

_ENV = {"WORKMESH_BUS__REPLICAS": "3", "WORKMESH_BUS__CONNECT_TIMEOUT_S": "10"}
_LOAD = Load(events=(12, 12))
_AFTER = 8
_AWAY_S = 5.0
_BACK_S = 90.0


async def leader_killed(bench: Bench, stream: str) -> Verdict:
    """Kill the server that leads a stream, with tasks under way; it comes back when they are done."""
    async with _site(bench) as (cluster, ground):
        trial = await _Patient.begin(ground, bench.folder.name, bench.draw, _LOAD)
        working = asyncio.create_task(trial.work())
        leader = await cluster.leader(ground.bus, stream)
        await asyncio.sleep(0.1)
        trial.fault_at = now()
        await leader.kill()
        await working
        await trial.publish(_AFTER)
        verdict = await trial.settle()
        after = await cluster.leader(ground.bus, stream)
        await leader.start()
    if after is leader:
        raise NotHitError(f"{leader.name} still leads {stream}")
    return replace(verdict, notes=(f"{leader.name} led {stream}, then {after.name}",))


async def majority_lost(bench: Bench) -> Verdict:
    """Kill two of three with tasks under way, publish on, and start them again after 5 s: recovery counts from then."""
    async with _site(bench) as (cluster, ground):
        trial = await _Patient.begin(ground, bench.folder.name, bench.draw, _LOAD)
        await trial.work()
        lost = cluster.members[:2]
        for member in lost:
            await member.kill()
        more = asyncio.create_task(trial.publish(_AFTER))
        done, _ = await asyncio.wait([more], timeout=_AWAY_S)
        for member in lost:
            await member.start()
        trial.fault_at = now()
        await more
        verdict = await trial.settle()
    if done:
        raise NotHitError("one server of three took events by itself")
    return replace(verdict, notes=(f"two of three were away for {_AWAY_S:g} s",))


class _Patient(Trial):
    """Waits longer: an election takes four to nine seconds (nats-server's raft)."""

    settle_s = _BACK_S


@asynccontextmanager
async def _site(bench: Bench) -> AsyncIterator[tuple[NatsCluster, Ground]]:
    await bench.sites.close()
    folder = bench.folder / "cluster"
    site = Site(with_state_dir(load(None, _ENV), folder / "site"))
    async with clustered(folder, site.users(), site.admin) as cluster:
        env = {**_ENV, "WORKMESH_BUS__URL": cluster.url}
        async with ground_in(folder, SiteSpec(), env=env) as ground:
            await ground.ready()
            yield cluster, ground
