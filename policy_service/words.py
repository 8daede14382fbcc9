"""People's words: checked against the signer's own key, the exact plan and the facts of now, then put on record.

The rule: an approval counts once, for one plan, from a person who has the role; anything else is refused, on record.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from mesh import faultpoints, tracing
from mesh.approvals import Shown, TaskRequest, Waiting, WordAnswer, WordRequest
from mesh.canonical import digest_bytes
from mesh.clock import now
from mesh.errors import ConflictError, SignatureError, TerminalError
from mesh.identity import Identity
from mesh.journal import CREATE, Committer, Journal, Message, Write
from mesh.outcomes import outcome
from mesh.pack import Pack, Sheet
from mesh.quarantine import Reason, quarantined
from mesh.records import (
    Approval,
    Causation,
    Header,
    OutcomeStatus,
    Phase,
    Purpose,
    Statement,
    Verdict,
    Word,
)
from mesh.settings import PolicySettings
from mesh.signing import STATEMENT_TYPE, open_envelope
from mesh.trust import TrustDirectory
from policy_service.deciding import decide, read_sheets, weigh
from policy_service.engine import Assessment
from policy_service.live import LiveBundles
from policy_service.pending import Pending
from policy_service.showing import Case, show

OPERATOR_ROLE = "operator"

log = structlog.get_logger(__name__)


class Words:
    """Takes people's words, and ends what waited too long."""

    def __init__(
        self,
        journal: Journal,
        committer: Committer,
        bundles: LiveBundles,
        pending: Pending,
        packs: Mapping[str, Pack],
        systems: Mapping[str, Mapping[str, Any]],
        signer: Identity,
        trust: TrustDirectory,
        settings: PolicySettings,
        writer: str,
    ) -> None:
        self._journal = journal
        self._committer = committer
        self._bundles = bundles
        self._pending = pending
        self._packs = packs
        self._systems = systems
        self._signer = signer
        self._trust = trust
        self._settings = settings
        self._writer = writer

    async def waiting(self, _: object) -> list[Waiting]:
        """All that waits for a person."""
        await self._pending.fresh()
        return self._pending.waiting()

    async def show(self, request: TaskRequest) -> Shown:
        """What would be executed; raises ``TerminalError`` when nothing of the task waits."""
        return show(await self._case(request.task_id))

    async def take(self, request: WordRequest) -> WordAnswer:
        """Take a signed word. What is refused is in quarantine with the reason, and the reason is the answer."""
        try:
            said = self._open(request.signed)
            case = await self._case(said.task_id)
            _check_word(said, case)
            return await self._record(said, request.signed, case)
        except TerminalError as error:
            log.error("word_refused", detail=str(error))
            await self._committer.commit([_refused(request, str(error))])
            raise

    async def expire(self) -> int:
        """Deny what has waited past its time; how many there were."""
        late = self._pending.expired(now())
        for task_id in late:
            try:
                case = await self._case(task_id)
                said = Assessment(
                    verdict=Verdict.DENY, steps=case.decision.steps, reason="nobody approved in time: it expired"
                )
                await self._close(case, said, {}, (), OutcomeStatus.EXPIRED)
            except (ConflictError, TerminalError) as error:
                log.info("expiry_superseded", task_id=task_id, detail=str(error))
        return len(late)

    def _open(self, signed: msgspec.Raw) -> Statement:
        """What was said, if a person in force said it; raises ``SignatureError``."""
        said, keyid = open_envelope(signed, STATEMENT_TYPE, Statement, lambda key: None)
        entry = self._trust.require(keyid, said.role)
        if entry.kind != "person":
            raise SignatureError(f"{entry.name} is a {entry.kind}: only a person may approve")
        if entry.name != said.person:
            raise SignatureError(f"the statement of {said.person} is signed by {entry.name}")
        return said

    async def _check_may_settle(self, said: Statement, case: Case) -> None:
        """Who may approve anything in the domain may say what happened in it; so may an operator by role."""
        bundle = await self._bundles.current(case.context.header.domain)
        allowed = {role for policy in bundle.policies.values() for role in policy.roles} | {OPERATOR_ROLE}
        if said.role not in allowed:
            raise SignatureError(
                f"{said.role} may not settle an effect in doubt: {', '.join(sorted(allowed))} may in this domain"
            )

    async def _case(self, task_id: str) -> Case:
        return Case.of(task_id, await self._journal.task(task_id))

    async def _record(self, said: Statement, signed: msgspec.Raw, case: Case) -> WordAnswer:
        approval = Approval(header=self._header(case, "approval"), statement=said, signed=signed)
        if said.purpose is Purpose.IN_DOUBT:
            await self._check_may_settle(said, case)
            word = case.word_on(said.step)
            await self._check_new(said)
            await self._commit(said, Write(approval, word.seq if word else CREATE))
            return WordAnswer(task_id=said.task_id, verdict="settled", reason=f"{said.step}: {said.word}")
        if said.word is Word.REJECT:
            reason = f"{said.person} ({said.role}) rejected it" + (f": {said.comment}" if said.comment else "")
            rejected = Assessment(verdict=Verdict.DENY, steps=case.decision.steps, reason=reason)
            return await self._close(case, rejected, {}, (Write(approval),), OutcomeStatus.DENIED, said)
        pack = self._packs[case.context.header.domain]
        sheets = await read_sheets(pack, self._systems[pack.name], case.context, case.plan)
        bundle = await self._bundles.current(pack.name)
        before = self._approvals(case)
        approvals = frozenset({said.role, *(each.role for each in before)})
        judged = weigh(bundle, case.context, case.plan, sheets, approvals)
        if judged.verdict is Verdict.NEEDS_APPROVAL:
            await self._commit(said, Write(approval))
            return WordAnswer(task_id=said.task_id, verdict="", reason="another role must approve too")
        if judged.verdict is Verdict.DENY:
            return await self._close(case, judged, sheets, (Write(approval),), OutcomeStatus.DENIED, said)
        decision = decide(
            self._header(case, "execute"),
            Phase.EXECUTE,
            case.plan,
            bundle,
            sheets,
            judged,
            signer=self._signer,
            settings=self._settings,
            approved_by=(*(each.person for each in before), said.person),
        )
        await self._commit(said, Write(approval), Write(decision))
        log.info("plan_approved", task_id=said.task_id, role=said.role)
        return WordAnswer(task_id=said.task_id, verdict=decision.verdict)

    async def _close(
        self,
        case: Case,
        said: Assessment,
        sheets: Mapping[str, Sheet],
        before: tuple[Write, ...],
        status: OutcomeStatus,
        word: Statement | None = None,
    ) -> WordAnswer:
        """End a task that waited: the second decision denies, and the outcome says why."""
        header = self._header(case, "execute")
        bundle = await self._bundles.current(header.domain)
        decision = decide(
            header, Phase.EXECUTE, case.plan, bundle, sheets, said, signer=self._signer, settings=self._settings
        )
        ending = outcome(header, status, case.items, reason=said.reason)
        await self._commit(word, *before, Write(decision), Write(ending))
        return WordAnswer(task_id=header.task_id, verdict=decision.verdict, reason=said.reason)

    def _approvals(self, case: Case) -> list[Statement]:
        """The approvals so far, each verified again: what stands in the journal proves nothing by itself."""
        found = []
        for approval in case.approvals():
            said = self._open(approval.signed)
            if said != approval.statement:
                raise SignatureError(f"the approval of {approval.statement.role} on record is not what was signed")
            found.append(said)
        return found

    async def _check_new(self, said: Statement) -> None:
        """A word on a doubt counts once: the same statement says nothing of the next doubt of that step."""
        items = await self._journal.history(said.task_id)
        if any(isinstance(item.record, Approval) and item.record.statement == said for item in items):
            raise TerminalError(f"this very word on step {said.step} was said before: look again, and sign anew")

    async def _commit(self, word: Statement | None, *writes: Write) -> None:
        try:
            await self._journal.commit(*writes)
        except ConflictError as error:
            if word is None:
                raise
            raise TerminalError(f"somebody's word on task {word.task_id} stands already: {error}") from error
        await faultpoints.reach("policy.after_word")

    def _header(self, case: Case, name: str) -> Header:
        head = case.context.header
        return Header(
            task_id=head.task_id,
            domain=head.domain,
            causation=Causation(stream="JOURNAL", subject=case.decision_item.subject, seq=case.decision_item.seq),
            writer=self._writer,
            at=now(),
            traceparent=tracing.child(case.plan.header.traceparent, name),
        )


