"""Spans of a running site at a collector that speaks real OTLP: one task is one tree, whatever dies on the way."""

import shutil
from pathlib import Path

import httpx2
import msgspec
import pytest

from mesh import tracing
from mesh.canonical import task_id
from mesh.ports import free_port
from mesh.records import OutcomeStatus, Word
from mesh.scripted.conversations import When
from tests.agents.tracer.receiving import Answer, Received, Receiver, receiving
from tests.ledger_pack.running import until
from tests.ledger_pack.target import LIMIT
from tests.ledger_pack.world import SOURCE, World, world_in
from tests.mesh.samples import TRACE
from tests.packs.retail.test_messages_and_people import LETTER, LOOK, ORDER, WHERE, _letter, _said, site_with

pytestmark = [pytest.mark.timeout(120)]

STAGES = ("perception", "planner", "policy", "executor", "learner")
SOON = {"retry-after": "0"}
SECRET = "PLANTED-7f3a9c"


def env_of(receiver: Receiver) -> dict[str, str]:
    """What has a tracer send there."""
    return {"WORKMESH_TRACES__ENDPOINT": receiver.url}


async def publish(world: World, name: str, amount: int = 100, **event: str) -> str:
    """Publish an entry with a secret in it; its task."""
    data = {"account": SECRET, "amount": amount, "kind": "post", "memo": f"urgent {SECRET}"}
    kind = "ledger.entry.requested"
    said = {"specversion": "1.0", "id": name, "source": SOURCE, "type": kind, "subject": f"{SECRET}-{name}"}
    await world.publish_bytes(msgspec.json.encode({**said, "data": data, **event}))
    return task_id(SOURCE, name)


def is_tree(spans: list[Received], outside: str = "") -> bool:
    """Whether every span's parent is there too, but that of the root."""
    ids = {span.id for span in spans}
    roots = [span for span in spans if span.parent not in ids]
    return len(roots) == 1 and roots[0].parent == outside and len({span.trace for span in spans}) == 1


async def whole(receiver: Receiver, task: str, last: str = "lesson") -> list[Received]:
    """The spans of a task, once the last of them is there."""
    await until(lambda: any(span.name == last for span in receiver.of(task)))
    return receiver.of(task)


async def test_a_task_is_one_tree_under_the_publishers_span_and_says_nothing_of_its_content(tmp_path: Path) -> None:
    with receiving() as receiver:
        async with world_in(tmp_path, *STAGES) as world, world.role("tracer", env=env_of(receiver)):
            task = await publish(world, "large", 20_000, traceparent=TRACE)
            await world.waits(task)
            await until(lambda: any(span.name == "decision" for span in receiver.of(task)))
            assert not receiver.named("task ledger.entry.requested")  # it is sent when the outcome stands
            await world.say(task, Word.APPROVE)
            assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
            spans = await whole(receiver, task)
            items = await world.journal.history(task)
    names = sorted(span.name for span in spans)
    assert names == [
        "approval controller",
        "context",
        "decision",
        "decision",
        "execute_tool ledger.post",
        "lesson",
        "outcome",
        "plan",
        "task ledger.entry.requested",
    ]
    _, trace, publisher, _ = TRACE.split("-")
    assert is_tree(spans, publisher) and {span.trace for span in spans} == {trace}
    by_name = {span.name: span for span in spans}
    assert [span.service for span in (by_name["plan"], by_name["outcome"])] == ["workmesh-planner", "workmesh-executor"]
    root, call = by_name["task ledger.entry.requested"], by_name["execute_tool ledger.post"]
    word = by_name["approval controller"]
    [(kind, sent)] = world.called(task)
    assert (kind, tracing.span_of(sent), tracing.trace_of(sent)) == ("post", call.id, trace)
    assert call.attributes["gen_ai.operation.name"] == "execute_tool"
    assert call.attributes["gen_ai.tool.name"] == "ledger.post"
    assert call.attributes["gen_ai.tool.call.id"] == f"wm-{task}-enter"
    assert (word.attributes["workmesh.person"], word.attributes["workmesh.word"]) == ("carla", "approve")
    at = {item.record.kind: round(item.time.timestamp() * 1e6) * 1000 for item in items}
    first = next(item for item in items if item.record.kind == "decision")
    assert (word.start, word.end) == (round(first.time.timestamp() * 1e6) * 1000, at["approval"])
    assert (call.start, call.end) == (at["effect"], at["result"]) and root.end == at["outcome"]
    assert root.start <= min(span.start for span in spans) and root.attributes["workmesh.outcome"] == "completed"
    assert by_name["lesson"].end >= root.end
    assert receiver.bodies and not any(SECRET.encode() in body for body in receiver.bodies)
    policies = {policy for span in spans for policy in span.attributes.get("workmesh.policies", ())}
    assert {"large", "large-approved"} <= policies


