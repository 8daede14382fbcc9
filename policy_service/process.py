"""The policy process: the stage that decides on plans, and the service that takes people's words."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any, cast

import structlog

from mesh.activation import ActivateRequest, Activations, PublishRequest
from mesh.approvals import Nothing, TaskRequest, WordRequest
from mesh.autonomy import AUTONOMY, StageRequest
from mesh.control import controlling
from mesh.errors import RetryableError, TerminalError
from mesh.halts import HALT, halts_of
from mesh.lifetime import background
from mesh.link import HeartbeatRequest, Link
from mesh.process import Process, opened
from mesh.projection import Projection, following
from mesh.service import Offered, Verb, described, serving
from mesh.settings import Settings
from policy_service.citing import Cited
from policy_service.deciding import Decider
from policy_service.evidence import EvidenceBook
from policy_service.giving_back import GivingBack
from policy_service.handler import PolicyStage
from policy_service.ledger import Ledger
from policy_service.live import LiveBundles
from policy_service.pending import Pending
from policy_service.publishing import Publishing
from policy_service.staging import Stages, Staging
from policy_service.words import Words

log = structlog.get_logger(__name__)

_EVERY_S = 1.0


async def run(settings: Settings) -> None:
    """Decide until asked to stop."""
    async with opened(settings, "policy") as process:
        systems = await process.connect_packs()
        bundles = LiveBundles(Activations(process.bus, process.trust), process.checkpoint)
        stages = Stages()
        reading = controlling(process.bus, settings.root_key(), AUTONOMY, HALT)
        controls = await process.exit.enter_async_context(reading)
        controls.on_change(AUTONOMY, stages.replace)
        halts = halts_of(controls)
        link = Link(process.bus, process.trust, settings.hub.site) if settings.hub.site else None
        decider = Decider(process.packs, systems, bundles, stages.of, process.identity, settings.policy, link)
        ledger = Ledger(process.bus, process.journal)
        await process.exit.enter_async_context(background(ledger.run(), "ledger"))
        pending = Pending(process.bus, process.folder / "pending.db")
        book = EvidenceBook(process.bus, process.folder / "evidence.db")
        giving_back = GivingBack(process.bus, process.journal, ledger, bundles, process.folder / "limits.db")
        for opening in (pending, book, giving_back):
            process.exit.callback(opening.close)
        tools = {
            name: {tool.name: tool for tool in pack.tools(process.options[name])}
            for name, pack in process.packs.items()
        }
        cited = Cited(process.bus)
        words = Words(
            process.journal,
            process.committer,
            bundles,
            decider,
            ledger,
            pending,
            tools,
            process.trust,
            cited,
            process.writer,
        )
        staging = Staging(
            controls, process.committer, stages, bundles, book, process.packs, process.identity, process.trust
        )
        publishing = Publishing(process.bus, bundles, process.packs, process.trust, settings.hub.site)
        stage = PolicyStage(process.journal, bundles, decider, ledger, process.trust, tools, halts, cited)
        upkeep: dict[str, Callable[[], Awaitable[object]]] = {
            "approval-expiry": words.expire,
            "autonomy-breaches": staging.lower_on_breach,
            "limits-given-back": giving_back.give_back,
            "waiting-measured": pending.show,
        }
        verbs = _verbs(words, staging, publishing)
        if link is not None:
            verbs["heard"] = (HeartbeatRequest, link.take)
            upkeep["link-measured"] = link.measure
        governed = (*book.projections, giving_back.projection)
        async with AsyncExitStack() as stack:
            for projection in pending.projections:
                await stack.enter_async_context(following(projection))
            await stack.enter_async_context(background(_follow_governed(bundles, process, governed), "governed"))
            await stack.enter_async_context(serving(process.bus, "policy", verbs))
            for name, work in upkeep.items():
                await stack.enter_async_context(background(_again_and_again(work, name), name))
            await process.run_stage(stage.decide)


def _verbs(words: Words, staging: Staging, publishing: Publishing) -> dict[str, tuple[type, Verb]]:
    """What people ask of the service: each verb with its request."""
    return {
        "list": (Nothing, words.waiting),
        "show": (TaskRequest, words.show),
        "say": (WordRequest, words.take),
        "stages": (Nothing, staging.lines),
        "stage": (StageRequest, staging.change),
        "publish": (PublishRequest, publishing.publish),
        "activate": (ActivateRequest, publishing.activate),
    }


def offered() -> Offered:
    """What the service answers, read from its functions: the classes stand for what is opened when it runs."""
    words, staging, publishing, link = (cast(Any, each) for each in (Words, Staging, Publishing, Link))
    return described(_verbs(words, staging, publishing) | {"heard": (HeartbeatRequest, link.take)})


async def _follow_governed(bundles: LiveBundles, process: Process, projections: Iterable[Projection]) -> None:
    """Follow what limits and autonomy need, from when a bundle first has any: nobody else pays for it."""
    while True:
        if await _is_governed(bundles, process):
            break
        await asyncio.sleep(_EVERY_S)
    async with AsyncExitStack() as stack:
        for projection in projections:
            await stack.enter_async_context(following(projection))
        await asyncio.Event().wait()


async def _is_governed(bundles: LiveBundles, process: Process) -> bool:
    for domain in process.packs:
        try:
            beside = (await bundles.current(domain)).governance
        except (RetryableError, TerminalError) as error:
            log.warning("bundle_not_known_yet", domain=domain, error=str(error))
            continue
        if beside.limits or beside.autonomy is not None:
            return True
    return False


async def _again_and_again(work: Callable[[], Awaitable[object]], name: str) -> None:
    while True:
        await asyncio.sleep(_EVERY_S)
        try:
            await work()
        except (RetryableError, TerminalError) as error:
            log.warning("upkeep_waits", work=name, error=str(error))
