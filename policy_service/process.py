"""The policy process: the stage that decides on plans, and the service that takes people's words."""

import asyncio
from contextlib import AsyncExitStack

import structlog

from mesh.activation import Activations
from mesh.approvals import Nothing, TaskRequest, WordRequest
from mesh.errors import RetryableError
from mesh.halts import following_halts
from mesh.lifetime import background
from mesh.process import opened
from mesh.projection import following
from mesh.service import Verb, serving
from mesh.settings import Settings
from policy_service.handler import PolicyStage
from policy_service.live import LiveBundles
from policy_service.pending import Pending
from policy_service.words import Words

log = structlog.get_logger(__name__)

_EXPIRY_S = 1.0


async def run(settings: Settings) -> None:
    """Decide until asked to stop."""
    async with opened(settings, "policy") as process:
        systems = await process.connect_packs()
        bundles = LiveBundles(Activations(process.bus, process.trust), process.checkpoint)
        pending = Pending(process.bus, process.folder / "pending.db")
        process.exit.callback(pending.close)
        halts = await process.exit.enter_async_context(following_halts(process.bus, settings.root_key()))
        stage = PolicyStage(process.journal, bundles, process.packs, systems, process.identity, settings.policy, halts)
        words = Words(
            process.journal,
            process.committer,
            bundles,
            pending,
            process.packs,
            systems,
            process.identity,
            process.trust,
            settings.policy,
            process.writer,
        )
        verbs: dict[str, tuple[type, Verb]] = {
            "list": (Nothing, words.waiting),
            "show": (TaskRequest, words.show),
            "say": (WordRequest, words.take),
        }
        async with AsyncExitStack() as stack:
            for projection in pending.projections:
                await stack.enter_async_context(following(projection))
            await stack.enter_async_context(serving(process.bus, "policy", verbs))
            await stack.enter_async_context(background(_expire(words), "approval-expiry"))
            await process.run_stage(stage.decide)


async def _expire(words: Words) -> None:
    while True:
        await asyncio.sleep(_EXPIRY_S)
        try:
            await words.expire()
        except RetryableError as error:
            log.warning("expiry_waits", error=str(error))
