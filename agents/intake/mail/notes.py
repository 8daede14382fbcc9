"""The notes taken while a message is read: a bounded list, and how many guesses of charsets are left."""

from agents.intake.mail.mail import Note

MOST_NOTES = 100
MOST_GUESSES = 20  # each takes some milliseconds; a message of two hundred lying parts must not take seconds


class Notes:
    """Collects notes; the same one is taken once."""

    def __init__(self) -> None:
        self._taken: dict[Note, None] = {}
        self._guesses = MOST_GUESSES

    def add(self, place: str, what: str) -> None:
        """Take a note, unless there are too many already."""
        if len(self._taken) < MOST_NOTES:
            self._taken[Note(place, what)] = None

    def may_guess(self) -> bool:
        """Use up one guess by statistics, if there is one left."""
        self._guesses -= 1
        return self._guesses >= 0

    def all(self) -> tuple[Note, ...]:
        """The notes in the order taken."""
        return tuple(self._taken)
