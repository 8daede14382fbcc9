"""The demonstration's approver: a person's key that says yes to whatever waits, the way a person would."""

import asyncio
from collections.abc import Sequence

import structlog

from console.words import say
from mesh import service
from mesh.approvals import Nothing, Shown, TaskRequest, Waiting
from mesh.bus import Bus
from mesh.errors import BusUnavailableError
from mesh.identity import Identity
from mesh.records import Purpose, Word

log = structlog.get_logger(__name__)

_EVERY_S = 0.25
# A word that was taken leaves the list within a moment; one that was not (the shop is away, say) is said again.
_AGAIN_S = 2.0


async def approve_all(bus: Bus, person: Identity, roles: Sequence[str]) -> None:
    """Approve what waits for one of these roles, until cancelled."""
    said: dict[str, float] = {}
    clock = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(_EVERY_S)
        try:
            waiting = await service.ask(bus, "policy", "list", Nothing(), list[Waiting])
            for item in waiting:
                asked = (role.partition(":")[0] for role in item.roles)  # "role:2" asks for two people
                role = next((role for role in asked if role in roles), None)
                if item.purpose is not Purpose.PLAN or not role or clock() - said.get(item.task_id, 0.0) < _AGAIN_S:
                    continue
                said[item.task_id] = clock()
                await _approve(bus, person, role, item.task_id)
        except BusUnavailableError as error:
            log.info("approver_waits", error=str(error))


async def _approve(bus: Bus, person: Identity, role: str, task_id: str) -> None:
    try:
        shown = await service.ask(bus, "policy", "show", TaskRequest(task_id=task_id), Shown)
        await say(bus, person, shown, role, Word.APPROVE, comment="approved by the demonstration")
    except service.ServiceError as error:
        # The answer to an earlier word was lost with a killed process, but the word was taken.
        log.info("approval_not_taken", task_id=task_id, error=str(error))
