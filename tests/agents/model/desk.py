"""A site with model processes that ask a scripted model, questions for them, and the invoice of the provider."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.spending import DayWindow, LedgerView, read_ledger
from mesh import subjects
from mesh.clock import now
from mesh.inference import Completion, Mode, ModelRole, Prompt, Tier
from mesh.journal import Journal, Write, committing
from mesh.messages import Question
from mesh.prices import load_prices
from mesh.record import Causation, Header
from mesh.scripted.calls import Call
from mesh.scripted.conversations import Conversation, Turn, When
from mesh.scripted.provider import Terms
from mesh.scripted.server import ScriptedModel, scripted_model
from mesh.settings import ModelSettings
from tests.ledger_pack.running import Running, until
from tests.ledger_pack.world import World, world_in
from tests.mesh.samples import json

DOMAIN = "ledger"
SMALL, LARGE = ModelSettings().small, ModelSettings().large
SCHEMA = {
    "type": "object",
    "properties": {"intent": {"type": "string"}},
    "required": ["intent"],
    "additionalProperties": False,
}
ANSWER = {"intent": "post"}
SETTINGS = {"timeout_s": "4.0", "attempts": "2", "requests_per_minute": "100000", "tokens_per_minute": "100000000"}
PRICES = load_prices()
SYSTEM = "You sort requests."
MAX_TOKENS = 100


@dataclass
class Desk:
    """Where questions are asked, and what came of them is found."""

    world: World
    server: ScriptedModel
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def says(self, *turns: Turn, **when: Any) -> None:
        """Have the model answer so."""
        self.server.add(Conversation(conversation="in a test", when=When(**when), says=turns))

    def prompt(self, user: str, *, domain: str = DOMAIN, **changes: Any) -> Prompt:
        """A question of a task of its own."""
        task = f"{next(self.numbers)}".rjust(12, "q")
        causation = Causation(stream=subjects.JOURNAL, subject=f"task.context.{domain}.{task}.-", seq=1)
        asked: dict[str, Any] = {
            "header": Header(task_id=task, domain=domain, causation=causation, writer="planner/test", at=now()),
            "name": "classify",
            "role": ModelRole.CLASSIFY,
            "file": "classify.yaml",
            "digest": "sha256:0",
            "system": SYSTEM,
            "user": user,
            "schema": json(SCHEMA),
            "chain": (Tier.SMALL,),
            "reason": "in a test",
            "max_tokens": MAX_TOKENS,
        }
        return Prompt(**(asked | changes))

    async def put(self, *prompts: Prompt) -> None:
        """Write the questions down, as the planner does."""
        async with self.world.connected("planner") as bus, committing(bus) as committer:
            journal = Journal(bus, committer)
            for prompt in prompts:
                await journal.commit(Write(prompt))

    async def ask(self, user: str, **changes: Any) -> Completion:
        """Ask one question, and wait for its completion."""
        prompt = self.prompt(user, **changes)
        await self.put(prompt)
        return await self.completion(prompt)

    async def completion(self, prompt: Prompt) -> Completion:
        """Wait for the completion of a question."""
        subject = subjects.record("completion", prompt.header.domain, prompt.header.task_id, prompt.name)
        found: list[Completion] = []

        async def is_there() -> bool:
            stored = await self.world.journal.record(subject)
            if stored is not None and isinstance(stored.record, Completion):
                found.append(stored.record)
            return bool(found)

        await until(is_there)
        return found[0]

    async def settled(self) -> None:
        """Wait until the stage has nothing left to do."""
        await self.world.settled("model")

    async def ledger(self, by: str = "model") -> LedgerView:
        """The ledger as ``workmesh models ledger`` has it."""
        return await read_ledger(self.world.bus, by)

    async def window(self, domain: str) -> DayWindow:
        """The only window of a domain."""
        (found,) = (window for window in (await self.ledger()).windows if window.domain == domain)
        return found

    def invoice(self, user: str = "") -> int:
        """What the provider bills for the questions with this text, in micro-dollars."""
        return sum(billed(call) for call in self.server.billed if user in call.user)

    async def agrees(self) -> None:
        """Wait until nothing is under way; then what is certain is what the provider bills for whole answers."""

        async def is_quiet() -> bool:
            return not any(window.open for window in (await self.ledger()).windows)

        await self.settled()
        await until(is_quiet)
        ledger = await self.ledger()
        assert ledger.agrees
        answered = sum(billed(call) for call in self.server.billed if call.answered)
        assert ledger.total.cost_micro_usd - ledger.total.uncertain_micro_usd == answered
        assert ledger.total.cost_micro_usd >= self.invoice()

    def calls_about(self, user: str) -> int:
        """How many requests with this text the provider was sent."""
        return sum(user in call.user for call in self.server.calls)

    @asynccontextmanager
    async def model(self, instance: str = "1", *, fault: str = "", **settings: str) -> AsyncIterator[Running]:
        """A process of the role; ``settings`` are lines of TOML under ``[models]``."""
        budget = settings.pop("budget", "{usd_per_day = 10.0}")
        lines = [f"{key} = {value}" for key, value in {**SETTINGS, "budget": budget, **settings}.items()]
        path = self.world.folder / f"models-{next(self.numbers)}.toml"
        path.write_text("[models]\n" + "\n".join(lines) + "\n", encoding="utf-8")
        env = {
            "WORKMESH_CONFIG": str(path),
            "ANTHROPIC_BASE_URL": self.server.url,
            "ANTHROPIC_API_KEY": "sk-test",
        }
        async with self.world.role("model", instance, fault=fault, env=env) as running:
            yield running


@asynccontextmanager
async def desk_in(folder: Path, **terms: Any) -> AsyncIterator[Desk]:
    """A site without any process but the bus and the ledger, and a scripted model."""
    async with world_in(folder) as world, scripted_model(terms=Terms(**terms)) as server:
        yield Desk(world, server)


def bound(user: str, model: str = SMALL, mode: Mode = Mode.INTERACTIVE) -> int:
    """The most that a question with this text can cost, in micro-dollars."""
    asked = Question(model, SYSTEM, user, json(SCHEMA), MAX_TOKENS)
    return PRICES.of(model).at_most(mode, asked.size, asked.most_out)


# Caps of domains in micro-dollars, and what is done at the limit.
BUDGETS = {
    "many": (bound("one of many 00") * 5 // 4, "person"),
    "cheaper": (bound("cheaper") + 1, "small"),
    "decide": (bound("decide") + 1, "person"),
    "batched": (3 * bound("of a batch 0", mode=Mode.BATCH), "person"),
}


def billed(call: Call) -> int:
    """What the provider bills for a call, by the table."""
    return PRICES.of(call.model).cost(
        Mode.BATCH if call.service == "batch" else Mode.INTERACTIVE,
        tokens_in=call.tokens_in,
        tokens_out=call.tokens_out,
        tokens_cached=call.tokens_cached,
        tokens_written=call.tokens_written,
    )
