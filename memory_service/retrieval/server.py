"""Vectors on a Qdrant server, through ``qdrant-client``.

The rule: a generation is a collection of its own; the alias ``name`` points to the one that is searched. Rows are
numbered by one database, so each copy of the service needs a ``name`` of its own.
"""

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from memory_service.retrieval.documents import Where
from memory_service.retrieval.vectors import Entry, VectorIndexError, subjects_of

T = TypeVar("T")

_STAMP_POINT = 0  # rows begin at 1; it has no scope, so no search finds it
_AT_ONCE = 256


class ServerIndex:
    """Collections that begin with ``name``; the client is closed with the index."""

    def __init__(self, client: QdrantClient, name: str) -> None:
        self._client = client
        self._name = name
        self._fresh = ""

    def stamp(self) -> str | None:
        """What stands in the collection that the alias names."""
        if not self._current():
            return None
        found = self._called(lambda: self._client.retrieve(self._name, [_STAMP_POINT], with_payload=True))
        payload = found[0].payload if found else None
        return str(payload["stamp"]) if payload else None

    def begin(self, stamp: str, size: int) -> None:
        """Make an empty collection, its stamp in it."""
        self._sweep()
        self._fresh = fresh = f"{self._name}-{uuid.uuid4().hex}"
        vectors = models.VectorParams(
            size=size, distance=models.Distance.COSINE, datatype=models.Datatype.FLOAT16, on_disk=False
        )
        self._called(lambda: self._client.create_collection(fresh, vectors_config=vectors))
        for field in ("scope", "subject", "predicate"):
            schema = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=field == "scope")
            self._called(partial(self._client.create_payload_index, fresh, field, schema))
        mark = models.PointStruct(id=_STAMP_POINT, vector=[1.0] + [0.0] * (size - 1), payload={"stamp": stamp})
        self._called(lambda: self._client.upsert(fresh, [mark], wait=True))

    def finish(self) -> None:
        """Turn the alias to the fresh collection, then delete the one before."""
        if not self._fresh:
            raise VectorIndexError("no generation was begun")
        new = models.CreateAlias(collection_name=self._fresh, alias_name=self._name)
        turn: list[models.AliasOperations] = [models.CreateAliasOperation(create_alias=new)]
        if self._current():
            old = models.DeleteAlias(alias_name=self._name)
            turn.insert(0, models.DeleteAliasOperation(delete_alias=old))
        self._called(lambda: self._client.update_collection_aliases(turn))
        self._fresh = ""
        self._sweep()

    def put(self, entries: Sequence[Entry]) -> None:
        """Insert or replace points; they are on the server's disk when it answers."""
        points = [
            models.PointStruct(id=entry.row, vector=list(entry.vector), payload=_payload(entry.where))
            for entry in entries
        ]
        for start in range(0, len(points), _AT_ONCE):
            some = points[start : start + _AT_ONCE]
            self._called(partial(self._client.upsert, self._fresh or self._name, some, wait=True))

    def drop(self, rows: Sequence[int]) -> None:
        """Delete points."""
        ids: list[models.ExtendedPointId] = list(rows)
        for name in filter(None, (self._current() and self._name, self._fresh)):
            self._called(partial(self._client.delete, name, models.PointIdsList(points=ids), wait=True))

    def flush(self) -> None:
        """Nothing: the server answers a write when it is in its log."""

    def search(self, vector: Sequence[float], where: Where, limit: int) -> list[tuple[int, float]]:
        """The nearest points, as the server finds them (it may use an approximate graph)."""
        found = self._called(
            lambda: self._client.query_points(
                self._name, query=list(vector), query_filter=_filter(where), limit=limit, with_payload=False
            )
        )
        return [(int(point.id), point.score) for point in found.points]

    def count(self) -> int:
        """The points that are searched, without the stamp."""
        if not self._current():
            return 0
        return self._called(lambda: self._client.count(self._name, exact=True)).count - 1

    def wipe(self) -> None:
        """Delete all collections of this name."""
        self._fresh = ""
        self._sweep(keep="")

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def _current(self) -> str:
        """The collection that the alias names, or ""."""
        aliases = self._called(self._client.get_aliases).aliases
        return next((each.collection_name for each in aliases if each.alias_name == self._name), "")

    def _sweep(self, keep: str | None = None) -> None:
        keep = self._current() if keep is None else keep
        for each in self._called(self._client.get_collections).collections:
            if each.name.startswith(f"{self._name}-") and each.name != keep:
                self._called(partial(self._client.delete_collection, each.name))

    def _called(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (ApiException, ValueError, OSError) as error:
            raise VectorIndexError(f"the Qdrant server's answer to {self._name!r} failed: {error}") from error


def _payload(where: Where) -> dict[str, object]:
    return {"scope": where.scope, "subject": subjects_of(where.subject), "predicate": where.predicate}


def _filter(where: Where) -> models.Filter:
    return models.Filter(
        must=[
            models.FieldCondition(key=key, match=models.MatchValue(value=value))
            for key, value in where._asdict().items()
            if value or key == "scope"
        ]
    )