def _check_word(said: Statement, case: Case) -> None:
    if now() >= said.expires_at:
        raise TerminalError(f"the statement expired at {said.expires_at.isoformat()}: sign it again")
    if said.plan_digest != case.plan.digest:
        raise TerminalError(
            f"the word is about plan {said.plan_digest}, but task {said.task_id} has {case.plan.digest}: look again"
        )
    case.require_unchanged()
    if said.purpose is Purpose.IN_DOUBT:
        if said.word not in (Word.HAPPENED, Word.NOT_HAPPENED):
            raise TerminalError(f"an effect in doubt needs happened or not_happened, not {said.word}")
        if case.doubt(said.step) is None:
            raise TerminalError(f"step {said.step!r} of task {said.task_id} is not in doubt (any more)")
        return
    if said.word not in (Word.APPROVE, Word.REJECT):
        raise TerminalError(f"a plan needs approve or reject, not {said.word}")
    if not case.waits:
        raise TerminalError(f"task {said.task_id} does not wait for approval (any more)")
    if said.role not in case.roles():
        raise TerminalError(f"task {said.task_id} waits for {', '.join(case.roles())}, not for {said.role}")
    until = case.decision.approve_by
    if until is not None and now() >= until:
        raise TerminalError(f"the time to approve task {said.task_id} ended at {until.isoformat()}")


def _refused(request: WordRequest, detail: str) -> Message:
    data = msgspec.json.encode(request)
    return quarantined(
        stage="policy",
        reason=Reason.REFUSED_WORD,
        detail=detail,
        stream="",
        subject="svc.policy.say",
        seq=int(digest_bytes(data).removeprefix("sha256:")[:12], 16),
        data=data,
    )
