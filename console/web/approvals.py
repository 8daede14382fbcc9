"""What waits for a person, and what would be executed: shown by the page from the very bytes that it digests."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.web.desk import Desk, as_json
from console.web.security import Viewer
from mesh.approvals import Nothing, Shown, TaskRequest, Waiting
from mesh.canonical import canonical_json
from mesh.clock import now

_PAGE = 100


def routes(desk: Desk) -> list[Route]:
    """The routes of this page group."""
    own = Approvals(desk)
    return [
        desk.route("/approvals", own.list_),
        desk.route("/approvals/{task}", own.one),
        desk.route("/approvals/{task}/shown", own.shown, json=True),
    ]


class Approvals:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list_(self, request: Request, viewer: Viewer) -> Response:
        """All that waits, longest first; what this person may act on can be shown alone."""
        items = await self._desk.ask("policy", "list", Nothing(), list[Waiting])
        mine = [item for item in items if set(viewer.entry.roles) & names(roles_now(item))]
        only_mine = request.query_params.get("mine") == "1"
        wanted = mine if only_mine else items
        start = _number(request.query_params.get("from", ""))
        return self._desk.page(
            "approvals.html.jinja",
            request,
            viewer,
            title="Approvals",
            live="approvals",
            items=wanted[start : start + _PAGE],
            roles={item.task_id: roles_now(item) for item in wanted},
            mine={item.task_id for item in mine},
            only_mine=only_mine,
            total=len(items),
            total_mine=len(mine),
            start=start,
            next_start=start + _PAGE if len(wanted) > start + _PAGE else 0,
        )

    async def one(self, request: Request, viewer: Viewer) -> Response:
        """The page of one task; its script reads what would be executed."""
        task = request.path_params["task"]
        return self._desk.page(
            "approval.html.jinja",
            request,
            viewer,
            title=f"Approval of {task}",
            live=f"approvals,task:{task}",
            task=task,
            roles=viewer.entry.roles,
        )

    async def shown(self, request: Request, viewer: Viewer) -> Response:
        """Everything of one task that a word is about, as canonical JSON: numbers as they are digested."""
        task = request.path_params["task"]
        shown = await self._desk.ask("policy", "show", TaskRequest(task_id=task), Shown)
        return as_json(msgspec.Raw(canonical_json(shown)))


def roles_now(item: Waiting) -> tuple[str, ...]:
    """The roles that may act now: those it waits for, and once it is escalated those who stand in."""
    escalated = item.escalate_at is not None and now() >= item.escalate_at
    return (*item.roles, *(item.stand_ins if escalated else ()))


def names(roles: tuple[str, ...]) -> set[str]:
    """The roles without how many must say it."""
    return {role.partition(":")[0] for role in roles}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
