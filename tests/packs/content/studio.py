"""What the content tests share: a studio with a CMS and a repository, events as contexts, plans and sheets."""

import itertools
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from agents.planner.planning import Inputs, make_plan
from agents.planner.playbook import Playbook, choose, load_playbooks
from mesh.admission import Accepted, read
from mesh.clock import now
from mesh.pack import Sheet
from mesh.records import Call, Causation, Context, Event, Header, Plan, Reading
from mesh.toolbox import Toolbox
from packs.content.client import Cms
from packs.content.cms.documents import Brief
from packs.content.pack import ContentOptions, connect, pack
from packs.content.reads import CMS, SITE_TARGET
from packs.content.repository import Repository
from packs.content.sample.catalogue import brief
from packs.content.tools import make_tools
from policy_service.bundle import Bundle, BundleContents
from policy_service.engine import Assessment, Circumstances, assess

PACKS = {"content": pack}
TOOLS = {tool.name: tool for tool in make_tools()}


@cache
def playbooks() -> tuple[Playbook, ...]:
    """The pack's playbooks."""
    return load_playbooks(pack.playbooks, TOOLS)


@cache
def bundle() -> Bundle:
    """The pack's policies."""
    return Bundle.load(BundleContents.read(pack.policies, "content"))


@dataclass
class Studio:
    """The systems of a studio; everything is asked of it as an event, planned, judged and done."""

    systems: Mapping[str, Any]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def cms(self) -> Cms:
        """The CMS."""
        found: Cms = self.systems[CMS]
        return found

    @property
    def repository(self) -> Repository:
        """The site's repository."""
        found: Repository = self.systems[SITE_TARGET].repository
        return found

    def accept(self, kind: str, *, via: str = "/studio", **data: Any) -> Context:
        """The context that perception writes for an event, which must be acceptable."""
        event = {
            "specversion": "1.0",
            "id": f"e{next(self.numbers)}",
            "source": via,
            "type": f"content.{kind}",
            "subject": f"article/{data.get('slug', '-')}",
            "data": msgspec.to_builtins(data),
        }
        accepted = read(msgspec.json.encode(event), {}, PACKS)
        assert isinstance(accepted, Accepted), accepted
        stored = Event(
            id=accepted.event.id,
            source=accepted.event.source,
            type=accepted.event.type,
            time=accepted.event.time,
            digest=accepted.digest,
            seq=1,
            accepted_at=now(),
            subject=accepted.event.subject,
        )
        return Context(
            header=_header(accepted.task_id),
            event=stored,
            data=accepted.event.data,
            entity=accepted.entity,
            taint=accepted.kind.taint,
        )

    async def plan(self, context: Context) -> Plan:
        """The plan that the planner makes, with readings made now and nothing in memory."""
        inputs = Inputs(context)
        playbook = choose(playbooks(), context.event.type, inputs.variables)
        assert playbook is not None
        box, readings = Toolbox(TOOLS, self.systems), []
        for name, invocation in playbook.reads:
            args = invocation.arguments(inputs.variables)
            tool = box.find(invocation.tool)
            answer = await box.call(tool, args, key="read", epoch=0, call_by=time.time() + tool.timeout_s)
            readings.append(Reading(name=name, call=Call(tool=invocation.tool, args=args), answer=answer))
        return make_plan(playbook, Inputs(context, tuple(readings)), _header(context.header.task_id))

    async def sheets(self, context: Context, plan: Plan) -> dict[str, Sheet]:
        """What the information point reads of each step."""
        return {step.id: await pack.facts(context, plan, step, self.systems) for step in plan.steps}

    async def judge(self, context: Context, plan: Plan, *roles: str) -> Assessment:
        """What policy says of a plan with these approvals."""
        around = Circumstances(at=datetime.now(UTC))
        return assess(bundle(), context, plan, await self.sheets(context, plan), frozenset(roles), around)

    async def do(self, plan: Plan) -> list[Any]:
        """Carry a plan out, as an executor would; what the tools answered."""
        box = Toolbox(TOOLS, self.systems)
        return [
            msgspec.json.decode(
                await box.call(
                    box.find(step.call.tool),
                    step.call.args,
                    key=step.effect_key,
                    epoch=1,
                    call_by=time.time() + 10,
                )
            )
            for step in plan.steps
        ]

    async def ask(self, kind: str, *roles: str, via: str = "/studio", **data: Any) -> Assessment:
        """Ask for something, and have it done if policy allows it."""
        context = self.accept(kind, via=via, **data)
        plan = await self.plan(context)
        said = await self.judge(context, plan, *roles)
        if said.verdict == "allow":
            await self.do(plan)
        return said

    async def begin(self, slug: str = "lamp", number: int = 1, **changed: Any) -> Brief:
        """An article with its first draft."""
        given = brief(slug, number, **changed)
        said = await self.ask("brief.submitted", slug=slug, by="ann", brief=given)
        assert said.verdict == "allow", said
        return given

    async def make_ready(self, slug: str = "lamp", **changed: Any) -> Brief:
        """An article that lacks nothing but its publication."""
        given = await self.begin(slug, **changed)
        await self.ask("localisation.requested", slug=slug, by="bob", locales=["de", "fr"])
        for by, locale in (("cleo", "en"), ("dirk", "de"), ("fay", "fr")):
            await self.approve(slug, by, locale)
        return given

    async def approve(self, slug: str, by: str, locale: str) -> Assessment:
        """A reviewer approves what stands."""
        page = (await self.cms.article(slug)).page(locale)
        assert page is not None
        return await self.ask(
            "review.given", slug=slug, by=by, locale=locale, revision=page.revision, verdict="approved"
        )

    async def text(self, slug: str = "lamp", locale: str = "en") -> str:
        """What stands."""
        page = (await self.cms.article(slug)).page(locale)
        assert page is not None
        return page.text


def _header(task_id: str) -> Header:
    causation = Causation(stream="EVENTS", subject="event.content.test", seq=1)
    return Header(task_id=task_id, domain="content", causation=causation, writer="planner/1", at=now())


@asynccontextmanager
async def studio_at(url: str, folder: Path) -> AsyncIterator[Studio]:
    """A studio with its CMS at this URL and its repository in this folder."""
    async with connect(ContentOptions(cms_url=url, repository=str(folder / "site.git"))) as systems:
        yield Studio(systems)
