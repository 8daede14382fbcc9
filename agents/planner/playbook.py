"""Playbooks: YAML files whose conditions and arguments are CEL expressions, compiled once at start.

The rule: a playbook that names an unknown tool, argument or step is refused at start, by file and place.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
import yaml

from mesh.canonical import digest_bytes
from mesh.errors import SettingsError
from mesh.expressions import Expression, Variables
from mesh.facts import Level, Scope
from mesh.memory import Question
from mesh.parameters import Name as ParameterName
from mesh.parameters import Parameter
from mesh.tools import Tool

_PREFIX_ENDS = ('/"', "/'")

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_\-]{0,39}$")]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of a playbook file."""


class CallSource(_Part, frozen=True, kw_only=True):
    """A tool and the expression of each argument."""

    tool: str
    args: dict[str, str] = {}


class ReadSource(_Part, frozen=True, kw_only=True):
    """A read-only call made while planning; expressions see its answer as ``reads.<name>``."""

    name: Name
    tool: str
    args: dict[str, str] = {}


class RecallSource(_Part, frozen=True, kw_only=True):
    """What to ask memory; expressions see the facts as ``memory``, the plan cites them.

    A subject whose text ends in a literal ``/`` is a prefix. With ``session`` it is that session's memory.
    """

    subject: str = ""
    predicate: str = ""
    query: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=20)] = 5
    session: str = ""


class RefusalSource(_Part, frozen=True, kw_only=True):
    """A rule of the business: when the condition holds, the plan is to do nothing, for this reason (CEL, a string)."""

    when: str
    reason: str


class StepSource(_Part, frozen=True, kw_only=True):
    """One step; left out when ``when`` is false."""

    id: Name
    tool: str
    args: dict[str, str] = {}
    when: str = "true"
    needs: tuple[str, ...] = ()
    optional: bool = False
    compensation: CallSource | None = None


class PlaybookSource(_Part, frozen=True, kw_only=True):
    """A playbook file. A variant is used only where it was learned to be better than the playbook that it names."""

    name: str
    events: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    steps: Annotated[tuple[StepSource, ...], msgspec.Meta(min_length=1, max_length=50)]
    when: str = "true"
    recall: Annotated[tuple[RecallSource, ...], msgspec.Meta(max_length=32)] = ()
    reads: tuple[ReadSource, ...] = ()
    refuse: tuple[RefusalSource, ...] = ()
    rationale: str = '""'
    variant_of: str = ""
    parameters: dict[ParameterName, Parameter] = {}


@dataclass(frozen=True, slots=True)
class Invocation:
    """A tool with the expressions of its arguments."""

    tool: str
    args: Mapping[str, Expression]

    def arguments(self, variables: Variables) -> msgspec.Raw:
        """The arguments as JSON."""
        return msgspec.Raw(msgspec.json.encode({name: each.value(variables) for name, each in self.args.items()}))


@dataclass(frozen=True, slots=True)
class Recall:
    """What to ask memory, compiled; the parts that are given, by the field of a ``Question``."""

    parts: Mapping[str, Expression]
    limit: int
    is_prefix: bool
    session: Expression | None

    def question(self, domain: str, variables: Variables) -> Question | None:
        """The question in these circumstances; none when a part of it is empty: it would ask for everybody's facts.

        For the same reason no data from outside makes a prefix of a subject.
        """
        values = {name: part.text_value(variables) for name, part in self.parts.items()}
        session = self.session.text_value(variables) if self.session else ""
        if not all(values.values()) or (self.session and not session):
            return None
        if values.get("subject", "").endswith("/") is not self.is_prefix:
            return None
        level = Level.SESSION if self.session else Level.ORGANISATION
        return Question(
            scope=Scope(level=level, domain=domain, session=session),
            subject=values.get("subject", ""),
            predicate=values.get("predicate", ""),
            query=values.get("query", ""),
            limit=self.limit,
        )


@dataclass(frozen=True, slots=True)
class PlaybookStep:
    """A step, compiled."""

    id: str
    call: Invocation
    when: Expression
    needs: tuple[str, ...]
    optional: bool
    compensation: Invocation | None


@dataclass(frozen=True, slots=True)
class Playbook:
    """A playbook, compiled. ``digest`` is that of its file; expressions see ``parameters`` by their names."""

    name: str
    digest: str
    events: tuple[str, ...]
    when: Expression
    recall: tuple[Recall, ...]
    reads: tuple[tuple[str, Invocation], ...]
    refuse: tuple[tuple[Expression, Expression], ...]
    steps: tuple[PlaybookStep, ...]
    rationale: Expression
    variant_of: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


