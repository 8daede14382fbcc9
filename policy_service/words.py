"""People's words: checked against the signer's own key, the exact plan and the facts of now, then put on record.

The rule: an approval counts once, for one plan, from a person who has the role; anything else is refused, on record.
"""

from collections.abc import Callable, Mapping

import msgspec
import structlog

from mesh import faultpoints, metrics, tracing
from mesh.approvals import Shown, TaskRequest, Waiting, WordAnswer, WordRequest
from mesh.canonical import digest_bytes
from mesh.clock import now
from mesh.errors import ConflictError, SignatureError, TerminalError
from mesh.journal import CREATE, Committer, Journal, Message, Write
from mesh.outcomes import outcome
from mesh.quarantine import Reason, quarantined
from mesh.records import (
    Approval,
    Causation,
    Decision,
    Header,
    LimitUse,
    OutcomeStatus,
    Phase,
    Purpose,
    Statement,
    Verdict,
    Word,
)
from mesh.statements import open_statement, open_word
from mesh.tools import Tool
from mesh.trust import TrustDirectory, TrustEntry
from policy_service.citing import Cited, Fallen
from policy_service.correcting import corrected
from policy_service.deciding import Decider, Matter
from policy_service.engine import Assessment, Circumstances, judge_approval
from policy_service.ledger import Draft, Ledger
from policy_service.live import LiveBundles
from policy_service.pending import Pending
from policy_service.quorum import Voice, granted, joined, missing, name_of
from policy_service.showing import Case, show
from policy_service.voiding import parted, void_outputs

OPERATOR_ROLE = "operator"

log = structlog.get_logger(__name__)


