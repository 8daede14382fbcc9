"""What people do about messages on a live site: choose one of two readings, let a model's letter go out, or not."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from console.publish import publish_lines
from console.up import running, systems_env
from console.words import say
from mesh import service
from mesh.approvals import Nothing, Shown, TaskRequest, Waiting, WordAnswer
from mesh.bus import Bus
from mesh.demo import Systems, load_demo
from mesh.facts import Claim, Scope, Source
from mesh.identity import Identity
from mesh.inference import Mode
from mesh.journal import Journal, committing
from mesh.memory import ChangeAnswer, RememberAnswer, RememberRequest, RetractRequest
from mesh.operator import operating
from mesh.prices import load_prices
from mesh.records import Change, Completion, Outcome, OutcomeStatus, Prompt, Word
from mesh.scripted.conversations import Conversation, Turn, When
from mesh.scripted.server import ScriptedModel, scripted_model
from mesh.settings import load

T = TypeVar("T")
CUSTOMER, ORDER = "dagny_grimaldi_1622", "#W1060358"
LAMP, KNIFE, CARD = "6715319864", "4902049731", "credit_card_5535720"
BACK = f"Order {ORDER}: one of the things is not what I hoped for, take it back please. Money to {CARD}."
WHERE = f"Hello, which state is my order {ORDER} in?"
LETTER = f"Dear customer, your order {ORDER} is delivered. Your shop"


@dataclass
class Site:
    """A running site, as an operator and a service agent have it."""

    bus: Bus
    journal: Journal
    agent: Identity
    options: Mapping[str, Any]
    model: ScriptedModel

    async def write(self, name: str, message: str) -> str:
        """Publish a message; its task."""
        event = {
            "specversion": "1.0",
            "id": name,
            "source": "/mailbox",
            "type": "retail.message.received",
            "subject": f"message/{name}",
            "data": {"user_id": CUSTOMER, "message": message},
        }
        async with committing(self.bus) as committer:
            found = [each async for each in publish_lines(committer, [json.dumps(event).encode()])]
        return found[0].task_id

    async def shown(self, task: str, after: str = "") -> Shown:
        """What waits, as a person sees it, once it does; not the plan of the digest ``after``."""

        async def look() -> Shown | None:
            waiting = await service.ask(self.bus, "policy", "list", Nothing(), list[Waiting])
            if task not in {item.task_id for item in waiting}:
                return None
            found = await service.ask(self.bus, "policy", "show", TaskRequest(task_id=task), Shown)
            return None if found.plan_digest == after else found

        return await wait_for(look)

    async def say(self, shown: Shown, word: Word, *changes: Change) -> WordAnswer:
        """The agent's signed word."""
        return await say(self.bus, self.agent, shown, "service_agent", word, changes=changes)

    async def outcome(self, task: str) -> Outcome:
        """How the task ended."""

        async def look() -> Outcome | None:
            item = await self.journal.record(f"task.outcome.retail.{task}.-")
            return item.record if item and isinstance(item.record, Outcome) else None

        return await wait_for(look)

    async def prompts(self, task: str) -> dict[str, Prompt]:
        """What models were asked, by name, in order."""
        items = await self.journal.task(task)
        return {item.record.name: item.record for item in items if isinstance(item.record, Prompt)}

    async def changes(self) -> list[str]:
        """The shop's own log."""
        return [change.kind for change in await load_demo("retail").applied(self.options)]

    def letters(self) -> list[str]:
        """The letters that went out."""
        return [path.read_text(encoding="utf-8") for path in Path(self.options["outbox_dir"]).glob("*.eml")]


async def wait_for(look: Callable[[], Awaitable[T | None]]) -> T:
    """What ``look`` finds, once it does."""
    async with asyncio.timeout(20):
        while True:
            if (found := await look()) is not None:
                return found
            await asyncio.sleep(0.05)


@asynccontextmanager
async def site_with(folder: Path, *said: Conversation, config: str = "") -> AsyncIterator[Site]:
    (folder / "workmesh.toml").write_text(config, encoding="utf-8")
    demo = load_demo("retail")
    systems: Systems = demo.systems(demo.sample, folder / "systems", {})
    agent = Identity.create(folder / "sam.nk", "sam")
    settings = load(folder / "workmesh.toml", {"WORKMESH_STATE_DIR": str(folder / "site")})
    async with scripted_model(said) as model:
        env = {
            "WORKMESH_MODELS__USE": "yes",
            "WORKMESH_MODELS__BASE_URL": model.url,
            "ANTHROPIC_API_KEY": "scripted",
            "WORKMESH_MEMORY__EMBEDDER": "none",
        }
        async with (
            running(
                settings,
                config=folder / "workmesh.toml",
                env=systems_env("retail", systems.options) | env,
                extra=systems.children,
                people={agent: ("service_agent",)},
            ),
            operating(settings) as bus,
            committing(bus) as committer,
        ):
            yield Site(bus, Journal(bus, committer), agent, systems.options, model)


