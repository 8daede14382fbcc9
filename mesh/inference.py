"""What a model is asked and what came of it, as records: a question is on disk before it is sent, its answer after.

The rule: a prompt holds all that is sent, and is answered once: who comes again finds the completion, and pays nothing.
"""

from datetime import datetime
from enum import StrEnum

from mesh.record import NULL, Citation, Json, Reading, Record, Struct


class ModelRole(StrEnum):
    """What a model is asked to do: each role is a prompt file of the pack."""

    CLASSIFY = "classify"
    EXTRACT = "extract"
    PLAN = "plan"
    JUDGE = "judge"


class Tier(StrEnum):
    """Which of the configured models is meant: settings name the model of each."""

    SMALL = "small"
    LARGE = "large"
    JUDGE = "judge"


class Mode(StrEnum):
    """``batch`` goes through the Message Batches API: half the price, within a day."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class Usage(Struct, frozen=True, kw_only=True):
    """What one call of a model cost, in millionths of a US dollar, by the price table of the day ``prices``.

    ``tokens_in`` are those billed whole; ``tokens_cached`` were read from the provider's prompt cache,
    ``tokens_written`` written to it. Where ``certain`` is false the call's fate is unknown (a crash, a lost
    connection): it counts as the most that it can have cost, without tokens. ``day`` (UTC) is the one whose budget
    it counts to.
    """

    model: str
    tokens_in: int
    tokens_out: int
    cost_micro_usd: int
    tokens_cached: int = 0
    tokens_written: int = 0
    mode: Mode = Mode.INTERACTIVE
    prices: str = ""
    certain: bool = True
    day: str = ""


class Prompt(Record, frozen=True, kw_only=True, tag="prompt"):
    """A question to a model, whole. ``name`` tells the questions of a task apart, such as ``extract`` or ``extract~2``.

    ``system`` and ``schema`` (the JSON Schema of the answer, an object) are the stable prefix, the same for all tasks
    of this ``role`` under the prompt file of this ``digest``; ``user`` is this task's part. ``chain`` are the tiers to
    be asked in this order until one answers, ``reason`` why these. Only samples with the same number may share an
    answer. ``readings`` were made and facts recalled (``citations``) for it while planning.
    """

    name: str
    role: ModelRole
    file: str
    digest: str
    system: str
    user: str
    schema: Json
    chain: tuple[Tier, ...]
    reason: str
    max_tokens: int = 1024
    sample: int = 0
    mode: Mode = Mode.INTERACTIVE
    answer_by: datetime | None = None
    readings: tuple[Reading, ...] = ()
    citations: tuple[Citation, ...] = ()

    @property
    def token(self) -> str:
        """The question's name."""
        return self.name


class CompletionStatus(StrEnum):
    """What came of a question. ``declined``: the model itself said no; ``over_budget``: it was not asked."""

    ANSWERED = "answered"
    DECLINED = "declined"
    UNAVAILABLE = "unavailable"
    OVER_BUDGET = "over_budget"


class Completion(Record, frozen=True, kw_only=True, tag="completion"):
    """What came of the prompt of this ``name``: ``output`` is the model's answer as JSON, not yet checked.

    ``text`` is what it said where it gave no such answer. ``reason`` tells why there is no answer, or why not of the
    first tier. ``usage`` is each call that was or may have been paid; an answer that is ``reused`` (the subject of the
    completion it was made for) was not paid again. ``batch`` is the provider's id of its batch.
    """

    name: str
    status: CompletionStatus
    model: str = ""
    output: Json = NULL
    text: str = ""
    reason: str = ""
    usage: tuple[Usage, ...] = ()
    reused: str = ""
    batch: str = ""
    duration_ms: float = 0.0

    @property
    def token(self) -> str:
        """The question's name."""
        return self.name
