"""Intake killed at every boundary of a request: who sends again is answered, and each event is there once."""

from pathlib import Path

import httpx2
import msgspec
import pytest

from mesh.records import OutcomeStatus
from tests.agents.intake.reception import Reception, entry, reception_in
from tests.ledger_pack.running import until

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

POINTS = ("before_taking", "before_answer")


async def sent_until_taken(site: Reception, path: str, body: bytes, kind: str) -> list[str]:
    """Send as a careful sender does: again, as long as no answer comes; the tasks."""
    tasks: list[str] = []

    async def is_taken() -> bool:
        url = (site.world.site.folder / "intake" / "url").read_text(encoding="utf-8").strip()
        headers = {"authorization": f"Bearer {site.token}", "content-type": kind}
        try:
            async with httpx2.AsyncClient(base_url=url, timeout=10, trust_env=False) as client:
                answer = await client.post(path, content=body, headers=headers)
        except httpx2.TransportError:
            return False
        if answer.status_code != 202:
            assert answer.status_code == 503, answer.text
            return False
        said = answer.json()
        tasks.extend(each["task_id"] for each in said.get("events", [said]))
        return True

    await until(is_taken)
    return tasks


@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_intake_loses_and_repeats_nothing(tmp_path: Path, point: str) -> None:
    async with reception_in(tmp_path, "perception", "planner", "policy", "executor") as site:
        await site.restart(fault=f"intake.{point}=kill@{tmp_path / 'once'}")
        form = b"account=killed&amount=3"
        tasks = await sent_until_taken(site, "/webhooks/form", form, "application/x-www-form-urlencoded")
        event = msgspec.json.encode(entry("after"))
        tasks += await sent_until_taken(site, "/events", event, "application/cloudevents+json")
        assert (tmp_path / "once").exists()
        for task in tasks:
            assert (await site.world.outcome(task)).status is OutcomeStatus.COMPLETED
            assert len(site.world.applied(task)) == 1
        assert len(tasks) == 2
