"""What is left of each objective's error budget, as a Prometheus has measured it.

The rule: what Prometheus has no numbers of is said to be unknown, never to be fine.
"""

from collections.abc import Sequence

import httpx2
import msgspec

from console.slo.objectives import Objective, read_objectives
from mesh.errors import WorkmeshError

_LIMIT_S = 15.0


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """An objective, and what was measured over its window: both in per cent, ``None`` where nothing was counted.

    ``left`` is the part of the error budget that is left; below 0 the objective is missed.
    """

    name: str
    title: str
    objective: float
    window: str
    measured: float | None
    left: float | None


class _Data(msgspec.Struct, frozen=True):
    result: tuple[msgspec.Raw, ...] = ()


class _Answer(msgspec.Struct, frozen=True):
    status: str
    data: _Data = _Data()
    error: str = ""


class _Sample(msgspec.Struct, frozen=True):
    value: tuple[float, str]


async def budgets(url: str, objectives: Sequence[Objective] | None = None) -> list[Budget]:
    """Ask the Prometheus at ``url`` about each objective (by default those that ship).

    Raises ``WorkmeshError`` when it cannot be asked, or does not understand.
    """
    wanted = read_objectives() if objectives is None else objectives
    async with httpx2.AsyncClient(base_url=url, timeout=_LIMIT_S, trust_env=False) as client:
        return [budget_of(each, await _ask(client, each.sli.errors(each.window))) for each in wanted]


def budget_of(objective: Objective, errors: float | None) -> Budget:
    """The budget under this share of errors."""
    is_known = errors is not None
    return Budget(
        name=objective.name,
        title=objective.title,
        objective=objective.objective,
        window=objective.window,
        measured=round(100 * (1 - errors), 4) if is_known and errors is not None else None,
        left=round(100 * (1 - errors / objective.budget), 2) if is_known and errors is not None else None,
    )


async def _ask(client: httpx2.AsyncClient, query: str) -> float | None:
    """The value of a query that has at most one; ``None`` when it has none."""
    try:
        response = await client.post("/api/v1/query", data={"query": query})
        answer = msgspec.json.decode(response.content, type=_Answer)
        if answer.status != "success":
            raise WorkmeshError(f"Prometheus at {client.base_url} refused {query}: {answer.error}")
        values = [float(msgspec.json.decode(each, type=_Sample).value[1]) for each in answer.data.result]
    except httpx2.HTTPError as error:
        raise WorkmeshError(f"Prometheus at {client.base_url} cannot be asked: {error!r}") from error
    except msgspec.DecodeError as error:
        raise WorkmeshError(f"{client.base_url} answers as no Prometheus does: {error}") from error
    return next((value for value in values if value == value), None)
