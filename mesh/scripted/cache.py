"""The provider's prompt cache: what was sent before, up to a breakpoint, is read at a tenth of the price.

The rule: an entry is written when the prompt has been answered, lives as long as its breakpoint says, and longer with
every read; it is found by the whole prefix, so one changed byte misses it.
"""

from collections.abc import Callable

import msgspec

from mesh.scripted.asked import Asked, Segment

_LOOK_BACK = 20  # blocks before a breakpoint that are looked up
_FIVE_MINUTES_S = 300.0


class InputTokens(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt's tokens, each in one of these: billed whole, read from the cache, written to it (``hour`` for 1 h)."""

    whole: int
    read: int = 0
    written: int = 0
    hour: int = 0


class PromptCache:
    """The entries; prefixes shorter than ``min_tokens`` are passed over, as the provider does."""

    def __init__(self, clock: Callable[[], float], min_tokens: int) -> None:
        self._clock = clock
        self._min_tokens = min_tokens
        self._until: dict[str, tuple[float, float]] = {}

    def look(self, asked: Asked) -> InputTokens:
        """What this prompt would be billed now."""
        marked = self._marked(asked)
        if not marked:
            return InputTokens(whole=asked.tokens)
        end = marked[-1][1].tokens
        read = max((self._read(asked, position) for position, _ in marked), default=0)
        hour = marked[-1][1].ttl_s > _FIVE_MINUTES_S
        written = end - read
        return InputTokens(whole=asked.tokens - end, read=read, written=written, hour=written if hour else 0)

    def put(self, asked: Asked) -> None:
        """Write what the prompt marks; what it read lives on."""
        now = self._clock()
        for segment in asked.segments:
            until, ttl_s = self._until.get(segment.digest, (0.0, 0.0))
            if until > now:
                self._until[segment.digest] = (now + ttl_s, ttl_s)
        for _, segment in self._marked(asked):
            self._until[segment.digest] = (now + segment.ttl_s, segment.ttl_s)

    def _marked(self, asked: Asked) -> list[tuple[int, Segment]]:
        return [
            (position, segment)
            for position, segment in enumerate(asked.segments)
            if segment.ttl_s and segment.tokens >= self._min_tokens
        ]

    def _read(self, asked: Asked, position: int) -> int:
        now = self._clock()
        for segment in reversed(asked.segments[max(0, position - _LOOK_BACK) : position + 1]):
            if self._until.get(segment.digest, (0.0, 0.0))[0] > now:
                return segment.tokens
        return 0
