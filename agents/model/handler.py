"""The model stage: one prompt in, one completion out.

The rule: a prompt whose completion stands is not asked again, and what was or may have been paid is in the completion.
"""

import asyncio
import time
from collections.abc import Collection

import structlog

from agents.model.account import Account
from agents.model.asking import Asker, Ending
from agents.model.batching import Batching
from agents.model.completing import completion_of, completion_subject, counted
from agents.model.ledger import Ledger
from agents.model.reuse import Answer, Reuse
from agents.model.tiers import Target, Tiers
from mesh.errors import TerminalError
from mesh.halts import Halts
from mesh.inference import Completion, CompletionStatus, Mode, Prompt, Usage
from mesh.journal import Journal, Write
from mesh.runtime import NotYetError, Outputs, Work
from mesh.settings import ModelSettings
from mesh.spending import ClaimLostError, micro_usd

log = structlog.get_logger(__name__)

_TOKENS_MAX = 8192  # what a prompt file may ask for
_LOOK_S = 0.5
_LOOKS = 240  # for what another copy is about to write; then the input comes again


class ModelStage:
    """Answers prompts. What it writes itself, because money goes with it, the runtime does not commit again."""

    def __init__(
        self,
        journal: Journal,
        ledger: Ledger,
        asker: Asker,
        tiers: Tiers,
        reuse: Reuse,
        halts: Halts,
        batching: Batching,
        settings: ModelSettings,
        domains: Collection[str],
    ) -> None:
        self._journal = journal
        self._ledger = ledger
        self._asker = asker
        self._tiers = tiers
        self._reuse = reuse
        self._halts = halts
        self._batching = batching
        self._settings = settings
        self._domains = domains

    async def answer(self, work: Work) -> Outputs:
        """The handler of the model stage."""
        prompt = work.record()
        if not isinstance(prompt, Prompt):
            raise TerminalError(f"{work.subject} at {work.seq} is a {prompt.kind}, not a prompt")
        self._check(prompt)
        subject = completion_subject(prompt)
        if await self._journal.record(subject) is not None:
            return ()
        self._halts.require(prompt.header.domain, agents=(work.writer,))
        chain = self._tiers.chain(prompt)
        is_first = work.attempt == 1 and not work.is_released
        found = await self._reuse.find(prompt, chain)
        if found is not None and is_first:  # no money goes with it
            return (Write(counted(_reused(prompt, work, found, ()))),)
        ending = await self._batching.take(prompt, work, chain) if prompt.mode is Mode.BATCH and not found else None
        if prompt.mode is Mode.BATCH and not found and ending is None:
            return ()  # a batch on record holds it
        account = self._account(prompt, work, is_first=is_first)
        try:
            completion = await self._complete(prompt, work, chain, account, found or ending)
        except ClaimLostError as error:
            log.info("question_taken_over", subject=subject, reason=str(error))
            return await self._wait_for(subject)
        counted(completion)
        await self._reuse.keep(prompt, chain, completion)
        return ()

    def _check(self, prompt: Prompt) -> None:
        """Raises ``TerminalError`` for a question without a bound: every domain has a budget of its own, so one that
        does not exist has one too; and what an answer of a negative length costs would free another's."""
        domain = prompt.header.domain
        if domain not in self._domains:
            raise TerminalError(f"this model process has no pack {domain!r}: nobody pays for its questions")
        if not 1 <= prompt.max_tokens <= _TOKENS_MAX:
            raise TerminalError(
                f"an answer of {prompt.max_tokens} tokens was asked for: 1 to {_TOKENS_MAX} are allowed"
            )

    def _account(self, prompt: Prompt, work: Work, *, is_first: bool) -> Account:
        cap = micro_usd(self._settings.budget_of(prompt.header.domain).usd_per_day)
        return Account(self._ledger, self._journal, prompt, work.writer, cap=cap, is_first=is_first)

    async def _complete(
        self, prompt: Prompt, work: Work, chain: list[Target], account: Account, known: Answer | Ending | None
    ) -> Completion:
        if isinstance(known, Answer):
            return await account.settle(lambda usage: _reused(prompt, work, known, usage))
        started = time.perf_counter()
        try:
            ending = known or await self._asker.ask(prompt, chain, account)
        except NotYetError:
            await account.release()
            raise
        ms = (time.perf_counter() - started) * 1000
        return await account.settle(
            lambda usage: completion_of(prompt, work.seq, work.writer, ending, usage, duration_ms=ms)
        )

    async def _wait_for(self, subject: str) -> Outputs:
        """Wait for the completion that another copy writes: giving the input back now would have it asked again."""
        for _ in range(_LOOKS):
            if await self._journal.record(subject) is not None:
                return ()
            await asyncio.sleep(_LOOK_S)
        raise NotYetError(f"{subject} is not there yet")


def _reused(prompt: Prompt, work: Work, found: Answer, usage: tuple[Usage, ...]) -> Completion:
    answer = found.completion
    ending = Ending(CompletionStatus.ANSWERED, answer.model, answer.output)
    return completion_of(prompt, work.seq, work.writer, ending, usage, reused=found.subject)
