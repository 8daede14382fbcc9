"""What no stage can handle, beside what all can: it ends in quarantine with a reason to act on, and blocks nobody."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import msgspec
import pytest

from mesh import quarantine, records, subjects
from mesh.quarantine import Reason
from mesh.records import AnyRecord, Header, OutcomeStatus, Word
from tests.ledger_pack.pack import FAULTY, HANGING
from tests.ledger_pack.world import ROOT, World, world_in

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(180)]

STAGES = ("perception", "planner", "policy", "executor", "learner")
# Which stage writes the record that another one works from.
WRITERS = {"context": "perception", "plan": "planner", "decision": "policy", "outcome": "executor"}
READERS = {"context": "planner", "plan": "policy", "decision": "executor", "outcome": "learner"}
IMPATIENT = {
    "WORKMESH_RUNTIME__MAX_ATTEMPTS": "3",
    "WORKMESH_RUNTIME__HANDLER_TIMEOUT_S": "3",
    "WORKMESH_RUNTIME__NAK_DELAY_MAX_S": "0.2",
}


async def put(world: World, kind: str, task: str, data: bytes) -> int:
    """Write bytes where a record of a task stands, under the key of the stage whose place that is; the sequence."""
    async with world.connected(WRITERS[kind]) as bus:
        answer = await bus.request(subjects.record(kind, "ledger", task, "-"), data)
    return int(json.loads(answer.data)["seq"])


def changed(record: AnyRecord, task: str, version: int = records.SCHEMA_VERSION) -> bytes:
    """A good record as one of another task, or of another version."""
    header: Header = msgspec.structs.replace(record.header, task_id=task, v=version)
    return records.encode(msgspec.structs.replace(record, header=header))


async def events(world: World) -> dict[int, tuple[str, Reason, str]]:
    """Publish events that perception can do nothing with: where each stands, who refuses it, and why."""
    good = {"specversion": "1.0", "source": "/poison", "type": "ledger.entry.requested", "subject": "p"}
    data = {"account": "a", "amount": 1, "kind": "post"}
    bad = {
        b"\x00\xff{": "JSON",
        msgspec.json.encode(good | {"id": "p1", "specversion": "2.0", "data": data}): "specversion",
        msgspec.json.encode(good | {"id": "p2", "data": data | {"amount": "much"}}): "amount",
        msgspec.json.encode(good | {"id": "p3", "data": data | {"sum": 1}}): "sum",
    }
    found = {await world.publish_bytes(sent): ("perception", Reason.MALFORMED, why) for sent, why in bad.items()}
    unknown = {"ledger.gift.requested": "pack ledger knows ledger.entry.requested", "mars.x": "no pack for 'mars'"}
    for number, (kind, why) in enumerate(unknown.items()):
        sent = msgspec.json.encode(good | {"id": f"u{number}", "type": kind, "data": data})
        found[await world.publish_bytes(sent, kind)] = ("perception", Reason.UNKNOWN_TYPE, why)
    return found


async def journal(world: World, good: str) -> dict[int, tuple[str, Reason, str]]:
    """Write records that no stage can read: where each stands, who refuses it, and why."""
    found: dict[int, tuple[str, Reason, str]] = {}
    for kind, stage in READERS.items():
        record = (await world.record(kind, good)).record
        poison = {
            "bytes": (b"\x00\xff{", "is not a record"),
            "newer": (changed(record, f"newer-{kind}", version=99), "version 99 is newer than 1: upgrade this process"),
            "place": (changed(record, "elsewhere"), f"a record of task.{kind}.ledger.elsewhere.- stands at"),
        }
        for name, (data, why) in poison.items():
            found[await put(world, kind, f"{name}-{kind}", data)] = (stage, Reason.DEAD_LETTER, why)
    return found


async def handlers(world: World) -> dict[str, tuple[str, Reason, str]]:
    """Publish events that a stage always fails at, or hangs at: their tasks, who gives them up, and why."""
    faulty = await world.publish("faulty", account=FAULTY)
    hanging = await world.publish("hanging", account=HANGING)
    return {
        faulty: (
            "policy",
            Reason.DEAD_LETTER,
            "ZeroDivisionError: a fault of the information point (after 3 attempts)",
        ),
        hanging: ("policy", Reason.DEAD_LETTER, "policy did not end within 3 s (after 3 attempts)"),
    }


async def tasks_list(world: World) -> list[dict[str, object]]:
    """What ``workmesh tasks list`` tells."""
    argv = ("-m", "console.main", "tasks", "list", "--json")
    env = {**os.environ, **world.env}
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, env=env, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    found: list[dict[str, object]] = json.loads(out)
    return found


async def test_poison_of_every_kind_is_set_aside_with_a_reason_and_blocks_nobody(tmp_path: Path) -> None:
    async with world_in(tmp_path, *STAGES, env=IMPATIENT) as world:
        good = [await world.publish("good-0")]
        await world.outcome(good[0])
        expected = await events(world) | await journal(world, good[0])
        by_task = await handlers(world)
        good += [await world.publish(f"good-{n}", kind=("post", "transfer", "wire")[n % 3]) for n in range(1, 10)]
        asked = await world.publish("asked", amount=20_000)
        assert {(await world.outcome(task)).status for task in good} == {OutcomeStatus.COMPLETED}
        await world.waits(asked)
        await world.say(asked, Word.APPROVE)
        assert (await world.outcome(asked)).status is OutcomeStatus.COMPLETED
        for task, (stage, reason, why) in by_task.items():
            seq = (await world.record("plan", task)).seq
            expected[seq] = (stage, reason, why)
        for seq, (stage, reason, why) in expected.items():
            item = await world.quarantined(stage, why, seq)
            assert (item.reason, bool(item.data)) == (reason, True)
        assert len(await quarantine.waiting(world.bus)) == len(expected)
        for stage in STAGES[1:]:
            await world.settled(stage)
        await world.settled("perception", subjects.EVENTS)
        assert {*good, asked} <= {str(item["task_id"]) for item in await tasks_list(world)}
