"""A person's word on an effect in doubt: checked again here, then written as what is true from now on."""

from datetime import timedelta

import msgspec
import structlog

from agents.executor.task import Task
from mesh import metrics
from mesh.clock import now
from mesh.errors import ConflictError, SignatureError, TerminalError
from mesh.journal import Journal, Stored, Write
from mesh.records import Approval, Effect, Result, ResultStatus, Statement, Word
from mesh.runtime import NotYetError
from mesh.statements import open_word
from mesh.trust import TrustDirectory

log = structlog.get_logger(__name__)


async def settle_by_person(journal: Journal, trust: TrustDirectory, task: Task, word: Stored) -> None:
    """Write the result that the person vouches for, or withdraw the effect so that it is dispatched anew.

    A word settles the doubt that was there when it was put on record, and no later one. Raises ``TerminalError`` when
    the signature does not verify or the word is not about this plan, ``NotYetError`` when another executor was faster.
    """
    assert isinstance(word.record, Approval)
    said = _open(trust, word.record)
    if said.plan_digest != task.plan.digest or said.task_id != task.id:
        raise TerminalError(f"the word of {said.person} is about another plan than task {task.id}'s")
    action = task.actions().get(said.step)
    effect = action.effect
    if effect is None or not action.ended(ResultStatus.IN_DOUBT) or word.seq < action.result_seq:
        log.info("doubt_already_settled", task_id=task.id, step=said.step)
        return
    metrics.RECOVERED_EFFECTS.labels(tool=effect.tool, how=f"person_{said.word}").inc()
    if said.word is Word.HAPPENED:
        result = Result(
            header=task.header(f"result/{said.step}/{effect.epoch}/person"),
            step=said.step,
            tool=effect.tool,
            key=effect.key,
            epoch=effect.epoch,
            status=ResultStatus.SUCCEEDED,
            output=msgspec.Raw(msgspec.json.encode({"person": said.person, "comment": said.comment})),
            recovered="person",
        )
        await _commit(journal, task, Write(result, action.result_seq))
    else:
        withdrawn = msgspec.structs.replace(
            effect,
            header=task.header(f"withdrawn/{said.step}/{effect.epoch}"),
            call_by=now() - timedelta(seconds=1),
            withdrawn=True,
        )
        assert isinstance(withdrawn, Effect)
        await _commit(journal, task, Write(withdrawn, action.effect_seq))


async def _commit(journal: Journal, task: Task, write: Write) -> None:
    try:
        await journal.commit(write)
    except ConflictError as error:
        raise NotYetError(f"another executor works on task {task.id}: {error}", delay_s=1.0) from error


def _open(trust: TrustDirectory, approval: Approval) -> Statement:
    try:
        return open_word(approval, trust)
    except SignatureError as error:
        raise TerminalError(f"the word on an effect in doubt is refused: {error}") from error
