"""What models make of a text, step by step: from the answers so far to the next question, or to what was understood.

Pure: the same answers give the same next step, so any copy goes on where another stopped, and a replay asks nobody.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from agents.planner.planning import Inputs
from agents.planner.prompts import OTHER, UNCLEAR, Extract, Prompts
from agents.planner.routing import Risk
from mesh.canonical import canonical_json
from mesh.grounding import Sources, leaves_of
from mesh.inference import Completion, CompletionStatus, ModelRole, Prompt
from mesh.journal import Stored
from mesh.record import Json
from mesh.records import Context, Understood

MISTAKE = "mistake"
"""Where a question asked again says what was wrong with the first answer: no source for the second."""

_ANSWER_BYTES = 32 * 1024
_TRIES = 2
_MISTAKE_MAX = 500  # it may name what was made up, which is as long as a model likes


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a task, and what came of it so far."""

    prompt: Prompt
    completion: Completion | None = None


Exchange = Mapping[str, Asked]
"""The questions of a task by name."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to be asked next. ``mistake`` is what was wrong with the answer before."""

    role: ModelRole
    name: str
    sample: int = 0
    mistake: str = ""
    classified: "Classified | None" = None


@dataclass(frozen=True, slots=True)
class Await:
    """Answers are on their way."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """A person must read the text, and why. ``readings`` are those that models could not agree on, by who made them."""

    reason: str
    readings: tuple[tuple[str, Understood], ...] = ()
    over_budget: bool = False


@dataclass(frozen=True, slots=True)
class Classified:
    """Which request a text makes; ``found`` are the parts that classifying finds."""

    intent: str
    found: Mapping[str, str]
    risk: Risk
    note: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A question has no usable answer, and why."""

    reason: str
    over_budget: bool = False


Move = tuple[Ask, ...] | Await | HandOver | Understood | Classified
"""What comes next; ``Classified`` as ``other``: steps must be made for it."""

Check = Callable[[Json, Sources], tuple[Any, str]]


def read_text(prompts: Prompts, keep: Callable[["Classified"], Mapping[str, Any]], exchange: Exchange) -> Move:
    """The next step in understanding a text. ``keep`` gives the fields of the data that no model has a say in."""
    classified = classify(prompts, exchange)
    if not isinstance(classified, Classified):
        return classified
    if classified.intent == UNCLEAR:
        return HandOver(f"the text does not tell what is asked for{_colon(classified.note)}")
    if classified.intent == OTHER:
        return classified if prompts.plan else HandOver(f"no playbook is for this request{_colon(classified.note)}")
    if prompts.extract is None:
        return HandOver("nothing reads the data of a request out of a text")
    return _extract(prompts, prompts.extract, classified, keep(classified), exchange)


def classify(prompts: Prompts, exchange: Exchange) -> tuple[Ask, ...] | Await | HandOver | Classified:
    """The text's kind, or what must be asked for it."""

    def check(output: Json, sources: Sources) -> tuple[Any, str]:
        answer = _object(output)
        intents = prompts.classify.source.intents
        intent = answer.get("intent")
        if intent not in (*intents, OTHER, UNCLEAR):
            return None, f"intent: {intent!r} is none of {', '.join((*intents, OTHER, UNCLEAR))}"
        found = {name: answer.get(name, "") for name in prompts.classify.source.find}
        for name, value in found.items():
            if not isinstance(value, str):
                return None, f"{name}: expected a string"
            if not sources.holds(value):
                return None, f"{name}: {value!r} occurs nowhere in the text"
        note = answer.get("note", "")
        risk = intents[intent].risk if intent in intents else "high"
        return Classified(intent, found, risk, note[:300] if isinstance(note, str) else ""), ""

    answer = answer_of(exchange, "classify", check)
    match answer:
        case Classified():
            return answer
        case Failed(reason, over_budget):
            return HandOver(f"the text could not be classified: {reason}", over_budget=over_budget)
        case Await():
            return answer
    token, mistake = answer
    return (Ask(ModelRole.CLASSIFY, token, mistake=mistake),)


def _extract(
    prompts: Prompts, extract: Extract, classified: Classified, kept: Mapping[str, Any], exchange: Exchange
) -> Move:
    """The request's data as ``agree`` of the readings have it."""
    readers = extract.source.readers.get(classified.risk)
    of, agree = (readers.of, readers.agree) if readers else (2, 2)
    check = _extraction(prompts, classified.intent, kept)
    asks: list[Ask] = []
    votes: dict[str, Understood] = {}
    failed: list[Failed] = []
    waits = False
    for sample in range(of):
        name = "extract" if not sample else f"extract-{sample + 1}"
        answer = answer_of(exchange, name, check)
        match answer:
            case Understood():
                votes[_reader(exchange, name)] = answer
            case Failed():
                failed.append(answer)
            case Await():
                waits = True
            case (token, mistake):
                asks.append(Ask(ModelRole.EXTRACT, token, sample, mistake, classified))
    counts = Counter(agreed_form(vote.data) for vote in votes.values())
    form, most = counts.most_common(1)[0] if counts else ("", 0)
    if most >= agree:
        return next(vote for vote in votes.values() if agreed_form(vote.data) == form)
    if waits or asks:
        return tuple(asks) if asks else Await()
    over_budget = any(each.over_budget for each in failed)
    if len(counts) > 1:
        return HandOver("models read the text differently", tuple(votes.items()), over_budget)
    reasons = "; ".join(dict.fromkeys(each.reason for each in failed))
    return HandOver(f"the text is not enough: {reasons}", tuple(votes.items()), over_budget)


