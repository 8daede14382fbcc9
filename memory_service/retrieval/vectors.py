"""The vector index as retrieval sees it: one interface, and a contract suite that every implementation passes.

The rule: an index holds the vectors of one model only. Another model, or a database that was made anew, is another
``stamp``; then a fresh generation is filled beside the one that is searched, and takes its place when it is whole.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from memory_service.retrieval.documents import Where
from mesh.errors import WorkmeshError


class VectorIndexError(WorkmeshError):
    """The index is away or damaged; words still find, and what it holds can be made anew."""


class Entry(NamedTuple):
    """A vector to be found; ``row`` is the document's number in the database, of which each is used once."""

    row: int
    vector: Sequence[float]
    where: Where


class VectorIndex(Protocol):
    """Finds vectors by cosine. Calls block, and come one at a time; every one may raise ``VectorIndexError``."""

    def stamp(self) -> str | None:
        """What the generation that is searched was made for; ``None`` when there is none that is whole."""
        ...

    def begin(self, stamp: str, size: int) -> None:
        """Start a fresh generation for vectors of ``size`` numbers; one that was begun before is thrown away.

        From here on ``put`` fills it, ``search`` uses the one before.
        """
        ...

    def finish(self) -> None:
        """Search the fresh generation from now on, and delete the one before from disk."""
        ...

    def put(self, entries: Sequence[Entry]) -> None:
        """Insert or replace, into the fresh generation if one is begun."""
        ...

    def drop(self, rows: Sequence[int]) -> None:
        """Remove from every generation; unknown rows are no error."""
        ...

    def flush(self) -> None:
        """Return once all that was put and dropped outlives the process."""
        ...

    def search(self, vector: Sequence[float], where: Where, limit: int) -> list[tuple[int, float]]:
        """The nearest rows with their cosine, best first."""
        ...

    def count(self) -> int:
        """How many vectors the generation holds that is searched."""
        ...

    def wipe(self) -> None:
        """Delete everything."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def subjects_of(subject: str) -> list[str]:
    """A subject and every prefix of it that a filter can name: ``a/b`` is found under ``a/b`` and ``a/``."""
    places = [place for place, letter in enumerate(subject) if letter == "/"]
    return list(dict.fromkeys([subject, *(subject[: place + 1] for place in places)]))
