"""Which conversation answers a prompt, and which of its turns comes next.

The rule: nothing is answered by accident. What no conversation is meant for is an error that names the prompt.
"""

from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase

from mesh.scripted.asked import Asked
from mesh.scripted.conversations import Conversation, Turn
from mesh.scripted.replies import Refused

_SHOWN = 160


class Script:
    """Conversations and how far each has come. What is added later is asked first; a finished one is passed over."""

    def __init__(self) -> None:
        self._conversations: list[Conversation] = []
        self._said: Counter[int] = Counter()

    def add(self, conversations: Iterable[Conversation]) -> None:
        """Put conversations before those that are there, in their order."""
        self._conversations[:0] = conversations

    def next(self, asked: Asked) -> tuple[Conversation, Turn]:
        """The conversation that is meant, and its next turn; raises ``Refused`` (404) where there is none."""
        finished = []
        for conversation in self._conversations:
            if not conversation.when.holds(asked):
                continue
            if turn := self._turn(conversation):
                return conversation, turn
            finished.append(conversation.conversation)
        raise Refused(404, _unmatched(asked, finished))

    def has(self, asked: Asked) -> bool:
        """Whether a conversation is meant for this prompt, finished or not."""
        return any(each.when.holds(asked) for each in self._conversations)

    def models(self) -> tuple[str, ...]:
        """The models that conversations name."""
        return tuple(sorted({each.when.model for each in self._conversations if "*" not in each.when.model}))

    def fault(self, path: str) -> Turn | None:
        """The next turn of a conversation that is meant for this path."""
        meant = (each for each in self._conversations if each.when.path and fnmatchcase(path, each.when.path))
        return next((turn for each in meant if (turn := self._turn(each))), None)

    def _turn(self, conversation: Conversation) -> Turn | None:
        """The next turn, and one step further."""
        number = self._said[id(conversation)]
        self._said[id(conversation)] += 1
        last = len(conversation.says) - 1
        for position, turn in enumerate(conversation.says):
            if turn.times is None and position == last:
                return turn
            times = turn.times or 1
            if number < times:
                return turn
            number -= times
        return None


def _unmatched(asked: Asked, finished: list[str]) -> str:
    over = f" (finished: {', '.join(finished)})" if finished else ""
    return (
        f"no conversation answers this prompt{over}: model {asked.model}, tool {asked.tool or 'none'} asking for "
        f"{', '.join(sorted(asked.properties)) or 'nothing'}, prefix {asked.prefix or 'none'}, "
        f"system {_short(asked.system)}, user {_short(asked.user)}"
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
