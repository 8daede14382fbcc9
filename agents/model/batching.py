"""Prompts that can wait: gathered for a while, put on record as a batch, sent, and acknowledged."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from msgspec.structs import replace

from agents.model.asking import Ending
from agents.model.batch import ITEMS_MAX, Batch, BatchBook, Item, State, item_of
from agents.model.tiers import Target, question
from mesh import faultpoints, metrics
from mesh.clock import unix
from mesh.errors import ConflictError, WorkmeshError
from mesh.inference import CompletionStatus, Mode, Prompt
from mesh.messages import CallError, Messages, UnknownFateError, custom_ids
from mesh.runtime import Work
from mesh.settings import ModelSettings
from mesh.spending import OverBudgetError, dollars, micro_usd

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    prompt: Prompt
    item: Item
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class _Group:
    """Prompts of one domain for one model."""

    waiting: list[_Waiting] = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)


class Sender:
    """Sends batches that are on record."""

    def __init__(self, book: BatchBook, messages: Messages, settings: ModelSettings) -> None:
        self._book = book
        self._messages = messages
        self.timeout_s = settings.timeout_s
        # A request that timed out may still be worked on: as long again, and the provider has the batch or never will.
        self.lasts_s = 2 * settings.timeout_s + 1

    async def send(self, batch: Batch, seq: int, prompts: Sequence[Prompt | None]) -> None:
        """Send it, and put on record what is known then. Where that is nothing, whoever polls finds out.

        A prompt that the journal does not have any more is left out.
        """
        ids = custom_ids(batch.nonce, len(prompts))
        questions = {name: question(each, batch.model) for name, each in zip(ids, prompts, strict=True) if each}
        await faultpoints.reach("model.before_submit")
        try:
            sent = await self._messages.submit(questions, timeout_s=self.timeout_s)
        except UnknownFateError as error:
            log.warning("batch_may_be_sent", batch=batch.nonce, reason=error.brief)
            return
        except CallError as error:
            log.warning("batch_not_sent", batch=batch.nonce, reason=error.brief)
            # Nobody need wait for its fate: it goes with the next look at the batches.
            until = unix() + (error.retry_after_s or 0.0)
            await self._put(replace(batch, state=State.UNSENT, until=until), seq)
            return
        await faultpoints.reach("model.after_submit")
        metrics.MODEL_BATCHES.labels(event="sent").inc()
        log.info("batch_sent", batch=batch.nonce, id=sent.id, prompts=len(prompts), model=batch.model)
        await self._put(replace(batch, state=State.SENT, id=sent.id), seq)

    async def _put(self, batch: Batch, seq: int) -> None:
        try:
            await self._book.put(batch, seq)
        except ConflictError as error:
            log.info("batch_moved_on", batch=batch.nonce, reason=str(error))


class Batching:
    """Gathers prompts into batches while their deliveries are held."""

    def __init__(self, book: BatchBook, sender: Sender, settings: ModelSettings) -> None:
        self._book = book
        self._sender = sender
        self._settings = settings
        self._groups: dict[tuple[str, str], _Group] = {}
        self._flushes = asyncio.TaskGroup()
        self._most = min(settings.batch_max, ITEMS_MAX)

    async def run(self) -> None:
        """Own what gathers and sends, until cancelled."""
        async with self._flushes:
            await asyncio.Event().wait()

    async def take(self, prompt: Prompt, work: Work, chain: Sequence[Target]) -> Ending | None:
        """Return once a batch on record holds the prompt; or with why none will."""
        if (work.attempt > 1 or work.is_released) and await self._book.holds(prompt):
            return None
        if prompt.answer_by is not None and prompt.answer_by.timestamp() <= unix():
            return Ending(CompletionStatus.UNAVAILABLE, reason="not asked: the answer would come too late")
        reasons: list[str] = []
        over = 0
        for target in chain:
            asked = question(prompt, target.model)
            at_most = target.price.at_most(Mode.BATCH, asked.size, asked.most_out)
            if over and at_most >= over:
                reasons.append(f"{target.model}: no cheaper")
                continue
            try:
                await self._join(target, prompt, item_of(prompt, work.seq, at_most))
            except OverBudgetError as error:
                reasons.append(f"over budget: {error}")
                over = max(1, at_most)
                if self._settings.budget_of(prompt.header.domain).at_limit != "small":
                    break
                continue
            return None
        if not reasons:
            return Ending(CompletionStatus.UNAVAILABLE, reason="the chain is empty")
        return Ending(CompletionStatus.OVER_BUDGET, reason="; ".join(reasons))

    async def _join(self, target: Target, prompt: Prompt, item: Item) -> None:
        key = (prompt.header.domain, target.model)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
            self._flushes.create_task(self._flush(key, group), name=f"batch-{target.model}")
        waiting = _Waiting(prompt, item)
        group.waiting.append(waiting)
        if len(group.waiting) >= self._most:
            del self._groups[key]
            group.full.set()
        await waiting.done

    async def _flush(self, key: tuple[str, str], group: _Group) -> None:
        try:
            async with asyncio.timeout(self._settings.batch_wait_s):
                await group.full.wait()
        except TimeoutError:
            if self._groups.get(key) is group:
                del self._groups[key]
        waiting = [each for each in group.waiting if not each.done.done()]
        try:
            await self._send(*key, waiting)
        except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever it was
            for each in waiting:
                _fail(each, error)

    async def _send(self, domain: str, model: str, waiting: Sequence[_Waiting]) -> None:
        if not waiting:
            return
        cap = micro_usd(self._settings.budget_of(domain).usd_per_day)
        items = [each.item for each in waiting]
        batch = await self._book.begin(domain, model, items, cap, self._sender.lasts_s)
        held = len(batch.items) if batch else 0
        for each in waiting[held:]:
            _fail(each, OverBudgetError(f"{model} can cost {dollars(each.item.at_most)}, and the day's budget is used"))
        if batch is None:
            return
        seq, _ = await self._book.read(batch.nonce)
        await self._sender.send(batch, seq, [each.prompt for each in waiting[:held]])
        for each in waiting[:held]:
            if not each.done.done():
                each.done.set_result(None)


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error if isinstance(error, WorkmeshError) else RuntimeError(repr(error)))
