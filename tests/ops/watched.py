"""A site with traffic and with faults, watched by a real Prometheus: what every panel has something to show of."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from agents.intake.process import tokens_path
from agents.intake.tokens import add_token
from console.demo.approver import approve_all
from console.publish import publish_lines
from console.up import TARGETS, Running, running, systems_env
from console.words import say
from mesh import service
from mesh.approvals import Nothing, Shown, TaskRequest, Waiting
from mesh.autonomy import StageLine, StageRequest, StageWord
from mesh.bus import Bus
from mesh.clock import now
from mesh.demo import Applied, load_demo
from mesh.facts import Claim, Scope, Source
from mesh.identity import Identity
from mesh.journal import committing
from mesh.lifetime import background
from mesh.memory import RememberAnswer, RememberRequest
from mesh.operator import operating
from mesh.records import Purpose, Word
from mesh.scripted.server import scripted_model
from mesh.settings import load
from mesh.signing import STAGE_TYPE, sign
from tests.ops.prometheus import ROOT, Prometheus, prometheus

CONFIG = """
enabled_packs = "retail"
[intake]
port = 0
[intake.sources.form]
kind = "webhook"
mapping = "retail/form"
[memory]
embedder = "none"
probe_s = 1
[learner]
every_s = 1
[models]
use = "yes"
requests_per_minute = 600
tokens_per_minute = 100000000
"""
FORM = ROOT / "packs" / "retail" / "sources" / "form.samples" / "cancel.json"
ROLES = ("auditor", "executor", "intake", "learner", "memory", "model", "perception", "planner", "policy")
MANAGER, OWNER = "refund_manager", "autonomy_owner"


@dataclass
class Watched:
    """The site, as an operator and an approver have it, and what watches it."""

    site: Running
    bus: Bus
    person: Identity
    owner: Identity
    prometheus: Prometheus
    folder: Path
    options: dict[str, Any]
    started: float

    async def until(self, query: str, least: float = 1.0) -> None:
        """Wait until a query has this value."""
        await until(lambda: asyncio.to_thread(self._has, query, least), query)

    def _has(self, query: str, least: float) -> bool:
        return self.prometheus.value(query) >= least

    async def publish(self, lines: Sequence[bytes]) -> None:
        """Put events on the bus."""
        async with committing(self.bus) as committer:
            async for _ in publish_lines(committer, lines):
                pass

    async def applied(self) -> list[Applied]:
        """The shop's own log."""
        return await load_demo("retail").applied(self.options)


