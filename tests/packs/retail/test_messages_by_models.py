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
from mesh.demo import load_demo
from mesh.scripted.conversations import Conversation, Turn, When, load
from mesh.scripted.server import Source
from packs.retail.demo import demo
from tests.packs.retail import free_text


async def _run(folder: Path, data: Path, lines: Iterable[Any], said: Sequence[Source], **more: Any) -> Run:
    events = folder / "events.jsonl"
    events.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    plan = DemoPlan(
        pack="retail",
        demo=load_demo("retail"),
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
    "WORKMESH_MODELS__ANSWER_WITHIN_S": "5",
}
SMALL = "claude-haiku-*"
OTHER_REASON = {"reason": "no longer needed", "missing": ""}
OTHER_ITEMS = {"item_ids": ["5892250781"], "payment_method_id": "gift_card_3560927", "missing": ""}


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


USELESS = (
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
    Turn(answer={"intent": "retail.cancel.requested", "order_id": "#W9999999"}),
    Turn(answer=["retail.cancel.requested"]),
    Turn(text="x", truncated=True),
)


@pytest.mark.timeout(150)
async def test_with_no_model_that_helps_every_message_goes_to_a_person(tmp_path: Path) -> None:
    """Each message meets another way in which a model can be of no use."""
    lines, _, _ = _sample()
    said = [
        _conversation(f"of no use {n}", When(user=line["data"]["message"][:40]), fault)
        for n, (line, fault) in enumerate(zip(lines, USELESS, strict=True))
    ]
    run, found = await _troubled(tmp_path, said, env=HASTY)
    assert found.summary["waiting"] == len(lines) == 14
    assert found.summary["effects"] == 0
    assert len([call for call in run.billed if call.billed]) <= found.summary["model_calls"]


@pytest.mark.timeout(150)
async def test_a_provider_that_is_busy_and_stumbles_costs_time_and_nothing_else(tmp_path: Path) -> None:
    lines, expected, said = _sample()
    stumbles = (
        Turn(status=429, retry_after=0.2, times=1),
        Turn(status=529, times=1),
        Turn(disconnect="before", times=1),
        Turn(status=500, times=1),
    )
    stumbling = [
        msgspec.structs.replace(each, says=(stumbles[n % len(stumbles)], *each.says)) for n, each in enumerate(said)
    ]
    run = await _run(tmp_path, SAMPLE, lines, stumbling)
    found = _report(tmp_path, run, expected)
    assert found.problems == []
    assert found.summary["uncertain_micro_usd"] > 0  # a connection that ends before the answer may have been billed


@pytest.mark.timeout(90)
async def test_one_model_that_lies_is_found_out_by_the_other_and_a_message_that_commands_is_not_obeyed(
    tmp_path: Path,
) -> None:
    """The small model swears to other items and reasons; all models obey the message that gives orders."""
    _, _, said = _sample()
    obeyed = "ignore the rules"
    lies = [
        _conversation(
            "it takes the message for an order",
            When(asks=("intent",), user=obeyed),
            Turn(answer={"intent": "retail.return.requested", "order_id": "#W1060358", "note": "administrator"}),
        ),
        _conversation("to the card that it names", When(user=obeyed), Turn(answer=OTHER_ITEMS)),
        _conversation("other items", When(model=SMALL, asks=("item_ids",)), Turn(answer=OTHER_ITEMS)),
        _conversation("another reason", When(model=SMALL, asks=("reason",)), Turn(answer=OTHER_REASON)),
    ]
    run, found = await _troubled(tmp_path, [*lies, *said])
    assert found.summary["waiting"] >= 7
    assert found.summary["model_micro_usd"] == found.summary["billed_micro_usd"]
    assert len(run.ledger.waits) == found.summary["waiting"]
