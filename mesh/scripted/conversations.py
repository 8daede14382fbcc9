"""Conversations with a model, as files: who is asked what, and what it says turn by turn.

The rule: a conversation says exactly what it answers; what is misspelt or says two things at once is refused.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from mesh.errors import SettingsError
from mesh.scripted.asked import Asked

Texts = str | tuple[str, ...]
_MESSAGES = ("text", "answer", "refusal")
_KINDS = (*_MESSAGES, "malformed", "status", "disconnect")


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the parts of a file."""


class When(_Part, frozen=True, kw_only=True):
    """Which prompts a conversation answers: all that is given must hold.

    ``model`` is a name, ``*`` standing for anything; ``system`` and ``user`` occur in the system text and in the last
    user turn (of several, each); ``user_is`` is that turn but for white space around it, ``user_matches`` a regular
    expression found in it. ``asks`` are properties that the schema of the asked tool has, ``prefix`` is the digest of
    tools and system text. With a ``path`` (``*`` stands for anything) no prompt is meant but the next request to that
    path, whatever it holds: so the batches can fail as well.
    """

    path: str = ""
    model: str = "*"
    system: Texts = ()
    asks: Texts = ()
    user: Texts = ()
    user_is: str = ""
    user_matches: str = ""
    prefix: str = ""

    def __post_init__(self) -> None:
        try:
            re.compile(self.user_matches)
        except re.error as error:
            raise ValueError(f"user_matches {self.user_matches!r} is no regular expression: {error}") from error

    def holds(self, asked: Asked) -> bool:
        """Whether this prompt is meant."""
        return (
            not self.path
            and all(text in asked.user for text in _many(self.user))
            and (not self.user_is or self.user_is.strip() == asked.user.strip())
            and fnmatchcase(asked.model, self.model)
            and all(name in asked.properties for name in _many(self.asks))
            and all(text in asked.system for text in _many(self.system))
            and (not self.user_matches or re.search(self.user_matches, asked.user) is not None)
            and self.prefix in ("", asked.prefix)
        )


class Tokens(_Part, frozen=True, kw_only=True):
    """What was billed when the turn was recorded; without it, tokens are counted by this server's rule."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0


class Turn(_Part, frozen=True, kw_only=True):
    """What the model says, ``times`` times over; then comes the next turn. A last turn without ``times`` stays.

    ``answer`` calls a tool with this input (``tool``, or the one that the prompt forces), ``text`` says it in words,
    both do both; ``truncated`` stops either at the limit. ``refusal`` declines with this explanation. ``malformed`` is
    a body that is no JSON. ``status`` is an error of the provider: nothing is billed. ``disconnect`` drops the
    connection ``before`` anything is done or billed, ``after`` (billed, no answer), or ``midway`` through the answer.
    ``delay_s`` is how long it thinks first; in a batch, how long this item takes. ``took_s`` is how long it took when
    it was recorded.
    """

    answer: Any = msgspec.UNSET
    tool: str = ""
    text: str = ""
    truncated: bool = False
    refusal: str = ""
    malformed: str = ""
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    error: str = ""
    retry_after: Annotated[float, msgspec.Meta(ge=0)] | None = None
    disconnect: Literal["before", "after", "midway"] | None = None
    delay_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tokens: Tokens | None = None
    took_s: float = 0.0

    def __post_init__(self) -> None:
        said = {kind for kind in _KINDS if getattr(self, kind) not in ("", None, msgspec.UNSET)}
        if not said:
            raise ValueError(f"a turn says one of {', '.join(_KINDS)}")
        if said not in ({"text", "answer"}, {"disconnect", "text"}, {"disconnect", "answer"}) and len(said) > 1:
            raise ValueError(f"a turn cannot say {' and '.join(sorted(said))} at once")

    @property
    def is_fault(self) -> bool:
        """Whether it says nothing, but fails."""
        return self.status is not None or self.disconnect is not None


class Conversation(_Part, frozen=True, kw_only=True):
    """One conversation: its title, the prompts that it answers, and the turns in order."""

    conversation: Annotated[str, msgspec.Meta(min_length=1)]
    when: When = When()
    says: Annotated[tuple[Turn, ...], msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        if self.when.path and not all(turn.is_fault for turn in self.says):
            raise ValueError("what is said to a path must be a status or a disconnect")


def load(path: Path) -> tuple[Conversation, ...]:
    """The conversations of a file, one a YAML document; raises ``SettingsError`` naming file and document."""
    try:
        documents = [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"conversations {path}: {error}") from error
    return tuple(_conversation(each, f"{path}, document {number}") for number, each in enumerate(documents, 1))


def dump(conversations: Iterable[Conversation]) -> str:
    """Conversations as the text of a file."""
    plain = [msgspec.to_builtins(each) for each in conversations]
    return yaml.safe_dump_all(plain, explicit_start=True, allow_unicode=True, sort_keys=False, width=120)


def _conversation(plain: object, place: str) -> Conversation:
    try:
        return msgspec.convert(plain, Conversation)
    except msgspec.ValidationError as error:
        raise SettingsError(f"conversations {place}: {error}") from error


def _many(texts: Texts) -> Sequence[str]:
    return (texts,) if isinstance(texts, str) else texts
