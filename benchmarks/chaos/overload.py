"""Ten times the rate that the site sustains, for some seconds: who publishes waits, memory stays bounded, all is done.

The rule: the rate that the site sustains is measured first, on this machine and in this run.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from benchmarks.chaos.cell import Bench, NotHitError
from benchmarks.chaos.evidence import Verdict
from benchmarks.chaos.site import NATS, Ground, SiteSpec
from benchmarks.chaos.trial import Load, Trial
from mesh import subjects

TIMES = 10
_PROBE = 80
_CHUNK = 40
_SPARE_S = 60.0
# At rest a role has 60 to 110 MB. A role holds at most 320 inputs of up to 64 KiB (concurrency and fetch_batch).
_ROLE_MB = 256
_NATS_MB = 512


async def overload(bench: Bench) -> Verdict:
    """Measure, overload, and wait until all is worked off. It has no time to recover: nothing broke."""
    ground = await bench.sites.get(SiteSpec())
    sustained = await _sustained(bench, ground)
    trial = await Trial.begin(ground, bench.folder.name, bench.draw, Load())
    pids = {name: ground.pid(name) for name in (*ground.children, NATS)}
    rest = memory_mb(pids)
    rate = TIMES * sustained
    trial.settle_s = _SPARE_S + 2 * TIMES * bench.load_s
    made = [event for _ in range(int(rate * bench.load_s / _CHUNK) + 1) for event in trial.make(_CHUNK)]
    started = time.monotonic()
    await trial.send(made, per_s=rate)
    acknowledged = len(made) / (time.monotonic() - started)
    backlog = await _backlog(ground)
    since = time.monotonic()
    verdict = await trial.settle()
    took_s = time.monotonic() - since
    peak = memory_mb(pids, peak=True)
    limits = {name: _NATS_MB if name == NATS else _ROLE_MB for name in pids}
    over = [f"{name} grew to {peak[name]} MB" for name in pids if peak[name] > limits[name]]
    over += [f"{name} died" for name, pid in pids.items() if ground.pid(name) != pid]
    if backlog < len(made) / 2:
        raise NotHitError(f"{rate:.0f} events/s left a backlog of {backlog} only: that is no overload")
    notes = (
        f"sustained {sustained:.0f} tasks/s, offered {rate:.0f}/s for {bench.load_s:g} s",
        f"acknowledged {acknowledged:.0f}/s, tasks open at its end: {backlog}, worked off in {took_s:.0f} s",
        "peak memory (at rest) in MB: " + ", ".join(f"{name} {peak[name]} ({rest[name]})" for name in pids),
    )
    return replace(verdict, problems=(*verdict.problems, *over), notes=notes)


async def _sustained(bench: Bench, ground: Ground) -> float:
    """Tasks a second with more to do than the site can, from the first event to the last outcome."""
    trial = await Trial.begin(ground, f"{bench.folder.name}-probe", bench.draw, Load())
    await trial.publish(_PROBE)
    verdict = await trial.settle()
    if verdict.problems:
        raise NotHitError(f"the site does not work before the overload: {verdict.problems[0]}")
    began = datetime.fromisoformat((await trial.events())[0].time)
    ended = max(datetime.fromisoformat(item.time) for item in await trial.journal() if ".outcome." in item.subject)
    return _PROBE / (ended - began).total_seconds()


async def _backlog(ground: Ground) -> int:
    """How many tasks have no outcome yet, by the streams' own counts."""
    counts = []
    for stream, subject in ((subjects.EVENTS, "event.>"), (subjects.JOURNAL, subjects.kind("outcome"))):
        info = await ground.bus.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
        counts.append(sum(info["state"].get("subjects", {}).values()))
    return int(counts[0] - counts[1])


def memory_mb(pids: Mapping[str, int], *, peak: bool = False) -> dict[str, int]:
    """Resident memory now, or its highest ever, as the kernel counts it (``VmRSS`` and ``VmHWM``, proc(5))."""
    word = "VmHWM:" if peak else "VmRSS:"
    found = {}
    for name, pid in pids.items():
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        found[name] = next((int(line.split()[1]) // 1024 for line in lines if line.startswith(word)), 0)
    return found
