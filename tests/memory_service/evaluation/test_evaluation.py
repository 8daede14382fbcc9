"""The command as it is typed, on files of the shapes that it reads; no line of LoCoMo itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from memory_service.evaluation.command import evaluate
from memory_service.evaluation.labelled import EvaluationError, read_labelled
from memory_service.evaluation.locomo import read_locomo
from memory_service.evaluation.measures import hit, ndcg, recall

SAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "labelled.jsonl"


def talk(name: str) -> dict[str, Any]:
    """A conversation in LoCoMo's shape, with the oddities of its evidence."""
    lines = [
        "Hello!",
        f"{name} adopted a turtle named Shelly.",
        "We painted the fence blue.",
        "It rained on the picnic.",
    ]
    turns = [{"speaker": name, "dia_id": f"D1:{at + 1}", "text": text} for at, text in enumerate(lines)]
    shown = {
        "speaker": "Bo",
        "dia_id": "D2:1",
        "text": "Look!",
        "blip_caption": "a photo of a red bicycle",
        "query": "bike",
    }
    return {
        "speaker_a": name,
        "speaker_b": "Bo",
        "session_1_date_time": "1:00 pm on 8 May, 2023",
        "session_1": turns,
        "session_2_date_time": "2:00 pm on 9 May, 2023",
        "session_2": [shown],
        "session_3_date_time": "a session that never was",
    }


def questions() -> list[dict[str, Any]]:
    return [
        {"question": "Which reptile was adopted?", "answer": "x", "evidence": ["D1:2"], "category": 4},
        {"question": "Who has a bicycle?", "answer": 1, "evidence": ["D2:01"], "category": 1},
        {"question": "What was painted, and what did the weather do?", "evidence": ["D1:3; D1:4"], "category": 1},
        {"question": "Without evidence?", "evidence": [], "category": 5, "adversarial_answer": "x"},
        {"question": "With evidence that is not there?", "evidence": ["D", "D9:9"], "category": 3},
    ]


@pytest.fixture
def locomo(tmp_path: Path) -> Path:
    path = tmp_path / "talks.json"
    samples = [
        {"sample_id": f"c{n}", "conversation": talk(name), "qa": questions()} for n, name in enumerate(("Ann", "Cy"))
    ]
    path.write_text(json.dumps(samples), encoding="utf-8")
    return path


def run(*args: str) -> dict[str, Any]:
    done = CliRunner().invoke(evaluate, [*args, "--json"])
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_locomo_is_read_turn_by_turn_each_conversation_a_scope(locomo: Path) -> None:
    read = read_locomo(locomo)
    assert (len(read.documents), len(read.questions), read.left_out) == (10, 6, 4)
    assert {document.scope for document in read.documents} == {"c0", "c1"}
    shown = next(document for document in read.documents if document.id == "c0/D2:1")
    assert (shown.subject, shown.predicate) == ("Bo", "2:00 pm on 9 May, 2023")
    assert shown.text == "Look! a photo of a red bicycle"
    assert read.questions[2].expected == {"c0/D1:3", "c0/D1:4"}
    assert read.neighbours["c0/D1:4"] == ("c0/D1:3",)
    assert read.neighbours["c0/D2:1"] == ()
    plain = next(document for document in read_locomo(locomo, plain=True).documents if document.id == "c0/D2:1")
    assert (plain.subject, plain.text) == ("", "Look!")


def test_a_conversation_alone_in_its_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "26.json"
    path.write_text(json.dumps(talk("Ann") | {"qa": questions(), "events_session_1": {}}), encoding="utf-8")
    read = read_locomo(path)
    assert (len(read.documents), len(read.questions)) == (5, 3)


@pytest.mark.parametrize("content", ["[", "[]]", "[3]", '{"qa": []}', '[{"qa": [{}]}]', '{"session_1": 3, "qa": []}'])
def test_another_shape_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(EvaluationError):
        read_locomo(path)


def test_the_command_measures_every_way_and_each_category(locomo: Path) -> None:
    (result,) = run("--locomo", str(locomo)).values()
    assert result["documents"] == 10
    assert set(result["ways"]) >= {"words alone", "vectors alone", "both", "both, neighbours"}
    assert {fields["questions"] for fields in result["ways"].values()} == {6}
    assert result["ways"]["both"]["recall@5"] == 1.0
    assert result["ways"]["vectors alone"]["nDCG@10"] > result["ways"]["words alone"]["nDCG@10"]
    assert result["categories"]["multi-hop"]["questions"] == 4
    assert (result["chosen"]["chosen_on"], result["chosen"]["reported_on"]) == (["c0"], ["c1"])
    assert result["chosen"]["measures"]["questions"] == 3


def test_the_sample_of_the_documentation_is_measured_with_words_alone_too() -> None:
    (result,) = run(str(SAMPLE), "--embedder", "none").values()
    assert list(result["ways"]) == ["words alone"]
    (both,) = run(str(SAMPLE)).values()
    assert both["ways"]["both"]["recall@5"] > result["ways"]["words alone"]["recall@5"]
    assert set(both["categories"]) == {"other words", "same words"}


def test_it_prints_tables() -> None:
    done = CliRunner().invoke(evaluate, [str(SAMPLE), "--embedder", "none"])
    assert done.exit_code == 0
    assert "recall@10" in done.stdout


@pytest.mark.parametrize(
    "lines",
    [
        '{"kind": "question", "text": "a", "expected": ["gone"]}',
        '{"kind": "question", "text": "a", "expected": []}',
        '{"kind": "document", "id": "1", "text": "a"}\n{"kind": "document", "id": "1", "text": "b"}',
        '{"kind": "document", "id": "1", "txt": "a"}',
        "no json",
    ],
)
def test_a_wrong_set_is_refused_by_name(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"set\.jsonl"):
        read_labelled(path)
    assert CliRunner().invoke(evaluate, [str(path)]).exit_code == 1


def test_without_a_file_it_is_wrong_use() -> None:
    assert CliRunner().invoke(evaluate, []).exit_code == 2


def test_the_measures_are_those_of_the_books() -> None:
    ranked = ["a", "b", "c", "d"]
    assert recall(ranked, {"b", "z"}, 2) == 0.5
    assert hit(ranked, {"d"}, 3) == 0
    assert ndcg(ranked, {"a", "c"}, 10) == pytest.approx(1.5 / (1 + 0.6309297535714575))
    assert ndcg(ranked, {"a"}, 10) == 1


@given(st.permutations("abcdef"), st.sets(st.sampled_from("abcdef"), min_size=1), st.integers(1, 6))
def test_measures_lie_between_0_and_1_and_are_1_for_the_right_order(
    ranked: list[str], expected: set[str], cut: int
) -> None:
    assert 0 <= ndcg(ranked, expected, cut) <= 1 + 1e-9
    assert 0 <= recall(ranked, expected, cut) <= hit(ranked, expected, cut) <= 1
    best = sorted(ranked, key=lambda name: name not in expected)
    assert ndcg(best, expected, cut) == pytest.approx(1)