async def until(look: Callable[[], Awaitable[bool]], what: str, limit_s: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if await look():
            return
        await asyncio.sleep(0.25)
    raise AssertionError(f"{what}: not within {limit_s:g} s")


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    """The site after its traffic and its faults; it still runs."""
    config = folder / "workmesh.toml"
    config.write_text(CONFIG, encoding="utf-8")
    settings = load(config, {"WORKMESH_STATE_DIR": str(folder / "site")})
    demo = load_demo("retail")
    systems = demo.systems(demo.sample, folder / "systems", {})
    person, owner = (Identity.create(folder / f"{name}.nk", name) for name in ("mia", "olga"))
    (folder / "site" / "run").mkdir(parents=True, mode=0o700)  # so that Prometheus can watch it from its start
    started = time.time()
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(scripted_model([demo.sample / "conversations.yaml"]))
        watching = stack.enter_context(prometheus(folder / "prometheus", folder / "site" / "run" / TARGETS))
        env = systems_env("retail", systems.options) | {
            "WORKMESH_MODELS__BASE_URL": model.url,
            "ANTHROPIC_API_KEY": "scripted",
        }
        up = running(
            settings, config=config, env=env, extra=systems.children, people={person: (MANAGER,), owner: (OWNER,)}
        )
        site = await stack.enter_async_context(up)
        bus = await stack.enter_async_context(operating(settings))
        found = Watched(site, bus, person, owner, watching, folder, dict(systems.options), started)
        await found.until(f'count(count by (role) (up{{job="workmesh"}} == 1)) == {len(ROLES)}', len(ROLES))
        await _live(found, tokens_path(settings))
        yield found


async def _live(site: Watched, tokens: Path) -> None:
    """What happens on the site: requests, words of people, and two processes killed at their work."""
    sample = load_demo("retail").sample
    events = (sample / "events.jsonl").read_bytes().splitlines()
    await _remember(site)
    await _by_form(site, add_token(tokens, "shopfront", ()))
    await site.publish([*events[:40], *(sample / "messages.jsonl").read_bytes().splitlines()])
    await site.until("max(workmesh_approvals_waiting)", 2)
    await _say_no(site)
    await _lower(site)
    async with background(approve_all(site.bus, site.person, (MANAGER,)), "approver"):
        for role, some in (("planner", events[40:60]), ("executor", events[60:])):
            await _die_at_work(site, role, some)
        await site.until("sum(increase(workmesh_recovery_seconds_count[5m]))")
        await until(lambda: _nothing_waits(site.bus), "nothing waits for the manager")
    await site.until("sum(increase(workmesh_model_cost_micro_usd_total[5m]))")
    await site.until('sum(increase(workmesh_approval_words_total{word="approve"}[5m]))')
    await site.until("sum(workmesh_actions_applied_total)", len({each.key for each in await site.applied()}))
    await site.until("count(workmesh:slo_budget_left:ratio)", 9)


async def _die_at_work(site: Watched, role: str, events: Sequence[bytes]) -> None:
    """Have a process be given inputs, hold them, and be killed with them in hand."""
    site.site.supervisor.kill(role, signal.SIGSTOP)
    await site.publish(events)

    async def holds() -> bool:
        info = await site.bus.api(f"CONSUMER.INFO.JOURNAL.{role}")
        return int(info["num_ack_pending"]) > 0

    await until(holds, f"{role} has inputs in hand")
    site.site.supervisor.kill(role)


async def _remember(site: Watched) -> None:
    claims = tuple(
        Claim(
            scope=Scope(domain="retail"),
            subject=f"customer/{name}",
            predicate="prefers",
            value=msgspec.Raw(msgspec.json.encode(what)),
            text=f"{name} prefers {what}",
            source=Source(uri="test"),
        )
        for name, what in (("mia", "letters"), ("caspian_fonseca_8105", "short letters"), ("ada", "the telephone"))
    )
    request = RememberRequest(claims=claims, by="test")
    await service.ask(site.bus, "memory", "remember", request, RememberAnswer, timeout_s=10)


async def _by_form(site: Watched, token: str) -> None:
    """A request by the form, and one of somebody without a token."""
    url = (site.folder / "site" / "intake" / "url").read_text("utf-8").strip()
    form = FORM.read_bytes()
    head = {"content-type": "application/json"}
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        taken = await client.post("/webhooks/form", content=form, headers=head | {"authorization": f"Bearer {token}"})
        assert taken.status_code == 202, taken.text
        assert (await client.post("/webhooks/form", content=form, headers=head)).status_code == 401


async def _waiting(bus: Bus) -> list[Waiting]:
    found = await service.ask(bus, "policy", "list", Nothing(), list[Waiting])
    return [item for item in found if item.purpose is Purpose.PLAN and MANAGER in item.roles]


async def _nothing_waits(bus: Bus) -> bool:
    return not await _waiting(bus)


async def _say_no(site: Watched) -> None:
    item = (await _waiting(site.bus))[0]
    shown = await service.ask(site.bus, "policy", "show", TaskRequest(task_id=item.task_id), Shown)
    await say(site.bus, site.person, shown, MANAGER, Word.REJECT, comment="not this one")


async def _lower(site: Watched) -> None:
    """Lower a tool by one stage, as `workmesh autonomy lower` does."""
    lines = await service.ask(site.bus, "policy", "stages", Nothing(), list[StageLine])
    line = next(line for line in lines if line.tool == "retail.change-address")
    word = StageWord(
        domain=line.domain,
        tool=line.tool,
        before=line.stage,
        stage=line.stage.below(),
        role=OWNER,
        person=site.owner.name,
        reason="the test",
        nonce=json.dumps(time.time()),
        at=now(),
        expires_at=now().replace(year=now().year + 1),
    )
    signed = StageRequest(signed=sign(word, STAGE_TYPE, site.owner))
    await service.ask(site.bus, "policy", "stage", signed, StageLine, timeout_s=10)
