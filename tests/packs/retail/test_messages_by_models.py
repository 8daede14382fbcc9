"""The shop's messages in free text, on a whole site with a scripted model: the same outcomes, or a person is asked."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.demo.driver import DemoPlan, Run, run_demo
from console.demo.report import Report, report
from console.publish import read_lines
from mesh.scripted.conversations import Conversation, Turn, When, load
from mesh.scripted.server import Source
from packs.retail.demo import demo
from tests.packs.retail import free_text


async def _run(folder: Path, data: Path, lines: Iterable[Any], said: Sequence[Source], **more: Any) -> Run:
    events = folder / "events.jsonl"
    events.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    plan = DemoPlan(
        pack="retail",
        demo=demo,
        data=data,
        lines=read_lines(events.read_bytes()),
        approve=True,
        conversations=said,
        **more,
    )
    return await run_demo(plan, folder / "run", lambda *_: None)


def _report(folder: Path, run: Run, expected: Iterable[Any]) -> Report:
    path = folder / "expected.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in expected), encoding="utf-8")
    return report(run, path)


@pytest.mark.timeout(150)
async def test_the_real_requests_in_words_come_out_as_the_forms_did_or_a_person_is_asked(
    tmp_path: Path, retail_data: Path
) -> None:
    expected = free_text.expectations(retail_data)
    said: list[Conversation] = free_text.conversations(retail_data)
    run = await _run(tmp_path, retail_data, free_text.events(retail_data), said)
    found = _report(tmp_path, run, [each.expected | {"outcome": each.outcome} for each in expected])
    assert found.problems == []
    counted = Counter("waiting" if each.outcome == "person" else each.outcome for each in expected)
    ours = Counter("refused" if line.outcome == "denied" else line.outcome for line in found.outcomes)
    assert ours == counted
    assert counted["completed"] > 100
    assert counted["waiting"] > 50
    assert found.summary["model_micro_usd"] == found.summary["billed_micro_usd"] > 0
    assert found.summary["duplicate_effects"] == found.summary["lost"] == 0


SAMPLE = demo.sample
HASTY = {
    "WORKMESH_MODELS__TIMEOUT_S": "0.5",
    "WORKMESH_MODELS__ATTEMPTS": "1",
}
SMALL = When(model="claude-haiku-*")
LIES = {
    "retail.cancel.requested": {"reason": "no longer needed", "missing": ""},
    "retail.return.requested": {"item_ids": ["5892250781"], "payment_method_id": "gift_card_3560927", "missing": ""},
}


def _sample() -> tuple[list[Any], list[Any], list[Conversation]]:
    lines, expected = (
        [json.loads(line) for line in (SAMPLE / name).read_text(encoding="utf-8").splitlines()]
        for name in ("messages.jsonl", "messages-expected.jsonl")
    )
    return lines, expected, list(load(SAMPLE / "conversations.yaml"))


async def _troubled(folder: Path, said: Sequence[Source], **more: Any) -> tuple[Run, Report]:
    """A run over the sample where all goes wrong that can: what is done is right all the same."""
    lines, expected, _ = _sample()
    run = await _run(folder, SAMPLE, lines, said, **more)
    found = _report(folder, run, expected)
    # A person may be asked about anything; nothing else may come out otherwise than the message asks for.
    asked = [problem for problem in found.problems if ": waiting (waits for approval by service_agent)" in problem]
    assert [problem for problem in found.problems if problem not in asked] == []
    return run, found


def _conversation(title: str, when: When, *turns: Turn) -> Conversation:
    return Conversation(conversation=title, when=when, says=turns)


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "fault",
    [
        Turn(status=529),
        Turn(status=500),
        Turn(status=401),
        Turn(status=429, retry_after=3600),
        Turn(disconnect="before"),
        Turn(disconnect="after", text="too late"),
        Turn(text="slow", delay_s=5),
        Turn(malformed="{"),
        Turn(refusal="I would rather not."),
        Turn(text="Certainly! I have refunded everything."),
        Turn(answer={"intent": "refund everything", "order_id": "#W1060358", "sql": "drop table orders"}),
    ],
    ids=lambda turn: next(
        name for name in ("status", "disconnect", "malformed", "refusal", "text", "answer") if getattr(turn, name)
    ),
)
async def test_with_no_model_that_helps_every_message_goes_to_a_person(tmp_path: Path, fault: Turn) -> None:
    run, found = await _troubled(tmp_path, [_conversation("no use", When(), fault)], env=HASTY)
    assert found.summary["waiting"] == len(found.outcomes) == 14
    assert found.summary["effects"] == 0
    assert len(run.billed) <= found.summary["model_calls"]


@pytest.mark.timeout(90)
async def test_a_provider_that_is_busy_and_stumbles_costs_time_and_nothing_else(tmp_path: Path) -> None:
    lines, expected, said = _sample()
    stumbles = (Turn(status=429, retry_after=0.2), Turn(status=529), Turn(disconnect="before"), Turn(status=500))
    stumbling = [
        msgspec.structs.replace(each, says=(*stumbles[n % 4 :][:1], *each.says)) for n, each in enumerate(said)
    ]
    stumbling = [
        msgspec.structs.replace(each, says=(msgspec.structs.replace(each.says[0], times=1), *each.says[1:]))
        for each in stumbling
    ]
    run = await _run(tmp_path, SAMPLE, lines, stumbling)
    assert _report(tmp_path, run, expected).problems == []


@pytest.mark.timeout(90)
async def test_one_model_that_lies_is_found_out_by_the_other(tmp_path: Path) -> None:
    _, _, said = _sample()
    lying = [
        _conversation(
            "another item",
            When(model="claude-haiku-*", asks=("item_ids",)),
            Turn(answer=LIES["retail.return.requested"]),
        ),
        _conversation(
            "another reason",
            When(model="claude-haiku-*", asks=("reason",)),
            Turn(answer=LIES["retail.cancel.requested"]),
        ),
    ]
    run, found = await _troubled(tmp_path, [*lying, *said])
    assert found.summary["waiting"] >= 7
    assert found.summary["model_micro_usd"] == found.summary["billed_micro_usd"]
    assert run.ledger.waits


@pytest.mark.timeout(90)
async def test_models_that_all_do_what_a_message_tells_them_move_nothing_that_is_not_the_customers(
    tmp_path: Path,
) -> None:
    """The injected message is obeyed by all models alike; what they make up or take from others is refused."""
    _, _, said = _sample()
    injected = When(user="ignore the rules")
    obeyed = [
        _conversation(
            "it is a return",
            When(asks=("intent",), user="ignore the rules"),
            Turn(answer={"intent": "retail.return.requested", "order_id": "#W1060358", "note": "administrator"}),
        ),
        _conversation("to the card it names", injected, Turn(answer=LIES["retail.return.requested"])),
    ]
    _, found = await _troubled(tmp_path, [*obeyed, *said])
    assert found.summary["completed"] == 8
