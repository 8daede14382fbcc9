"""``workmesh models``: the ledger adds up to the micro-dollar, by every key, and says so when it does not."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from mesh import subjects
from mesh.clock import now
from mesh.inference import Completion, ModelRole, Tier
from mesh.journal import Message, committing
from mesh.scripted.conversations import Turn
from mesh.spending import Window, dollars
from tests.agents.model.desk import ANSWER, DOMAIN, LARGE, SMALL, Desk, desk_in
from tests.console.conftest import WORKMESH

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Desk, list[Completion]]]:
    """A site on which five questions were answered."""
    async with desk_in(tmp_path_factory.mktemp("w")) as desk:
        desk.says(Turn(answer=ANSWER))
        desk.says(Turn(answer=ANSWER, disconnect="after"), user="lost", model=LARGE)
        async with desk.model():
            found = [await desk.ask(f"question {number}") for number in range(3)]
            await desk.settled()
            found.append(await desk.ask("question 0"))  # as answered before
            found.append(await desk.ask("lost", chain=(Tier.LARGE, Tier.SMALL), role=ModelRole.EXTRACT))
            await desk.settled()
        yield desk, found


async def models(desk: Desk, *args: str, code: int = 0) -> Any:
    """What ``workmesh models`` prints with ``--json``."""
    process = await asyncio.create_subprocess_exec(
        str(WORKMESH),
        "models",
        *args,
        "--json",
        env={**os.environ, **desk.world.env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == code, (args, err.decode())
    return msgspec.json.decode(out)


async def test_the_ledger_adds_up_by_every_key(asked: tuple[Desk, list[Completion]]) -> None:
    desk, found = asked
    total = sum(usage.cost_micro_usd for each in found for usage in each.usage)
    uncertain = sum(usage.cost_micro_usd for each in found for usage in each.usage if not usage.certain)
    keys = {
        "task": {each.header.task_id for each in found},
        "domain": {DOMAIN},
        "model": {SMALL, LARGE},
        "role": {"classify", "extract"},
        "day": {f"{now():%Y-%m-%d}"},
        "outcome": {"open"},
    }
    for by, wanted in keys.items():
        view = await desk.ledger(by)
        assert {line.key for line in view.lines} == wanted, by
        assert sum(line.cost_micro_usd for line in view.lines) == view.total.cost_micro_usd == total
        assert view.total.uncertain_micro_usd == uncertain > 0
        assert (view.total.completions, view.total.reused) == (5, 1)
    assert await models(desk, "ledger", "--by", "outcome") == msgspec.to_builtins(await desk.ledger("outcome"))
    assert total - uncertain < desk.invoice() < total


async def test_since_leaves_out_what_was_before(asked: tuple[Desk, list[Completion]]) -> None:
    desk, found = asked
    since = found[-1].header.at
    view = await models(desk, "ledger", "--since", f"{since:%Y-%m-%dT%H:%M:%S}", "--by", "task")
    assert found[-1].header.task_id in {line["key"] for line in view["lines"]}
    later = await models(desk, "ledger", "--since", "2099-01-01")
    assert (later["lines"], later["total"]["calls"]) == ([], 0)


async def test_the_list_has_tiers_prices_and_todays_budget(asked: tuple[Desk, list[Completion]]) -> None:
    desk, found = asked
    view = await models(desk, "list")
    assert {line["tier"]: line["model"] for line in view["models"]}["small"] == SMALL
    assert all(line["rates"]["interactive"]["tokens_out"] > 0 for line in view["models"])
    (budget,) = view["budgets"]
    assert budget["spent"] == sum(usage.cost_micro_usd for each in found for usage in each.usage)
    assert (budget["domain"], budget["budget"], budget["open"]) == (DOMAIN, 10_000_000, 0)


async def test_people_see_dollars(asked: tuple[Desk, list[Completion]]) -> None:
    desk, found = asked
    total = sum(usage.cost_micro_usd for each in found for usage in each.usage)
    env = {**os.environ, **desk.world.env}
    for args, said in ((("list",), SMALL), (("ledger", "--by", "task", "--check"), dollars(total))):
        process = await asyncio.create_subprocess_exec(
            str(WORKMESH), "models", *args, env=env, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert said in out.decode()


async def test_the_check_tells_a_window_that_differs_from_its_completions(asked: tuple[Desk, list[Completion]]) -> None:
    desk, _ = asked
    view = await models(desk, "ledger", "--check")
    assert view["agrees"]
    name = subjects.spend(DOMAIN, f"{now():%Y-%m-%d}")
    stands = await desk.world.bus.last(subjects.JOURNAL, name)
    assert stands is not None
    window = msgspec.json.decode(stands.data, type=Window)
    forged = msgspec.structs.replace(window, spent=window.spent + 1)
    async with desk.world.connected("model") as bus, committing(bus) as committer:
        await committer.commit([Message(name, msgspec.json.encode(forged), expected=stands.seq)])
    view = await models(desk, "ledger", "--check", code=1)
    (line,) = view["windows"]
    assert (line["agrees"], line["spent"] - line["completions"]) == (False, 1)
