"""One effect: committed, called, its result kept on local disk and committed (DESIGN 3.4).

The rule: between the effect record and the result there is exactly one call in the world, or the tool has settled it.
"""

import time
from datetime import timedelta
from typing import NoReturn

import msgspec
import structlog

from agents.executor.doubts import Doubts
from agents.executor.protocol import NOTIFY, UNDO, Dispatch, Recover
from agents.executor.task import Task
from mesh import faultpoints, metrics, plans, subjects
from mesh.checkpoint import Checkpoint
from mesh.clock import now
from mesh.errors import ConflictError, NotSentError, RetryableError, ToolRefusedError, UncertainError
from mesh.halts import HaltedError, Halts
from mesh.journal import Journal, Write
from mesh.outbox import Outbox
from mesh.records import NULL, Effect, Json, Result, ResultStatus
from mesh.restored import Restored
from mesh.runtime import NotYetError
from mesh.toolbox import Toolbox
from mesh.tools import Recovery, Tool

log = structlog.get_logger(__name__)

_EFFECTS = metrics.Bound(metrics.EFFECTS)


class Dispatcher:
    """Dispatches and recovers effects for one executor process."""

    def __init__(
        self, journal: Journal, checkpoint: Checkpoint, executor: str, halts: Halts, restored: Restored
    ) -> None:
        self._journal = journal
        self._halts = halts
        self._restored = restored
        self._checkpoint = checkpoint
        self._outbox = Outbox(checkpoint)
        self._executor = executor
        self._noted: set[str] = set()
        self._doubts = Doubts()

    async def commit(self, task: Task, *writes: Write, ordered: bool = True) -> tuple[int, ...]:
        """Commit the results that wait, and these writes behind them; the sequences of ``writes``.

        ``ordered``: a crash may leave the first ones alone, and whoever comes next goes on from there. Raises
        ``NotYetError`` when another executor was faster: the task comes again, with what that one wrote.
        """
        waiting = task.take_waiting()
        if not waiting and not writes:
            return ()
        await faultpoints.reach("executor.before_commit")
        try:
            seqs = await self._journal.commit(*waiting, *writes, ordered=ordered)
        except ConflictError as error:
            log.info("another_executor_was_faster", task_id=task.id, subject=error.subject)
            raise NotYetError(f"another executor works on task {task.id}: {error}", delay_s=1.0) from error
        self._outbox.committed([write.record for write in waiting if isinstance(write.record, Result)])
        for write in waiting:
            if isinstance(write.record, Result) and (write.record.recovered or write.record.key in self._noted):
                self._noted.discard(write.record.key)
                self._checkpoint.drop_dispatched(write.record.key)
        return seqs[len(waiting) :]

    async def dispatch(self, task: Task, move: Dispatch, toolbox: Toolbox) -> None:
        """Commit the effect, make the call, and leave its result with the task to be committed with what follows."""
        tool = toolbox.find(move.call.tool)
        self._halts.require(task.plan.header.domain, tools=(tool.name,), agents=self._agents(task))
        try:
            toolbox.check(tool)
        except NotSentError as error:
            delay = toolbox.wait_s(tool)
            raise RetryableError(f"{tool.name} for {task.id} waits: {error}", delay_s=delay) from error
        effect = Effect(
            header=task.header(f"effect/{move.token}/{move.epoch}"),
            step=move.token,
            tool=tool.name,
            key=move.key,
            epoch=move.epoch,
            executor=self._executor,
            call_by=now() + timedelta(seconds=tool.timeout_s),
            permit=task.permit.id,
        )
        (seq,) = await self.commit(task, Write(effect, move.expected_seq))
        task.saw(effect, seq)
        await faultpoints.reach("executor.after_effect")
        if await self._was_before_restore(task, move, effect, tool, toolbox):
            return
        if tool.recovery is Recovery.MANUAL:
            await self._checkpoint.dispatch(move.key, move.epoch)
            self._noted.add(move.key)
        await _reach("before", move.token)
        await self._call(task, move, effect, seq, tool, toolbox)

    async def _was_before_restore(
        self, task: Task, move: Dispatch, effect: Effect, tool: Tool, toolbox: Toolbox
    ) -> bool:
        """Whether a first call must not be made: a backup does not know what was called after it."""
        restoration = self._restored.standing
        if restoration is None or effect.epoch > 1 or tool.recovery is Recovery.IDEMPOTENT:
            return False
        if tool.recovery is Recovery.MANUAL:
            when = f"{restoration.backup_at:%Y-%m-%d %H:%M} UTC"
            await self._ask_person(task, effect, f"the site is restored as of {when}: it may have been called since")
            return True
        try:
            answer = await toolbox.verify(tool, move.call.args, key=effect.key, epoch=effect.epoch)
        except NotSentError as error:
            raise RetryableError(str(error), delay_s=toolbox.wait_s(tool)) from error
        if answer is None:
            return False
        _count(tool, "verified_done")
        await self._succeed(task, effect, tool, answer, recovered="verified")
        return True

    async def _call(self, task: Task, move: Dispatch, effect: Effect, seq: int, tool: Tool, toolbox: Toolbox) -> None:
        domain, agents = task.plan.header.domain, self._agents(task)
        started = time.perf_counter()
        try:
            output = await toolbox.call(
                tool,
                move.call.args,
                key=move.key,
                epoch=move.epoch,
                call_by=effect.call_by.timestamp(),
                trace=effect.header.traceparent,
                gate=lambda: self._halts.gate(domain, tools=(tool.name,), agents=agents),
                approved_by=task.permit.approved_by,
            )
        except ToolRefusedError as error:
            failed = _result(task, effect, ResultStatus.FAILED, code=error.code, error=str(error), ms=_ms(started))
            await self._keep(task, effect, failed)
        except NotSentError as error:
            await self._withdraw(task, effect, seq)
            if isinstance(error, HaltedError):
                self._halts.require(domain, tools=(tool.name,), agents=agents)
            delay = toolbox.wait_s(tool)
            raise RetryableError(f"{tool.name} for {task.id} was not sent: {error}", delay_s=delay) from error
        except UncertainError as error:
            self._doubt(task, effect, tool, error, toolbox.wait_s(tool))
        else:
            await _reach("after", move.token)
            await self._succeed(task, effect, tool, output, ms=_ms(started))

    async def _succeed(
        self, task: Task, effect: Effect, tool: Tool, output: Json, *, ms: float = 0.0, recovered: str = ""
    ) -> None:
        """Keep a success, without what is to be hidden. One that lacks its receipt is none before more is known."""
        missing = task.duties.missing(effect.step, output)
        if not missing:
            output = task.duties.redacted(effect.step, output)
            result = _result(task, effect, ResultStatus.SUCCEEDED, output=output, ms=ms, recovered=recovered)
            await self._keep(task, effect, result)
            return
        why = f"the answer of {tool.name} lacks the receipt at {', '.join(missing)}"
        first = tool.recovery is Recovery.IDEMPOTENT and effect.epoch == 1
        if not recovered and (first or tool.recovery is Recovery.VERIFIABLE):
            self._doubt(task, effect, tool, UncertainError(why), None)
        await self._ask_person(task, effect, why)

    def _agents(self, task: Task) -> tuple[str, ...]:
        """Who would act here: a halt of any of them holds it."""
        return (task.plan.header.writer, task.decision.header.writer, self._executor)

    async def recover(self, task: Task, move: Recover, toolbox: Toolbox) -> None:
        """Settle an effect whose executor is gone, by what its tool declares; never a blind retry."""
        effect, tool = move.effect, toolbox.find(move.call.tool)
        await faultpoints.reach("executor.during_recovery")
        if (kept := self._kept(effect)) is not None:
            _count(tool, "kept")
            task.wait_with(_write(task, kept))
            return
        again = Dispatch(move.token, move.call, effect.key, effect.epoch + 1, move.effect_seq)
        if await self._certainly_not_sent(effect, tool):
            _count(tool, "not_sent")
            await self.dispatch(task, again, toolbox)
        elif tool.recovery is Recovery.IDEMPOTENT:
            _count(tool, "called_again")
            await self.dispatch(task, again, toolbox)
        elif tool.recovery is Recovery.VERIFIABLE:
            self._wait_settled(effect, tool)
            try:
                answer = await toolbox.verify(tool, move.call.args, key=effect.key, epoch=effect.epoch)
            except NotSentError as error:
                raise RetryableError(str(error), delay_s=toolbox.wait_s(tool)) from error
            if answer is None:
                _count(tool, "verified_absent")
                await self.dispatch(task, again, toolbox)
            else:
                _count(tool, "verified_done")
                await self._succeed(task, effect, tool, answer, recovered="verified")
        else:
            self._wait_settled(effect, tool)
            await self._ask_person(task, effect, "no answer to the call came, or it was lost with its executor")

    def close_failures(self, task: Task) -> None:
        """Have the effects of steps that failed for good closed with what follows.

        Who acts on a failure must hold the place of the effect behind it: an executor that took this one for dead may
        be dispatching the next epoch.
        """
        for action in task.actions().by_token.values():
            if action.effect is not None and action.ended(ResultStatus.FAILED) and not action.effect.closed:
                header = task.header(f"closed/{action.effect.step}/{action.effect.epoch}")
                closed = msgspec.structs.replace(action.effect, header=header, closed=True)
                task.wait_with(Write(closed, action.effect_seq))

    def closed_beforehand(self, task: Task) -> tuple[Write, ...]:
        """What takes the place of the task's first effect, for a task that is never to have one."""
        if not task.plan.steps or plans.faults(task.plan):
            return ()  # no executor can have found such a plan in order
        step = task.plan.steps[0]
        effect = Effect(
            header=task.header(f"closed/{step.id}/0"),
            step=step.id,
            tool=step.call.tool,
            key=step.effect_key,
            epoch=0,
            executor=self._executor,
            call_by=now(),
            permit="",
            closed=True,
        )
        return (Write(effect),)

    def _kept(self, effect: Effect) -> Result | None:
        """The result of this very dispatch, if this executor has it and could not commit it yet."""
        head = effect.header
        record = self._outbox.held(subjects.record("result", head.domain, head.task_id, effect.step))
        if not isinstance(record, Result) or (record.key, record.epoch) != (effect.key, effect.epoch):
            return None
        return record

    async def _keep(self, task: Task, effect: Effect, result: Result) -> None:
        """The result goes to the journal with what follows it.

        It goes to local disk first where nothing else could tell it again, or the journal takes nothing now.
        """
        _EFFECTS.of(effect.tool, result.status).inc()
        write = _write(task, result)
        if effect.key in self._noted or not self._journal.takes_records:
            await self._outbox.keep(write)
        else:
            self._outbox.hold(write)
        task.wait_with(write)
        await faultpoints.reach("executor.after_checkpoint")

    async def _withdraw(self, task: Task, effect: Effect, seq: int) -> None:
        header = task.header(f"withdrawn/{effect.step}/{effect.epoch}")
        withdrawn = msgspec.structs.replace(effect, header=header, executor=self._executor, withdrawn=True)
        await self.commit(task, Write(withdrawn, seq))

    def _doubt(self, task: Task, effect: Effect, tool: Tool, error: UncertainError, delay: float | None) -> NoReturn:
        # Nobody is asked, neither the target nor a person, before the call can take effect no more.
        if tool.recovery is not Recovery.IDEMPOTENT:
            delay = self._doubts.left_s(effect, tool)
        raise RetryableError(f"{tool.name} for {task.id} is uncertain: {error}", delay_s=delay) from error

    async def _ask_person(self, task: Task, effect: Effect, why: str) -> None:
        log.warning("effect_in_doubt", task_id=task.id, step=effect.step, tool=effect.tool, key=effect.key, why=why)
        error = f"{why}: a person must say whether it happened (`workmesh tasks settle {task.id}`)"
        await self._keep(task, effect, _result(task, effect, ResultStatus.IN_DOUBT, error=error))

    async def _certainly_not_sent(self, effect: Effect, tool: Tool) -> bool:
        """Whether this very executor wrote the effect and its checkpoint says that no call left."""
        if tool.recovery is not Recovery.MANUAL or effect.executor != self._executor:
            return False
        return not await self._checkpoint.was_dispatched(effect.key, effect.epoch)

    def _wait_settled(self, effect: Effect, tool: Tool) -> None:
        left = self._doubts.left_s(effect, tool)
        if left > 0:
            raise NotYetError(f"a call for {effect.key} may still be under way for {left:.2f} s", delay_s=left)


def _write(task: Task, result: Result) -> Write:
    return Write(result, task.actions().get(result.step).result_seq)


def _result(
    task: Task,
    effect: Effect,
    status: ResultStatus,
    *,
    output: Json = NULL,
    code: str = "",
    error: str = "",
    ms: float = 0.0,
    recovered: str = "",
) -> Result:
    """What came of a dispatch, as a record."""
    return Result(
        header=task.header(f"result/{effect.step}/{effect.epoch}"),
        step=effect.step,
        tool=effect.tool,
        key=effect.key,
        epoch=effect.epoch,
        status=status,
        output=output,
        code=code,
        error=error,
        attempts=effect.epoch,
        duration_ms=ms,
        recovered=recovered,
    )


async def _reach(when: str, token: str) -> None:
    """The fault points around a call."""
    await faultpoints.reach(f"executor.{when}_call")
    if token.endswith(UNDO):
        await faultpoints.reach(f"executor.{when}_undo")
    if NOTIFY in token:
        await faultpoints.reach(f"executor.{when}_notice")


def _count(tool: Tool, how: str) -> None:
    metrics.RECOVERED_EFFECTS.labels(tool=tool.name, how=how).inc()
    log.info("effect_recovered", tool=tool.name, how=how)


def _ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
