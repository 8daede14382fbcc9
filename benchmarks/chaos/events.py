"""Events for the cells, made from the sample: customers who have pending orders sent elsewhere, time and again.

The rule: no event needs a person, and a seed makes the same events.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mesh.canonical import task_id
from mesh.records import OutcomeStatus

SOURCE = "/chaos"
_SAGA_ORDERS = 12  # an undo must not meet another task's change of the order


@dataclass(frozen=True, slots=True)
class Made:
    """One event as it goes out, and what is to come of it."""

    line: bytes
    task_id: str
    entity: str
    ending: OutcomeStatus


class Orders:
    """The pending orders of the sample: some are for tasks that complete, others for those that are compensated."""

    def __init__(self, sample: Path) -> None:
        orders = msgspec.json.decode((sample / "orders.json").read_bytes(), type=dict[str, dict[str, Any]])
        pending = [(name, order["user_id"]) for name, order in sorted(orders.items()) if order["status"] == "pending"]
        self._sagas, self._plain = pending[:_SAGA_ORDERS], pending[_SAGA_ORDERS:]

    def make(self, prefix: str, draw: random.Random, count: int, sagas: int = 0) -> Iterator[Made]:
        """``count`` events on about half as many orders, ``sagas`` of them to be compensated, in mixed order."""
        plain = draw.sample(self._plain, min(len(self._plain), max(1, (count - sagas + 1) // 2)))
        kinds = [True] * sagas + [False] * (count - sagas)
        draw.shuffle(kinds)
        undone = iter(draw.sample(self._sagas, sagas))
        for number, saga in enumerate(kinds):
            order, user = next(undone) if saga else draw.choice(plain)
            yield _event(f"{prefix}-{number}", order, user, draw, saga=saga)


def _event(event_id: str, order: str, user: str, draw: random.Random, *, saga: bool) -> Made:
    kind = "saga.move.requested" if saga else "retail.change-address.requested"
    data = {
        "user_id": user,
        "order_id": order,
        "address1": f"{draw.randrange(1, 400)} Mill Race",
        "address2": f"Unit {draw.randrange(1, 60)}",
        "city": draw.choice(["Astoria", "Bangor", "Duluth", "Galena"]),
        "country": "USA",
        "state": "OR",
        "zip": f"{draw.randrange(10000, 99999)}",
    }
    event = {"specversion": "1.0", "id": event_id, "source": SOURCE, "type": kind, "subject": order, "data": data}
    ending = OutcomeStatus.COMPENSATED if saga else OutcomeStatus.COMPLETED
    return Made(msgspec.json.encode(event), task_id(SOURCE, event_id), order, ending)
