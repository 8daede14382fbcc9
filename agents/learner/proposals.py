"""Proposals as acts of governance: put on record, decided by people's signed words, put in force, taken back.

The rule: the act that changes something is committed first; what stands of its proposal follows from that act, and is
set right again and again, so a kill between the two leaves nothing half done.
"""

from collections.abc import Callable, Mapping

import structlog

from agents.learner.remembering import Remembered, remember, retract
from mesh import metrics, subjects
from mesh.bus import Bus
from mesh.clock import now
from mesh.control import Controls, Standing
from mesh.errors import BusUnavailableError, SignatureError, TerminalError, WorkmeshError
from mesh.experience import LearnedUse
from mesh.identity import Identity
from mesh.journal import Committer
from mesh.learned import (
    APPROVER_ROLE,
    BACK_ROLES,
    LEARNED,
    PLANNED,
    PROPOSALS,
    ChangeKind,
    LearnedAct,
    LearnedChange,
    LearnedWord,
    LearnRequest,
    Proposal,
    ProposalAct,
    ProposalLine,
    ProposalState,
    Value,
    Verdict,
    Watched,
    learned_subject,
    read_word,
)
from mesh.parameters import Declared, why_no_variant
from mesh.records import NULL, Causation, Json
from mesh.trust import TrustDirectory

log = structlog.get_logger(__name__)

LISTED_MAX = 200
LESSON = "lesson"
"""The count that tells a fact's lesson: its sequence in the journal."""

_START = 4

Watch = Callable[[Standing[LearnedAct]], tuple[Watched, ...]]


