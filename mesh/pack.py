"""What a domain pack is: a product that runs on the shared system, found through the entry-point group.

A pack declares event types, tools, playbooks, policies and a policy information point; it changes nothing shared.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mesh.applied import TargetLog
from mesh.errors import SettingsError
from mesh.facts import Claim
from mesh.finding import Finder
from mesh.records import Context, Found, Json, Party, Plan, Step
from mesh.tools import Tool

GROUP = "workmesh.packs"


@dataclass(frozen=True, slots=True)
class EventType:
    """One CloudEvents type: the struct its data must fit, and which fields (JSON pointers) hold text from outside.

    ``entity`` is what its subject names, such as ``order``; by default what stands before a ``/`` in the subject.
    ``finds`` is what is looked for in its text. ``case`` names the request that an event is, from its data and what was
    found in it ("" where that is not certain): two of one name by different channels are one case. ``words`` are fields
    of the data that say nothing beside the others: requests that differ in these alone are the same. ``provenance`` are
    fields that say where it was found: the same event found elsewhere comes again, and is no conflict.
    """

    name: str
    data: type[msgspec.Struct]
    taint: tuple[str, ...] = ()
    urgency: str = "normal"
    entity: str = ""
    finds: tuple[Finder, ...] = ()
    case: Callable[[Any, Sequence[Found]], str] | None = None
    words: tuple[str, ...] = ()
    provenance: tuple[str, ...] = ()

    def entity_kind(self, subject: str) -> str:
        """The kind of the entity that a subject names."""
        before, slash, _ = subject.partition("/")
        return self.entity or (before if slash else "")


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of one step, read from the canonical system by the policy information point.

    ``facts`` is a JSON object that policies see as ``context.facts``; ``amount`` is in minor units of ``currency``.
    ``entities`` is a JSON array of further Cedar entities, in Cedar's JSON form. ``parties`` are whom it concerns;
    limits over time are counted by them. ``source`` names the system that was asked. ``confirmed`` are values that the
    system itself holds for whoever asks, such as the ids of their orders: they are no outside text.
    """

    facts: Json
    entities: Json = msgspec.Raw(b"[]")
    amount: int = 0
    currency: str = "USD"
    parties: tuple[Party, ...] = ()
    source: str = ""
    confirmed: tuple[str, ...] = ()


class InformationPoint(Protocol):
    """Reads what policy must know of a step, from the system that owns it; it never trusts the planner."""

    async def __call__(self, context: Context, plan: Plan, step: Step, systems: Mapping[str, Any]) -> Sheet:
        """The facts; raises ``mesh.errors.RetryableError`` while the system cannot be asked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A domain pack. ``connect(options)`` opens the systems that its tools and information point talk to.

    ``prompts`` is the folder of what models are asked, where free text is to be understood. ``sources`` is the folder
    of mapping files: what comes in by HTTP, mail or as files, and which events are made of it. ``remembers`` gives what
    the organisation's memory is to hold of a completed task; plans that recall it are void when it changes. ``applied``
    reads back, by target, what the target's own log says was done: whether anything was done twice is counted by it.
    """

    name: str
    version: str
    options: type[msgspec.Struct]
    events: tuple[EventType, ...]
    tools: Callable[[Any], tuple[Tool, ...]]
    connect: Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]
    playbooks: Path
    policies: Path
    facts: InformationPoint
    prompts: Path | None = None
    sources: Path | None = None
    remembers: Callable[[Context], tuple[Claim, ...]] | None = None
    applied: Mapping[str, TargetLog] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)

    def read_options(self, raw: Json | None) -> Any:
        """The pack's settings as its own struct; raises ``SettingsError`` naming the pack and the key."""
        try:
            return msgspec.json.decode(raw or b"{}", type=self.options)
        except msgspec.DecodeError as error:
            raise SettingsError(f"settings of pack {self.name} ([packs.{self.name}]): {error}") from error

    def event_type(self, name: str) -> EventType | None:
        """The declared event type of this name."""
        return next((kind for kind in self.events if kind.name == name), None)


def pack_names() -> frozenset[str]:
    """The names of the installed packs; none is loaded."""
    return frozenset(point.name for point in entry_points(group=GROUP))


def load_packs(names: tuple[str, ...] = ()) -> dict[str, Pack]:
    """The installed packs by name (all, or those named); raises ``SettingsError`` for a name not installed."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    wanted = names or tuple(sorted(found))
    missing = [name for name in wanted if name not in found]
    if missing:
        raise SettingsError(f"no pack named {', '.join(missing)}: installed are {', '.join(sorted(found)) or 'none'}")
    packs: dict[str, Pack] = {name: found[name].load() for name in wanted}
    for pack in packs.values():
        _require_readable(pack)
    return packs


def _require_readable(pack: Pack) -> None:
    """Raises ``SettingsError`` for an event type whose data cannot be read: else its first event would tell."""
    for kind in pack.events:
        try:
            msgspec.json.Decoder(kind.data)
        except TypeError as error:
            raise SettingsError(f"pack {pack.name}: event type {kind.name}: {error}") from error
