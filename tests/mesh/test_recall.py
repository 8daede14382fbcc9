"""Recall against a real bus and a small real memory: what is cached, what is asked, and what is said of old facts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import msgspec
import pytest

from mesh import metrics, service
from mesh.bus import Bus
from mesh.clock import now
from mesh.facts import RecalledFact, Scope, Slot
from mesh.memory import Changed, Question, RecallAnswer, RecallRequest
from mesh.recall import Recall, recalling
from mesh.service import serving
from mesh.settings import RecallSettings
from mesh.subjects import memory_changed
from tests.mesh.live_mesh import LiveMesh, eventually

SCOPE = Scope(domain="shop")
OMAR = Question(scope=SCOPE, subject="customer/omar")
ANNA = Question(scope=SCOPE, subject="customer/anna")
WORDS = Question(scope=SCOPE, query="late parcel")
SETTINGS = RecallSettings()


@dataclass
class Memory:
    """Facts by subject, as a memory service answers them: with a sequence, and a hint when one changes."""

    bus: Bus
    facts: dict[str, RecalledFact] = field(default_factory=dict)
    seq: int = 0
    requests: int = 0
    answers_as_of: int = 0  # a copy that is behind answers as of this for the next request
    hold: asyncio.Event | None = None

    async def recall(self, request: RecallRequest) -> RecallAnswer:
        self.requests += 1
        if self.hold is not None:
            await self.hold.wait()
        seq, self.answers_as_of = self.answers_as_of or self.seq, 0
        found = tuple(
            tuple(fact for fact in self.facts.values() if question.subject in ("", fact.subject))
            for question in request.questions
        )
        return RecallAnswer(facts=found, seq=seq)

    async def set(self, subject: str, text: str, *, tell: bool = True, **more: object) -> None:
        self.seq += 1
        one = RecalledFact(
            id=f"{subject}-{self.seq}",
            version=self.seq,
            scope=SCOPE.text,
            subject=subject,
            predicate="note",
            text=text,
            source="test",
        )
        self.facts[subject] = msgspec.structs.replace(one, **more)
        if tell:
            await self.tell(subject)

    async def erase(self, subject: str) -> None:
        self.seq += 1
        del self.facts[subject]
        await self.tell(subject)

    async def tell(self, subject: str, seq: int = 0) -> None:
        tokens = Slot(scope=SCOPE, subject=subject, predicate="note").tokens
        await self.bus.publish(memory_changed(*tokens), msgspec.json.encode(Changed(seq=seq or self.seq)))
        await self.bus.settle()


@dataclass
class Clock:
    """A clock that a test moves."""

    s: float = 1000.0

    def __call__(self) -> float:
        return self.s


@dataclass
class World:
    live: LiveMesh
    memory: Memory
    recall: Recall
    clock: Clock
    serving: AsyncExitStack
    planner: Bus

    async def texts(self, *questions: Question) -> list[str]:
        return [fact.text for fact in (await self.recall.recall(questions)).facts]

    async def memory_away(self) -> None:
        """Have nobody answer any more."""
        await self.serving.aclose()
        if self.memory.bus.is_connected:
            await self.memory.bus.settle()

    async def heard(self) -> None:
        """Return when the planner has what was told so far."""
        await self.planner.settle()


@asynccontextmanager
async def world_on(live: LiveMesh, settings: RecallSettings = SETTINGS) -> AsyncIterator[World]:
    clock = Clock()
    async with live.bus("memory") as bus, live.bus("planner") as planner, AsyncExitStack() as answering:
        memory = Memory(bus)
        await answering.enter_async_context(serving(bus, "memory", {"recall": (RecallRequest, memory.recall)}))
        async with recalling(planner, settings, clock=clock) as recall:
            yield World(live, memory, recall, clock, answering, planner)


@pytest.fixture
async def world(live: LiveMesh) -> AsyncIterator[World]:
    async with world_on(live) as found:
        await found.memory.set("customer/omar", "patient")
        await found.memory.set("customer/anna", "hasty")
        await found.heard()
        yield found


async def test_all_questions_are_one_request_and_a_warm_cache_needs_none(world: World) -> None:
    assert await world.texts(OMAR, ANNA) == ["patient", "hasty"]
    assert world.memory.requests == 1
    for _ in range(5):
        assert await world.texts(ANNA, OMAR) == ["hasty", "patient"]
    assert world.memory.requests == 1
    await world.texts(OMAR, WORDS)
    assert world.memory.requests == 2


async def test_a_change_is_seen_by_the_next_plan_and_costs_no_other_question(world: World) -> None:
    await world.texts(OMAR, ANNA, WORDS)
    await world.memory.set("customer/omar", "angry")
    await world.heard()
    assert await world.texts(ANNA) == ["hasty"]
    assert world.memory.requests == 1
    assert await world.texts(OMAR) == ["angry"]
    assert await world.texts(WORDS) == ["angry", "hasty"]
    assert world.memory.requests == 3


async def test_an_erased_subject_leaves_the_cache_at_once(world: World) -> None:
    await world.texts(OMAR, WORDS)
    await world.memory.erase("customer/omar")
    await world.heard()
    await world.memory_away()
    found = await world.recall.recall([OMAR, WORDS])
    assert found.facts == ()
    assert len(found.notes) == 2
    assert all(note.startswith("planned without memory of ") for note in found.notes)


async def test_old_answers_are_asked_anew_though_no_change_was_heard(world: World) -> None:
    await world.texts(OMAR)
    await world.memory.set("customer/omar", "angry", tell=False)
    world.clock.s += SETTINGS.fresh_s - 1
    assert await world.texts(OMAR) == ["patient"]
    world.clock.s += 2
    assert await world.texts(OMAR) == ["angry"]


async def test_a_fact_that_ceases_to_be_valid_is_not_served_from_the_cache(world: World) -> None:
    await world.memory.set("customer/omar", "brief", valid_to=now() + timedelta(seconds=0.3))
    await world.heard()
    assert await world.texts(OMAR) == ["brief"]

    async def is_over() -> bool:
        return await world.texts(OMAR) == []

    await eventually(is_over)
    assert world.memory.requests == 1


async def test_without_memory_it_goes_on_with_what_it_has_and_says_how_old_that_is(world: World) -> None:
    await world.texts(OMAR)
    await world.memory_away()
    world.clock.s += SETTINGS.stale_max_s - 1
    found = await world.recall.recall([OMAR, ANNA])
    assert [fact.text for fact in found.facts] == ["patient"]
    assert [note.partition(" (")[0] for note in found.notes] == [
        "planned without memory of customer/anna: nobody answers svc.memory.recall",
        "memory did not answer",
    ]
    assert found.notes[1].endswith("+00:00, 299 s old")
    world.clock.s += 2
    assert (await world.recall.recall([OMAR])).facts == ()


async def test_after_a_lost_connection_nothing_counts_as_known_and_the_first_answer_drops_the_rest(
    live: LiveMesh, world: World
) -> None:
    await world.texts(OMAR, ANNA)
    connection = world.planner.connection
    live.kill()

    async def is_back() -> bool:
        return world.planner.connection > connection and world.planner.is_connected

    away = await world.recall.recall([OMAR]) if not world.planner.is_connected else None
    await eventually(is_back)
    if away is not None:
        assert [fact.text for fact in away.facts] == ["patient"]
        assert "memory did not answer" in away.notes[0]
    await world.memory.set("customer/omar", "angry", tell=False)  # a change that was missed

    async def answers() -> bool:
        return await world.texts(OMAR) == ["angry"]

    await eventually(answers)
    await world.memory_away()
    assert await world.texts(ANNA) == []


async def test_changes_are_heard_after_a_reconnect(live: LiveMesh, world: World) -> None:
    live.kill()

    async def is_warm() -> bool:
        requests = world.memory.requests
        return await world.texts(OMAR) == ["patient"] and world.memory.requests == requests

    await eventually(is_warm)
    await eventually(lambda: _is_connected(world.memory.bus))
    await world.memory.set("customer/omar", "angry")
    await world.heard()
    assert await world.texts(OMAR) == ["angry"]


async def _is_connected(bus: Bus) -> bool:
    return bus.is_connected


async def test_a_copy_that_is_behind_a_change_heard_is_asked_again_and_its_answer_is_not_kept(world: World) -> None:
    world.memory.answers_as_of = world.memory.seq - 1
    assert await world.texts(ANNA) == ["hasty"]
    assert world.memory.requests == 2
    await world.memory.tell("customer/omar", seq=world.memory.seq + 5)  # by a copy that is ahead of ours
    await world.heard()
    before = world.memory.requests
    found = await world.recall.recall([OMAR])
    assert [fact.text for fact in found.facts] == ["patient"]
    assert found.notes == (f"memory answered as of {world.memory.seq}, before a change that was told",)
    assert world.memory.requests == before + 2
    await world.recall.recall([OMAR])
    assert world.memory.requests == before + 4


async def test_an_answer_that_a_change_overtakes_on_its_way_is_not_kept(world: World) -> None:
    world.memory.hold = asyncio.Event()
    asking = asyncio.create_task(world.texts(OMAR))
    await eventually(lambda: _has_asked(world.memory))
    await world.memory.tell("customer/omar", seq=world.memory.seq + 1)
    await world.heard()
    world.memory.hold.set()
    assert await asking == ["patient"]
    world.memory.hold = None
    world.memory.seq += 1
    assert await world.texts(OMAR) == ["patient"]
    assert world.memory.requests == 2


async def _has_asked(memory: Memory) -> bool:
    return memory.requests > 0


async def test_memory_that_hangs_is_not_waited_for_by_every_plan(live: LiveMesh) -> None:
    async with world_on(live, msgspec.structs.replace(SETTINGS, timeout_s=0.05)) as world:
        await world.memory.set("customer/omar", "patient")
        await world.texts(OMAR)
        world.clock.s += 60
        world.memory.hold = asyncio.Event()
        for _ in range(20):
            assert await world.texts(OMAR) == ["patient"]
        assert world.memory.requests == 1 + 5
        world.memory.hold.set()
        world.clock.s += 1
        found = await world.recall.recall([OMAR])
        assert found.notes == ()


async def test_a_refusal_is_told_in_the_notes(live: LiveMesh) -> None:
    async def refuse(_: RecallRequest) -> RecallAnswer:
        raise service.ServiceError("the index is being built")

    async with (
        live.bus("memory") as bus,
        live.bus("planner") as planner,
        serving(bus, "memory", {"recall": (RecallRequest, refuse)}),
        recalling(planner, SETTINGS) as recall,
    ):
        found = await recall.recall([OMAR, WORDS])
    assert found.notes == (
        "planned without memory of customer/omar: the index is being built",
        "planned without memory of organisation/shop/-: the index is being built",
    )


async def test_a_change_that_cannot_be_read_empties_the_cache(world: World) -> None:
    await world.texts(OMAR)
    await world.memory.bus.publish("memory.changed.a.b.c", b"no json")
    await world.memory.bus.settle()
    await world.heard()
    await world.texts(OMAR)
    assert world.memory.requests == 2


async def test_hits_misses_stale_answers_and_their_age_are_counted(world: World) -> None:
    def counted() -> dict[str, float]:
        return {
            result: metrics.RECALLS.labels(result=result)._value.get() for result in ("hit", "miss", "stale", "none")
        }

    before = counted()
    await world.texts(OMAR)
    await world.texts(OMAR)
    await world.texts(OMAR)
    assert metrics.RECALL_KEPT._value.get() == 1
    await world.memory_away()
    world.clock.s += 100
    await world.texts(OMAR, ANNA)
    after = counted()
    assert {name: after[name] - before[name] for name in after} == {"miss": 1, "hit": 2, "stale": 1, "none": 1}
    samples = [sample for metric in metrics.RECALL_STALENESS.collect() for sample in metric.samples]
    old = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket") and s.labels["result"] == "stale"}
    assert old["120.0"] > old["60.0"]


async def test_nobody_but_memory_may_tell_of_changes(live: LiveMesh) -> None:
    for role in ("planner", "learner", "executor"):
        async with live.bus(role) as bus:
            await bus.publish("memory.changed.a.b.c", b'{"seq":1}')
            await bus.settle()
            await eventually(partial(_was_denied, bus))


async def _was_denied(bus: Bus) -> bool:
    return "memory.changed.a.b.c" in bus.denied
