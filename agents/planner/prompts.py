"""What models are asked: YAML files of a pack, one for each role, compiled at start with the schema of their answers.

The rule: the system text and the schema are the same for every task, so that a provider can cache them; what a task has
of its own is one JSON document, in which text from outside stands as a string and can end nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from agents.planner.playbook import (
    CallSource,
    Invocation,
    Name,
    ReadSource,
    Recall,
    RecallSource,
    compile_call,
    compile_recall,
)
from mesh.canonical import canonical_json, digest_bytes
from mesh.errors import SettingsError
from mesh.expressions import Expression, Variables
from mesh.inference import ModelRole
from mesh.pack import EventType
from mesh.record import Json
from mesh.tools import Tool

OTHER = "other"
UNCLEAR = "unclear"

_TOKENS_MAX = 8192
# What only a check can hold an answer to: a schema for models names fields, kinds and choices.
_NOT_FOR_MODELS = frozenset(
    ("pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "title", "default", "format")
)


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of a prompt file."""


class IntentSource(_Part, frozen=True, kw_only=True):
    """A request that a text may make, in words for the model, and what a mistake about it would cost."""

    says: str
    risk: Literal["low", "medium", "high"] = "high"


class ReadersSource(_Part, frozen=True, kw_only=True):
    """How many readings of a text are made, and how many must be equal."""

    of: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    agree: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1


class _PromptSource(_Part, frozen=True, kw_only=True, tag_field="role"):
    """What all prompt files have: ``show`` is what the model gets to see of the task, by name, in CEL.

    What ``recall`` finds in memory it gets to see as ``facts``; the plan cites them.
    """

    name: str
    version: Annotated[int, msgspec.Meta(ge=1)]
    system: str
    show: dict[Name, str]
    recall: Annotated[tuple[RecallSource, ...], msgspec.Meta(max_length=8)] = ()
    max_tokens: Annotated[int, msgspec.Meta(ge=16, le=_TOKENS_MAX)] = 1024


class ClassifySource(_PromptSource, frozen=True, kw_only=True, tag="classify"):
    """Which request a text makes, and what it ``find``s in it by name (a description each) before anything is read.

    ``hand_over`` is the tool by which a person gets what models could not make out; expressions see ``reason`` and
    ``options`` beside the event.
    """

    events: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    intents: Annotated[dict[str, IntentSource], msgspec.Meta(min_length=1)]
    find: dict[Name, str] = {}
    hand_over: CallSource | None = None


class ExtractSource(_PromptSource, frozen=True, kw_only=True, tag="extract"):
    """The data of the request, with what the systems say of it. ``keep`` are fields that no model has a say in."""

    keep: dict[str, str] = {}
    reads: tuple[ReadSource, ...] = ()
    readers: dict[Literal["low", "medium", "high"], ReadersSource] = {}


class PlanSource(_PromptSource, frozen=True, kw_only=True, tag="plan"):
    """Steps for a request that no playbook is for. ``free`` are arguments that may hold a model's own words."""

    tools: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    free: dict[str, tuple[str, ...]] = {}
    rounds: Annotated[int, msgspec.Meta(ge=1, le=5)] = 3


class JudgeSource(_PromptSource, frozen=True, kw_only=True, tag="judge"):
    """Whether a plan is what the text asks for; asked of plans that move more than ``above`` (``amount``, in CEL)."""

    amount: str = "0"
    above: int = 0


_AnySource = ClassifySource | ExtractSource | PlanSource | JudgeSource


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A prompt file, compiled. ``digest`` is that of its bytes."""

    name: str
    role: ModelRole
    digest: str
    system: str
    max_tokens: int
    show: Mapping[str, Expression]
    recall: tuple[Recall, ...] = ()

    def document(self, variables: Variables, more: Mapping[str, Any] | None = None) -> str:
        """This task's part as JSON; ``more`` is put beside what the file shows."""
        shown = {name: each.value(variables) for name, each in self.show.items()}
        return canonical_json({**shown, **(more or {})}).decode()


