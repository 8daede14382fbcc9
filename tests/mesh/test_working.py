"""Short-term memory: a task's context survives its process, and only one copy at a time adds to it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import subjects
from mesh.bus import Bus
from mesh.errors import BusUnavailableError, ConflictError, TerminalError
from mesh.working import MAX_BYTES, WorkingMemory
from tests.mesh.live_mesh import EVERYONE, LiveMesh, eventually

ROOT = Path(__file__).parents[2]


class Draft(msgspec.Struct, frozen=True):
    """What an agent has so far."""

    text: str
    tries: int = 0


@pytest.fixture
async def bus(live: LiveMesh) -> AsyncIterator[Bus]:
    async with live.bus() as found:
        yield found


async def test_parts_come_back_as_what_they_were(bus: Bus) -> None:
    working = WorkingMemory(bus, "planner")
    assert await working.get("t1", "draft", Draft) is None
    await working.put("t1", {"draft": Draft("hello", 1), "numbers": [1, 2]})
    for memory in (working, WorkingMemory(bus, "planner")):
        assert await memory.get("t1", "draft", Draft) == Draft("hello", 1)
        assert await memory.get_all("t1", {"draft": Draft, "numbers": list[int], "none": int}) == {
            "draft": Draft("hello", 1),
            "numbers": [1, 2],
        }
        assert await memory.names("t1") == ("draft", "numbers")
        assert await memory.names("t2") == ()
    assert await WorkingMemory(bus, "learner").names("t1") == ()
    with pytest.raises(TerminalError, match="not as expected"):
        await working.get("t1", "draft", list[int])


async def test_parts_are_replaced_and_dropped_one_by_one(bus: Bus) -> None:
    working = WorkingMemory(bus, "planner")
    await working.put("t1", {"a": 1, "b": 2})
    await working.put("t1", {"b": 3})
    await working.drop("t1", ["a", "never"])
    assert await WorkingMemory(bus, "planner").get_all("t1", {"a": int, "b": int}) == {"b": 3}


async def test_a_task_that_ended_leaves_nothing(bus: Bus) -> None:
    working = WorkingMemory(bus, "planner")
    await working.put("t1", {"a": 1})
    await working.clear("t1")
    await working.clear("t1")
    for memory in (working, WorkingMemory(bus, "planner")):
        assert await memory.names("t1") == ()
    await working.put("t1", {"b": 1})  # and may begin again
    assert await WorkingMemory(bus, "planner").names("t1") == ("b",)


async def test_who_was_overtaken_is_told_and_then_sees_what_the_other_put(bus: Bus) -> None:
    one, other = WorkingMemory(bus, "planner"), WorkingMemory(bus, "planner")
    await one.put("t1", {"a": 1})
    await other.put("t1", {"b": 2})
    with pytest.raises(ConflictError, match="another copy"):
        await one.put("t1", {"a": 5})
    assert await one.get_all("t1", {"a": int, "b": int}) == {"a": 1, "b": 2}
    await one.put("t1", {"a": 5})
    await one.clear("t1")
    with pytest.raises(ConflictError):
        await other.put("t1", {"b": 3})


async def test_of_many_copies_that_count_at_once_no_count_is_lost(bus: Bus) -> None:
    async def count(memory: WorkingMemory) -> None:
        for _ in range(10):
            while True:
                try:
                    await memory.put("t1", {"count": (await memory.get("t1", "count", int) or 0) + 1})
                    break
                except ConflictError:
                    continue

    await asyncio.gather(*(count(WorkingMemory(bus, "planner")) for _ in range(4)))
    assert await WorkingMemory(bus, "planner").get("t1", "count", int) == 40


async def test_a_context_has_a_bound_and_what_is_too_large_changes_nothing(bus: Bus) -> None:
    working = WorkingMemory(bus, "planner")
    await working.put("t1", {"a": "x" * 1000})
    with pytest.raises(TerminalError, match=f"{MAX_BYTES} are allowed"):
        await working.put("t1", {"b": "x" * MAX_BYTES})
    assert await working.names("t1") == ("a",)


async def test_no_more_tasks_are_remembered_in_the_process_than_allowed(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.working._TASKS_MAX", 3)
    working = WorkingMemory(bus, "planner")
    for number in range(10):
        await working.put(f"t{number}", {"a": number})
    assert len(working._held) == 3
    assert [await working.get(f"t{number}", "a", int) for number in range(10)] == list(range(10))


async def test_it_goes_on_after_the_bus_was_killed(live: LiveMesh, bus: Bus) -> None:
    working = WorkingMemory(bus, "planner")
    await working.put("t1", {"a": 1})
    live.kill()

    async def puts() -> bool:
        try:
            await working.put("t1", {"b": 2})
        except (BusUnavailableError, ConflictError):
            return False
        return True

    await eventually(puts)
    assert await WorkingMemory(bus, "planner").get_all("t1", {"a": int, "b": int}) == {"a": 1, "b": 2}


COUNTING = """
import asyncio, sys
from pathlib import Path
from mesh.bus import connect
from mesh.identity import Identity
from mesh.working import WorkingMemory

async def main(url, key):
    options = Identity.load(Path(key)).nats_options()
    async with connect(url, name="counting", options=options) as bus:
        working = WorkingMemory(bus, "planner")
        done = await working.get("t1", "done", int) or 0
        while True:
            done += 1
            await working.put("t1", {"done": done})
            print(done, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_second_process_goes_on_from_where_the_first_was_killed(live: LiveMesh, bus: Bus) -> None:
    reached = 0
    for _ in range(3):
        key = live.folder / "keys" / f"{EVERYONE}.nk"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", COUNTING, live.server.url, str(key), stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout is not None
        said = [int(await process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
        said += [int(line) for line in rest.split()]
        # It goes on behind all that the one before had said, and that may have put one more than it could say.
        assert said[0] in (reached + 1, reached + 2)
        reached = said[-1]
    stands = await WorkingMemory(bus, "planner").get("t1", "done", int)
    assert stands in (reached, reached + 1)


async def test_the_bucket_forgets_by_itself(bus: Bus) -> None:
    info = await bus.api(f"STREAM.INFO.KV_{subjects.WORKING_BUCKET}")
    assert info["config"]["max_age"] == 3600 * 1_000_000_000


@given(st.dictionaries(st.text(max_size=5), st.one_of(st.integers(-5, 5), st.text(max_size=5), st.none()), max_size=4))
def test_whatever_is_put_is_what_is_read(parts: dict[str, int | str | None]) -> None:
    """The form in the bucket, without the bus: a round trip of names and values."""
    stored = msgspec.json.encode({name: msgspec.Raw(msgspec.json.encode(value)) for name, value in parts.items()})
    read = WorkingMemory._parts("t", stored)
    assert {name: msgspec.json.decode(part) for name, part in read.items()} == parts
