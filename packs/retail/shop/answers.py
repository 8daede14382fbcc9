"""What the shop answers: its wire answers, and the errors that leave everything as it was."""

import msgspec


class UnknownKey(Exception):
    """No change took effect under this key."""


class KeyReused(Exception):
    """The key took effect with another body."""


class DeadlinePassed(Exception):
    """The sender no longer wants this change; nothing was changed."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How to carry a change out: `deadline` in Unix seconds; the rest are faults in force."""

    deadline: float | None = None
    honour_keys: bool = True
    refuse_kinds: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the shop answers to an applied change: `amount` in cents, gift-card balances in USD as in the export."""

    key: str
    seq: int
    kind: str
    order_id: str
    amount: int
    gift_cards: dict[str, int | float]
    replayed: bool


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One applied change; `amount` in cents, `at` an ISO 8601 UTC time."""

    seq: int
    key: str
    kind: str
    order_id: str
    amount: int
    at: str


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """The documents asked for, null where there is none."""

    order: msgspec.Raw | None
    user: msgspec.Raw | None
    variants: dict[str, msgspec.Raw | None]


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """Every order and customer in the shape of the input files."""

    orders: dict[str, msgspec.Raw]
    users: dict[str, msgspec.Raw]
