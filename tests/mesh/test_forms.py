"""What is signed or digested has the same form in every release (docs/upgrading.md): the digest of a plan that waits
for a person must be the same after an upgrade, and an older process must know every field of a permit.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import inspect

from console.backup.manifest import Manifest
from mesh.activation import Activation
from mesh.autonomy import StageAct, StageWord
from mesh.events import CloudEvent
from mesh.facts import Word
from mesh.halts import Halt
from mesh.learned import LearnedAct, LearnedWord, ProposalAct
from mesh.plans import plan_digest
from mesh.records import Call, Candidate, Permit, Statement, Step
from mesh.restored import Restoration
from mesh.trust import TrustEntry
from policy_service.bundle import BundleContents

FORMS = Path(__file__).with_name("forms.json")
SIGNED = (
    Activation,
    BundleContents,
    Halt,
    LearnedAct,
    LearnedWord,
    Manifest,
    Permit,
    ProposalAct,
    Restoration,
    StageAct,
    StageWord,
    Statement,
    TrustEntry,
    Word,
)
DIGESTED = (Step, Candidate)


def structs(kind: inspect.Type, seen: set[type]) -> Iterator[inspect.StructType]:
    """Every struct in a type, each once."""
    match kind:
        case inspect.StructType():
            if kind.cls in seen:
                return
            seen.add(kind.cls)
            yield kind
            inner = [field.type for field in kind.fields]
        case inspect.UnionType():
            inner = list(kind.types)
        case inspect.VarTupleType() | inspect.ListType() | inspect.SetType() | inspect.FrozenSetType():
            inner = [kind.item_type]
        case inspect.TupleType():
            inner = list(kind.item_types)
        case inspect.DictType():
            inner = [kind.key_type, kind.value_type]
        case _:
            return
    for each in inner:
        yield from structs(each, seen)


def may_be_unset(field: inspect.Field) -> bool:
    """Whether the field's default is UNSET, which msgspec tells as a field without default that is not required."""
    return not field.required and field.default is field.default_factory is msgspec.NODEFAULT


def forms(*roots: type) -> dict[str, list[str]]:
    """The fields of each struct that takes part; one whose default is UNSET is left out where it is not used."""
    seen: set[type] = set()
    found = [struct for root in roots for struct in structs(inspect.type_info(root), seen)]
    return {
        f"{struct.cls.__module__}.{struct.cls.__qualname__}": sorted(
            field.encode_name for field in struct.fields if not may_be_unset(field)
        )
        for struct in found
    }


def test_the_forms_that_are_signed_or_digested_are_those_of_the_first_release() -> None:
    assert forms(*SIGNED, *DIGESTED) == json.loads(FORMS.read_text("utf-8")), (
        "give a new field the default msgspec.UNSET (docs/upgrading.md), and a new struct its entry here"
    )


def test_what_an_event_says_is_digested_as_in_the_first_release() -> None:
    """Else an event that is sent again after an upgrade would be another one: a further field is how it came."""
    event = CloudEvent(specversion="1.0", id="1", source="/a", type="b.c.d", data=msgspec.Raw(b'{"n":1}'))
    assert event.content_digest() == ("sha256:e20b60b9efa09d38fc7b253fd227f473b771c560f59cb7b3bb69ffcd993a0ca3")


def test_a_field_that_is_unset_is_in_no_digest() -> None:
    class Later(Step, frozen=True, kw_only=True):
        extra: str | msgspec.UnsetType = msgspec.UNSET

    step = Step(id="a", call=Call(tool="t.a", args=msgspec.Raw(b"{}")), effect_key="k")
    later = msgspec.json.decode(msgspec.json.encode(step), type=Later)
    assert plan_digest("t", "d", (later,)) == plan_digest("t", "d", (step,))
    used = msgspec.structs.replace(later, extra="used")
    assert plan_digest("t", "d", (used,)) != plan_digest("t", "d", (step,))
    assert forms(Later)[f"{__name__}.{Later.__qualname__}"] == forms(Step)["mesh.records.Step"]
