"""The executor stage: a decision in; effects, results and the outcome out.

The rule: moves come from ``protocol.next_move`` alone; this module only carries them out.
"""

from collections.abc import Mapping

import structlog

from agents.executor import permit as permits
from agents.executor.dispatch import Dispatcher
from agents.executor.duties import duties
from agents.executor.person import settle_by_person
from agents.executor.protocol import NOTIFY, AskPerson, Dispatch, Finish, Recover, next_move
from agents.executor.task import Task
from mesh import faultpoints, metrics, subjects
from mesh.activation import Activations
from mesh.checkpoint import Checkpoint
from mesh.clock import now
from mesh.errors import RetryableError, TerminalError, ToolRefusedError
from mesh.halts import Halts
from mesh.journal import Journal, Stored, Write
from mesh.outcomes import outcome
from mesh.quarantine import Reason, set_aside
from mesh.records import Approval, Decision, Effect, OutcomeStatus, Permit, Purpose, Verdict
from mesh.restored import Restored
from mesh.runtime import NotYetError, Outputs, Work
from mesh.toolbox import Toolbox
from mesh.trust import TrustDirectory

log = structlog.get_logger(__name__)

_BUSY_S = 0.2  # as long as the runtime's shortest pause before a redelivery


class Executor:
    """Carries out what policy permitted. ``name`` is the same across restarts of this process."""

    def __init__(
        self,
        name: str,
        journal: Journal,
        checkpoint: Checkpoint,
        trust: TrustDirectory,
        activations: Activations,
        toolboxes: Mapping[str, Toolbox],
        halts: Halts,
        notices: Toolbox,
        restored: Restored | None = None,
    ) -> None:
        self._journal = journal
        self._trust = trust
        self._activations = activations
        self._toolboxes = toolboxes
        self._notices = notices
        self._dispatcher = Dispatcher(journal, checkpoint, name, halts, restored or Restored())
        self._acting: set[str] = set()

    async def act(self, work: Work) -> Outputs:
        """The handler of the executor stage."""
        record = work.record()
        head = record.header
        if isinstance(record, Decision):
            if record.verdict is not Verdict.ALLOW:
                return ()
        elif not isinstance(record, Approval):
            raise TerminalError(f"{work.subject} at {work.seq} is a {record.kind}: not for the executor")
        elif record.statement.purpose is not Purpose.IN_DOUBT:
            return ()
        if head.domain not in self._toolboxes:
            raise TerminalError(f"this executor has no pack {head.domain!r}: install it and release the record")
        if head.task_id in self._acting:
            # Each would take the other's effect for one of an earlier life that was certainly not sent.
            raise NotYetError(f"task {head.task_id} is being carried out here under another input", delay_s=_BUSY_S)
        self._acting.add(head.task_id)
        try:
            return await self._act(work, record)
        finally:
            self._acting.remove(head.task_id)

    async def _act(self, work: Work, record: Decision | Approval) -> Outputs:
        task = await self._task(work, record)
        if task.has_ended:
            return ()
        try:
            if _used_before(task):
                raise permits.PermitRefusedError("used", "the permit was used before: another decision led to effects")
            task.permit = await self._permit(task)
            task.duties = duties(task.plan, task.decision, task.permit.obligations)
        except permits.PermitRefusedError as error:
            return await self._refuse(work, task, error)
        if task.outcome is not None:
            return ()
        if isinstance(record, Approval):
            word = Stored(work.seq, work.subject, record.header.at, record)
            await settle_by_person(self._journal, self._trust, task, word)
            await self._read_again(task)
        await self._carry_out(task, self._toolboxes[record.header.domain])
        return ()

    async def _task(self, work: Work, record: Decision | Approval) -> Task:
        """The task under the decision that was delivered, or under the one that led to the effect in doubt."""
        head = record.header
        items = await self._journal.task(head.task_id, head.domain)
        if isinstance(record, Decision):
            return Task(items, Stored(work.seq, work.subject, head.at, record), work.writer)
        causes = [item.record.header.causation.seq for item in items if isinstance(item.record, Effect)]
        decision = await self._journal.at(causes[0]) if causes else None
        if decision is None or not isinstance(decision.record, Decision):
            raise TerminalError(f"task {head.task_id} has no effect in doubt under a decision")
        return Task(items, decision, work.writer)

    async def _read_again(self, task: Task) -> None:
        task.items = await self._journal.task(task.id, task.decision.header.domain)

    async def _carry_out(self, task: Task, toolbox: Toolbox) -> None:
        try:
            while await self._step(task, toolbox):
                pass
        except ToolRefusedError as error:
            # Raised before any effect: the plan names a tool that is not here.
            await self._dispatcher.commit(task)
            raise TerminalError(f"task {task.id}: {error}") from error
        except (RetryableError, TerminalError):
            # What is known goes on record before the task is left: the next delivery may come to another executor.
            await self._dispatcher.commit(task)
            raise

    async def _step(self, task: Task, toolbox: Toolbox) -> bool:
        """Do the one thing to do now; whether there may be more."""
        self._dispatcher.close_failures(task)
        move = next_move(task.plan, task.actions(), task.duties.notices)
        if isinstance(move, Dispatch | Recover) and NOTIFY in move.token:
            toolbox = self._notices
        match move:
            case Dispatch():
                await self._dispatcher.dispatch(task, move, toolbox)
            case Recover():
                await self._dispatcher.recover(task, move, toolbox)
            case AskPerson():
                await self._dispatcher.commit(task)
                log.warning("task_waits_for_person", task_id=task.id, step=move.token)
            case Finish():
                await self._finish(task, move)
        return isinstance(move, Dispatch | Recover)

    async def _finish(self, task: Task, move: Finish) -> None:
        status, reason = OutcomeStatus.COMPLETED, ""
        if move.failed:
            status = OutcomeStatus.COMPENSATED if move.undone and not move.left else OutcomeStatus.FAILED
            reason = move.reason
            if move.left:
                reason += f"; not compensated: {', '.join(move.left)}"
        if move.unmet:
            metrics.NOTICES_UNMET.labels(domain=task.plan.header.domain).inc(len(move.unmet))
            log.error("notices_unmet", task_id=task.id, unmet=move.unmet)
            reason = "; ".join(filter(None, (reason, f"obligation not met: {', '.join(move.unmet)}")))
        ending = outcome(task.header("outcome"), status, task.items, reason=reason)
        await self._dispatcher.commit(task, Write(ending))
        await faultpoints.reach("executor.after_outcome")

    async def _refuse(self, work: Work, task: Task, error: permits.PermitRefusedError) -> Outputs:
        """Put a refused permit on record: the task ends, or an item is set aside when it has effects or has ended.

        The outcome takes the place of the first effect too. So an executor that found the permit in order, and stalled
        since, does not act on a task that has ended.
        """
        metrics.PERMIT_REFUSALS.labels(reason=error.cause).inc()
        log.error("permit_refused", task_id=task.id, cause=error.cause, detail=str(error))
        if task.outcome is not None or task.effects():
            return (set_aside(work, Reason.REFUSED_PERMIT, str(error)),)
        status = OutcomeStatus.EXPIRED if error.cause == "expired" else OutcomeStatus.REFUSED
        ending = outcome(task.header("outcome"), status, task.items, reason=f"permit refused: {error}")
        await self._dispatcher.commit(task, *self._dispatcher.closed_beforehand(task), Write(ending), ordered=False)
        return ()

    async def _permit(self, task: Task) -> Permit:
        return await permits.check(
            task.decision, task.plan, self._trust, self._activations, now=now(), used=bool(task.effects())
        )


def _used_before(task: Task) -> bool:
    """Whether effects of this task were caused by another decision than the one it is under now."""
    here = (subjects.JOURNAL, task.decision_item.seq)
    causes = (effect.header.causation for effect in task.effects())
    return any((cause.stream, cause.seq) != here for cause in causes)