class Words:
    """Takes people's words, and ends what waited too long."""

    def __init__(
        self,
        journal: Journal,
        committer: Committer,
        bundles: LiveBundles,
        decider: Decider,
        ledger: Ledger,
        pending: Pending,
        tools: Mapping[str, Mapping[str, Tool]],
        trust: TrustDirectory,
        cited: Cited,
        writer: str,
    ) -> None:
        self._journal = journal
        self._committer = committer
        self._bundles = bundles
        self._decider = decider
        self._ledger = ledger
        self._pending = pending
        self._tools = tools
        self._trust = trust
        self._cited = cited
        self._writer = writer

    async def waiting(self, _: object) -> list[Waiting]:
        """All that waits for a person."""
        await self._pending.fresh()
        return self._pending.waiting()

    async def show(self, request: TaskRequest) -> Shown:
        """What would be executed; raises ``TerminalError`` when nothing of the task waits."""
        case = await self._case(request.task_id)
        tools = self._tools.get(case.context.header.domain, {})
        return show(case, {name: tool.target for name, tool in tools.items()})

    async def take(self, request: WordRequest) -> WordAnswer:
        """Take a signed word. What is refused is in quarantine with the reason, and the reason is the answer."""
        try:
            said, entry = open_statement(request.signed, self._trust)
            case = await self._case(said.task_id)
            _check_word(said, case)
            return await self._record(said, request.signed, case, entry)
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
                await self._close(case, said, (), OutcomeStatus.EXPIRED)
            except (ConflictError, TerminalError) as error:
                log.info("expiry_superseded", task_id=task_id, detail=str(error))
        return len(late)

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

    async def _record(self, said: Statement, signed: msgspec.Raw, case: Case, entry: TrustEntry) -> WordAnswer:
        tools, policies = case.asked_by() if said.purpose is Purpose.PLAN else ((), ())
        approval = Approval(
            header=self._header(case, "approval"),
            statement=said,
            signed=signed,
            place=1 + sum(word.statement.role == said.role for word in case.approvals()),
            revision=case.plan.revision if said.purpose is Purpose.PLAN else 0,
            tools=tools,
            policies=policies,
            waited_s=round((now() - case.decision.header.at).total_seconds(), 3),
        )
        if said.purpose is Purpose.IN_DOUBT:
            await self._check_may_settle(said, case)
            word = case.word_on(said.step)
            await self._check_new(said)
            await self._commit(said, Write(approval, word.seq if word else CREATE))
            return WordAnswer(task_id=said.task_id, verdict="settled", reason=f"{said.step}: {said.word}")
        if said.word is not Word.REJECT and (fallen := await self._cited.fallen(case.plan)) is not None:
            return await self._void(said, case, fallen)
        match said.word:
            case Word.REJECT:
                _check_role(said, case, case.roles())
                reason = f"{said.person} ({said.role}) rejected it" + (f": {said.comment}" if said.comment else "")
                rejected = Assessment(verdict=Verdict.DENY, steps=case.decision.steps, reason=reason)
                answer = await self._close(case, rejected, (Write(approval),), OutcomeStatus.DENIED, said)
            case Word.CORRECT:
                answer = await self._correct(said, case, approval)
            case _:
                answer = await self._approve(said, case, approval, entry)
        _count(approval)
        return answer

    async def _void(self, said: Statement, case: Case, fallen: Fallen) -> WordAnswer:
        """End the plan that waits, for what it cites has changed since: whoever speaks has seen another state."""
        _check_role(said, case, case.roles())
        decision = await self._decider.void(
            case.context, case.plan, self._header(case, "execute"), Phase.EXECUTE, fallen
        )
        writes, again = parted(void_outputs(decision, case.items))
        try:
            await self._journal.commit_with(writes, again)
        except ConflictError as error:
            raise TerminalError(f"somebody's word on task {said.task_id} stands already: {error}") from error
        await faultpoints.reach("policy.after_word")
        then = "it is planned anew" if again else "the task is denied"
        return WordAnswer(task_id=said.task_id, verdict="void", reason=f"{fallen.reason}; {then}")

    async def _correct(self, said: Statement, case: Case, approval: Approval) -> WordAnswer:
        """End the plan that waits and put the corrected one in its place, at once: it is decided on anew."""
        _check_role(said, case, case.roles())
        head = self._header(case, f"plan/r{case.plan.revision + 1}")
        plan = corrected(case.plan, said, head, self._tools.get(head.domain, {}))
        reason = f"{said.person} ({said.role}) corrected the plan: {plan.digest} takes its place"
        void = Assessment(verdict=Verdict.DENY, steps=case.decision.steps, reason=reason)
        matter = await self._matter_without_facts(case)
        decision = self._decider.decision(matter, self._header(case, "execute"), Phase.EXECUTE, void)
        await self._commit(said, Write(approval), Write(decision), Write(plan))
        log.info("plan_corrected", task_id=said.task_id, role=said.role, revision=plan.revision)
        return WordAnswer(task_id=said.task_id, verdict="corrected", reason=f"plan {plan.digest} is decided on anew")

    async def _approve(self, said: Statement, case: Case, approval: Approval, entry: TrustEntry) -> WordAnswer:
        """Decide again with the role among the approvals, on the facts and limits of now."""
        if said.person in case.correctors():
            raise TerminalError(f"{said.person} has corrected this plan: another person must approve it")
        before = self._voices(case)
        if said.person in {voice.person for voice in before}:
            if answer := await self._decide(said, case, before):
                return answer
            raise TerminalError(f"{said.person} has approved this plan already: another person must say the rest")
        matter = await self._decider.matter(case.context, case.plan, case.agent, now())
        voices = [*before, _voice(said, case.is_escalated(now()))]
        _check_person(matter, case, said, entry)

        def draft(uses: tuple[LimitUse, ...]) -> Draft:
            asked = _asked(case, matter, uses)
            _check_role(said, case, asked)
            _check_lacking(said, asked, granted(before, asked, case.stand_ins()))
            return self._draft(case, matter, voices, uses, Write(approval))

        made = await self._settle(said, matter, draft)
        answer = _answer(said, made, voices, case)
        if answer.verdict:
            return answer
        # Of two who say it in the same moment each was counted alone: whoever was stored last finds both here.
        case = await self._case(said.task_id)
        found = self._voices(case)
        if not case.waits or len(found) <= len(voices):
            return answer
        try:
            return await self._decide(said, case, found) or answer
        except TerminalError as error:  # the other one was faster; this word stands all the same
            log.info("decided_by_another_word", task_id=said.task_id, detail=str(error))
            return answer

    async def _decide(self, said: Statement, case: Case, voices: list[Voice]) -> WordAnswer | None:
        """Decide on the approvals that stand already; ``None`` while somebody lacks."""
        matter = await self._decider.matter(case.context, case.plan, case.agent, now())
        made = await self._settle(said, matter, lambda uses: self._draft(case, matter, voices, uses))
        return _answer(said, made, voices, case) if made.writes else None

    def _draft(
        self, case: Case, matter: Matter, voices: list[Voice], uses: tuple[LimitUse, ...], *words: Write
    ) -> Draft:
        """What these voices come to; while somebody lacks it is the words alone."""
        approvals = granted(voices, _asked(case, matter, uses), case.stand_ins())
        judged = matter.weigh(approvals, uses)
        if judged.verdict is Verdict.NEEDS_APPROVAL:
            return Draft(words, takes=False)
        header = self._header(case, "execute")
        allowed = judged.verdict is Verdict.ALLOW
        people = tuple(voice.person for voice in voices) if allowed else ()
        decision = self._decider.decision(matter, header, Phase.EXECUTE, judged, uses, approved_by=people)
        if allowed:
            return Draft((*words, Write(decision)), takes=True)
        ending = outcome(header, OutcomeStatus.DENIED, case.items, reason=judged.reason)
        return Draft((*words, Write(decision), Write(ending)), takes=False)

    async def _settle(self, said: Statement, matter: Matter, draft: Callable[[tuple[LimitUse, ...]], Draft]) -> Draft:
        try:
            if takes := matter.takes():
                made = await self._ledger.settle(takes, draft)
            else:
                made = draft(())
                await self._journal.commit(*made.writes)
        except ConflictError as error:
            raise TerminalError(f"somebody's word on task {said.task_id} stands already: {error}") from error
        await faultpoints.reach("policy.after_word")
        return made

    async def _close(
        self,
        case: Case,
        said: Assessment,
        before: tuple[Write, ...],
        status: OutcomeStatus,
        word: Statement | None = None,
    ) -> WordAnswer:
        """End a task that waited: the second decision denies, and the outcome says why."""
        header = self._header(case, "execute")
        matter = await self._matter_without_facts(case)
        decision = self._decider.decision(matter, header, Phase.EXECUTE, said)
        ending = outcome(header, status, case.items, reason=said.reason)
        await self._commit(word, *before, Write(decision), Write(ending))
        return WordAnswer(task_id=header.task_id, verdict=decision.verdict, reason=said.reason)

    async def _matter_without_facts(self, case: Case) -> Matter:
        """What is closed unweighed: nothing is read for it."""
        bundle = await self._bundles.current(case.context.header.domain)
        return Matter(case.context, case.plan, {}, bundle, Circumstances(at=now(), agent=case.agent))

    def _voices(self, case: Case) -> list[Voice]:
        """The approvals so far, each verified again: one whose key was revoked since counts no more."""
        found = []
        for approval in case.approvals():
            try:
                said = open_word(approval, self._trust)
            except SignatureError as error:
                log.warning("approval_counts_no_more", task_id=approval.header.task_id, reason=str(error))
                continue
            found.append(_voice(said, case.is_escalated(approval.header.at)))
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
    if said.word not in (Word.APPROVE, Word.REJECT, Word.CORRECT):
        raise TerminalError(f"a plan needs approve, reject or correct, not {said.word}")
    if not case.waits:
        raise TerminalError(f"task {said.task_id} does not wait for approval (any more)")
    until = case.decision.approve_by
    if until is not None and now() >= until:
        raise TerminalError(f"the time to approve task {said.task_id} ended at {until.isoformat()}")