def _said(title: str, when: When, *answers: Any) -> Conversation:
    turns = tuple(Turn(answer=answer, times=1) for answer in answers[:-1])
    return Conversation(conversation=title, when=when, says=(*turns, Turn(answer=answers[-1])))


def _read(item: str) -> dict[str, Any]:
    return {"item_ids": [item], "payment_method_id": CARD, "missing": ""}


LOOK = {"reads": [{"name": "order", "tool": "retail.order", "args": {"order_id": ORDER, "user_id": CUSTOMER}}]}


def _letter(body: str) -> dict[str, Any]:
    users = json.loads((load_demo("retail").sample / "users.json").read_text(encoding="utf-8"))
    args = {
        "order_id": ORDER,
        "user_id": CUSTOMER,
        "email": users[CUSTOMER]["email"],
        "subject": "Your order",
        "body": body,
    }
    steps = [{"id": "answer", "tool": "retail.notify", "args": args, "needs": []}]
    return {"reads": [], "steps": steps, "rationale": f"The customer asks about {ORDER}.", "cannot": ""}


@pytest.mark.timeout(60)
async def test_a_person_chooses_the_reading_that_is_right_and_it_is_carried_out_once(tmp_path: Path) -> None:
    said = (
        _said("which", When(asks="intent"), {"intent": "retail.return.requested", "order_id": ORDER, "note": ""}),
        _said("the lamp", When(asks="item_ids", model="claude-haiku-*"), _read(LAMP)),
        _said("the knife", When(asks="item_ids"), _read(KNIFE)),
    )
    async with site_with(tmp_path, *said) as site:
        task = await site.write("back", BACK)
        shown = await site.shown(task)
        assert [step.call.tool for step in shown.steps] == ["retail.hand-over"]
        assert shown.rationale == "models read the text differently"
        assert [candidate.label.split(" ")[0] for candidate in shown.candidates] == ["extract", "extract-2"]
        assert LAMP in bytes(shown.candidates[0].calls[0].args).decode()
        assert KNIFE in bytes(shown.candidates[1].calls[0].args).decode()
        assert (
            await site.say(shown, Word.CORRECT, Change(step="", choose=2, digest=shown.candidates[1].digest))
        ).verdict == "corrected"
        ended = await site.outcome(task)
        assert (ended.status, ended.amount, ended.playbook) == (OutcomeStatus.COMPLETED, 8441, "retail.return")
        assert await site.changes() == ["return"]


@pytest.mark.timeout(60)
async def test_a_letter_that_a_model_has_written_goes_out_when_a_person_has_read_it(tmp_path: Path) -> None:
    said = (
        _said("which", When(asks="intent"), {"intent": "other", "order_id": ORDER, "note": ""}),
        _said(
            "look, lie, then write",
            When(asks="steps", user=WHERE),
            {**LOOK, "steps": [], "rationale": "", "cannot": ""},
            _letter(f"You get 900.00 USD for {ORDER}."),
            _letter(LETTER),
        ),
        _said("the judge", When(asks="agrees"), {"agrees": True, "why": "It answers the question."}),
    )
    async with site_with(tmp_path, *said) as site:
        task = await site.write("where", WHERE)
        shown = await site.shown(task)
        [step] = shown.steps
        assert (step.call.tool, step.roles) == ("retail.notify", ("service_agent",))
        assert set(step.tainted) >= {"body", "subject"}
        assert site.letters() == []
        assert (await site.say(shown, Word.APPROVE)).verdict == "allow"
        assert (await site.outcome(task)).status is OutcomeStatus.COMPLETED
        [sent] = site.letters()
        assert "is delivered" in sent
        names = await site.prompts(task)
        assert [*names] == ["classify", "plan", "plan-2", "plan-2~2", "judge"]
        assert await site.changes() == []


