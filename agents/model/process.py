"""The model process: asks models, and polls the batches that are under way."""

from contextlib import AsyncExitStack

from agents.model.asking import Asker
from agents.model.batch import BatchBook
from agents.model.batching import Batching, Sender
from agents.model.handler import ModelStage
from agents.model.ledger import Ledger
from agents.model.measuring import measuring
from agents.model.pacing import Pacing
from agents.model.polling import Poller
from agents.model.reuse import Reuse
from agents.model.tiers import Tiers
from mesh.halts import following_halts
from mesh.lifetime import background
from mesh.messages import messages_api
from mesh.pace import Rate
from mesh.pack import pack_names
from mesh.prices import load_prices
from mesh.process import opened
from mesh.settings import ModelSettings, Settings

_PLACES = 1024  # prompts that wait here for their turn, or for their batch to fill
_CHAIN = 3
_WAITS_S = 90.0  # beside each call: its turn and the pause before it


async def run(settings: Settings) -> None:
    """Ask until told to stop."""
    models = settings.models
    tiers = Tiers(models, load_prices(models.prices))
    async with opened(settings, "model") as process, messages_api(models) as messages, AsyncExitStack() as stack:
        halts = await stack.enter_async_context(following_halts(process.bus, settings.root_key()))
        pacing = Pacing(process.bus, Rate(requests=models.requests_per_minute, tokens=models.tokens_per_minute))
        ledger = Ledger(process.bus, process.journal)
        await stack.enter_async_context(background(ledger.run(), "ledger"))
        domains = process.packs.keys() | models.domains.keys()
        await stack.enter_async_context(background(measuring(process.bus, models, domains), "measuring"))
        asker = Asker(messages, pacing, halts, models, process.writer)
        reuse = Reuse(process.bus, process.journal, models.reuse_s)
        book = BatchBook(process.bus, process.journal, ledger, process.writer)
        sender = Sender(book, messages, models)
        batching = Batching(book, sender, models)
        await stack.enter_async_context(background(batching.run(), "batching"))
        stage = ModelStage(
            process.journal, ledger, asker, tiers, reuse, halts, batching, models, pack_names() | models.domains.keys()
        )
        poller = Poller(book, sender, process.journal, ledger, messages, tiers, reuse, models, process.writer)
        await stack.enter_async_context(background(poller.run(), "batches"))
        await process.run_stage(stage.answer, places=_PLACES, handler_timeout_s=longest_s(models))


def longest_s(settings: ModelSettings) -> float:
    """What a handler may take at most: a whole chain, each model as often as is allowed, with all its waits.

    The limit of the other stages (``runtime.handler_timeout_s``) would cut a call that is paid for.
    """
    return _CHAIN * settings.attempts * (settings.timeout_s + _WAITS_S) + settings.batch_wait_s
