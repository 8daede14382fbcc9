"""Answers of read-only tools kept near the agent, as long as their tools allow.

The rule: only what has no effect, only under the same tool and arguments, and never more than fits the bounds.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Self

from mesh import metrics
from mesh.canonical import canonical_json
from mesh.records import Json

_ANSWERS = 1024
_BYTES = 8 * 1024 * 1024
_LARGEST = 256 * 1024  # one answer; a larger one is asked for each time

_READS = metrics.Bound(metrics.TOOL_CACHE)


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer, its canonical arguments, until when it holds (monotonic), and its version if it has one."""

    args: bytes
    answer: Json
    until: float
    version: str = ""

    @classmethod
    def new(cls, args: Json, answer: Json, for_s: float, version: str) -> Self:
        """What came just now."""
        return cls(canonical_json(args), answer, time.monotonic() + for_s, version)

    @property
    def is_fresh(self) -> bool:
        """Whether it holds without asking."""
        return time.monotonic() < self.until

    def renewed(self, for_s: float) -> "Kept":
        """The same answer, of which its target has just said that it still holds."""
        return replace(self, until=time.monotonic() + for_s)

    @property
    def size(self) -> int:
        """What it takes of the bound, in bytes."""
        return len(self.args) + len(bytes(self.answer))


class ToolCache:
    """Answers by tool and arguments; what was not used for longest goes first."""

    def __init__(self, answers: int = _ANSWERS, size: int = _BYTES) -> None:
        self._kept: OrderedDict[tuple[str, bytes], Kept] = OrderedDict()
        self._answers = answers
        self._max = size
        self._size = 0

    def find(self, tool: str, args: Json) -> Kept | None:
        """The answer kept for these arguments, fresh or not."""
        place = (tool, canonical_json(args))
        if place in self._kept:
            self._kept.move_to_end(place)
        return self._kept.get(place)

    def served(self, tool: str, kept: Kept, result: str) -> Json:
        """Keep an answer if it fits, count how it was found, and give it."""
        _READS.of(tool, result).inc()
        if result != "hit" and kept.size <= _LARGEST:
            self._keep((tool, kept.args), kept)
        return kept.answer

    def __len__(self) -> int:
        return len(self._kept)

    def _keep(self, place: tuple[str, bytes], kept: Kept) -> None:
        old = self._kept.pop(place, None)
        self._size += kept.size - (old.size if old else 0)
        self._kept[place] = kept
        while self._kept and (len(self._kept) > self._answers or self._size > self._max):
            _, gone = self._kept.popitem(last=False)
            self._size -= gone.size
