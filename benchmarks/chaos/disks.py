"""The bus's disk is slow, or has no room: its own, or a stream's.

The rule: nothing is acknowledged that is not on disk, and all goes on by itself when the disk is well again.
"""

import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec

from benchmarks.chaos.cell import Bench, NotHitError
from benchmarks.chaos.evidence import Verdict
from benchmarks.chaos.site import Ground, SiteSpec, ground_in, until
from benchmarks.chaos.slowsync import SlowSync
from benchmarks.chaos.trial import HIT_S, Load, Trial
from mesh import logs, streams, subjects
from mesh.bus import Bus, connect
from mesh.clock import now
from mesh.embedded import find_binary
from mesh.settings import LogSettings, load
from mesh.site import Site, stream_specs

DISK_MB = 48
_LOAD = Load(events=(12, 12))
_SLOW_S = 0.15
_LASTS_S = 4.0
_PROBES = 5
_TIMES_SLOWER = 5
_FULL_S = 3.0
_SMALL = 192 * 1024
_SHARE_FULL = 0.9
_BATCHES = 12
_AFTER = 24  # more than fits into pages that are begun
_WRITERS = ("perception", "planner", "policy", "executor", "learner")


async def slow(bench: Bench) -> Verdict:
    """Every fsync of the server takes 150 ms longer, while some seconds of work come in."""
    await bench.sites.close()
    async with (
        SlowSync(bench.folder, find_binary()) as sync,
        ground_in(bench.folder / "slow", SiteSpec(), binary=sync.launcher) as ground,
    ):
        await ground.ready()
        trial = await Trial.begin(ground, bench.folder.name, bench.draw, _LOAD)
        before = await _publish_s(trial)
        await trial.work()
        sync.delay_s = _SLOW_S
        during = await _publish_s(trial)
        await asyncio.sleep(_LASTS_S)
        sync.delay_s = 0.0
        trial.fault_at = now()
        verdict = await trial.settle()
    if not sync.delayed or during < _TIMES_SLOWER * before:
        raise NotHitError(f"a publish took {during * 1000:.0f} ms, {before * 1000:.0f} ms before")
    times = f"a publish took {during * 1000:.0f} ms, {during / before:.0f} times what it took before"
    return replace(verdict, notes=(times, f"{sync.delayed} calls of fsync were held {_SLOW_S * 1000:.0f} ms each"))


async def _publish_s(trial: Trial) -> float:
    """How long one publish takes until it is acknowledged: the median of a few."""
    found = []
    for _ in range(_PROBES):
        started = time.perf_counter()
        await trial.publish(1)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


async def full(bench: Bench) -> Verdict:
    """Another program fills the disk of the bus, a small one in a mount namespace of its own, and leaves after 3 s.

    Where this user may not have such a namespace, the limit of a stream stands in for the disk.
    """
    if not _may_unshare():
        verdict = await stream_full(bench)
        return replace(verdict, notes=("no mount namespace here: a stream's limit instead of a disk", *verdict.notes))
    await bench.sites.close()
    folder = bench.folder / "full"
    process = await asyncio.create_subprocess_exec(
        *_unshared(),
        *(sys.executable, "-m", "benchmarks.chaos.disks", str(folder), str(bench.seed)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await process.communicate()
    except BaseException:
        process.terminate()
        await process.wait()
        raise
    if process.returncode:
        raise NotHitError(said.decode(errors="replace")[-500:])
    return msgspec.json.decode(out, type=Verdict)


def _may_unshare() -> bool:
    return subprocess.run([*_unshared(), "true"], capture_output=True, check=False).returncode == 0


def _unshared() -> list[str]:
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *own, "--mount"]


def _small_disk(folder: Path) -> Path:
    """A disk of its own for the bus of the site that will be in this folder."""
    disk = folder / "site" / "nats"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(disk)], check=True)
    return disk


async def _on_small_disk(folder: Path, disk: Path, seed: str) -> Verdict:
    """The cell itself, within the namespace."""
    async with ground_in(folder, SiteSpec()) as ground:
        await ground.ready()
        trial = await Trial.begin(ground, "disk-full", random.Random(seed), _LOAD)
        await trial.work()
        filler = disk / "filler"
        _fill(filler)
        more = asyncio.create_task(trial.publish(_AFTER))
        done, _ = await asyncio.wait([more], timeout=_FULL_S)
        waits = ground.committer.is_waiting
        filler.unlink()
        trial.fault_at = now()
        await more
        verdict = await trial.settle()
    if done or not waits:
        raise NotHitError("the bus took records on a full disk")
    return replace(verdict, notes=(f"a disk of {DISK_MB} MB without a free byte for {_FULL_S:g} s",))


def _fill(path: Path) -> None:
    """Take all the room that the disk has left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


async def stream_full(bench: Bench) -> Verdict:
    """The journal is at the limit of its settings while work comes in; a person raises the limit."""
    await bench.sites.close()
    env = {"WORKMESH_BUS__JOURNAL_MAX_BYTES": str(_SMALL)}
    async with ground_in(bench.folder / "stream", SiteSpec(), env=env) as ground:
        await ground.ready()
        trial = await Trial.begin(ground, bench.folder.name, bench.draw, _LOAD)
        for _ in range(_BATCHES):
            if await _share(ground.bus) > _SHARE_FULL:
                break
            await trial.work()
            await asyncio.sleep(_FULL_S / _BATCHES)
        await until(lambda: _waits(ground), HIT_S, "a stage waits for room")
        trial.fault_at = now()
        await _raise_limit(ground)
        verdict = await trial.settle()
    return replace(verdict, notes=(f"the journal was full at {_SMALL // 1024} KB",))


async def _share(bus: Bus) -> float:
    info = await bus.api(f"STREAM.INFO.{subjects.JOURNAL}")
    return float(info["state"]["bytes"]) / _SMALL


def _waits(ground: Ground) -> bool:
    """Whether a stage has said that its commits wait for room."""
    files = (ground.children[role].spec.log_file for role in _WRITERS)
    return any("commit_waits" in text and "has no room" in text for text in (log.read_text() for log in files))


async def _raise_limit(ground: Ground) -> None:
    """As an operator does: a new setting, and the streams made to fit it."""
    settings = load(None, {}).bus
    options = Site(ground.settings).admin.nats_options()
    async with connect(ground.running.url, name="admin/chaos", options=options) as bus:
        await streams.ensure(
            bus,
            stream_specs(settings),
            replicas=settings.replicas,
            ack_wait_s=settings.ack_wait_s,
            max_ack_pending=settings.max_ack_pending,
        )


if __name__ == "__main__":
    logs.configure(LogSettings(level="error"), role="chaos", instance="chaos")
    found = asyncio.run(_on_small_disk(Path(sys.argv[1]), _small_disk(Path(sys.argv[1])), sys.argv[2]))
    sys.stdout.buffer.write(msgspec.json.encode(found))
