"""The channels of the bus: each an address with the structs of what is said there, read from the code that says it.

The rule: addresses come from ``mesh.subjects``; one token that varies is ``{name}``, and ``{rest}`` is one or more.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import msgspec

from mesh import subjects
from mesh.activation import Activation
from mesh.autonomy import StageAct
from mesh.facts import FactEvent
from mesh.halts import Halt
from mesh.learned import LearnedAct, ProposalAct
from mesh.memory import Changed
from mesh.pack import EventType, Pack
from mesh.quarantine import Quarantined
from mesh.records import AnyRecord, Record
from mesh.service import Offered
from mesh.spending import Window

_PARAMETER = re.compile(r"\{(\w+)\}")
REST = "rest"

_ACTS: Mapping[str, tuple[str, type[msgspec.Struct]]] = {
    "halt": ("{domain}.{tool}.{agent}", Halt),
    "autonomy": ("{domain}.{tool}", StageAct),
    "bundle": ("{domain}", Activation),
    "learned": ("{rest}", LearnedAct),
    "proposal": ("{domain}.{proposal}", ProposalAct),
}


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel. ``says`` are the structs of its messages; ``event`` is the type whose CloudEvents it carries.

    ``signed`` says that the struct is the payload of a DSSE envelope. ``answer`` makes it a service's verb.
    """

    id: str
    address: str
    title: str
    says: Sequence[Any] = ()
    event: EventType | None = None
    signed: bool = False
    answer: Any = None
    stream: str = field(default="")

    @property
    def parameters(self) -> list[str]:
        """The names in its address."""
        return _PARAMETER.findall(self.address)

    @property
    def filter(self) -> str:
        """Its address as a subject filter."""
        return _PARAMETER.sub(lambda found: ">" if found[1] == REST else "*", self.address)


def channels(packs: Mapping[str, Pack], services: Mapping[str, Offered]) -> Iterator[Channel]:
    """All channels, in the order in which a task meets them."""
    for pack in packs.values():
        for kind in pack.events:
            title = f"Events of the type {kind.name}"
            yield _stored(f"event.{kind.name}", subjects.event(kind.name), title, event=kind)
    yield _stored("quarantine", "quarantine.{stage}.{item}", "What could not be accepted", Quarantined)
    for record in records():
        kind_name = str(record.__struct_config__.tag)
        address = f"task.{kind_name}.{{domain}}.{{task}}.{{step}}"
        yield _stored(f"task.{kind_name}", address, f"Records of the kind {kind_name}", record)
    for what, (scope, act) in _ACTS.items():
        yield _stored(f"control.{what}", f"control.{what}.{scope}", f"Acts of governance: {what}", act, signed=True)
    yield _stored("limit", "limit.{domain}.{limit}.{key}", "What is taken of a limit over time; policy's own form")
    yield _stored("spend", "spend.{domain}.{day}", "What a domain spends on models on a day", Window)
    yield _stored("release", "release.{stage}.{rest}", "What a person released to a stage, in its original form")
    yield _stored("fact", "fact.{scope}.{subject}.{predicate}", "Facts of memory", *_kinds(FactEvent))
    changed = "memory.changed.{scope}.{subject}.{predicate}"
    yield Channel("memory.changed", changed, "Hints that memory changed; no stream holds them", (Changed,))
    yield _stored("audit", "audit.{rest}", "Entries of the audit log and signed checkpoints, as text")
    yield _stored("original", "original.{digest}.{part}", "What came in, as it came: bytes")
    for service, verbs in services.items():
        for verb, (request, answer) in verbs.items():
            address = subjects.service(service, verb)
            yield Channel(address, address, f"Ask {service} to {verb}", (request,), answer=answer)


def records() -> tuple[type[Record], ...]:
    """The structs of all kinds of records, in the order of a task."""
    by_kind = {str(each.__struct_config__.tag): each for each in get_args(AnyRecord)}
    return tuple(by_kind[kind] for kind in subjects.KINDS)


def _stored(
    identity: str, address: str, title: str, *says: Any, signed: bool = False, event: EventType | None = None
) -> Channel:
    return Channel(identity, address, title, says, event, signed, stream=subjects.stream_of(address))


def _kinds(base: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    return sorted(base.__subclasses__(), key=lambda kind: str(kind.__struct_config__.tag))
