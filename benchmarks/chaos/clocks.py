"""The wall clock of one process jumps by an hour while it runs.

The rule: the jump is proved by the process's own records, whose time is an hour from the bus's.
"""

from dataclasses import replace
from datetime import datetime

from benchmarks.chaos.cell import Bench, NotHitError
from benchmarks.chaos.evidence import Evidence, Verdict
from benchmarks.chaos.site import SiteSpec
from benchmarks.chaos.trial import Load, Trial, record_in
from mesh.bus import StoredMessage
from mesh.clock import now
from mesh.faultpoints import VARIABLE
from mesh.records import OutcomeStatus

_LOAD = Load(events=(8, 12))
_NEAR_S = 60.0


class _Skewed(Trial):
    """A trial under a wrong clock: a permit that is too old by it is refused, on record, which is no loss.

    That is the way in which invariant 5 fails closed; such a task has no effect.
    """

    may_expire = False

    async def evidence(self) -> Evidence:
        found = await super().evidence()
        if not self.may_expire:
            return found
        expired = {seen.task_id for seen in found.records if seen.status is OutcomeStatus.EXPIRED}
        accepted = [
            replace(task, ending=OutcomeStatus.EXPIRED) if task.task_id in expired else task for task in found.accepted
        ]
        return replace(found, accepted=accepted)


async def jump(bench: Bench, role: str, seconds: int) -> Verdict:
    """The clock of a role jumps with tasks under way; more come after."""
    ground = await bench.sites.get(SiteSpec())
    spec = ground.children[role].spec
    try:
        mark = ground.mark()
        await ground.arm({role: f"clock={seconds}@{mark}"})
        trial = await _Skewed.begin(ground, bench.folder.name, bench.draw, _LOAD)
        # By these two a permit is an hour old when it comes, which is as long as it stands.
        trial.may_expire = (role, seconds > 0) in (("executor", True), ("policy", False))
        await trial.work()
        mark.make()
        trial.fault_at = now()
        await trial.publish(bench.draw.randint(*_LOAD.events))
        verdict = await trial.settle()
        jumped = [item for item in await trial.journal() if _is_off(item, role, seconds)]
    finally:
        ground.children[role].spec = replace(spec, env={**spec.env, VARIABLE: ""})
        await ground.renew([role])
    if not jumped:
        raise NotHitError(f"no record of {role} is {seconds} s from the bus's time")
    return verdict


def _is_off(message: StoredMessage, role: str, seconds: int) -> bool:
    """Whether this is the role's record, written by a clock that is so far from the bus's."""
    record = record_in(message)
    if record is None:
        return False
    head = record.header
    off = (head.at - datetime.fromisoformat(message.time)).total_seconds()
    return head.writer.startswith(f"{role}/") and abs(off - seconds) < _NEAR_S