async def test_lost_calls_and_compensations_are_in_the_tree_each_with_the_id_that_its_target_was_sent(
    tmp_path: Path,
) -> None:
    fault = f"executor.after_call=kill@{tmp_path / 'once'}"
    with receiving() as receiver:
        async with world_in(tmp_path, *STAGES[:3]) as world, world.role("tracer", env=env_of(receiver)):
            async with world.connected("policy") as bus:  # what nobody can read holds up nothing
                await bus.request("task.decision.ledger.x.-", b"{}")
            async with world.role("executor", fault=fault):
                dies = await world.publish("dies")
                assert (await world.outcome(dies)).status is OutcomeStatus.COMPLETED
                fails = await world.publish("fails", "move", last=LIMIT + 1, note=LIMIT + 1)
                assert (await world.outcome(fails)).status is OutcomeStatus.COMPENSATED
            died, failed = await whole(receiver, dies, "outcome"), await whole(receiver, fails, "outcome")
            sent = {task: [tracing.span_of(trace) for _, trace in world.called(task)] for task in (dies, fails)}
    assert is_tree(died) and is_tree(failed)
    calls = sorted(calls_of(died), key=lambda span: span.start)
    assert [(span.attributes["workmesh.attempt"], span.error) for span in calls] == [(1, "lost"), (2, "")]
    assert sent[dies] == [span.id for span in calls]
    assert set(sent[fails]) == {span.id for span in calls_of(failed)}
    undone = [span for span in calls_of(failed) if span.attributes["workmesh.compensates"]]
    assert undone and {span.attributes["gen_ai.tool.name"] for span in undone} == {"ledger.reverse"}
    assert {span.attributes["error.type"] for span in calls_of(failed) if span.error} == {"refused"}
    assert next(span for span in failed if span.name.startswith("task ")).error == "compensated"


def calls_of(spans: list[Received]) -> list[Received]:
    """The calls of tools."""
    return [span for span in spans if span.name.startswith("execute_tool ")]


