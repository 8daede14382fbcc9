"""A journal that is full: writers wait and say so, nothing is lost, and all goes on when there is room again."""

from pathlib import Path

import msgspec
import pytest

from mesh import streams, subjects
from mesh.records import OutcomeStatus
from mesh.site import stream_specs
from tests.ledger_pack.running import until
from tests.ledger_pack.world import BUS, World, world_in

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(180)]

STAGES = ("perception", "planner", "policy", "executor")
SMALL = msgspec.structs.replace(BUS, journal_max_bytes=256 * 1024)


async def test_a_full_journal_holds_everything_up_and_loses_nothing(tmp_path: Path) -> None:
    async with world_in(tmp_path, bus=SMALL) as world, world.roles(*STAGES) as running:
        tasks = [await world.publish(f"full-{n}", kind=("post", "transfer", "wire")[n % 3]) for n in range(60)]
        logs = [each.log for each in running]
        await until(lambda: any(_waits_for_room(line) for log in logs for line in log()))
        async with world.connected("admin") as admin:
            await streams.ensure(
                admin, stream_specs(BUS), replicas=1, ack_wait_s=BUS.ack_wait_s, max_ack_pending=BUS.max_ack_pending
            )
        endings = [(await world.outcome(task)).status for task in tasks]
        for stage in STAGES[1:]:
            await world.settled(stage)
        assert [each.child.restarts for each in running] == [0] * len(STAGES)
        assert await set_aside(world) == 0
        assert endings == [OutcomeStatus.COMPLETED] * len(tasks)
        assert [len(world.applied(task)) for task in tasks] == [1] * len(tasks)


def _waits_for_room(line: dict[str, object]) -> bool:
    return line["event"] == "commit_waits" and "has no room" in str(line["error"])


async def set_aside(world: World) -> int:
    """How many items are in quarantine."""
    info = await world.bus.api(f"STREAM.INFO.{subjects.QUARANTINE}")
    return int(info["state"]["messages"])