@dataclass(frozen=True, slots=True)
class Classify:
    """How a text is classified."""

    file: PromptFile
    source: ClassifySource
    schema: Json
    hand_over: Invocation | None


@dataclass(frozen=True, slots=True)
class Extract:
    """How the data of a request is read out of a text; a schema for each event type that it may become."""

    file: PromptFile
    source: ExtractSource
    keep: Mapping[str, Expression]
    reads: tuple[tuple[str, Invocation], ...]
    schemas: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Unforeseen:
    """How steps are made for a request without a playbook."""

    file: PromptFile
    source: PlanSource
    tools: Mapping[str, Tool]
    schema: Json


@dataclass(frozen=True, slots=True)
class Judge:
    """How a plan is held against the text."""

    file: PromptFile
    source: JudgeSource
    amount: Expression
    schema: Json


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompt files of a pack; none of ``extract``, ``plan`` and ``judge`` need be there."""

    classify: Classify
    extract: Extract | None = None
    plan: Unforeseen | None = None
    judge: Judge | None = None
    types: Mapping[str, EventType] = field(default_factory=dict)

    def reads_text(self, event_type: str) -> bool:
        """Whether events of this type are text to be understood."""
        return event_type in self.classify.source.events


def load_prompts(folder: Path | None, tools: Mapping[str, Tool], types: tuple[EventType, ...]) -> Prompts | None:
    """The prompt files of a folder; ``None`` without a folder. Raises ``SettingsError`` naming file and place."""
    if folder is None:
        return None
    by_name = {kind.name: kind for kind in types}
    found: dict[type, Any] = {}
    for path in sorted(folder.glob("*.yaml")):
        compiled = compile_prompt(path.read_bytes(), path.name, tools, by_name)
        if type(compiled) in found:
            raise SettingsError(f"{path}: a second prompt file of its role, beside {found[type(compiled)].file.name}")
        found[type(compiled)] = compiled
    if Classify not in found:
        raise SettingsError(f"no prompt file of the role classify (*.yaml) in {folder}")
    classify: Classify = found[Classify]
    if Extract in found and (missing := sorted(classify.source.intents.keys() - found[Extract].schemas.keys())):
        raise SettingsError(f"{classify.file.name}: no event type {missing[0]!r} in the pack")
    return Prompts(classify, found.get(Extract), found.get(Unforeseen), found.get(Judge), by_name)


def compile_prompt(
    data: bytes, file: str, tools: Mapping[str, Tool], types: Mapping[str, EventType]
) -> Classify | Extract | Unforeseen | Judge:
    """A prompt file from its bytes."""
    try:
        source: _AnySource = msgspec.convert(yaml.safe_load(data), _AnySource)
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise SettingsError(f"prompt {file}: {error}") from error
    role = ModelRole(str(source.__struct_config__.tag))
    show = {name: Expression(text, f"{file} show {name}") for name, text in source.show.items()}
    recall = tuple(compile_recall(each, f"{file} recall {number}") for number, each in enumerate(source.recall, 1))
    compiled = PromptFile(source.name, role, digest_bytes(data), source.system, source.max_tokens, show, recall)
    match source:
        case ClassifySource():
            undo = source.hand_over
            handed = compile_call(undo, f"{file} hand_over", tools, read_only=False) if undo else None
            return Classify(compiled, source, _raw(_classify_schema(source)), handed)
        case ExtractSource():
            return Extract(
                compiled,
                source,
                {name: Expression(text, f"{file} keep {name}") for name, text in source.keep.items()},
                tuple(
                    (read.name, compile_call(read, f"{file} read {read.name}", tools, read_only=True))
                    for read in source.reads
                ),
                {name: _raw(extract_schema(kind, source.keep.keys())) for name, kind in types.items()},
            )
        case PlanSource():
            return Unforeseen(compiled, source, *_plan_tools(source, file, tools))
        case JudgeSource():
            return Judge(compiled, source, Expression(source.amount, f"{file} amount"), _raw(_JUDGE_SCHEMA))


def _classify_schema(source: ClassifySource) -> dict[str, Any]:
    found = {name: {"type": "string", "description": says} for name, says in source.find.items()}
    intents = {name: intent.says for name, intent in source.intents.items()}
    intents |= {OTHER: "anything else", UNCLEAR: "it cannot be told, or several requests at once"}
    says = "\n".join(f"{name}: {words}" for name, words in intents.items())
    return _object(
        {
            "intent": {"type": "string", "enum": [*intents], "description": says},
            **found,
            "note": {"type": "string", "description": "one sentence for the person who may have to read the text"},
        }
    )


def extract_schema(kind: EventType, keep: Any) -> dict[str, Any]:
    """The JSON Schema of an event type's data for models: without what is kept from them, and with a way to say that
    the text does not tell.
    """
    schema = msgspec.json.schema(kind.data)
    name = schema["$ref"].rpartition("/")[2]
    parts = schema["$defs"]
    own = parts.pop(name)
    fields = {each: part for each, part in own["properties"].items() if each not in set(keep)}
    missing = {"type": "string", "description": "what neither text nor records tell; empty when nothing is missing"}
    whole = _object({**fields, "missing": missing})
    return {**whole, "$defs": parts} if parts else whole


def _plan_tools(source: PlanSource, file: str, tools: Mapping[str, Tool]) -> tuple[dict[str, Tool], Json]:
    if unknown := sorted(set(source.tools) - tools.keys()):
        raise SettingsError(f"{file}: no tool {unknown[0]!r}; there are {', '.join(sorted(tools))}")
    allowed = {name: tools[name] for name in source.tools}
    for name, free in source.free.items():
        fields = {each.encode_name for each in msgspec.structs.fields(allowed[name].args)} if name in allowed else set()
        if unknown := sorted(set(free) - fields):
            raise SettingsError(f"{file} free: {name} has no argument {unknown[0]!r}, or is not among the tools")
    return allowed, _raw(_plan_schema(allowed))


def _plan_schema(tools: Mapping[str, Tool]) -> dict[str, Any]:
    parts: dict[str, Any] = {}

    def call(tool: Tool, more: Mapping[str, Any]) -> dict[str, Any]:
        schema = msgspec.json.schema(tool.args)
        own = schema["$defs"].pop(schema["$ref"].rpartition("/")[2])
        parts.update(schema["$defs"])
        return _object({"tool": {"const": tool.name, "description": tool.description}, "args": own, **more})

    reads = [call(tool, {"name": {"type": "string"}}) for tool in tools.values() if tool.read_only]
    step = {"id": {"type": "string"}, "needs": {"type": "array", "items": {"type": "string"}}}
    steps = [call(tool, step) for tool in tools.values() if not tool.read_only]
    whole = _object(
        {
            "reads": {"type": "array", "items": {"anyOf": reads}, "description": "what must be known first"},
            "steps": {"type": "array", "items": {"anyOf": steps}, "description": "what is to be done, in order"},
            "rationale": {"type": "string", "description": "why, in one or two sentences, for the person who approves"},
            "cannot": {"type": "string", "description": "why nothing can be done with these tools; else empty"},
        }
    )
    return {**whole, "$defs": parts} if parts else whole


_JUDGE_SCHEMA = {
    "type": "object",
    "properties": {
        "agrees": {"type": "boolean", "description": "whether the steps do what the text asks for, and nothing else"},
        "why": {"type": "string", "description": "one sentence"},
    },
    "required": ["agrees", "why"],
    "additionalProperties": False,
}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": [*properties], "additionalProperties": False}


def _raw(schema: dict[str, Any]) -> Json:
    return msgspec.Raw(canonical_json(_for_models(schema)))


def _for_models(schema: Any, names: bool = False) -> Any:
    """The schema without what models are not held to; objects take no unknown fields and want all they know."""
    if isinstance(schema, list):
        return [_for_models(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        name: _for_models(part, names=name in ("properties", "$defs") and not names)
        for name, part in schema.items()
        if names or name not in _NOT_FOR_MODELS
    }
    if not names and kept.get("type") == "object" and "properties" in kept:
        kept |= {"required": sorted(kept["properties"]), "additionalProperties": False}
    return kept