def _extraction(prompts: Prompts, intent: str, kept: Mapping[str, Any]) -> Check:
    kind = prompts.types[intent]
    schema = msgspec.json.decode(prompts.extract.schemas[intent]) if prompts.extract else {}
    chosen = {name for name, part in schema["properties"].items() if "enum" in part or "const" in part}

    def check(output: Json, sources: Sources) -> tuple[Any, str]:
        answer = _object(output)
        missing = answer.pop("missing", "")
        if isinstance(missing, str) and missing.strip():
            return Failed(missing.strip()[:300]), ""
        if unknown := sorted(answer.keys() - schema["properties"].keys()):
            return None, f"{unknown[0]}: no such field"
        data = canonical_json({**answer, **kept})
        try:
            msgspec.json.decode(data, type=kind.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return None, str(error)
        for name, value in answer.items():
            for path, leaf in leaves_of(value, f"/{name}"):
                if name not in chosen and not sources.holds(leaf):
                    return None, f"{path}: {leaf!r} occurs nowhere in what was shown"
        return Understood(event_type=intent, data=msgspec.Raw(data)), ""

    return check


def answer_of(exchange: Exchange, name: str, check: Check) -> Any:
    """The checked answer to a question; ``Await``; ``Failed``; or, where it is to be asked, its name and the mistake.

    An answer that is wrong is asked for once more; wrong twice, it is refused with the reason.
    """
    mistake = ""
    for attempt in range(1, _TRIES + 1):
        token = name if attempt == 1 else f"{name}~{attempt}"
        asked = exchange.get(token)
        if asked is None:
            return token, mistake
        done = asked.completion
        if done is None:
            return Await()
        if done.status is not CompletionStatus.ANSWERED:
            return Failed(done.reason or str(done.status), done.status is CompletionStatus.OVER_BUDGET)
        value, mistake = _checked(done, asked.prompt, check)
        mistake = mistake[:_MISTAKE_MAX]
        if not mistake:
            return value
    return Failed(f"its answer was wrong twice: {mistake}")


def _checked(done: Completion, prompt: Prompt, check: Check) -> tuple[Any, str]:
    if len(done.output) > _ANSWER_BYTES:
        return None, f"the answer has {len(done.output)} bytes; {_ANSWER_BYTES} are allowed"
    try:
        return check(done.output, sources_of(prompt))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        return None, f"the answer is not of the form asked for: {error}"


def sources_of(prompt: Prompt) -> Sources:
    """What the model was shown of this task."""
    shown = msgspec.json.decode(prompt.user, type=dict[str, Any])
    return Sources(value for name, value in shown.items() if name != MISTAKE)


def agreed_form(data: Json) -> str:
    """Data in a form in which two readings that mean the same are equal: lists that belong together have no order."""
    plain = msgspec.json.decode(data)
    lists = {name: value for name, value in plain.items() if isinstance(value, list)}
    by_length: dict[int, list[str]] = {}
    for name, value in lists.items():
        by_length.setdefault(len(value), []).append(name)
    for names in by_length.values():
        rows = sorted(zip(*(lists[name] for name in sorted(names)), strict=True), key=canonical_json)
        plain["+".join(sorted(names))] = rows
        for name in names:
            if len(names) > 1:
                del plain[name]
    return canonical_json(plain).decode()


def _reader(exchange: Exchange, name: str) -> str:
    last = exchange.get(f"{name}~{_TRIES}") or exchange[name]
    model = last.completion.model if last.completion else ""
    return f"{name} ({model})"


def _object(output: Json) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.json.decode(output, type=dict[str, Any])
    return answer


def _colon(note: str) -> str:
    return f": {note}" if note else ""


def exchange_of(items: Iterable[Stored]) -> dict[str, Asked]:
    """The questions and answers among a task's records."""
    found: dict[str, Asked] = {}
    answers: dict[str, Completion] = {}
    for item in items:
        match item.record:
            case Prompt() as prompt:
                found[prompt.name] = Asked(prompt)
            case Completion() as completion:
                answers[completion.name] = completion
    return {name: replace(asked, completion=answers.get(name)) for name, asked in found.items()}


def prefix_of(revision: int) -> str:
    """How the names of the questions begin that are asked for a plan made anew."""
    return f"v{revision}-" if revision else ""


def of_revision(exchange: Exchange, revision: int) -> Exchange:
    """The questions asked for the plan of this revision, without their prefix."""
    if not revision:
        return exchange
    prefix = prefix_of(revision)
    return {name.removeprefix(prefix): asked for name, asked in exchange.items() if name.startswith(prefix)}


def kept_of(prompts: Prompts, context: Context, classified: Classified) -> dict[str, Any]:
    """The fields of the data that are the event's own, or were found in the text before.

    Raises ``ExpressionError``.
    """
    variables = Inputs(context).variables
    variables.put("found", dict(classified.found))
    keep = prompts.extract.keep if prompts.extract else {}
    return {name: each.value(variables) for name, each in keep.items()}
