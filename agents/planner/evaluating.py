"""Evaluates a pack's prompts: cases are planned as the planner plans them, and models are asked as the product asks.

The rule: only the systems and memory are replaced, by what the case says; prompts, checks and plans are the product's.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import tenacity

from agents.planner.apart import Compiled, compiled, texts_apart
from agents.planner.cases import Case, fault_of
from agents.planner.rehearsing import completion_of, rehearse, unanswered
from mesh.clock import now
from mesh.errors import SettingsError, TerminalError
from mesh.inference import Completion, CompletionStatus, Mode, ModelRole, Prompt
from mesh.messages import CallError, Messages, NotBilledError, Question, Reply, UnknownFateError
from mesh.pack import Pack
from mesh.prices import Prices
from mesh.record import Json
from mesh.records import Causation, Context, Event, Header, Plan
from mesh.settings import ModelSettings

_AT_ONCE = 4
_WAIT_MAX_S = 30.0


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom to ask: ``model`` of a prompt; ``took_s`` of an answer that was recorded, by its request id."""

    messages: Messages
    settings: ModelSettings
    prices: Prices
    model: Callable[[Prompt], str]
    took_s: Callable[[str], float | None] = lambda _: None


@dataclass(slots=True)
class Asked:
    """One question: who was asked, what it cost, how long it took. ``failure`` is why there is no answer of use."""

    role: ModelRole
    model: str
    is_second_try: bool
    cost_micro_usd: int = 0
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    failure: str = ""


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a case; ``fault`` says what is wrong, and is empty where nothing is."""

    case: str
    fault: str
    questions: int
    cost_micro_usd: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A model in a role. ``wrong`` answers did not pass the checks and were asked for again; ``failed`` is without any.

    ``tokens_in`` counts those from and to the prompt cache too. Times are of the answers that came.
    """

    model: str
    role: str
    questions: int
    wrong: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost_micro_usd: int
    p50_s: float
    p95_s: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation; ``ok`` when as many cases passed as ``min_pass`` (a part of 1) wants."""

    ok: bool
    pack: str
    prompts: dict[str, str]
    cases: int
    passed: int
    pass_rate: float
    min_pass: float
    cost_micro_usd: int
    by: tuple[Line, ...]
    results: tuple[CaseResult, ...]


async def evaluate(pack: Pack, cases: Sequence[Case], asking: Asking, min_pass: float) -> Report:
    """Plan every case, a few at a time; raises ``SettingsError`` where the pack has no prompts."""
    known = compiled(pack)
    if (prompts := known.prompts) is None:
        raise SettingsError(f"the pack {pack.name} has no prompts")
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def one(case: Case) -> tuple[CaseResult, list[Asked]]:
        async with at_once:
            return await _Run(pack, known, case, asking).result()

    done = await asyncio.gather(*(one(case) for case in cases))
    results = tuple(result for result, _ in done)
    passed = sum(not result.fault for result in results)
    files = [each.file for each in (prompts.classify, prompts.extract, prompts.plan, prompts.judge) if each]
    return Report(
        ok=passed >= min_pass * len(results),
        pack=pack.name,
        prompts={file.name: file.digest for file in files},
        cases=len(results),
        passed=passed,
        pass_rate=round(passed / len(results), 4),
        min_pass=min_pass,
        cost_micro_usd=sum(result.cost_micro_usd for result in results),
        by=lines(asked for _, questions in done for asked in questions),
        results=results,
    )


def lines(questions: Iterable[Asked]) -> tuple[Line, ...]:
    """Sums by model and role."""
    groups: dict[tuple[str, str], list[Asked]] = {}
    for asked in questions:
        groups.setdefault((asked.model, asked.role), []).append(asked)
    return tuple(_line(model, role, group) for (model, role), group in sorted(groups.items()))


def _line(model: str, role: str, group: Sequence[Asked]) -> Line:
    times = sorted(asked.seconds for asked in group if not asked.failure)
    return Line(
        model=model,
        role=role,
        questions=len(group),
        wrong=sum(asked.is_second_try for asked in group),
        failed=sum(bool(asked.failure) for asked in group),
        tokens_in=sum(asked.tokens_in for asked in group),
        tokens_out=sum(asked.tokens_out for asked in group),
        cost_micro_usd=sum(asked.cost_micro_usd for asked in group),
        p50_s=_percentile(times, 0.5),
        p95_s=_percentile(times, 0.95),
    )


def _percentile(ordered: Sequence[float], part: float) -> float:
    """By nearest rank."""
    return round(ordered[math.ceil(part * len(ordered)) - 1], 3) if ordered else 0.0


@dataclass
class _Run:
    """One case on its way."""

    pack: Pack
    known: Compiled
    case: Case
    asking: Asking
    asked: list[Asked] = field(default_factory=list)

    async def result(self) -> tuple[CaseResult, list[Asked]]:
        try:
            fault = fault_of(self.case.expect, await self._plan())
        except TerminalError as error:
            fault = str(error)
        # A person is asked too when no model answers: that is no merit of the model's.
        fault = next((asked.failure for asked in self.asked if asked.failure), fault)
        cost = sum(asked.cost_micro_usd for asked in self.asked)
        done = CaseResult(case=self.case.case, fault=fault, questions=len(self.asked), cost_micro_usd=cost)
        return done, self.asked

    async def _plan(self) -> Plan:
        def answer(tool: str, _: Json) -> Json | None:
            reads = self.case.reads
            return msgspec.Raw(msgspec.json.encode(reads[tool])) if tool in reads else None

        texts = texts_apart(self.pack, answer, settings=self.asking.settings, known=self.known)
        return (await rehearse(texts, self._context(), self._ask)).plan

    def _context(self) -> Context:
        prompts = self.known.prompts
        name = self.case.event or (prompts.classify.source.events[0] if prompts else "")
        kind = self.pack.event_type(name)
        if kind is None or prompts is None or not prompts.reads_text(name):
            raise TerminalError(f"{name!r} is no event type whose text the pack {self.pack.name} reads")
        data = msgspec.json.encode(self.case.data)
        try:
            msgspec.json.decode(data, type=kind.data)
        except msgspec.ValidationError as error:
            raise TerminalError(f"data: {error}") from error
        at = now()
        cause = Causation(stream="EVENTS", subject=f"event.{kind.name}", seq=1)
        header = Header(task_id=self.case.case, domain=self.pack.name, causation=cause, writer="eval", at=at)
        event = Event(id=self.case.case, source="/eval", type=kind.name, time=at, digest="", seq=1, accepted_at=at)
        return Context(
            header=header, event=event, data=msgspec.Raw(data), entity="", taint=kind.taint, urgency=kind.urgency
        )

    async def _ask(self, prompt: Prompt) -> Completion:
        model = self.asking.model(prompt)
        asked = Asked(prompt.role, model, is_second_try="~" in prompt.name)
        self.asked.append(asked)
        question = Question(model, prompt.system, prompt.user, prompt.schema, prompt.max_tokens)
        price = self.asking.prices.of(model)
        begun = time.perf_counter()
        try:
            reply = await _patiently(self.asking, question)
        except CallError as error:
            asked.failure = str(error)
            if isinstance(error, UnknownFateError):
                asked.cost_micro_usd = price.at_most(Mode.INTERACTIVE, question.size, question.max_tokens)
            return unanswered(prompt, model, CompletionStatus.UNAVAILABLE, asked.failure)
        recorded_s = self.asking.took_s(reply.request_id)
        asked.seconds = time.perf_counter() - begun if recorded_s is None else recorded_s
        asked.tokens_in = reply.tokens_in + reply.tokens_cached + reply.tokens_written
        asked.tokens_out = reply.tokens_out
        asked.cost_micro_usd = price.cost(
            Mode.INTERACTIVE,
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            tokens_cached=reply.tokens_cached,
            tokens_written=reply.tokens_written,
        )
        asked.failure = "" if reply.declined else reply.problem
        return completion_of(prompt, model, reply)


async def _patiently(asking: Asking, question: Question) -> Reply:
    """Ask, and again where nothing was billed: as often as the settings say."""
    attempts = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(NotBilledError),
        stop=tenacity.stop_after_attempt(asking.settings.attempts),
        wait=_wait_s,
        reraise=True,
    )
    async for attempt in attempts:
        with attempt:
            return await asking.messages.ask(question, timeout_s=asking.settings.timeout_s)
    raise AssertionError("unreachable: tenacity returns or raises")


def _wait_s(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_for = error.retry_after_s if isinstance(error, NotBilledError) else None
    return min(asked_for if asked_for is not None else 0.5 * 2**state.attempt_number, _WAIT_MAX_S)
