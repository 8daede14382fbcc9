"""Changing how far a tool may act by itself: up by a person's signed word and the evidence, down by a breach alone.

The rule: each change is an act of governance in the journal, and the evidence for the next one starts with it.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog

from mesh import metrics
from mesh.approvals import Nothing
from mesh.autonomy import AUTONOMY, Evidence, Stage, StageAct, StageLine, StageRequest, StageWord
from mesh.clock import now
from mesh.control import Controls, Standing
from mesh.errors import SignatureError, TerminalError
from mesh.identity import Identity
from mesh.journal import Committer
from mesh.records import NULL, Json
from mesh.signing import STAGE_TYPE, open_envelope
from mesh.trust import TrustDirectory
from policy_service.autonomy import Autonomy, breach, why_not_up
from policy_service.evidence import EvidenceBook
from policy_service.live import LiveBundles
from policy_service.quorum import name_of

LOWERERS = ("operator", "policy_admin")

log = structlog.get_logger(__name__)


class Stages:
    """The stages in force, as a look-up in memory. Kept current by ``Controls.on_change``."""

    def __init__(self) -> None:
        self._acts: dict[tuple[str, str], StageAct] = {}

    def replace(self, standing: Iterable[Standing[StageAct]]) -> None:
        """Take these for all that stands."""
        self._acts = {(item.act.domain, item.act.tool): item.act for item in standing}
        for (domain, tool), act in self._acts.items():
            metrics.AUTONOMY_STAGE.labels(domain=domain, tool=tool).set(act.stage.rank)

    def act(self, domain: str, tool: str) -> StageAct | None:
        """The last change of a tool's stage."""
        return self._acts.get((domain, tool))

    def of(self, domain: str, tool: str) -> str:
        """The stage that was decided for a tool, or an empty string."""
        act = self._acts.get((domain, tool))
        return str(act.stage) if act else ""


class Staging:
    """Takes words on stages, and lowers what has breached its bar."""

    def __init__(
        self,
        controls: Controls,
        committer: Committer,
        stages: Stages,
        bundles: LiveBundles,
        book: EvidenceBook,
        domains: Iterable[str],
        signer: Identity,
        trust: TrustDirectory,
    ) -> None:
        self._controls = controls
        self._committer = committer
        self._stages = stages
        self._bundles = bundles
        self._book = book
        self._domains = tuple(domains)
        self._signer = signer
        self._trust = trust

    async def lines(self, _: Nothing) -> list[StageLine]:
        """The stage of each tool that is staged, with the evidence since it has it."""
        found = []
        for domain in self._domains:
            autonomy = await self._autonomy(domain)
            if autonomy is None:
                continue
            await self._book.fresh()
            for rule in autonomy.tools:
                act = self._stages.act(domain, rule.tool)
                evidence = self._evidence(domain, rule.tool, autonomy.raise_when.window)
                stage = act.stage if act else autonomy.start
                found.append(
                    StageLine(
                        domain=domain,
                        tool=rule.tool,
                        stage=stage,
                        since=act.at if act else None,
                        person=act.person if act else "",
                        reason=act.reason if act else "the bundle's start",
                        evidence=evidence,
                        next_needs="" if stage is Stage.AUTONOMOUS else why_not_up(evidence, autonomy.raise_when),
                    )
                )
        return found

    async def change(self, request: StageRequest) -> StageLine:
        """Change a stage as a person wants it; raises ``TerminalError`` with what stands in the way."""
        said, autonomy = await self._open(request.signed)
        await self._book.fresh()
        act = self._stages.act(said.domain, said.tool)
        stage = act.stage if act else autonomy.start
        if said.before is not stage:
            raise TerminalError(f"{said.tool} is at the stage {stage} now, not {said.before}: look again")
        evidence = self._evidence(said.domain, said.tool, autonomy.raise_when.window)
        if said.stage.rank > stage.rank:
            if said.stage is not stage.above():
                raise TerminalError(f"from {stage} a tool goes to {stage.above()}, not to {said.stage}")
            if why := why_not_up(evidence, autonomy.raise_when):
                raise TerminalError(f"{said.tool} cannot go to {said.stage} yet: {why}")
        reason = f"{said.person} ({said.role})" + (f": {said.reason}" if said.reason else "")
        await self._put(said.domain, said.tool, stage, said.stage, evidence, reason, request.signed)
        return next(
            line for line in await self.lines(Nothing()) if (line.domain, line.tool) == (said.domain, said.tool)
        )

    async def lower_on_breach(self) -> int:
        """Lower each tool that has breached its bar by one stage; how many there were."""
        count = 0
        for domain in self._domains:
            autonomy = await self._autonomy(domain)
            if autonomy is None:
                continue
            for rule in autonomy.tools:
                act = self._stages.act(domain, rule.tool)
                stage = act.stage if act else autonomy.start
                evidence = self._evidence(domain, rule.tool, autonomy.lower_when.window)
                why = breach(evidence, autonomy.lower_when)
                if not why or stage is Stage.OBSERVE:
                    continue
                log.error("autonomy_lowered", domain=domain, tool=rule.tool, stage=stage.below(), why=why)
                try:
                    await self._put(domain, rule.tool, stage, stage.below(), evidence, why, NULL)
                except TerminalError as error:
                    log.info("autonomy_lowered_by_another", domain=domain, tool=rule.tool, detail=str(error))
                    continue
                count += 1
        return count

    async def _open(self, signed: Json) -> tuple[StageWord, Autonomy]:
        said, keyid = open_envelope(signed, STAGE_TYPE, StageWord, lambda key: None)
        autonomy = await self._autonomy(said.domain) if said.domain in self._domains else None
        if autonomy is None or said.tool not in {rule.tool for rule in autonomy.tools}:
            raise TerminalError(
                f"no tool {said.tool} of {said.domain} is staged: its bundle's autonomy.yaml names them"
            )
        entry = self._trust.require(keyid, said.role)
        if entry.kind != "person" or entry.name != said.person:
            raise SignatureError(f"the word of {said.person} is signed by {entry.name}, a {entry.kind}")
        promoters = {name_of(role) for role in autonomy.promoter_roles}
        allowed = promoters if said.stage.rank > said.before.rank else promoters | set(LOWERERS)
        if said.role not in allowed:
            raise SignatureError(f"{said.role} may not do this: {', '.join(sorted(allowed))} may")
        if now() >= said.expires_at:
            raise TerminalError(f"the word expired at {said.expires_at.isoformat()}: sign it again")
        return said, autonomy

    async def _autonomy(self, domain: str) -> Autonomy | None:
        return (await self._bundles.current(domain)).governance.autonomy

    def _evidence(self, domain: str, tool: str, window: timedelta) -> Evidence:
        """From the last change of stage on, at most the window long."""
        start: datetime = now() - window
        act = self._stages.act(domain, tool)
        return self._book.since(domain, tool, max(start, act.at) if act else start)

    async def _put(
        self, domain: str, tool: str, before: Stage, stage: Stage, evidence: Evidence, reason: str, word: Json
    ) -> None:
        act = StageAct(
            person=self._signer.name,
            at=now(),
            reason=reason,
            domain=domain,
            tool=tool,
            before=before,
            stage=stage,
            evidence=evidence,
            word=word,
        )
        await self._controls.put(self._committer, AUTONOMY, act, self._signer)
