"""``workmesh eval`` plans cases as the planner does, counts what it costs, and is a gate that a model can fail."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from agents.planner.cases import Expected, ExpectedStep, fault_of, load_cases
from agents.planner.commands import evaluate
from agents.planner.evaluating import Asked, lines
from console.main import main
from mesh.errors import SettingsError
from mesh.inference import ModelRole
from mesh.records import Call, Plan, Step
from mesh.scripted.conversations import Conversation, Turn, When, dump, load
from mesh.scripted.server import scripted_model
from packs.retail.pack import pack
from tests.agents.planner.answers import HEAD

SAMPLE = Path(__file__).parents[3] / "packs" / "retail" / "sample" / "conversations.yaml"
JACKET = "the rain jacket from order #W4654930"


async def run(*args: str | Path) -> tuple[int, Any]:
    """The command as it is typed, off the test's own loop: its exit status and what it prints."""
    done = await asyncio.to_thread(CliRunner().invoke, evaluate, ["retail", "--json", *map(str, args)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout) if done.exit_code < 2 else done.stderr


def spoilt(tmp_path: Path, *turns: Turn, **when: Any) -> Path:
    """The sample's conversations, but for one prompt."""
    other = Conversation(conversation="spoilt", when=When(user=JACKET, **when), says=turns)
    file = tmp_path / "spoilt.yaml"
    file.write_text(dump([other, *load(SAMPLE)]), encoding="utf-8")
    return file


async def test_the_packs_own_cases_pass_with_the_samples_model_and_their_cost_adds_up() -> None:
    status, report = await run("--replay", SAMPLE, "--min-pass", "1")
    assert (status, report["passed"], report["cases"]) == (0, 14, 14)
    assert report["cost_micro_usd"] == sum(line["cost_micro_usd"] for line in report["by"]) > 0
    assert {line["role"] for line in report["by"]} == {"classify", "extract", "plan", "judge"}
    assert report["prompts"].keys() == {"retail.classify", "retail.extract", "retail.plan", "retail.judge"}


@pytest.mark.parametrize(
    ("asks", "answer", "fault"),
    [
        ("intent", {"intent": "unclear", "order_id": "", "note": "what?"}, "a person was asked"),
        (
            "intent",
            {"intent": "retail.cancel.requested", "order_id": "#W4654930", "note": ""},
            "no conversation answers this prompt",
        ),
        (
            "item_ids",
            {"item_ids": ["6741366249"], "payment_method_id": "credit_card_8383207", "missing": ""},
            'retail.return with {"order_id":"#W4654930","item_ids":["6741366249"]',
        ),
        (
            "item_ids",
            {"item_ids": ["1111111111"], "payment_method_id": "credit_card_8383207", "missing": ""},
            "occurs nowhere in what was shown",
        ),
    ],
)
async def test_a_wrong_answer_fails_its_case_and_the_gate(
    tmp_path: Path, asks: str, answer: dict[str, Any], fault: str
) -> None:
    status, report = await run("--replay", spoilt(tmp_path, Turn(answer=answer), asks=asks), "--min-pass", "0.95")
    faults = {result["case"]: result["fault"] for result in report["results"] if result["fault"]}
    assert status == 1
    assert faults.keys() == {"A jacket that is too small"}
    assert fault in faults["A jacket that is too small"]


async def test_a_first_answer_that_is_wrong_is_counted_and_the_case_may_pass(tmp_path: Path) -> None:
    made_up = Turn(answer={"intent": "retail.return.requested", "order_id": "#W9999999", "note": ""}, times=1)
    status, report = await run("--replay", spoilt(tmp_path, made_up, asks="intent"), "--min-pass", "1")
    assert (status, report["passed"]) == (0, 14)
    assert [line["wrong"] for line in report["by"] if line["role"] == "classify"] == [1]


async def test_what_one_model_says_is_recorded_and_replayed_at_the_same_cost_and_time(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.yaml"
    slow = spoilt(tmp_path, Turn(answer=(await sorted_as(JACKET)), delay_s=0.3), asks="intent")
    async with scripted_model([slow]) as real:
        asked = ("--model", "claude-sonnet-5-5", "--base-url", real.url)
        status, first = await run(*asked, "--record", recorded)
        assert (status, {line["model"] for line in first["by"]}) == (0, {"claude-sonnet-5-5"})
        again = (await run(*asked, "--record", recorded))[1]  # it knows all answers now
        assert len(real.billed) == sum(line["questions"] for line in first["by"]) - second_readings(first)
    _, replayed = await run("--model", "claude-sonnet-5-5", "--replay", recorded)
    assert replayed["cost_micro_usd"] == again["cost_micro_usd"] == first["cost_micro_usd"]
    (p95_s,) = [line["p95_s"] for line in replayed["by"] if line["role"] == "classify"]
    assert p95_s >= 0.3
    status, other = await run("--model", "claude-opus-5-5", "--replay", recorded)
    assert (status, other["passed"]) == (1, 0)
    assert "no conversation answers" in other["results"][0]["fault"]


async def sorted_as(message: str) -> Any:
    (found,) = [each for each in load(SAMPLE) if each.when.asks == "intent" and message in each.when.user]
    return found.says[0].answer


def second_readings(report: Any) -> int:
    """A second reading by the same model is the same prompt: recorded once."""
    (questions,) = [line["questions"] for line in report["by"] if line["role"] == "extract"]
    return int(questions) // 2


async def test_a_model_that_cannot_be_asked_fails_every_case(tmp_path: Path) -> None:
    down = tmp_path / "down.yaml"
    down.write_text("conversation: down\nsays: [{status: 401}]\n", encoding="utf-8")
    status, report = await run("--replay", down)
    assert (status, report["passed"]) == (1, 0)
    assert {line["failed"] for line in report["by"]} == {14}
    assert report["cost_micro_usd"] == 0


async def test_a_case_in_which_a_person_is_asked_passes_only_if_a_model_said_so(tmp_path: Path) -> None:
    told = tmp_path / "told.yaml"
    told.write_text("conversation: in words\nsays: [{text: names no order}]\n", encoding="utf-8")
    _, report = await run("--replay", told)
    assert report["passed"] == 0
    assert {result["fault"] for result in report["results"]} == {"the model answered with text"}


def test_the_shell_hears_whether_the_gate_is_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    down = tmp_path / "down.yaml"
    down.write_text("conversation: down\nsays: [{status: 401}]\n", encoding="utf-8")
    for least, status in (("0.5", 1), ("0", 0)):
        monkeypatch.setattr(sys, "argv", ["workmesh", "eval", "retail", "--replay", str(down), "--min-pass", least])
        with pytest.raises(SystemExit) as done:
            main()
        assert done.value.code == status


async def test_two_servers_or_two_models_at_once_are_wrong_use(tmp_path: Path) -> None:
    for args in (("--replay", SAMPLE, "--record", tmp_path / "x"), ("--model", "m", "--tier", "small")):
        status, said = await run(*args)
        assert status == 2
        assert "give one of" in said


def plan(*steps: Step, **more: Any) -> Plan:
    return Plan(header=HEAD, playbook="p", playbook_digest="d", digest="d", steps=steps, **more)


def step(tool: str, args: str = "{}", **more: Any) -> Step:
    return Step(id=tool, call=Call(tool=tool, args=msgspec.Raw(args.encode())), effect_key="k", **more)


def test_a_plan_is_held_against_what_matters_of_the_expected_steps() -> None:
    swap = Expected(steps=(ExpectedStep(tool="swap", args={"old": ["1", "2"], "new": ["8", "9"]}),))
    right = step("swap", '{"old": ["2", "1"], "new": ["9", "8"], "amount": 3}')
    assert fault_of(swap, plan(right, step("letter", optional=True))) == ""
    assert "swap with" in fault_of(swap, plan(step("swap", '{"old": ["2", "1"], "new": ["8", "9"]}')))
    assert fault_of(swap, plan(right, step("letter"))) == "the plan was swap, letter"
    assert "nothing is to be done: no" in fault_of(swap, plan(refusal="no"))
    assert "a person was asked" in fault_of(swap, plan(step("hand-over"), rationale="why"))
    assert fault_of(Expected(person="WHY"), plan(step("hand-over"), rationale="this is why")) == ""
    assert "a person was to be asked" in fault_of(Expected(person=""), plan(right))
    assert "the reason was" in fault_of(Expected(refusal="gone"), plan(refusal="no"))


def test_percentiles_are_by_nearest_rank_and_of_answers_that_came() -> None:
    asked = [Asked(ModelRole.PLAN, "m", is_second_try=False, seconds=n / 100) for n in range(1, 101)]
    asked.append(Asked(ModelRole.PLAN, "m", is_second_try=True, seconds=99.0, failure="gone"))
    (line,) = lines(asked)
    assert (line.p50_s, line.p95_s, line.questions, line.failed, line.wrong) == (0.5, 0.95, 101, 1, 1)


def test_wrong_files_of_cases_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no cases"):
        load_cases(tmp_path)
    case = "- case: a\n  data: {}\n  expect: {person: ''}\n"
    for text, why in (
        (case + case, "twice"),
        ("- case: a\n  data: {}\n  expect: {}\n", "one of"),
        ("- a", "cases.yaml"),
    ):
        (tmp_path / "cases.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(SettingsError, match=why):
            load_cases(tmp_path)
    assert pack.prompts is not None
    assert len(load_cases(pack.prompts / "cases")) == 14