@pytest.mark.timeout(60)
async def test_what_a_person_sees_to_moves_nothing(tmp_path: Path) -> None:
    said = (_said("which", When(asks="intent"), {"intent": "unclear", "order_id": "", "note": "says nothing"}),)
    async with site_with(tmp_path, *said) as site:
        seen, not_ours = await site.write("seen", "Hm."), await site.write("no", "Hm?")
        assert (await site.say(await site.shown(seen), Word.APPROVE)).verdict == "allow"
        assert (await site.outcome(seen)).status is OutcomeStatus.COMPLETED
        await site.say(await site.shown(not_ours), Word.REJECT)
        assert (await site.outcome(not_ours)).status is OutcomeStatus.DENIED
        assert await site.changes() == []


async def _remember(site: Site, words: str) -> str:
    claim = Claim(
        scope=Scope(domain="retail"),
        subject=f"customer/{CUSTOMER}",
        predicate="prefers",
        value=msgspec.Raw(msgspec.json.encode(words)),
        text=f"prefers {words}",
        source=Source(uri="test"),
    )
    request = RememberRequest(claims=(claim,), by="test")
    answer = await service.ask(site.bus, "memory", "remember", request, RememberAnswer, timeout_s=10)
    return answer.facts[0].fact.id


@pytest.mark.timeout(60)
async def test_what_a_model_was_shown_of_memory_is_cited_and_asked_for_anew_when_it_changes(tmp_path: Path) -> None:
    letter = _letter(LETTER)
    said = (
        _said("which", When(asks="intent"), {"intent": "other", "order_id": ORDER, "note": ""}),
        _said("write", When(asks="steps", user=(WHERE, '"records"')), letter),
        _said("look", When(asks="steps", user=WHERE), {**LOOK, "steps": [], "rationale": "", "cannot": ""}),
        _said("the judge", When(asks="agrees"), {"agrees": True, "why": "It answers the question."}),
    )
    async with site_with(tmp_path, *said) as site:
        fact = await _remember(site, "short letters")
        task = await site.write("where", WHERE)
        first = await site.shown(task)
        prompts = await site.prompts(task)
        assert '"text":"prefers short letters"' in prompts["plan-2"].user
        assert [cited.fact_id for cited in prompts["plan-2"].citations] == [fact]
        request = RetractRequest(ids=(fact,), by="test", reason="it was a mistake")
        await service.ask(site.bus, "memory", "retract", request, ChangeAnswer, timeout_s=10)
        assert (await site.say(first, Word.APPROVE)).verdict == "void"
        second = await site.shown(task, after=first.plan_digest)
        assert second.revision == 1
        names = await site.prompts(task)
        assert {"v1-classify", "v1-plan", "v1-plan-2", "v1-judge"} <= names.keys()
        assert "facts" not in msgspec.json.decode(names["v1-plan-2"].user)
        assert (await site.say(second, Word.APPROVE)).verdict == "allow"
        assert (await site.outcome(task)).status is OutcomeStatus.COMPLETED
        assert len(site.letters()) == 1


IN_BATCHES = """
[models]
batch_wait_s = 0.2
batch_poll_s = 0.2
[models.domains.retail]
slo = "batch"
"""


@pytest.mark.timeout(60)
async def test_where_nobody_waits_questions_go_in_batches_and_cost_half(tmp_path: Path) -> None:
    said = (
        _said("which", When(asks="intent"), {"intent": "retail.return.requested", "order_id": ORDER, "note": ""}),
        _said("the lamp", When(asks="item_ids"), _read(LAMP)),
    )
    async with site_with(tmp_path, *said, config=IN_BATCHES) as site:
        task = await site.write("back", BACK)
        ended = await site.outcome(task)
        assert (ended.status, ended.amount) == (OutcomeStatus.COMPLETED, 6255)
        assert {prompt.mode for prompt in (await site.prompts(task)).values()} == {Mode.BATCH}
        billed = site.model.billed
        assert {call.service for call in billed} == {"batch"}
        items = await site.journal.task(task)
        usage = [use for item in items if isinstance(item.record, Completion) for use in item.record.usage]
        assert [use.mode for use in usage] == [Mode.BATCH] * len(billed)
        prices = load_prices()
        whole = sum(
            prices.of(use.model).cost(Mode.INTERACTIVE, tokens_in=use.tokens_in, tokens_out=use.tokens_out)
            for use in usage
        )
        assert abs(2 * sum(use.cost_micro_usd for use in usage) - whole) <= 2 * len(usage)  # each is rounded up