def _asked(case: Case, matter: Matter, uses: tuple[LimitUse, ...]) -> tuple[str, ...]:
    """The roles that were asked for when it was proposed, and those that would be now."""
    anew = (role for step in matter.weigh(frozenset(), uses).steps for role in step.roles)
    return joined((*case.roles(), *anew))


def _check_role(said: Statement, case: Case, asked: tuple[str, ...]) -> None:
    """The role is one that the plan waits for, or one that stands in for it by now."""
    if said.role in {name_of(role) for role in asked}:
        return
    if said.role in case.stand_ins() and case.is_escalated(now()):
        return
    wanted = f"task {said.task_id} waits for {', '.join(asked)}"
    if said.role in case.stand_ins() and case.decision.escalate_at is not None:
        raise TerminalError(f"{wanted}; {said.role} may stand in from {case.decision.escalate_at.isoformat()} on")
    raise TerminalError(f"{wanted}, not for {said.role}")


def _check_lacking(said: Statement, asked: tuple[str, ...], approvals: frozenset[str]) -> None:
    """The role still lacks somebody; a stand-in may act for any that does."""
    lacking = missing(asked, approvals)
    if said.role in {name_of(role) for role in asked} - {name_of(role) for role in lacking}:
        waits = ", ".join(lacking) or "nobody"
        raise TerminalError(f"the approval of {said.role} stands already: task {said.task_id} waits for {waits}")


def _check_person(matter: Matter, case: Case, said: Statement, entry: TrustEntry) -> None:
    """Hold the approval against the policies on ``approve``, step by step."""
    waiting = {step.step for step in case.decision.steps if step.verdict is Verdict.NEEDS_APPROVAL}
    for question in matter.questions():
        if question.step not in waiting:
            continue
        verdict = judge_approval(matter.bundle, question, said.person, entry.roles)
        if verdict.verdict is not Verdict.ALLOW:
            raise TerminalError(f"{said.person} may not approve step {question.step}: {'; '.join(verdict.reasons)}")


def _voice(said: Statement, escalated: bool) -> Voice:
    return Voice(person=said.person, role=said.role, escalated=escalated)


def _answer(said: Statement, made: Draft, voices: list[Voice], case: Case) -> WordAnswer:
    verdicts = [write.record for write in made.writes if isinstance(write.record, Decision)]
    if verdicts:
        log.info("plan_approved", task_id=said.task_id, role=said.role, verdict=verdicts[0].verdict)
        return WordAnswer(task_id=said.task_id, verdict=verdicts[0].verdict, reason=verdicts[0].reason)
    lacking = missing(case.roles(), granted(voices, case.roles(), case.stand_ins()))
    more = f"another person must approve too: {', '.join(lacking)}" if lacking else "another role must approve too"
    return WordAnswer(task_id=said.task_id, verdict="", reason=more)


def _count(approval: Approval) -> None:
    """Count a word for how often people override, and how fast they are."""
    for tool in approval.tools:
        metrics.APPROVAL_SECONDS.labels(tool=tool).observe(approval.waited_s)
        for policy in approval.policies:
            metrics.APPROVAL_WORDS.labels(word=approval.statement.word, tool=tool, policy=policy).inc()


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