async def counted(port: int) -> dict[str, float]:
    """The tracer's own metrics."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    lines = (line for line in page.splitlines() if line.startswith("workmesh_trace"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_a_collector_that_is_away_is_waited_for_and_one_that_refuses_holds_up_nothing(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.largest = 9_000  # so that batches are to be parted
    port = free_port()
    env = {**env_of(receiver), "WORKMESH_METRICS__PORT": str(port)}
    async with world_in(tmp_path, *STAGES) as world, world.role("tracer", env=env) as tracer:
        tasks = [await world.publish(f"away-{number}") for number in range(20)]
        for task in tasks:
            await world.outcome(task)
        await until(lambda: any(line["event"] == "collector_does_not_take_spans" for line in tracer.log()))

        async def is_behind() -> bool:
            return (await counted(port))["workmesh_traces_behind_seconds"] > 1

        await until(is_behind)
        receiver.answers = [Answer(503, headers=SOON), Answer(401), Answer(429, headers=SOON)]
        with receiving(receiver):
            for task in tasks:
                assert is_tree(await whole(receiver, task))
            assert max(map(len, receiver.bodies)) <= receiver.largest
            exported = len(receiver.spans)
            receiver.always = Answer(400)
            bad = await world.publish("bad")
            await world.outcome(bad)

            async def is_passed_over() -> bool:
                found = await counted(port)
                return found['workmesh_trace_spans_total{result="refused"}'] >= 7  # context to lesson

            await until(is_passed_over)
            receiver.always = Answer(refused=1, said="one is enough")
            good = await world.publish("good")
            assert is_tree(await whole(receiver, good))
            receiver.always = Answer()

            async def is_level() -> bool:
                return (await counted(port))["workmesh_traces_behind_seconds"] == 0

            await until(is_level)
            found = await counted(port)
    assert not receiver.of(bad)
    in_part = [line["spans"] for line in tracer.log() if line.get("why") == "one is enough"]
    refused, taken = (found[f'workmesh_trace_spans_total{{result="{result}"}}'] for result in ("refused", "exported"))
    assert in_part and set(in_part) == {1}
    assert (refused, taken) == (7 + len(in_part), exported + 7 - len(in_part))
    assert found['workmesh_trace_waits_total{reason="settings"}'] == 1
    assert found['workmesh_trace_waits_total{reason="busy"}'] == 2
    assert found['workmesh_trace_waits_total{reason="away"}'] >= 1


async def test_killed_in_the_middle_of_an_export_it_leaves_nothing_out(tmp_path: Path) -> None:
    points = ("before_send", "before_place")
    fault = ",".join(f"tracer.{point}=kill@{tmp_path / point}" for point in points)
    with receiving() as receiver:
        receiver.free.clear()
        async with (
            world_in(tmp_path, *STAGES) as world,
            world.role("tracer", fault=fault, env=env_of(receiver)) as tracer,
        ):
            tasks = [await world.publish(f"killed-{number}") for number in range(30)]
            await until(lambda: receiver.requests > 0)
            await tracer.kill()  # while the collector has a batch in its hands
            receiver.free.set()
            tasks += [await world.publish(f"after-{number}") for number in range(10)]
            for task in tasks:
                assert is_tree(await whole(receiver, task))
            await until(lambda: all((tmp_path / point).exists() for point in points))
    found = [span for span in receiver.spans if span.attributes["workmesh.task"] in tasks]
    assert len({span.id for span in found}) < len(found)  # some came twice,
    assert len({(span.id, span.parent, span.name, span.start, span.end) for span in found}) == len(
        {span.id for span in found}
    )  # and just the same


async def test_a_tracer_begins_where_it_stopped_and_without_its_place_a_little_while_ago(tmp_path: Path) -> None:
    with receiving() as receiver:
        async with world_in(tmp_path, *STAGES) as world:
            before = await world.publish("before")
            await world.outcome(before)
            async with world.role("tracer", env=env_of(receiver)):
                assert is_tree(await whole(receiver, before))  # of the hour before it was there
            sent = len(receiver.spans)
            while_away = await world.publish("while-away")
            await world.outcome(while_away)
            async with world.role("tracer", env=env_of(receiver)):
                assert is_tree(await whole(receiver, while_away))
            assert all(span.attributes["workmesh.task"] == while_away for span in receiver.spans[sent:])
            shutil.rmtree(tmp_path / "state" / "state" / "tracer-1")
            env = {**env_of(receiver), "WORKMESH_TRACES__LOOK_BACK_S": "0"}
            async with world.role("tracer", env=env):
                sent = len(receiver.spans)
                after = await world.publish("after")
                assert is_tree(await whole(receiver, after))
            assert {span.attributes["workmesh.task"] for span in receiver.spans[sent:]} == {after}


async def test_the_calls_of_models_stand_under_their_plan_with_what_they_cost(tmp_path: Path) -> None:
    said = (
        _said("which", When(asks="intent"), {"intent": "other", "order_id": ORDER, "note": ""}),
        _said(
            "look, then write",
            When(asks="steps", user=WHERE),
            {**LOOK, "steps": [], "rationale": "", "cannot": ""},
            _letter(LETTER),
        ),
        _said("the judge", When(asks="agrees"), {"agrees": True, "why": "It answers the question."}),
    )
    with receiving() as receiver:
        config = f'[traces]\nendpoint = "{receiver.url}"\n'
        async with site_with(tmp_path, *said, config=config) as site:
            task = await site.write("where", WHERE)
            assert (await site.say(await site.shown(task), Word.APPROVE)).verdict == "allow"
            assert (await site.outcome(task)).status is OutcomeStatus.COMPLETED
            spans = await whole(receiver, task)
            completions = [item.record for item in await site.journal.task(task) if item.record.kind == "completion"]
            sent = site.model.traceparents
    assert is_tree(spans)
    chats = [span for span in spans if span.name.startswith("chat ")]
    [plan] = [span for span in spans if span.name == "plan"]
    assert len(chats) == len(completions) == 4 and {span.parent for span in chats} == {plan.id}
    assert {tracing.span_of(trace) for trace in sent} == {span.id for span in chats}
    assert {span.kind for span in chats} == {3}
    for span in chats:
        told = span.attributes
        assert span.name == f"chat {told['gen_ai.request.model']}" and told["gen_ai.provider.name"] == "anthropic"
        assert told["gen_ai.usage.input_tokens"] > 0 and told["gen_ai.usage.output_tokens"] > 0
        assert told["workmesh.cost_usd"] > 0
    [root] = [span for span in spans if span.name.startswith("task ")]
    assert root.attributes["workmesh.cost_usd"] == pytest.approx(sum(c.attributes["workmesh.cost_usd"] for c in chats))
    [call] = [span for span in spans if span.name == "execute_tool retail.notify"]
    assert "workmesh.step" not in call.attributes  # a model named it
    for words in (WHERE, LETTER, "is delivered", "customer asks"):
        assert not any(words.encode() in body for body in receiver.bodies)