class Proposals:
    """What is proposed and what is in force. ``declared`` are the playbooks of each domain by name."""

    def __init__(
        self,
        bus: Bus,
        controls: Controls,
        committer: Committer,
        declared: Mapping[str, Mapping[str, Declared]],
        signer: Identity,
        trust: TrustDirectory,
    ) -> None:
        self._bus = bus
        self._controls = controls
        self._committer = committer
        self._declared = declared
        self._signer = signer
        self._trust = trust
        self._remembered: set[str] = set()

    async def refresh(self) -> None:
        """Take in what other copies have done."""
        await self._controls.refresh()

    def standing(self) -> tuple[Standing[ProposalAct], ...]:
        """Each proposal as it stands, the one that changed last at the end."""
        return self._controls.standing(PROPOSALS)

    def in_force(self) -> tuple[Standing[LearnedAct], ...]:
        """What was last decided of each target."""
        return self._controls.standing(LEARNED)

    def uses(self, domain: str) -> tuple[LearnedUse, ...]:
        """The changes in force in a domain, as planners use them."""
        acts = [item.act for item in self.in_force()]
        return tuple(
            LearnedUse(target=act.change.target, parameter=act.change.parameter, value=act.change.value, proposal="")
            for act in acts
            if act.change.domain == domain and act.change.value is not None
        )

    def value(self, change: LearnedChange) -> Value:
        """What is in force of the target of a change."""
        found = self._act_on(change)
        return found.act.change.value if found else None

    def closed_at(self, change: LearnedChange) -> int:
        """The sequence of the last word or act on a target: what was before it has been weighed already."""
        seqs = [item.seq for item in self.standing() if _target(item.act.proposal.change) == _target(change)]
        act = self._act_on(change)
        return max((*seqs, act.seq if act else 0), default=0)

    def is_open(self, change: LearnedChange) -> bool:
        """Whether something is proposed for a target."""
        return any(
            item.act.state is ProposalState.PROPOSED and _target(item.act.proposal.change) == _target(change)
            for item in self.standing()
        )

    def find(self, start: str) -> Standing[ProposalAct]:
        """The proposal whose id begins so, or the one for this target, an open one first; raises ``TerminalError``."""
        standing = self.standing()
        found = [item for item in standing if len(start) >= _START and item.act.proposal.id.startswith(start)]
        if not found:
            about = [item for item in standing if item.act.proposal.change.target == start]
            found = [item for item in about if item.act.state is ProposalState.PROPOSED] or about[-1:]
        if len(found) != 1:
            what = "no proposal" if not found else f"{len(found)} proposals"
            raise TerminalError(f"{what} {start!r}: `workmesh learn list` shows what there is")
        return found[0]

    def line(self, item: Standing[ProposalAct], watch: Watch) -> ProposalLine:
        """A proposal as people see it."""
        act = item.act
        in_force = self._act_on(act.proposal.change)
        is_in_force = in_force is not None and in_force.act.proposal == act.proposal.id
        return ProposalLine(
            id=act.proposal.id,
            proposal=act.proposal,
            state=act.state,
            since=item.stored_at,
            reason=act.reason,
            watched=watch(in_force) if in_force is not None and is_in_force and not in_force.act.back else (),
        )

    async def propose(self, proposal: Proposal) -> str:
        """Put a proposal on record; its id. A fact that was proposed before is not proposed again."""
        await self.refresh()
        if proposal.change.kind is ChangeKind.FACT:
            for item in self.standing():
                if item.act.proposal.change == proposal.change:
                    return item.act.proposal.id
        await self._put(proposal, ProposalState.PROPOSED, proposal.why)
        log.info("change_proposed", proposal=proposal.id, change=proposal.change.sentence())
        return proposal.id

    async def take(self, request: LearnRequest) -> Standing[ProposalAct]:
        """Do what a person's word says; raises ``TerminalError`` or ``SignatureError`` with what stands in the way."""
        await self._controls.refresh()
        said, act = self._open(request.signed)
        proposal = act.proposal
        match said.verdict:
            case Verdict.APPROVE:
                await self._approve(act, said, request.signed)
            case Verdict.REJECT:
                _require(act, ProposalState.PROPOSED)
                await self._put(proposal, ProposalState.REJECTED, _why(said), request.signed)
            case Verdict.ROLL_BACK:
                if act.state is not ProposalState.REMEMBERED:
                    _require(act, ProposalState.APPROVED)
                await self.roll_back(act, _why(said), request.signed)
        return self.find(proposal.id)

    async def roll_back(self, act: ProposalAct, reason: str, word: Json = NULL) -> None:
        """Go back to what was before a proposal; nobody's word is needed for it."""
        change = act.proposal.change
        if change.kind in PLANNED:
            standing = self._act_on(change)
            if standing is None or standing.act.back or standing.act.proposal != act.proposal.id:
                raise TerminalError(f"{act.proposal.id} is not in force: there is nothing to take back")
            back = LearnedChange(
                kind=change.kind,
                domain=change.domain,
                target=change.target,
                parameter=change.parameter,
                before=change.value,
                value=change.before,
            )
            taken = LearnedAct(
                person=self._signer.name,
                at=now(),
                reason=reason,
                change=back,
                proposal=act.proposal.id,
                word=word,
                back=True,
            )
            await self._controls.put(self._committer, LEARNED, taken, self._signer)
        elif change.kind is ChangeKind.FACT:
            await retract(self._bus, _fact(act.proposal, reason))
        await self._put(act.proposal, ProposalState.ROLLED_BACK, reason)

    async def settle(self) -> None:
        """Set right what stands of each proposal: after a kill, after another act, when what it rests on is gone."""
        seen: set[tuple[str, ...]] = set()
        for item in self.standing():
            act = item.act
            match act.state:
                case ProposalState.PROPOSED:
                    target = _target(act.proposal.change)
                    standing = self._act_on(act.proposal.change)
                    if standing is not None and standing.act.proposal == act.proposal.id and not standing.act.back:
                        await self._put(act.proposal, ProposalState.APPROVED, standing.act.reason, standing.act.word)
                    elif why := self._why_withdraw(act.proposal, target in seen):
                        await self._put(act.proposal, ProposalState.WITHDRAWN, why)
                    seen.add(target)
                case ProposalState.APPROVED:
                    await self._settle_approved(act)
        counts = [item.act.state for item in self.standing()]
        for state in ProposalState:
            metrics.PROPOSALS.labels(state).set(counts.count(state))

    async def _settle_approved(self, act: ProposalAct) -> None:
        proposal = act.proposal
        if proposal.change.kind is ChangeKind.FACT:
            if proposal.id not in self._remembered:
                await self._remember(proposal)
            return
        standing = self._act_on(proposal.change)
        if standing is None:
            return
        if standing.act.proposal != proposal.id:
            await self._put(proposal, ProposalState.REPLACED, f"by {standing.act.proposal}")
        elif standing.act.back:
            await self._put(proposal, ProposalState.ROLLED_BACK, standing.act.reason)

    def _why_withdraw(self, proposal: Proposal, is_second: bool) -> str:
        change = proposal.change
        if is_second:
            return "another one for the same target was proposed before"
        if change.kind not in PLANNED:
            return ""
        if (value := self.value(change)) != change.before:
            return f"{value if value is not None else 'the pack as it is'} is in force now, not {change.before}"
        return self._why_undeclared(change)

    async def withdraw(self, act: ProposalAct, why: str) -> None:
        """Withdraw what is proposed."""
        await self._put(act.proposal, ProposalState.WITHDRAWN, why)

    def _why_undeclared(self, change: LearnedChange) -> str:
        declared = self._declared.get(change.domain, {})
        if change.value is None or change.kind not in PLANNED:
            return ""
        if change.kind is ChangeKind.CHOICE:
            return why_no_variant(declared, change.target, change.value)
        book = declared.get(change.target)
        parameter = book.parameters.get(change.parameter) if book else None
        return parameter.why_not(change.value) if parameter else f"{change.target} has no {change.parameter}"

    async def _approve(self, act: ProposalAct, said: LearnedWord, word: Json) -> None:
        proposal = act.proposal
        change = proposal.change
        if change.kind is ChangeKind.AUTONOMY:
            raise TerminalError(
                f"policy changes stages, on its own evidence: `workmesh autonomy raise {change.domain} {change.target}`"
            )
        standing = self._act_on(change)
        stands = standing is not None and not standing.act.back and standing.act.proposal == proposal.id
        if not stands:  # else the answer was lost
            _require(act, ProposalState.PROPOSED)
            if why := self._why_withdraw(proposal, False):
                raise TerminalError(f"{proposal.id} cannot be approved: {why}")
            if change.kind in PLANNED:
                taken = LearnedAct(
                    person=self._signer.name,
                    at=now(),
                    reason=_why(said),
                    change=change,
                    proposal=proposal.id,
                    word=word,
                )
                await self._controls.put(self._committer, LEARNED, taken, self._signer)
                log.info("change_in_force", proposal=proposal.id, change=change.sentence(), person=said.person)
        if act.state is ProposalState.PROPOSED:
            await self._put(proposal, ProposalState.APPROVED, _why(said), word)
        if change.kind is ChangeKind.FACT:
            await self._remember(proposal)

    async def _remember(self, proposal: Proposal) -> None:
        try:
            await remember(self._bus, _fact(proposal))
        except BusUnavailableError as error:
            log.warning("fact_waits_for_memory", proposal=proposal.id, error=str(error))
            return
        except WorkmeshError as error:
            log.error("fact_not_taken", proposal=proposal.id, error=str(error))
            self._remembered.add(proposal.id)  # until the next start
            return
        await self._put(proposal, ProposalState.REMEMBERED, "memory has it")

    def _open(self, signed: Json) -> tuple[LearnedWord, ProposalAct]:
        """The word and what it is about; raises ``SignatureError`` for one that does not count."""
        said, keyid = read_word(signed)
        entry = self._trust.require(keyid, said.role)
        if entry.kind != "person" or entry.name != said.person:
            raise SignatureError(f"the word of {said.person} is signed by {entry.name}, a {entry.kind}")
        allowed = BACK_ROLES if said.verdict is Verdict.ROLL_BACK else (APPROVER_ROLE,)
        if said.role not in allowed:
            raise SignatureError(f"{said.role} may not {said.verdict} what was learned: {' or '.join(allowed)} may")
        if said.expires_at <= now():
            raise SignatureError(f"the word of {said.person} was over at {said.expires_at.isoformat()}: say it again")
        act = self.find(said.proposal).act
        if (said.proposal, said.change) != (act.proposal.id, act.proposal.change):
            raise SignatureError(f"the word of {said.person} is about another change than {act.proposal.id}")
        return said, act

    def _act_on(self, change: LearnedChange) -> Standing[LearnedAct] | None:
        subject = learned_subject(change)
        return next((item for item in self.in_force() if item.subject == subject), None)

    async def _put(self, proposal: Proposal, state: ProposalState, reason: str, word: Json = NULL) -> None:
        act = ProposalAct(person=self._signer.name, at=now(), reason=reason, proposal=proposal, state=state, word=word)
        await self._controls.put(self._committer, PROPOSALS, act, self._signer)


def _fact(proposal: Proposal, reason: str = "") -> Remembered:
    """The fact that a proposal is about, and which record it rests on."""
    change = proposal.change
    seq = next((int(count.value) for count in proposal.evidence if count.name == LESSON), 0)
    subject = next(iter(proposal.records), "")
    evidence = Causation(stream=subjects.JOURNAL, subject=subject, seq=seq) if seq else None
    return Remembered(
        domain=change.domain,
        subject=change.target,
        predicate=change.parameter.partition("/")[0],
        text=str(change.value),
        source=f"workmesh:{change.parameter}",
        evidence=evidence,
        reason=reason,
    )


def _target(change: LearnedChange) -> tuple[str, ...]:
    return change.kind, change.domain, change.target, change.parameter


def _require(act: ProposalAct, state: ProposalState) -> None:
    if act.state is not state:
        raise TerminalError(f"{act.proposal.id} is {act.state}, not {state}")


def _why(said: LearnedWord) -> str:
    return f"{said.person} ({said.role})" + (f": {said.reason}" if said.reason else "")
