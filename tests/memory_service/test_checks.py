"""What memory does not accept, and that it says why."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_service import checks, rights
from memory_service.rights import Voice
from mesh.errors import TerminalError
from mesh.facts import SOURCE_ROLE, STEWARD_ROLE, Level, Scope, ValueType, parse_scope
from mesh.memory import Question
from tests.memory_service.claims import claim

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/-", min_codepoint=33), max_size=20)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (ValueType.TEXT, "x", 1),
        (ValueType.INTEGER, 3, "3"),
        (ValueType.DECIMAL, "10.50", 10.5),
        (ValueType.BOOLEAN, True, "yes"),
        (ValueType.TIME, "2026-01-01T00:00:00Z", "yesterday"),
        (ValueType.MONEY, {"amount": 5, "currency": "USD"}, {"amount": 5}),
        (ValueType.REFERENCE, "https://x/1", ["x"]),
        (ValueType.OBJECT, {"a": [1]}, "a"),
    ],
)
def test_a_value_is_of_the_type_that_it_is_said_to_be(kind: ValueType, good: object, bad: object) -> None:
    checks.check_claim(claim(good, type=kind))
    with pytest.raises(TerminalError, match=f"is no {kind}"):
        checks.check_claim(claim(bad, type=kind))


def test_a_scope_names_a_session_exactly_at_the_level_of_sessions() -> None:
    checks.check_scope(Scope(level=Level.SESSION, session="s1"))
    for wrong in (Scope(level=Level.SESSION), Scope(session="s1"), Scope(domain="a/b"), Scope(tenant="-")):
        with pytest.raises(TerminalError, match="scope"):
            checks.check_scope(wrong)


@given(domain=NAMES, tenant=NAMES, session=NAMES)
def test_a_scope_is_read_back_from_its_text(domain: str, tenant: str, session: str) -> None:
    level = Level.SESSION if session else Level.ORGANISATION
    scope = Scope(level=level, domain=domain, tenant=tenant, session=session)
    assert parse_scope(scope.text) == scope


def test_a_text_that_is_no_scope_is_refused_with_the_form() -> None:
    for wrong in ("", "retail", "organisation/retail", "session/a/b", "galaxy/a/b"):
        with pytest.raises(TerminalError, match="write organisation/DOMAIN/TENANT"):
            parse_scope(wrong)


def test_a_question_that_is_too_long_is_refused() -> None:
    with pytest.raises(TerminalError, match="the query has"):
        checks.check_question(Question(query="x" * 10_000))


@given(
    authority=st.integers(0, 3), roles=st.sets(st.sampled_from([STEWARD_ROLE, SOURCE_ROLE, "x"])), person=st.booleans()
)
def test_only_a_steward_or_the_sources_own_key_says_what_is_canonical(
    authority: int, roles: set[str], person: bool
) -> None:
    voice = Voice("erp", True, person, frozenset(roles))
    foreign, own = claim("x", uri="crm:1", authority=authority), claim("x", uri="erp:1", authority=authority)
    steward = person and STEWARD_ROLE in roles
    for said, allowed in ((foreign, steward), (own, steward or SOURCE_ROLE in roles)):
        if authority < 3 or allowed:
            rights.check_claims(voice, [said])
        else:
            with pytest.raises(TerminalError, match="may not say what is canonical"):
                rights.check_claims(voice, [said])
    unsigned = Voice("erp", False, person, frozenset(roles))
    if authority > 1:
        with pytest.raises(TerminalError, match="needs a signature"):
            rights.check_claims(unsigned, [own])
    assert msgspec.json.encode(own)
