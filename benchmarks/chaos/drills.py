"""The ways in which a cell brings its fault about, and what it does until all is over.

The rule: the fault happens at the named point, or the cell fails.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx2

from benchmarks.chaos.cell import Bench, Fault, NotHitError
from benchmarks.chaos.evidence import Verdict
from benchmarks.chaos.site import NATS, SHOP, Ground, Mark, SiteSpec, copy_of, until
from benchmarks.chaos.trial import HIT_S, PLAIN, Load, Trial
from mesh.clock import now

# A stopped process goes on so long after the ack wait: others have taken over by then, and meet it.
_PAST_S = 1.0
_AFTER = 4
_NTH = 3  # the seed draws at which time the point is reached
_SLOW_MS = 1500  # less than the client waits for an answer
_SIGNALS = {Fault.KILL: signal.SIGKILL, Fault.STOP: signal.SIGSTOP}


@dataclass(frozen=True, slots=True)
class Drill:
    """One fault on a kind of site, under some work."""

    spec: SiteSpec
    fault: Fault
    load: Load = PLAIN

    async def at_point(self, bench: Bench, role: str, point: str) -> Verdict:
        """The fault when a process of the role reaches a point for the nth time."""
        trial = await self._begin(bench)
        mark = trial.ground.mark()
        nth = bench.draw.randint(1, _NTH)
        await trial.ground.arm({role: f"{point}={self.fault}#{nth}@{mark}"})
        await trial.work()
        await self._hit(trial, mark)
        return await self._finish(trial)

    async def at_start(self, bench: Bench, role: str, point: str) -> Verdict:
        """A kill at a point, then the fault while the process starts anew with that work behind it."""
        trial = await self._begin(bench)
        first, mark = trial.ground.mark(), trial.ground.mark()
        await trial.ground.arm({role: f"{point}=kill@{first}"})
        await trial.work()
        await passed(trial, first)
        trial.ground.arm_next(role, f"{role}.opening={self.fault}@{mark}")
        await self._hit(trial, mark)
        return await self._finish(trial)

    async def at_recovery(self, bench: Bench) -> Verdict:
        """The executor is killed with an effect in doubt; the fault comes while that is settled, by whichever copy."""
        trial = await self._begin(bench)
        first, mark = trial.ground.mark(), trial.ground.mark()
        armed = f"executor.during_recovery={self.fault}@{mark}"
        points = {"executor": f"executor.after_call=kill@{first},{armed}"}
        if self.spec.copies:
            points[copy_of("executor")] = armed
        await trial.ground.arm(points)
        await trial.work()
        await passed(trial, first)
        await self._hit(trial, mark)
        return await self._finish(trial)

    async def at_drain(self, bench: Bench, role: str, held: str, point: str) -> Verdict:
        """SIGTERM while one piece of work is held at a point; the fault while the process drains."""
        trial = await self._begin(bench)
        first, mark, release = (trial.ground.mark() for _ in range(3))
        await trial.ground.arm({role: f"{held}=hold:{release}@{first},{point}={self.fault}@{mark}"})
        await trial.work()
        await passed(trial, first)
        trial.ground.send(role, signal.SIGTERM)
        await self._hit(trial, mark)
        return await self._finish(trial, release)

    async def beside(self, bench: Bench, victim: str, point: str, *, after: str = "", drain: str = "") -> Verdict:
        """The fault on the bus or the shop while the executor is held at a point; then the executor goes on.

        ``after`` kills the executor at another point first; ``drain`` holds it there first and sends it SIGTERM.
        """
        trial = await self._begin(bench)
        ground = trial.ground
        first, mark, release = (ground.mark() for _ in range(3))
        parts = [f"{point}=hold:{release}@{mark}"]
        parts += [f"{after}=kill@{first}"] if after else []
        parts += [f"{drain}=hold:{release}@{first}"] if drain else []
        await ground.arm({"executor": ",".join(parts)})
        await trial.work()
        if after or drain:
            await passed(trial, first)
        if drain:
            ground.send("executor", signal.SIGTERM)
        await passed(trial, mark)
        trial.fault_at = now()
        ground.send(victim, _SIGNALS[self.fault])
        release.make()
        return await self._finish(trial)

    async def in_shop(self, bench: Bench, crash: str) -> Verdict:
        """The fault at one of the shop's own points."""
        trial = await self._begin(bench)
        pid = trial.ground.pid(SHOP)
        faults = {crash: bench.draw.randint(1, _NTH), "freeze": self.fault is Fault.STOP}
        await trial.ground.shop_faults(**faults)
        await trial.work()
        await _until(lambda: trial.ground.pid(SHOP) != pid or is_stopped(pid), f"the shop's {crash} came")
        trial.fault_at = now()
        return await self._finish(trial)

    async def in_draining_shop(self, bench: Bench) -> Verdict:
        """SIGTERM to the shop with requests under way; the fault while it drains."""
        trial = await self._begin(bench)
        await trial.ground.shop_faults(delay_ms=_SLOW_MS)
        await trial.work()
        await _until(trial.has_effect, "a change is under way at the shop")
        pid = trial.ground.send(SHOP, signal.SIGTERM)
        await _until(lambda: _refuses(trial.ground), "the shop takes no more")
        if trial.ground.pid(SHOP) != pid:
            raise NotHitError("the shop had ended before the fault came")
        trial.fault_at = now()
        trial.ground.send(SHOP, _SIGNALS[self.fault])
        return await self._finish(trial)

    async def _begin(self, bench: Bench) -> Trial:
        ground = await bench.sites.get(self.spec)
        return await Trial.begin(ground, bench.folder.name, bench.draw, self.load)

    async def _hit(self, trial: Trial, mark: Mark) -> None:
        """Wait until the fault itself has happened: from then on recovery counts."""
        trial.fault_at = await passed(trial, mark)

    async def _finish(self, trial: Trial, release: Mark | None = None) -> Verdict:
        """Let go on what is stopped, past the ack wait; let go what is held; give more work; wait for the end."""
        ground = trial.ground
        if self.fault is Fault.STOP:
            await _until(lambda: bool(_stopped(ground)), "a process is stopped")
            names = _stopped(ground)
            gone_s = (now() - trial.fault_at).total_seconds() if trial.fault_at else 0.0
            await asyncio.sleep(max(0.0, ground.ack_wait_s + _PAST_S - gone_s))
            for name in names:
                os.kill(ground.pid(name), signal.SIGCONT)
        if release is not None:
            release.make()
        await trial.publish(_AFTER)
        return await trial.settle()


def _stopped(ground: Ground) -> list[str]:
    return [name for name in (*ground.children, NATS) if is_stopped(ground.pid(name))]


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal: state T in ``/proc/<pid>/stat`` (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


async def passed(trial: Trial, mark: Mark) -> datetime:
    """When the fault point was reached; raises ``NotHitError`` when it is not."""
    try:
        return await trial.reached(mark)
    except TimeoutError as error:
        raise NotHitError(str(error)) from error


async def _until(condition: Callable[[], Awaitable[bool] | bool], what: str) -> None:
    try:
        await until(condition, HIT_S, what)
    except TimeoutError as error:
        raise NotHitError(str(error)) from error


async def _refuses(ground: Ground) -> bool:
    """Whether the shop refuses connections."""
    url = httpx2.URL(ground.options["shop_url"])
    try:
        _, writer = await asyncio.open_connection(url.host, url.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False
