"""Steps that a model makes for a request without a playbook: what it answers becomes a plan's steps, or is refused.

The rule: a model names known tools and arguments that occur in what it was shown; ids, keys and the order of the world
are the runtime's. Pure, like ``agents.planner.reading``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agents.planner.prompts import Unforeseen
from agents.planner.reading import Ask, Await, Exchange, Failed, HandOver, answer_of
from mesh.canonical import canonical_json, effect_key
from mesh.grounding import Sources, leaves_of
from mesh.inference import ModelRole
from mesh.record import Call, Json
from mesh.records import Step
from mesh.tools import Tool

_STEPS_MAX = 10
_READS_MAX = 8
_NAME = re.compile(r"[a-z][a-z0-9_\-]{0,39}")


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a model proposes: steps, or calls to be made first (by name), or why nothing can be done."""

    steps: tuple[Step, ...] = ()
    reads: tuple[tuple[str, Call], ...] = ()
    rationale: str = ""
    cannot: str = ""


@dataclass(frozen=True, slots=True)
class ReadFirst:
    """Calls to be made before the question ``name`` is asked."""

    name: str
    reads: tuple[tuple[str, Call], ...]


def propose(
    unforeseen: Unforeseen, task_id: str, exchange: Exchange
) -> tuple[Ask, ...] | Await | HandOver | ReadFirst | Proposal:
    """The next step in planning by a model, round by round; each round may read more than the one before."""
    rounds = unforeseen.source.rounds
    for number in range(1, rounds + 1):
        name = "plan" if number == 1 else f"plan-{number}"
        answer = answer_of(exchange, name, lambda output, sources: _checked(unforeseen, task_id, output, sources))
        match answer:
            case Proposal(reads=()):
                return HandOver(f"no model can do it: {answer.cannot}") if answer.cannot else answer
            case Proposal():
                following = f"plan-{number + 1}"
                if number < rounds and following not in exchange:
                    return ReadFirst(following, answer.reads)
            case Failed(reason, over_budget):
                return HandOver(f"no plan was made: {reason}", over_budget=over_budget)
            case Await():
                return answer
            case (token, mistake):
                return (Ask(ModelRole.PLAN, token, mistake=mistake),)
    return HandOver(f"no plan was made in {rounds} rounds of reading")


def _checked(unforeseen: Unforeseen, task_id: str, output: Json, sources: Sources) -> tuple[Any, str]:
    answer = msgspec.json.decode(output, type=_Answer)
    if answer.cannot.strip():
        return Proposal(cannot=answer.cannot.strip()[:300]), ""
    if len(answer.steps) > _STEPS_MAX or len(answer.reads) > _READS_MAX:
        return None, f"at most {_STEPS_MAX} steps and {_READS_MAX} reads"
    if not answer.steps and not answer.reads:
        return None, "neither steps nor reads, and no reason why nothing can be done"
    reads: list[tuple[str, Call]] = []
    for read in answer.reads:
        call, fault = _call(unforeseen, read.tool, read.args, sources, read_only=True)
        if fault or not _NAME.fullmatch(read.name):
            return None, f"read {read.name!r}: {fault or 'the name is lower-case letters, digits, _ and -'}"
        reads.append((read.name, call))
    if reads:
        return Proposal(reads=tuple(reads)), ""
    steps: list[Step] = []
    for step in answer.steps:
        call, fault = _call(unforeseen, step.tool, step.args, sources, read_only=False)
        fault = fault or _misplaced(step, steps)
        if fault:
            return None, f"step {step.id!r}: {fault}"
        steps.append(Step(id=step.id, call=call, effect_key=effect_key(task_id, step.id), needs=step.needs))
    if missing := sources.claims_missing(answer.rationale):
        return None, f"rationale: {missing[0]!r} occurs nowhere in what was shown"
    return Proposal(steps=tuple(steps), rationale=answer.rationale[:1000]), ""


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    tool: str
    args: Json


class _Step(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tool: str
    args: Json
    needs: tuple[str, ...] = ()


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    reads: tuple[_Read, ...] = ()
    steps: tuple[_Step, ...] = ()
    rationale: str = ""
    cannot: str = ""


def _misplaced(step: _Step, before: Sequence[Step]) -> str:
    seen = {each.id for each in before}
    if not _NAME.fullmatch(step.id):
        return "the id is lower-case letters, digits, _ and -, at most 40"
    if step.id in seen:
        return "two steps have this id"
    if unknown := [need for need in step.needs if need not in seen]:
        return f"needs {unknown[0]!r}, which is no step before it"
    return ""


def _call(unforeseen: Unforeseen, name: str, args: Json, sources: Sources, *, read_only: bool) -> tuple[Call, str]:
    call = Call(tool=name, args=args)
    tool = unforeseen.tools.get(name)
    if tool is None or tool.read_only is not read_only:
        fitting = ", ".join(each.name for each in unforeseen.tools.values() if each.read_only is read_only)
        return call, f"no tool {name!r} for this; there are {fitting or 'none'}"
    try:
        tool.parse(args)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return call, str(error)
    call = Call(tool=name, args=msgspec.Raw(canonical_json(msgspec.json.decode(args))))
    return call, _made_up(tool, args, sources, unforeseen.source.free.get(name, ()))


def _made_up(tool: Tool, args: Json, sources: Sources, free: Sequence[str]) -> str:
    """The first value that occurs nowhere; of a model's own words, the first claim in them."""
    chosen = _choices(tool)
    for name, value in msgspec.json.decode(args, type=dict[str, Any]).items():
        for path, leaf in leaves_of(value, f"/{name}"):
            if name in free and isinstance(leaf, str):
                if missing := sources.claims_missing(leaf):
                    return f"{path}: {missing[0]!r} occurs nowhere in what was shown"
            elif name not in chosen and not sources.holds(leaf):
                return f"{path}: {leaf!r} occurs nowhere in what was shown"
    return ""


def _choices(tool: Tool) -> set[str]:
    """The arguments whose values are chosen from a list: whatever fits is the tool's own word."""
    schema = msgspec.json.schema(tool.args)
    own = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return {name for name, part in own["properties"].items() if "enum" in part or "const" in part}
