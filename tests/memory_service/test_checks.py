"""What memory does not accept, and that it says why."""

import msgspec
import pytest

from memory_service import checks
from memory_service.requests import HistoryRequest
from mesh.errors import TerminalError
from mesh.facts import ForgetRequest, Provenance, RecallRequest, RememberRequest

SAID = Provenance(writer="test/1", source="a test")
GOOD = RememberRequest(scope="tool/a", key="limit", text="five", provenance=SAID)


def test_a_good_request_passes() -> None:
    checks.check_remember(GOOD)
    largest = msgspec.structs.replace(GOOD, text="x" * 8192, value=msgspec.Raw(b'"' + b"x" * 32766 + b'"'))
    checks.check_remember(largest)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scope": " "}, "the scope is empty"),
        ({"scope": "tool/"}, "name one scope"),
        ({"scope": "a\nb"}, "control characters"),
        ({"scope": "x" * 257}, "257 bytes"),
        ({"key": ""}, "the key is empty"),
        ({"key": "a\0b"}, "control characters"),
        ({"key": "\N{SNOWMAN}" * 100}, "300 bytes"),
        ({"text": " \n"}, "the text is empty"),
        ({"text": "x" * 8193}, "8193 bytes"),
        ({"value": msgspec.Raw(b'"' + b"x" * 32767 + b'"')}, "32769 bytes"),
        ({"as_of": -1}, "as_of is -1"),
        ({"provenance": Provenance(writer="test/1", source="")}, "source is empty"),
        ({"provenance": Provenance(writer="w" * 1025, source="s")}, "writer has 1025 bytes"),
    ],
)
def test_a_fact_that_cannot_be_kept_is_refused_with_the_reason(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(TerminalError, match=reason):
        checks.check_remember(msgspec.structs.replace(GOOD, **changes))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (RecallRequest(scope=""), "the scope is empty"),
        (RecallRequest(scope="a", limit=0), "choose 1 to 50"),
        (RecallRequest(scope="a", limit=51), "choose 1 to 50"),
        (RecallRequest(scope="a", key="k", query="q"), "not both"),
        (RecallRequest(scope="a", query="q" * 8193), "8193 bytes"),
    ],
)
def test_a_recall_out_of_bounds_is_refused_with_the_reason(request_: RecallRequest, reason: str) -> None:
    with pytest.raises(TerminalError, match=reason):
        checks.check_recall(request_)


def test_forget_and_history_need_one_fact() -> None:
    with pytest.raises(TerminalError, match="name one scope"):
        checks.check_forget(ForgetRequest(scope="tool/", key="limit", provenance=SAID))
    with pytest.raises(TerminalError, match="the key is empty"):
        checks.check_history(HistoryRequest(scope="tool/a", key=""))