def load_playbooks(folder: Path, tools: Mapping[str, Tool]) -> tuple[Playbook, ...]:
    """The playbooks of a folder, by file name; raises ``SettingsError`` naming file and place."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise SettingsError(f"no playbooks (*.yaml) in {folder}")
    found = tuple(compile_playbook(path.read_bytes(), path.name, tools) for path in files)
    _check_variants(found)
    return found


def _check_variants(playbooks: Iterable[Playbook]) -> None:
    by_name = {book.name: book for book in playbooks}
    for book in by_name.values():
        base = by_name.get(book.variant_of)
        if book.variant_of and (base is None or base.variant_of or not set(book.events) <= set(base.events)):
            raise SettingsError(f"playbook {book.name}: {book.variant_of} is no playbook for {', '.join(book.events)}")


def compile_playbook(data: bytes, file: str, tools: Mapping[str, Tool]) -> Playbook:
    """A playbook from the bytes of its file."""
    try:
        source = msgspec.convert(yaml.safe_load(data), PlaybookSource)
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise SettingsError(f"playbook {file}: {error}") from error
    _check_steps(source, file)
    return Playbook(
        name=source.name,
        digest=digest_bytes(data),
        events=source.events,
        when=Expression(source.when, f"{file} when"),
        recall=tuple(
            compile_recall(recall, f"{file} recall {number}") for number, recall in enumerate(source.recall, 1)
        ),
        reads=tuple(
            (read.name, compile_call(read, f"{file} read {read.name}", tools, read_only=True)) for read in source.reads
        ),
        refuse=tuple(
            (Expression(rule.when, f"{file} refuse"), Expression(rule.reason, f"{file} refuse"))
            for rule in source.refuse
        ),
        steps=tuple(_step(step, file, tools) for step in source.steps),
        rationale=Expression(source.rationale, f"{file} rationale"),
        variant_of=source.variant_of,
        parameters=source.parameters,
    )


def compile_recall(source: RecallSource, place: str) -> Recall:
    """What to ask memory; raises ``SettingsError`` naming the place."""
    given = {"subject": source.subject, "predicate": source.predicate, "query": source.query}
    parts = {name: Expression(text, f"{place} {name}") for name, text in given.items() if text}
    if not parts:
        raise SettingsError(f"{place}: asks for everything: give a subject, a predicate or a query")
    return Recall(
        parts=parts,
        limit=source.limit,
        is_prefix=source.subject.rstrip().endswith(_PREFIX_ENDS),
        session=Expression(source.session, f"{place} session") if source.session else None,
    )


def _step(step: StepSource, file: str, tools: Mapping[str, Tool]) -> PlaybookStep:
    place = f"{file} step {step.id}"
    undo = step.compensation
    return PlaybookStep(
        id=step.id,
        call=compile_call(step, place, tools, read_only=False),
        when=Expression(step.when, f"{place} when"),
        needs=step.needs,
        optional=step.optional,
        compensation=compile_call(undo, f"{place} compensation", tools, read_only=False) if undo else None,
    )


def compile_call(
    call: CallSource | ReadSource | StepSource, place: str, tools: Mapping[str, Tool], *, read_only: bool
) -> Invocation:
    """A call of a known tool with all arguments that it needs; raises ``SettingsError`` naming the place."""
    tool = tools.get(call.tool)
    if tool is None:
        raise SettingsError(f"{place}: no tool {call.tool!r}; there are {', '.join(sorted(tools))}")
    if tool.read_only is not read_only:
        raise SettingsError(f"{place}: {call.tool} {'has an effect' if read_only else 'is for reading only'}")
    fields = {field.encode_name: field.required for field in msgspec.structs.fields(tool.args)}
    for name in call.args.keys() - fields.keys():
        raise SettingsError(f"{place}: {call.tool} has no argument {name!r}; it has {', '.join(fields)}")
    for name in {name for name, required in fields.items() if required} - call.args.keys():
        raise SettingsError(f"{place}: {call.tool} needs the argument {name!r}")
    return Invocation(
        call.tool, {name: Expression(text, f"{place} argument {name}") for name, text in call.args.items()}
    )


def _check_steps(source: PlaybookSource, file: str) -> None:
    seen: set[str] = set()
    for step in source.steps:
        if step.id in seen:
            raise SettingsError(f"{file}: two steps are called {step.id!r}")
        for need in step.needs:
            if need not in seen:
                raise SettingsError(f"{file} step {step.id}: needs {need!r}, which is no step before it")
        seen.add(step.id)


def choose(playbooks: Iterable[Playbook], event_type: str, variables: Variables) -> Playbook | None:
    """The first playbook for this event type whose condition holds, or ``None``; no variant of another."""
    fitting = (book for book in playbooks if event_type in book.events and not book.variant_of)
    return next((book for book in fitting if book.when.holds(variables)), None)
