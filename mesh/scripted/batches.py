"""Message batches: prompts that are answered some time later, at half the price.

The rule: what a batch is follows from the clock. An item is done when its time is over, and billed then; what is not
done when the batch is cancelled or expires never is.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from mesh.scripted.calls import Call
from mesh.scripted.replies import Refused

PATH = "/v1/messages/batches"
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MOST_ITEMS = 100_000
_MOST_LISTED = 1000
_CANCELS_S = 0.05
_COUNTS = ("succeeded", "errored", "canceled", "expired")


class Item(msgspec.Struct, kw_only=True):
    """One prompt of a batch: when it is done and what it then comes to."""

    custom_id: str
    done_at: float
    result: dict[str, Any]
    call: Call
    billed: bool = False


class Batch(msgspec.Struct, kw_only=True):
    """A batch. ``cancelled_at`` is when somebody asked for its end."""

    id: str
    created_at: float
    expires_at: float
    items: tuple[Item, ...]
    cancelled_at: float | None = None

    @property
    def ended_at(self) -> float:
        """When nothing more comes of it."""
        over = min(max(item.done_at for item in self.items), self.expires_at)
        return over if self.cancelled_at is None else min(over, self.cancelled_at + _CANCELS_S)

    def status(self, now: float) -> Literal["in_progress", "canceling", "ended"]:
        """Its processing status."""
        return "ended" if now >= self.ended_at else "in_progress" if self.cancelled_at is None else "canceling"

    def result(self, item: Item) -> dict[str, Any]:
        """What an item came to when the batch ended."""
        if item.done_at <= self.ended_at:
            return item.result
        return {"type": "expired" if self.ended_at >= self.expires_at else "canceled"}


class Batches:
    """All batches of the provider; ``take_up`` answers a prompt: seconds that it takes, its result, its call."""

    def __init__(
        self,
        clock: Callable[[], float],
        take_up: Callable[[str, str, object], tuple[float, dict[str, Any], Call]],
        expires_s: float,
    ) -> None:
        self._clock = clock
        self._take_up = take_up
        self._expires_s = expires_s
        self._batches: dict[str, Batch] = {}
        self._made = 0

    def create(self, body: object) -> Batch:
        """Take a batch; raises ``Refused`` where it is none."""
        requests = body.get("requests") if isinstance(body, dict) else None
        if not isinstance(requests, list) or not 1 <= len(requests) <= _MOST_ITEMS:
            raise Refused(400, f"requests: a list of 1 to {_MOST_ITEMS} is required")
        ids = [request.get("custom_id") if isinstance(request, dict) else None for request in requests]
        for custom_id in ids:
            if not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
                raise Refused(400, f"requests: custom_id {custom_id!r} must match {_CUSTOM_ID.pattern}")
        if len(set(ids)) != len(ids):
            raise Refused(400, "requests: custom_id must be unique in the batch")
        self._made += 1
        now, batch_id = self._clock(), f"msgbatch_scripted_{self._made:04}"
        items = tuple(self._item(batch_id, now, request) for request in requests)
        batch = Batch(id=batch_id, created_at=now, expires_at=now + self._expires_s, items=items)
        self._batches[batch_id] = batch
        return batch

    def _item(self, batch_id: str, now: float, request: Mapping[str, Any]) -> Item:
        custom_id = request["custom_id"]
        takes_s, result, call = self._take_up(batch_id, custom_id, request.get("params"))
        return Item(custom_id=custom_id, done_at=now + takes_s, result=result, call=call)

    def find(self, batch_id: str) -> Batch:
        """The batch of this id; raises ``Refused`` (404)."""
        if batch := self._batches.get(batch_id):
            return batch
        raise Refused(404, f"No message batch was found with id {batch_id}")

    def cancel(self, batch_id: str) -> Batch:
        """Ask for its end."""
        batch = self.find(batch_id)
        if batch.status(self._clock()) == "in_progress" and batch.cancelled_at is None:
            batch.cancelled_at = self._clock()
        return batch

    def delete(self, batch_id: str) -> None:
        """Forget an ended batch."""
        if self.find(batch_id).status(self._clock()) != "ended":
            raise Refused(400, f"Message batch {batch_id} cannot be deleted while it is in progress")
        del self._batches[batch_id]

    def results(self, batch_id: str) -> Iterator[dict[str, Any]]:
        """What came of each item, in another order than asked; raises ``Refused`` while it is in progress."""
        batch = self.find(batch_id)
        if batch.status(self._clock()) != "ended":
            raise Refused(404, f"Message batch {batch_id} has no results yet")
        for item in sorted(batch.items, key=lambda item: hashlib.sha256(item.custom_id.encode()).digest()):
            yield {"custom_id": item.custom_id, "result": batch.result(item)}

    def page(self, after_id: str, before_id: str, limit: int, url: str) -> dict[str, Any]:
        """A page of the list, newest first."""
        if not 1 <= limit <= _MOST_LISTED:
            raise Refused(400, f"limit: 1 to {_MOST_LISTED}")
        newest = list(reversed(self._batches.values()))
        ids = [batch.id for batch in newest]
        if before_id:
            until = ids.index(self.find(before_id).id)
            start = max(0, until - limit)
            found, more = newest[start:until], start > 0
        else:
            start = ids.index(self.find(after_id).id) + 1 if after_id else 0
            found, more = newest[start : start + limit], start + limit < len(newest)
        first, last = (found[0].id, found[-1].id) if found else (None, None)
        data = [self.plain(batch, url) for batch in found]
        return {"data": data, "has_more": more, "first_id": first, "last_id": last}

    def due(self) -> list[Call]:
        """The calls of items that were done since it was last asked, as they were done."""
        now, done = self._clock(), []
        for batch in self._batches.values():
            for item in batch.items:
                if not item.billed and item.done_at <= min(now, batch.ended_at):
                    item.billed = True
                    done.append((item.done_at, item.call))
        return [call for _, call in sorted(done, key=lambda pair: pair[0])]

    def plain(self, batch: Batch, url: str) -> dict[str, Any]:
        """A batch as the API answers it; until it has ended all its items are processing."""
        status = batch.status(self._clock())
        kinds = [batch.result(item)["type"] for item in batch.items] if status == "ended" else []
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": {kind: kinds.count(kind) for kind in _COUNTS}
            | {"processing": len(batch.items) - len(kinds)},
            "created_at": _time(batch.created_at),
            "expires_at": _time(batch.expires_at),
            "ended_at": _time(batch.ended_at) if status == "ended" else None,
            "cancel_initiated_at": None if batch.cancelled_at is None else _time(batch.cancelled_at),
            "archived_at": None,
            "results_url": f"{url}{PATH}/{batch.id}/results" if status == "ended" else None,
        }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
