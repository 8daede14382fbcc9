"""What was taken of a limit in a sliding window of time, in buckets: small, exact in sum, and never forgetful too soon.

The rule: whatever a window of the limit's length holds is counted; a bucket is let go only once all of it is older. So
a use may count for up to one bucket longer than the window, and never for less.
"""

from collections.abc import Iterable

from mesh.records import Struct

BUCKETS = 64  # in a window: a week's are 2 h 38 min long


class Bucket(Struct, frozen=True, kw_only=True, array_like=True):
    """What was taken from ``start_s`` (Unix time) on, for the length of one bucket: money in minor units, and tasks."""

    start_s: int
    amount: int = 0
    tasks: int = 0


class Window(Struct, frozen=True, kw_only=True):
    """The buckets of one limit and key, oldest first; as it stands in the journal.

    ``length_s`` is the window's. ``seen_s`` is the latest time that was counted: a clock that is behind counts as that.
    ``by`` tells one write of it from another that says the same.
    """

    length_s: int
    buckets: tuple[Bucket, ...] = ()
    seen_s: int = 0
    by: str = ""

    @property
    def bucket_s(self) -> int:
        """The length of a bucket, in seconds."""
        return max(1, -(-self.length_s // BUCKETS))

    def at(self, at_s: float) -> "Window":
        """The window at this time: without what has left it."""
        seen = max(int(at_s), self.seen_s)
        kept = tuple(item for item in self.buckets if item.start_s + self.bucket_s > seen - self.length_s)
        return Window(length_s=self.length_s, buckets=kept, seen_s=seen)

    @property
    def amount(self) -> int:
        """The money taken, in minor units."""
        return sum(item.amount for item in self.buckets)

    @property
    def tasks(self) -> int:
        """The tasks that took of it."""
        return sum(item.tasks for item in self.buckets)

    def take(self, at_s: float, amount: int, tasks: int = 1) -> "Window":
        """The window after a use at this time."""
        now = self.at(at_s)
        start = now.seen_s - now.seen_s % self.bucket_s
        return _with(now, start, amount, tasks)

    def give_back(self, at_s: float, amount: int, tasks: int = 1) -> "Window":
        """The window after a use that was decided on at this time has turned out to be none.

        What is not found there is not given back: the window errs on the side of counting.
        """
        start = int(at_s) - int(at_s) % self.bucket_s
        near = (start, start + self.bucket_s)  # it was counted when it was committed, a moment later
        fits = (item for item in self.buckets if item.start_s in near and item.tasks >= tasks)
        held = next((item for item in fits if item.amount >= amount), None)
        if held is None:
            return self
        return _with(self, held.start_s, -amount, -tasks)

    def resized(self, length_s: int) -> "Window":
        """The same uses in a window of another length: a limit that was changed goes on from what was taken."""
        if length_s == self.length_s:
            return self
        empty = Window(length_s=length_s, seen_s=self.seen_s)
        # Each old bucket counts from its end on, so that nothing leaves the new window too soon.
        moved = [(min(item.start_s + self.bucket_s, self.seen_s), item) for item in self.buckets]
        return _sum(empty, ((at - at % empty.bucket_s, item.amount, item.tasks) for at, item in moved))


def _sum(window: Window, uses: Iterable[tuple[int, int, int]]) -> Window:
    for start, amount, tasks in uses:
        window = _with(window, start, amount, tasks)
    return window


def _with(window: Window, start_s: int, amount: int, tasks: int) -> Window:
    held = {item.start_s: item for item in window.buckets}
    old = held.get(start_s, Bucket(start_s=start_s))
    held[start_s] = Bucket(start_s=start_s, amount=old.amount + amount, tasks=old.tasks + tasks)
    kept = tuple(held[key] for key in sorted(held) if held[key].amount or held[key].tasks)
    return Window(length_s=window.length_s, buckets=kept, seen_s=window.seen_s)
