"""Batches that were sent: looked after until every prompt of theirs has a completion. Any copy may, and several may.

The rule: results are matched by custom id and written with their money in one commit; what failed is sent again, a
counted number of times, and a batch that nobody recorded is looked for before it is sent anew.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import structlog
from msgspec.structs import replace

from agents.model.account import Call
from agents.model.asking import Ending, count, usage_of
from agents.model.batch import Batch, BatchBook, Item, State
from agents.model.batching import Sender
from agents.model.completing import completion_of, counted
from agents.model.ledger import Draft, Ledger
from agents.model.reuse import Reuse
from agents.model.tiers import Tiers
from mesh import faultpoints, metrics, subjects
from mesh.clock import unix
from mesh.errors import ConflictError, WorkmeshError
from mesh.inference import Completion, CompletionStatus, Mode, Prompt, Usage
from mesh.journal import Journal, Write
from mesh.messages import BatchResult, CallError, Messages, RejectedError
from mesh.settings import ModelSettings
from mesh.spending import ClaimLostError, Window

log = structlog.get_logger(__name__)

_CHUNK = 40  # completions in one commit
_TRIES = 20
_CLOCKS_S = 60.0  # between ours and the provider's
_NOT_FOUND = 404


class Poller:
    """Looks after the batches on record."""

    def __init__(
        self,
        book: BatchBook,
        sender: Sender,
        journal: Journal,
        ledger: Ledger,
        messages: Messages,
        tiers: Tiers,
        reuse: Reuse,
        settings: ModelSettings,
        writer: str,
    ) -> None:
        self._book = book
        self._sender = sender
        self._journal = journal
        self._ledger = ledger
        self._messages = messages
        self._tiers = tiers
        self._reuse = reuse
        self._settings = settings
        self._writer = writer

    async def run(self) -> None:
        """Look at all batches again and again, until cancelled."""
        while True:
            try:
                for nonce in await self._book.open():
                    await self._look(nonce)
            except WorkmeshError as error:
                log.warning("batches_wait", reason=str(error))
            await asyncio.sleep(self._settings.batch_poll_s)

    async def _look(self, nonce: str) -> None:
        seq, batch = await self._book.read(nonce)
        if batch is None:
            return
        try:
            match batch.state:
                case State.INTENT if unix() >= batch.until:
                    await self._find(batch, seq)
                case State.UNSENT if unix() >= batch.until:
                    await self._send(batch, seq)
                case State.SENT:
                    await self._follow(batch, seq)
        except (ConflictError, ClaimLostError) as error:
            log.info("batch_moved_on", batch=nonce, reason=str(error))
        except CallError as error:
            log.warning("batch_not_known", batch=nonce, id=batch.id, reason=error.brief)

    async def _find(self, batch: Batch, seq: int) -> None:
        """Adopt the batch at the provider that is this one, or send it when there certainly is none.

        Only its results tell whose a batch is: one of the same size that has not ended may be this one.
        """
        since = datetime.fromtimestamp(batch.at - _CLOCKS_S, UTC)
        others = [await self._book.read(nonce) for nonce in await self._book.open()]
        known = {other.id for _, other in others if other}
        found = await self._messages.batches_since(since, timeout_s=self._settings.timeout_s)
        open_ones = False
        for each in found:
            if each.id in known or each.size != len(batch.items):
                continue
            if not each.ended:
                open_ones = True
                continue
            async for result in self._messages.results(each.id, timeout_s=self._settings.timeout_s):
                if result.custom_id.rpartition("-")[0] == batch.nonce:
                    metrics.MODEL_BATCHES.labels(event="adopted").inc()
                    log.info("batch_adopted", batch=batch.nonce, id=each.id)
                    adopted = replace(batch, state=State.SENT, id=each.id)
                    await self._follow(adopted, await self._book.put(adopted, seq))
                    return
                break
        if not open_ones:
            await self._send(batch, seq)
        elif unix() > batch.at + self._settings.batch_expires_s:
            await self._end(batch, seq, {}, "the batch may have been sent, and was never found", lost=True)

    async def _send(self, batch: Batch, seq: int) -> None:
        """Send it again, if it has not been tried too often."""
        if batch.sends >= self._settings.attempts:
            await self._end(batch, seq, {}, "the batch could not be sent", is_last=True)
            return
        again = replace(batch, by=self._writer, until=unix() + self._sender.lasts_s, sends=batch.sends + 1)
        again = replace(again, state=State.INTENT)
        seq = await self._book.put(again, seq)  # whoever polls beside this copy leaves it alone now
        prompts = [await self._prompt(batch, item) for item in batch.items]
        await self._sender.send(again, seq, prompts)

    async def _follow(self, batch: Batch, seq: int) -> None:
        try:
            state = await self._messages.batch(batch.id, timeout_s=self._settings.timeout_s)
        except RejectedError as error:
            if error.status != _NOT_FOUND:
                raise
            await self._end(batch, seq, {}, f"the batch {batch.id} is gone", lost=True)
            return
        if state.ended:
            found: dict[int, BatchResult] = {}
            async for result in self._messages.results(batch.id, timeout_s=self._settings.timeout_s):
                nonce, _, number = result.custom_id.rpartition("-")
                if nonce == batch.nonce and number.isdecimal():
                    found[int(number)] = result
            await self._end(batch, seq, found, "the batch has no result for it")
        elif unix() > batch.at + self._settings.batch_expires_s:
            await self._end(batch, seq, {}, f"the batch {batch.id} did not end in time", lost=True)

    async def _end(
        self,
        batch: Batch,
        seq: int,
        results: dict[int, BatchResult],
        missing: str,
        *,
        lost: bool = False,
        is_last: bool = False,
    ) -> None:
        """Write a completion of each prompt, or have it sent again; then the batch is over.

        ``lost`` ones may have been answered, and count as the most that they can have cost.
        """
        metrics.MODEL_BATCHES.labels(event="lost" if lost else "ended").inc()
        again: list[Item] = []
        ended: list[tuple[Item, BatchResult]] = []
        for number, item in enumerate(batch.items):
            result = results.get(number) or BatchResult("", problem=missing, final=is_last)
            spent = replace(item, calls=(*item.calls, _lost(batch, item, self._tiers))) if lost else item
            if result.reply or result.final or item.tries >= self._settings.attempts or await self._late(batch, item):
                ended.append((spent, result))
            else:
                again.append(replace(spent, tries=item.tries + 1))
        await faultpoints.reach("model.before_results")
        for start in range(0, len(ended), _CHUNK):
            rest = [*(item for item, _ in ended[start + _CHUNK :]), *again]
            await self._write(batch, ended[start : start + _CHUNK], rest)
        await faultpoints.reach("model.before_close")
        after = await self._book.close(batch, seq, again, self._sender.lasts_s)
        log.info("batch_ended", batch=batch.nonce, id=batch.id, answered=len(ended), again=len(again))
        if after is not None:
            prompts = [await self._prompt(batch, item) for item in again]
            seq, _ = await self._book.read(after.nonce)
            await self._sender.send(after, seq, prompts)

    async def _write(self, batch: Batch, ended: Sequence[tuple[Item, BatchResult]], rest: Sequence[Item]) -> None:
        """Put completions on record with their money; what stands already was written by another copy, with its."""
        for _ in range(_TRIES):
            made = [found for item, result in ended if (found := await self._completion(batch, item, result))]
            if not made:
                return
            usage = tuple(call for completion, _ in made for call in completion.usage)
            writes = tuple(Write(completion) for completion, _ in made)

            def draft(
                windows: Mapping[str, Window], usage: tuple[Usage, ...] = usage, writes: tuple[Write, ...] = writes
            ) -> Draft:
                window = windows[batch.window]
                if window.find(batch.key) is None:
                    raise ClaimLostError(f"batch {batch.nonce} was ended by another copy")
                window = window.put(batch.claim(rest))
                return Draft({batch.window: window.spend(usage)}, writes)

            try:
                await self._ledger.change([batch.window], draft)
            except ConflictError as error:
                log.info("results_were_written", batch=batch.nonce, reason=str(error))
                continue
            for completion, prompt in made:
                counted(completion)
                await self._reuse.keep(prompt, self._tiers.chain(prompt), completion)
            return

    async def _completion(self, batch: Batch, item: Item, result: BatchResult) -> tuple[Completion, Prompt] | None:
        """The completion of an item, unless it stands."""
        subject = subjects.record("completion", batch.domain, item.task, item.name)
        if await self._journal.record(subject) is not None:
            return None
        prompt = await self._prompt(batch, item)
        if prompt is None:
            log.error("prompt_gone", batch=batch.nonce, task=item.task, name=item.name)
            return None
        reply, calls = result.reply, item.calls
        ending = Ending(CompletionStatus.UNAVAILABLE, reason=f"{batch.model}: {result.problem}")
        if reply is not None:
            call = Call(self._tiers.price(batch.model), item.at_most, 0.0, Mode.BATCH)
            calls = (*calls, replace(usage_of(reply, call), day=batch.day))
            count(batch.model, Mode.BATCH, reply)
            status = CompletionStatus.UNAVAILABLE if reply.problem else CompletionStatus.ANSWERED
            status = CompletionStatus.DECLINED if reply.declined else status
            reason = f"{batch.model}: {reply.problem}" if reply.problem else ""
            model = "" if status is CompletionStatus.UNAVAILABLE else batch.model
            ending = Ending(status, model, reply.output, reply.text if reply.problem else "", reason)
        ms = (unix() - batch.at) * 1000
        writer = self._writer
        return completion_of(prompt, item.seq, writer, ending, calls, batch=batch.id, duration_ms=ms), prompt

    async def _prompt(self, batch: Batch, item: Item) -> Prompt | None:
        stands = await self._journal.record(subjects.record("prompt", batch.domain, item.task, item.name))
        return stands.record if stands is not None and isinstance(stands.record, Prompt) else None

    async def _late(self, batch: Batch, item: Item) -> bool:
        prompt = await self._prompt(batch, item)
        return prompt is None or (prompt.answer_by is not None and prompt.answer_by.timestamp() <= unix())


def _lost(batch: Batch, item: Item, tiers: Tiers) -> Usage:
    """The call of unknown fate that an item of a lost batch leaves."""
    return Usage(
        model=batch.model,
        tokens_in=0,
        tokens_out=0,
        cost_micro_usd=item.at_most,
        mode=Mode.BATCH,
        prices=tiers.price(batch.model).date,
        certain=False,
        day=batch.day,
    )
