"""A playbook that cannot work is refused at start, by file and place; one that works says when it does not apply."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.planner.playbook import choose, compile_playbook, load_playbooks
from mesh.errors import SettingsError
from mesh.expressions import Expression, ExpressionError, Variables
from mesh.facts import Level, Scope
from mesh.memory import Question
from tests.ledger_pack.pack import LedgerOptions, pack, tools

TOOLS = {tool.name: tool for tool in tools(LedgerOptions())}
GOOD: dict[str, Any] = {
    "name": "till",
    "events": ["ledger.entry.requested"],
    "reads": [{"name": "account", "tool": "ledger.look", "args": {"account": "data.account"}}],
    "steps": [
        {
            "id": "one",
            "tool": "ledger.post",
            "args": {"account": "data.account", "amount": "data.amount"},
            "compensation": {"tool": "ledger.reverse", "args": {"account": "data.account", "amount": "-data.amount"}},
        },
        {"id": "two", "tool": "ledger.note", "needs": ["one"], "args": {"account": '"a"', "amount": "1"}},
    ],
}


def changed(place: tuple[str | int, ...], value: Any) -> bytes:
    """The good playbook as YAML (JSON is YAML) with one value changed; ``None`` leaves it out."""
    whole = msgspec.json.decode(msgspec.json.encode(GOOD))
    part = whole
    for key in place[:-1]:
        part = part[key]
    if value is None:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    return msgspec.json.encode(whole)


WRONG: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("name",), None, "missing required field `name`"),
    (("events",), [], "$.events"),
    (("steps",), [], "$.steps"),
    (("more",), 1, "unknown field `more`"),
    (("steps", 0, "when"), True, "$.steps[0].when"),
    (("steps", 0, "id"), "One", "$.steps[0].id"),
    (("steps", 0, "id"), "one~undo", "$.steps[0].id"),
    (("steps", 1, "id"), "one", "two steps are called 'one'"),
    (("steps", 1, "needs"), ["three"], "step two: needs 'three', which is no step before it"),
    (("steps", 0, "needs"), ["two"], "step one: needs 'two', which is no step before it"),
    (("steps", 0, "tool"), "ledger.burn", "step one: no tool 'ledger.burn'; there are ledger.book, ledger.look"),
    (("steps", 0, "tool"), "ledger.look", "step one: ledger.look is for reading only"),
    (("reads", 0, "tool"), "ledger.post", "read account: ledger.post has an effect"),
    (("steps", 0, "args", "colour"), "1", "step one: ledger.post has no argument 'colour'; it has account, amount"),
    (("steps", 0, "args", "amount"), None, "step one: ledger.post needs the argument 'amount'"),
    (("steps", 0, "args", "amount"), "data.", "step one argument amount: 'data.' is no CEL expression"),
    (("steps", 0, "when"), "1 +", "step one when: '1 +' is no CEL expression"),
    (("steps", 0, "compensation", "tool"), "nothing", "step one compensation: no tool 'nothing'"),
    (("refuse",), [{"when": "(", "reason": '""'}], "refuse: '(' is no CEL expression"),
    (("rationale",), "'", 'rationale: "\'" is no CEL expression'),
    (("recall",), [{"subject": '"a"', "limit": 21}], "$.recall[0].limit"),
    (("recall",), [{"scope": '"a"'}], "unknown field `scope`"),
    (("recall",), [{"subject": '"a"'}, {"session": '"s"'}], "recall 2: asks for everything"),
    (("recall",), [{"subject": '"a"'}] * 33, "$.recall"),
    (("recall",), [{"query": "1 +"}], "recall 1 query: '1 +' is no CEL expression"),
]


def test_a_good_playbook_compiles() -> None:
    book = compile_playbook(changed(("name",), "till"), "till.yaml", TOOLS)
    assert [step.id for step in book.steps] == ["one", "two"]


@pytest.mark.parametrize(("place", "value", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_what_is_wrong_is_named_by_file_and_place(place: tuple[str | int, ...], value: Any, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        compile_playbook(changed(place, value), "till.yaml", TOOLS)
    assert "till.yaml" in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize("data", [b"{", b"- a", b"", b"\xff\xfe\x00", b"a: b: c"])
def test_what_is_no_playbook_is_named_by_file(data: bytes) -> None:
    with pytest.raises(SettingsError, match=r"playbook till\.yaml"):
        compile_playbook(data, "till.yaml", TOOLS)


def test_a_folder_without_playbooks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no playbooks"):
        load_playbooks(tmp_path, TOOLS)


def test_the_first_playbook_whose_condition_holds_is_chosen() -> None:
    books = load_playbooks(pack.playbooks, TOOLS)

    def chosen(kind: str, event_type: str = "ledger.entry.requested") -> str:
        book = choose(books, event_type, Variables({"data": {"kind": kind}}))
        return book.name if book else ""

    assert [chosen(kind) for kind in ("post", "wire", "none")] == ["ledger.post", "ledger.wire", ""]
    assert chosen("post", "ledger.other") == ""


@pytest.mark.parametrize(
    ("text", "variables", "message"),
    [
        ("data.b", {"data": {"a": 1}}, "'data.b'"),
        ("unknown", {"data": {}}, "'unknown'"),
        ("data.a / 0 > 1", {"data": {"a": 1}}, "'data.a / 0 > 1'"),
        ("data.a", {"data": {"a": 1}}, "is 1, not true or false"),
    ],
)
def test_an_expression_that_cannot_be_evaluated_names_itself_and_its_place(
    text: str, variables: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ExpressionError) as failed:
        Expression(text, "till.yaml when").holds(Variables(variables))
    assert str(failed.value).startswith("till.yaml when: ")
    assert message in str(failed.value)


SEEN = Variables({"data": {"who": "omar", "nobody": "", "slash": "omar/"}})
SHOP = Scope(domain="shop")

RECALLS: list[tuple[dict[str, Any], Question | None]] = [
    ({"subject": '"customer/" + data.who'}, Question(scope=SHOP, subject="customer/omar", limit=5)),
    (
        {"subject": '"room/"', "predicate": '"rule"', "query": "data.who", "limit": 3},
        Question(scope=SHOP, subject="room/", predicate="rule", query="omar", limit=3),
    ),
    (
        {"query": '"late"', "session": "data.who"},
        Question(scope=Scope(level=Level.SESSION, domain="shop", session="omar"), query="late", limit=5),
    ),
    ({"subject": '"customer/" + data.who + "/"'}, Question(scope=SHOP, subject="customer/omar/", limit=5)),
    # What comes from outside never widens a question to others' facts.
    ({"subject": '"customer/" + data.nobody'}, None),
    ({"subject": '"customer/" + data.slash'}, None),
    ({"subject": "data.nobody"}, None),
    ({"subject": '"customer/a"', "query": "data.nobody"}, None),
    ({"query": '"late"', "session": "data.nobody"}, None),
]


@pytest.mark.parametrize(("source", "question"), RECALLS)
def test_a_recall_is_a_question_of_its_own_domain(source: dict[str, Any], question: Question | None) -> None:
    book = compile_playbook(changed(("recall",), [source]), "till.yaml", TOOLS)
    assert [recall.question("shop", SEEN) for recall in book.recall] == [question]
