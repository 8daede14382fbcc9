"""A text's plan as another model would have it: the recorded readings, new answers, and what would differ."""

from collections.abc import Sequence

from agents.planner.apart import compiled, recorded_in, texts_apart
from agents.planner.planning import recalled_of
from agents.planner.prompts import Prompts
from agents.planner.reading import exchange_of, kept_of, read_text
from agents.planner.rehearsing import NoPlanError, completion_of, rehearse, unanswered
from mesh.inference import Completion, CompletionStatus, Prompt
from mesh.journal import Stored
from mesh.messages import CallError, Messages, Question, messages_api
from mesh.pack import load_packs
from mesh.record import Reading
from mesh.records import Context, Plan, Understood
from mesh.replay import Recorded, Replayed, compare
from mesh.settings import ModelSettings

_FIELDS = ("playbook", "understood", "steps", "refusal")


async def replay_by_model(recorded: Recorded, context: Context, plan: Plan) -> Replayed:
    """What the plan would be if ``recorded.model`` were asked. Reads what is on record, and nothing else."""
    settings = recorded.models or ModelSettings()
    pack = load_packs((context.header.domain,))[context.header.domain]
    known = compiled(pack)
    on_record = recorded_in(known.tools, _readings(recorded.items, plan))
    texts = texts_apart(pack, on_record, recalled_of(plan), settings, known)
    async with messages_api(settings) as messages:

        async def answer(prompt: Prompt) -> Completion:
            return await answered(messages, prompt, recorded.model, settings)

        try:
            again = (await rehearse(texts, context, answer)).plan
        except NoPlanError as error:
            return _unplanned(known.prompts, context, plan, error)
    differences = compare(
        "plan", {name: getattr(plan, name) for name in _FIELDS}, {name: getattr(again, name) for name in _FIELDS}
    )
    return Replayed(stage="planner", records=len(exchange_of(recorded.items)), differences=differences)


def _unplanned(prompts: Prompts | None, context: Context, plan: Plan, error: NoPlanError) -> Replayed:
    """What the model read otherwise, where the rest of the plan would need what nobody has read."""
    found = (
        read_text(prompts, lambda classified: kept_of(prompts, context, classified), error.exchange)
        if prompts is not None
        else None
    )
    understood = found if isinstance(found, Understood) else None
    differences = compare("plan", {"understood": plan.understood}, {"understood": understood})
    return Replayed(stage="planner", records=int(bool(differences)), differences=differences, unknown=str(error))


async def answered(messages: Messages, prompt: Prompt, model: str, settings: ModelSettings) -> Completion:
    """One question to one model, with nothing on record and no second try."""
    question = Question(
        model=model, system=prompt.system, user=prompt.user, schema=prompt.schema, max_tokens=prompt.max_tokens
    )
    try:
        return completion_of(prompt, model, await messages.ask(question, timeout_s=settings.timeout_s))
    except CallError as error:
        return unanswered(prompt, model, CompletionStatus.UNAVAILABLE, str(error))


def _readings(items: Sequence[Stored], plan: Plan) -> tuple[Reading, ...]:
    asked = (asked.prompt.readings for asked in exchange_of(items).values())
    return (*(reading for readings in asked for reading in readings), *plan.readings)
