"""Who must approve and who has: one person is one voice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_service.quorum import PEOPLE_MAX, QuorumError, Voice, granted, joined, missing, name_of, read_roles

PEOPLE = ("ann", "bob", "cid", "dan")
ROLES = ("manager", "auditor", "head")

voices = st.lists(
    st.builds(Voice, person=st.sampled_from(PEOPLE), role=st.sampled_from(ROLES), escalated=st.booleans()), max_size=6
)
wanted = st.lists(st.sampled_from(("manager", "manager:2", "auditor", "auditor:3")), max_size=3)
helping = st.lists(st.sampled_from(("head", "auditor")), max_size=2)


def said(*names: str, escalated: bool = False) -> list[Voice]:
    """Voices as ``person/role``."""
    parts = [name.partition("/") for name in names]
    return [Voice(person=person, role=role, escalated=escalated) for person, _, role in parts]


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("manager", ("manager",)),
        ("manager:1", ("manager",)),
        ("manager:2, auditor", ("auditor", "manager:2")),
        ("manager, manager:3", ("manager:3",)),
    ],
)
def test_roles_are_read_with_how_many_people(text: str, roles: tuple[str, ...]) -> None:
    assert read_roles(text) == roles


@pytest.mark.parametrize(
    "text", ["", "Manager", "manager:0", f"manager:{PEOPLE_MAX + 1}", "manager:two", "a b", "a,,b"]
)
def test_what_is_no_role_is_refused_with_the_form_that_is(text: str) -> None:
    with pytest.raises(QuorumError, match="snake_case"):
        read_roles(text)


def test_two_people_in_a_role_are_two_voices_and_one_person_is_one() -> None:
    assert granted(said("ann/manager"), ["manager:2"]) == {"manager"}
    assert granted(said("ann/manager", "ann/manager"), ["manager:2"]) == {"manager"}
    assert granted(said("ann/manager", "bob/manager"), ["manager:2"]) == {"manager", "manager:2"}


def test_who_holds_two_roles_fills_one_of_them() -> None:
    approvals = granted(said("ann/manager", "ann/auditor"), ["manager", "auditor"])
    assert missing(["manager", "auditor"], approvals) == ("auditor",)


def test_a_stand_in_counts_for_who_is_missing_once_it_was_escalated() -> None:
    asked = ["auditor", "manager"]
    early = granted(said("hal/head"), asked, ["head"])
    assert missing(asked, early) == ("auditor", "manager")
    late = granted(said("hal/head", escalated=True), asked, ["head"])
    assert missing(asked, late) == ("manager",)
    both = granted(said("hal/head", "hedda/head", escalated=True), asked, ["head"])
    assert missing(asked, both) == ()


@given(voices, wanted, helping)
def test_no_more_voices_count_than_people_have_spoken(
    found: list[Voice], asked: list[str], stand_ins: list[str]
) -> None:
    approvals = granted(found, asked, stand_ins)
    counted = sum(
        max((1, *(int(token.partition(":")[2] or 1) for token in approvals if name_of(token) == role)))
        for role in {name_of(token) for token in approvals}
    )
    assert counted <= len({voice.person for voice in found})


@given(voices, voices, wanted, helping)
def test_more_voices_never_take_an_approval_away(
    found: list[Voice], more: list[Voice], asked: list[str], stand_ins: list[str]
) -> None:
    assert granted(found, asked, stand_ins) <= granted([*found, *more], asked, stand_ins)


@given(wanted)
def test_joining_asks_for_the_most_that_any_asks_for(asked: list[str]) -> None:
    together = joined(asked)
    assert len({name_of(token) for token in together}) == len(together)
    assert set(together) <= set(asked)
    everybody = frozenset(together)
    assert missing(asked, everybody | {name_of(token) for token in together}) == ()
