"""The executor stage: a decision in; effects, results and the outcome out.

The rule: moves come from ``protocol.next_move`` alone; this module only carries them out.
"""

from collections.abc import Mapping

import structlog

from agents.executor import permit as permits
from agents.executor.dispatch import Dispatcher
from agents.executor.person import settle_by_person
from agents.executor.protocol import AskPerson, Dispatch, Finish, Recover, next_move
from agents.executor.task import Task
from mesh import faultpoints, metrics, subjects
from mesh.activation import Activations
from mesh.checkpoint import Checkpoint
from mesh.clock import now
from mesh.errors import TerminalError, ToolRefusedError
from mesh.journal import Journal, Write
from mesh.outbox import Outbox
from mesh.outcomes import outcome
from mesh.quarantine import Reason, quarantined
from mesh.records import Approval, Decision, Effect, OutcomeStatus, Permit, Purpose, Verdict
from mesh.runtime import Outputs, Work
from mesh.toolbox import Toolbox
from mesh.trust import TrustDirectory

log = structlog.get_logger(__name__)


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
    ) -> None:
        self._journal = journal
        self._trust = trust
        self._activations = activations
        self._toolboxes = toolboxes
        self._outbox = Outbox(checkpoint)
        self._dispatcher = Dispatcher(journal, checkpoint, name)

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
        task = Task(await self._journal.task(head.task_id, head.domain), work.writer)
        if isinstance(record, Decision) and (refused := await self._refusal(work, task)) is not None:
            return refused
        if task.outcome is not None:
            return ()
        if isinstance(record, Approval):
            task.permit = await self._permit(task)
            await settle_by_person(self._journal, self._trust, task, record)
            task = Task(await self._journal.task(head.task_id, head.domain), work.writer)
        task.permit = await self._permit(task)
        return await self._carry_out(task, self._toolboxes[head.domain])

    async def _carry_out(self, task: Task, toolbox: Toolbox) -> Outputs:
        while True:
            move = next_move(task.plan, task.actions())
            try:
                match move:
                    case Dispatch():
                        await self._dispatcher.dispatch(task, move, toolbox)
                    case Recover():
                        await self._dispatcher.recover(task, move, toolbox)
                    case AskPerson():
                        await self._flush(task)
                        log.warning("task_waits_for_person", task_id=task.id, step=move.token)
                        return ()
                    case Finish():
                        await self._finish(task, move)
                        return ()
            except ToolRefusedError as error:
                # Raised before any effect: the plan names a tool that is not here.
                raise TerminalError(f"task {task.id}: {error}") from error

    async def _finish(self, task: Task, move: Finish) -> None:
        status, reason = OutcomeStatus.COMPLETED, ""
        if move.failed:
            status = OutcomeStatus.COMPENSATED if move.undone and not move.left else OutcomeStatus.FAILED
            reason = move.reason
            if move.left:
                reason += f"; not compensated: {', '.join(move.left)}"
        ending = outcome(task.header("outcome"), status, task.items, reason=reason)
        waiting = task.take_waiting()
        await self._journal.commit(*waiting, Write(ending))
        self._outbox.committed([write.record for write in waiting])
        await faultpoints.reach("executor.after_outcome")

    async def _flush(self, task: Task) -> None:
        waiting = task.take_waiting()
        if waiting:
            await self._journal.commit(*waiting)
            self._outbox.committed([write.record for write in waiting])

    async def _permit(self, task: Task) -> Permit:
        return await permits.check(
            task.decision, task.plan, self._trust, self._activations, now=now(), used=bool(task.effects())
        )

    async def _refusal(self, work: Work, task: Task) -> Outputs | None:
        """The record of a refused permit, or ``None`` when it is good: the task's outcome, or else an item aside."""
        try:
            if _used_before(work, task):
                raise permits.PermitRefusedError("used", "the permit was used before: another decision led to effects")
            await self._permit(task)
        except permits.PermitRefusedError as error:
            metrics.PERMIT_REFUSALS.labels(reason=error.cause).inc()
            log.error("permit_refused", task_id=task.id, cause=error.cause, detail=str(error))
            if task.outcome is None and not task.effects():
                status = OutcomeStatus.EXPIRED if error.cause == "expired" else OutcomeStatus.REFUSED
                reason = f"permit refused: {error}"
                return (Write(outcome(task.header("outcome"), status, task.items, reason=reason)),)
            return (
                quarantined(
                    stage=work.stage,
                    reason=Reason.REFUSED_PERMIT,
                    detail=str(error),
                    stream=work.stream,
                    subject=work.subject,
                    seq=work.seq,
                    data=work.data,
                    headers=work.headers,
                    attempts=work.attempt,
                ),
            )
        return None


def _used_before(work: Work, task: Task) -> bool:
    """Whether effects of this task were caused by another decision than the one delivered now."""

    def caused_elsewhere(effect: Effect) -> bool:
        cause = effect.header.causation
        return (cause.stream, cause.seq) != (subjects.JOURNAL, work.seq)

    return any(caused_elsewhere(effect) for effect in task.effects())
