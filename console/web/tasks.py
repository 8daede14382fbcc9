"""Tasks: search, and one task as a timeline, a graph of its records, and a replay that does nothing."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.journal import held_by, state_of
from console.replay import recorded_of
from console.trace import lines_of, start_of
from console.web.desk import Desk
from console.web.graph import Graph, graph_of
from console.web.security import DeniedError, Viewer, read_form, require_csrf
from console.web.task_index import PAGE
from mesh.halts import HALT, Halts
from mesh.journal import Stored
from mesh.lifecycle import TaskState
from mesh.records import Context, text
from mesh.replay import Replayed, load_replays

_SEARCH_MAX = 200
_REPLAYS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """A record on the timeline."""

    seq: int
    kind: str
    subject: str
    after_ms: float
    at: datetime
    writer: str
    lines: tuple[str, ...]


def routes(desk: Desk) -> list[Route]:
    """The routes of this page group."""
    own = Tasks(desk)
    return [
        desk.route("/tasks", own.list_),
        desk.route("/tasks/{task}", own.one),
        desk.route("/tasks/{task}/replay", own.replay, "POST"),
    ]


class Tasks:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._replaying = asyncio.Semaphore(_REPLAYS_AT_ONCE)

    async def list_(self, request: Request, viewer: Viewer) -> Response:
        """The newest tasks that match, a page at a time."""
        asked = request.query_params
        given = {name: asked.get(name, "")[:_SEARCH_MAX] for name in ("text", "state", "domain")}
        before = int(asked["before"]) if asked.get("before", "").isdecimal() and len(asked["before"]) < 16 else 0
        rows = self._desk.index.find(**given, before=before, limit=PAGE + 1)
        last = rows[PAGE - 1].seq if len(rows) > PAGE else 0
        kept = {name: value for name, value in given.items() if value}
        return self._desk.page(
            "tasks.html.jinja",
            request,
            viewer,
            title="Tasks",
            live="tasks" if not before else "",
            rows=rows[:PAGE],
            asked=given,
            states=[state.value for state in TaskState],
            domains=self._desk.index.domains(),
            newest="/tasks?" + urlencode(kept) if before else "",
            older="/tasks?" + urlencode({**kept, "before": last}) if last else "",
        )

    async def one(self, request: Request, viewer: Viewer) -> Response:
        """One task."""
        return self._page(request, viewer, await self._items(request))

    async def replay(self, request: Request, viewer: Viewer) -> Response:
        """One task, planned and decided again from its records alone."""
        require_csrf(viewer, (await read_form(request)).get("csrf", ""))
        items = await self._items(request)
        recorded = await recorded_of(self._desk.bus, items)
        async with self._replaying:
            results = await asyncio.to_thread(lambda: [make(recorded) for make in load_replays().values()])
        return self._page(request, viewer, items, results)

    async def _items(self, request: Request) -> list[Stored]:
        task = request.path_params["task"]
        if not task.isascii() or not task.isalnum():
            raise DeniedError(404, "there is no such task")
        items = await self._desk.journal.history(task)
        if not items:
            raise DeniedError(404, f"the journal has no task {task}")
        return items

    def _page(
        self, request: Request, viewer: Viewer, items: list[Stored], replayed: list[Replayed] | None = None
    ) -> Response:
        halts = Halts()
        halts.replace(self._desk.controls.standing(HALT))
        head, start = items[0].record.header, start_of(items)
        state = state_of(items)
        context = next((item.record for item in items if isinstance(item.record, Context)), None)
        entries = [
            Entry(
                seq=item.seq,
                kind=item.record.kind,
                subject=item.subject,
                after_ms=(item.time - start).total_seconds() * 1000,
                at=item.time,
                writer=item.record.header.writer,
                lines=tuple(lines_of(item)),
            )
            for item in items
        ]
        graph: Graph = graph_of(items)
        return self._desk.page(
            "task.html.jinja",
            request,
            viewer,
            title=f"Task {head.task_id}",
            live=f"task:{head.task_id}",
            head=head,
            state=state,
            held=held_by(items, halts),
            context=context,
            entries=entries,
            graph=graph,
            replayed=[_told(each) for each in replayed] if replayed is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Told:
    """What a stage made again, in words."""

    stage: str
    summary: str
    differences: tuple[tuple[str, str, str], ...]


def _told(each: Replayed) -> Told:
    if each.unknown:
        return Told(each.stage, f"cannot tell: {each.unknown}", ())
    if not each.records:
        return Told(each.stage, "the task has no record of it", ())
    found = tuple((f"{one.stage}: {one.field}", text(one.recorded), text(one.replayed)) for one in each.differences)
    return Told(each.stage, "would differ" if found else f"the same ({each.records} records)", found)
