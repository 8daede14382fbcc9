"""What a reader raises for an input that it cannot read: the reason, and where in the input."""

from mesh.errors import WorkmeshError


class UnreadableError(WorkmeshError):
    """The input cannot be read as what it is said to be; it goes to quarantine with both fields.

    ``place`` is a line, a header, the number of a part or a JSON pointer; empty when the reason is of the whole.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.reason = reason
        self.place = place
