"""The rules of one fact, over all histories."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_service.versions import forgotten, remembered, told
from mesh.errors import TerminalError
from mesh.facts import FactEvent, FactStatus, ForgetRequest, Provenance, RememberRequest

AT = datetime(2026, 1, 1, tzinfo=UTC)
SAID = Provenance(writer="test/1", source="a test")
FORGET = ForgetRequest(scope="s", key="k", provenance=SAID)


def _remember(text: str, as_of: int = 0, value: bytes = b"null") -> RememberRequest:
    return RememberRequest(scope="s", key="k", text=text, provenance=SAID, as_of=as_of, value=msgspec.Raw(value))


requests = st.lists(
    st.one_of(
        st.builds(_remember, st.sampled_from(["a", "b", "c"]), st.integers(0, 5)),
        st.just(FORGET),
    )
)


def _versions(asked: list[RememberRequest | ForgetRequest]) -> list[FactEvent]:
    found: list[FactEvent] = []
    for request in asked:
        stands = found[-1] if found else None
        if isinstance(request, ForgetRequest):
            made = forgotten(stands, request, AT) if stands else None
        else:
            made = remembered(stands, request, AT)
        found += [made] if made else []
    return found


@given(requests)
def test_versions_count_up_by_one_and_counts_never_go_back(asked: list[RememberRequest | ForgetRequest]) -> None:
    found = _versions(asked)
    assert [fact.version for fact in found] == list(range(1, len(found) + 1))
    counted = [fact.as_of for fact in found if fact.as_of]
    by_hand = any(fact.as_of == 0 for fact in found)
    assert by_hand or counted == sorted(counted)


@given(requests)
def test_a_repeated_request_makes_no_version(asked: list[RememberRequest | ForgetRequest]) -> None:
    twice = [request for request in asked for _ in range(2)]
    assert _versions(twice) == _versions(asked)


@given(requests)
def test_no_text_from_before_a_forgetting_is_told(asked: list[RememberRequest | ForgetRequest]) -> None:
    found = _versions(asked)
    shown = told(found)
    assert [(fact.version, fact.status) for fact in shown] == [(fact.version, fact.status) for fact in found]
    forgot = [number for number, fact in enumerate(found) if fact.status is FactStatus.FORGOTTEN]
    last = forgot[-1] if forgot else -1
    assert not any(fact.text for fact in shown[: last + 1])
    assert shown[last + 1 :] == found[last + 1 :]


def test_nobody_forgets_what_never_was() -> None:
    with pytest.raises(TerminalError, match="nothing to forget"):
        forgotten(None, FORGET, AT)


@pytest.mark.parametrize("value", [b"[" * 5000 + b"]" * 5000, b'"\\ud800"'])
def test_a_value_that_cannot_be_read_back_is_refused(value: bytes) -> None:
    with pytest.raises(TerminalError, match="not JSON"):
        remembered(None, _remember("a", value=value), AT)
