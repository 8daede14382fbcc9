"""What intake raises."""

from mesh.errors import WorkmeshError


class UnreadableError(WorkmeshError):
    """Not understood: ``reason`` in words, ``place`` a line, header, part or pointer; "" when it is of the whole."""

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.reason = reason
        self.place = place
