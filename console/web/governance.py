"""What governs tools: stages of autonomy, what was learned, the kill switch; changed by signed words alone."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.web.desk import Desk
from console.web.security import Viewer
from mesh.approvals import Nothing
from mesh.autonomy import Stage, StageLine
from mesh.halts import HALT, HALTED_ROLES, RESUMERS, Halt
from mesh.learned import APPROVER_ROLE, BACK_ROLES, ProposalLine, ProposalState, Verdict
from mesh.statistics import DriftLine

OWNER_ROLE = "autonomy_owner"
"""The role that the page proposes for a change of stage; a bundle may name another."""
_PROPOSALS_MAX = 200


def routes(desk: Desk) -> list[Route]:
    """The routes of this page group."""
    own = Governance(desk)
    return [
        desk.route("/autonomy", own.autonomy),
        desk.route("/learning", own.learning),
        desk.route("/halts", own.halts),
    ]


class Governance:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def autonomy(self, request: Request, viewer: Viewer) -> Response:
        """How far each tool may act by itself, and the words that change it."""
        lines = await self._desk.ask("policy", "stages", Nothing(), list[StageLine])
        rows = [
            (
                line,
                _stage_word(viewer, line, line.stage.above()) if line.stage is not Stage.AUTONOMOUS else None,
                _stage_word(viewer, line, line.stage.below()) if line.stage is not Stage.OBSERVE else None,
            )
            for line in lines
        ]
        roles = sorted(viewer.entry.roles, key=lambda role: role != OWNER_ROLE)
        return self._desk.page(
            "autonomy.html.jinja", request, viewer, title="Autonomy", live="governance", rows=rows, roles=roles
        )

    async def learning(self, request: Request, viewer: Viewer) -> Response:
        """What the learner proposes, what came of it, and what has drifted."""
        lines = await self._desk.ask("learner", "list", Nothing(), list[ProposalLine])
        drift = [line for line in await self._desk.ask("learner", "drift", Nothing(), list[DriftLine]) if line.raised]
        rows = [(line, _learned_words(viewer, line)) for line in lines[:_PROPOSALS_MAX]]
        return self._desk.page(
            "learning.html.jinja",
            request,
            viewer,
            title="Learning",
            live="governance",
            rows=rows,
            total=len(lines),
            drift=drift,
            approver=APPROVER_ROLE,
        )

    async def halts(self, request: Request, viewer: Viewer) -> Response:
        """What is halted, and the words that halt and resume."""
        await self._desk.controls.refresh()
        standing = [item.act for item in self._desk.controls.standing(HALT) if item.act.halted]
        return self._desk.page(
            "halts.html.jinja",
            request,
            viewer,
            title="Kill switch",
            live="governance",
            standing=[(act, _halt_word(viewer, act, halted=False)) for act in standing],
            halting=_halt_word(viewer, None, halted=True),
            may_resume=viewer.has(*RESUMERS),
            resumers=RESUMERS,
            domains=self._desk.index.domains(),
            agents=HALTED_ROLES,
        )


def _stage_word(viewer: Viewer, line: StageLine, stage: Stage) -> dict[str, Any]:
    return {
        "domain": line.domain,
        "tool": line.tool,
        "before": line.stage,
        "stage": stage,
        "role": "",
        "person": viewer.name,
        "reason": "",
        "nonce": "",
        "at": "",
        "expires_at": "",
    }


def _learned_words(viewer: Viewer, line: ProposalLine) -> dict[str, dict[str, Any]]:
    """The words that this person may say on a proposal, by what they do."""
    verdicts: list[tuple[Verdict, tuple[str, ...]]] = []
    if line.state is ProposalState.PROPOSED:
        verdicts = [(Verdict.APPROVE, (APPROVER_ROLE,)), (Verdict.REJECT, (APPROVER_ROLE,))]
    elif line.state in (ProposalState.APPROVED, ProposalState.REMEMBERED):
        verdicts = [(Verdict.ROLL_BACK, BACK_ROLES)]
    return {
        str(verdict): {
            "proposal": line.id,
            "change": msgspec.to_builtins(line.proposal.change),
            "verdict": verdict,
            "role": next(role for role in roles if viewer.has(role)),
            "person": viewer.name,
            "reason": "",
            "nonce": "",
            "at": "",
            "expires_at": "",
        }
        for verdict, roles in verdicts
        if viewer.has(*roles)
    }


def _halt_word(viewer: Viewer, act: Halt | None, *, halted: bool) -> dict[str, Any]:
    return {
        "person": viewer.name,
        "at": "",
        "reason": "",
        "domain": act.domain if act else "",
        "tool": act.tool if act else "",
        "agent": act.agent if act else "",
        "halted": halted,
    }
